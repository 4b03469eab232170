import { BackendError, type ErrorCode } from "../../errors.ts";
import type { Dataset } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import type { OpenMode } from "../backend.ts";
import type { Partitioning } from "../postgres/migrate.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { columnList, createIndexes, createTable, literal, upgradesFrom } from "../postgres/schema.ts";

/** The oldest release that has all that is used here: the columnstore under its present name. */
const OLDEST_EXTENSION = "2.18";

/**
 * A type of its own for measures. The columnstore keeps the bits of a `double precision` (5 bytes a value that has
 * one decimal and some noise), but of every other type a dictionary of the values that occur (1 to 3 bytes): with it
 * system metrics take a third of the disk. Queries see `double precision` all the same.
 */
const MEASURE = "openfinops_measure";
const CREATE_MEASURE = `DO $$ BEGIN IF to_regtype('${MEASURE}') IS NULL THEN
  CREATE DOMAIN ${MEASURE} AS double precision;
END IF; END $$`;

/**
 * Fails between `timescaledb_pre_restore()` and `timescaledb_post_restore()`. Until then hypertables look empty, and what
 * is written into them is out of sight afterwards. The SQLSTATE is that of a server that starts, so that the session is
 * discarded and the batch is retried.
 */
export const REFUSE_WHILE_RESTORING =
  `DO $$ BEGIN IF current_setting('timescaledb.restoring', true) = 'on' THEN
  RAISE 'the database is being restored: run SELECT timescaledb_post_restore()' USING ERRCODE = '57P03';
END IF; END $$; `;

/** The extension as a server has it. */
export interface Extension {
  /** The version, as in `2.25.2`. */
  readonly version: string;
  /** True if it has the columnstore, policies and continuous aggregates, which the Apache edition lacks. */
  readonly isComplete: boolean;
  /** License: `timescale` or `apache`. */
  readonly license: string;
  /** The schema of its functions, where the search_path leaves it out. */
  readonly missingSchema?: string;
  /** True if COPY can write compressed chunks directly. */
  readonly copiesIntoColumns: boolean;
}

/** Hypertables in place of partitioned tables. */
export const HYPERTABLES: Partitioning = {
  relationKind: "r",
  upgradesFrom: (version) => [
    CREATE_MEASURE,
    ...upgradesFrom(version, { measure: MEASURE, afterTable: (dataset) => [makeHypertable(dataset)] }),
  ],
  adopt: convertTables,
  advice:
    "Convert tables in partitions into hypertables with `openfinops database init --backend timescaledb`.",
};

function makeHypertable({ name, chunkDays }: Dataset<unknown>): string {
  const dimension = `by_range('timestamp', INTERVAL '${chunkDays} days')`;
  return `SELECT create_hypertable(${literal(name)}, ${dimension}, create_default_indexes => false)`;
}

/** Moves what tables in partitions hold into hypertables of the same names. */
async function convertTables(session: PostgresSession): Promise<void> {
  const foreign = await Promise.all(Object.values(DATASETS).map((dataset) => foreignTo(session, dataset)));
  if (foreign.flat().length > 0) {
    throw new BackendError(
      `Cannot convert the tables to hypertables: ${foreign.flat().join(", ")} would be lost. ` +
        "Remove it and add it again afterwards.",
      { code: "EXTENSION_CONFLICT", operation: "open", kind: "operator" },
    );
  }
  await session.query(CREATE_MEASURE);
  for (const dataset of Object.values(DATASETS)) {
    const { name } = dataset;
    const columns = columnList(dataset);
    // The new table gets the owner and the grants of the old one.
    await session.query(
      `LOCK TABLE ${name} IN ACCESS EXCLUSIVE MODE; ALTER TABLE ${name} RENAME TO ${name}_in_partitions; ` +
        `${createTable(dataset, { measure: MEASURE })}; ${makeHypertable(dataset)}`,
    );
    await session.query(
      `INSERT INTO ${name} (${columns}) SELECT ${columns} FROM ${name}_in_partitions; ` +
        `${createIndexes(dataset).join("; ")}; ${copyGrants(name)}; DROP TABLE ${name}_in_partitions`,
    );
  }
}

/** Additions by users to a table that a new table would not have. */
async function foreignTo(session: PostgresSession, { name, columns }: Dataset<unknown>): Promise<string[]> {
  const ours = columns.map(({ name }) => literal(name)).join(", ");
  const rows = await session.query(
    `SELECT 'the column ' || attname FROM pg_catalog.pg_attribute
      WHERE attrelid = '${name}'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN (${ours})
    UNION ALL SELECT 'a grant on the column ' || attname FROM pg_catalog.pg_attribute
      WHERE attrelid = '${name}'::regclass AND attacl IS NOT NULL
    UNION ALL SELECT 'row security' FROM pg_catalog.pg_class WHERE oid = '${name}'::regclass AND relrowsecurity
    UNION ALL SELECT 'the trigger ' || tgname FROM pg_catalog.pg_trigger
      WHERE tgrelid = '${name}'::regclass AND NOT tgisinternal
    UNION ALL SELECT 'the constraint ' || conname FROM pg_catalog.pg_constraint
      WHERE conrelid = '${name}'::regclass AND contype NOT IN ('u', 'n')`,
  );
  return rows.map(([what]) => `${what} of ${name}`);
}

