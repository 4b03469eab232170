import { BackendError, type ErrorCode } from "../../errors.ts";
import type { OpenMode } from "../backend.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import { createSchema, SCHEMA_VERSION, tablesOf, tablesQuery, upgradesFrom } from "./schema.ts";

/** The oldest server that has all that is used here. */
const OLDEST_SERVER = 13;

/** How tables are divided by time, which is a choice for the whole database. */
export interface Division {
  /** What the catalog calls a table of this kind: partitioned, or ordinary. */
  readonly relationKind: "p" | "r";
  /** The statements that make the tables. */
  createSchema(): string[];
  /** Brings tables that are divided in another way, and all that is in them, into this form. */
  adopt?(session: PostgresSession): Promise<void>;
  /** What to do about tables that are divided in another way. */
  readonly advice: string;
}

/** Tables in PostgreSQL's own partitions. */
export const PARTITIONED: Division = {
  relationKind: "p",
  createSchema: () => createSchema({ division: " PARTITION BY RANGE (timestamp)" }),
  advice: "tables in partitions are wanted (`--backend timescaledb` reads hypertables)",
};

/** What of a schema is there. */
interface Found {
  readonly version: number;
  readonly relationKind?: string | null;
  /** Tables that somebody dropped. */
  readonly dropped: readonly string[];
}

/**
 * Sees to the schema: makes it where it is missing and may be made. Returns its version, which is an older one only
 * where the database is only read.
 *
 * @throws {BackendError} If it is missing and may not be made, or is newer than this program.
 */
export async function migrate(pool: PostgresPool, mode: OpenMode, division: Division): Promise<number> {
  const found = await pool.look("open", async (session) => {
    const [[server]] = await session.query("SELECT current_setting('server_version_num')");
    if (Number(server) < OLDEST_SERVER * 10_000) {
      throw refuse(
        { pool, code: "SERVER_UNSUPPORTED" },
        `a server of PostgreSQL ${OLDEST_SERVER} or later is wanted`,
        `it has ${server}`,
      );
    }
    return await readSchema(session);
  });
  if (isReady(pool, found, division)) return SCHEMA_VERSION;
  // What an older release has made lacks only what is new.
  if (mode === "read" && found?.relationKind === division.relationKind) return found.version;
  if (mode !== "create") throw unready(pool, found, division);
  await pool.transaction("open", async (session) => {
    // Whoever comes second waits here, and then finds all done.
    await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops schema', 0))");
    const found = await readSchema(session);
    if (isReady(pool, found, division)) return;
    if (!found) return void await session.query(division.createSchema().join("; "));
    if (found.version < SCHEMA_VERSION) await session.query(upgradesFrom(found.version).join("; "));
    if (found.relationKind === division.relationKind) return;
    if (!division.adopt) throw unready(pool, found, division);
    await division.adopt(session);
  });
  return SCHEMA_VERSION;
}

/** What is to be said of a schema that may not be made or brought up to date. */
function unready(
  pool: PostgresPool,
  found: Found | undefined,
  { relationKind, advice }: Division,
): BackendError {
  if (!found) {
    return refuse(
      { pool, code: "TABLES_MISSING" },
      "a database of openfinops is wanted (`database init` makes its tables)",
      "it has none",
    );
  }
  if (found.relationKind !== relationKind) {
    return refuse({ pool, code: "TABLES_FOREIGN" }, advice, "it has others");
  }
  return refuse(
    { pool, code: "SCHEMA_TOO_OLD" },
    `schema version ${SCHEMA_VERSION} is wanted (\`database init\` brings it there)`,
    `it has version ${found.version}`,
  );
}

/** What there is of the schema, if anything. */
async function readSchema(session: PostgresSession): Promise<Found | undefined> {
  const tables = async () =>
    new Map((await session.query(tablesQuery(tablesOf(SCHEMA_VERSION)))) as [string, string][]);
  if (!(await tables()).has("schema_version")) return undefined;
  const [[version]] = await session.query("SELECT max(version)::text FROM schema_version");
  // Once more: somebody may bring the schema up to date just now, and tables older than the version seem dropped.
  const kinds = await tables();
  return {
    version: Number(version),
    relationKind: kinds.get("system_metrics"),
    dropped: tablesOf(Number(version)).filter((name) => !kinds.has(name)),
  };
}

function isReady(pool: PostgresPool, found: Found | undefined, { relationKind }: Division): boolean {
  if (found && found.version > SCHEMA_VERSION) {
    throw refuse(
      { pool, code: "SCHEMA_TOO_NEW" },
      `schema version ${SCHEMA_VERSION} or older is wanted (a newer release of openfinops reads it)`,
      `it has version ${found.version}; nothing was changed`,
    );
  }
  if (found && found.dropped.length > 0) {
    throw refuse(
      { pool, code: "TABLES_MISSING" },
      "all tables of openfinops are wanted; restore a backup, or begin anew in an empty database",
      `somebody dropped ${found.dropped.join(", ")}`,
    );
  }
  return found?.version === SCHEMA_VERSION && found.relationKind === relationKind;
}

function refuse(
  { pool, code }: { pool: PostgresPool; code: ErrorCode },
  wanted: string,
  state: string,
): BackendError {
  return new BackendError(`Cannot open ${pool.name}: ${wanted}: ${state}`, {
    code: code,
    operation: "open",
    kind: "operator",
  });
}
