import { retryBriefly } from "../pipeline/retry.ts";
import type { Batch, WriteResult } from "../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import { columnOf, type Dataset, type DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import { mapSlices } from "../records/slices.ts";
import { BackendError } from "../errors.ts";
import type {
  Backend,
  BackendStats,
  ConflictPolicy,
  DatasetStats,
  DeleteOptions,
  DocumentStore,
  OpenMode,
  ProbeReport,
  RawRows,
  RawTransfer,
  ReadOptions,
  StorageBackend,
  StorageFault,
} from "./backend.ts";
import { aggregateDialect } from "./postgres/aggregate.ts";
import { postgresDocuments } from "./postgres/documents.ts";
import { isOutOfMemory } from "./postgres/errors.ts";
import { migrate, PARTITIONED } from "./postgres/migrate.ts";
import { MAY_ADD_PARTITIONS, type PartitionManager, Partitions } from "./postgres/partitions.ts";
import { RawPages, readPages, RecordPages } from "./postgres/pages.ts";
import { PostgresPool, type PostgresSession } from "./postgres/pool.ts";
import { Retention } from "./postgres/retention.ts";
import { DIALECT, literal, rawSelectList, READABLE, SCHEMA_VERSION, selectList } from "./postgres/schema.ts";
import { eachSlice, type Slice, Slices } from "./postgres/slices.ts";
import { findTableFaults } from "./postgres/table_faults.ts";
import { resolvePostgresTarget } from "./postgres/target.ts";
import { PostgresStaging, type PostgresStagingOptions } from "./postgres/staging.ts";
import type { Staging } from "./staging.ts";
import { PostgresWriter, type WriterOptions } from "./postgres/writer.ts";
import { aggregateStatement, readAggregateRow } from "./sql/aggregate.ts";
import { mergeAggregates } from "./sql/merge_aggregates.ts";
import { readableFrom } from "./sql/schema.ts";
import { whereClause } from "./sql/select.ts";
import { findStorageFaults } from "./sql/verify.ts";
import { describeLedger, newerSchema } from "./condition.ts";
import { currencyTotals } from "./currency_totals.ts";

/** The number of records, and the oldest and newest time. */
export const COUNTED: Aggregation = {
  groupBy: [],
  measures: [
    { function: "count" },
    { function: "min", field: "timestamp" },
    { function: "max", field: "timestamp" },
  ],
};
/** Longest wait for writes in progress: later writes queue behind it. */
const SETTLE_LOCK_MS = 500;

/** Turns the compiler off for the statements that follow. */
export const NO_JIT = "SET LOCAL jit = off; ";

/** Options of {@linkcode PostgresBackend.open}. */
export interface PostgresBackendOptions {
  /** The server, as in `postgresql://user@host:5432/database`. */
  connectionString: string;
  /** Creates the tables, expects them, or only reads. */
  mode: OpenMode;
  /** Ignores or replaces a record whose key exists. */
  onConflict: ConflictPolicy;
  /** Maximum number of connections. */
  maxConnections: number;
  /** Timeout of statements that write, in seconds. */
  statementTimeoutSeconds: number;
  /**
   * Clock in epoch milliseconds. Times near the present get a partition of their own.
   *
   * @default {Date.now}
   */
  now?: () => number;
  /** Ends the attempt to open. */
  signal?: AbortSignal;
}

/** Records in a PostgreSQL database, in tables that are partitioned by time. */
export class PostgresBackend implements Backend {
  readonly name: StorageBackend = "postgresql";
  readonly isDurable = true;
  readonly documents: DocumentStore;
  /** The connections to the server. */
  protected readonly pool: PostgresPool;
  /** True if this backend creates partitions, for which a user needs a privilege. */
  protected readonly createsPartitions: boolean = true;
  /**
   * Settings of a statement that aggregates. The server would compile its expressions for each partition, which takes
   * several times as long as to run it (`deno task bench jit-timescaledb`).
   */
  protected readonly aggregateSettings: string = NO_JIT;
  readonly #writer: PostgresWriter;
  readonly #staging: Omit<PostgresStagingOptions, "pool">;
  readonly #retention: Retention;
  readonly #slices: Slices;
  /** The version of the schema; an older one only where the database is only read. */
  readonly #version: number;

