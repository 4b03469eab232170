/**
 * The two drivers of SQLite behind one shape. `@db/sqlite` comes from JSR, which not every network reaches,
 * and loads a native library when it is imported; `node:sqlite` is built in.
 *
 * @module
 */
import { BackendError } from "../../errors.ts";
import { lazyImport } from "../../lazy_import.ts";
import { EVERYTHING, isGranted } from "../../permissions.ts";

/** The drivers that can be asked for by name. */
export type SqliteDriverName = "@db/sqlite" | "node:sqlite";

/** Values that SQLite stores. */
export type SqliteValue = number | string | bigint | null;

/** A prepared statement. */
export interface SqliteStatement {
  /** Runs it and returns the number of changed rows. */
  run(values: readonly SqliteValue[]): number;
  /** Runs it without returning the number of changed rows. */
  put(values: readonly SqliteValue[]): void;
  /** Gives the rows, one at a time, each as an array. */
  iterate(values: readonly SqliteValue[]): Iterable<SqliteValue[]>;
  /** Gives all rows at once, each as an array. */
  all(values: readonly SqliteValue[]): SqliteValue[][];
  /** Frees it. What is not freed goes with the database. */
  finalize(): void;
}

/** An open database. */
export interface SqliteDatabase {
  /** Runs statements that return nothing. */
  exec(sql: string): void;
  /** Prepares a statement. */
  prepare(sql: string): SqliteStatement;
  /** Finalizes all statements and closes. */
  close(): void;
}

/** A driver that has been loaded. */
export interface SqliteDriver {
  /** Name of the driver. */
  readonly name: SqliteDriverName;
  /** Opens a file that exists, or `:memory:`. */
  open(path: string, options: SqliteOpenOptions): SqliteDatabase;
}

/** Options for opening a file. */
export interface SqliteOpenOptions {
  /** True to read only. */
  readonly readOnly: boolean;
  /** True to read the file alone, without the files that reading beside writers needs. */
  readonly immutable?: boolean;
}

/**
 * Loads a driver. `auto` takes `@db/sqlite` where it can be had and FFI is allowed, and `node:sqlite` otherwise.
 *
 * @throws {BackendError} If the driver that is asked for cannot be loaded.
 */
export async function loadSqliteDriver(choice: "auto" | SqliteDriverName): Promise<SqliteDriver> {
  if (choice === "node:sqlite") return await loadBuiltIn();
  // One binary has all it needs in itself, and @db/sqlite would download its library at the first use.
  const usesBuiltIn = Deno.build.standalone || !isGranted({ name: "ffi" });
  if (choice === "auto" && usesBuiltIn) return await loadBuiltIn();
  try {
    return await loadJsr();
  } catch (cause) {
    if (choice === "auto") return await loadBuiltIn();
    throw new BackendError(
      `Cannot load the SQLite driver @db/sqlite (${
        (cause as Error).message
      }). It needs JSR or its cache, the FFI ` +
        "permission and its native library, which DENO_SQLITE_PATH can name. Leave sqliteDriver out to use node:sqlite.",
      { code: "DRIVER_MISSING", operation: "open", kind: "operator", cause },
    );
  }
}

/** All rows of a query. */
export function queryAll(
  database: SqliteDatabase,
  sql: string,
  values: readonly SqliteValue[] = [],
): SqliteValue[][] {
  const statement = database.prepare(sql);
  try {
    return statement.all(values);
  } finally {
    statement.finalize();
  }
}

/** Ends a transaction that came to nothing. */
export function rollBack(database: SqliteDatabase): void {
  try {
    database.exec("ROLLBACK");
  } catch {
    // SQLite has rolled back by itself; the error that led here is the one to tell.
  }
}

/** Runs a statement once and returns the number of changed rows. */
export function runOnce(
  database: SqliteDatabase,
  sql: string,
  values: readonly SqliteValue[],
): number {
  const statement = database.prepare(sql);
  try {
    return statement.run(values);
  } finally {
    statement.finalize();
  }
}

