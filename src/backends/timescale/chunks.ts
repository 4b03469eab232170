import type { ReadOptions } from "../backend.ts";
import { retryBriefly } from "../../pipeline/retry.ts";
import type { Dataset } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import { dropCounted, type Partition, type TimeParts } from "../postgres/partitions.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { type Edge, Retention } from "../postgres/retention.ts";
import { epochMs, literal, timeLiteral } from "../postgres/schema.ts";

/** Steps in which the records of one chunk are deleted. */
const EDGE_STEPS = 24;

/** The setting that lets a transaction change as many compressed records as it has to. */
export const NO_DECOMPRESSION_LIMIT =
  "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0; ";

/** A condition that a row of `timescaledb_information` is about this hypertable. */
export function isAbout(name: string): string {
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

/** The chunks of hypertables, which the server makes by itself. */
export class Chunks implements TimeParts {
  readonly #pool: PostgresPool;

  constructor(pool: PostgresPool) {
    this.#pool = pool;
  }

  ensure(): Promise<void> {
    return Promise.resolve();
  }

  forget(): void {}

  async list({ name }: Dataset<unknown>, { signal }: ReadOptions = {}): Promise<Partition[]> {
    const sql = `SELECT format('%I.%I', chunk_schema, chunk_name), ${epochMs("range_start")}, ` +
      `${epochMs("range_end")} FROM timescaledb_information.chunks WHERE ${
        isAbout(name)
      } ORDER BY range_start`;
    const rows = await this.#pool.use("read", (session) => session.until(signal, () => session.query(sql)));
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

/** Deletes from the chunk at the edge by slices of time: what is compressed cannot be deleted by the row. */
export class ChunkRetention extends Retention {
  readonly #pool: PostgresPool;

  constructor(pool: PostgresPool, chunks: Chunks) {
    super(pool, chunks);
    this.#pool = pool;
  }

  protected override async deleteEdge(
    { name }: Dataset<unknown>,
    { partition: { start, end: chunkEnd }, before, end }: Edge,
  ): Promise<number> {
    const step = Math.ceil((chunkEnd - start) / EDGE_STEPS);
    let deleted = 0;
    for (let from = start; from < before && performance.now() < end; from += step) {
      const until = Math.min(from + step, before);
      const sql = `DELETE FROM ${name} ` +
        `WHERE timestamp >= ${timeLiteral(from)} AND timestamp < ${timeLiteral(until)}`;
      deleted += await retryBriefly(() =>
        this.#pool.transaction("delete", (session) => session.execute(sql), {
          settings: NO_DECOMPRESSION_LIMIT,
        })
      );
    }
    return deleted;
  }
}
