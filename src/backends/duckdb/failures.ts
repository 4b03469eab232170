import { BackendError, failureOf, type FailureRow, NOT_GRANTED } from "../../errors.ts";

/** The sign that an instance is of no more use. */
export const FATAL = /FATAL Error|has been invalidated/;

/** Meaning of failures, by the message of DuckDB. */
export const DUCKDB_FAILURES: readonly FailureRow[] = [
  {
    match: /Could not set lock on file|being used by another process|different configuration/,
    code: "FILE_IN_USE",
    kind: "transient",
    problem: "another process has the file open, and only one can write it",
    remedy: "Ask that process: add --server URL if it is `openfinops serve`. Else wait until it ends.",
  },
  {
    match: /No space left|not enough disk space|Disk quota exceeded/i,
    code: "DISK_FULL",
    kind: "disk-full",
    problem: "no space left on the disk, or the quota is used up",
    remedy: "Free some space; writing resumes by itself.",
  },
  {
    match: FATAL,
    code: "DISK_FAILED",
    kind: "disk-full",
    problem: "DuckDB stopped after a failure of the disk",
    remedy: "Check the disk and its free space; the file is opened again, and writing resumes by itself.",
  },
  {
    match: /Out of Memory/,
    code: "SERVER_LIMIT",
    kind: "timeout",
    problem: "the query takes more memory than DuckDB may use",
    remedy: "Ask for a shorter time or fewer groups.",
  },
  {
    // DuckDB offers an extension for a file of SQLite, which may not be loaded.
    match: /not a valid DuckDB database file|Serialization Error|checksum|Loading external extensions/i,
    code: "NOT_A_DATABASE",
    kind: "operator",
    problem: "the file is damaged, is not a DuckDB database, or needs a newer DuckDB",
    remedy: "Restore it from a backup, or choose another file.",
  },
  {
    match: /Constraint Error/,
    code: "CONSTRAINT_VIOLATED",
    kind: "data",
    problem: "the table refused the record",
    remedy: "Correct the record, or remove the constraint that was added to the table.",
  },
  {
    match: /Catalog Error|Binder Error/,
    code: "TABLES_ALTERED",
    kind: "operator",
    problem: "the tables are not as openfinops created them",
    remedy: "Undo what was changed in the schema, or restore the file from a backup.",
  },
  NOT_GRANTED,
  {
    match: /read-?only|Permission denied|Permission Error/i,
    code: "ACCESS_DENIED",
    kind: "operator",
    problem: "access denied",
    remedy: "Give the user of this process permission to write the file and its folder.",
  },
  {
    match: /IO Error/,
    code: "FILE_FAILED",
    kind: "operator",
    problem: "the file cannot be read or written",
    remedy: "Check that the folder exists, and the disk.",
  },
];

/** Converts anything thrown while working on a database into a {@linkcode BackendError}. */
export function asBackendError(operation: string, path: string, cause: unknown): BackendError {
  if (cause instanceof BackendError) return cause;
  const reason = String(cause instanceof Error ? cause.message : cause).split("\n", 1)[0];
  const row = DUCKDB_FAILURES.find(({ match }) => match.test(reason));
  return failureOf(row, {
    operation,
    name: path || "the DuckDB database in memory",
    reason,
    cause,
    otherwise: "unknown",
  });
}
