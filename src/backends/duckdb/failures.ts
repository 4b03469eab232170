import { type BackendError, type FailureRow, failureRows, NOT_GRANTED } from "../../errors.ts";
import { asFileError } from "../database_file.ts";

/** The sign that an instance is of no more use. */
export const FATAL = /FATAL Error|has been invalidated/;

/** Meaning of failures, by the message of DuckDB. */
// deno-fmt-ignore: a failure is two lines, one for programs and one for people
export const DUCKDB_FAILURES: readonly FailureRow[] = failureRows([
  [/Could not set lock on file|being used by another process|different configuration/,
    "FILE_IN_USE", "transient",
    "another process has the file open, and only one can write it",
    "Ask that process: add --server URL if it is `openfinops serve`. Else wait until it ends."],
  [/No space left|not enough disk space|Disk quota exceeded/i, "DISK_FULL", "disk-full",
    "no space left on the disk, or the quota is used up",
    "Free some space. Pipelines resume by themselves; run other commands again."],
  [FATAL, "DISK_FAILED", "disk-full",
    "DuckDB stopped after a failure of the disk",
    "Check the disk and its free space; the file is opened again, and writing resumes by itself."],
  [/Out of Memory/, "SERVER_LIMIT", "timeout",
    "the query takes more memory than DuckDB may use", "Ask for a shorter time or fewer groups."],
  // DuckDB offers an extension for a file of SQLite, which may not be loaded.
  [/not a valid DuckDB database file|Serialization Error|checksum|Loading external extensions/i,
    "NOT_A_DATABASE", "operator",
    "the file is damaged, is not a DuckDB database, or needs a newer DuckDB",
    "Restore it from a backup, or choose another file."],
  [/Constraint Error/, "CONSTRAINT_VIOLATED", "data",
    "the table refused the record",
    "Correct the record, or remove the constraint that was added to the table."],
  [/Catalog Error|Binder Error/, "TABLES_ALTERED", "operator",
    "the tables are not as openfinops created them",
    "Undo what was changed in the schema, or restore the file from a backup."],
  NOT_GRANTED,
  [/read-?only|Permission denied|Permission Error/i, "ACCESS_DENIED", "operator",
    "access denied", "Give the user of this process permission to write the file and its folder."],
  [/IO Error/, "FILE_FAILED", "operator",
    "the file cannot be read or written", "Check that the folder exists, and the disk."],
]);

/** Converts anything thrown while working on a database into a {@linkcode BackendError}. */
export function asBackendError(operation: string, path: string, cause: unknown): BackendError {
  return asFileError(DUCKDB_FAILURES, { operation, name: path || "the DuckDB database in memory", cause });
}
