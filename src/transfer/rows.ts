/**
 * Rows of a file, whatever its form: each gives the value of a column by its name.
 *
 * @module
 */
import type { CellOptions } from "./cell_readers.ts";
import { type CsvForm, readCsvLine } from "./csv.ts";
import { FOCUS_NULL } from "./focus_import.ts";
import { type Line, LineStream } from "./line_stream.ts";
import { TransferError } from "./transfer_error.ts";
import type { Row } from "./values.ts";

/** A row of a file. */
export interface FileRow {
  /** The number of its first line, from 1. */
  readonly line: number;
  /** The row as the file has it; of a faulty one as much as can be shown. */
  readonly text: string;
  /** Fault, if there is one. */
  readonly fault?: string;
  /** The value of a column, text or typed; null or undefined where it has none. */
  readonly get: Row;
  /** The names of its columns, where those differ from row to row. */
  readonly names?: readonly string[];
}

/** The rows of a file. */
export interface FileRows {
  /** The columns of all rows, where the file names them once. */
  readonly columns?: readonly string[];
  readonly rows: ReadableStream<readonly FileRow[]>;
}

/** Form of the rows in a file. */
export interface RowOptions extends Pick<CellOptions, "nullTexts" | "delimiter"> {
  /** The format. */
  readonly format: string;
}

/**
 * Reads the rows of a file of text.
 *
 * @throws {TransferError} If a file of CSV has no first line that names its columns.
 */
export async function readRows(
  bytes: ReadableStream<Uint8Array>,
  options: RowOptions,
): Promise<FileRows> {
  const { format, delimiter } = options;
  if (format === "ndjson") {
    return {
      rows: bytes.pipeThrough(new LineStream({ isQuoted: false })).pipeThrough(mapPages(readJsonLine)),
    };
  }
  const { first, rest } = await takeFirst(bytes.pipeThrough(new LineStream({ isQuoted: true, delimiter })));
  if (!first || first.fault !== undefined) {
    throw new TransferError(
      `${first ? "" : "the file is empty. "}Its first line must name the columns. ${first?.fault ?? ""}`
        .trim(),
      { code: "INVALID_HEADER", line: first?.line },
    );
  }
  const names = readCsvLine(first.text, { delimiter, isTrimmed: true }).map((name) => (name ?? "").trim());
  while (names.length > 1 && names.at(-1) === "") names.pop();
  return { columns: names, rows: rest.pipeThrough(mapPages(csvReader(names, first.text, options))) };
}

/** Takes the first line off a stream. */
async function takeFirst(
  lines: ReadableStream<Line[]>,
): Promise<{ first?: Line; rest: ReadableStream<Line[]> }> {
  const reader = lines.getReader();
  const { value: [first, ...others] = [] } = await reader.read();
  reader.releaseLock();
  const rest = ReadableStream.from((async function* () {
    if (others.length > 0) yield others;
    yield* lines;
  })());
  return { first, rest };
}

function mapPages(read: (line: Line) => FileRow): TransformStream<Line[], FileRow[]> {
  return new TransformStream({
    transform: (lines, controller) => controller.enqueue(lines.map(read)),
  });
}

const nothing: Row = () => undefined;

function csvReader(
  names: readonly string[],
  header: string,
  { format, delimiter = ",", nullTexts = [] }: RowOptions,
): (line: Line) => FileRow {
  // In FOCUS a space is a part of the cell, unless each comma of the header has one behind it.
  const spaced = header.split(delimiter).slice(1);
  const isSpaced = spaced.length > 0 && spaced.every((name) => name.startsWith(" "));
  const nullText = format === "focus" ? FOCUS_NULL : undefined;
  const form: CsvForm = { delimiter, nullText, isTrimmed: format !== "focus" || isSpaced };
  const positions = new Map(names.map((name, i) => [name, i]));
  const nulls = new Set<string | null>(nullTexts);
  return ({ line, text, fault }) => {
    if (fault !== undefined) return { line, text, fault, get: nothing };
    const cells = readCsvLine(text, form);
    if (cells.length !== names.length && !hasEmptyEnd(cells, names.length)) {
      const fault = `The line has ${cells.length} columns, and the first line ${names.length}.`;
      return { line, text, fault, get: nothing };
    }
    const get: Row = nulls.size === 0 ? (column) => cells[positions.get(column)!] : (column) => {
      const cell = cells[positions.get(column)!];
      return nulls.has(cell) ? null : cell;
    };
    return { line, text, get };
  };
}

/** True if all cells beyond a number of columns are empty: some programs write a delimiter at the end of each line. */
function hasEmptyEnd(cells: readonly (string | null)[], columns: number): boolean {
  return cells.length > columns && cells.slice(columns).every((cell) => !cell);
}

function readJsonLine({ line, text, fault }: Line): FileRow {
  if (fault !== undefined) return { line, text, fault, get: nothing };
  let row: Record<string, unknown>;
  try {
    row = JSON.parse(text, keepDigits);
  } catch (error) {
    return { line, text, get: nothing, fault: `The line is not JSON (${(error as Error).message}).` };
  }
  if (typeof row !== "object" || row === null || Array.isArray(row)) {
    return { line, text, get: nothing, fault: "The line is no JSON object." };
  }
  return {
    line,
    text,
    names: Object.keys(row),
    get: (column) => Object.hasOwn(row, column) ? row[column] : undefined,
  };
}

/** A number with more digits than a float can hold stays the text that it is in the file. */
function keepDigits(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source;
  return typeof value === "number" && source !== undefined && source.length > 15 ? source : value;
}
