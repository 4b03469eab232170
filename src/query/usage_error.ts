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

/** Creates the error of options that contradict each other, or what they are given with. */
export function conflict(message: string): UsageError {
  return new UsageError(message, "CONFLICTING_OPTIONS");
}

/** Creates the error of an argument or option that is not given. */
export function missing(message: string): UsageError {
  return new UsageError(message, "MISSING_ARGUMENT");
}
