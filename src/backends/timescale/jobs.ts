import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { isAbout } from "./chunks.ts";

/** A job of the server's own, as it has it. */
export interface Policy {
  readonly jobId: string;
  /** The age at which records are dropped or compressed. */
  readonly days?: number;
  /** How far back a refresh looks, as an interval; all the way where it is not there. */
  readonly startOffset?: string;
}

/** The job of a kind that is about a hypertable or roll-up, if there is one. */
export async function readPolicy(
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

/** Runs something in a transaction while no other process of ours changes jobs. */
export function alone(
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
