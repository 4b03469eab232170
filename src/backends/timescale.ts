import type { Batch } from "../pipeline/sink.ts";
import { BackendError } from "../errors.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import type { BackendStats, DatasetStats, DeleteOptions, ProbeReport, ReadOptions } from "./backend.ts";
import { NO_JIT, PostgresBackend, type PostgresBackendOptions, withPool } from "./postgres.ts";
import { isOutOfMemory } from "./postgres/errors.ts";
import { refuse } from "./postgres/extension.ts";
import { migrate } from "./postgres/migrate.ts";
import { aggregateDialect } from "./postgres/aggregate.ts";
import type { PostgresPool, PostgresSession, Row } from "./postgres/pool.ts";
import { literal } from "./postgres/schema.ts";
import {
  ChunkRetention,
  Chunks,
  hypertableCondition,
  NO_DECOMPRESSION_LIMIT,
  plainTables,
} from "./timescale/chunks.ts";
import {
  type Extension,
  HYPERTABLES,
  REFUSE_WHILE_RESTORING,
  requireTimescale,
} from "./timescale/hypertables.ts";
import { freshnessQuery, rollUpSource } from "./timescale/roll_up_aggregate.ts";
import { aggregateStatement, readAggregateRow } from "./sql/aggregate.ts";
import { failedJobs, Policies, type PolicySettings, retentionOf } from "./timescale/policies.ts";
import { RollUps } from "./timescale/roll_ups.ts";

/** Records from which it pays to compress a batch as it arrives: a compressed row holds up to 1,000. */
const MIN_COMPRESSED_BATCH = 1_000;

const APACHE_WARNING =
  "the Apache edition of TimescaleDB has no compression, no roll-ups and no retention policy; " +
  "schedule `openfinops database cleanup` to delete old records";

export type TimescaleBackendOptions = PostgresBackendOptions & PolicySettings;

/** Records in hypertables of TimescaleDB: PostgreSQL, with chunks, compression, roll-ups and policies. */
export class TimescaleBackend extends PostgresBackend {
  override readonly name = "timescaledb";
  readonly #extension: Extension;
  readonly #policies: Policies;
  readonly #rollUps: RollUps;
  protected override readonly createsPartitions = false;

  /**
   * Opens the database, and in the mode `create` creates its extension, schema, rollups and policies.
   *
   * @throws {ConfigError} If the connection string cannot be read.
   * @throws {BackendError} If the server cannot be reached, has no such extension, or lacks what the settings want.
   */
  static override async open(options: TimescaleBackendOptions): Promise<TimescaleBackend> {
    return await withPool(options, async (pool) => {
      const extension = await requireTimescale(pool, options.mode);
      const lacking = extension.isComplete ? undefined : lackingOnApache(options);
      if (lacking !== undefined) throw refuse(pool, "SERVER_UNSUPPORTED", lacking);
      const version = await migrate(pool, options.mode, HYPERTABLES);
      const rollUps = new RollUps(pool);
      const policies = new Policies(pool, rollUps);
      if (options.mode === "create" && extension.isComplete) {
        await rollUps.ensure();
        await policies.apply(options);
      }
      return new TimescaleBackend(pool, options, { extension, policies, rollUps, version });
    });
  }

  private constructor(
    pool: PostgresPool,
    options: TimescaleBackendOptions,
    { extension, policies, rollUps, version }: {
      extension: Extension;
      policies: Policies;
      rollUps: RollUps;
      version: number;
    },
  ) {
    const chunks = new Chunks(pool);
    // A unique index rules it out.
    const isForColumns = ({ dataset, records }: Batch) =>
      options.enableCompression && extension.copiesIntoColumns && dataset.key.length === 0 &&
      records.length >= MIN_COMPRESSED_BATCH;
    const settingsFor = (batch: Batch) =>
      REFUSE_WHILE_RESTORING + NO_DECOMPRESSION_LIMIT +
      (isForColumns(batch) ? "SET LOCAL timescaledb.enable_direct_compress_copy = on; " : "");
    super(pool, { ...options, settingsFor }, {
      parts: chunks,
      retention: new ChunkRetention(pool, chunks),
      version,
    });
    this.#extension = extension;
    this.#policies = policies;
    this.#rollUps = rollUps;
  }

