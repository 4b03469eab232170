import type { Option } from "../query/arguments.ts";

export { readNamedFile } from "../named_file.ts";

/** Option of every command that connects to a server. */
export const CA_OPTION: Option = {
  name: "ca-file",
  value: "FILE",
  summary: "certificates in PEM to trust beside those of the system",
};

/** Reads an environment variable; an empty one counts as unset. */
export function env(name: string): string | undefined {
  return Deno.env.get(name) || undefined;
}
