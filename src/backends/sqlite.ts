import { closedBackend } from "../errors.ts";
import { Mutex } from "../pipeline/mutex.ts";
import type { Batch, WriteResult } from "../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import { type Dataset, type DatasetName, narrow } from "../records/dataset.ts";
import { splitAmount } from "../records/decimal.ts";
import type { RecordQuery } from "../records/query.ts";
import type {
  Backend,
  BackendStats,
  ConflictPolicy,
  DatasetStats,
  DeleteOptions,
  OpenMode,
  ProbeReport,
} from "./backend.ts";
import { whereClause } from "./sql/select.ts";
import { aggregate, entry } from "./sqlite/aggregate.ts";
import { nextTurn, SqliteCleanup } from "./sqlite/cleanup.ts";
import { SqliteDocuments } from "./sqlite/documents.ts";
import {
  loadSqliteDriver,
  queryAll,
  rollBack,
  runOnce,
  type SqliteDatabase,
  type SqliteDriver,
  type SqliteDriverName,
  type SqliteValue,
} from "./sqlite/driver.ts";
import { asBackendError, locationOfFile, openSqliteFile, WRITE_NOTHING } from "./sqlite/file.ts";
import { FileGuard } from "./sqlite/file_guard.ts";
import { type Condition, readPages } from "./sqlite/pages.ts";
import { encodeRows } from "./sqlite/rows.ts";
import { readableFrom, rowsDecoder, SCHEMA_VERSION } from "./sqlite/schema.ts";
import { WriterThread } from "./sqlite/thread.ts";
import { type EncodedBatch, SqliteWriter, type SqliteWriterOptions } from "./sqlite/writer.ts";
import { currencyTotals } from "./currency_totals.ts";

/**
 * Values of a batch. These are 7,142 system metrics, of which 10,000 take 60 MiB more and are no faster, and 20,000 costs: with
 * 10,000 it takes a fifth longer (measured).
 */
const BATCH_VALUES = 200_000;
/** SQLite before this can corrupt a database when a write-ahead log is reset. */
const SOUND_SQLITE_VERSION = "3.51.3";

/** The `WHERE` clause of a query, and what is bound to it. */
function condition(dataset: Dataset<unknown>, query: RecordQuery): Condition {
  const parameters: SqliteValue[] = [];
  const sql = whereClause(dataset, query, {
    value: (value) => `?${parameters.push(value)}`,
    hasEntry: (column, key, value) =>
      `EXISTS (SELECT 1 FROM json_each(${column}) AS e WHERE e.key = ${key} AND e.value = ${value})`,
    entry,
    // Row values compare whole units first, then the rest, which has the same sign.
    compareDecimal: (column, operator, amount) =>
      `(${column}_units, ${column}_parts) ${operator} (${splitAmount(amount).join(", ")})`,
    boolean: (value) => value ? "1" : "0",
  });
  return { sql, parameters };
}

/** Options of a {@linkcode SqliteBackend}. */
export interface SqliteBackendOptions {
  /** The path of the file; empty for a database in memory. */
  path: string;
  /** Create the file, require it, or only read. */
  mode: OpenMode;
  /** The driver, or `auto`. */
  driver: "auto" | SqliteDriverName;
  /** Policy for a record whose key exists. */
  onConflict: ConflictPolicy;
  /**
   * Once a batch has so many records, a thread of its own writes: it takes 30 ms to start, and some 30 MiB. Where there are
   * fewer, others do not wait long.
   *
   * @default {1_000}
   */
  threadRecords?: number;
}

/** Records in an SQLite file, or in an SQLite database in memory. */
export class SqliteBackend implements Backend {
  readonly name = "sqlite";
  readonly isDurable: boolean;
  readonly documents: SqliteDocuments;
  readonly #cleanup: SqliteCleanup;
  readonly #path: string;
  readonly #driver: SqliteDriver;
  readonly #database: SqliteDatabase;
  /** Writes batches: in a thread once there are large ones, else in this thread. */
  readonly #writing: SqliteWriterOptions;
  readonly #writer: SqliteWriter;
  #thread: WriterThread | undefined;
  readonly #threadRecords: number;
  readonly #isReadOnly: boolean;
  #prepared: { batch: Batch; encoded: EncodedBatch } | undefined;
  /** Changes of the file run one after the other: two of its connections must not wait for each other. */
  readonly #turns = new Mutex();
  #isClosed = false;