/** The part of `@db/sqlite` that is used here. Its own types need JSR. */
interface JsrModule {
  Database: new (
    path: string,
    options: { flags: number; int64: boolean; parseJson: boolean },
  ) => JsrDatabase;
}
interface JsrDatabase {
  exec(sql: string): number;
  prepare(sql: string): JsrStatement;
  close(): void;
}
interface JsrStatement {
  run(values: readonly SqliteValue[]): number;
  iter(values: readonly SqliteValue[]): Iterable<Record<string, SqliteValue>>;
  values(...values: readonly SqliteValue[]): SqliteValue[][];
  finalize(): void;
}

const SQLITE_OPEN_READONLY = 0x01;
const SQLITE_OPEN_READWRITE = 0x02;
const SQLITE_OPEN_CREATE = 0x04;
const SQLITE_OPEN_URI = 0x40;

async function loadJsr(): Promise<SqliteDriver> {
  const module = new URL("./db_sqlite.ts", import.meta.url);
  const { Database } = (await lazyImport<{ default: JsrModule }>(module)).default;
  return {
    name: "@db/sqlite",
    open(path, { readOnly, immutable }) {
      const access = readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
      const flags = access | SQLITE_OPEN_URI;
      const database = new Database(immutable ? immutableUri(path) : path, {
        flags,
        int64: true,
        parseJson: false,
      });
      const statements = new Set<JsrStatement>();
      return {
        exec: (sql) => void database.exec(sql),
        prepare(sql) {
          const statement = database.prepare(sql);
          statements.add(statement);
          const finalize = () => {
            statements.delete(statement);
            free(statement);
          };
          return {
            run: (values) => statement.run(values.map(toBindable)),
            put: (values) => void statement.run(values.map(toBindable)),
            *iterate(values) {
              let isDone = false;
              try {
                for (const row of statement.iter(values)) yield Object.values(row);
                isDone = true;
              } finally {
                // An iteration that is given up would keep its read transaction open for good.
                if (!isDone) finalize();
              }
            },
            // Not `iter()`, which returns objects: two columns of one name become one.
            all: (values) => statement.values(...values),
            finalize,
          };
        },
        close() {
          // A statement that is left open would keep the file open behind its back.
          for (const statement of statements) free(statement);
          database.close();
        },
      };
    },
  };
}

/** Frees a statement. SQLite repeats the error of its last run, which is known, and frees it in any case. */
function free(statement: JsrStatement): void {
  try {
    statement.finalize();
  } catch {
    // ignored
  }
}

/** `@db/sqlite` binds whole numbers as 64-bit integers and lets greater ones overflow; as text they keep. */
function toBindable(value: SqliteValue): SqliteValue {
  return typeof value === "number" && Math.abs(value) >= 2 ** 63 ? String(value) : value;
}

function immutableUri(path: string): string {
  return `file:${encodeURI(path).replaceAll("?", "%3f").replaceAll("#", "%23")}?immutable=1`;
}

interface BuiltInStatement {
  setReturnArrays(enabled: boolean): void;
  run(...values: readonly SqliteValue[]): { changes: number };
  get(...values: readonly SqliteValue[]): unknown;
  iterate(...values: readonly SqliteValue[]): Iterable<SqliteValue[]>;
  all(...values: readonly SqliteValue[]): SqliteValue[][];
}

async function loadBuiltIn(): Promise<SqliteDriver> {
  const { DatabaseSync } = await import("node:sqlite");
  return {
    name: "node:sqlite",
    open(path, { readOnly, immutable }) {
      // Deno takes a URI for the name of a file unless everything is granted.
      const isUri = immutable && isGranted(...EVERYTHING);
      const database = new DatabaseSync(isUri ? immutableUri(path) : path, { readOnly });
      return {
        exec: (sql) => database.exec(sql),
        prepare(sql) {
          // Deno's types do not know setReturnArrays() yet.
          const statement = database.prepare(sql) as unknown as BuiltInStatement;
          statement.setReturnArrays(true);
          return {
            run: (values) => statement.run(...values).changes,
            put: (values) => void statement.get(...values),
            iterate: (values) => statement.iterate(...values),
            all: (values) => statement.all(...values),
            finalize() {}, // left to the garbage collector; close() finalizes what is left
          };
        },
        close: () => database.close(),
      };
    },
  };
}
