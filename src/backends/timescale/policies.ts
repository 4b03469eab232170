import { retryBriefly } from "../../pipeline/retry.ts";
import type { Dataset, DatasetName } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import type { PolicyStats } from "../backend.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { columnNames, literal } from "../postgres/schema.ts";
import { isAbout } from "./chunks.ts";
import { ROLL_UPS, type RollUp } from "./roll_ups.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** The least that a refresh looks back: two spans of an hour, after the hour that is not over. */
const MIN_WINDOW_MS = 3 * HOUR_MS;

const DEFAULT_COMPRESS_AFTER_DAYS = 7;

/** What of the server's own work is to be as the configuration says. What is not given stays as it is. */
export interface PolicySettings {
  /** Days after which records are dropped; Infinity for never. */
  readonly retentionDays?: number;
  /** Whether chunks are compressed. */
  readonly enableCompression?: boolean;
  /** The age at which chunks are compressed, in days. */
  readonly compressAfterDays?: number;
  /** The days of records in one chunk, by dataset. */
  readonly chunkDays?: Readonly<Partial<Record<DatasetName, number>>>;
}

/** The work that the server does by itself: roll-ups, compression, retention. */
export class Policies {
  readonly #pool: PostgresPool;

  constructor(pool: PostgresPool) {
    this.#pool = pool;
  }

  /** Brings the server's work in line with the settings; touches nothing where it is. */
  async apply(settings: PolicySettings): Promise<void> {
    if ((await this.#missing(settings)).length > 0) {
      await this.#alone("open", async (session) => {
        for (const statement of await missingStatements(session, settings)) await session.query(statement);
      });
    }
    const { retentionDays } = settings;
    if (retentionDays === undefined) return;
    for (const dataset of Object.values(DATASETS)) await this.#setRetention(dataset, retentionDays);
  }

  /**
   * Gets ready for the records before a time to go: the roll-ups take them in, and refresh none of that time again,
   * which would erase it from them.
   */
  async beforeDeletion({ name }: Dataset<unknown>, before: number): Promise<void> {
    for (const rollUp of ROLL_UPS.filter(({ dataset }) => dataset === name)) {
      await this.#refresh(rollUp, before);
    }
    await this.#alone("delete", (session) => narrowRefresh(session, name, Date.now() - before));
  }

  /** What the server does by itself, and when it did so last. */
  async stats(session: PostgresSession): Promise<PolicyStats[]> {
    const epochMs = (time: string) => `(extract(epoch FROM ${time}) * 1000)::bigint::text`;
    const isOurs = [...Object.keys(DATASETS), ...ROLL_UPS.map(({ name }) => name)].map(isAbout).join(" OR ");
    const rows = await session.query(
      `SELECT replace(proc_name, 'policy_', ''), j.hypertable_name, schedule_interval::text, (config - 'hypertable_id' - 'mat_hypertable_id')::text,
        CASE WHEN isfinite(last_run_started_at) THEN ${
        epochMs("last_run_started_at")
      } END, last_run_status, total_failures::text
      FROM (SELECT * FROM timescaledb_information.jobs WHERE ${isOurs}) j
      LEFT JOIN timescaledb_information.job_stats USING (job_id)
      WHERE proc_schema = '_timescaledb_functions' ORDER BY 1, 2`,
    );
    return rows.map(([policy, table, every, settings, lastRun, lastStatus, failures]) => ({
      policy: policy!,
      table: table!,
      every: every!,
      settings: settings!,
      ...(lastRun === null ? {} : { lastRun: Number(lastRun), lastStatus: lastStatus! }),
      failures: Number(failures ?? 0),
    }));
  }

  #missing(settings: PolicySettings): Promise<string[]> {
    return this.#pool.use("open", (session) => missingStatements(session, settings));
  }

  async #setRetention(dataset: Dataset<unknown>, days: number): Promise<void> {
    const { name } = dataset;
    const isSet = async (session: PostgresSession) =>
      ((await readPolicy(session, "policy_retention", name))?.days ?? Infinity) === days;
    if (await this.#pool.use("open", isSet)) return;
    if (days < Infinity) await this.beforeDeletion(dataset, Date.now() - days * DAY_MS);
    const set = days < Infinity ? `; SELECT add_retention_policy('${name}', INTERVAL '${days} days')` : "";
    await this.#alone("open", async (session) => {
      if (await isSet(session)) return; // another process was faster
      await session.query(`SELECT remove_retention_policy('${name}', if_exists => true)${set}`);
    });
  }

  /** Runs something in a transaction while no other process of ours changes policies. */
  #alone(operation: string, run: (session: PostgresSession) => Promise<void>): Promise<void> {
    return this.#pool.transaction(operation, async (session) => {
      await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops policies', 0))");
      await run(session);
    });
  }

  /** Brings a roll-up up to date as far as a time, in all that it still looks at. */
  async #refresh({ name, bucket }: RollUp, until: number): Promise<void> {
    await retryBriefly(() =>
      this.#pool.use("refresh", async (session) => {
        const policy = await readPolicy(session, "policy_refresh_continuous_aggregate", name);
        const start = policy?.startOffset
          ? `(now() - INTERVAL '${policy.startOffset}')`
          : "NULL::timestamptz";
        // Up to the end of the span in which the time lies, but no span that is not over yet.
        const end =
          `least(time_bucket(INTERVAL '${bucket}', to_timestamp(${until / 1_000})) + INTERVAL '${bucket}', ` +
          `time_bucket(INTERVAL '${bucket}', now()))`;
        const [[from, to, isLongEnough]] = await session.query(
          `SELECT ${start}::text, ${end}::text, (${start} IS NULL OR ${end} - ${start} > 2 * INTERVAL '${bucket}')::text`,
        );
        if (isLongEnough !== "true") return;
        const range = [from, to].map((time) => time === null ? "NULL" : `'${time}'::timestamptz`).join(", ");
        await session.query(`CALL refresh_continuous_aggregate('${name}', ${range})`);
      })
    );
  }
}

