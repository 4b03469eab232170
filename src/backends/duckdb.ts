import { fileBytes } from "../pipeline/durable_file.ts";
import type { Batch, WriteResult } from "../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset } from "../records/dataset.ts";
import { byDataset } from "../records/datasets.ts";
import type { RecordQuery } from "../records/query.ts";
import type {
  Backend,
  BackendStats,
  ConflictPolicy,
  DatasetStats,
  DeleteOptions,
  OpenMode,
  ProbeReport,
  ReadOptions,
  StorageFault,
} from "./backend.ts";
import { describeLedger, newerSchema } from "./condition.ts";
import { currencyTotals } from "./currency_totals.ts";
import { aggregate } from "./duckdb/aggregate.ts";
import { deleteBefore, sizeOf } from "./duckdb/cleanup.ts";
import { DuckdbDocuments } from "./duckdb/documents.ts";
import { DuckdbFile, locationOfFile, logOf } from "./duckdb/file.ts";
import { readPages } from "./duckdb/pages.ts";
import { DIALECT, readableFrom, SCHEMA_VERSION, timeLiteral } from "./duckdb/schema.ts";
import type { DuckdbSession } from "./duckdb/session.ts";
import { DuckdbStaging } from "./duckdb/staging.ts";
import { writeBatch } from "./duckdb/writer.ts";
import { whereClause } from "./sql/select.ts";
import { findStorageFaults } from "./sql/verify.ts";
import type { Staging } from "./staging.ts";

/** Options of a {@linkcode DuckdbBackend}. */
export interface DuckdbBackendOptions {
  /** The path of the file; empty for a database in memory. */
  path: string;
  /** Create the file, require it, or only read. */
  mode: OpenMode;
  /** Policy for a record whose key exists. */
  onConflict: ConflictPolicy;
}

/** Records in a DuckDB file, or in a DuckDB database in memory. One process has the file. */
export class DuckdbBackend implements Backend {
  readonly name = "duckdb";
  readonly isDurable: boolean;
  readonly documents: DuckdbDocuments;
  readonly #file: DuckdbFile;
  readonly #options: DuckdbBackendOptions;

  /**
   * Opens the database.
   *
   * @throws {BackendError} If DuckDB cannot be loaded, or if the file is missing, is in use, is no database, is newer than
   * this program, or cannot be written.
   */
  static async open(options: DuckdbBackendOptions): Promise<DuckdbBackend> {
    return new DuckdbBackend(await DuckdbFile.open(options.path, options.mode), options);
  }

  private constructor(file: DuckdbFile, options: DuckdbBackendOptions) {
    this.#file = file;
    this.#options = options;
    this.isDurable = options.path !== "";
    this.documents = new DuckdbDocuments(file);
  }

  get location(): string | undefined {
    return locationOfFile(this.#options.path);
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
    const session = await file.guard("read", () => file.connect(), signal);
    const interrupt = () => session.interrupt();
    signal?.addEventListener("abort", interrupt);
    const pages = readPages(session, this.#readable(dataset), {
      query,
      where: whereClause(dataset, query, DIALECT),
    });
    try {
      for (;;) {
        const { done, value } = await file.guard("read", () => pages.next(), signal);
        if (done) return;
        yield value;
      }
    } finally {
      signal?.removeEventListener("abort", interrupt);
      await file.disconnect(session);
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
    return this.#file.use("read", (session) =>
      findStorageFaults({
        query: (sql) => session.query(sql),
        epochMs: (column) => `epoch_ms(${column})`,
        now: `${Date.now()}`,
        asText: (expression) => `(${expression})::VARCHAR`,
      }));
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
    const report = () => ({
      writable: mode !== "read",
      details: { ...this.#describe(), schemaVersion: this.#file.version },
      warnings: newerSchema(this.#file.version, SCHEMA_VERSION),
    });
    // Changes nothing, but fails where a change would fail.
    const nothing = "UPDATE schema_version SET version = version WHERE false";
    if (mode === "read") {
      return this.#file.use("probe", async (session) => {
        await session.query("SELECT 1");
        return report();
      });
    }
    return this.#file.change("probe", async (session) => {
      await session.execute(nothing);
      return report();
    });
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #describe() {
    return { file: this.#options.path || "(in memory)", duckdbVersion: this.#file.driver.library_version() };
  }

  /** The dataset as it can be read: a file that is only read may be of an older schema. */
  #readable<T>(dataset: Dataset<T>): Dataset<T> {
    return readableFrom(dataset, this.#file.version);
  }
}

async function datasetStats(session: DuckdbSession, { source }: Dataset<unknown>): Promise<DatasetStats> {
  const [[rows, oldest, newest]] = await session.query(
    `SELECT count(*), min(timestamp), max(timestamp) FROM ${source}`,
  ) as number[][];
  return rows === 0 ? { rows } : { rows, oldest, newest };
}
