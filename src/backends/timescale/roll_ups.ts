import { retryBriefly } from "../../pipeline/retry.ts";
import type { Column, Dataset, DatasetName } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { columnNames, literal, tablesQuery, timeLiteral } from "../postgres/schema.ts";
import { daysInterval, JOBS, readPolicy, withJobLock } from "./jobs.ts";

/** The least that a refresh looks back, in hours: two spans of an hour, after the hour that is not over. */
const MIN_WINDOW_HOURS = 3;

/** A continuous aggregate: a dataset by spans of time, kept even when the records are deleted. */
export interface RollUp {
  /** The view, as in `system_metrics_hourly`. */
  readonly name: string;
  /** The dataset that it comes from. */
  readonly dataset: DatasetName;
  /** The span that a row stands for, as an interval. */
  readonly bucket: string;
  /** Interval of the server's refresh. */
  readonly refreshEvery: string;
  /** Delay of the first refresh after the roll-up is made, as an interval. Two roll-ups never share an instant. */
  readonly firstRefresh: string;
  /** True if it is computed from records, not from another rollup. */
  readonly isFromRecords: boolean;
  /** Days in one of its chunks. Ten times the chunk of the records, the default, makes thousands of chunks of odd timestamps. */
  readonly chunkDays: number;
  /** The statement that makes it. */
  readonly create: string;
}

/** Columns of a rollup for a numeric column, from records and from a finer rollup. */
function measuresOf({ name, type }: Column): { fromRecords: string[]; fromRollUp: string[] } {
  if (type === "decimal") {
    return { fromRecords: [`sum(${name}) AS ${name}`], fromRollUp: [`sum(${name}) AS ${name}`] };
  }
  return {
    fromRecords: [
      `avg(${name}::double precision) AS ${name}_avg`,
      `min(${name}) AS ${name}_min`,
      `max(${name}) AS ${name}_max`,
      `count(${name}) AS ${name}_count`,
    ],
    fromRollUp: [
      // Each average counts as often as there were values in it.
      `sum(${name}_avg * ${name}_count) / nullif(sum(${name}_count), 0)::double precision AS ${name}_avg`,
      `min(${name}_min) AS ${name}_min`,
      `max(${name}_max) AS ${name}_max`,
      `sum(${name}_count)::bigint AS ${name}_count`,
    ],
  };
}

/**
 * The roll-ups of a dataset. Days come from hours, so that only the hours have to be there before retention takes
 * the records.
 */
function rollUpsOf(dataset: Dataset<unknown>): RollUp[] {
  const groups = columnNames(dataset, dataset.rollUpBy);
  // Added columns stay out: to make a roll-up again would erase the history that retention took from the records.
  const measures = dataset.usual.filter(({ type }) => ["real", "integer", "decimal"].includes(type))
    .map(measuresOf);
  const statement = (name: string, bucket: string, columns: readonly string[], from: string) =>
    `CREATE MATERIALIZED VIEW ${name} WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS ` +
    `SELECT ${bucket} AS bucket, ${groups}, ${columns.join(", ")} FROM ${from} ` +
    `GROUP BY 1, ${groups} WITH NO DATA`;
  const hourly = `${dataset.name}_hourly`;
  const daily = `${dataset.name}_daily`;
  return [
    {
      name: hourly,
      dataset: dataset.name,
      bucket: "1 hour",
      refreshEvery: "30 minutes",
      firstRefresh: "30 minutes",
      isFromRecords: true,
      chunkDays: 100,
      create: statement(
        hourly,
        "time_bucket(INTERVAL '1 hour', timestamp)",
        ["count(*) AS records", ...measures.flatMap(({ fromRecords }) => fromRecords)],
        dataset.name,
      ),
    },
    {
      name: daily,
      dataset: dataset.name,
      bucket: "1 day",
      refreshEvery: "1 hour",
      firstRefresh: "45 minutes", // halfway between two refreshes of the hours
      isFromRecords: false,
      chunkDays: 1_000,
      create: statement(
        daily,
        "time_bucket(INTERVAL '1 day', bucket)",
        ["sum(records)::bigint AS records", ...measures.flatMap(({ fromRollUp }) => fromRollUp)],
        hourly,
      ),
    },
  ];
}

/** All roll-ups, each after what it comes from. */
export const ROLL_UPS: readonly RollUp[] = Object.values(DATASETS)
  .filter(({ rollUpBy }) => rollUpBy.length > 0).flatMap(rollUpsOf);

/**
 * Before which time the records of a dataset have gone. To refresh a roll-up there would erase what it keeps of them.
 */
const CREATE_FLOORS = "CREATE TABLE IF NOT EXISTS roll_up_floors (" +
  "dataset text PRIMARY KEY, since timestamptz NOT NULL)";

/** Creates rollups, and keeps their history when the records are deleted. */
export class RollUps {
  readonly #pool: PostgresPool;

