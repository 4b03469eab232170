import type { ErrorCode } from "../errors.ts";

/** The command line was used wrongly. The program ends with exit code 2. */
export class UsageError extends Error {
  /** Always `"UsageError"`. */
  override readonly name = "UsageError";
  /** Stable name of the error. */
  readonly code: ErrorCode;

  /** Creates the error: what happened, then what to do. */
  constructor(message: string, code: ErrorCode) {
    super(message);
    this.code = code;
  }
}

/** Creates the error for options or arguments that cannot be combined. */
export function conflict(message: string): UsageError {
  return new UsageError(message, "CONFLICTING_OPTIONS");
}

/** Creates the error for a missing argument or option. */
export function missing(message: string): UsageError {
  return new UsageError(message, "MISSING_ARGUMENT");
}
