import { accessSync, constants } from "node:fs";
import { type BackendError, type FailureRow, failureRows, NOT_GRANTED } from "../../errors.ts";
import { isGranted } from "../../permissions.ts";
import { linkTarget } from "../../pipeline/durable_file.ts";
import type { OpenMode } from "../backend.ts";
import {
  asFileError,
  assertOwnTables,
  createPrivately,
  isToBeCreated,
  noTables,
  readableVersion,
  refuseFile,
  removeIfEmpty,
} from "../database_file.ts";
import { queryAll, rollBack, runOnce, type SqliteDatabase, type SqliteDriver } from "./driver.ts";
import { assertInPlace, type OpenFile } from "./file_guard.ts";
import { SCHEMA_VERSION, TABLES, upgradesFrom, WRITABLE_FROM } from "./schema.ts";

/**
 * Time that SQLite itself waits for another writer. Its thread does nothing else meanwhile, so once a database
 * is open, the pipeline's backoff does the longer waiting.
 */
const OPEN_TIMEOUT_MS = 10_000;
const BUSY_TIMEOUT_MS = 250;

/**
 * 32 MiB of page cache and as much write-ahead log between checkpoints (8,000 pages), instead of 2 and 4: pages
 * of indexes are then written back less often (ingest 1.1 to 1.2 times as fast, measured).
 */
const MEMORY = "PRAGMA cache_size = -32768";
const WRITER_MEMORY = `${MEMORY}; PRAGMA wal_autocheckpoint = 8000`;
/** Pragmas of a writing connection. */
const WRITING = `PRAGMA synchronous = FULL; ${WRITER_MEMORY}; PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`;

/**
 * Opens a database file (or one in memory, for an empty path) and creates or migrates its schema.
 *
 * @throws {BackendError} If the file is missing, is no database, is newer than this program, or cannot be
 * written. A file that the failed attempt created is removed.
 */
export function openSqliteFile(
  driver: SqliteDriver,
  path: string,
  mode: OpenMode,
): SqliteDatabase {
  let isNew = false;
  try {
    isNew = path !== "" && prepareFile(path, mode);
    return mode === "read" ? openToRead(driver, path) : openToWrite(driver, path, mode);
  } catch (error) {
    // Removes an unfinished file, unless another process may have begun to fill it.
    if (isNew && !LOCKED.test(String(error))) removeIfEmpty(path);
    throw asBackendError("open", path, error);
  }
}

