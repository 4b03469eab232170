import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { relation } from "./chunks.ts";

/** A job of the server's own, as it has it. */
export interface Policy {
  readonly jobId: string;
  /** The age at which records are dropped or compressed. */
  readonly days?: number;
  /** Range of a refresh back in time, as an interval; unlimited if absent. */
  readonly startOffset?: string;
}

/**
 * The server's jobs, each with the table or view that it is about. Older releases (2.18, not 2.25) name the
 * table behind a continuous aggregate in place of the view.
 */
export const JOBS = `(SELECT j.*, coalesce(view_name, hypertable_name) AS subject,
    coalesce(${relation("view")}, ${relation("j.hypertable")}) AS relation
  FROM timescaledb_information.jobs j LEFT JOIN
    (SELECT view_schema, view_name, materialization_hypertable_schema, materialization_hypertable_name
      FROM timescaledb_information.continuous_aggregates) c
    ON ${relation("j.hypertable")} IN (${relation("view")}, ${relation("materialization_hypertable")})
  WHERE proc_schema = '_timescaledb_functions') AS jobs`;

/** The job of a kind that is about a hypertable or roll-up, if there is one. */
export async function readPolicy(
  session: PostgresSession,
  proc: string,
  table: string,
): Promise<Policy | undefined> {
  const [row] = await session.query(
    `SELECT job_id::text, (extract(epoch FROM coalesce(config->>'drop_after', config->>'compress_after')::interval)
      / 86400)::double precision::text, config->>'start_offset' FROM ${JOBS}
    WHERE proc_name = '${proc}' AND relation = to_regclass('${table}')`,
  );
  if (!row) return undefined;
  const [jobId, days, startOffset] = row;
  return {
    jobId: jobId!,
    ...(days === null ? {} : { days: Number(days) }),
    startOffset: startOffset ?? undefined,
  };
}

/** Runs something in a transaction while no other process of ours changes jobs. */
export function withJobLock(
  pool: PostgresPool,
  operation: string,
  run: (session: PostgresSession) => Promise<void>,
): Promise<void> {
  return pool.transaction(operation, async (session) => {
    await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops policies', 0))");
    await run(session);
  });
}

/** Days as an interval; parts of days as seconds. */
export function daysInterval(days: number): string {
  return Number.isInteger(days) ? `INTERVAL '${days} days'` : `make_interval(secs => ${days * 86_400})`;
}
