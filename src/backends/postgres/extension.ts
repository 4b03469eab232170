import { BackendError, type ErrorCode } from "../../errors.ts";
import type { OpenMode } from "../backend.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import { literal } from "./schema.ts";

/** An extension of the server that a backend needs. */
export interface NeededExtension {
  readonly name: string;
  /** The oldest release that has all that is used here. */
  readonly oldest: string;
  /** A setting that only servers have that load it. */
  readonly setting: string;
  /** The statement that creates it in a database. */
  readonly create: string;
  /** Sentences that tell the operator to install it, to load it, and to update it. */
  readonly advice: { readonly install: string; readonly load: string; readonly update: string };
}

/**
 * Requires an extension, and creates it in the mode `create`.
 *
 * @returns Its version.
 * @throws {BackendError} If it is missing and may not be created, is not loaded, or is too old.
 */
export async function requireExtension(
  pool: PostgresPool,
  mode: OpenMode,
  extension: NeededExtension,
): Promise<string> {
  const { name, oldest, create, advice } = extension;
  let version = await pool.useBriefly("open", (session) => versionOf(session, name));
  if (version === undefined && mode === "create") {
    version = await pool.transaction("open", async (session) => {
      const fault = await faultOf(session, extension);
      if (fault !== undefined) throw refuse(pool, "EXTENSION_MISSING", `${fault} ${INSTEAD}`);
      // Two sessions that create it at once would fail, in spite of IF NOT EXISTS.
      await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops extension', 0))");
      await session.query(create);
      return await versionOf(session, name);
    });
  }
  if (version === undefined) {
    const reason =
      `the database lacks the extension ${name}. Run \`openfinops database init\`, which creates it.`;
    throw refuse(pool, "EXTENSION_MISSING", reason);
  }
  if (version.localeCompare(oldest, "en", { numeric: true }) >= 0) return version;
  throw refuse(
    pool,
    "SERVER_UNSUPPORTED",
    `${name} ${version} is older than ${oldest}. ${advice.update} ${INSTEAD}`,
  );
}

async function versionOf(session: PostgresSession, name: string): Promise<string | undefined> {
  const [row] = await session.query(
    `SELECT extversion FROM pg_catalog.pg_extension WHERE extname = ${literal(name)}`,
  );
  return row?.[0] ?? undefined;
}

/** Returns the reason why the extension cannot be created; undefined if it can. */
async function faultOf(
  session: PostgresSession,
  { name, setting, advice }: NeededExtension,
): Promise<string | undefined> {
  const [[isInstalled, isLoaded]] = await session.query(
    `SELECT (SELECT count(*) FROM pg_catalog.pg_available_extensions WHERE name = ${literal(name)})::text, ` +
      `current_setting(${literal(setting)}, true)`,
  );
  if (isInstalled === "0") return `the server lacks the extension ${name}. ${advice.install}`;
  return isLoaded === null ? `the server does not load ${name}. ${advice.load}` : undefined;
}

/** Advice for a server without such an extension. */
const INSTEAD = "The backend postgresql (postgresql://…) works on this server as it is.";

/** Creates the error of a server that lacks something. The reason ends with what to do. */
export function refuse(pool: PostgresPool, code: ErrorCode, reason: string): BackendError {
  return new BackendError(
    `Cannot open ${pool.name}: ${reason}`,
    { code, operation: "open", kind: "operator" },
  );
}
