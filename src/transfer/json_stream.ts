import { concatenate } from "../records/bytes.ts";
import { TransferError } from "./transfer_error.ts";
import { type Line, MAX_LINE_BYTES, MAX_SHOWN_BYTES } from "./line_stream.ts";

const LF = 10, SPACE = 32, QUOTE = 34, COMMA = 44, BACKSLASH = 92;
const BOM = [0xef, 0xbb, 0xbf];
const [OPEN_LIST, CLOSE_LIST, OPEN, CLOSE] = [91, 93, 123, 125];

/**
 * A `TransformStream` of bytes of JSON into its objects: those of an array, or one after the other, on any number of
 * lines. Anything else between them is passed on, for its fault to be told.
 */
export class JsonStream extends TransformStream<Uint8Array, Line[]> {
  constructor() {
    const scanner = new JsonScanner();
    super({
      transform: (chunk, controller) => controller.enqueue(scanner.scan(chunk)),
      flush: (controller) => controller.enqueue(scanner.finish()),
    });
  }
}

/** Finds the objects of JSON, given in chunks. */
export class JsonScanner {
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true });
  readonly #lenient = new TextDecoder();
  /** Parts of the value that is not over, their bytes, and its first line. */
  #parts: Uint8Array[] = [];
  #bytes = 0;
  #start = 1;
  #line = 1;
  /** Braces and brackets that are open in the value, and brackets around values. */
  #depth = 0;
  #lists = 0;
  /** True within a value; also within one that is no object. */
  #isValue = false;
  #isText = false;
  #isEscaped = false;
  #lines: Line[] = [];

  /** The objects that end in this chunk. */
  scan(chunk: Uint8Array): Line[] {
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at];
      if (byte === LF) this.#line++;
      if (this.#isText) this.#stepText(byte);
      else if (this.#depth > 0) {
        if (byte === QUOTE) this.#isText = true;
        else if (byte === OPEN || byte === OPEN_LIST) this.#depth++;
        else if ((byte === CLOSE || byte === CLOSE_LIST) && --this.#depth === 0) {
          this.#end(chunk.subarray(from, at + 1));
        }
      } else {
        // An array within an array is a value: taken apart, it would shift the positions of all others.
        const isOpen = byte === OPEN || (byte === OPEN_LIST && this.#lists > 0);
        const isBetween = byte <= SPACE || byte === COMMA || (byte === OPEN_LIST && !isOpen) ||
          byte === CLOSE_LIST || BOM.includes(byte);
        if (this.#isValue && (isBetween || isOpen)) this.#end(chunk.subarray(from, at));
        if (byte === OPEN_LIST && !isOpen) this.#lists++;
        if (byte === CLOSE_LIST) this.#lists--;
        if (isBetween) continue;
        if (isOpen) this.#depth = 1;
        if (byte === QUOTE) this.#isText = true;
        if (this.#isValue) continue;
        this.#isValue = true;
        this.#start = this.#line;
        from = at;
      }
    }
    if (this.#isValue) this.#hold(chunk.slice(from));
    return this.#take();
  }

  /**
   * The last object, if it ends with the file.
   *
   * @throws {TransferError} If an object or an array is not closed: what is missing is not known.
   */
  finish(): Line[] {
    if (this.#depth > 0 || this.#isText || this.#lists > 0) {
      const line = this.#isValue ? this.#start : this.#line;
      throw new TransferError(
        `the JSON file is damaged or cut short: what begins in line ${line} is not closed. Fetch it again.`,
        { code: "INVALID_FILE", line },
      );
    }
    if (this.#isValue) this.#end(new Uint8Array());
    return this.#take();
  }

  #stepText(byte: number): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (byte === BACKSLASH) this.#isEscaped = true;
    else if (byte === QUOTE) this.#isText = false;
  }

  /** Keeps a part of a value, as far as one may go. */
  #hold(part: Uint8Array): void {
    if (this.#bytes <= MAX_LINE_BYTES) this.#parts.push(part.subarray(0, MAX_LINE_BYTES + 1));
    this.#bytes += part.length;
  }

  #end(last: Uint8Array): void {
    this.#hold(last);
    const bytes = concatenate(this.#parts);
    const fault = this.#bytes > MAX_LINE_BYTES
      ? `The object is longer than ${MAX_LINE_BYTES} bytes.`
      : undefined;
    this.#lines.push({ line: this.#start, ...this.#decode(bytes, fault) });
    this.#parts = [];
    this.#bytes = 0;
    this.#isValue = false;
  }

  #decode(bytes: Uint8Array, fault?: string): { text: string; fault?: string } {
    const shown = () => this.#lenient.decode(bytes.subarray(0, MAX_SHOWN_BYTES));
    if (fault !== undefined) return { text: shown(), fault };
    try {
      return { text: this.#utf8.decode(bytes) };
    } catch {
      return { text: shown(), fault: "The object is not UTF-8." };
    }
  }

  #take(): Line[] {
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }
}
