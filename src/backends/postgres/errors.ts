import { BackendError, failureOf, type FailureRow } from "../../errors.ts";

/**
 * Meaning of failures. Matched against the SQLSTATE, or the code of the driver or the network, or the name of the
 * error, followed by the message. An SQLSTATE without a row is the server's fault first, of kind `unknown`.
 */
export const POSTGRES_FAILURES: readonly FailureRow[] = [
  // No SQLSTATE tells: it compresses a chunk again by putting another table in the place of the one that was just found.
  {
    match:
      / relation "_timescaledb_internal\.\S+" does not exist|overlaps with existing range|tuple concurrently (updated|deleted)/,
    code: "SERIALIZATION_FAILED",
    kind: "transient",
    problem: "TimescaleDB was working on the same data",
    remedy: "It is retried.",
  },
  {
    match: /^(NotCapable|EPERM) /,
    code: "PERMISSION_MISSING",
    kind: "operator",
    problem: "Deno did not grant the permission",
    remedy: "Add the named flag (--allow-net for the host and port), or run with -A.",
  },
  {
    match: /^(ENOTFOUND|EAI_AGAIN) /,
    code: "HOST_NOT_FOUND",
    kind: "transient",
    problem: "host name not found",
    remedy: "Check the host in the connection string, and this machine's DNS.",
  },
  {
    match: /^ECONNREFUSED /,
    code: "CONNECTION_REFUSED",
    kind: "transient",
    problem: "connection refused",
    remedy: "Is PostgreSQL running there? Check the host and the port.",
  },
  {
    match: /^ENOENT /,
    code: "SOCKET_NOT_FOUND",
    kind: "transient",
    problem: "no such Unix socket",
    remedy: "Check the folder and the port, and that the server runs.",
  },
  {
    match: /^(EHOSTUNREACH|ENETUNREACH) /,
    code: "HOST_UNREACHABLE",
    kind: "transient",
    problem: "host unreachable",
    remedy: "Check the network.",
  },
  {
    match: /^(ETIMEDOUT|CONNECT_TIMEOUT) /,
    code: "CONNECTION_TIMEOUT",
    kind: "transient",
    problem: "no answer in time",
    remedy: "Check the host, the port and firewalls.",
  },
  // Nodes of Citus log in to each other as the user, or as the owner of the tables.
  {
    match:
      /^08... connection to the remote node .*(not permitted to log in|role .* does not exist|password|pg_hba\.conf)/,
    code: "LOGIN_REFUSED",
    kind: "operator",
    problem: "a node of the cluster refuses the login of another",
    remedy:
      "Let the user and the owner of the tables log in on every node (ALTER ROLE … LOGIN, pg_hba.conf, pg_dist_authinfo).",
  },
  {
    match: /^XX000 failure on connection marked as essential/,
    code: "CONNECTION_LOST",
    kind: "transient",
    problem: "a node of the cluster was lost",
    remedy: "It is retried; if this lasts, see the log of that node.",
  },
  {
    match: /^(ECONNRESET|EPIPE|CONNECTION_CLOSED|CONNECTION_ENDED|CONNECTION_DESTROYED|08...) /,
    code: "CONNECTION_LOST",
    kind: "transient",
    problem: "connection lost",
    remedy: "It is retried; if this lasts, see the server's log.",
  },
  {
    match: /^TLS_REFUSED /,
    code: "TLS_REFUSED",
    kind: "operator",
    problem: "the server does not offer TLS",
    remedy: "Switch TLS on there, or choose sslmode=disable or prefer.",
  },
  {
    match: /^TLS_FAILED /,
    code: "TLS_FAILED",
    kind: "operator",
    problem: "the server's certificate is not trusted",
    remedy: "Check sslrootcert, the host and sslmode.",
  },
  {
    match: /^0A... /,
    code: "SERVER_UNSUPPORTED",
    kind: "operator",
    problem: "the server does not support this",
    remedy: "Use PostgreSQL 14 or later.",
  },
  {
    match: /^22... /,
    code: "DATA_REFUSED",
    kind: "data",
    problem: "the columns cannot hold a value",
    remedy: "Correct the record.",
  },
  {
    match: /^(23|44)... /,
    code: "CONSTRAINT_VIOLATED",
    kind: "data",
    problem: "a constraint of the table refuses the record",
    remedy: "Correct the record, or remove the constraint that was added.",
  },
  {
    match: /^25006 /,
    code: "READ_ONLY",
    kind: "operator",
    problem: "the server takes no writes",
    remedy:
      "It is a standby, or default_transaction_read_only is on: connect to the primary, or switch it off.",
  },
  {
    match: /^25P03 /,
    code: "TRANSACTION_ENDED",
    kind: "transient",
    problem: "the server ended an idle transaction",
    remedy: "It is retried.",
  },
  {
    match: /^(25P04|57014) /,
    code: "STATEMENT_TIMEOUT",
    kind: "timeout",
    problem: "it took too long",
    remedy: "Raise the statement timeout, or find what holds up the server.",
  },
  {
    match: /^28P01 /,
    code: "PASSWORD_REFUSED",
    kind: "operator",
    problem: "wrong password",
    remedy: "Check the connection string, PGPASSWORD or ~/.pgpass.",
  },
  {
    match: /^28... /,
    code: "LOGIN_REFUSED",
    kind: "operator",
    problem: "login refused",
    remedy: "Check that the user exists, and that pg_hba.conf lets it in.",
  },
  {
    match: /^3D... /,
    code: "DATABASE_NOT_FOUND",
    kind: "operator",
    problem: "no such database",
    remedy: "Create it with `createdb NAME`.",
  },
  {
    match: /^3F... /,
    code: "SCHEMA_NOT_FOUND",
    kind: "operator",
    problem: "no such schema",
    remedy: "Check the user's search_path.",
  },
  {
    match: /^40... /,
    code: "SERIALIZATION_FAILED",
    kind: "transient",
    problem: "another transaction was in the way",
    remedy: "It is retried.",
  },
  // Raised by a function of the table's triggers, and perhaps for some records only.
  {
    match: /^42... in a function /,
    code: "TABLES_ALTERED",
    kind: "unknown",
    problem: "a trigger of the table failed",
    remedy:
      "Correct the trigger. Records that fail while others are stored become dead letters after ten minutes.",
  },
  {
    match: /^42501 /,
    code: "PRIVILEGE_MISSING",
    kind: "operator",
    problem: "privilege missing",
    remedy: "Have the owner of the table grant it to this user.",
  },
  {
    match: /^42P01 /,
    code: "TABLES_MISSING",
    kind: "operator",
    problem: "the tables of openfinops are missing",
    remedy: "Run `openfinops database init`, or check the user's search_path.",
  },
  {
    match: /^42P07 /,
    code: "TABLES_FOREIGN",
    kind: "operator",
    problem: "another program has tables of these names",
    remedy: "Choose another schema or database.",
  },
  {
    match: /^42... /,
    code: "TABLES_ALTERED",
    kind: "operator",
    problem: "the tables are not as openfinops created them",
    remedy: "Undo what was changed, or remove the trigger that fails.",
  },
  {
    match: /^53100 /,
    code: "DISK_FULL",
    kind: "disk-full",
    problem: "no space left on the server's disk",
    remedy: "Free some space; writing resumes by itself.",
  },
  {
    match: /^53200 /,
    code: "SERVER_LIMIT",
    kind: "timeout",
    problem: "the server is out of shared memory",
    remedy: "It is retried with less at once; more room comes with the server's max_locks_per_transaction.",
  },
  {
    match: /^53300 /,
    code: "TOO_MANY_CONNECTIONS",
    kind: "transient",
    problem: "the server has no connection left",
    remedy: "Raise its max_connections, lower maxConnections, or use PgBouncer.",
  },
  {
    match: /^53400 /,
    code: "SERVER_LIMIT",
    kind: "operator",
    problem: "a setting of the server is too low",
    remedy: "Raise the one that the message names.",
  },
  {
    match: /^53... /,
    code: "SERVER_OVERLOADED",
    kind: "transient",
    problem: "the server lacks resources",
    remedy: "It is retried; if this lasts, see the server's log.",
  },
  {
    match: /^54... /,
    code: "DATA_REFUSED",
    kind: "data",
    problem: "the record is too large or too complex",
    remedy: "Shorten its texts and keys.",
  },
  {
    match: /^55... /,
    code: "LOCKED",
    kind: "transient",
    problem: "another session holds the lock",
    remedy: "It is retried; if this lasts, find the session in pg_stat_activity.",
  },
  {
    match: /^57P03 /,
    code: "SERVER_STARTING",
    kind: "transient",
    problem: "the server is starting up or shutting down",
    remedy: "It is retried.",
  },
  {
    match: /^57P.. /,
    code: "SERVER_STOPPED",
    kind: "transient",
    problem: "an operator ended the connection",
    remedy: "It is retried.",
  },
  {
    match: /^58... /,
    code: "DISK_FAILED",
    kind: "transient",
    problem: "the server's disk failed",
    remedy: "It is retried; see the server's log.",
  },
  {
    match: /^(XX|72|F0)... /,
    code: "SERVER_FAILED",
    kind: "unknown",
    problem: "the server failed",
    remedy: "See its log; an index may be damaged (REINDEX).",
  },
  {
    match: /^P0... /,
    code: "DATA_REFUSED",
    kind: "data",
    problem: "a trigger of the table refuses the record",
    remedy: "Correct the record, or change the trigger.",
  },
];

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
