import { closedBackend } from "../errors.ts";
import { Mutex } from "../pipeline/mutex.ts";
import type { Batch, WriteResult } from "../pipeline/sink.ts";
import { unlessAborted } from "../pipeline/unless_aborted.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset } from "../records/dataset.ts";
import { byDataset } from "../records/datasets.ts";
import { mapSlices, yieldToEventLoop } from "../records/slices.ts";
import type { RecordQuery } from "../records/query.ts";
import type {
  Backend,
  BackendStats,
  DatasetStats,
  DeleteOptions,
  ProbeReport,
  ReadOptions,
  StorageFault,
} from "./backend.ts";
import { SqlDocuments } from "./sql/documents.ts";
import { readableFrom } from "./sql/schema.ts";
import { whereClause } from "./sql/select.ts";
import { findStorageFaults } from "./sql/verify.ts";
import { DIALECT, planAggregate } from "./sqlite/aggregate.ts";
import { SqliteCleanup } from "./sqlite/cleanup.ts";
import {
  loadSqliteDriver,
  queryAll,
  runOnce,
  type SqliteDatabase,
  type SqliteDriver,
  type SqliteDriverName,
  type SqliteValue,
} from "./sqlite/driver.ts";
import { asBackendError, openOnceMore, openSqliteFile } from "./sqlite/file.ts";
import { FileGuard } from "./sqlite/file_guard.ts";
import {
  datasetStats,
  describeFile,
  fileSize,
  findFileFaults,
  findWarnings,
  isWritable,
  ledgerFacts,
  schemaVersionOf,
} from "./sqlite/inspection.ts";
import type { Condition } from "./sqlite/pages.ts";
import { DOCUMENTS, READABLE, rowsDecoder, SCHEMA_VERSION } from "./sqlite/schema.ts";
import { SqliteReader } from "./sqlite/sqlite_reader.ts";
import { SqliteStaging } from "./sqlite/staging.ts";
import { ThreadedWriter, type ThreadedWriterOptions } from "./sqlite/threaded_writer.ts";
import type { SqliteWriterOptions } from "./sqlite/writer.ts";
import type { Staging } from "./staging.ts";
import { newerSchema } from "./condition.ts";
import { currencyTotals } from "./currency_totals.ts";
import { type FileBackendOptions, locationOfFile } from "./database_file.ts";

/**
 * Values of a batch. These are 7,142 system metrics, of which 10,000 take 60 MiB more and are no faster, and 20,000 costs: with
 * 10,000 it takes a fifth longer (measured).
 */
const BATCH_VALUES = 200_000;

/** The `WHERE` clause of a query, and its parameters. */
function condition(dataset: Dataset<unknown>, query: RecordQuery): Condition {
  const parameters: SqliteValue[] = [];
  const sql = whereClause(dataset, query, {
    ...DIALECT,
    value: (value) => `?${parameters.push(value)}`,
  });
  return { sql, parameters };
}

/** Options of a {@linkcode SqliteBackend}. */
export interface SqliteBackendOptions extends FileBackendOptions {
  /** The driver, or `auto`. */
  driver: "auto" | SqliteDriverName;
  /**
   * Once a batch has so many records, a thread of its own writes: it takes 30 ms to start, and some 30 MiB. Where there are
   * fewer, others do not wait long.
   *
   * @default {1_000}
   */
  threadRecords?: number;
  /**
   * Size of the file in bytes from which a reader thread answers aggregates and reads with filters. In a smaller file they
   * take about as long as the thread takes to start.
   *
   * @default {67_108_864}
   */
  threadBytes?: number;
}

