/**
 * The processes that do what is measured: each takes lines on stdin and says on stdout when it is done, so that its
 * start is not measured.
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";
import { findPython, program } from "./peers.ts";
import type { Done, Order } from "./subject.ts";

/** A process that is told what to do, line by line. */
class LineProcess implements AsyncDisposable {
  readonly #name: string;
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly #complaints: Promise<string>;
  #text = "";

  constructor(command: string, args: readonly string[]) {
    this.#name = command.split("/").at(-1)!;
    const streams = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    this.#process = new Deno.Command(command, { args: [...args], ...streams }).spawn();
    this.#input = this.#process.stdin.getWriter();
    this.#output = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#complaints = this.#process.stderr.text();
  }

  async write(text: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(text)).catch(() => {}); // reading tells why
  }

  async readLine(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#output.read();
      if (done) throw new Error(`${this.#name} has ended: ${await this.#complaints}`);
      this.#text += value;
    }
    const end = this.#text.indexOf("\n");
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return line;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    while (!(await this.#output.read()).done);
    await this.#process.status;
  }
}

const DONE = "all is done";

/** `psql` or the `sqlite3` shell, with a database open. */
export class Shell extends LineProcess {
  readonly #prints: string;

  private constructor(command: string, args: readonly string[], prints: string) {
    super(command, args);
    this.#prints = prints;
  }

  /** `psql`; what it is asked goes nowhere, as if into a file that costs nothing. */
  static async psql(url: string): Promise<Shell> {
    const { path } = await program("psql");
    const shell = new Shell(
      path,
      ["-qAtX", "-v", "ON_ERROR_STOP=1", url],
      `\\o\nSELECT '${DONE}';\n\\o /dev/null\n`,
    );
    await shell.run("\\o /dev/null");
    return shell;
  }

  /** `sqlite3`, as durable as the backend is; answers go nowhere as well. */
  static async sqlite(path: string): Promise<Shell> {
    const shell = new Shell(
      (await program("sqlite3")).path,
      ["-batch", "-bail", path],
      `.output\n.print ${DONE}\n.output /dev/null\n`,
    );
    await shell.run(".output /dev/null\nPRAGMA synchronous = FULL;");
    return shell;
  }

  /** Runs commands; gives the seconds that they took. */
  async run(commands: string): Promise<number> {
    const start = performance.now();
    await this.write(`${commands}\n${this.#prints}`);
    while (await this.readLine() !== DONE);
    return (performance.now() - start) / 1_000;
  }
}

/** A Deno of its own, or Python, that does what {@linkcode Order} says. */
export class Subject extends LineProcess {
  /** Runs `subject.ts`. */
  static deno(): Subject {
    const path = fromFileUrl(new URL("subject.ts", import.meta.url));
    return new Subject(Deno.execPath(), ["run", "-q", "-A", "--cached-only", path]);
  }

  /** Runs `execute_values.py`. */
  static async python(): Promise<Subject> {
    const { path } = await findPython();
    return new Subject(path, [fromFileUrl(new URL("execute_values.py", import.meta.url))]);
  }

  /** Gives an order, and waits until it is carried out. */
  async do(order: Order): Promise<Done> {
    await this.write(`${JSON.stringify(order)}\n`);
    return JSON.parse(await this.readLine());
  }
}

/** Runs a program to its end; gives the seconds from its start on. */
export async function timeOf(command: string, args: readonly string[], cwd?: string): Promise<number> {
  const start = performance.now();
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args], cwd }).output();
  const seconds = (performance.now() - start) / 1_000;
  if (success) return seconds;
  const decoder = new TextDecoder();
  throw new Error(`${command.split("/").at(-1)} failed: ${decoder.decode(stderr) || decoder.decode(stdout)}`);
}