  constructor(pool: PostgresPool) {
    this.#pool = pool;
  }

  /** Creates missing roll-ups with what there is to roll up, and corrects the refresh jobs of older releases. */
  async ensure(): Promise<void> {
    const isComplete = await this.#pool.useBriefly(
      "open",
      async (session) =>
        (await missing(session)).length === 0 && (await outdated(session)).length === 0 &&
        (await jobCorrections(session)).length === 0,
    );
    if (isComplete) return;
    let made: RollUp[] = [];
    await withJobLock(this.#pool, "open", async (session) => {
      for (const name of await outdated(session)) await session.query(`DROP MATERIALIZED VIEW ${name}`);
      made = await missing(session);
      for (const statement of await jobCorrections(session)) await session.query(statement);
      if (made.length > 0) await session.query(CREATE_FLOORS);
      for (const rollUp of made) {
        await session.query(rollUp.create);
        const [[jobId]] = await session.query(refreshStatement(rollUp));
        await session.query(`${setChunkDays(rollUp)}; ${alterRefresh(jobId!, 0)}`);
        if (rollUp.isFromRecords) await setWindow(session, rollUp);
      }
    });
    // Not left to the server, whose first runs would show parts of it for a while; hours come before their days.
    for (const rollUp of made) await this.#refresh(rollUp, Date.now());
  }

  /** Prepares the deletion of records before a time: rolls them up, and never reads that time again. */
  async keep({ name }: Dataset<unknown>, before: number): Promise<void> {
    const hours = hoursOf(name);
    if (!hours) return;
    await this.#refresh(hours, before);
    await withJobLock(this.#pool, "delete", async (session) => {
      await raiseFloor(session, name, timeLiteral(before));
      await setWindow(session, hours);
    });
  }

  /** Looks back as far as the retention of the server does, which is another now; it was this many days. */
  async followRetention(session: PostgresSession, name: DatasetName, daysBefore?: number): Promise<void> {
    const hours = hoursOf(name);
    if (!hours) return;
    if (daysBefore !== undefined) await raiseFloor(session, name, `now() - ${daysInterval(daysBefore)}`);
    await setWindow(session, hours);
  }

  /** Brings a roll-up up to date as far as a time, in all that it still looks at. */
  async #refresh(rollUp: RollUp, until: number): Promise<void> {
    const { name, bucket } = rollUp;
    await retryBriefly(() =>
      this.#pool.use("refresh", async (session) => {
        const policy = await readPolicy(session, REFRESH, name);
        const start = policy?.startOffset
          ? `(now() - INTERVAL '${policy.startOffset}')`
          : "NULL::timestamptz";
        // Up to the end of the span in which the time lies, but no span that is not over yet.
        const end =
          `least(time_bucket(INTERVAL '${bucket}', ${timeLiteral(until)}) + INTERVAL '${bucket}', ` +
          `time_bucket(INTERVAL '${bucket}', now()))`;
        const [[from, to, isLongEnough, takesSettings]] = await session.query(
          `SELECT ${start}::text, ${end}::text, (${start} IS NULL OR ${end} - ${start} > 2 * INTERVAL '${bucket}')::text,
            (SELECT bool_or(pronargs > 4) FROM pg_catalog.pg_proc WHERE proname = 'refresh_continuous_aggregate')::text`,
        );
        if (isLongEnough !== "true") return;
        const range = [from, to].map((time) => time === null ? "NULL" : `'${time}'::timestamptz`).join(", ");
        const settings = takesSettings === "true" ? `, options => '${REFRESH_SETTINGS}'` : "";
        await session.query(`CALL refresh_continuous_aggregate('${name}', ${range}${settings})`);
      })
    );
  }
}

const REFRESH = "policy_refresh_continuous_aggregate";

/** The roll-up that comes from the records of a dataset, if it has any. */
function hoursOf(name: DatasetName): RollUp | undefined {
  return ROLL_UPS.find(({ dataset, isFromRecords }) => dataset === name && isFromRecords);
}

async function missing(session: PostgresSession): Promise<RollUp[]> {
  const rows = await session.query(tablesQuery(ROLL_UPS.map(({ name }) => name)));
  const present = new Set(rows.map(([name]) => name));
  return ROLL_UPS.filter(({ name }) => !present.has(name));
}

/**
 * Names roll-ups of older releases that lack a column by which they group now, and that this user may drop: days before the
 * hours that they come from. Those that keep history of deleted records stay: records are read in their place.
 */
