import { fileURLToPath } from "node:url";
import { isGranted } from "./permissions.ts";

/**
 * Returns true if a module that is not in the module graph can be loaded. One binary does not hold it,
 * and without the permission Deno would ask on a terminal.
 */
export function isAvailable(module: URL): boolean {
  if (Deno.build.standalone) return false;
  if (module.protocol === "file:") return isGranted({ name: "read", path: fileURLToPath(module) });
  const port = module.port || (module.protocol === "https:" ? 443 : 80); // Deno grants jsr.io by name and port
  return isGranted({ name: "import", host: `${module.hostname}:${port}` });
}

/**
 * Loads such a module. What a literal `import()` names Deno looks up at every start, and to look for JSR in vain takes
 * from 60 ms to 5 s (measured). `deno publish` warns of the import here: it cannot know that it names only what is ours.
 *
 * @throws {Error} If it, or what it imports, cannot be loaded.
 */
export async function lazyImport<T>(module: URL): Promise<T> {
  if (!isAvailable(module)) throw new Error(`Deno did not grant loading ${module}.`);
  return await import(module.href);
}

/**
 * Loads a package from npm by name and version. What a literal `import()` names, or the lock file, all users download.
 *
 * @throws {Error} If it cannot be loaded, as in one binary.
 */
export async function importPackage<T>(name: string): Promise<T> {
  return (await import(`npm:${name}`)).default;
}
