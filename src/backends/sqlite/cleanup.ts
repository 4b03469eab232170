import { BackendError } from "../../errors.ts";
import { retryBriefly } from "../../pipeline/retry.ts";
import { REQUEST_HOURS } from "../../pipeline/members.ts";
import { LEDGER_DAYS } from "../../pipeline/sink.ts";
import { DAY_MS, HOUR_MS } from "../../records/calendar.ts";
import { yieldToEventLoop } from "../../records/slices.ts";
import { queryAll, runOnce, type SqliteDatabase } from "./driver.ts";

/** Rows and file pages that one transaction takes, at most, so that other writers get their turn. */
const MAX_ROWS = 10_000;
const MAX_PAGES = 1_000;
/** Steps become so many times smaller when the disk has no room for one, and as many times larger after some. */
const SCALE = 4;
const SMALL_STEPS = 10;

/** Runs a change of the file when no other change is running. */
type Change = <T>(operation: string, run: () => T) => Promise<T>;

/**
 * Deletes old rows in steps and gives their space back. A transaction needs room in the write-ahead log for each page that
 * it changes. On a full disk, steps become smaller, and the log is written into the file after each of them and
 * used again.
 */
export class SqliteCleanup {
  readonly #database: SqliteDatabase;
  readonly #change: Change;

  /** Cleans up by a connection that its owner closes. */
  constructor(database: SqliteDatabase, change: Change) {
    this.#database = database;
    this.#change = change;
  }

  /**
   * Deletes the rows of a table before a time.
   *
   * @param end No step starts after this time, by `performance.now()`.
   * @returns The number of deleted rows.
   * @throws {BackendError} If a step failed; the space of what was deleted is given back even so.
   */
  async deleteBefore(table: string, before: number, end: number): Promise<number> {
    const sql =
      `DELETE FROM ${table} WHERE rowid IN (SELECT rowid FROM ${table} WHERE timestamp < ? LIMIT ?)`;
    try {
      return await this.#runInSteps("delete", MAX_ROWS, {
        step: (rows) => runOnce(this.#database, sql, [before, rows]),
        end,
        freeSpace: () => this.#releaseSpace().catch(() => {}),
      });
    } finally {
      // The rows are gone even if the file is too busy for the rest: the next cleanup does it.
      await this.#pruneLedger().catch(() => {});
      await this.#releaseSpace().catch(() => {});
    }
  }

  /** Deletes batches and requests that will not be sent again. */
  async #pruneLedger(): Promise<void> {
    const batches =
      "DELETE FROM ledger WHERE batch_id IN (SELECT batch_id FROM ledger WHERE committed_at < ? LIMIT ?)";
    await this.#prune(batches, Date.now() - LEDGER_DAYS * DAY_MS);
    const requests = "DELETE FROM requests WHERE (request_id, dataset) IN " +
      "(SELECT request_id, dataset FROM requests WHERE stored_at < ? LIMIT ?)";
    await this.#prune(requests, Date.now() - REQUEST_HOURS * HOUR_MS);
  }

  async #prune(sql: string, before: number): Promise<void> {
    await this.#runInSteps("delete", MAX_ROWS, {
      step: (rows) => runOnce(this.#database, sql, [before, rows]),
    });
  }

  /** Cuts free pages off the file, then the write-ahead log. */
  async #releaseSpace(): Promise<void> {
    await this.#runInSteps("vacuum", MAX_PAGES, {
      step: (pages) => {
        const before = this.#freePages();
        queryAll(this.#database, `PRAGMA incremental_vacuum(${pages})`); // a page for each row of its result
        return before - this.#freePages(); // none if the file was created without incremental auto-vacuum
      },
    });
    await this.#checkpoint("TRUNCATE");
  }

  /**
   * Repeats a step until it changes less than it may; returns the number of all changes. `relieve` makes room on the disk
   * after some small steps.
   */
  async #runInSteps(
    operation: string,
    most: number,
    { step, end = Infinity, freeSpace }: {
      step: (size: number) => number;
      end?: number;
      freeSpace?: () => Promise<void>;
    },
  ): Promise<number> {
    let size = most;
    let small = 0;
    let done = 0;
    for (;;) {
      // Waiting makes no room on the disk: only other failures are retried.
      const result = await retryBriefly(() => this.#change(operation, () => step(size)).catch(asDiskFull));
      if (typeof result === "number") {
        done += result;
        if (result < size || performance.now() >= end) return done;
      } else if (size === 1) throw result;
      else size = Math.ceil(size / SCALE);
      if (size < most) {
        await this.#checkpoint("RESTART").catch(() => {});
        if (++small % SMALL_STEPS === 0) {
          await freeSpace?.();
          size = Math.min(most, size * SCALE);
        }
      }
      await yieldToEventLoop();
    }
  }

  /** Writes the log into the file. `RESTART` keeps the disk space of the log for the next step, `TRUNCATE` frees it. */
  #checkpoint(mode: "RESTART" | "TRUNCATE"): Promise<void> {
    return this.#change("vacuum", () => void queryAll(this.#database, `PRAGMA wal_checkpoint(${mode})`));
  }

  #freePages(): number {
    return queryAll(this.#database, "PRAGMA freelist_count")[0][0] as number;
  }
}

/** Returns the error of a full disk, and throws any other. */
function asDiskFull(error: unknown): Error {
  if (error instanceof BackendError && error.kind === "disk-full") return error;
  throw error;
}