/** A policy as the server has it. */
interface Policy {
  readonly jobId: string;
  /** The age at which records are dropped or compressed. */
  readonly days?: number;
  /** How far back a refresh looks, as an interval; all the way where it is not there. */
  readonly startOffset?: string;
}

async function readPolicy(
  session: PostgresSession,
  proc: string,
  table: string,
): Promise<Policy | undefined> {
  const [row] = await session.query(
    `SELECT job_id::text, (extract(epoch FROM coalesce(config->>'drop_after', config->>'compress_after')::interval)
      / 86400)::double precision::text, config->>'start_offset' FROM timescaledb_information.jobs
    WHERE proc_name = '${proc}' AND ${isAbout(table)}`,
  );
  if (!row) return undefined;
  const [jobId, days, startOffset] = row;
  return {
    jobId: jobId!,
    ...(days === null ? {} : { days: Number(days) }),
    startOffset: startOffset ?? undefined,
  };
}

/** What has to be said to the server for it to be as the settings want, retention apart. */
async function missingStatements(session: PostgresSession, settings: PolicySettings): Promise<string[]> {
  const statements = await missingRollUps(session);
  for (const dataset of Object.values(DATASETS)) {
    statements.push(...await missingChunkInterval(session, dataset, settings));
    if (settings.enableCompression) statements.push(...await missingCompression(session, dataset, settings));
  }
  return statements;
}

async function missingRollUps(session: PostgresSession): Promise<string[]> {
  const names = ROLL_UPS.map(({ name }) => literal(name)).join(", ");
  const rows = await session.query(
    `SELECT relname::text FROM pg_catalog.pg_class WHERE relname IN (${names}) AND pg_table_is_visible(oid)`,
  );
  const present = new Set(rows.map(([name]) => name));
  return ROLL_UPS.filter(({ name }) => !present.has(name))
    .flatMap((rollUp) => [rollUp.create, refreshStatement(rollUp)]);
}

