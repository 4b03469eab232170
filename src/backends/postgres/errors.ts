import { BackendError, type ErrorCode, type FailureKind } from "../../errors.ts";

/** What a failure means: its kind, and what to do. */
interface Meaning {
  readonly code: ErrorCode;
  readonly kind: FailureKind;
  readonly advice: string;
}

/**
 * Codes of Node's sockets and of the driver, and SQLSTATEs (whole, or the two characters of a class). The most
 * specific one counts.
 */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOTFOUND: again(
    "HOST_NOT_FOUND",
    "the name of an existing host is wanted; check the host in the connection string",
  ),
  EAI_AGAIN: again(
    "HOST_NOT_FOUND",
    "the name of an existing host is wanted; check the host and this machine's DNS",
  ),
  ECONNREFUSED: again(
    "CONNECTION_REFUSED",
    "a server that listens there is wanted; check host and port, and that it runs",
  ),
  ENOENT: again(
    "SOCKET_NOT_FOUND",
    "the Unix socket of a running server is wanted; check the folder and the port",
  ),
  EHOSTUNREACH: again("HOST_UNREACHABLE", "a host that can be reached is wanted; check the network"),
  ENETUNREACH: again("HOST_UNREACHABLE", "a host that can be reached is wanted; check the network"),
  ETIMEDOUT: again("CONNECTION_TIMEOUT", "an answer in time is wanted; check host, port and firewalls"),
  CONNECT_TIMEOUT: again("CONNECTION_TIMEOUT", "an answer in time is wanted; check host, port and firewalls"),
  ECONNRESET: again("CONNECTION_LOST", "an unbroken connection is wanted; see the server's log"),
  EPIPE: again("CONNECTION_LOST", "an unbroken connection is wanted; see the server's log"),
  CONNECTION_CLOSED: again("CONNECTION_LOST", "an unbroken connection is wanted; see the server's log"),
  CONNECTION_ENDED: again("CONNECTION_LOST", "an unbroken connection is wanted; see the server's log"),
  CONNECTION_DESTROYED: again("CONNECTION_LOST", "an unbroken connection is wanted; see the server's log"),
  TLS_REFUSED: mend(
    "TLS_REFUSED",
    "a server with TLS is wanted; switch it on there, or choose sslmode=disable or prefer",
  ),
  TLS_FAILED: mend(
    "TLS_FAILED",
    "a certificate that can be trusted is wanted; check sslrootcert, the host and sslmode",
  ),
  "08": again("CONNECTION_LOST", "an unbroken connection is wanted; see the server's log"),
  "0A": mend("SERVER_UNSUPPORTED", "a server of PostgreSQL 13 or later is wanted"),
  "22": data("DATA_REFUSED", "values that the columns can hold are wanted"),
  "23": data("CONSTRAINT_VIOLATED", "records that the constraints of the table allow are wanted"),
  "28000": mend("LOGIN_REFUSED", "an existing user, and a line in pg_hba.conf that lets it in, are wanted"),
  "28P01": mend(
    "PASSWORD_REFUSED",
    "the user's right password is wanted; check the connection string, PGPASSWORD or ~/.pgpass",
  ),
  "25P03": again("TRANSACTION_ENDED", "an open transaction is wanted; the server ended it"),
  "25P04": {
    code: "STATEMENT_TIMEOUT",
    kind: "timeout",
    advice: "more time is wanted; raise transaction_timeout, or find what holds the server up",
  },
  "25006": mend(
    "READ_ONLY",
    "a server that takes writes is wanted; this one is a standby, or read-only by its settings",
  ),
  "3D000": mend("DATABASE_NOT_FOUND", "an existing database is wanted; `createdb NAME` makes one"),
  "3F000": mend("SCHEMA_NOT_FOUND", "an existing schema is wanted; check the user's search_path"),
  "40": again("SERIALIZATION_FAILED", "the same again is wanted; another transaction stood in the way"),
  "42501": mend(
    "PRIVILEGE_MISSING",
    "a privilege is wanted that this user does not have; an owner can grant it",
  ),
  "42P01": mend("TABLES_MISSING", "the tables of openfinops are wanted; `database init` makes them"),
  "42P07": mend(
    "TABLES_FOREIGN",
    "a schema without tables of these names is wanted; they belong to another program",
  ),
  "42": mend("TABLES_ALTERED", "the tables of openfinops are wanted; somebody else made or altered them"),
  "44": data("CONSTRAINT_VIOLATED", "records that the check option of the view allows are wanted"),
  "53100": { code: "DISK_FULL", kind: "disk-full", advice: "free space on the server's disk is wanted" },
  "53300": again(
    "TOO_MANY_CONNECTIONS",
    "a free connection is wanted; raise the server's max_connections or lower maxConnections",
  ),
  // Of locks or of memory: less at once may do.
  "53200": {
    code: "SERVER_LIMIT",
    kind: "timeout",
    advice: "more shared memory is wanted; raise the server's max_locks_per_transaction",
  },
  "53": again("SERVER_OVERLOADED", "a server with free resources is wanted; see its log"),
  "53400": mend("SERVER_LIMIT", "another setting of the server is wanted"),
  "55": again("LOCKED", "an object that is free is wanted; another session uses it"),
  "55P03": again("LOCKED", "the lock on a table is wanted; another session holds it"),
  "54": data("DATA_REFUSED", "records that are less complex are wanted"),
  "57014": {
    code: "STATEMENT_TIMEOUT",
    kind: "timeout",
    advice: "more time is wanted; raise the statement timeout, or find what holds the server up",
  },
  "57P03": again("SERVER_STARTING", "a server that is ready is wanted; it is starting up or shutting down"),
  "57P": again("SERVER_STOPPED", "a server that stays up is wanted; an operator ended the connection"),
  "58": again("DISK_FAILED", "a server whose disk works is wanted; see its log"),
  "P0": data("DATA_REFUSED", "records that the triggers of the table allow are wanted"),
};

