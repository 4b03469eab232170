import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import type { BackendStats, DatasetStats, ProbeReport, ReadOptions } from "./backend.ts";
import { clusterNodes, clusterWarnings, requireCitus, resolveInDoubt } from "./citus/cluster.ts";
import {
  CITUS_SETTINGS,
  DISTRIBUTED,
  distributeStaging,
  PARALLEL_COPY,
  PARALLEL_RECORDS,
} from "./citus/distribution.ts";
import { sliceByRows } from "./citus/row_slices.ts";
import { PostgresBackend, type PostgresBackendOptions, withPool } from "./postgres.ts";
import { migrate } from "./postgres/migrate.ts";
import { Partitions } from "./postgres/partitions.ts";
import type { PostgresPool, PostgresSession } from "./postgres/pool.ts";
import { SlicedRetention } from "./postgres/retention.ts";
import { literal } from "./postgres/schema.ts";
import type { WriterOptions } from "./postgres/writer.ts";
import type { Slice } from "./postgres/slices.ts";

/** Maximum number of records in a batch: that many system metrics nearly reach the limit of 8 MiB. */
const MAX_RECORDS = 25_000;
/** Longest wait for transactions in doubt. The server looks for them every 60 seconds. */
const IN_DOUBT_MS = 90_000;

/** Records on many machines: PostgreSQL, whose partitions Citus keeps in shards on workers. */
export class CitusBackend extends PostgresBackend {
  override readonly name = "citus";
  readonly #version: string;
  /** A setting would need a transaction on all workers. */
  protected override readonly aggregateSettings = "";

  /**
   * Opens the database through its coordinator, and in the mode `create` creates or distributes its tables.
   *
   * @throws {ConfigError} If the connection string cannot be read.
   * @throws {BackendError} If the server cannot be reached, is no coordinator, or tables cannot be distributed.
   */
  static override async open(options: PostgresBackendOptions): Promise<CitusBackend> {
    return await withPool({ ...options, transactionSettings: CITUS_SETTINGS }, async (pool) => {
      const citus = await requireCitus(pool, options.mode);
      const version = await migrate(pool, options.mode, DISTRIBUTED);
      return new CitusBackend(pool, options, { version, citus });
    });
  }

  private constructor(
    pool: PostgresPool,
    options: PostgresBackendOptions,
    { version, citus }: { version: number; citus: string },
  ) {
    const parts = new Partitions(pool, options.now);
    const retention = new SlicedRetention(pool, parts);
    const settingsFor: WriterOptions["settingsFor"] = ({ records }, isCopy) =>
      isCopy && records.length >= PARALLEL_RECORDS ? PARALLEL_COPY : "";
    super(pool, { ...options, settingsFor, afterStaging: distributeStaging }, { parts, retention, version });
    this.#version = citus;
  }

  /** More than other backends: a commit in two phases waits for the disk three times, one after the other. */
  maxRecords(): number {
    return MAX_RECORDS;
  }

  /** The coordinator sorts what it reads, so it reads slices of few records. Each slice sees its own state. */
  protected override async slicesOf(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    options?: ReadOptions,
  ): Promise<Slice[]> {
    const count = (query: RecordQuery, aggregation: Aggregation): Promise<AggregateRow[]> =>
      this.aggregate(dataset, query, aggregation, options);
    return await sliceByRows(await super.slicesOf(dataset, query, options), count);
  }

  /** Waits for transactions in doubt, too: the lock on the coordinator does not know of them. */
  override async finishWrites(dataset: Dataset<unknown>): Promise<void> {
    await super.finishWrites(dataset);
    await resolveInDoubt(this.pool, IN_DOUBT_MS);
  }

  override async stats(): Promise<BackendStats> {
    const { storage, ...found } = await super.stats();
    const nodes = await this.pool.use("read", clusterNodes);
    const held = nodes.map(({ address, shards, answer }) =>
      `${address} (${shards} shards, ${answer ? `${(answer.bytes / 2 ** 20).toFixed(1)} MiB` : "no answer"})`
    );
    return {
      ...found,
      storage: {
        ...storage,
        databaseSizeBytes: nodes.reduce((sum, { answer }) => sum + (answer?.bytes ?? 0), 0),
        citusVersion: this.#version,
        nodes: held.join(", "),
      },
    };
  }

  override async probe(): Promise<ProbeReport> {
    const { details, warnings, writable } = await super.probe();
    const nodes = await this.pool.use("probe", clusterNodes);
    return {
      writable: writable && nodes.every(({ isActive, answer }) => isActive && answer !== undefined),
      details: {
        ...details,
        citusVersion: this.#version,
        nodes: nodes.length,
        shards: nodes.reduce((sum, { shards }) => sum + shards, 0),
      },
      warnings: [...warnings, ...clusterWarnings(nodes)],
    };
  }

  /** Sizes of all shards: on the coordinator the tables are empty. */
  protected override async partitionStats(
    session: PostgresSession,
    table: DatasetName,
  ): Promise<Partial<DatasetStats>> {
    const { partitions } = await super.partitionStats(session, table);
    const sizes = "SELECT json_build_array(worker_partitioned_table_size('%1$s'), " +
      "worker_partitioned_relation_total_size('%1$s'))";
    const rows = await session.query(
      `SELECT success::text, result FROM run_command_on_shards('${table}', ${literal(sizes)})`,
    );
    if (rows.some(([success]) => success !== "true")) return { partitions };
    const found = rows.map(([, result]) => JSON.parse(result!) as [number, number]);
    const tableBytes = found.reduce((sum, [bytes]) => sum + bytes, 0);
    return {
      partitions,
      tableBytes,
      indexBytes: found.reduce((sum, [, total]) => sum + total, 0) - tableBytes,
    };
  }
}
