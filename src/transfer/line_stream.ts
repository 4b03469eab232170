import { concatenate } from "../records/bytes.ts";

/** A line of a file; in CSV a whole record, which quotes may stretch over several lines. */
export interface Line {
  /** The number of its first line, from 1. */
  readonly line: number;
  /** Text without the line end; of a faulty line as much as can be shown. */
  readonly text: string;
  readonly fault?: string;
  /** True of the last line if it has no line end. */
  readonly isOpen?: boolean;
}

export interface LineStreamOptions {
  /** True if quotes hide line ends, as in CSV. */
  isQuoted: boolean;
  /**
   * Character between the cells of a line; one of ASCII.
   *
   * @default {","}
   */
  delimiter?: string;
  /**
   * The most bytes of a line. Longer ones are passed over and reported, so that memory stays flat.
   *
   * @default {1_048_576}
   */
  maxBytes?: number;
}

const LF = 10, CR = 13, SPACE = 32, QUOTE = 34, SEMICOLON = 59;
const BOM = [0xef, 0xbb, 0xbf];
/** The most bytes of a line, unless options say otherwise. */
export const MAX_LINE_BYTES = 2 ** 20;
/** The most bytes of a faulty line that are shown. */
export const MAX_SHOWN_BYTES = 1_000;

/** State of the scan within a line. */
type State =
  | "start" // of a field, where a quote opens it
  | "plain" // within a field without quotes
  | "quoted"
  | "closing" // after a quote within quotes: the closing one, or the first of two
  | "closed" // after spaces behind a closing quote
  | "skipped"; // in a line that was reported and is passed over

/**
 * A `TransformStream` of bytes into lines, each checked to be UTF-8. A line that is at fault costs no other: after a
 * quote that is never closed, reading continues after the first line of that record.
 *
 * Written here because no library on npm does this: csv-parse 7 reports a line of 50 MB as 749 faults, takes Latin-1
 * for UTF-8, gives up all that follows an unclosed quote, and takes eight times as long once it has to tell an empty
 * text from nothing.
 */
export class LineStream extends TransformStream<Uint8Array, Line[]> {
  constructor(options: LineStreamOptions) {
    const scanner = new LineScanner(options);
    super({
      transform(chunk, controller) {
        const lines = scanner.scan(chunk);
        if (lines.length > 0) controller.enqueue(lines);
      },
      flush(controller) {
        const lines = scanner.finish();
        if (lines.length > 0) controller.enqueue(lines);
      },
    });
  }
}

/** Finds the lines of a file, given in chunks. */
export class LineScanner {
  readonly #isQuoted: boolean;
  readonly #delimiter: number;
  readonly #maxBytes: number;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  readonly #lenient = new TextDecoder();
  /** The line that is not over yet, and how much of it was scanned. */
  #held: Uint8Array = new Uint8Array();
  #scanned = 0;
  #state: State = "start";
  /** The number of the line that is held, and of line ends that its quotes hide. */
  #line = 1;
  #hidden = 0;
  /** Position of the first of these bytes, or -1. */
  #firstEnd = -1;
  #lines: Line[] = [];

  /** Makes a scanner that has seen nothing. */
  constructor({ isQuoted, delimiter = ",", maxBytes = MAX_LINE_BYTES }: LineStreamOptions) {
    this.#isQuoted = isQuoted;
    this.#delimiter = delimiter.charCodeAt(0);
    this.#maxBytes = maxBytes;
  }

  /** The lines that end in this chunk. */
  scan(chunk: Uint8Array): Line[] {
    this.#scan(chunk);
    return this.#take();
  }

  #scan(chunk: Uint8Array): void {
    const bytes = this.#held.length === 0 ? chunk : concatenate([this.#held, chunk]);
    let start = 0;
    let isFirst = true;
    for (let at = this.#scanned; at < bytes.length; at++) {
      const byte = bytes[at];
      if (byte === LF && this.#state !== "quoted") {
        if (this.#state !== "skipped") this.#emit(bytes.subarray(start, at));
        start = at + 1;
        this.#begin(this.#hidden + 1);
        if (isFirst) start = this.#takeRegular(bytes, start);
        isFirst = false;
        at = start - 1;
        continue;
      }
      const fault = this.#step(byte, at - start);
      if (fault === undefined) continue;
      [start, at] = this.#pass(bytes, start, { at, fault });
    }
    const isSkipped = this.#state === "skipped";
    this.#held = isSkipped ? new Uint8Array() : bytes.slice(start);
    this.#scanned = this.#held.length;
  }

  /**
   * Takes regular lines in a decoded text, which costs a third of a look at each byte (measured). Returns the start of the
   * line at which it stops.
   */
  #takeRegular(bytes: Uint8Array, start: number): number {
    const end = bytes.lastIndexOf(LF) + 1;
    let text: string;
    try {
      text = this.#utf8.decode(bytes.subarray(start, end));
    } catch {
      return start;
    }
    let at = 0;
    while (at < text.length) {
      const lineEnd = this.#isQuoted ? regularEnd(text, at, this.#delimiter) : text.indexOf("\n", at);
      // A character has up to three bytes.
      if (lineEnd < 0 || (lineEnd - at) * 3 >= this.#maxBytes) break;
      this.#push(text.slice(at, text.charCodeAt(lineEnd - 1) === CR && lineEnd > at ? lineEnd - 1 : lineEnd));
      this.#begin(1);
      at = lineEnd + 1;
    }
    if (at === text.length) return end;
    return start + (text.length === end - start ? at : new TextEncoder().encode(text.slice(0, at)).length);
  }