  /**
   * Opens the database, and creates or migrates its schema where the mode allows.
   *
   * @throws {ConfigError} If the connection string cannot be read.
   * @throws {BackendError} If the server cannot be reached, or the schema is missing, newer or another program's.
   */
  static async open(options: PostgresBackendOptions): Promise<PostgresBackend> {
    return await withPool(options, async (pool) => {
      const version = await migrate(pool, options.mode, PARTITIONED);
      const parts = new Partitions(pool, options.now);
      return new PostgresBackend(pool, options, { parts, retention: new Retention(pool, parts), version });
    });
  }

  /** Assembles a backend whose schema is ready. */
  protected constructor(
    pool: PostgresPool,
    options: PostgresBackendOptions & WriterOptions & { afterStaging?: (table: string) => string },
    { parts, retention, version }: { parts: PartitionManager; retention: Retention; version: number },
  ) {
    this.pool = pool;
    this.documents = postgresDocuments(pool);
    this.#writer = new PostgresWriter(pool, parts, options);
    const { onConflict, settingsFor, afterStaging } = options;
    const settings = settingsFor?.({ id: "", dataset: DATASETS.cost_entries, records: [] }, false) ?? "";
    this.#staging = { parts, onConflict, settings, afterTable: afterStaging };
    this.#retention = retention;
    this.#slices = new Slices(pool, parts);
    this.#version = version;
  }

  get location(): string {
    return this.pool.location;
  }

