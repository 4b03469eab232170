import { BackendError } from "../../errors.ts";
import type { Dataset } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import type { OpenMode } from "../backend.ts";
import { type NeededExtension, refuse, requireExtension } from "../postgres/extension.ts";
import type { Partitioning } from "../postgres/migrate.ts";
import type { PostgresPool, PostgresSession } from "../postgres/pool.ts";
import { columnList, createIndexes, createTable, literal, upgradesFrom } from "../postgres/schema.ts";

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

const TIMESCALEDB: NeededExtension = {
  name: "timescaledb",
  oldest: "2.18", // the columnstore under its present name
  setting: "timescaledb.max_background_workers",
  create: "CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public",
  advice: {
    install: "Install it.",
    load: "Add it to shared_preload_libraries and restart the server.",
    update: "Run ALTER EXTENSION timescaledb UPDATE.",
  },
};

/**
 * Requires the extension, and creates it in the mode `create`.
 *
 * @throws {BackendError} If it is missing and may not be created, is not loaded, is too old, or out of the search_path.
 */
export async function requireTimescale(pool: PostgresPool, mode: OpenMode): Promise<Extension> {
  const version = await requireExtension(pool, mode, TIMESCALEDB);
  // In another session: the one that created the extension may still have answers of the loader.
  const [[schema, isFound, license, directCopy]] = await pool.useBriefly("open", async (session) => {
    await session.query(REFUSE_WHILE_RESTORING);
    return await session.query(
      "SELECT extnamespace::regnamespace::text, " +
        "(extnamespace::regnamespace::name = ANY(current_schemas(true)))::text, coalesce(current_setting('timescaledb.license', true), 'apache'), " +
        "current_setting('timescaledb.enable_direct_compress_copy', true) " +
        "FROM pg_catalog.pg_extension WHERE extname = 'timescaledb'",
    );
  });
  if (isFound !== "true") {
    throw refuse(
      pool,
      "EXTENSION_CONFLICT",
      `the search_path lacks ${schema}, the schema of the extension timescaledb. Add it, as in ` +
        `options=-c search_path=telemetry,${schema}.`,
    );
  }
  return {
    version,
    license: license!,
    isComplete: license === "timescale",
    copiesIntoColumns: directCopy !== null,
  };
}
