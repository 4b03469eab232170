import children from "node:child_process";

/** Time limit of a program, in milliseconds. Longer than a measure is waited for: a slow program may still end. */
const PROGRAM_LIMIT_MS = 15_000;
/** Time limit of a program that blocks this thread while it runs, in milliseconds. */
const BLOCKING_LIMIT_MS = 2_000;

/** Kills each program that runs now. */
const running = new Set<() => void>();
let lastBlockedAt = -Infinity;
let isEnded = false;

/**
 * Runs a program and kills it, with all that it has started, after 15 seconds.
 *
 * @returns The text of its stdout.
 * @throws {Error} If it cannot be started, fails, or is killed. A program that cannot be killed, as one that waits
 * for a dead disk, keeps the promise pending, and does not keep this process from exiting.
 */
export async function runProgram(file: string, args: readonly string[]): Promise<string> {
  if (isEnded) throw new Error(`${file} is not started any more`);
  const isGroup = Deno.build.os !== "windows"; // where it would get a window of its own
  const child = new Deno.Command(file, {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
    detached: isGroup,
  }).spawn();
  child.unref();
  const giveUp = new AbortController();
  const kill = () => {
    giveUp.abort();
    try {
      Deno.kill(isGroup ? -child.pid : child.pid, "SIGKILL");
    } catch {
      // it has ended
    }
  };
  running.add(kill);
  const timer = setTimeout(kill, PROGRAM_LIMIT_MS);
  try {
    // Aborting also ends the wait for a pipe that a grandchild holds open.
    const text = readText(child.stdout, giveUp.signal);
    const { success } = await child.status;
    const out = await text;
    if (success && !giveUp.signal.aborted) return out;
    throw new Error(`${file} failed or was killed`);
  } finally {
    clearTimeout(timer);
    running.delete(kill);
  }
}

async function readText(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal,
): Promise<string> {
  const decoder = new TextDecoderStream();
  let text = "";
  try {
    for await (const piece of stream.pipeThrough(decoder, { signal })) text += piece;
  } catch {
    // aborted: what has come is all there is
  }
  return text;
}

/** Kills all programs that run now, and starts no more. */
export function endPrograms(): void {
  isEnded = true;
  for (const kill of running) kill();
}

/** Time at which a program that blocked this thread was last killed, as `performance.now()` has it. */
export function lastBlocked(): number {
  return lastBlockedAt;
}

/**
 * Sets a time limit for every program that Node modules run from now on. It has to be called before they load: they
 * keep the functions of `child_process` that they find.
 */
export function limitPrograms(): void {
  const { exec, execSync, execFileSync } = children;
  const limits = { timeout: BLOCKING_LIMIT_MS, killSignal: "SIGKILL" as const };
  const limited = <T>(run: () => T): T => {
    const start = performance.now();
    try {
      return run();
    } finally {
      if (performance.now() - start >= BLOCKING_LIMIT_MS) lastBlockedAt = performance.now();
    }
  };
  Object.assign(children, {
    execSync: (command: string, options?: object) =>
      limited(() => execSync(command, { ...options, ...limits })),
    execFileSync: (file: string, args: string[], options?: object) =>
      limited(() => execFileSync(file, args, { ...options, ...limits })),
    exec: Deno.build.os === "windows"
      ? (command: string, ...rest: unknown[]) => {
        const [options, done] = optionsAndCallback(rest);
        return exec(command, { ...options, timeout: PROGRAM_LIMIT_MS, killSignal: "SIGKILL" }, done);
      }
      : (command: string, ...rest: unknown[]) => {
        const [, done] = optionsAndCallback(rest);
        runProgram("/bin/sh", ["-c", command]).then(
          (out) => done(null, out, ""),
          (error) => done(error, "", ""),
        );
      },
  });
}

type Callback = (error: Error | null, out: string, err: string) => void;

function optionsAndCallback(rest: unknown[]): [object | undefined, Callback] {
  return typeof rest[0] === "function" ? [undefined, rest[0] as Callback] : rest as [object, Callback];
}
