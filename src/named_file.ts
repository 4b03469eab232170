import { ConfigError, describePath } from "./errors.ts";

/**
 * Reads a file that a variable or an option names.
 *
 * @throws {ConfigError} If it cannot be read.
 */
export function readNamedFile(path: string, what: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    throw cannotRead(error, path, what);
  }
}

/** Returns the error of a named file that cannot be read. An error of Deno's permissions is returned unchanged. */
export function cannotRead(error: unknown, path: string, what: string): unknown {
  if (error instanceof Deno.errors.NotCapable) return error;
  return new ConfigError(
    `Cannot read ${what}: ${describePath(path)} is not a readable file. Name another.`,
    { code: "FILE_NOT_FOUND" },
  );
}
