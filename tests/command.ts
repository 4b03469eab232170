/** The command, run as a user would run it. */
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { inTime } from "./until.ts";

/** Arguments of Deno that run the command. */
export const RUN: readonly string[] = [
  "run",
  "-q",
  "-A",
  "--cached-only",
  new URL("../cli.ts", import.meta.url).href,
];

/** Arguments of Deno that run a program without checking its types. */
export function runOf(program: string): string[] {
  return ["run", "-q", "-A", "--cached-only", "--no-check", program];
}

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
  const output = new Deno.Command(command, { args: rest, cwd, env, stdin: "null" }).output();
  const { code, stdout, stderr } = await inTime(output, `the end of \`openfinops ${args.join(" ")}\``);
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** The output of `collect` without the measures that a machine under load did not give in time. */
export function withoutSlowMeasures(err: string): string {
  const measures = "memory usage|CPU usage|disk usage \\(df\\)|temperature \\(sensors\\)|network traffic";
  return err.replace(new RegExp(`^(Left out of the samples|Measured again): (${measures}).*\n`, "gm"), "");
}

/** The command, running. */
export interface Running extends AsyncDisposable {
  readonly process: Deno.ChildProcess;
  /** Lines on stderr up to now. */
  readonly lines: readonly string[];
  /** Waits for a line that fulfills a condition, and returns it; rejects if the command ends before. */
  line(isWanted: (line: string) => boolean, options?: { isNew?: boolean }): Promise<string>;
  /** Sends a signal, waits for the end, and returns exit code and stdout. */
  stop(signal?: Deno.Signal): Promise<{ code: number; out: string }>;
}

/** Starts the command, which runs until it is stopped. */
export function startCommand(
  args: readonly string[],
  { cwd, env = {}, run = RUN }: { cwd: string; env?: Record<string, string>; run?: readonly string[] },
): Running {
  const process = new Deno.Command(Deno.execPath(), {
    args: [...run, ...args],
    cwd,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  let code: number | undefined;
  const wake = () => waiting.forEach((check) => check());
  const out = new Response(process.stdout).text();
  const reading = (async () => {
    let rest = "";
    for await (const text of process.stderr.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + text).split("\n");
      rest = parts.pop()!;
      lines.push(...parts);
      wake();
    }
    ({ code } = await process.status);
    wake();
  })();
  const stop = async (signal: Deno.Signal = "SIGTERM") => {
    try {
      process.kill(signal);
    } catch {
      // it has ended
    }
    const ending = Promise.all([process.status, out, reading]);
    const [{ code }, text] = await inTime(
      ending,
      () => `${args[0]} to end on ${signal}: ${lines.join("\n")}`,
    );
    return { code, out: text };
  };
  return {
    process,
    lines,
    stop,
    line(isWanted, { isNew = false } = {}) {
      const found = new Promise<string>((resolve, reject) => {
        let seen = isNew ? lines.length : 0;
        const check = () => {
          const found = lines.slice(seen).find(isWanted);
          seen = lines.length;
          if (found === undefined && code === undefined) return;
          waiting.delete(check);
          if (found === undefined) reject(new Error(`The command ended with ${code}: ${lines.join("\n")}`));
          else resolve(found);
        };
        waiting.add(check);
        check();
      });
      return inTime(found, () => `a line of ${args[0]} for which ${isWanted} holds: ${lines.join("\n")}`);
    },
    [Symbol.asyncDispose]: async () => void await stop("SIGKILL"),
  };
}
