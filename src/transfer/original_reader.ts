/**
 * Rows of a database of OpenFinOps in Python, in SQLite or PostgreSQL.
 *
 * @module
 */
import { parseConnectionString } from "../backends/connection_string.ts";
import { BackendError } from "../errors.ts";

/** A value as the database gives it. */
export type OriginalValue = string | number | bigint | null;

/** Reads a database with the tables of the original. */
export interface OriginalReader {
  /** Cast that has the database give a column in its shortest exact form. */
  readonly cast: string;
  /** The columns of a table; empty where there is none. */
  columnsOf(table: string): Promise<string[]>;
  /** Gives the rows of a query, page by page. */
  select(sql: string): AsyncIterable<(readonly OriginalValue[])[]>;
  close(): Promise<void>;
}

const PAGE_ROWS = 1_000;
const CURSOR = "openfinops_original";

/** Opens a database with any tables, to read it. */
export async function openOriginalReader(connectionString: string): Promise<OriginalReader> {
  const { backend, location } = parseConnectionString(connectionString);
  return backend === "sqlite" ? await openFile(location) : await openServer(location);
}

/** The reader with errors as the backend has them. */
function withErrors(reader: OriginalReader, asError: (cause: unknown) => BackendError): OriginalReader {
  return {
    ...reader,
    columnsOf: (table) => reader.columnsOf(table).catch((error) => Promise.reject(asError(error))),
    async *select(sql) {
      try {
        yield* reader.select(sql);
      } catch (error) {
        throw asError(error);
      }
    },
  };
}

async function openFile(path: string): Promise<OriginalReader> {
  const { loadSqliteDriver, queryAll } = await import("../backends/sqlite/driver.ts");
  const { asBackendError } = await import("../backends/sqlite/file.ts");
  const database = (await loadSqliteDriver("auto")).open(path, { readOnly: true });
  const reader: OriginalReader = {
    cast: "",
    async columnsOf(table) { // asynchronous as on a server: an error rejects
      const rows = await queryAll(database, "SELECT name FROM pragma_table_info(?)", [table]);
      return rows.map(([name]) => String(name));
    },
    async *select(sql) {
      const statement = database.prepare(sql);
      try {
        let page: OriginalValue[][] = [];
        for (const row of statement.iterate([])) {
          page.push(row);
          if (page.length < PAGE_ROWS) continue;
          yield page;
          page = [];
        }
        if (page.length > 0) yield page;
      } finally {
        statement.finalize();
      }
    },
    close: () => Promise.resolve(database.close()),
  };
  return withErrors(reader, (error) => asBackendError("read", path, error));
}

async function openServer(location: string): Promise<OriginalReader> {
  const { PostgresSession } = await import("../backends/postgres/pool.ts");
  const { nameOfTarget, resolvePostgresTarget } = await import("../backends/postgres/target.ts");
  const { asPostgresError } = await import("../backends/postgres/errors.ts");
  const target = resolvePostgresTarget(location);
  const session = await PostgresSession.open(target);
  const reader: OriginalReader = {
    cast: "::text",
    async columnsOf(table) {
      const rows = await session.query(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        [table],
      );
      return rows.map(([name]) => name!);
    },
    async *select(sql) {
      await session.query(`BEGIN READ ONLY; DECLARE ${CURSOR} CURSOR FOR ${sql}`);
      try {
        for (;;) {
          const rows = await session.query(`FETCH ${PAGE_ROWS} FROM ${CURSOR}`);
          if (rows.length === 0) return;
          yield rows;
        }
      } finally {
        await session.query("ROLLBACK");
      }
    },
    close: () => session.close(),
  };
  return withErrors(reader, (error) => asPostgresError("read", nameOfTarget(target), error));
}

/** True if an error says that a database holds no tables of this program, so that they may be those of the original. */
export function mayBeOriginal(error: unknown): boolean {
  return error instanceof BackendError && ["TABLES_FOREIGN", "TABLES_MISSING"].includes(error.code);
}
