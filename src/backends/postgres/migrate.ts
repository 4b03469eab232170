import { BackendError, type ErrorCode } from "../../errors.ts";
import type { OpenMode } from "../backend.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import { SCHEMA_VERSION, tablesOf, tablesQuery, upgradesFrom } from "./schema.ts";

/** The oldest server that has all that is used here. */
const OLDEST_SERVER = 13;

/** Partitioning of tables by time, the same for the whole database. */
export interface Partitioning {
  /** Relation kind in the catalog, partitioned or ordinary; `d` for partitioned tables that Citus distributes. */
  readonly relationKind: "p" | "r" | "d";
  /** The statements that lead from a version of the schema, 0 for an empty database, to that of this program. */
  upgradesFrom(version: number): string[];
  /** Brings tables that are divided in another way, and all that is in them, into this form. */
  adopt?(session: PostgresSession): Promise<void>;
  /** Handles tables with another partitioning. */
  readonly advice: string;
}

/** Tables in PostgreSQL's own partitions. */
export const PARTITIONED: Partitioning = {
  relationKind: "p",
  upgradesFrom: (version) => upgradesFrom(version, { partitioning: " PARTITION BY RANGE (timestamp)" }),
  advice: "Open hypertables with `--backend timescaledb`, distributed tables with `--backend citus`.",
};

/** The part of a schema that exists. */
interface Found {
  readonly version: number;
  /** The oldest schema version whose programs may write into it. */
  readonly writableFrom: number;
  readonly relationKind?: string | null;
  /** Tables that were dropped. */
  readonly dropped: readonly string[];
}

/**
 * Sees to the schema: makes it where it is missing and may be made. Returns its version, which is an older one only
 * where the database is only read.
 *
 * @throws {BackendError} If it is missing and may not be made, or is newer than this program.
 */
export async function migrate(
  pool: PostgresPool,
  mode: OpenMode,
  partitioning: Partitioning,
): Promise<number> {
  const found = await pool.useBriefly("open", async (session) => {
    const [[server]] = await session.query("SELECT current_setting('server_version_num')");
    pool.serverVersion = Math.floor(Number(server) / 10_000);
    if (pool.serverVersion < OLDEST_SERVER) {
      throw refuse(
        { pool, code: "SERVER_UNSUPPORTED" },
        `the server has version ${server}`,
        `Use PostgreSQL ${OLDEST_SERVER} or later.`,
      );
    }
    return await readSchema(pool, session);
  });
  if (isReady(pool, found, partitioning)) return SCHEMA_VERSION;
  // A schema of an older release lacks only additions.
  if (mode === "read" && found?.relationKind === partitioning.relationKind) return found.version;
  if (mode !== "create") throw notReadyError(pool, found, partitioning);
  await pool.transaction("open", async (session) => {
    // A second process waits here, and then finds all done.
    await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops schema', 0))");
    const found = await readSchema(pool, session);
    if (isReady(pool, found, partitioning)) return;
    if (!found) return await runAll(session, partitioning.upgradesFrom(0));
    if (found.version < SCHEMA_VERSION) {
      // Tables that are adopted below are divided as those that are there.
      const form = found.relationKind === "p" ? PARTITIONED : partitioning;
      await runAll(session, form.upgradesFrom(found.version));
    }
    if (found.relationKind === partitioning.relationKind) return;
    if (!partitioning.adopt) throw notReadyError(pool, found, partitioning);
    await partitioning.adopt(session);
  });
  return SCHEMA_VERSION;
}

/** Runs statements one by one: Citus refuses several of them in one string. */
async function runAll(session: PostgresSession, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await session.query(statement);
}

/** Creates the error for a schema that may not be created or migrated. */
function notReadyError(
  pool: PostgresPool,
  found: Found | undefined,
  { relationKind, advice }: Partitioning,
): BackendError {
  if (!found) {
    return refuse(
      { pool, code: "TABLES_MISSING" },
      "the database has no tables of openfinops",
      "Run `openfinops database init`.",
    );
  }
  if (found.relationKind !== relationKind) {
    return refuse({ pool, code: "TABLES_FOREIGN" }, "its tables are divided in another way", advice);
  }
  return refuse(
    { pool, code: "SCHEMA_TOO_OLD" },
    `its schema has version ${found.version}, and this release needs version ${SCHEMA_VERSION}`,
    "Run `openfinops database init`.",
  );
}

/** Reads the state of the schema; undefined in an empty database. */
async function readSchema(pool: PostgresPool, session: PostgresSession): Promise<Found | undefined> {
  const tables = async () =>
    new Map((await session.query(tablesQuery(tablesOf(SCHEMA_VERSION)))) as [string, string][]);
  if (!(await tables()).has("schema_version")) return undefined;
  // The column is not there in a schema of version 2 or older.
  const [found] = await session.query(
    "SELECT version::text, coalesce(to_jsonb(s) ->> 'writable_from', version::text) FROM schema_version AS s " +
      "ORDER BY version DESC LIMIT 1",
  );
  if (!found) {
    throw refuse(
      { pool, code: "TABLES_ALTERED" },
      "the table schema_version is empty",
      `Restore it from a backup, or insert the version that it had; that of this release is ${SCHEMA_VERSION}.`,
    );
  }
  const [version, writableFrom] = found.map(Number);
  // Read again: another process may be migrating the schema, and tables older than the version would seem dropped.
  const kinds = await tables();
  return {
    version,
    writableFrom,
    relationKind: await isDistributed(session) ? "d" : kinds.get("system_metrics"),
    dropped: tablesOf(version).filter((name) => !kinds.has(name)),
  };
}

/** True if Citus distributes the tables. */
async function isDistributed(session: PostgresSession): Promise<boolean> {
  const [[hasCitus]] = await session.query("SELECT to_regclass('pg_catalog.pg_dist_partition')::text");
  if (hasCitus === null) return false;
  const sql = "SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass('system_metrics')";
  return (await session.query(sql)).length > 0;
}

function isReady(pool: PostgresPool, found: Found | undefined, { relationKind }: Partitioning): boolean {
  if (found && found.writableFrom > SCHEMA_VERSION) {
    throw refuse(
      { pool, code: "SCHEMA_TOO_NEW" },
      `its schema has version ${found.version}, and this release knows version ${SCHEMA_VERSION}`,
      "Update openfinops. Nothing was changed.",
    );
  }
  if (found && found.dropped.length > 0) {
    throw refuse(
      { pool, code: "TABLES_MISSING" },
      `tables were dropped: ${found.dropped.join(", ")}`,
      "Restore a backup, or choose an empty database.",
    );
  }
  return found !== undefined && found.version >= SCHEMA_VERSION && found.relationKind === relationKind;
}

function refuse(
  { pool, code }: { pool: PostgresPool; code: ErrorCode },
  problem: string,
  remedy: string,
): BackendError {
  return new BackendError(`Cannot open ${pool.name}: ${problem}. ${remedy}`, {
    code,
    operation: "open",
    kind: "operator",
  });
}
