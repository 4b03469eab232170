import { describePath, type ErrorCode } from "../errors.ts";

/**
 * Data could not be taken in from a file, or given out to one. Neither the configuration nor the backend is at
 * fault, and often only one line is.
 */
export class TransferError extends Error {
  /** Always `"TransferError"`. */
  override readonly name = "TransferError";
  /** Stable name of the error. */
  readonly code: ErrorCode;
  /** The line that is at fault, counted from 1, where it is one. */
  readonly line?: number;

  /**
   * Makes the error.
   *
   * @param message What happened, then what to do.
   * @param options The code, the line, and the error that led here.
   */
  constructor(message: string, options: { code: ErrorCode; line?: number; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.code = options.code;
    this.line = options.line;
  }
}

/** Turns a system error about a file into one that names the file; returns other errors unchanged. */
export function asFileError(operation: "read" | "write", path: string, error: unknown): unknown {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  if (typeof code !== "string" || !/^E[A-Z]+$/.test(code) || code === "EPIPE") return error;
  const isFull = ["ENOSPC", "EDQUOT"].includes(code);
  const ours = isFull
    ? "DISK_FULL"
    : code === "ENOENT"
    ? "FILE_NOT_FOUND"
    : ["EACCES", "EPERM", "EROFS"].includes(code)
    ? "ACCESS_DENIED"
    : "FILE_FAILED";
  const [reason] = (error as Error).message.split(/ \(os error|: /, 1);
  const remedy = isFull
    ? "Free some space."
    : operation === "read"
    ? "Check the path."
    : "Check that the folder exists and can be written.";
  return new TransferError(`Cannot ${operation} ${describePath(path)}: ${lowerFirst(reason)}. ${remedy}`, {
    code: ours,
    cause: error,
  });
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
