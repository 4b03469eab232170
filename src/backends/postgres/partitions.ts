import { DAY_MS } from "../../records/calendar.ts";
import { BackendError, messageOf } from "../../errors.ts";
import type { Dataset, DatasetName } from "../../records/dataset.ts";
import type { ReadOptions } from "../backend.ts";
import { isOutOfMemory } from "./errors.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import { literal, tablesQuery, timeLiteral } from "./schema.ts";

/** 1 January 1970 was a Thursday, and weeks begin on Monday. */
const FIRST_MONDAY_MS = 4 * DAY_MS;
const WEEK_MS = 7 * DAY_MS;
/** Years before and after now whose weeks or months get a partition of their own. */
const NEAR_YEARS = { before: 5, after: 1 };
/** Partitions created in one transaction, at most. Each takes locks, and the server's lock table is small. */
const MAX_STEP = 20;
/** Longest wait for the lock that dropping a partition needs: other sessions queue behind it. */
const DROP_LOCK_MS = 500;

const OPERATION = "make a partition in";

/** The function by which a user who does not own the tables adds partitions; docs/postgresql.md has its text. */
const ADD_PARTITION = "openfinops_add_partition";
/** An expression that is true if this user may call it. */
const MAY_CALL = `coalesce(has_function_privilege(to_regprocedure(` +
  `'${ADD_PARTITION}(text, text, timestamptz, timestamptz)'), 'EXECUTE'), false)`;
/** An expression that is true if this user may add partitions, by itself or by the function. */
export const MAY_ADD_PARTITIONS = `(has_schema_privilege(current_schema(), 'CREATE') OR ${MAY_CALL})`;

/** A span of time in epoch milliseconds: from `start`, before `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A partition of a dataset. */
export interface Partition extends Span {
  readonly name: string;
}

/** The time partitions of the tables, which are kept and dropped whole. */
export interface PartitionManager {
  /** Creates the partitions that the records need. */
  ensure(dataset: Dataset<unknown>, records: readonly unknown[]): Promise<void>;
  /** Clears the cache, since another process may have dropped partitions. */
  clearCache(): void;
  /** Lists the partitions of a dataset, oldest first. */
  list(dataset: Dataset<unknown>, options?: ReadOptions): Promise<Partition[]>;
  /** Drops a partition; returns its number of records. */
  drop(dataset: Dataset<unknown>, partition: Partition): Promise<number>;
}

/** The week (metrics) or the month (costs) of a time. */
function unitOf({ partitionBy }: Dataset<unknown>, time: number): Span {
  if (partitionBy === "month") {
    const date = new Date(time);
    const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
    return { start: Date.UTC(year, month), end: Date.UTC(year, month + 1) };
  }
  const start = Math.floor((time - FIRST_MONDAY_MS) / WEEK_MS) * WEEK_MS + FIRST_MONDAY_MS;
  return { start, end: start + WEEK_MS };
}

/**
 * The span that a new partition for a time covers, where none exists yet: its week or month near the present, and
 * else the part of its decade that is not near, so that odd timestamps need few partitions. All bounds are bounds of
 * weeks or months: the first week of a decade is the one that contains its 1 January.
 */
export function spanOf(dataset: Dataset<unknown>, time: number, now: number): Span {
  const unit = unitOf(dataset, time);
  const near = nearSpan(dataset, now);
  if (unit.start >= near.start && unit.end <= near.end) return unit;
  const year = Math.floor(new Date(unit.end - 1).getUTCFullYear() / 10) * 10;
  const [start, end] = [year, year + 10].map((year) => unitOf(dataset, Date.UTC(year, 0)).start);
  return unit.end <= near.start
    ? { start, end: Math.min(end, near.start) }
    : { start: Math.max(start, near.end), end };
}

/** The span near the present, whose weeks or months get a partition each. */
export function nearSpan(dataset: Dataset<unknown>, now: number): Span {
  return {
    start: unitOf(dataset, addYears(now, -NEAR_YEARS.before)).start,
    end: unitOf(dataset, addYears(now, NEAR_YEARS.after)).end,
  };
}

function addYears(time: number, years: number): number {
  const date = new Date(time);
  return date.setUTCFullYear(date.getUTCFullYear() + years);
}

/**
 * The partitions to create for some times beside those that exist, in order of time. An existing partition wins, and
 * a new one is cut at its neighbors: so none ever overlaps, even those of other programs.
 *
 * @param existing The partitions that exist, oldest first.
 */
