import { BackendError } from "../../errors.ts";
import { Mutex } from "../../pipeline/mutex.ts";
import { costEntries } from "../../records/cost_entry.ts";
import { narrow } from "../../records/dataset.ts";
import { type PublishDialect, type PublishSession, SqlPublishTarget } from "../sql/publish.ts";
import {
  type Eventual,
  type Publication,
  type PublishResult,
  publishSteps,
  runSteps,
  runStepsLater,
  STAGED_COSTS,
  type Staging,
  step,
  type Steps,
} from "../staging.ts";
import { amountSums, DIALECT, sumOf } from "./aggregate.ts";
import { type Call, type ResultOf, runCall } from "./call.ts";
import type { SqliteDatabase, SqliteValue } from "./driver.ts";
import { encodeRows } from "./rows.ts";
import { DOCUMENTS, storedColumns, storedNames } from "./schema.ts";
import { SqliteThread } from "./sqlite_thread.ts";
import { StagingConnection } from "./staging_connection.ts";
import type { ThreadedWriterOptions } from "./threaded_writer.ts";

/** Connection and settings of the backend, for its staging. */
export interface StagingOptions extends ThreadedWriterOptions {
  /** The connection of a database in memory, which has no other. */
  readonly shared?: SqliteDatabase;
  /** Opens a connection in this thread. */
  open(): SqliteDatabase;
  /** Runs a change while nothing else changes the file. */
  change<T>(operation: string, run: () => T | Promise<T>): Promise<T>;
}

/** Way to a connection: in this thread at once, else by messages. */
interface Channel {
  readonly isThread: boolean;
  run<M extends keyof StagingConnection>(
    call: Call<StagingConnection, M>,
  ): Eventual<ResultOf<StagingConnection, M>>;
  close(): Promise<void> | void;
}

/**
 * Staged costs in a temporary table: SQLite keeps it in a file that it has deleted already, without an index, a log or a
 * sync. So a killed process leaves nothing behind. Many rows are staged and published by a thread of its own.
 */
export class SqliteStaging implements Staging {
  readonly #options: StagingOptions;
  readonly #dialect: PublishDialect;
  /** A connection does one thing at a time. */
  readonly #turns = new Mutex();
  #channel: Channel | undefined;
  #hasTable = false;
  readonly #used = new Set<string>();
  #newest = 0;
  /** True while the rows come in the order of time. */
  #isOrdered = true;

  /** Opens nothing yet. */
  constructor(options: StagingOptions) {
    this.#options = options;
    this.#dialect = {
      ...DIALECT,
      table: `temp.staged_${crypto.randomUUID().replaceAll("-", "")}`,
      columns: storedNames(costEntries),
      documents: DOCUMENTS,
      filledEntries: (map) =>
        `(SELECT group_concat(json_quote(key) || json_quote(value)) FROM (SELECT key, value FROM json_each(${map}) ` +
        "WHERE value <> '' ORDER BY key))",
      sums: amountSums("amount").join(", "),
      total: (sums) => sumOf(sums as SqliteValue[])!,
    };
  }

  async add(records: readonly unknown[]): Promise<void> {
    for (const { timestamp } of records as readonly { timestamp: number }[]) {
      if (timestamp < this.#newest) this.#isOrdered = false;
      this.#newest = timestamp;
    }
    // Encoded while a thread may still insert the rows before.
    const view = narrow(STAGED_COSTS, records);
    const rows = encodeRows(view, records);
    for (const name of storedNames(view)) this.#used.add(name);
    const { table } = this.#dialect;
    await this.#turns.run(async () => {
      const channel = await this.#open(records.length);
      const call = { operation: "stage" };
      if (!this.#hasTable) await channel.run({ ...call, method: "exec", args: [this.#createTable()] });
      this.#hasTable = true;
      const fields = view.columns.map(({ field }) => field);
      await channel.run({ ...call, method: "insert", args: [{ table, fields, rows }] });
    });
  }

  publish(publication: Publication): Promise<PublishResult> {
    return this.#turns.run(async () => {
      const channel = await this.#open(0);
      const run = channel.isThread ? runStepsLater : runSteps;
      return await this.#options.change("publish", () => run(this.#publish(channel, publication)));
    });
  }

  discard(): Promise<void> {
    return this.#turns.run(async () => {
      const channel = this.#channel;
      this.#channel = undefined;
      await channel?.close();
    });
  }

  *#publish(channel: Channel, publication: Publication): Steps<PublishResult> {
    const call = { operation: "publish" };
    const session: PublishSession = {
      query: (...args) => channel.run({ ...call, method: "query", args }),
      execute: (...args) => channel.run({ ...call, method: "execute", args }),
    };
    const target = new SqlPublishTarget(session, this.#dialect, {
      replaces: this.#options.onConflict === "replace",
      isOrdered: this.#isOrdered,
      used: this.#dialect.columns.filter((name) => this.#used.has(name)),
    });
    yield* step(channel.run({ ...call, method: "begin", args: [] }));
    try {
      const result = yield* publishSteps(target, publication);
      yield* step(channel.run({ ...call, method: "commit", args: [] }));
      return result;
    } catch (error) {
      yield* step(channel.run({ ...call, method: "rollBack", args: [] }));
      throw error;
    }
  }

  #createTable(): string {
    const columns = STAGED_COSTS.columns.flatMap(({ name }, i) =>
      // The order of the rows is that of the table.
      name === "staged_at"
        ? "staged_at INTEGER PRIMARY KEY"
        : storedColumns(STAGED_COSTS)[i].map(({ suffix, type }) => `${name}${suffix} ${type}`)
    );
    return `PRAGMA temp_store = FILE; CREATE TABLE ${this.#dialect.table} (${columns.join(", ")})`;
  }

  /** Opens the connection, for a first batch of so many rows. */
  async #open(rows: number): Promise<Channel> {
    const { threadRecords, path, inode, onConflict, driver } = this.#options;
    const thread = this.#channel === undefined && rows >= threadRecords
      ? await SqliteThread.start({ path, inode, onConflict, driver })
      : undefined;
    return this.#channel ??= thread
      ? { isThread: true, run: (call) => runInThread(thread, call), close: () => thread.close() }
      : this.#openHere();
  }

  #openHere(): Channel {
    const { shared, open, path } = this.#options;
    const database = shared ?? open();
    const connection = new StagingConnection(database, this.#options);
    return {
      isThread: false,
      run: (call) => runCall(connection, path, call),
      close: () => {
        if (!shared) database.close();
        else if (this.#hasTable) shared.exec(`DROP TABLE ${this.#dialect.table}`);
      },
    };
  }
}

/** Has a thread run a call. The staged rows go with the thread, so a call is not tried again by another. */
async function runInThread<M extends keyof StagingConnection>(
  thread: SqliteThread,
  call: Call<StagingConnection, M>,
): Promise<ResultOf<StagingConnection, M>> {
  try {
    return await thread.call(call);
  } catch (error) {
    if (!thread.hasEnded) throw error;
    throw new BackendError(
      "Cannot import: the thread that had the staged rows ended. Run the same command again: what was stored is known.",
      { code: "BACKEND_FAILED", operation: call.operation, kind: "operator", cause: error },
    );
  }
}
