/**
 * Rows of a file in any form: values by position where the columns are known, else by name.
 *
 * @module
 */
import type { ErrorCode } from "../errors.ts";
import type { CellOptions } from "./cell_readers.ts";
import { type CsvForm, readCsvLine } from "./csv.ts";
import { FOCUS_NULL } from "./focus_import.ts";
import { takeHead } from "./decompress.ts";
import { JsonStream } from "./json_stream.ts";
import type { ImportFormat } from "./formats.ts";
import { type Line, LineStream } from "./line_stream.ts";
import { MANIFEST_SKIPPED } from "./manifest.ts";
import { TransferError } from "./transfer_error.ts";
import type { Row } from "./locate.ts";
import { keepDigits } from "./values.ts";

/** Bytes that show whether a file has an object of JSON in each line. */
const FIRST_LINE_BYTES = 2_000;

export interface FileRow {
  /** The number of its first line, from 1. */
  readonly line: number;
  /** The row as the file has it; of a faulty one as much as can be shown. */
  readonly text: string;
  readonly fault?: string;
  /** True if the file seems to be cut within the row. */
  readonly isCut?: boolean;
  /** Its values, text or typed; null or undefined where it has none. */
  readonly values: Row;
}

/** A line that could not be taken. */
export interface Reject {
  /** Name of the member, where the file is a zip file. */
  readonly member?: string;
  /** The number of the line, from 1. */
  readonly line: number;
  /** Stable name of the fault. */
  readonly code: ErrorCode;
  /** The same in words. */
  readonly reason: string;
  /** Text; of a line that is too long or not UTF-8, as much as can be shown. */
  readonly text: string;
}

export interface FileRows {
  /** The format, as given or as found. */
  readonly format: ImportFormat | undefined;
  /** The columns of all rows, where the file names them once. */
  readonly columns?: readonly string[];
  readonly rows: ReadableStream<readonly FileRow[]>;
}

/**
 * Refuses rows that end within one: what is missing may be most of a bill.
 *
 * @throws {TransferError} If they do.
 */
export function assertWhole(rows: readonly FileRow[]): void {
  const { isCut, line, fault } = rows.at(-1) ?? {};
  if (!isCut) return;
  throw new TransferError(
    `the file seems to be cut short: its last line, ${line}, has no line end. ${fault} Fetch it again, or end it with ` +
      "a line end if it is whole.",
    { code: "INVALID_FILE", line },
  );
}

