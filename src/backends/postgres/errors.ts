import { BackendError, failureOf, type FailureRow, failureRows } from "../../errors.ts";

/**
 * Meaning of failures. Matched against the SQLSTATE, or the code of the driver or the network, or the name of the
 * error, followed by the message. An SQLSTATE without a row is the server's fault first, of kind `unknown`.
 */
// deno-fmt-ignore: a failure is two lines, one for programs and one for people
export const POSTGRES_FAILURES: readonly FailureRow[] = failureRows([
  // No SQLSTATE tells: it compresses a chunk again by putting another table in the place of the one that was just found.
  [/ relation "_timescaledb_internal\.\S+" does not exist|overlaps with existing range|tuple concurrently (updated|deleted)/,
    "SERIALIZATION_FAILED", "transient",
    "TimescaleDB was working on the same data", "It is retried."],
  [/^(NotCapable|EPERM) /, "PERMISSION_MISSING", "operator",
    "Deno did not grant the permission",
    "Add the named flag (--allow-net for the host and port), or run with -A."],
  [/^(ENOTFOUND|EAI_AGAIN) /, "HOST_NOT_FOUND", "transient",
    "host name not found", "Check the host in the connection string, and this machine's DNS."],
  [/^ECONNREFUSED /, "CONNECTION_REFUSED", "transient",
    "connection refused", "Is PostgreSQL running there? Check the host and the port."],
  [/^ENOENT /, "SOCKET_NOT_FOUND", "transient",
    "no such Unix socket", "Check the folder and the port, and that the server runs."],
  [/^(EHOSTUNREACH|ENETUNREACH) /, "HOST_UNREACHABLE", "transient",
    "host unreachable", "Check the network."],
  [/^(ETIMEDOUT|CONNECT_TIMEOUT) /, "CONNECTION_TIMEOUT", "transient",
    "no answer in time", "Check the host, the port and firewalls."],
  // Nodes of Citus log in to each other as the user, or as the owner of the tables.
  [/^08... connection to the remote node .*(not permitted to log in|role .* does not exist|password|pg_hba\.conf)/,
    "LOGIN_REFUSED", "operator",
    "a node of the cluster refuses the login of another",
    "Let the user and the owner of the tables log in on every node (ALTER ROLE … LOGIN, pg_hba.conf, pg_dist_authinfo)."],
  [/^XX000 failure on connection marked as essential/, "CONNECTION_LOST", "transient",
    "a node of the cluster was lost", "It is retried; if this lasts, see the log of that node."],
  [/^(ECONNRESET|EPIPE|CONNECTION_CLOSED|CONNECTION_ENDED|CONNECTION_DESTROYED|08...) /,
    "CONNECTION_LOST", "transient",
    "connection lost", "It is retried; if this lasts, see the server's log."],
  [/^TLS_REFUSED /, "TLS_REFUSED", "operator",
    "the server does not offer TLS", "Switch TLS on there, or choose sslmode=disable or prefer."],
  [/^TLS_FAILED /, "TLS_FAILED", "operator",
    "the server's certificate is not trusted", "Check sslrootcert, the host and sslmode."],
  [/^0A... /, "SERVER_UNSUPPORTED", "operator",
    "the server does not support this", "Use PostgreSQL 14 or later."],
  [/^22... /, "DATA_REFUSED", "data",
    "the columns cannot hold a value", "Correct the record."],
  [/^(23|44)... /, "CONSTRAINT_VIOLATED", "data",
    "a constraint of the table refuses the record",
    "Correct the record, or remove the constraint that was added."],
  [/^25006 /, "READ_ONLY", "operator",
    "the server takes no writes",
    "It is a standby, or default_transaction_read_only is on: connect to the primary, or switch it off."],
  [/^25P03 /, "TRANSACTION_ENDED", "transient",
    "the server ended an idle transaction", "It is retried."],
  [/^(25P04|57014) /, "STATEMENT_TIMEOUT", "timeout",
    "it took too long", "Raise the statement timeout, or find what holds up the server."],
  [/^28P01 /, "PASSWORD_REFUSED", "operator",
    "wrong password", "Check the connection string, PGPASSWORD or ~/.pgpass."],
  [/^28... /, "LOGIN_REFUSED", "operator",
    "login refused", "Check that the user exists, and that pg_hba.conf lets it in."],
  [/^3D... /, "DATABASE_NOT_FOUND", "operator",
    "no such database", "Create it with `createdb NAME`."],
  [/^3F... /, "SCHEMA_NOT_FOUND", "operator",
    "no such schema", "Check the user's search_path."],
  [/^40... /, "SERIALIZATION_FAILED", "transient",
    "another transaction was in the way", "It is retried."],
  // Raised by a function of the table's triggers, and perhaps for some records only.
  [/^42... in a function /, "TABLES_ALTERED", "unknown",
    "a trigger of the table failed",
    "Correct the trigger. Records that fail while others are stored become dead letters after ten minutes."],
  [/^42501 /, "PRIVILEGE_MISSING", "operator",
    "privilege missing", "Have the owner of the table grant it to this user."],
  [/^42P01 /, "TABLES_MISSING", "operator",
    "the tables of openfinops are missing",
    "Run `openfinops database init`, or check the user's search_path."],
  [/^42P07 /, "TABLES_FOREIGN", "operator",
    "another program has tables of these names", "Choose another schema or database."],
  [/^42... /, "TABLES_ALTERED", "operator",
    "the tables are not as openfinops created them",
    "Undo what was changed, or remove the trigger that fails."],
  [/^53100 /, "DISK_FULL", "disk-full",
    "no space left on the server's disk",
    "Free some space. Pipelines resume by themselves; run other commands again."],
  [/^53200 /, "SERVER_LIMIT", "timeout",
    "the server is out of shared memory",
    "It is retried with less at once; more room comes with the server's max_locks_per_transaction."],
  [/^53300 /, "TOO_MANY_CONNECTIONS", "transient",
    "the server has no connection left",
    "Raise its max_connections, lower maxConnections, or use PgBouncer."],
  [/^53400 /, "SERVER_LIMIT", "operator",
    "a setting of the server is too low", "Raise the one that the message names."],
  [/^53... /, "SERVER_OVERLOADED", "transient",
    "the server lacks resources", "It is retried; if this lasts, see the server's log."],
  [/^54... /, "DATA_REFUSED", "data",
    "the record is too large or too complex", "Shorten its texts and keys."],
  [/^55... /, "LOCKED", "transient",
    "another session holds the lock", "It is retried; if this lasts, find the session in pg_stat_activity."],
  [/^57P03 /, "SERVER_STARTING", "transient",
    "the server is starting up or shutting down", "It is retried."],
  [/^57P.. /, "SERVER_STOPPED", "transient",
    "an operator ended the connection", "It is retried."],
  [/^58... /, "DISK_FAILED", "transient",
    "the server's disk failed", "It is retried; see the server's log."],
  [/^(XX|72|F0)... /, "SERVER_FAILED", "unknown",
    "the server failed", "See its log; an index may be damaged (REINDEX)."],
  [/^P0... /, "DATA_REFUSED", "data",
    "a trigger of the table refuses the record", "Correct the record, or change the trigger."],
]);

