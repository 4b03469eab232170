/**
 * The error classes of the library and their codes. A message says what happened, then what to do. It is for people and
 * may change; programs compare the `code`. No message holds a password.
 *
 * @module
 */
import { nearest, suggest } from "./nearest.ts";
/**
 * Stable name of a failure. Part of each error of the library and of the events that report one;
 * `docs/troubleshooting.md` lists what each means and what to do.
 */
export type ErrorCode =
  // Options, configuration and the command line
  | "UNKNOWN_COMMAND"
  | "UNKNOWN_OPTION"
  | "INVALID_OPTION"
  | "CONFLICTING_OPTIONS"
  | "MISSING_ARGUMENT"
  | "UNEXPECTED_ARGUMENT"
  | "CONFIRMATION_REQUIRED"
  | "INVALID_CONNECTION_STRING"
  // Records and queries
  | "INVALID_RECORD"
  | "INVALID_FIELD"
  | "UNKNOWN_FIELD"
  | "MISSING_FIELD"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  // The way to a server
  | "HOST_NOT_FOUND"
  | "HOST_UNREACHABLE"
  | "CONNECTION_REFUSED"
  | "CONNECTION_TIMEOUT"
  | "CONNECTION_LOST"
  | "SOCKET_NOT_FOUND"
  | "TLS_REFUSED"
  | "TLS_FAILED"
  | "LOGIN_REFUSED"
  | "PASSWORD_REFUSED"
  | "DATABASE_NOT_FOUND"
  | "SCHEMA_NOT_FOUND"
  // Permissions
  | "PERMISSION_MISSING"
  | "ACCESS_DENIED"
  | "PRIVILEGE_MISSING"
  | "READ_ONLY"
  // Servers
  | "SERVER_UNSUPPORTED"
  | "SERVER_STARTING"
  | "SERVER_STOPPED"
  | "SERVER_FAILED"
  | "SERVER_LIMIT"
  | "SERVER_OVERLOADED"
  | "TOO_MANY_CONNECTIONS"
  | "STATEMENT_TIMEOUT"
  | "TRANSACTION_ENDED"
  | "SERIALIZATION_FAILED"
  | "LOCKED"
  | "EXTENSION_MISSING"
  | "EXTENSION_CONFLICT"
  // Tables
  | "TABLES_MISSING"
  | "TABLES_FOREIGN"
  | "TABLES_ALTERED"
  | "SCHEMA_TOO_NEW"
  | "SCHEMA_TOO_OLD"
  | "PARTITION_DETACHED"
  | "DEFAULT_PARTITION"
  // Files and disks
  | "FILE_NOT_FOUND"
  | "FILE_REPLACED"
  | "FILE_IN_USE"
  | "FILE_FAILED"
  | "NOT_A_FILE"
  | "NOT_A_DATABASE"
  | "DISK_FULL"
  | "DISK_FAILED"
  | "DRIVER_MISSING"
  | "SPOOL_OWNED"
  // Outcome of records
  | "DATA_REFUSED"
  | "CONSTRAINT_VIOLATED"
  | "RECORDS_REFUSED"
  | "RECORDS_LOST"
  | "CLOSED"
  | "BACKEND_FAILED"
  // Import, export and migration
  | "UNSUPPORTED_FORMAT"
  | "INVALID_HEADER"
  | "INVALID_LINE"
  | "INVALID_FILE"
  | "MISSING_COLUMN"
  | "MISSING_CURRENCY"
  | "KEY_CLASH"
  | "DELIVERY_REFUSED"
  | "DATABASE_DIFFERS"
  | "INTERRUPTED"
  | "LINES_REJECTED"
  | "MIGRATION_DIFFERS"
  | "INVOICE_DIFFERS"
  // Requests to `openfinops serve`
  | "LISTEN_FAILED"
  | "INVALID_REQUEST"
  | "METHOD_NOT_ALLOWED"
  | "INVALID_BODY"
  | "BODY_TOO_LARGE"
  | "BODY_TIMEOUT"
  | "UNSUPPORTED_ENCODING"
  | "TOKEN_MISSING"
  | "TOKEN_REFUSED"
  | "SCOPE_MISSING"
  | "HOST_REFUSED"
  | "ORIGIN_REFUSED"
  | "RATE_LIMITED"
  | "SERVER_BUSY"
  | "IDEMPOTENCY_KEY_REUSED"
  | "NOT_READY"
  // Monitoring
  | "NOTIFICATION_FAILED"
  | "BUDGET_EXCEEDED"
  | "UNHEALTHY";

/** True if a text may be a connection string, or a part of one, and so hold a password. */
function mayHoldPassword(text: string): boolean {
  return /:\/\/|@|password/i.test(text);
}

/** Shows a path in a message, unless it is a connection string in the wrong place. */
export function describePath(path: string): string {
  return /:\/|[^:]{2,}:.*@|password=/is.test(path) ? "a file whose name may hold a password" : path;
}

