import { setTimeout } from "node:timers/promises";
import { BackendError } from "../../errors.ts";
import { retryBriefly } from "../../pipeline/retry.ts";
import { REQUEST_HOURS } from "../../pipeline/members.ts";
import { LEDGER_DAYS } from "../../pipeline/sink.ts";
import type { Dataset } from "../../records/dataset.ts";
import type { Partition, PartitionManager } from "./partitions.ts";
import type { PostgresPool } from "./pool.ts";
import { timeLiteral } from "./schema.ts";

/** Rows that are deleted in one transaction. */
const STEP_ROWS = 10_000;
/** Slices of time in which the records of a partition are deleted where they cannot be deleted by the row. */
const EDGE_SLICES = 24;
/** Longest time to retry partitions that readers hold. */
const PATIENCE_MS = 20_000;

/** Records to delete from a partition that stays. */
export interface Edge {
  readonly partition: Partition;
  /** The records before this time, in epoch milliseconds. */
  readonly before: number;
  /** Deadline by `performance.now()`. */
  readonly end: number;
}

/** Deletes old records: whole partitions, and rows of the partition at the edge. */
export class Retention {
  readonly #pool: PostgresPool;
  readonly #parts: PartitionManager;

  constructor(pool: PostgresPool, parts: PartitionManager) {
    this.#pool = pool;
    this.#parts = parts;
  }

  /**
   * Deletes the records before a time, the oldest first. A partition that a reader holds is tried again after the others,
   * for {@linkcode PATIENCE_MS} or a quarter of the time that is left.
   *
   * @param end Deadline by `performance.now()`; the next call continues.
   * @param onHeld Is called for each partition that is still held in the end.
   * @returns The number of records that were deleted.
   */
  async deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    { end, onHeld }: { end: number; onHeld: (partition: string) => void },
  ): Promise<number> {
    let deleted = 0;
    let held: Partition[] = [];
    let until = Infinity;
    for (let round = 0; round === 0 || (held.length > 0 && performance.now() < until); round++) {
      if (round > 0) await setTimeout(Math.min(1_000, 25 * 2 ** round));
      const partitions = round > 0 ? held : await this.#parts.list(dataset);
      held = [];
      for (const partition of partitions) {
        if (partition.start >= before) break;
        if (performance.now() >= end) {
          if (round > 0) held.push(partition);
          continue;
        }
        try {
          deleted += partition.end <= before
            ? await this.#parts.drop(dataset, partition)
            : await this.deleteEdge(dataset, { partition, before, end });
        } catch (error) {
          if (!(error instanceof BackendError && error.retryable)) throw error;
          held.push(partition);
        }
      }
      const now = performance.now();
      if (round === 0) until = now + Math.min(PATIENCE_MS, (end - now) / 4); // leaves time for the other datasets
    }
    for (const { name } of held) onHeld(name);
    // A failure undoes no deletion: the next cleanup prunes the rest of the ledger.
    await this.#pruneLedger(end).catch(() => {});
    return deleted;
  }

  /** Deletes the records before a time from the partition that contains it, in steps; returns their number. */
  protected async deleteEdge(
    _dataset: Dataset<unknown>,
    { partition: { name }, before, end }: Edge,
  ): Promise<number> {
    const sql = `DELETE FROM ${name} WHERE ctid = ANY(ARRAY(` +
      `SELECT ctid FROM ${name} WHERE timestamp < ${timeLiteral(before)} LIMIT ${STEP_ROWS}))`;
    const deleted = await this.#repeat(sql, end);
    if (deleted === 0) return 0;
    // Frees room for new rows; the disk is freed when the whole partition is dropped.
    const vacuum = `VACUUM (SKIP_LOCKED) ${name}`;
    await this.#pool.use("vacuum", (session) => session.query(vacuum)).catch(() => {});
    return deleted;
  }

  /** Deletes batches and requests that will not be sent again. */
  async #pruneLedger(end: number): Promise<void> {
    const prune = (table: string, { key, old }: { key: string; old: string }) =>
      this.#repeat(
        `DELETE FROM ${table} WHERE (${key}) IN (SELECT ${key} FROM ${table} ` +
          `WHERE ${old} LIMIT ${STEP_ROWS} FOR UPDATE SKIP LOCKED)`,
        end,
      );
    const batches = `committed_at < now() - interval '${LEDGER_DAYS} days'`;
    await prune("ledger", { key: "batch_id", old: batches });
    const requests = `stored_at < now() - interval '${REQUEST_HOURS} hours'`;
    await prune("requests", { key: "request_id, dataset", old: requests });
  }

  /** Repeats a statement that deletes a step until no rows are left or time is up; returns the number of rows. */
  async #repeat(sql: string, end: number): Promise<number> {
    let deleted = 0;
    for (;;) {
      const rows = await retryBriefly(() => this.#pool.use("delete", (session) => session.execute(sql)));
      deleted += rows;
      if (rows < STEP_ROWS || performance.now() >= end) return deleted;
    }
  }
}

/** Deletes from the partition at the edge by slices of time, where records cannot be deleted by the row. */
export class SlicedRetention extends Retention {
  protected readonly pool: PostgresPool;
  readonly #settings: string;

  /** @param settings Settings of the transactions that delete. */
  constructor(pool: PostgresPool, parts: PartitionManager, settings = "") {
    super(pool, parts);
    this.pool = pool;
    this.#settings = settings;
  }

  protected override async deleteEdge(
    { name }: Dataset<unknown>,
    { partition, before, end }: Edge,
  ): Promise<number> {
    // A partition of another program may be without a bound: it is one slice.
    const step = Math.ceil((partition.end - partition.start) / EDGE_SLICES);
    let deleted = 0;
    let until: number;
    for (let from = partition.start; from < before && performance.now() < end; from = until) {
      until = step < Infinity ? Math.min(from + step, before) : before;
      const since = from > -Infinity ? `timestamp >= ${timeLiteral(from)} AND ` : "";
      const sql = `DELETE FROM ${name} WHERE ${since}timestamp < ${timeLiteral(until)}`;
      deleted += await retryBriefly(() =>
        this.pool.transaction("delete", (session) => session.execute(sql), { settings: this.#settings })
      );
    }
    // The rows are gone even if the partition is in use: the next cleanup frees the space.
    if (deleted > 0 && performance.now() < end) await this.freeSpace(partition.name).catch(() => {});
    return deleted;
  }

  /** Frees room for new rows in a partition that stays. */
  protected async freeSpace(partition: string): Promise<void> {
    await this.pool.use("vacuum", (session) => session.query(`VACUUM (SKIP_LOCKED) ${partition}`));
  }
}