  /**
   * Opens the database.
   *
   * @throws {BackendError} If the file is missing, is no database, is newer than this program, or cannot be
   * written.
   */
  static async open(options: SqliteBackendOptions): Promise<SqliteBackend> {
    const driver = await loadSqliteDriver(options.driver);
    const database = openSqliteFile(driver, options.path, options.mode);
    return new SqliteBackend(driver, database, options);
  }

  private constructor(
    driver: SqliteDriver,
    database: SqliteDatabase,
    { path, mode, onConflict, threadRecords = 1_000 }: SqliteBackendOptions,
  ) {
    this.#driver = driver;
    this.#database = database;
    this.#path = path;
    this.isDurable = path !== "";
    this.#isReadOnly = mode === "read";
    this.#writing = { path, inode: this.isDurable ? Deno.statSync(path).ino : null, onConflict };
    this.#writer = new SqliteWriter(database, this.#writing);
    this.#threadRecords = this.isDurable && mode !== "read" ? threadRecords : Infinity;
    this.#cleanup = new SqliteCleanup(database, (operation, run) => this.#change(operation, run));
    const guard = new FileGuard(database, this.#writing);
    this.documents = new SqliteDocuments(database, {
      read: (run) => this.#do("read", run),
      change: (operation, run) => this.#change(operation, () => guard.around(run)),
    });
  }

  get location(): string | undefined {
    return locationOfFile(this.#path);
  }

  maxRecords({ usual }: Dataset<unknown>): number {
    return Math.floor(BATCH_VALUES / usual.length);
  }

  prepare(batch: Batch): void {
    if (batch.records.length >= this.#threadRecords) this.#prepared = { batch, encoded: encode(batch) };
  }

  write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    return this.#turns.take(async () => {
      if (this.#isClosed) throw closedBackend("write", this.#path || "sqlite://");
      const thread = await this.#threadFor(batch.records.length);
      // SQLite writes without giving way to anything else: what could not arrive before this write could not be
      // gathered for the next batch.
      if (!thread) await nextTurn();
      const encoded = this.#takePrepared(batch) ?? encode(batch);
      return thread ? await thread.write(encoded, onSent) : this.#writer.write(encoded);
    });
  }

  async *read<T>(dataset: Dataset<T>, query: RecordQuery): AsyncGenerator<T[]> {
    const reader = await this.#do("read", () => this.#openReader());
    const found = readPages(reader, this.#readable(dataset), { query, condition: condition(dataset, query) });
    try {
      // The one connection of a database in memory writes as well, so its rows are taken at once.
      const pages = this.#path === "" ? await this.#do("read", () => [...found].values()) : found;
      const decode = rowsDecoder(dataset);
      for (;;) {
        const page = await this.#do("read", () => {
          const { done, value } = pages.next();
          return done ? undefined : decode(value);
        });
        if (!page) return;
        yield page;
      }
    } finally {
      found.return(undefined);
      if (reader !== this.#database) reader.close();
    }
  }

  aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
  ): Promise<AggregateRow[]> {
    const { sql, parameters } = condition(dataset, query);
    const source = { where: sql, all: (statement: string) => this.#all(statement, parameters) };
    return this.#do("read", () => {
      // Percentiles take statements of their own, and all have to see one state of the file.
      this.#database.exec("BEGIN");
      try {
        return aggregate(this.#readable(dataset), aggregation, source);
      } finally {
        rollBack(this.#database);
      }
    });
  }

  settle(): Promise<void> {
    return Promise.resolve(); // what a killed process has not committed goes with its locks
  }

  async deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    { dryRun, timeBudgetMs = Infinity }: DeleteOptions,
  ): Promise<number> {
    const { name } = dataset;
    if (dryRun) {
      return await this.#do("delete", () => {
        const sql = `SELECT count(*) FROM ${name} WHERE timestamp < ?`;
        return this.#all(sql, [before])[0][0] as number;
      });
    }
    return await this.#cleanup.deleteBefore(name, before, performance.now() + timeBudgetMs);
  }

  stats(): Promise<BackendStats> {
    return this.#do("read", async () => ({
      datasets: {
        system_metrics: this.#datasetStats("system_metrics"),
        service_metrics: this.#datasetStats("service_metrics"),
        cost_entries: this.#datasetStats("cost_entries"),
      },
      totals: await currencyTotals(this),
      storage: { ...this.#about(), fileSizeBytes: this.#fileSize() },
    }));
  }

  probe(): Promise<ProbeReport> {
    return this.#change("probe", () => {
      const details = { ...this.#about(), schemaVersion: SCHEMA_VERSION };
      const { sqliteVersion } = details;
      const warnings = compareVersions(sqliteVersion, SOUND_SQLITE_VERSION) >= 0 ? [] : [
        `SQLite ${sqliteVersion} can corrupt a file that several connections write while its ` +
        `write-ahead log is reset; fixed in ${SOUND_SQLITE_VERSION}`,
      ];
      if (this.#all("PRAGMA auto_vacuum")[0][0] !== 2) {
        warnings.push(
          "cleanup cannot give disk back, because this file was made without incremental auto-vacuum; " +
            "`PRAGMA auto_vacuum = 2; VACUUM` fixes that",
        );
      }
      return { writable: this.#isWritable(), details, warnings };
    });
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    return this.#change("close", async () => {
      await this.#thread?.close();
      this.#database.close();
    });
  }

  /** The dataset as it can be read: a file that is only read may be of an older schema. */
  #readable<T>(dataset: Dataset<T>): Dataset<T> {
    if (!this.#isReadOnly) return dataset;
    const columns = this.#all(`SELECT name FROM pragma_table_info('${dataset.name}')`);
    return readableFrom(dataset, new Set(columns.map(([name]) => name as string)));
  }

  /** The same for what changes the file. */
  #change<T>(operation: string, run: () => T | Promise<T>): Promise<T> {
    return this.#turns.take(() => this.#do(operation, run));
  }

  /** Runs something and turns what it throws into a {@linkcode BackendError}. */
  async #do<T>(operation: string, run: () => T | Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw asBackendError(operation, this.#path, error);
    }
  }

  /** Prepared form of this batch; used once, because a thread takes it. */
  #takePrepared(batch: Batch): EncodedBatch | undefined {
    if (this.#prepared?.batch !== batch) return undefined;
    const { encoded } = this.#prepared;
    this.#prepared = undefined;
    return encoded;
  }

  /** The thread that writes, if there is one for so many records. */
  async #threadFor(records: number): Promise<WriterThread | undefined> {
    if (this.#thread?.hasEnded) this.#thread = undefined;
    if (!this.#thread && records >= this.#threadRecords) {
      this.#thread = await WriterThread.start({ ...this.#writing, driver: this.#driver.name });
    }
    return this.#thread;
  }

  /**
   * A connection of its own for a read, so that it sees one state of the file however long it takes, and
   * does not hold up the writer. A database in memory has only the one connection.
   */
  #openReader(): SqliteDatabase {
    return this.#path === "" ? this.#database : openSqliteFile(this.#driver, this.#path, "read");
  }

  #all(sql: string, values: readonly SqliteValue[] = []): SqliteValue[][] {
    return queryAll(this.#database, sql, values);
  }

  #run(sql: string, values: readonly SqliteValue[]): number {
    return runOnce(this.#database, sql, values);
  }

  #datasetStats(name: DatasetName): DatasetStats {
    const [[rows]] = this.#all(`SELECT count(*) FROM ${name}`);
    // Each in a query of its own: SQLite takes one of them from the end of the index, not both at once.
    const [[oldest]] = this.#all(`SELECT min(timestamp) FROM ${name}`);
    const [[newest]] = this.#all(`SELECT max(timestamp) FROM ${name}`);
    if (oldest === null) return { rows: 0 };
    return { rows: rows as number, oldest: oldest as number, newest: newest as number };
  }

  #about() {
    const [[sqliteVersion]] = this.#all("SELECT sqlite_version()");
    return {
      file: this.#path || "(in memory)",
      driver: this.#driver.name as string,
      sqliteVersion: sqliteVersion as string,
    };
  }

  #fileSize(): number {
    if (this.#path !== "") return Deno.statSync(this.#path).size;
    const [[pages]] = this.#all("PRAGMA page_count");
    const [[size]] = this.#all("PRAGMA page_size");
    return (pages as number) * (size as number);
  }

  #isWritable(): boolean {
    try {
      this.#database.exec(WRITE_NOTHING);
      return true;
    } catch (error) {
      if (/readonly/.test(String(error))) return false;
      throw error;
    }
  }
}

function encode({ id, dataset, records }: Batch): EncodedBatch {
  const used = narrow(dataset, records);
  const fields = used.columns.map(({ field }) => field);
  return { id, dataset: dataset.name, fields, rows: encodeRows(used, records) };
}

/** Negative, zero or positive, as for `sort`. */
function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}