/** Shows a value in a message: short, on one line, never a whole document nor what may hold a password. */
export function describe(value: unknown): string {
  let text: string;
  if (typeof value === "string" && mayHoldPassword(value)) text = "a text that may hold a password";
  else if (typeof value === "string") text = JSON.stringify(value);
  else if (typeof value === "bigint") text = `${value}n`;
  else if (value instanceof Date) {
    text = `Date(${Number.isNaN(value.getTime()) ? "invalid" : value.toISOString()})`;
  } else if (typeof value === "object" && value !== null) {
    text = Array.isArray(value) ? "an array" : "an object";
  } else text = String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

/** The parts of a {@linkcode ValidationError}. */
export interface ValidationErrorOptions {
  /** Kind of input, such as "system metrics". */
  subject: string;
  /** The field that is wrong, in camelCase. */
  field: string;
  /** The value that was given. */
  value: unknown;
  /** Requirement, such as "a finite number". */
  expected?: string;
  /** The fields that exist, where the field is unknown: the nearest one is suggested. */
  known?: readonly string[];
  /**
   * Stable name of the fault.
   *
   * @default {"INVALID_FIELD", or "UNKNOWN_FIELD" with known fields}
   */
  code?: ErrorCode;
}

/**
 * A record, a query or an option holds a value that cannot be taken. Nothing was queued.
 *
 * @example It names the field, the requirement and the value
 * ```ts
 * import { ObservabilityHub, ValidationError } from "@openfinops/telemetry";
 *
 * const hub = new ObservabilityHub();
 * try {
 *   await hub.collectSystemMetrics({ timestamp: Date.now(), cpuUsage: NaN });
 * } catch (error) {
 *   if (!(error instanceof ValidationError)) throw error;
 *   console.log(error.field, error.expected); // cpuUsage a finite number
 * }
 * ```
 */
export class ValidationError extends Error {
  /** Always `"ValidationError"`. */
  override readonly name = "ValidationError";
  /** Stable name of the error. */
  readonly code: ErrorCode;
  /** The field that is wrong, in camelCase. */
  readonly field: string;
  /** The value that was given. */
  readonly value: unknown;
  /** Requirement. */
  readonly expected: string;

  /**
   * Makes the error and its message from the parts.
   *
   * @param options The field, the value and the requirement.
   */
  constructor(options: ValidationErrorOptions) {
    const { subject, field, value, known = [] } = options;
    const { code = options.known ? "UNKNOWN_FIELD" : "INVALID_FIELD" } = options;
    const near = nearest(field, known);
    const { expected = near ? `spelled ${near}` : `one of ${known.join(", ")}` } = options;
    const problem = options.known
      ? `unknown field ${describe(field)}.${suggest(field, known)}`
      : code === "MISSING_FIELD"
      ? `${field} must be given.`
      : `${field} must be ${expected}, not ${describe(value)}.`;
    super(
      code === "NOT_FOUND"
        ? `Cannot find ${subject}: ${field} ${describe(value)} does not exist. Use ${expected}.`
        : `Cannot accept ${subject}: ${problem}`,
    );
    this.code = code;
    this.field = field;
    this.value = value;
    this.expected = expected;
  }
}

/** The configuration cannot be used: an unknown name, a bad connection string, a wrong value. */
export class ConfigError extends Error {
  /** Always `"ConfigError"`. */
  override readonly name = "ConfigError";
  /** Stable name of the error. */
  readonly code: ErrorCode;

  /**
   * Creates the error.
   *
   * @param message What happened, then what to do.
   * @param options The code.
   */
  constructor(message: string, { code }: { code: ErrorCode }) {
    super(message);
    this.code = code;
  }
}

/**
 * Kind of a backend failure, which decides how a caller handles it:
 *
 * - `transient`: passes by itself, such as a lost connection or a lock. The records may be stored or not.
 * - `disk-full`: passes when there is space again.
 * - `timeout`: took too long. Nothing was stored; a smaller batch may succeed.
 * - `operator`: an operator must act, such as on a password, a privilege or a table.
 * - `data`: the records were refused. Nothing was stored.
 * - `unknown`: the cause is unknown.
 */
export type FailureKind = "transient" | "disk-full" | "timeout" | "operator" | "data" | "unknown";

/** The parts of a {@linkcode BackendError} beside its message. */
export interface BackendErrorOptions {
  /** Stable name of the failure; `BACKEND_FAILED` if no other fits. */
  code: ErrorCode;
  /** Operation, such as `"write"`. */
  operation: string;
  /** Kind, which says whether and how to retry. */
  kind: FailureKind;
  /** The error of the driver. */
  cause?: unknown;
  /** The SQLSTATE of the server's error, where a server answered with one. */
  sqlState?: string;
}

/**
 * One failure that a backend or a file system reports, and what it means. Rows are tested in order, so that the more
 * specific one comes first. The troubleshooting page is generated from them.
 */
export interface FailureRow {
  /** Matches the sign of the failure: an SQLSTATE or the code of an error, or where there is none its message. */
  readonly match: RegExp;
  /** Stable name of the failure. */
  readonly code: ErrorCode;
  /** Kind, which says how records are handled. */
  readonly kind: FailureKind;
  /** Problem, which completes "Cannot write …: ". */
  readonly problem: string;
  /** Remedy, in whole sentences. */
  readonly remedy: string;
}

/** A {@linkcode FailureRow} as a row of a table, with its fields in this order. */
type FailureCells = readonly [
  match: RegExp,
  code: ErrorCode,
  kind: FailureKind,
  problem: string,
  remedy: string,
];

/** Returns the rows of a table of failures; some are shared by several tables. */
export function failureRows(rows: readonly (FailureCells | FailureRow)[]): FailureRow[] {
  return rows.map((row) => {
    if ("match" in row) return row;
    const [match, code, kind, problem, remedy] = row;
    return { match, code, kind, problem, remedy };
  });
}

/** Deno did not grant a permission. Its own message names the flag. */
export const NOT_GRANTED: FailureRow = {
  match: /^Requires \w+ access/,
  code: "PERMISSION_MISSING",
  kind: "operator",
  problem: "Deno did not grant the permission",
  remedy: "Add the named flag, or run with -A.",
};

interface Failure {
  /** Operation, such as `"write"`. */
  operation: string;
  /** Target in messages. */
  name: string;
  /** Message of the cause. */
  reason: string;
  cause: unknown;
  /** The SQLSTATE, where a server answered with one. */
  sqlState?: string;
  /** Row for a failure that no other row matches. */
  otherwise: FailureKind;
}

/** Creates the error for what a driver or the system has thrown, by the row that matches it, if one does. */
export function failureOf(row: FailureRow | undefined, failure: Failure): BackendError {
  const { operation, name, reason, cause, sqlState, otherwise } = failure;
  const detail = sqlState === undefined ? reason : `${reason}; SQLSTATE ${sqlState}`;
  const what = row ? `${row.problem} (${detail.replace(/\.$/, "")}). ${row.remedy}` : detail;
  return new BackendError(`Cannot ${operation} ${name}: ${what}`, {
    code: row?.code ?? "BACKEND_FAILED",
    operation,
    kind: row?.kind ?? otherwise,
    cause,
    sqlState,
  });
}

/** The code of an error of the library; `BACKEND_FAILED` for any other, which only a backend can have thrown. */
export function errorCodeOf(error: unknown): ErrorCode {
  const isOurs = error instanceof BackendError || error instanceof ValidationError ||
    error instanceof ConfigError;
  return isOurs ? error.code : "BACKEND_FAILED";
}

/** Returns the kind of any thrown value. */
export function kindOf(error: unknown): FailureKind {
  return error instanceof BackendError ? error.kind : "unknown";
}

/** Returns the message of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Error for a backend that was closed too early, which says nothing about the records. */
export function closedBackend(operation: string, name: string): BackendError {
  return new BackendError(
    `Cannot ${operation} ${name}: the backend is closed. Open it again.`,
    { code: "CLOSED", operation, kind: "operator" },
  );
}

/**
 * A failure of something that came before the records: it says nothing of them, nor of an earlier attempt to write them,
 * whose outcome is not known. So it is retried, unless an operator must act.
 */
export function asFailedBefore(error: unknown): unknown {
  if (!(error instanceof BackendError) || !["timeout", "data", "unknown"].includes(error.kind)) return error;
  const { code, operation, sqlState, cause, message } = error;
  return new BackendError(message, { code, operation, kind: "transient", sqlState, cause });
}

/** The backend could not do what was asked of it. */
export class BackendError extends Error {
  /** Always `"BackendError"`. */
  override readonly name = "BackendError";
  /** Stable name of the failure. */
  readonly code: ErrorCode;
  /** Operation, such as `"write"`. */
  readonly operation: string;
  /** Kind, which says whether and how to retry. */
  readonly kind: FailureKind;
  /** The SQLSTATE of the server's error, where a server answered with one. */
  readonly sqlState?: string;

  /**
   * Makes the error.
   *
   * @param message What happened, then what to do.
   * @param options The code, the operation, the kind of failure, the cause, and the server's SQLSTATE.
   */
  constructor(message: string, options: BackendErrorOptions) {
    super(message, { cause: options.cause });
    this.code = options.code;
    this.operation = options.operation;
    this.kind = options.kind;
    this.sqlState = options.sqlState;
  }

  /** True if the same call may succeed later. */
  get retryable(): boolean {
    return this.kind === "transient" || this.kind === "disk-full" || this.kind === "timeout";
  }
}