  /** The last line, which may have no end. */
  finish(): Line[] {
    while (this.#held.length > 0) {
      const rest = this.#held;
      this.#held = new Uint8Array();
      this.#scanned = 0;
      if (this.#state !== "quoted") this.#emit(rest, { isOpen: true });
      else {
        const [start] = this.#pass(rest, 0, { at: rest.length, fault: "A closing quote is missing." });
        if (start > 0) this.#scan(rest.subarray(start));
        else this.#lines.push({ ...this.#lines.pop()!, isOpen: true });
      }
    }
    return this.#take();
  }

  /** Advances by a byte. Returns the fault, if any. */
  #step(byte: number, at: number): string | undefined {
    switch (this.#state) {
      case "skipped":
        return;
      case "quoted":
        if (byte === QUOTE) this.#state = "closing";
        else if (byte === LF) {
          if (this.#firstEnd < 0) this.#firstEnd = at;
          this.#hidden++;
        }
        break;
      case "closing":
      case "closed":
        if (byte === QUOTE && this.#state === "closing") this.#state = "quoted";
        else if (byte === this.#delimiter) this.#state = "start";
        else if (byte === SPACE) this.#state = "closed";
        else if (byte !== CR) {
          return "A closing quote must be followed by a comma or the end of the line." +
            (byte === SEMICOLON ? ' Use --delimiter ";" if the cells are separated by it.' : "");
        }
        break;
      case "start":
        if (byte === QUOTE && this.#isQuoted) this.#state = "quoted";
        else if (byte !== this.#delimiter && byte !== SPACE && byte !== BOM[at]) this.#state = "plain";
        break;
      case "plain":
        if (byte === this.#delimiter) this.#state = "start";
    }
    if (at < this.#maxBytes) return;
    return this.#firstEnd < 0
      ? `The line is longer than ${this.#maxBytes} bytes.`
      : `A closing quote is missing within ${this.#maxBytes} bytes.`;
  }

  /** Reports a line and skips it. Returns the start of the next one, and the byte before it. */
  #pass(bytes: Uint8Array, start: number, { at, fault }: { at: number; fault: string }): [number, number] {
    const end = this.#firstEnd < 0 ? at : start + this.#firstEnd;
    const shown = bytes.subarray(start, Math.min(end, start + MAX_SHOWN_BYTES));
    this.#lines.push({ line: this.#line, text: this.#lenient.decode(shown), fault });
    if (this.#firstEnd < 0) {
      this.#state = "skipped";
      return [start, at];
    }
    this.#begin(1);
    return [end + 1, end];
  }

  /** Begins a new line, so many lines further down. */
  #begin(lines: number): void {
    this.#line += lines;
    this.#hidden = 0;
    this.#firstEnd = -1;
    this.#state = "start";
  }

  #emit(bytes: Uint8Array, end: Pick<Line, "isOpen"> = {}): void {
    const isCrLf = bytes.at(-1) === CR;
    const line = isCrLf ? bytes.subarray(0, -1) : bytes;
    if (line.length === 0) return;
    try {
      this.#push(this.#utf8.decode(line), end);
    } catch {
      const text = this.#lenient.decode(line.subarray(0, MAX_SHOWN_BYTES));
      const fault = "The line is not UTF-8. Convert the file, from Latin-1 by `iconv -f latin1 -t utf-8`.";
      this.#lines.push({ line: this.#line, text, fault, ...end });
    }
  }

  #push(decoded: string, end?: Pick<Line, "isOpen">): void {
    // Files that were appended to one another have one at the start of each.
    const text = decoded.startsWith("\uFEFF") ? decoded.slice(1) : decoded;
    if (text !== "") this.#lines.push({ line: this.#line, text, ...end });
  }

  #take(): Line[] {
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }
}

/**
 * End of a line of CSV in which each quote opens or closes a cell, or is one of two within it, and no quotes hide a line
 * end; -1 of any other line.
 */
function regularEnd(text: string, start: number, delimiter: number): number {
  const end = text.indexOf("\n", start);
  for (let at = start;;) {
    const open = text.indexOf('"', at);
    if (open < 0 || open > end) return end;
    if (open > start && text.charCodeAt(open - 1) !== delimiter) return -1;
    let close = text.indexOf('"', open + 1);
    while (close >= 0 && text.charCodeAt(close + 1) === QUOTE) close = text.indexOf('"', close + 2);
    if (close < 0 || close > end) return -1;
    at = close + 1;
    const next = text.charCodeAt(at);
    if (next !== delimiter && next !== LF && !(next === CR && at + 1 === end)) return -1;
  }
}
