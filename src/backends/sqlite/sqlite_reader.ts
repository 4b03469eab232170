import { closedBackend } from "../../errors.ts";
import { fileBytes } from "../../pipeline/durable_file.ts";
import { Mutex } from "../../pipeline/mutex.ts";
import type { Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";
import { yieldToEventLoop } from "../../records/slices.ts";
import type { OpenMode } from "../backend.ts";
import type { ArgsOf, Call } from "./call.ts";
import type { SqliteDatabase, SqliteDriver, SqliteValue } from "./driver.ts";
import { openSqliteFile } from "./file.ts";
import { inodeOf } from "./file_guard.ts";
import { type Condition, isFiltered, seek, selectAll, stepThrough } from "./pages.ts";
import { queryTogether, type Question, type ReadConnection } from "./read_connection.ts";
import { SqliteThread, type ThreadData } from "./sqlite_thread.ts";

/** Most connections that are kept open for the next reads. */
const MAX_IDLE = 4;

/** Options of a {@linkcode SqliteReader}. */
export interface SqliteReaderOptions extends Omit<ThreadData, "driver" | "isReader"> {
  readonly driver: SqliteDriver;
  readonly mode: OpenMode;
  /** Size of the file in bytes from which a thread reads. */
  readonly threadBytes: number;
}

/** A connection that reads, and the file that it has open. */
interface Connection {
  readonly database: SqliteDatabase;
  readonly inode: number | null | undefined;
}

/**
 * Reads of a database. Those that may take long run in a thread where the file is large: aggregates, and reads with
 * filters. Other reads find each of their pages at once.
 */
export class SqliteReader {
  readonly #database: SqliteDatabase;
  readonly #options: SqliteReaderOptions;
  /** Serializes the calls of the thread. */
  readonly #turns = new Mutex();
  readonly #idle: Connection[] = [];
  #thread: SqliteThread | undefined;
  #reads = 0;
  #isClosed = false;

  /** Opens its own connections. In memory it uses the given one, which its owner closes. */
  constructor(database: SqliteDatabase, options: SqliteReaderOptions) {
    this.#database = database;
    this.#options = options;
  }

  /** Returns the rows of each statement, unless the signal aborts before its turn. A statement that runs goes on. */
  query(question: Question, signal?: AbortSignal): Promise<SqliteValue[][][]> {
    return this.#turns.run(async () => {
      await yieldToEventLoop(); // other requests are answered between two statements, and signals abort
      signal?.throwIfAborted();
      const thread = await this.#openThread();
      return thread ? await queryThread(thread, question) : queryTogether(this.#database, question);
    });
  }

  /** Gives the rows that a query finds, in pages, of one state of the file. */
  async *pages(
    dataset: Dataset<unknown>,
    found: { query: RecordQuery; condition: Condition },
  ): AsyncGenerator<SqliteValue[][]> {
    const { query } = found;
    if (!isFiltered(query)) return yield* this.#readHere((database) => seek(database, dataset, query));
    const all = selectAll(dataset, found);
    const thread = await this.#turns.run(() => this.#openThread());
    yield* thread
      ? this.#readInThread(thread, all)
      : this.#readHere((database) => stepThrough(database, all));
  }

  /** Closes its connections, and ends the thread after its current call. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#turns.run(async () => await this.#thread?.close());
    for (const { database } of this.#idle.splice(0)) database.close();
  }

  async *#readInThread(thread: SqliteThread, first: Condition): AsyncGenerator<SqliteValue[][]> {
    const id = this.#reads++;
    const ask = <M extends "page" | "end">(method: M, ...args: ArgsOf<ReadConnection, M>) =>
      this.#turns.run(() => thread.call<ReadConnection, M>({ operation: "read", method, args }));
    try {
      for (let page = await ask("page", id, first); page; page = await ask("page", id)) yield page;
    } finally {
      ask("end", id).catch(() => {}); // not awaited: it waits for its turn
    }
  }

  /** Reads in this thread. The next read uses the same connection, if this one is read to its end. */
  *#readHere(read: (database: SqliteDatabase) => Generator<SqliteValue[][]>): Generator<SqliteValue[][]> {
    // The one connection of a database in memory writes as well, so its rows are taken at once.
    if (this.#options.path === "") return yield* [...read(this.#database)];
    const connection = this.#takeIdle() ?? this.#open();
    let isAtEnd = false;
    try {
      yield* read(connection.database);
      isAtEnd = true;
    } finally {
      if (isAtEnd) this.#keep(connection);
      else connection.database.close();
    }
  }

  /** Returns an idle connection, unless the file was replaced. */
  #takeIdle(): Connection | undefined {
    const idle = this.#idle.pop();
    if (!idle || idle.inode === inodeOf(this.#options.path)) return idle;
    idle.database.close();
  }

  /** Keeps a connection, unless it may have the file open as one that does not change. */
  #keep(connection: Connection): void {
    if (this.#isClosed || this.#options.mode === "read" || this.#idle.length >= MAX_IDLE) {
      connection.database.close();
    } else this.#idle.push(connection);
  }

  #open(): Connection {
    const { driver, path } = this.#options;
    const inode = inodeOf(path); // before the file is opened: if it is replaced now, the connection is not used again
    return { inode, database: openSqliteFile(driver, path, "read") };
  }

  /** Returns the thread if the file is large. */
  async #openThread(): Promise<SqliteThread | undefined> {
    const { driver, threadBytes, mode: _mode, ...data } = this.#options;
    if (this.#isClosed) throw closedBackend("read", data.path || "sqlite://");
    if (this.#thread?.hasEnded) this.#thread = undefined;
    if (!this.#thread && data.path !== "" && fileBytes(data.path) >= threadBytes) {
      this.#thread = await SqliteThread.start({ ...data, driver: driver.name, isReader: true });
    }
    return this.#thread;
  }
}

/** Runs statements in the thread. */
async function queryThread(thread: SqliteThread, question: Question): Promise<SqliteValue[][][]> {
  const call: Call<ReadConnection, "query"> = { operation: "read", method: "query", args: [question] };
  const [counts, ...rows] = await thread.call(call);
  let at = 0;
  return (counts as number[]).map((count) => rows.slice(at, at += count));
}
