/** Whether all of this is granted. Not by trying it: on a terminal Deno would ask. */
export function isGranted(...wanted: readonly Deno.PermissionDescriptor[]): boolean {
  return wanted.every((descriptor) => Deno.permissions.querySync(descriptor).state === "granted");
}

/** What `-A` grants. Some things take nothing less, such as whatever lies in `/proc` and `/sys`. */
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
