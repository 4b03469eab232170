import type { ReadOptions } from "../backend.ts";
import { BackendError } from "../../errors.ts";
import type { Dataset, DatasetName } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import {
  dropCounted,
  nearSpan,
  type Partition,
  type PartitionManager,
  planPartitions,
  type Span,
} from "../postgres/partitions.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { SlicedRetention } from "../postgres/retention.ts";
import { epochMs, literal, timeLiteral } from "../postgres/schema.ts";

/** The setting that lets a transaction change as many compressed records as it has to. */
export const NO_DECOMPRESSION_LIMIT =
  "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0; ";

/** A condition that a row of `timescaledb_information` is about this hypertable. */
export function hypertableCondition(name: string): string {
  return `${relation("hypertable")} = to_regclass(${literal(name)})`;
}

/** The relation that a row of `timescaledb_information` names in two columns. */
export function relation(kind: string): string {
  return `to_regclass(quote_ident(${kind}_schema) || '.' || quote_ident(${kind}_name))`;
}

/** Describes the tables that are no hypertables, as after a restore that left out the lists of the extension. */
export async function plainTables(session: PostgresSession): Promise<string[]> {
  const names = Object.keys(DATASETS);
  const rows = await session.query(
    `SELECT name FROM unnest(ARRAY[${names.map(literal).join(", ")}]) AS name WHERE NOT EXISTS ` +
      `(SELECT FROM timescaledb_information.hypertables WHERE ${relation("hypertable")} = to_regclass(name))`,
  );
  return rows.map(([name]) =>
    `${name} is no hypertable: it has no chunks, compression or retention; restore a complete backup`
  );
}

/**
 * The chunks of hypertables. The server creates those near the present. Times far from it share a chunk a decade, so that
 * odd timestamps do not create a chunk each: with thousands of chunks every statement without a range takes minutes, or
 * more locks than the server has.
 */
export class Chunks implements PartitionManager {
  readonly #pool: PostgresPool;
  /** The chunks that were known to exist when a far time came last, oldest first. */
  readonly #known = new Map<DatasetName, readonly Partition[]>();

  constructor(pool: PostgresPool) {
    this.#pool = pool;
  }

  async ensure(dataset: Dataset<unknown>, records: readonly unknown[]): Promise<void> {
    const now = Date.now();
    const near = nearSpan(dataset, now);
    const times = (records as readonly { timestamp: number }[]).map(({ timestamp }) => timestamp)
      .filter((time) => time < near.start || time >= near.end);
    if (times.length === 0) return;
    const plan = (existing: readonly Partition[]) => planPartitions(dataset, { times, existing, now });
    if (plan(this.#known.get(dataset.name) ?? []).length === 0) return;
    const existing = await this.list(dataset);
    const planned = plan(existing);
    try {
      for (const { start, end } of planned) await this.#make(dataset, { start, end });
    } catch (error) {
      // Another process created a chunk of that time, or this release creates none on request. The server creates
      // what is missing when the records come.
      if (!(error instanceof BackendError) || error.retryable || error.sqlState === undefined) throw error;
      return this.clearCache();
    }
    this.#known.set(dataset.name, [...existing, ...planned].sort((a, b) => a.start - b.start));
  }

  #make({ name }: Dataset<unknown>, { start, end }: Span): Promise<void> {
    const slices = JSON.stringify({ timestamp: [1_000 * start, 1_000 * end] });
    return this.#pool.useBriefly("create a chunk in", async (session) => {
      await session.query(`SELECT _timescaledb_functions.create_chunk('${name}', '${slices}')`);
    });
  }

  clearCache(): void {
    this.#known.clear();
  }

  async list({ name }: Dataset<unknown>, { signal }: ReadOptions = {}): Promise<Partition[]> {
    const sql = `SELECT format('%I.%I', chunk_schema, chunk_name), ${epochMs("range_start")}, ` +
      `${epochMs("range_end")} FROM timescaledb_information.chunks WHERE ${
        hypertableCondition(name)
      } ORDER BY range_start`;
    const rows = await this.#pool.use("read", (session) => session.query(sql), { signal });
    return rows.map(([name, start, end]) => ({ name: name!, start: Number(start), end: Number(end) }));
  }

  drop(dataset: Dataset<unknown>, { name, start, end }: Partition): Promise<number> {
    const range = `older_than => ${timeLiteral(end)}, newer_than => ${timeLiteral(start)}`;
    return dropCounted(this.#pool, {
      dataset,
      name,
      drop: `SELECT drop_chunks('${dataset.name}', ${range})`,
    });
  }
}

/** Deletes from the chunk at the edge by slices of time, since compressed records cannot be deleted by the row. */
export class ChunkRetention extends SlicedRetention {
  constructor(pool: PostgresPool, chunks: Chunks) {
    super(pool, chunks, NO_DECOMPRESSION_LIMIT);
  }

  /**
   * Compresses a chunk again, which would else take more space than before: the server keeps what it decompressed to
   * delete a part of it. What is left of its rows is then empty, and is quickly replaced by a table without its old indexes.
   */
  protected override async freeSpace(chunk: string): Promise<void> {
    await this.pool.use("vacuum", async (session) => {
      const [[isCompressed]] = await session.query(
        `SELECT is_compressed::text FROM timescaledb_information.chunks WHERE ${relation("chunk")} = ` +
          `to_regclass(${literal(chunk)})`,
      );
      if (isCompressed === "true") {
        // First the decompressed rows, then all of them: one call does not do both.
        for (const all of [false, true]) {
          await session.query(`SELECT compress_chunk(${literal(chunk)}, true, ${all})`);
        }
      }
      await session.query(`VACUUM (${isCompressed === "true" ? "FULL, " : ""}SKIP_LOCKED) ${chunk}`);
    });
  }
}