/** Records in an SQLite file, or in an SQLite database in memory. */
export class SqliteBackend implements Backend {
  readonly name = "sqlite";
  readonly isDurable: boolean;
  readonly documents: SqlDocuments;
  readonly #cleanup: SqliteCleanup;
  readonly #driver: SqliteDriver;
  readonly #database: SqliteDatabase;
  readonly #writer: ThreadedWriter;
  readonly #reader: SqliteReader;
  readonly #file: SqliteWriterOptions;
  readonly #guard: FileGuard;
  readonly #writing: ThreadedWriterOptions;
  readonly #isReadOnly: boolean;
  /** Changes of the file run one after the other: two of its connections must not wait for each other. */
  readonly #mutex = new Mutex();
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
    { path, mode, onConflict, threadRecords = 1_000, threadBytes = 2 ** 26 }: SqliteBackendOptions,
  ) {
    this.#driver = driver;
    this.#database = database;
    this.isDurable = path !== "";
    this.#isReadOnly = mode === "read";
    const file = this.#file = { path, inode: this.isDurable ? Deno.statSync(path).ino : null, onConflict };
    this.#writing = {
      ...file,
      driver: driver.name,
      threadRecords: this.isDurable && mode !== "read" ? threadRecords : Infinity,
    };
    this.#writer = new ThreadedWriter(database, this.#writing);
    this.#reader = new SqliteReader(database, { ...file, driver, mode, threadBytes });
    const guard = this.#guard = new FileGuard(database, file);
    const change = <T>(operation: string, run: () => T) => this.#change(operation, () => guard.around(run));
    this.#cleanup = new SqliteCleanup(database, change);
    this.documents = new SqlDocuments({
      query: (...statement) =>
        this.#do("read", () => schemaVersionOf(database) < 2 ? [] : queryAll(database, ...statement)),
      execute: (operation, ...statement) => change(operation, () => runOnce(database, ...statement)),
    }, DOCUMENTS);
  }

  get location(): string | undefined {
    return locationOfFile("sqlite", this.#file.path);
  }

  maxRecords({ usual }: Dataset<unknown>): number {
    return Math.floor(BATCH_VALUES / usual.length);
  }

  prepare(batch: Batch): void {
    this.#writer.prepare(batch);
  }

  write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    return this.#mutex.run(() => {
      if (this.#isClosed) throw closedBackend("write", this.#file.path || "sqlite://");
      return this.#writer.write(batch, onSent);
    });
  }

  stage(): Promise<Staging> {
    return Promise.resolve(
      new SqliteStaging({
        ...this.#writing,
        ...(this.isDurable ? {} : { shared: this.#database }),
        open: () => openOnceMore(this.#driver, this.#file),
        change: (operation, run) => this.#change(operation, run),
      }),
    );
  }

  async *read<T>(dataset: Dataset<T>, query: RecordQuery, { signal }: ReadOptions = {}): AsyncGenerator<T[]> {
    const found = { query, condition: condition(dataset, query) };
    const pages = await this.#do("read", () => this.#reader.pages(this.#readable(dataset), found));
    const decode = rowsDecoder(dataset);
    try {
      for (;;) {
        signal?.throwIfAborted();
        const page = await this.#do("read", async () => {
          const { done, value } = await pages.next();
          return done ? undefined : decode(value);
        });
        if (!page) return;
        yield page;
        await yieldToEventLoop(); // a reader that takes each page at once would hold up all others
      }
    } finally {
      await pages.return(undefined);
    }
  }

  async aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    { signal }: ReadOptions = {},
  ): Promise<AggregateRow[]> {
    const { sql, parameters } = condition(dataset, query);
    const { statements, reader } = await this.#do(
      "read",
      () => planAggregate(this.#readable(dataset), aggregation, sql),
    );
    const found = this.#do("read", () => this.#reader.query({ statements, parameters }, signal));
    const [groups, ...ranked] = await unlessAborted(found, signal);
    return await mapSlices(groups, reader(ranked));
  }

  finishWrites(): Promise<void> {
    return Promise.resolve(); // what a killed process has not committed goes with its locks
  }

  async deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    { dryRun, timeBudgetMs = Infinity }: DeleteOptions,
  ): Promise<number> {
    if (dryRun) {
      return await this.#do("delete", () => {
        const sql = `SELECT count(*) FROM ${this.#readable(dataset).source} WHERE timestamp < ?`;
        return queryAll(this.#database, sql, [before])[0][0] as number;
      });
    }
    return await this.#cleanup.deleteBefore(dataset.name, before, performance.now() + timeBudgetMs);
  }

  deleteMatching(dataset: Dataset<unknown>, query: RecordQuery): Promise<number> {
    const { sql, parameters } = condition(dataset, query);
    return this.#change(
      "delete",
      () =>
        this.#guard.around(() => runOnce(this.#database, `DELETE FROM ${dataset.name} ${sql}`, parameters)),
    );
  }

  verify(): Promise<StorageFault[]> {
    return this.#do("read", async () => [
      ...findFileFaults(this.#database),
      ...await findStorageFaults({
        ...DIALECT,
        query: (sql) => Promise.resolve(queryAll(this.#database, sql)),
        now: `${Date.now()}`,
      }),
    ]);
  }

  stats(): Promise<BackendStats> {
    return this.#do("read", async () => {
      const datasets: Record<string, DatasetStats> = {};
      for (const [name, dataset] of Object.entries(byDataset((dataset) => this.#readable(dataset)))) {
        datasets[name] = await datasetStats(this.#reader, dataset);
      }
      return {
        datasets: datasets as BackendStats["datasets"],
        totals: await currencyTotals(this),
        storage: {
          ...describeFile(this.#database, this.#file.path, this.#driver.name),
          fileSizeBytes: fileSize(this.#database, this.#file.path),
          ...ledgerFacts(this.#database),
        },
      };
    });
  }

  probe(): Promise<ProbeReport> {
    return this.#change("probe", () => {
      const schemaVersion = schemaVersionOf(this.#database);
      return {
        writable: isWritable(this.#database),
        details: { ...describeFile(this.#database, this.#file.path, this.#driver.name), schemaVersion },
        warnings: [...findWarnings(this.#database), ...newerSchema(schemaVersion, SCHEMA_VERSION)],
      };
    });
  }

  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    return this.#change("close", async () => {
      await this.#writer.close();
      await this.#reader.close();
      this.#database.close();
    });
  }

  /** The dataset as it can be read: a file that is only read may be of an older schema. */
  #readable<T>(dataset: Dataset<T>): Dataset<T> {
    if (!this.#isReadOnly) return dataset;
    return readableFrom(dataset, schemaVersionOf(this.#database), READABLE);
  }

  /** The same for what changes the file. */
  #change<T>(operation: string, run: () => T | Promise<T>): Promise<T> {
    return this.#mutex.run(() => this.#do(operation, run));
  }

  /** Runs something and turns what it throws into a {@linkcode BackendError}. */
  async #do<T>(operation: string, run: () => T | Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw asBackendError(operation, this.#file.path, error);
    }
  }
}