  write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    return this.#writer.write(batch, onSent);
  }

  async createPartitions(times: readonly number[]): Promise<void> {
    const records = times.map((timestamp) => ({ timestamp }));
    for (const dataset of Object.values(DATASETS)) await this.#staging.parts.ensure(dataset, records);
  }

  stage(): Promise<Staging> {
    return Promise.resolve(new PostgresStaging({ pool: this.pool, ...this.#staging }));
  }

  /** Reads in one statement, which sees one state of the database, or in several where many partitions have records. */
  async *read<T>(dataset: Dataset<T>, query: RecordQuery, options?: ReadOptions): AsyncGenerator<T[]> {
    let left = query.limit ?? Infinity;
    const source = readableFrom(dataset, this.#version, READABLE);
    const readSlice = (slice: RecordQuery) => {
      const select = this.selectStatement(source, left < Infinity ? { ...slice, limit: left } : slice);
      return readPages(this.pool, select, new RecordPages(dataset), options);
    };
    for await (const page of eachSlice(await this.slicesOf(dataset, query, options), readSlice)) {
      left -= page.length;
      yield page;
      if (left <= 0) return;
    }
  }

  /** The parts in which records are read, one after the other. */
  protected slicesOf(dataset: Dataset<unknown>, query: RecordQuery, options?: ReadOptions): Promise<Slice[]> {
    return this.#slices.of(dataset, query, options);
  }

  readonly raw: RawTransfer = {
    format: "binary COPY of PostgreSQL",
    read: (dataset, query) => this.#readRaw(dataset, query),
    write: (batch, onSent) => this.#writer.writeRaw(batch, onSent),
  };

  async *#readRaw(dataset: Dataset<unknown>, query: RecordQuery): AsyncGenerator<RawRows> {
    const columns = rawSelectList(dataset);
    const source = readableFrom(dataset, this.#version, READABLE);
    const readSlice = (slice: RecordQuery) =>
      readPages(this.pool, this.selectStatement(source, slice, columns), new RawPages(dataset));
    yield* eachSlice(await this.slicesOf(dataset, query), readSlice);
  }

  /** The statement that reads the records that a query asks for. */
  selectStatement(dataset: Dataset<unknown>, query: RecordQuery, columns = selectList(dataset)): string {
    const order = (dataset.key.length > 0 ? dataset.key : ["timestamp"])
      .map((field) => `${columnOf(dataset, field).name} ${query.order}`);
    const limit = query.limit === undefined ? "" : ` LIMIT ${query.limit}`;
    return `SELECT ${columns} FROM ${dataset.source} ` +
      `${whereClause(dataset, query, DIALECT)} ORDER BY ${order.join(", ")}${limit}`;
  }

  async aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    options?: ReadOptions,
  ): Promise<AggregateRow[]> {
    const aggregateOnce = (slice: RecordQuery, part: Aggregation) =>
      this.#aggregateOnce(dataset, slice, { ...options, aggregation: part });
    const slices = await this.#slices.of(dataset, query, options);
    // Percentiles in slices take memory for each value that differs, so the whole is tried first.
    if (slices.length === 1 || aggregation.measures.some((measure) => measure.function === "percentile")) {
      try {
        return await aggregateOnce(query, aggregation);
      } catch (error) {
        if (!isOutOfMemory(error)) throw error;
      }
    }
    return await mergeAggregates(
      dataset,
      aggregation,
      (part) => eachSlice(slices, (slice) => single(aggregateOnce(slice, part))),
    );
  }

  async #aggregateOnce(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    { aggregation, signal }: ReadOptions & { aggregation: Aggregation },
  ): Promise<AggregateRow[]> {
    const where = whereClause(dataset, query, DIALECT);
    const { source: from } = readableFrom(dataset, this.#version, READABLE);
    const source = { from, where, dialect: aggregateDialect(this.pool.serverVersion) };
    const sql = this.aggregateSettings + aggregateStatement(dataset, aggregation, source);
    const rows = await this.pool.use("read", (session) => session.query(sql), { signal });
    return await mapSlices(rows, (row) => readAggregateRow(dataset, aggregation, row));
  }

  async finishWrites({ name }: Dataset<unknown>): Promise<void> {
    // Briefly, and then an error that may be tried again: other writers wait behind it meanwhile.
    const settings = `SET LOCAL lock_timeout = ${SETTLE_LOCK_MS}`;
    const lock = `LOCK TABLE ONLY ${name} IN SHARE MODE`;
    await this.pool.transaction("write", (session) => session.query(lock), { settings });
  }

  async deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    { dryRun, timeBudgetMs = Infinity, onHeld }: DeleteOptions,
  ): Promise<number> {
    if (dryRun) {
      const query = acceptQuery(dataset, { endTime: before });
      const [{ values: [count] }] = await this.aggregate(dataset, query, COUNTED);
      return count as number;
    }
    const held: string[] = [];
    const deleted = await this.#retention.deleteBefore(dataset, before, {
      end: performance.now() + timeBudgetMs,
      onHeld: onHeld ?? ((name) => held.push(name)),
    });
    if (held.length === 0) return deleted;
    throw new BackendError(
      `Cannot delete ${this.pool.name}: other sessions hold ${held.join(", ")}. ` +
        `The other ${deleted} records before that time were deleted; run it again.`,
      { code: "LOCKED", operation: "delete", kind: "transient" },
    );
  }

  async deleteMatching(dataset: Dataset<unknown>, query: RecordQuery): Promise<number> {
    const sql = `DELETE FROM ${dataset.name} ${whereClause(dataset, query, DIALECT)}`;
    const { settings } = this.#staging;
    return await this.pool.transaction("delete", (session) => session.execute(sql), { settings });
  }

  verify(): Promise<StorageFault[]> {
    return this.pool.use(
      "read",
      (session) =>
        findStorageFaults({ ...DIALECT, query: (sql) => session.query(sql), now: DIALECT.epochMs("now()") }),
    );
  }

  async stats(): Promise<BackendStats> {
    const datasets = {} as Record<DatasetName, DatasetStats>;
    for (const dataset of Object.values(DATASETS)) {
      datasets[dataset.name] = await retryBriefly(() => this.#datasetStats(dataset));
    }
    return {
      datasets,
      totals: await currencyTotals(this),
      storage: await this.pool.use("read", async (session) => {
        const [[version, bytes, mayReadLedger]] = await session.query(
          "SELECT current_setting('server_version'), pg_database_size(current_database())::text, " +
            "has_table_privilege('ledger', 'SELECT')::text", // which readers lack
        );
        return {
          server: this.pool.name,
          serverVersion: version!,
          databaseSizeBytes: Number(bytes),
          ...(mayReadLedger === "true" ? await ledgerFacts(session) : {}),
        };
      }),
    };
  }

  probe(): Promise<ProbeReport> {
    return this.pool.use("probe", async (session) => {
      const tables = ["ledger", ...Object.keys(DATASETS)];
      const [[version, encoding, fsync, commit, isReadOnly, mayWrite, mayCreate, tls, schema]] = await session
        .query(
          `SELECT current_setting('server_version'), current_setting('server_encoding'), current_setting('fsync'),
        current_setting('synchronous_commit'), current_setting('transaction_read_only'),
        (${
            tables.map((name) => `has_table_privilege(to_regclass('${name}'), 'INSERT')`).join(" AND ")
          })::text,
        ${MAY_ADD_PARTITIONS}::text,
        (SELECT concat_ws(' ', version, cipher) FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl),
        (SELECT max(version)::text FROM schema_version)`,
        );
      const { faults, warnings } = await findTableFaults(session, this.#version);
      warnings.unshift(...faults.map((fault) => `${fault}: nothing is written; restore a complete backup`));
      const writable = isReadOnly === "off" && mayWrite === "true" && faults.length === 0;
      const warn = (isSo: boolean, warning: string) => isSo && warnings.push(warning);
      warn(
        encoding !== "UTF8",
        `the database is encoded in ${encoding}: texts it lacks characters for are refused`,
      );
      warn(fsync === "off", "fsync is off: a crash of the server's machine can destroy the database");
      warn(commit === "off", "synchronous_commit is off: a crash of the server can lose what was committed");
      warn(
        writable && mayCreate !== "true" && this.createsPartitions,
        "this user may not create tables, and so no partition for a new week",
      );
      return {
        writable,
        details: {
          server: this.pool.name,
          serverVersion: version!,
          tls: tls ?? "none",
          schemaVersion: Number(schema),
        },
        warnings: [...warnings, ...newerSchema(Number(schema), SCHEMA_VERSION)],
      };
    });
  }

  close(): Promise<void> {
    return this.pool.close();
  }

  /** Counts and sizes of one dataset. */
  async #datasetStats(dataset: Dataset<unknown>): Promise<DatasetStats> {
    const [{ values: [rows, oldest, newest] }] = await this.aggregate(dataset, acceptQuery(dataset), COUNTED);
    return {
      rows: rows as number,
      ...(oldest === null ? {} : { oldest: oldest as number, newest: newest as number }),
      ...await this.pool.use("read", (session) => this.partitionStats(session, dataset.name)),
    };
  }

  /** The number of partitions and their sizes. Not by `pg_partition_tree`, which locks all of them. */
  protected async partitionStats(
    session: PostgresSession,
    table: DatasetName,
  ): Promise<Partial<DatasetStats>> {
    const [[partitions, tableBytes, indexBytes]] = await session.query(
      `WITH RECURSIVE tree AS (SELECT to_regclass(${literal(table)})::oid AS relid UNION ALL ` +
        "SELECT inhrelid FROM pg_catalog.pg_inherits JOIN tree ON relid = inhparent) " +
        "SELECT count(*) FILTER (WHERE relkind <> 'p')::text, coalesce(sum(pg_table_size(relid)), 0)::text, " +
        "coalesce(sum(pg_indexes_size(relid)), 0)::text FROM tree JOIN pg_catalog.pg_class ON oid = relid",
    );
    return {
      partitions: Number(partitions),
      tableBytes: Number(tableBytes),
      indexBytes: Number(indexBytes),
    };
  }
}

async function ledgerFacts(session: PostgresSession): Promise<Record<string, string | number>> {
  const [[batches, oldest]] = await session.query(
    "SELECT count(*)::text, (extract(epoch FROM min(committed_at)) * 1000)::bigint::text FROM ledger",
  );
  return describeLedger(Number(batches), oldest === null ? null : Number(oldest));
}

async function* single<T>(result: Promise<T>): AsyncGenerator<T> {
  yield await result;
}

/** Runs what opens a backend; where that fails, no connection is left over. */
export async function withPool<T>(
  options: PostgresBackendOptions & { transactionSettings?: string },
  open: (pool: PostgresPool) => Promise<T>,
): Promise<T> {
  const pool = new PostgresPool(resolvePostgresTarget(options.connectionString), options);
  const end = () => void pool.close();
  options.signal?.addEventListener("abort", end);
  try {
    return await open(pool);
  } catch (error) {
    await pool.close();
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", end);
  }
}
