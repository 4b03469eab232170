import { BackendError, messageOf } from "../../errors.ts";
import type { Dataset, DatasetName } from "../../records/dataset.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import { literal, tablesQuery, timeLiteral } from "./schema.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;
/** 1 January 1970 was a Thursday, and weeks begin on Monday. */
const FIRST_MONDAY_MS = 4 * DAY_MS;
const WEEK_MS = 7 * DAY_MS;
/** Partitions that are made in one transaction: each takes some locks, of which a server has not many. */
const STEP_PARTITIONS = 20;

/** How long dropping a partition waits for its lock, and has others wait behind it, before it gives up. */
const DROP_LOCK_MS = 500;

const MAKE = "make a partition in";

/** A partition of a dataset: the records from one time until before another. */
export interface Partition {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

/** The parts of the tables by time, which are kept and dropped whole. */
export interface TimeParts {
  /** Sees to it that there is a part for each of the records. */
  ensure(dataset: Dataset<unknown>, records: readonly unknown[]): Promise<void>;
  /** Forgets what is there, as somebody else may have dropped some of it. */
  forget(): void;
  /** The parts that a dataset has, oldest first. */
  list(dataset: Dataset<unknown>): Promise<Partition[]>;
  /** Drops a part; gives how many records it had. */
  drop(dataset: Dataset<unknown>, partition: Partition): Promise<number>;
}

/** The partition that a time belongs to: a week for metrics, of which there are many, a month for costs. */
export function partitionOf(dataset: Dataset<unknown>, time: number): Partition {
  let start = Math.floor((time - FIRST_MONDAY_MS) / WEEK_MS) * WEEK_MS + FIRST_MONDAY_MS;
  let end = start + WEEK_MS;
  if (dataset.partitionBy === "month") {
    const date = new Date(time);
    start = Date.UTC(date.getUTCFullYear(), date.getUTCMonth());
    end = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
  }
  const day = new Date(start).toISOString().slice(0, 10).replaceAll("-", "_");
  return { name: `${dataset.name}_${day}`, start, end };
}

/** Makes partitions as records need them, and drops them. */
export class Partitions implements TimeParts {
  readonly #pool: PostgresPool;
  /** The starts of the partitions that are known to be there. */
  readonly #known = new Map<DatasetName, Set<number>>();

  constructor(pool: PostgresPool) {
    this.#pool = pool;
  }

  async ensure(dataset: Dataset<unknown>, records: readonly unknown[]): Promise<void> {
    let known = this.#known.get(dataset.name);
    if (!known) this.#known.set(dataset.name, known = new Set());
    const missing = new Map<number, Partition>();
    let last: Partition | undefined;
    for (const { timestamp } of records as readonly { timestamp: number }[]) {
      if (last && timestamp >= last.start && timestamp < last.end) continue;
      last = partitionOf(dataset, timestamp);
      if (!known.has(last.start)) missing.set(last.start, last);
    }
    const list = [...missing.values()];
    for (let i = 0; i < list.length; i += STEP_PARTITIONS) {
      const step = list.slice(i, i + STEP_PARTITIONS);
      await this.#make(dataset, step);
      for (const { start } of step) known.add(start);
    }
  }

  forget(): void {
    this.#known.clear();
  }

  async list(dataset: Dataset<unknown>): Promise<Partition[]> {
    const bound = (side: string) =>
      `(extract(epoch FROM substring(pg_get_expr(c.relpartbound, c.oid) FROM '${side} \\(''([^'']+)''\\)')` +
      `::timestamptz) * 1000)::bigint`;
    const sql = `SELECT c.oid::regclass::text, ${bound("FROM")}::text, ${bound("TO")}::text ` +
      `FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class c ON c.oid = inhrelid ` +
      `WHERE inhparent = ${literal(dataset.name)}::regclass AND c.relispartition ORDER BY ${bound("FROM")}`;
    const rows = await this.#pool.use("read", (session) => session.query(sql));
    // Somebody's DEFAULT partition has no bounds.
    return rows.filter(([, start]) => start !== null).map(([name, start, end]) => ({
      name: name!,
      start: Number(start),
      end: Number(end),
    }));
  }

