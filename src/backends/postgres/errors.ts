import { BackendError, type FailureKind } from "../../errors.ts";

/** What a failure means: its kind, and what to do. */
interface Meaning {
  readonly kind: FailureKind;
  readonly advice: string;
}

/**
 * Codes of Node's sockets and of the driver, and SQLSTATEs (whole, or the two characters of a class). The most
 * specific one counts.
 */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOTFOUND: again("the name of an existing host is wanted; check the host in the connection string"),
  EAI_AGAIN: again("the name of an existing host is wanted; check the host and this machine's DNS"),
  ECONNREFUSED: again("a server that listens there is wanted; check host and port, and that it runs"),
  ENOENT: again("the Unix socket of a running server is wanted; check the folder and the port"),
  EHOSTUNREACH: again("a host that can be reached is wanted; check the network"),
  ENETUNREACH: again("a host that can be reached is wanted; check the network"),
  ETIMEDOUT: again("an answer in time is wanted; check host, port and firewalls"),
  CONNECT_TIMEOUT: again("an answer in time is wanted; check host, port and firewalls"),
  ECONNRESET: again("an unbroken connection is wanted; see the server's log"),
  EPIPE: again("an unbroken connection is wanted; see the server's log"),
  CONNECTION_CLOSED: again("an unbroken connection is wanted; see the server's log"),
  CONNECTION_ENDED: again("an unbroken connection is wanted; see the server's log"),
  CONNECTION_DESTROYED: again("an unbroken connection is wanted; see the server's log"),
  TLS_REFUSED: mend("a server with TLS is wanted; switch it on there, or choose sslmode=disable or prefer"),
  TLS_FAILED: mend("a certificate that can be trusted is wanted; check sslrootcert, the host and sslmode"),
  "08": again("an unbroken connection is wanted; see the server's log"),
  "0A": mend("a server of PostgreSQL 13 or later is wanted"),
  "22": data("values that the columns can hold are wanted"),
  "23": data("records that the constraints of the table allow are wanted"),
  "28000": mend("an existing user, and a line in pg_hba.conf that lets it in, are wanted"),
  "28P01": mend("the user's right password is wanted; check the connection string, PGPASSWORD or ~/.pgpass"),
  "25P03": again("an open transaction is wanted; the server ended it"),
  "25P04": {
    kind: "timeout",
    advice: "more time is wanted; raise transaction_timeout, or find what holds the server up",
  },
  "25006": mend("a server that takes writes is wanted; this one is a standby, or read-only by its settings"),
  "3D000": mend("an existing database is wanted; `createdb NAME` makes one"),
  "3F000": mend("an existing schema is wanted; check the user's search_path"),
  "40": again("the same again is wanted; another transaction stood in the way"),
  "42501": mend("a privilege is wanted that this user does not have; an owner can grant it"),
  "42P01": mend("the tables of openfinops are wanted; `database init` makes them"),
  "42P07": mend("a schema without tables of these names is wanted; they belong to another program"),
  "42": mend("the tables of openfinops are wanted; somebody else made or altered them"),
  "44": data("records that the check option of the view allows are wanted"),
  "53100": { kind: "disk-full", advice: "free space on the server's disk is wanted" },
  "53300": again("a free connection is wanted; raise the server's max_connections or lower maxConnections"),
  "53": again("a server with free resources is wanted; see its log"),
  "53400": mend("another setting of the server is wanted"),
  "55": again("an object that is free is wanted; another session uses it"),
  "55P03": again("the lock on a table is wanted; another session holds it"),
  "54": data("records that are less complex are wanted"),
  "57014": {
    kind: "timeout",
    advice: "more time is wanted; raise the statement timeout, or find what holds the server up",
  },
  "57P03": again("a server that is ready is wanted; it is starting up or shutting down"),
  "57P": again("a server that stays up is wanted; an operator ended the connection"),
  "58": again("a server whose disk works is wanted; see its log"),
  "P0": data("records that the triggers of the table allow are wanted"),
};

/**
 * The signs that TimescaleDB was at work on the same data, which no SQLSTATE tells: it compresses a chunk again by
 * putting another table in the place of the one that was just found, and does not wait for another job.
 */
const AT_WORK =
  /relation "_timescaledb_internal\.\S+" does not exist|overlaps with existing range|tuple concurrently (updated|deleted)/;
const AT_WORK_MEANING = again("the same again is wanted; TimescaleDB was at work on the same data");
/** Deno's own message says which. */
const NOT_CAPABLE_MEANING = mend("a permission of Deno is wanted");

function again(advice: string): Meaning {
  return { kind: "transient", advice };
}

function mend(advice: string): Meaning {
  return { kind: "operator", advice };
}

function data(advice: string): Meaning {
  return { kind: "data", advice };
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
    operation,
    // An unknown code of the network's or the driver's: it never came to the records.
    kind: meaning?.kind ?? (code !== "" && !sqlState ? "transient" : "unknown"),
    cause,
    sqlState,
  });
}
