import { Worker } from "node:worker_threads";
import { BackendError, type ErrorCode, type FailureKind } from "../../errors.ts";
import { isAvailable } from "../../lazy_import.ts";
import type { WriteResult } from "../../pipeline/sink.ts";
import type { SqliteDriverName } from "./driver.ts";
import type { Rows } from "./rows.ts";
import type { Call, StagedRows, StagingConnection } from "./staging_connection.ts";
import type { EncodedBatch, SqliteWriterOptions } from "./writer.ts";

const MODULE = new URL("./writer_worker.ts", import.meta.url);
/** Folder of the modules that it imports. */
const SOURCES = new URL("../../", MODULE);

/** Options of the thread. */
export interface ThreadData extends SqliteWriterOptions {
  readonly driver: SqliteDriverName;
}

/** Reply of the thread. */
export interface Reply {
  readonly result?: unknown;
  readonly failure?: { readonly message: string; readonly code: ErrorCode; readonly kind: FailureKind };
}

/**
 * A thread that writes: SQLite works while this thread takes in what comes next, and what else the program does is not
 * held up by the disk. One thing at a time is to be asked of it.
 */
export class WriterThread {
  /** True if the module could not be loaded. */
  static #isBroken = false;
  readonly #worker: Worker;
  #answered: PromiseWithResolvers<Reply> | undefined;
  /** Reply to all requests after it has ended. */
  #end: Reply | undefined;

  /** Starts the thread. Returns undefined if the file cannot be opened again, or if there are no threads. */
  static async start(data: ThreadData): Promise<WriterThread | undefined> {
    if (WriterThread.#isBroken || !isAvailable(SOURCES)) return undefined;
    const thread = WriterThread.#make(data);
    if (!thread) return undefined;
    const { failure } = await thread.#ask(() => {});
    if (!failure) return thread;
    WriterThread.#isBroken = thread.hasEnded;
    await thread.#worker.terminate();
  }

  static #make(data: ThreadData): WriterThread | undefined {
    try {
      return new WriterThread(data);
    } catch {
      return undefined; // the system has no thread to give now
    }
  }

  private constructor(data: ThreadData) {
    // In a module of its own, as no other URL than of a file or of data may be given.
    const program = `import ${JSON.stringify(MODULE.href)};`;
    this.#worker = new Worker(new URL(`data:text/javascript,${program}`), {
      workerData: data,
      env: {}, // else Deno would ask for all variables
    });
    this.#worker.unref(); // who forgets to close keeps no program from ending
    this.#worker.on("message", (reply: Reply) => this.#answered?.resolve(reply));
    for (const event of ["error", "exit"]) this.#worker.on(event, (cause) => this.#onEnd(cause));
  }

  /** True if it ended by itself: another one can be started. */
  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /**
   * Has a batch written.
   *
   * @throws {BackendError} If it was not written, or if that is unknown.
   */
  async write(batch: EncodedBatch, onSent?: () => void): Promise<WriteResult> {
    return await this.#run("write", batch, { rows: batch.rows, onSent }) as WriteResult;
  }

  /**
   * Has a call of a staging run.
   *
   * @throws {BackendError} If it failed. The rows that were staged are lost if the thread ended.
   */
  async call<M extends keyof StagingConnection>(
    call: Call<M>,
  ): Promise<ReturnType<StagingConnection[M]>> {
    const [{ rows } = {}] = call.args as Partial<StagedRows>[];
    return await this.#run(call.operation, call, { rows }) as ReturnType<StagingConnection[M]>;
  }

  async #run(
    operation: string,
    message: unknown,
    { rows, onSent }: { rows?: Rows; onSent?: () => void },
  ): Promise<unknown> {
    const { result, failure } = await this.#ask(() => {
      this.#worker.postMessage(message, rows ? [rows.numbers.buffer] : []);
      onSent?.();
    });
    if (failure) throw new BackendError(failure.message, { ...failure, operation });
    return result;
  }

  /** Has it close its connection, and ends it. */
  async close(): Promise<void> {
    await this.#ask(() => this.#worker.postMessage("close"));
    await this.#worker.terminate();
  }

  async #ask(send: () => void): Promise<Reply> {
    if (this.#end) return this.#end;
    this.#answered = Promise.withResolvers();
    this.#worker.ref(); // what is waited for keeps the program going
    try {
      send();
      return await this.#answered.promise;
    } finally {
      this.#worker.unref();
    }
  }

  /** The outcome of its work is unknown; the ledger will tell. */
  #onEnd(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : `it ended with code ${cause}`;
    const message = `Cannot write: the writer thread ended (${reason}). It is started again.`;
    this.#end ??= { failure: { message, code: "BACKEND_FAILED", kind: "transient" } };
    this.#answered?.resolve(this.#end);
  }
}