  override async aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    options: ReadOptions = {},
  ): Promise<AggregateRow[]> {
    const mayAsk = aggregation.mayUseRollUps && this.#extension.isComplete;
    const source = mayAsk ? rollUpSource(dataset, query, aggregation) : undefined;
    const rows = source &&
      await this.#readFresh(dataset, query, {
        sql: aggregateStatement(dataset, aggregation, {
          ...source,
          dialect: aggregateDialect(this.pool.serverVersion),
        }),
        ...options,
      });
    return rows
      ? rows.map((row) => readAggregateRow(dataset, aggregation, row))
      : await super.aggregate(dataset, query, aggregation, options);
  }

  /** Reads from a roll-up, in one state of the database; nothing where it does not say what the records say. */
  async #readFresh(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    { sql, signal }: ReadOptions & { sql: string },
  ): Promise<Row[] | undefined> {
    const settings = `${NO_JIT}SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY`;
    try {
      return await this.pool.transaction("read", async (session) => {
        const [[isFresh]] = await session.query(freshnessQuery(dataset, query));
        return isFresh === "true" ? await session.query(sql) : undefined;
      }, { settings, signal });
    } catch (error) {
      // The user may not read roll-ups, or the release keeps its lists elsewhere: the records are read.
      if (error instanceof BackendError && /^42/.test(error.sqlState ?? "")) return undefined;
      if (isOutOfMemory(error)) return undefined; // records are read in slices of their chunks
      throw error;
    }
  }

  override async deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    options: DeleteOptions,
  ): Promise<number> {
    const { dryRun, timeBudgetMs = Infinity } = options;
    if (!dryRun && timeBudgetMs > 0 && this.#extension.isComplete) await this.#rollUps.keep(dataset, before);
    return await super.deleteBefore(dataset, before, options);
  }

  override async stats(): Promise<BackendStats> {
    const { storage, ...found } = await super.stats();
    const { version, license } = this.#extension;
    return {
      ...found,
      policies: await this.pool.use("read", (session) => this.#policies.stats(session)),
      storage: { ...storage, timescaledbVersion: version, timescaledbLicense: license },
    };
  }

  override async probe(): Promise<ProbeReport> {
    const { details, warnings, ...found } = await super.probe();
    const { version, license, isComplete } = this.#extension;
    const more = await this.pool.use("probe", async (session) => [
      ...await plainTables(session),
      ...(isComplete ? failedJobs(await this.#policies.stats(session)) : [APACHE_WARNING]),
    ]);
    return {
      ...found,
      details: { ...details, timescaledbVersion: version, timescaledbLicense: license },
      warnings: [...warnings, ...more],
    };
  }

  protected override async partitionStats(
    session: PostgresSession,
    table: DatasetName,
  ): Promise<Partial<DatasetStats>> {
    const [[chunks, compressed]] = await session.query(
      "SELECT count(*)::text, count(*) FILTER (WHERE is_compressed)::text FROM timescaledb_information.chunks " +
        `WHERE ${hypertableCondition(table)}`,
    );
    const [[tableBytes, indexBytes]] = await session.query(
      `SELECT (table_bytes + coalesce(toast_bytes, 0))::text, index_bytes::text ` +
        `FROM hypertable_detailed_size(${literal(table)})`,
    );
    return {
      chunks: Number(chunks),
      compressedChunks: Number(compressed),
      tableBytes: Number(tableBytes),
      indexBytes: Number(indexBytes),
      ...(this.#extension.isComplete ? await compressionStats(session, table) : {}),
    };
  }
}

/** Names the features that the Apache edition lacks for these settings. `cleanupOldData()` deletes old records there. */
function lackingOnApache(options: TimescaleBackendOptions): string | undefined {
  const edition = "Set timescaledb.license = 'timescale'";
  if (options.enableCompression) return `the Apache edition of TimescaleDB has no compression. ${edition}.`;
  const isAsked = Object.values(retentionOf(options)).some((days) => days < Infinity);
  if (!isAsked || options.retentionOf) return undefined;
  return "the Apache edition of TimescaleDB has no retention policy. " +
    `${edition}, or schedule \`database cleanup --retention-days\`.`;
}

async function compressionStats(
  session: PostgresSession,
  table: DatasetName,
): Promise<Partial<DatasetStats>> {
  // Chunks that were compressed as they arrived have never been measured otherwise.
  const [[before, after]] = await session.query(
    "SELECT sum(before_compression_total_bytes)::text, sum(after_compression_total_bytes)::text " +
      `FROM chunk_columnstore_stats(${literal(table)}) WHERE before_compression_total_bytes > 0`,
  );
  if (before === null) return {};
  return { bytesBeforeCompression: Number(before), bytesAfterCompression: Number(after) };
}
