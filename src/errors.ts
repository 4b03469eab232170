/**
 * The three error classes of the library. Each has a stable `name`; messages say what could not be
 * done, then what is wanted, then the current state, and never hold a password.
 *
 * @module
 */

/** A value as it is shown in a message: short, on one line, never a whole document. */
export function describe(value: unknown): string {
  let text: string;
  if (typeof value === "string") text = JSON.stringify(value);
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
  /** What was being accepted, as in "system metrics". */
  subject: string;
  /** The field that is wrong, in camelCase. */
  field: string;
  /** The value that was given. */
  value: unknown;
  /** What is wanted instead, as in "a finite number". */
  wanted: string;
}

/**
 * A record, a query or an option holds a value that cannot be taken. Nothing was queued.
 *
 * @example It names the field, what is wanted and the value
 * ```ts
 * import { ObservabilityHub, ValidationError } from "@openfinops/telemetry";
 *
 * const hub = new ObservabilityHub();
 * try {
 *   await hub.collectSystemMetrics({ timestamp: Date.now(), cpuUsage: NaN });
 * } catch (error) {
 *   if (!(error instanceof ValidationError)) throw error;
 *   console.log(error.field, error.wanted); // cpuUsage a finite number
 * }
 * ```
 */
export class ValidationError extends Error {
  /** Always `"ValidationError"`. */
  override readonly name = "ValidationError";
  /** The field that is wrong, in camelCase. */
  readonly field: string;
  /** The value that was given. */
  readonly value: unknown;
  /** What is wanted instead. */
  readonly wanted: string;

  /**
   * Makes the error and its message from the parts.
   *
   * @param options The field, the value and what is wanted instead.
   */
  constructor(options: ValidationErrorOptions) {
    const { subject, field, value, wanted } = options;
    super(
      `Cannot accept ${subject}: ${field} must be ${wanted}: current value is ${describe(value)}`,
    );
    this.field = field;
    this.value = value;
    this.wanted = wanted;
  }
}

/** The configuration cannot be used: an unknown name, a bad connection string, a wrong value. */
export class ConfigError extends Error {
  /** Always `"ConfigError"`. */
  override readonly name = "ConfigError";
}

/**
 * What a failure of a backend means for whoever wanted something of it:
 *
 * - `transient`: it passes by itself, as a lost connection or a lock does. What was written may be stored or not.
 * - `disk-full`: it passes when there is room again.
 * - `timeout`: it took too long. Nothing was stored; less at once may do.
 * - `operator`: somebody has to mend something, as a password, a privilege or a table.
 * - `data`: the records themselves were refused. Nothing was stored.
 * - `unknown`: nobody knows.
 */
export type FailureKind = "transient" | "disk-full" | "timeout" | "operator" | "data" | "unknown";

/** The parts of a {@linkcode BackendError} beside its message. */
export interface BackendErrorOptions {
  /** What was being done, as in `"write"`. */
  operation: string;
  /** What it means: whether to try again, and how. */
  kind: FailureKind;
  /** The error of the driver. */
  cause?: unknown;
  /** The SQLSTATE of the server's error, where a server answered with one. */
  sqlState?: string;
}

/** What a failure means, whoever threw it. */
export function kindOf(error: unknown): FailureKind {
  return error instanceof BackendError ? error.kind : "unknown";
}

/** What was thrown, in words. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Somebody closed the backend too early, which says nothing of the records. */
export function closedBackend(operation: string, name: string): BackendError {
  return new BackendError(
    `Cannot ${operation} ${name}: an open backend is wanted: this one is closed`,
    { operation, kind: "operator" },
  );
}

/**
 * A failure of something that came before the records: it says nothing of them, nor of an earlier attempt to write them,
 * whose outcome is not known. So only time can pass, unless somebody has to mend something.
 */
export function asFailedBefore(error: unknown): unknown {
  if (!(error instanceof BackendError) || !["timeout", "data", "unknown"].includes(error.kind)) return error;
  const { operation, sqlState, cause, message } = error;
  return new BackendError(message, { operation, kind: "transient", sqlState, cause });
}

/** The backend could not do what was asked of it. */
export class BackendError extends Error {
  /** Always `"BackendError"`. */
  override readonly name = "BackendError";
  /** What was being done, as in `"write"`. */
  readonly operation: string;
  /** What it means: whether to try again, and how. */
  readonly kind: FailureKind;
  /** The SQLSTATE of the server's error, where a server answered with one. */
  readonly sqlState?: string;

  /**
   * Makes the error.
   *
   * @param message What could not be done, what is wanted, and the current state.
   * @param options The operation, the kind of failure, the cause, and the server's SQLSTATE.
   */
  constructor(message: string, options: BackendErrorOptions) {
    super(message, { cause: options.cause });
    this.operation = options.operation;
    this.kind = options.kind;
    this.sqlState = options.sqlState;
  }

  /** Whether the same call may succeed later as it is. */
  get retryable(): boolean {
    return this.kind === "transient" || this.kind === "disk-full" || this.kind === "timeout";
  }
}