export function planPartitions(
  dataset: Dataset<unknown>,
  { times, existing, now }: { times: readonly number[]; existing: readonly Partition[]; now: number },
): Partition[] {
  const planned: Partition[] = [];
  let last: Span | undefined;
  for (const time of times.toSorted((a, b) => a - b)) {
    if (last && time < last.end) continue;
    const next = existing[indexAfter(existing, time)];
    const previous = existing[indexAfter(existing, time) - 1];
    if (previous && time < previous.end) {
      last = previous;
      continue;
    }
    const span = spanOf(dataset, time, now);
    const start = Math.max(span.start, previous?.end ?? -Infinity, last?.end ?? -Infinity);
    const end = Math.min(span.end, next?.start ?? Infinity);
    planned.push({ name: nameOf(dataset, { start, end }), start, end });
    last = { start, end };
  }
  return planned;
}

function nameOf(dataset: Dataset<unknown>, { start, end }: Span): string {
  const unit = unitOf(dataset, start);
  const isUnit = unit.start === start && unit.end === end;
  return `${dataset.name}_${stamp(start)}${isUnit ? "" : `_to_${stamp(end)}`}`;
}

/** A time in the name of a partition: a day, or milliseconds where it is within a day. */
function stamp(time: number): string {
  if (time % DAY_MS !== 0) return String(time);
  return new Date(time).toISOString().replace(/^\+0?/, "").replace(/T.*/, "").replaceAll("-", "_");
}

/** The index of the first span that starts after a time. */
function indexAfter(spans: readonly Span[], time: number): number {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].start <= time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Creates partitions as records need them, and drops them. */
export class Partitions implements PartitionManager {
  readonly #pool: PostgresPool;
  readonly #now: () => number;
  /** The partitions that are known to exist, oldest first. */
  readonly #known = new Map<DatasetName, readonly Partition[]>();
  #step = MAX_STEP;

  constructor(pool: PostgresPool, now: () => number = Date.now) {
    this.#pool = pool;
    this.#now = now;
  }

