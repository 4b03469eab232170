import { BackendError } from "../../errors.ts";
import type { OpenMode } from "../backend.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import { createSchema, SCHEMA_VERSION, tableQuery } from "./schema.ts";

/** The oldest server that has all that is used here. */
const OLDEST_SERVER = 13;

/**
 * Sees to the schema: makes it where it is missing and may be made.
 *
 * @throws {BackendError} If it is missing and may not be made, or is newer than this program.
 */
export async function migrate(pool: PostgresPool, mode: OpenMode): Promise<void> {
  const version = await pool.use("open", async (session) => {
    const [[server]] = await session.query("SELECT current_setting('server_version_num')");
    if (Number(server) < OLDEST_SERVER * 10_000) {
      throw refuse(pool, `a server of PostgreSQL ${OLDEST_SERVER} or later is wanted`, `it has ${server}`);
    }
    return await readVersion(session);
  });
  if (version !== undefined) return assertNotNewer(pool, version);
  if (mode !== "create") {
    throw refuse(
      pool,
      "a database of openfinops is wanted (`database init` makes its tables)",
      "it has none",
    );
  }
  await pool.transaction("open", async (session) => {
    // Whoever comes second waits here, and then finds all done.
    await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops schema', 0))");
    const version = await readVersion(session);
    if (version !== undefined) return assertNotNewer(pool, version);
    await session.query(createSchema().join("; "));
  });
}

/** The version of the schema, or undefined where there is none. */
async function readVersion(session: PostgresSession): Promise<number | undefined> {
  const tables = await session.query(tableQuery("schema_version"));
  if (tables.length === 0) return undefined;
  const [[version]] = await session.query("SELECT max(version)::text FROM schema_version");
  return Number(version);
}

function assertNotNewer(pool: PostgresPool, version: number): void {
  if (version <= SCHEMA_VERSION) return;
  throw refuse(
    pool,
    `schema version ${SCHEMA_VERSION} or older is wanted (a newer release of openfinops reads it)`,
    `it has version ${version}; nothing was changed`,
  );
}

function refuse(pool: PostgresPool, wanted: string, state: string): BackendError {
  return new BackendError(`Cannot open ${pool.name}: ${wanted}: ${state}`, {
    operation: "open",
    kind: "operator",
  });
}
