/**
 * Data could not be taken in from a file, or given out to one. Neither the configuration nor the backend is at
 * fault, and often only one line is.
 */
export class TransferError extends Error {
  /** Always `"TransferError"`. */
  override readonly name = "TransferError";
  /** The line that is at fault, counted from 1, where it is one. */
  readonly line?: number;

  /**
   * Makes the error.
   *
   * @param message What could not be done, what is wanted, and the current state.
   * @param options The line, and the error that led here.
   */
  constructor(message: string, options: { line?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.line = options.line;
  }
}