  async drop(dataset: Dataset<unknown>, { name }: Partition): Promise<number> {
    const count = await dropCounted(this.#pool, { dataset, name, drop: `DROP TABLE ${name}` });
    this.forget();
    return count;
  }

  async #make(dataset: Dataset<unknown>, wanted: readonly Partition[]): Promise<void> {
    await this.#pool.look(MAKE, async (session) => {
      const rows = await session.query(presentQuery(dataset, wanted.map(({ name }) => name)));
      const present = new Set(rows.map(([name]) => name));
      const missing = wanted.filter(({ name }) => !present.has(name));
      if (missing.length === 0) return;
      await session.query("BEGIN");
      await becomeOwner(session, dataset);
      for (const partition of missing) await makePartition(session, dataset, partition);
      await session.query("COMMIT");
    }).catch((error) => {
      throw asUnmade(error, this.#pool);
    });
  }
}

/** Drops a part of a table; gives how many records it had. */
export function dropCounted(
  pool: PostgresPool,
  { dataset, name, drop }: { dataset: Dataset<unknown>; name: string; drop: string },
): Promise<number> {
  return pool.transaction("delete", async (session) => {
    await becomeOwner(session, dataset);
    const [[found]] = await session.query(`SELECT to_regclass(${literal(name)})::text`);
    if (found === null) return 0; // another cleanup was faster
    await session.query(`LOCK TABLE ${name} IN SHARE MODE`); // nobody adds what would go uncounted
    const [[count]] = await session.query(`SELECT count(*)::text FROM ${name}`);
    await session.query(drop);
    return Number(count);
  }, { settings: `SET LOCAL lock_timeout = ${DROP_LOCK_MS}` });
}

/**
 * Makes a partition, unless another process has. It is attached, not made in place, as that alone needs no lock
 * on the table that would have to wait for all who read it, and have all others wait behind.
 */
async function makePartition(session: PostgresSession, dataset: Dataset<unknown>, partition: Partition) {
  const { name, start, end } = partition;
  await session.query(
    `SELECT pg_advisory_xact_lock(hashtextextended(${literal(`openfinops ${dataset.name}`)}, 0))`,
  );
  if ((await session.query(presentQuery(dataset, [name]))).length > 0) return;
  if ((await session.query(tablesQuery([name]))).length > 0) throw detachedError(dataset, name);
  await session.query(
    `CREATE TABLE ${name} (LIKE ${dataset.name} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE); ` +
      `ALTER TABLE ${dataset.name} ATTACH PARTITION ${name} ` +
      `FOR VALUES FROM (${timeLiteral(start)}) TO (${timeLiteral(end)})`,
  );
}

/** Which of these partitions are there. */
function presentQuery(dataset: Dataset<unknown>, names: readonly string[]): string {
  return `SELECT c.relname::text FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class c ON c.oid = inhrelid ` +
    `WHERE inhparent = ${literal(dataset.name)}::regclass AND c.relname IN (${
      names.map(literal).join(", ")
    })`;
}

function detachedError(dataset: Dataset<unknown>, name: string): BackendError {
  return new BackendError(
    `Cannot ${MAKE} ${dataset.name}: another name for the table ${name} is wanted: somebody has detached it, and ` +
      "there are records for it; rename it, or attach it again",
    { code: "PARTITION_DETACHED", operation: MAKE, kind: "operator" },
  );
}

/** The records are not to blame where a table does not take a partition. */
function asUnmade(error: unknown, pool: PostgresPool): unknown {
  if (!(error instanceof BackendError) || error.kind !== "data") return error;
  const { sqlState, cause } = error;
  return new BackendError(
    `Cannot ${MAKE} ${pool.name}: a DEFAULT partition without records of that time is wanted; move them out of it: ` +
      messageOf(cause),
    { code: "DEFAULT_PARTITION", operation: MAKE, kind: "operator", sqlState, cause },
  );
}

/** Lets all that is made in this transaction belong to who owns the table, so that any member of it can drop it. */
async function becomeOwner(session: PostgresSession, dataset: Dataset<unknown>): Promise<void> {
  await session.query(
    `SELECT set_config('role', rolname, true) FROM pg_catalog.pg_class JOIN pg_catalog.pg_roles r ON r.oid = relowner ` +
      `WHERE pg_class.oid = ${literal(dataset.name)}::regclass AND rolname <> current_user ` +
      `AND pg_has_role(current_user, r.oid, 'MEMBER')`,
  );
}