  async ensure(dataset: Dataset<unknown>, records: readonly unknown[]): Promise<void> {
    for (;;) {
      let times = this.#unpartitioned(dataset, records as readonly { timestamp: number }[]);
      if (times.length === 0) return;
      while (times.length > 0) {
        times = await this.#createPartitions(dataset, times).catch((error) => {
          if (!isOutOfMemory(error) || this.#step === 1) throw error;
          this.#step = Math.ceil(this.#step / 2);
          return times;
        });
      }
    }
  }

  clearCache(): void {
    this.#known.clear();
  }

  async list(dataset: Dataset<unknown>, { signal }: ReadOptions = {}): Promise<Partition[]> {
    return await this.#pool.use("read", (session) => readPartitions(session, dataset), { signal });
  }

  async drop(dataset: Dataset<unknown>, { name }: Partition): Promise<number> {
    const count = await dropCounted(this.#pool, { dataset, name, drop: `DROP TABLE ${name}` });
    this.clearCache();
    return count;
  }

  /** A time of each week or month with records for which no partition is known. */
  #unpartitioned(dataset: Dataset<unknown>, records: readonly { timestamp: number }[]): number[] {
    const known = this.#known.get(dataset.name) ?? [];
    const uncovered = new Map<number, number>();
    let last: Span | undefined;
    for (const { timestamp } of records) {
      if (last && timestamp >= last.start && timestamp < last.end) continue;
      const found = known[indexAfter(known, timestamp) - 1];
      if (found && timestamp < found.end) {
        last = found;
        continue;
      }
      // Not `last`: a partition may end within this week.
      uncovered.set(unitOf(dataset, timestamp).start, timestamp);
    }
    return [...uncovered.values()];
  }

  /** Creates some of the partitions for these times; returns the times that are left. */
  async #createPartitions(dataset: Dataset<unknown>, times: readonly number[]): Promise<number[]> {
    const plan = (existing: readonly Partition[]) =>
      planPartitions(dataset, { times, existing, now: this.#now() });
    return await this.#pool.useBriefly(OPERATION, async (session) => {
      let existing = await readPartitions(session, dataset);
      let rest: Partition[] = [];
      if (plan(existing).length > 0) {
        await session.query(this.#pool.begin);
        const isOwner = await assumeOwner(session, dataset);
        await session.query(
          `SELECT pg_advisory_xact_lock(hashtextextended(${literal(`openfinops ${dataset.name}`)}, 0))`,
        );
        // Again: another process may have created some before the lock was free.
        existing = await readPartitions(session, dataset);
        const planned = plan(existing);
        const made = planned.slice(0, this.#step);
        rest = planned.slice(this.#step);
        for (const partition of made) await createPartition(session, dataset, { partition, isOwner });
        await session.query("COMMIT");
        existing = [...existing, ...made].sort((a, b) => a.start - b.start);
      }
      this.#known.set(dataset.name, existing);
      return rest.map(({ start }) => start);
    }).catch((error) => {
      throw asPartitionError(error, this.#pool);
    });
  }
}

/** Drops a part of a table; returns its number of records. */
export function dropCounted(
  pool: PostgresPool,
  { dataset, name, drop }: { dataset: Dataset<unknown>; name: string; drop: string },
): Promise<number> {
  return pool.transaction("delete", async (session) => {
    await assumeOwner(session, dataset);
    const [[found]] = await session.query(`SELECT to_regclass(${literal(name)})::text`);
    if (found === null) return 0; // another cleanup was faster
    await session.query(`LOCK TABLE ${name} IN SHARE MODE`); // records added now would not be counted
    const [[count]] = await session.query(`SELECT count(*)::text FROM ${name}`);
    await session.query(drop);
    return Number(count);
  }, { settings: `SET LOCAL lock_timeout = ${DROP_LOCK_MS}` });
}

/** Reads the partitions of a dataset from the catalog, without a lock on any of them. */
async function readPartitions(session: PostgresSession, dataset: Dataset<unknown>): Promise<Partition[]> {
  // A bound of MINVALUE or MAXVALUE gives null. A float holds all milliseconds, and infinity.
  const bound = (side: string) =>
    `round(date_part('epoch', substring(bounds FROM '${side} \\(''([^'']+)''\\)')::timestamptz) * 1000)::text`;
  const rows = await session.query(
    `SELECT name, ${bound("FROM")}, ${bound("TO")} FROM (` +
      `SELECT c.oid::regclass::text AS name, pg_get_expr(c.relpartbound, c.oid) AS bounds ` +
      `FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class c ON c.oid = inhrelid ` +
      `WHERE inhparent = to_regclass(${literal(dataset.name)}) AND c.relispartition) AS partitions ` +
      `WHERE bounds <> 'DEFAULT'`,
  );
  return rows
    .map(([name, start, end]) => ({
      name: name!,
      start: Number(start ?? -Infinity),
      end: Number(end ?? Infinity),
    }))
    .sort((a, b) => a.start - b.start);
}

/**
 * Creates a table and attaches it. `CREATE TABLE … PARTITION OF` would need a lock on the parent that waits for all
 * readers, and blocks all others meanwhile. Two statements, as some poolers and Citus refuse two in one string.
 */
async function createPartition(
  session: PostgresSession,
  dataset: Dataset<unknown>,
  { partition: { name, start, end }, isOwner }: { partition: Partition; isOwner: boolean },
): Promise<void> {
  if ((await session.query(tablesQuery([name]))).length > 0) throw detachedError(dataset, name);
  if (!isOwner && (await session.query(`SELECT ${MAY_CALL}::text`))[0][0] === "true") {
    const values = [literal(dataset.name), literal(name), timeLiteral(start), timeLiteral(end)];
    await session.query(`SELECT ${ADD_PARTITION}(${values.join(", ")})`);
    return;
  }
  await session.query(
    `CREATE TABLE ${name} (LIKE ${dataset.name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)`,
  );
  await session.query(
    `ALTER TABLE ${dataset.name} ATTACH PARTITION ${name} ` +
      `FOR VALUES FROM (${timeLiteral(start)}) TO (${timeLiteral(end)})`,
  );
}

function detachedError(dataset: Dataset<unknown>, name: string): BackendError {
  return new BackendError(
    `Cannot ${OPERATION} ${dataset.name}: the table ${name} exists and is detached, and there are records for it. ` +
      "Rename it, or attach it again.",
    { code: "PARTITION_DETACHED", operation: OPERATION, kind: "operator" },
  );
}

/** The records are not to blame where a table does not take a partition. */
function asPartitionError(error: unknown, pool: PostgresPool): unknown {
  if (!(error instanceof BackendError) || error.kind !== "data") return error;
  const { sqlState, cause } = error;
  return new BackendError(
    `Cannot ${OPERATION} ${pool.name}: ${
      messageOf(cause)
    }. Move records of that time out of the DEFAULT partition.`,
    { code: "DEFAULT_PARTITION", operation: OPERATION, kind: "operator", sqlState, cause },
  );
}

/**
 * Makes the owner of the table the owner of what this transaction creates, so that any member of it can drop it. Returns
 * true if this user is the owner or a member of it.
 */
async function assumeOwner(session: PostgresSession, dataset: Dataset<unknown>): Promise<boolean> {
  const rows = await session.query(
    `SELECT set_config('role', rolname, true) FROM pg_catalog.pg_class JOIN pg_catalog.pg_roles r ON r.oid = relowner ` +
      `WHERE pg_class.oid = ${
        literal(dataset.name)
      }::regclass AND pg_has_role(current_user, r.oid, 'MEMBER')`,
  );
  return rows.length > 0;
}
