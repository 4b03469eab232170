/** The command, run as a user would run it. */
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network

/** Arguments of Deno that run the command. */
export const RUN: readonly string[] = [
  "run",
  "-q",
  "-A",
  "--cached-only",
  new URL("../cli.ts", import.meta.url).href,
];

/** Result of a run. */
export interface Run {
  code: number;
  out: string;
  err: string;
}

/** Runs the command without a terminal. */
export async function openfinops(
  args: readonly string[],
  { cwd, env = {}, wrap = [], run = RUN }: {
    cwd: string;
    env?: Record<string, string>;
    /** A program with its arguments that runs the command. */
    wrap?: readonly string[];
    run?: readonly string[];
  },
): Promise<Run> {
  const [command, ...rest] = [...wrap, Deno.execPath(), ...run, ...args];
  const { code, stdout, stderr } = await new Deno.Command(command, { args: rest, cwd, env, stdin: "null" })
    .output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}
