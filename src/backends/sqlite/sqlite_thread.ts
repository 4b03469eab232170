import { Worker } from "node:worker_threads";
import { BackendError, type ErrorCode, type FailureKind } from "../../errors.ts";
import { isAvailable } from "../../lazy_import.ts";
import type { WriteResult } from "../../pipeline/sink.ts";
import type { Call, ResultOf } from "./call.ts";
import type { SqliteDriverName } from "./driver.ts";
import type { Rows } from "./rows.ts";
import type { StagedRows } from "./staging_connection.ts";
import type { EncodedBatch, SqliteWriterOptions } from "./writer.ts";

const MODULE = new URL("./sqlite_worker.ts", import.meta.url);
/** Folder of the modules that it imports. */
const SOURCES = new URL("../../", MODULE);

/** Options of the thread. */
export interface ThreadData extends SqliteWriterOptions {
  readonly driver: SqliteDriverName;
  /** True if it only reads. */
  readonly isReader?: boolean;
}

/** Reply of the thread, or a part of a list, of which the last part is the result. */
export interface Reply {
  readonly part?: unknown[];
  readonly result?: unknown;
  readonly failure?: { readonly message: string; readonly code: ErrorCode; readonly kind: FailureKind };
}

/**
 * A thread that writes or reads, so that SQLite does not block the main thread. Calls must not overlap.
 */
export class SqliteThread {
  /** True if the module could not be loaded. */
  static #isBroken = false;
  readonly #worker: Worker;
  #answered: PromiseWithResolvers<Reply> | undefined;
  #parts: unknown[][] = [];
  /** Reply to all requests after it has ended. */
  #end: Reply | undefined;

  /** Starts the thread. Returns undefined if the file cannot be opened again, or if there are no threads. */
  static async start(data: ThreadData): Promise<SqliteThread | undefined> {
    if (SqliteThread.#isBroken || !isAvailable(SOURCES)) return undefined;
    const thread = SqliteThread.#make(data);
    if (!thread) return undefined;
    const { failure } = await thread.#ask(() => {});
    if (!failure) return thread;
    SqliteThread.#isBroken = thread.hasEnded;
    await thread.#worker.terminate();
  }

  static #make(data: ThreadData): SqliteThread | undefined {
    try {
      return new SqliteThread(data);
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
    this.#worker.on("message", (reply: Reply) => {
      if (reply.part) this.#parts.push(reply.part);
      else this.#answered?.resolve(reply);
    });
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
   * Has a call of its connection run: a `StagingConnection`, or a `ReadConnection` if it only reads.
   *
   * @throws {BackendError} If it failed. What the connection holds, such as staged rows, is lost if the thread ended.
   */
  async call<T, M extends keyof T>(call: Call<T, M>): Promise<ResultOf<T, M>> {
    const [{ rows } = {}] = call.args as readonly Partial<StagedRows>[];
    return await this.#run(call.operation, call, { rows }) as ResultOf<T, M>;
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
    const parts = this.#parts.splice(0);
    if (failure) throw new BackendError(failure.message, { ...failure, operation });
    return parts.length > 0 ? [...parts, result].flat() : result;
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
    const message = `The thread of SQLite ended (${reason}). It is started again.`;
    this.#end ??= { failure: { message, code: "BACKEND_FAILED", kind: "transient" } };
    this.#answered?.resolve(this.#end);
  }
}