/** The SQLSTATE of the server's error, or the code of the driver's or the network's; empty if it has none. */
function codeOf(error: unknown): string {
  if (error instanceof BackendError) return error.sqlState ?? codeOf(error.cause);
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : "";
}

/** The SQLSTATE, if the server itself answered. Errors of the system have codes of five letters as well. */
export function sqlStateOf(error: unknown): string | undefined {
  if (error instanceof BackendError) return error.sqlState;
  const { errno, syscall } = (error ?? {}) as { errno?: unknown; syscall?: unknown };
  const code = codeOf(error);
  return errno === undefined && syscall === undefined && /^(?!EPIPE)[0-9A-Z]{5}$/.test(code)
    ? code
    : undefined;
}

/** True if the server had no room for a lock, or no memory: a statement over less may succeed. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof BackendError && error.sqlState === "53200";
}

/** Converts anything thrown while working on a server into a {@linkcode BackendError}. */
export function asPostgresError(operation: string, name: string, cause: unknown): BackendError {
  if (cause instanceof BackendError) return cause;
  const { message = String(cause), detail, hint, where = "", name: type } = (cause ?? {}) as Partial<
    Error & { detail: string; hint: string; where: string }
  >;
  const context = /^(?!COPY)./.test(where) ? " in a function" : "";
  const code = codeOf(cause) || type;
  const reason = [message.split("\n", 1)[0], detail, hint].filter(Boolean).join("; ");
  const sqlState = sqlStateOf(cause);
  return failureOf(POSTGRES_FAILURES.find(({ match }) => match.test(`${code}${context} ${reason}`)), {
    operation,
    name,
    reason,
    cause,
    sqlState,
    // An unknown code of the network or the driver: the records were never reached.
    otherwise: codeOf(cause) !== "" && sqlState === undefined ? "transient" : "unknown",
  });
}
