/** `openfinops collect`, running. */
import { RUN } from "./command.ts";

/** A line of a log in JSON. */
export interface LogLine {
  readonly time: string;
  readonly level: "info" | "warn" | "error";
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A running agent. */
export interface Agent extends AsyncDisposable {
  /** Lines on stderr up to now. */
  readonly lines: readonly string[];
  /** Waits for a line that fulfills a condition, and returns it; rejects if the agent ends before. */
  line(isWanted: (line: string) => boolean, options?: { isNew?: boolean }): Promise<string>;
  /** Sends a signal, waits for the end, and returns exit code and stdout. */
  stop(signal?: Deno.Signal): Promise<{ code: number; out: string }>;
}

/** Starts `openfinops collect` with an interval of 100 ms. */
export function startAgent(
  args: readonly string[],
  { cwd, env = {}, run = RUN }: { cwd: string; env?: Record<string, string>; run?: readonly string[] },
): Agent {
  const process = new Deno.Command(Deno.execPath(), {
    args: [...run, "collect", "--interval", "100ms", ...args],
    cwd,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const waiting = new Set<() => void>();
  let hasEnded = false;
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
    hasEnded = true;
    wake();
  })();
  const stop = async (signal: Deno.Signal = "SIGTERM") => {
    try {
      process.kill(signal);
    } catch {
      // it has ended
    }
    const [{ code }, text] = await Promise.all([process.status, out, reading]);
    return { code, out: text };
  };
  return {
    lines,
    stop,
    line(isWanted, { isNew = false } = {}) {
      return new Promise((resolve, reject) => {
        let seen = isNew ? lines.length : 0;
        const check = () => {
          const found = lines.slice(seen).find(isWanted);
          seen = lines.length;
          if (found === undefined && !hasEnded) return;
          waiting.delete(check);
          if (found === undefined) reject(new Error(`The agent ended: ${lines.join("\n")}`));
          else resolve(found);
        };
        waiting.add(check);
        check();
      });
    },
    [Symbol.asyncDispose]: async () => void await stop("SIGKILL"),
  };
}