/** Creates the file if the mode allows. Returns true if it did. */
function prepareFile(path: string, mode: OpenMode): boolean {
  if (!isToBeCreated(path, mode)) return false;
  try {
    // Telemetry and costs are private to their owner; SQLite gives its -wal and -shm files the same mode.
    return createPrivately(linkTarget(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw refuseFile(
        path,
        "FILE_NOT_FOUND",
        "its folder does not exist. Create the folder, or correct the path.",
      );
    }
    throw error;
  }
}

function openToRead(driver: SqliteDriver, path: string): SqliteDatabase {
  let failure: unknown;
  // Opened to write if allowed: only such a connection removes its -wal and -shm files.
  if (path === "" || mayWrite(path)) {
    try {
      return readable(driver.open(path || ":memory:", { readOnly: false }), path);
    } catch (error) {
      // Reading beside writers needs files that a user without write permission on the folder cannot create.
      if (!/unable to open database file|readonly/.test(String(error))) throw error;
      failure = error;
    }
  }
  if (exists(`${path}-wal`)) {
    if (failure) throw failure;
    return readable(driver.open(path, { readOnly: true }), path);
  }
  // Without a write-ahead log there is no writer: the file can be read as it lies there, leaving no trace.
  return readable(driver.open(path, { readOnly: true, immutable: true }), path);
}

/**
 * Returns true if this process may write the file, by its mode. Does not open it: closing a file releases all POSIX
 * locks that the process has on it, those of SQLite's connections as well.
 */
function mayWrite(path: string): boolean {
  if (!isGranted({ name: "write", path })) return false;
  if (!isGranted({ name: "sys", kind: "uid" })) return true; // whose file it is cannot be known
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function readable(database: SqliteDatabase, path: string): SqliteDatabase {
  try {
    database.exec(`PRAGMA busy_timeout = ${OPEN_TIMEOUT_MS}; PRAGMA query_only = ON`);
    if (readVersion(database, path) === undefined) throw noTables(path, "sqlite");
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function openToWrite(driver: SqliteDriver, path: string, mode: OpenMode): SqliteDatabase {
  const database = driver.open(path || ":memory:", { readOnly: false });
  try {
    database.exec(`PRAGMA busy_timeout = ${OPEN_TIMEOUT_MS}`);
    const version = readVersion(database, path);
    if (version === undefined && mode === "existing") throw noTables(path, "sqlite");
    // Can only be chosen before the first table; does nothing afterwards.
    if (version === undefined) database.exec("PRAGMA auto_vacuum = INCREMENTAL");
    migrate(database, path); // before anything else is changed: it may find that the file is not ours
    database.exec(`PRAGMA journal_mode = WAL; ${WRITING}`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Opens one more connection to write into a file that is open already. */
export function openOnceMore(driver: SqliteDriver, { path, inode }: OpenFile): SqliteDatabase {
  assertInPlace({ path, inode }); // else SQLite would make one
  const database = driver.open(path, { readOnly: false });
  database.exec(WRITING);
  return database;
}

/** Opens one more connection to read a file that is open already. It sorts in as much memory as a writing one has. */
export function openForQuestions(driver: SqliteDriver, file: OpenFile): SqliteDatabase {
  assertInPlace(file);
  const database = openSqliteFile(driver, file.path, "read");
  database.exec(MEMORY);
  return database;
}

/**
 * Changes nothing, but fails where a change would fail: `BEGIN IMMEDIATE` succeeds on a file that may only be
 * read.
 */
export const WRITE_NOTHING = "UPDATE schema_version SET version = version WHERE false";

/**
 * Makes the schema, or brings it up to date, in one transaction. It also shows whether the file can be written at all.
 */
function migrate(database: SqliteDatabase, path: string): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    const version = readVersion(database, path); // another process may have done it meanwhile
    if (version === undefined || version < SCHEMA_VERSION) {
      for (const statement of upgradesFrom(version ?? 0)) database.exec(statement);
      runOnce(database, "INSERT INTO schema_version (version, applied_at, writable_from) VALUES (?, ?, ?)", [
        SCHEMA_VERSION,
        Date.now(),
        WRITABLE_FROM,
      ]);
    }
    database.exec(WRITE_NOTHING);
    database.exec("COMMIT");
  } catch (error) {
    rollBack(database);
    throw error;
  }
}

/** The version of the schema, or undefined where the database is empty. */
function readVersion(database: SqliteDatabase, path: string): number | undefined {
  const tables = queryAll(database, "SELECT name FROM sqlite_schema WHERE type = 'table'").map(([name]) =>
    name
  );
  if (tables.length === 0) return undefined;
  assertOwnTables(path, tables, TABLES);
  // Files of schema version 2 or older have no third column.
  const [found] = queryAll(database, "SELECT * FROM schema_version ORDER BY version DESC LIMIT 1");
  const [version, , writableFrom] = (found ?? []) as (number | null)[];
  return readableVersion(
    path,
    found && { version: version!, writableFrom: writableFrom ?? version! },
    SCHEMA_VERSION,
  );
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** The sign of a file that another process keeps locked, opens at the same moment, or is changing the schema of. */
const LOCKED = /database (table )?is locked|busy|locking protocol|schema has changed/;

/** Meaning of failures. Matched against the driver's message: neither driver gives the result code. */
// deno-fmt-ignore: a failure is two lines, one for programs and one for people
export const SQLITE_FAILURES: readonly FailureRow[] = failureRows([
  [LOCKED, "LOCKED", "transient",
    "another process holds the lock", "It is retried; if this lasts, find the process with `fuser FILE`."],
  [/disk is full/, "DISK_FULL", "disk-full",
    "no space left on the disk, or the quota is used up",
    "Free some space (imports also need it in SQLITE_TMPDIR, else /var/tmp). Pipelines resume by themselves; run other commands again."],
  [/disk I\/O error/, "DISK_FAILED", "disk-full",
    "the disk failed to read or write", "Check the disk and its free space; writing resumes by itself."],
  [/constraint failed|datatype mismatch|too big/, "CONSTRAINT_VIOLATED", "data",
    "the table refused the record",
    "Correct the record, or remove the constraint that was added to the table."],
  NOT_GRANTED,
  [/readonly|read-only|Permission denied/i, "ACCESS_DENIED", "operator",
    "access denied", "Give the user of this process permission to write the file and its folder."],
  [/not a database|malformed/, "NOT_A_DATABASE", "operator",
    "the file is damaged or no SQLite database", "Restore it from a backup, or choose another file."],
  [/unable to open/, "FILE_FAILED", "operator",
    "the file cannot be opened",
    "Check that the file and its folder exist, and that this user may read and write both."],
  [/no such (table|column)|has no column|already exists/, "TABLES_ALTERED", "operator",
    "the tables are not as openfinops created them",
    "Undo what was changed in the schema, or restore the file from a backup."],
]);

/** Converts anything thrown while working on a database file into a {@linkcode BackendError}. */
export function asBackendError(operation: string, path: string, cause: unknown): BackendError {
  return asFileError(SQLITE_FAILURES, { operation, name: path || "sqlite://", cause });
}
