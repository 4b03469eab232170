import { ConfigError, describePath } from "../errors.ts";
import type { Option } from "../query/arguments.ts";

/** Option of every command that connects to a server. */
export const CA_OPTION: Option = {
  name: "ca-file",
  value: "FILE",
  summary: "certificates in PEM to trust beside those of the system",
};

/**
 * Reads a file that a variable or an option names.
 *
 * @throws {ConfigError} If it cannot be read.
 */
export function readNamedFile(path: string, what: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    throw new ConfigError(
      `Cannot read ${what}: ${describePath(path)} is not a readable file. Name another.`,
      {
        code: "FILE_NOT_FOUND",
      },
    );
  }
}

/** Reads an environment variable; an empty one counts as unset. */
export function env(name: string): string | undefined {
  return Deno.env.get(name) || undefined;
}