async function outdated(session: PostgresSession): Promise<string[]> {
  const names = ROLL_UPS.flatMap(({ name, dataset }) =>
    DATASETS[dataset].rollUpBy.map((field) => {
      const column = columnNames(DATASETS[dataset], [field]);
      return `(${literal(name)}, ${literal(dataset)}, ${literal(column)})`;
    })
  );
  const rows = await session.query(
    `SELECT DISTINCT view, dataset FROM (VALUES ${names.join(", ")}) AS v(view, dataset, name)
      JOIN pg_catalog.pg_class ON oid = to_regclass(view) AND pg_has_role(relowner, 'USAGE')
      WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = oid AND attname = name) ORDER BY view`,
  );
  const found: string[] = [];
  for (const [name, dataset] of rows) {
    const [[hasFloors]] = await session.query("SELECT (to_regclass('roll_up_floors') IS NOT NULL)::text");
    const floors = hasFloors === "true"
      ? await session.query(`SELECT since FROM roll_up_floors WHERE dataset = ${literal(dataset!)}`)
      : [];
    const retention = await readPolicy(session, "policy_retention", dataset as DatasetName);
    if (floors.length === 0 && !retention) found.push(name!);
  }
  return found;
}

/** Adds the refresh job of a roll-up, without a limit to the past. Returns the id of the job. */
function refreshStatement({ name, bucket, refreshEvery, firstRefresh }: RollUp): string {
  return `SELECT add_continuous_aggregate_policy('${name}', start_offset => NULL, ` +
    `end_offset => INTERVAL '${bucket}', schedule_interval => INTERVAL '${refreshEvery}', ` +
    `initial_start => now() + INTERVAL '${firstRefresh}')::text`;
}

/**
 * Settings of refreshes. By default the server refreshes the newest batch first and moves the watermark to its end, so
 * that until the last batch is done a rollup lacks the time before: days were built from a fifth of the hours. And it
 * refreshes ten hours a transaction: one record of 1970 takes 49,000 transactions, which take minutes.
 */
const REFRESH_SETTINGS = '{"refresh_newest_first": false, "buckets_per_batch": 168}';

/** Statements that correct the refresh jobs that an older release made and that this user may change. */
async function jobCorrections(session: PostgresSession): Promise<string[]> {
  const relations = ROLL_UPS.map(({ name }) => `to_regclass('${name}')`).join(", ");
  const rows = await session.query(
    `SELECT job_id::text, subject FROM ${JOBS} WHERE proc_name = '${REFRESH}' AND relation IN (${relations}) ` +
      `AND NOT config @> '${REFRESH_SETTINGS}' AND pg_has_role(owner, 'USAGE')`,
  );
  return rows.map(([jobId, name]) => {
    const rollUp = ROLL_UPS.find((rollUp) => rollUp.name === name)!;
    // Older releases started the refreshes of hours and of days at the same instants.
    return `${setChunkDays(rollUp)}; ${alterRefresh(jobId!, rollUp.isFromRecords ? 0 : 15)}`;
  });
}

function setChunkDays({ name, chunkDays }: RollUp): string {
  return `SELECT set_chunk_time_interval('${name}', INTERVAL '${chunkDays} days')`;
}

/** Sets {@linkcode REFRESH_SETTINGS} and moves the instants of a job by some minutes. */
function alterRefresh(jobId: string, minutes: number): string {
  return `SELECT alter_job(job_id, config => config || '${REFRESH_SETTINGS}', ` +
    `initial_start => initial_start + INTERVAL '${minutes} minutes') ` +
    `FROM timescaledb_information.jobs WHERE job_id = ${jobId}`;
}

/** Notes that records before a time have gone, or may have. */
async function raiseFloor(session: PostgresSession, name: DatasetName, since: string): Promise<void> {
  await session.query(
    `INSERT INTO roll_up_floors VALUES ('${name}', ${since}) ` +
      "ON CONFLICT (dataset) DO UPDATE SET since = greatest(roll_up_floors.since, excluded.since)",
  );
}

/** Has the server look back as far as all records are there, and no further. */
async function setWindow(session: PostgresSession, { name, dataset }: RollUp): Promise<void> {
  const policy = await readPolicy(session, REFRESH, name);
  if (!policy) return; // refreshed by other means
  const retention = await readPolicy(session, "policy_retention", dataset);
  const [[age] = [null]] = await session.query(
    `SELECT extract(epoch FROM now() - since)::double precision::text FROM roll_up_floors WHERE dataset = '${dataset}'`,
  );
  const ages = [retention && 24 * retention.days!, age === null ? undefined : Number(age) / 3_600]
    .filter((hours) => hours !== undefined);
  const least = Math.min(...ages);
  const hours = Math.max(MIN_WINDOW_HOURS, Math.floor(least));
  const offset = ages.length === 0 ? "null" : `"${hours} hours"`;
  // Delays the next refresh until the deleted records are older than its window.
  const wait = least < MIN_WINDOW_HOURS
    ? `, next_start => now() + INTERVAL '${Math.ceil((MIN_WINDOW_HOURS - least) * 60)} minutes'`
    : "";
  await session.query(
    `SELECT alter_job(job_id, config => jsonb_set(config, '{start_offset}', '${offset}')${wait}) ` +
      `FROM timescaledb_information.jobs WHERE job_id = ${policy.jobId}`,
  );
}