/** A statement that gives a table the owner and the grants of the one that it takes the place of. */
function copyGrants(table: string): string {
  return `DO $$ DECLARE granted record; BEGIN
    EXECUTE (SELECT format('ALTER TABLE ${table} OWNER TO %I', pg_get_userbyid(relowner))
      FROM pg_catalog.pg_class WHERE oid = '${table}_in_partitions'::regclass);
    FOR granted IN SELECT privilege_type, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS more, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee
      FROM pg_catalog.pg_class, aclexplode(relacl)
      WHERE oid = '${table}_in_partitions'::regclass AND grantee <> relowner LOOP
      EXECUTE format('GRANT %s ON ${table} TO %s%s', granted.privilege_type, granted.grantee, granted.more);
    END LOOP;
  END $$`;
}

/**
 * Requires the extension, and creates it in the mode `create`.
 *
 * @throws {BackendError} If it is missing and may not be created, is not loaded, or is too old.
 */
export async function requireExtension(pool: PostgresPool, mode: OpenMode): Promise<Extension> {
  let found = await pool.useBriefly("open", readExtension);
  if (found === undefined && mode === "create") {
    await pool.transaction("open", (session) => createExtension(pool, session));
    found = await pool.useBriefly("open", readExtension); // a session that made it may still have the loader's answers
  }
  if (found === undefined) {
    throw refuse(
      { pool, code: "EXTENSION_MISSING" },
      "the database lacks the extension timescaledb. Run `openfinops database init`, which creates it.",
    );
  }
  if (found.version.localeCompare(OLDEST_EXTENSION, "en", { numeric: true }) < 0) {
    throw refuse(
      { pool, code: "SERVER_UNSUPPORTED" },
      `TimescaleDB ${found.version} is older than ${OLDEST_EXTENSION}. Run ALTER EXTENSION timescaledb UPDATE.`,
    );
  }
  if (found.missingSchema !== undefined) {
    const { missingSchema } = found;
    throw refuse(
      { pool, code: "EXTENSION_CONFLICT" },
      `the search_path lacks ${missingSchema}, the schema of the extension timescaledb. Add it, as in ` +
        `options=-c search_path=telemetry,${missingSchema}.`,
    );
  }
  return found;
}

async function readExtension(session: PostgresSession): Promise<Extension | undefined> {
  await session.query(REFUSE_WHILE_RESTORING);
  const [row] = await session.query(
    "SELECT extversion, extnamespace::regnamespace::text, " +
      "(extnamespace::regnamespace::name = ANY(current_schemas(true)))::text, coalesce(current_setting('timescaledb.license', true), 'apache'), " +
      "current_setting('timescaledb.enable_direct_compress_copy', true) " +
      "FROM pg_catalog.pg_extension WHERE extname = 'timescaledb'",
  );
  if (!row) return undefined;
  const [version, schema, isFound, license, directCopy] = row;
  return {
    version: version!,
    ...(isFound === "true" ? {} : { missingSchema: schema! }),
    license: license!,
    isComplete: license === "timescale",
    copiesIntoColumns: directCopy !== null,
  };
}

async function createExtension(pool: PostgresPool, session: PostgresSession): Promise<void> {
  const [[isInstalled, isLoaded]] = await session.query(
    "SELECT (SELECT count(*) FROM pg_catalog.pg_available_extensions WHERE name = 'timescaledb')::text, " +
      "current_setting('timescaledb.max_background_workers', true)",
  );
  if (isInstalled === "0") {
    throw refuse(
      { pool, code: "EXTENSION_MISSING" },
      "the server lacks the extension timescaledb. Install it.",
    );
  }
  if (isLoaded === null) {
    throw refuse(
      { pool, code: "EXTENSION_MISSING" },
      "the server does not load timescaledb. Add it to shared_preload_libraries and restart the server.",
    );
  }
  // Two sessions that create it at once would fail, in spite of IF NOT EXISTS.
  await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops extension', 0))");
  await session.query("CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public");
}

/** Returns the error of a server that lacks something. The reason says what to do in its last sentence. */
export function refuse(
  { pool, code }: { pool: PostgresPool; code: ErrorCode },
  reason: string,
): BackendError {
  return new BackendError(
    `Cannot open ${pool.name}: ${reason} The backend postgresql (postgresql://…) works on this server as it is.`,
    { code, operation: "open", kind: "operator" },
  );
}