/** The statement that has the server refresh a roll-up, but nothing of what retention may have dropped. */
function refreshStatement({ name, dataset, bucket, refreshEvery, isFromRecords }: RollUp): string {
  const dropAfter = "SELECT (config->>'drop_after')::interval FROM timescaledb_information.jobs " +
    `WHERE proc_name = 'policy_retention' AND ${isAbout(dataset)}`;
  return `SELECT add_continuous_aggregate_policy('${name}', start_offset => ${
    isFromRecords ? `(${dropAfter})` : "NULL"
  }, end_offset => INTERVAL '${bucket}', schedule_interval => INTERVAL '${refreshEvery}')`;
}

async function missingChunkInterval(
  session: PostgresSession,
  { name }: Dataset<unknown>,
  { chunkDays = {} }: PolicySettings,
): Promise<string[]> {
  const days = chunkDays[name];
  if (days === undefined) return [];
  const [[current]] = await session.query(
    `SELECT (extract(epoch FROM time_interval) / 86400)::double precision::text ` +
      `FROM timescaledb_information.dimensions WHERE ${isAbout(name)}`,
  );
  return Number(current) === days
    ? []
    : [`SELECT set_chunk_time_interval('${name}', INTERVAL '${days} days')`];
}

async function missingCompression(
  session: PostgresSession,
  dataset: Dataset<unknown>,
  { compressAfterDays }: PolicySettings,
): Promise<string[]> {
  const { name, sortBy } = dataset;
  const statements: string[] = [];
  const [[isEnabled]] = await session.query(
    `SELECT compression_enabled::text FROM timescaledb_information.hypertables WHERE ${isAbout(name)}`,
  );
  if (isEnabled !== "true") {
    // Not segmented: a small cluster would make segments of a few records, each with costs of its own. What is
    // sorted by the fields that queries filter by is found by the least and greatest of each thousand records.
    statements.push(
      `ALTER TABLE ${name} SET (timescaledb.enable_columnstore, timescaledb.segmentby = '', ` +
        `timescaledb.orderby = '${columnNames(dataset, sortBy)}')`,
    );
  }
  const current = await readPolicy(session, "policy_compression", name);
  const days = compressAfterDays ?? current?.days ?? DEFAULT_COMPRESS_AFTER_DAYS;
  if (current?.days !== days) {
    if (current) statements.push(`CALL remove_columnstore_policy('${name}')`);
    statements.push(`CALL add_columnstore_policy('${name}', after => INTERVAL '${days} days')`);
  }
  return statements;
}

/** Has the server refresh the hours of a dataset no further back than some milliseconds. */
async function narrowRefresh(session: PostgresSession, table: DatasetName, ageMs: number): Promise<void> {
  const { name } = ROLL_UPS.find(({ dataset, isFromRecords }) => dataset === table && isFromRecords)!;
  const policy = await readPolicy(session, "policy_refresh_continuous_aggregate", name);
  if (!policy) return; // somebody refreshes it by other means
  const hours = Math.floor(Math.max(ageMs, MIN_WINDOW_MS) / HOUR_MS);
  const isWider = policy.startOffset === undefined
    ? "true"
    : `INTERVAL '${policy.startOffset}' > INTERVAL '${hours} hours'`;
  // What is younger than the window leaves it in time, before the next refresh.
  const nextStart = ageMs < MIN_WINDOW_MS ? `, next_start => now() + INTERVAL '${hours + 1} hours'` : "";
  await session.query(
    `SELECT alter_job(job_id, config => CASE WHEN ${isWider} ` +
      `THEN config || '{"start_offset": "${hours} hours"}' ELSE config END${nextStart}) ` +
      `FROM timescaledb_information.jobs WHERE job_id = ${policy.jobId}`,
  );
}