/** Form of the rows in a file. */
export interface RowOptions extends Pick<CellOptions, "nullTexts" | "delimiter" | "onNote"> {
  /** The format; by default the one that `detect` finds. */
  readonly format?: ImportFormat;
  /** Form of the file where its format does not say; by default its first byte tells. */
  readonly form?: "csv" | "ndjson";
  /** Finds the format by the columns or the first row of the file. */
  readonly detect?: (columns: readonly string[] | undefined, row?: Row) => ImportFormat | undefined;
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
  const { delimiter, form, format: given } = options;
  const { head, whole } = await takeHead(bytes, FIRST_LINE_BYTES);
  const [start] = new TextDecoder().decode(head).replace(/^\uFEFF/, "").trimStart().split("\n", 1);
  if (given === "ndjson" || form === "ndjson" || /^[{[]/.test(start)) {
    // An object or array that goes on in the next line; else each line is by itself, so that a bad one costs no other.
    const isSpread = start.startsWith("[") || /[{,:[]\s*$/.test(start);
    const lines = whole.pipeThrough(isSpread ? new JsonStream() : new LineStream({ isQuoted: false }));
    const rows = lines.pipeThrough(mapPages(jsonReader(options)));
    if (given !== undefined || !options.detect) return { rows, format: given };
    const { first, rest } = await takeFirst(rows);
    return {
      rows: startWith(first ? [first] : [], rest),
      format: first && options.detect(undefined, first.values),
    };
  }
  const { first, rest } = await takeFirst(whole.pipeThrough(new LineStream({ isQuoted: true, delimiter })));
  if (!first || first.fault !== undefined) {
    throw new TransferError(
      `${first ? "" : "the file is empty. "}Its first line must name the columns. ${first?.fault ?? ""}`
        .trim(),
      { code: "INVALID_HEADER", line: first?.line },
    );
  }
  if (/^# (HELP|TYPE) /.test(first.text)) {
    throw new TransferError(
      "this looks like Prometheus text. Import it as metrics, services, devices or usage with --format prometheus.",
      { code: "UNSUPPORTED_FORMAT" },
    );
  }
  const names = readCsvLine(first.text, { delimiter, isTrimmed: true }).map((name) => (name ?? "").trim());
  while (names.length > 1 && names.at(-1) === "") names.pop();
  const format = options.format ?? options.detect?.(names);
  const read = csvReader(names, first.text, { ...options, format });
  return { format, columns: names, rows: rest.pipeThrough(mapPages(read)) };
}

/** A stream with a first chunk in front. */
function startWith<T extends { length: number }>(first: T, rest: ReadableStream<T>): ReadableStream<T> {
  return ReadableStream.from((async function* () {
    if (first.length > 0) yield first;
    yield* rest;
  })());
}

/** Takes the first line off a stream of pages. */
async function takeFirst<T>(pages: ReadableStream<T[]>): Promise<{ first?: T; rest: ReadableStream<T[]> }> {
  const reader = pages.getReader();
  const { value: [first, ...others] = [] } = await reader.read();
  reader.releaseLock();
  return { first, rest: startWith(others, pages) };
}

function mapPages(read: (line: Line) => FileRow | undefined): TransformStream<Line[], FileRow[]> {
  return new TransformStream({
    transform(lines, controller) {
      const rows = lines.map(read).filter((row) => row !== undefined);
      if (rows.length > 0) controller.enqueue(rows);
    },
  });
}

const NOTHING: Row = [];

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
  const nulls = new Set<string | null>(nullTexts);
  return ({ line, text, fault, isOpen: isCut }) => {
    if (fault !== undefined) return { line, text, fault, isCut, values: NOTHING };
    const cells = readCsvLine(text, form);
    if (cells.length !== names.length && !hasEmptyEnd(cells, names.length)) {
      const fault = `The line has ${cells.length} columns, and the first line ${names.length}.`;
      return { line, text, fault, isCut: isCut && cells.length < names.length, values: NOTHING };
    }
    return {
      line,
      text,
      values: nulls.size === 0 ? cells : cells.map((cell) => nulls.has(cell) ? null : cell),
    };
  };
}

/** True if all cells beyond a number of columns are empty: some programs write a delimiter at the end of each line. */
function hasEmptyEnd(cells: readonly (string | null)[], columns: number): boolean {
  return cells.length > columns && cells.slice(columns).every((cell) => !cell);
}

/** Keys of the manifests of AWS and Azure. */
const MANIFEST_KEYS = [["reportKeys", "assemblyId"], ["dataFiles"], ["manifestVersion", "blobs"]];

function jsonReader({ onNote }: RowOptions): (line: Line) => FileRow | undefined {
  let isFirst = true;
  return (line) => {
    const row = readJsonLine(line);
    const isManifest = isFirst &&
      MANIFEST_KEYS.some((keys) => keys.every((key) => Object.hasOwn(row.values, key)));
    isFirst = false;
    if (!isManifest) return row;
    onNote?.(MANIFEST_SKIPPED);
  };
}

function readJsonLine({ line, text, fault, isOpen: isCut }: Line): FileRow {
  if (fault !== undefined) return { line, text, fault, isCut, values: NOTHING };
  let row: Record<string, unknown>;
  try {
    row = JSON.parse(text, keepDigits);
  } catch (error) {
    return {
      line,
      text,
      isCut,
      values: NOTHING,
      fault: `The line is not JSON (${(error as Error).message}).`,
    };
  }
  if (typeof row !== "object" || row === null || Array.isArray(row)) {
    return { line, text, values: NOTHING, fault: "The line is no JSON object." };
  }
  return { line, text, values: row };
}
