import { DAY_MS } from "../../records/calendar.ts";
import type { Dataset, DatasetName } from "../../records/dataset.ts";
import { DATASETS, daysByDataset, DELETED_BY_DEFAULT, type RetentionDays } from "../../records/datasets.ts";
import type { PolicyStats } from "../backend.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { columnNames, epochMs } from "../postgres/schema.ts";
import { hypertableCondition } from "./chunks.ts";
import { daysInterval, JOBS, readPolicy, withJobLock } from "./jobs.ts";
import { ROLL_UPS, type RollUps } from "./roll_ups.ts";

const DEFAULT_COMPRESS_AFTER_DAYS = 7;
/** The server shows error messages to members of the owner of a job only. */
const NO_MESSAGE = "the owner of the job can read the message in timescaledb_information.job_errors";

/** Policies to set on the server. Absent ones stay as they are. */
export interface PolicySettings {
  /** Days after which records are dropped, by dataset or one number; Infinity for never. */
  readonly retentionDays?: RetentionDays;
  /** The datasets whose records it drops. Without it, one number is for metrics only. */
  readonly retentionOf?: readonly DatasetName[];
  /** True to compress chunks. */
  readonly enableCompression?: boolean;
  /** The age at which chunks are compressed, in days. */
  readonly compressAfterDays?: number;
  /** The days of records in one chunk, by dataset. */
  readonly chunkDays?: Readonly<Partial<Record<DatasetName, number>>>;
}

/** The retention of each dataset whose policy the settings change, in days. */
export function retentionOf({ retentionDays = {}, retentionOf }: PolicySettings): Record<string, number> {
  const isOne = typeof retentionDays === "number";
  return daysByDataset(retentionDays, retentionOf ?? (isOne ? DELETED_BY_DEFAULT : undefined));
}

/** Background jobs of the server on chunks: compression and retention. */
export class Policies {
  readonly #pool: PostgresPool;
  readonly #rollUps: RollUps;

  constructor(pool: PostgresPool, rollUps: RollUps) {
    this.#pool = pool;
    this.#rollUps = rollUps;
  }

  /** Brings the server's work in line with the settings; touches nothing where it is. */
  async apply(settings: PolicySettings): Promise<void> {
    const find = (session: PostgresSession) => missingStatements(session, settings);
    if ((await this.#pool.useBriefly("open", find)).length > 0) {
      await withJobLock(this.#pool, "open", async (session) => {
        for (const statement of await find(session)) await session.query(statement);
      });
    }
    for (const [name, days] of Object.entries(retentionOf(settings))) {
      await this.#setRetention(DATASETS[name as DatasetName], days);
    }
  }

  /** Lists the background jobs with the result of their last run. */
  async stats(session: PostgresSession): Promise<PolicyStats[]> {
    const names = [...Object.keys(DATASETS), ...ROLL_UPS.map(({ name }) => name)];
    const rows = await session.query(
      `SELECT replace(proc_name, 'policy_', ''), subject, schedule_interval::text,
        (config - 'hypertable_id' - 'mat_hypertable_id')::text,
        CASE WHEN isfinite(last_run_started_at) THEN ${epochMs("last_run_started_at")} END,
        last_run_status, total_failures::text, err_message
      FROM ${JOBS} LEFT JOIN (SELECT job_id, last_run_started_at, last_run_status, total_failures
        FROM timescaledb_information.job_stats) stats USING (job_id)
        LEFT JOIN LATERAL (SELECT err_message FROM timescaledb_information.job_errors e WHERE e.job_id = jobs.job_id
          ORDER BY start_time DESC LIMIT 1) errors ON last_run_status = 'Failed'
      WHERE relation IN (${names.map((name) => `to_regclass('${name}')`).join(", ")}) ORDER BY 1, 2`,
    );
    return rows.map(([policy, table, every, settings, lastRun, lastStatus, failures, lastError]) => ({
      policy: policy!,
      table: table!,
      every: every!,
      settings: settings!,
      ...(lastRun === null ? {} : { lastRun: Number(lastRun), lastStatus: lastStatus ?? "Running" }),
      failures: Number(failures ?? 0),
      ...(lastStatus === "Failed" ? { lastError: lastError ?? NO_MESSAGE } : {}),
    }));
  }

  async #setRetention(dataset: Dataset<unknown>, days: number): Promise<void> {
    const { name } = dataset;
    const read = (session: PostgresSession) => readPolicy(session, "policy_retention", name);
    if (((await this.#pool.useBriefly("open", read))?.days ?? Infinity) === days) return;
    if (days < Infinity) await this.#rollUps.keep(dataset, Date.now() - days * DAY_MS);
    await withJobLock(this.#pool, "open", async (session) => {
      const current = await read(session);
      if ((current?.days ?? Infinity) === days) return; // another process was faster
      if (current) await session.query(`SELECT remove_retention_policy('${name}')`);
      if (days < Infinity) {
        await session.query(`SELECT add_retention_policy('${name}', ${daysInterval(days)})`);
      }
      await this.#rollUps.followRetention(session, name, current?.days);
    });
  }
}

/** Describes the jobs that failed at their last run: a sentence for each error message. */
export function failedJobs(policies: readonly PolicyStats[]): string[] {
  const byError = Map.groupBy(policies, ({ lastError }) => lastError);
  byError.delete(undefined);
  return [...byError].map(([error, jobs]) =>
    `the last run of ${jobs.length} of ${policies.length} background jobs of TimescaleDB failed ` +
    `(\`database stats\` lists them): ${error}`
  );
}

/** Statements that bring the server to the settings, except retention. */
async function missingStatements(session: PostgresSession, settings: PolicySettings): Promise<string[]> {
  const statements: string[] = [];
  for (const dataset of Object.values(DATASETS)) {
    statements.push(...await missingChunkInterval(session, dataset, settings));
    if (settings.enableCompression) statements.push(...await missingCompression(session, dataset, settings));
  }
  return statements;
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
      `FROM timescaledb_information.dimensions WHERE ${hypertableCondition(name)}`,
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
    `SELECT compression_enabled::text FROM timescaledb_information.hypertables WHERE ${
      hypertableCondition(name)
    }`,
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
    statements.push(`CALL add_columnstore_policy('${name}', after => ${daysInterval(days)})`);
  }
  return statements;
}
