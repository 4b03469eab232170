/** Returns true if all permissions are granted. Does not try them: Deno would ask on a terminal. */
export function isGranted(...descriptors: readonly Deno.PermissionDescriptor[]): boolean {
  return descriptors.every((descriptor) => Deno.permissions.querySync(descriptor).state === "granted");
}

/** Permissions of `-A`. Reading `/proc` and `/sys`, for example, needs all of them. */
export const EVERYTHING: readonly Deno.PermissionDescriptor[] = [
  { name: "read" },
  { name: "write" },
  { name: "net" },
  { name: "env" },
  { name: "sys" },
  { name: "run" },
  { name: "ffi" },
  { name: "import" },
];
