/**
 * Checks of the file of an embedded database when it is opened.
 *
 * @module
 */
import { resolve } from "node:path";
import { BackendError, type ErrorCode, failureOf, type FailureRow } from "../errors.ts";
import type { ConflictPolicy, OpenMode } from "./backend.ts";

/** Options of a backend in a file. */
export interface FileBackendOptions {
  /** The path of the file; empty for a database in memory. */
  path: string;
  /** Create the file, require it, or only read. */
  mode: OpenMode;
  /** Policy for a record whose key exists. */
  onConflict: ConflictPolicy;
}

/** Converts anything thrown while working on a database in a file into a {@linkcode BackendError}. */
export function asFileError(
  rows: readonly FailureRow[],
  { operation, name, cause }: { operation: string; name: string; cause: unknown },
): BackendError {
  if (cause instanceof BackendError) return cause;
  const reason = String(cause instanceof Error ? cause.message : cause).split("\n", 1)[0];
  const row = rows.find(({ match }) => match.test(reason));
  return failureOf(row, { operation, name, reason, cause, otherwise: "unknown" });
}

/** Location of a file, absolute; none in memory. */
export function locationOfFile(scheme: "sqlite" | "duckdb", path: string): string | undefined {
  if (path === "") return undefined;
  try {
    return `${scheme}:///${resolve(path)}`;
  } catch {
    return `${scheme}:///${path}`; // the current folder may not be read
  }
}

/** Creates an empty file that only its owner may read. Returns false if there is one. */
export function createPrivately(path: string): boolean {
  try {
    Deno.openSync(path, { write: true, createNew: true, mode: 0o600 }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return false;
    throw error;
  }
}

/** Removes a file that is empty. */
export function removeIfEmpty(path: string): void {
  try {
    if (Deno.statSync(path).size === 0) Deno.removeSync(path);
  } catch {
    // It is gone, or the error that led here is the one to report.
  }
}

/** The error of a file that cannot be opened. */
export function refuseFile(path: string, code: ErrorCode, problem: string): BackendError {
  return new BackendError(`Cannot open ${path}: ${problem}`, { code, operation: "open", kind: "operator" });
}

/**
 * Returns true if there is no file and the mode allows creating it.
 *
 * @throws {BackendError} If there is no file in another mode, or the path is no file.
 */
export function isToBeCreated(path: string, mode: OpenMode): boolean {
  try {
    if (Deno.statSync(path).isFile) return false;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    if (mode === "create") return true;
    throw refuseFile(
      path,
      "FILE_NOT_FOUND",
      "no such file. Check the path, or create the database with `openfinops database init`.",
    );
  }
  throw refuseFile(path, "NOT_A_FILE", "it is a folder or a device. Name a file.");
}

/** The error of a database without tables. */
export function noTables(path: string, scheme: "sqlite" | "duckdb"): BackendError {
  return path === ""
    ? refuseFile(
      `${scheme}://`,
      "TABLES_MISSING",
      `a new database in memory has no tables. Name a file, as in ${scheme}:///openfinops.${
        scheme === "sqlite" ? "db" : scheme
      }.`,
    )
    : refuseFile(path, "TABLES_MISSING", "it has no tables. Create them with `openfinops database init`.");
}

/**
 * Checks that a file has the tables of OpenFinOps.
 *
 * @throws {BackendError} If it has tables of another program.
 */
export function assertOwnTables(path: string, tables: readonly unknown[], own: readonly string[]): void {
  if (own.every((name) => tables.includes(name))) return;
  throw refuseFile(
    path,
    "TABLES_FOREIGN",
    "it holds tables of another program. Choose another file. Nothing was changed.",
  );
}

/**
 * The schema version of a file, from the newest row of its table.
 *
 * @throws {BackendError} If there is no row, or this program must not write into that version.
 */
export function readableVersion(
  path: string,
  row: { version: number; writableFrom: number } | undefined,
  newest: number,
): number {
  if (!row) {
    throw refuseFile(
      path,
      "TABLES_ALTERED",
      "the table schema_version is empty. Restore it from a backup, or insert the version that it had; that of this " +
        `release is ${newest}.`,
    );
  }
  if (row.writableFrom <= newest) return row.version;
  throw refuseFile(
    path,
    "SCHEMA_TOO_NEW",
    `its schema has version ${row.version}, and this release knows version ${newest}. Update openfinops. ` +
      "Nothing was changed.",
  );
}