/**
 * The signs that TimescaleDB was at work on the same data, which no SQLSTATE tells: it compresses a chunk again by
 * putting another table in the place of the one that was just found, and does not wait for another job.
 */
const AT_WORK =
  /relation "_timescaledb_internal\.\S+" does not exist|overlaps with existing range|tuple concurrently (updated|deleted)/;
const AT_WORK_MEANING = again(
  "SERIALIZATION_FAILED",
  "the same again is wanted; TimescaleDB was at work on the same data",
);
/** Deno's own message says which. */
const NOT_CAPABLE_MEANING = mend("PERMISSION_MISSING", "a permission of Deno is wanted");

function again(code: ErrorCode, advice: string): Meaning {
  return { code, kind: "transient", advice };
}

function mend(code: ErrorCode, advice: string): Meaning {
  return { code, kind: "operator", advice };
}

function data(code: ErrorCode, advice: string): Meaning {
  return { code, kind: "data", advice };
}

/** The SQLSTATE of the server's error, or the code of the driver's or the network's; empty if it has none. */
export function codeOf(error: unknown): string {
  if (error instanceof BackendError) return error.sqlState ?? codeOf(error.cause);
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "";
}

/** Whether the code is an SQLSTATE: the server itself answered. */
export function isSqlState(code: string): boolean {
  return /^[0-9A-Z]{5}$/.test(code) && code !== "EPIPE";
}

/** True if the server had no room for a lock, or no memory: a statement over less may succeed. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof BackendError && error.sqlState === "53200";
}

/** The {@linkcode BackendError} for anything that was thrown while working on a server. */
export function asPostgresError(operation: string, name: string, cause: unknown): BackendError {
  if (cause instanceof BackendError) return cause;
  const code = codeOf(cause);
  const isAtWork = AT_WORK.test(String((cause as Error | null)?.message));
  const meaning = isAtWork
    ? AT_WORK_MEANING
    : cause instanceof Deno.errors.NotCapable
    ? NOT_CAPABLE_MEANING
    : MEANINGS[code] ?? MEANINGS[code.slice(0, 3)] ?? MEANINGS[code.slice(0, 2)];
  const fields = cause as { message?: string; detail?: string; hint?: string } | null;
  const reason = String(fields?.message ?? cause).split("\n", 1)[0];
  const more = [fields?.detail, fields?.hint].filter(Boolean).map((text) => `; ${text}`).join("");
  const sqlState = isSqlState(code) ? code : undefined;
  const shown = sqlState ? ` (SQLSTATE ${sqlState})` : "";
  const advice = meaning ? `${meaning.advice}: ` : "";
  return new BackendError(`Cannot ${operation} ${name}: ${advice}${reason}${more}${shown}`, {
    code: meaning?.code ?? "BACKEND_FAILED",
    operation,
    // An unknown code of the network's or the driver's: it never came to the records.
    kind: meaning?.kind ?? (code !== "" && !sqlState ? "transient" : "unknown"),
    cause,
    sqlState,
  });
}
