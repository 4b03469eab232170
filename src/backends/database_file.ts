/**
 * Checks of the file of an embedded database when it is opened.
 *
 * @module
 */
import { BackendError, type ErrorCode } from "../errors.ts";
import type { OpenMode } from "./backend.ts";

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
