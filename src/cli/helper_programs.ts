import children from "node:child_process";

/** Time limit of a program, in milliseconds. Longer than a measure is waited for: a slow program may still end. */
const PROGRAM_LIMIT_MS = 15_000;
/** Time limit of a program that blocks this thread while it runs, in milliseconds. */
const BLOCKING_LIMIT_MS = 2_000;
/** The most characters that are kept of a line without an end. */
const MAX_LINE_LENGTH = 65_536;

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
  const { process, kill, signal } = spawn(file, args);
  running.add(kill);
  const timer = setTimeout(kill, PROGRAM_LIMIT_MS);
  try {
    const text = readText(process.stdout, signal);
    const { success } = await process.status;
    const out = await text;
    if (success && !signal.aborted) return out;
    throw new Error(`${file} failed or was killed`);
  } finally {
    clearTimeout(timer);
    running.delete(kill);
  }
}

/** Callbacks for the output and the end of a program that keeps running. */
export interface ProgramListener {
  /** Gets each line of stdout. */
  onLine(line: string): void;
  /** Is called once, when it has ended other than by {@linkcode endPrograms}. */
  onEnd(): void;
}

/**
 * Starts a program that prints line after line.
 *
 * @returns A function that kills it with all that it has started; undefined where it cannot be started.
 */
export function startProgram(
  file: string,
  args: readonly string[],
  { onLine, onEnd }: ProgramListener,
): (() => void) | undefined {
  if (isEnded) return undefined;
  let child: Spawned;
  try {
    child = spawn(file, args);
  } catch {
    return undefined;
  }
  const { kill, signal } = child;
  running.add(kill);
  const read = async () => {
    let rest = "";
    try {
      for await (const piece of child.process.stdout.pipeThrough(new TextDecoderStream(), { signal })) {
        const lines = (rest + piece).split("\n");
        rest = lines.pop()!.slice(-MAX_LINE_LENGTH);
        for (const line of lines) onLine(line);
      }
    } catch {
      // killed
    }
    running.delete(kill);
    if (!isEnded) onEnd();
  };
  void read();
  return kill;
}

interface Spawned {
  readonly process: Deno.ChildProcess;
  /** Kills it, and ends reading from a pipe that a grandchild holds open. */
  readonly kill: () => void;
  readonly signal: AbortSignal;
}

/** Starts a program in a group of its own, so that a kill reaches all that it has started. */
function spawn(file: string, args: readonly string[]): Spawned {
  const isGroup = Deno.build.os !== "windows"; // where it would get a window of its own
  const process = new Deno.Command(file, {
    args: [...args],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
    detached: isGroup,
  }).spawn();
  process.unref();
  const giveUp = new AbortController();
  const kill = () => {
    giveUp.abort();
    try {
      Deno.kill(isGroup ? -process.pid : process.pid, "SIGKILL");
    } catch {
      // it has ended
    }
  };
  return { process, kill, signal: giveUp.signal };
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
    // aborted: the text ends here
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
