import { fileBytes } from "../pipeline/durable_file.ts";
import type { Batch, WriteResult } from "../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset } from "../records/dataset.ts";
import { byDataset } from "../records/datasets.ts";
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
import { describeLedger, newerSchema } from "./condition.ts";
import { type FileBackendOptions, locationOfFile } from "./database_file.ts";
import { currencyTotals } from "./currency_totals.ts";
import { aggregate } from "./duckdb/aggregate.ts";
import { deleteBefore, sizeOf } from "./duckdb/cleanup.ts";
import { DuckdbFile, logOf } from "./duckdb/file.ts";
import { readPages } from "./duckdb/pages.ts";
import { DIALECT, DOCUMENTS, READABLE, SCHEMA_VERSION, timeLiteral } from "./duckdb/schema.ts";
import type { DuckdbSession } from "./duckdb/session.ts";
import { DuckdbStaging } from "./duckdb/staging.ts";
import { writeBatch } from "./duckdb/writer.ts";
import { SqlDocuments } from "./sql/documents.ts";
import { readableFrom } from "./sql/schema.ts";
import { whereClause } from "./sql/select.ts";
import { findStorageFaults } from "./sql/verify.ts";
import type { Staging } from "./staging.ts";

/** Records in a DuckDB file, or in a DuckDB database in memory. One process has the file. */
export class DuckdbBackend implements Backend {
  readonly name = "duckdb";
  readonly isDurable: boolean;
  readonly documents: SqlDocuments;
  readonly #file: DuckdbFile;
  readonly #options: FileBackendOptions;

  /**
   * Opens the database.
   *
   * @throws {BackendError} If DuckDB cannot be loaded, or if the file is missing, is in use, is no database, is newer than
   * this program, or cannot be written.
   */
  static async open(options: FileBackendOptions): Promise<DuckdbBackend> {
    return new DuckdbBackend(await DuckdbFile.open(options.path, options.mode), options);
  }

  private constructor(file: DuckdbFile, options: FileBackendOptions) {
    this.#file = file;
    this.#options = options;
    this.isDurable = options.path !== "";
    this.documents = new SqlDocuments({
      query: (sql) => file.use("read", (session) => session.query(sql)),
      execute: (operation, sql) => file.change(operation, (session) => session.execute(sql)),
    }, DOCUMENTS);
  }

  get location(): string | undefined {
    return locationOfFile("duckdb", this.#options.path);
  }

  write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    const { onConflict } = this.#options;
    return this.#file.change("write", (session) => writeBatch(session, batch, { onConflict, onSent }));
  }

  stage(): Promise<Staging> {
    return Promise.resolve(new DuckdbStaging(this.#file, this.#options.onConflict));
  }

  async *read<T>(dataset: Dataset<T>, query: RecordQuery, { signal }: ReadOptions = {}): AsyncGenerator<T[]> {
    const file = this.#file;
    await using session = await file.guard("read", () => file.connect(signal), signal);
    const pages = readPages(session, this.#readable(dataset), {
      query,
      where: whereClause(dataset, query, DIALECT),
    });
    for (;;) {
      const { done, value } = await file.guard("read", () => pages.next(), signal);
      if (done) return;
      yield value;
    }
  }

  aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    { signal }: ReadOptions = {},
  ): Promise<AggregateRow[]> {
    const where = whereClause(dataset, query, DIALECT);
    const source = { dataset: this.#readable(dataset), where, aggregation };
    return this.#file.use("read", (session) => aggregate(session, source), signal);
  }

  finishWrites(): Promise<void> {
    return Promise.resolve(); // uncommitted changes of a killed process are lost with its lock
  }

  async deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    { dryRun, timeBudgetMs = Infinity }: DeleteOptions,
  ): Promise<number> {
    const where = `WHERE timestamp < ${timeLiteral(before)}`;
    if (dryRun) {
      const sql = `SELECT count(*) FROM ${this.#readable(dataset).source} ${where}`;
      return await this.#file.use("delete", async (session) => (await session.query(sql))[0][0] as number);
    }
    return await deleteBefore(this.#file, { dataset, before, end: performance.now() + timeBudgetMs });
  }

  deleteMatching(dataset: Dataset<unknown>, query: RecordQuery): Promise<number> {
    const sql = `DELETE FROM ${dataset.name} ${whereClause(dataset, query, DIALECT)}`;
    return this.#file.change("delete", (session) => session.execute(sql));
  }

  verify(): Promise<StorageFault[]> {
    return this.#file.use(
      "read",
      (session) =>
        findStorageFaults({ ...DIALECT, query: (sql) => session.query(sql), now: `${Date.now()}` }),
    );
  }

  async stats(): Promise<BackendStats> {
    const totals = await currencyTotals(this);
    return await this.#file.use("read", async (session) => {
      const datasets: Record<string, DatasetStats> = {};
      for (const [name, dataset] of Object.entries(byDataset((dataset) => this.#readable(dataset)))) {
        datasets[name] = await datasetStats(session, dataset);
      }
      const [[batches, oldest]] = await session.query("SELECT count(*), min(committed_at) FROM ledger");
      const { bytes, free } = await sizeOf(session);
      const { path } = this.#options;
      return {
        datasets: datasets as BackendStats["datasets"],
        totals,
        storage: {
          ...this.#describe(),
          fileSizeBytes: path === "" ? bytes : fileBytes(path) + fileBytes(logOf(path)),
          freeBytes: free,
          ...describeLedger(batches as number, oldest as number | null),
        },
      };
    });
  }

  probe(): Promise<ProbeReport> {
    const { mode } = this.#options;
    const writable = mode !== "read";
    const probe = async (session: DuckdbSession) => {
      // Changes nothing, but fails where a change would fail.
      await session.query(writable ? "UPDATE schema_version SET version = version WHERE false" : "SELECT 1");
      return {
        writable,
        details: { ...this.#describe(), schemaVersion: this.#file.version },
        warnings: newerSchema(this.#file.version, SCHEMA_VERSION),
      };
    };
    return writable ? this.#file.change("probe", probe) : this.#file.use("probe", probe);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #describe() {
    return { file: this.#options.path || "(in memory)", duckdbVersion: this.#file.driver.library_version() };
  }

  /** The dataset as it can be read: a file that is only read may be of an older schema. */
  #readable<T>(dataset: Dataset<T>): Dataset<T> {
    return readableFrom(dataset, this.#file.version, READABLE);
  }
}

async function datasetStats(session: DuckdbSession, { source }: Dataset<unknown>): Promise<DatasetStats> {
  const [[rows, oldest, newest]] = await session.query(
    `SELECT count(*), min(timestamp), max(timestamp) FROM ${source}`,
  ) as number[][];
  return rows === 0 ? { rows } : { rows, oldest, newest };
}
