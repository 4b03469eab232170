import { type ErrorCode, ValidationError } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptRecord } from "../records/validation.ts";
import { readCsvLine } from "./csv.ts";
import { TransferError } from "./transfer_error.ts";
import type { Line } from "./line_stream.ts";
import { makeReader, type MappingOptions, namedColumns, type RowReader } from "./mapping.ts";
import { FOCUS_NULL } from "./focus_import.ts";

/** A line that could not be taken. */
export interface Reject {
  /** The number of the line, from 1. */
  readonly line: number;
  /** Stable name of the fault. */
  readonly code: ErrorCode;
  /** The same in words. */
  readonly reason: string;
  /** Text; of a line that is too long or not UTF-8, as much as can be shown. */
  readonly text: string;
}

/** Result of a line. */
export type Outcome = Taken | Reject;

/** A line that became a record. */
export interface Taken {
  readonly record: unknown;
  /** True if the file has no id for it: its content makes one. */
  readonly isHashed?: boolean;
  /** The columns of the file that are null in this line; of the first record of a file whose columns are kept. */
  readonly absent?: readonly string[];
}

/**
 * A `TransformStream` of lines into records, or into what is wrong with the line: one bad line costs no other. The
 * first line of a file of CSV names its columns; without it the stream errors.
 */
export class RecordStream extends TransformStream<readonly Line[], Outcome[]> {
  /** Makes the stream. */
  constructor(dataset: Dataset<unknown>, options: MappingOptions) {
    const isNdjson = options.format === "ndjson";
    let reader: LineReader | undefined = isNdjson ? new NdjsonReader(dataset, options) : undefined;
    super({
      transform(lines, controller) {
        const outcomes: Outcome[] = [];
        for (const line of lines) {
          if (reader) outcomes.push(take(line, reader));
          else reader = new CsvReader(dataset, options, line);
        }
        if (outcomes.length > 0) controller.enqueue(outcomes);
      },
      flush() {
        if (reader) return reader.end?.();
        throw new TransferError(
          `Cannot import ${dataset.name}: the file is empty. Its first line must name the columns.`,
          { code: "INVALID_HEADER" },
        );
      },
    });
  }
}

/** Reads the names of the columns. */
export function headerOf(text: string): string[] {
  return readCsvLine(text).map((name) => (name ?? "").trim());
}

/** Makes a record from a line. */
interface LineReader {
  read(text: string): Taken;
  /** Checks that need all lines. */
  end?(): void;
}

function take({ line, text, fault }: Line, reader: LineReader): Outcome {
  if (fault !== undefined) return { line, code: "INVALID_LINE", reason: fault, text };
  try {
    return reader.read(text);
  } catch (error) {
    if (error instanceof ValidationError || error instanceof TransferError) {
      return { line, code: error.code, reason: error.message, text };
    }
    throw error;
  }
}

/** Stands for an id until the content of a cost makes one. */
const NO_ID = "row";

/** Makes a record. */
function accept(dataset: Dataset<unknown>, input: Record<string, unknown>): Taken {
  const isHashed = dataset.key.includes("entryId") && (input.entryId ?? undefined) === undefined;
  if (isHashed) input.entryId = NO_ID;
  return { record: acceptRecord(dataset, input), isHashed };
}

class CsvReader implements LineReader {
  readonly #dataset: Dataset<unknown>;
  readonly #columns: ReadonlyMap<string, number>;
  readonly #rows: RowReader;
  /** The text that is null where no quotes are around it. */
  readonly #nullText: string | undefined;
  #isFirst = true;

  constructor(dataset: Dataset<unknown>, options: MappingOptions, header: Line) {
    if (header.fault !== undefined) {
      throw new TransferError(
        `Cannot import ${dataset.name}: its first line must name the columns. ${header.fault}`,
        { code: "INVALID_HEADER", line: header.line },
      );
    }
    const names = headerOf(header.text);
    this.#dataset = dataset;
    this.#columns = new Map(names.map((name, i) => [name, i]));
    this.#rows = makeReader(dataset, options, names);
    this.#nullText = options.format === "focus" ? FOCUS_NULL : undefined;
  }

  read(text: string): Taken {
    const cells = readCsvLine(text, this.#nullText);
    if (cells.length !== this.#columns.size) {
      throw new TransferError(
        `The line has ${cells.length} columns, and the first line ${this.#columns.size}.`,
        { code: "INVALID_LINE" },
      );
    }
    const row = (column: string) => cells[this.#columns.get(column)!];
    const taken = accept(this.#dataset, this.#rows.read(row));
    const absent = this.#isFirst ? this.#rows.absentIn?.(row, taken.record) : undefined;
    this.#isFirst = false;
    return absent ? { ...taken, absent } : taken;
  }
}

class NdjsonReader implements LineReader {
  readonly #dataset: Dataset<unknown>;
  readonly #rows: RowReader;
  /** Without a mapping, validation refuses columns that are not fields. */
  readonly #known: ReadonlySet<string> | undefined;
  /** The columns that are mapped, and that no line has had so far. */
  readonly #unseen: Set<string>;
  #hasRows = false;

  constructor(dataset: Dataset<unknown>, options: MappingOptions) {
    this.#dataset = dataset;
    this.#rows = makeReader(dataset, options);
    this.#unseen = new Set(namedColumns(options));
    const isMapped = options.map || options.set || options.idColumn;
    this.#known = isMapped ? undefined : new Set(dataset.columns.flatMap(({ field, name }) => [field, name]));
  }

  read(text: string): Taken {
    let row: Record<string, unknown>;
    try {
      row = JSON.parse(text, keepDigits);
    } catch (error) {
      throw new TransferError(`The line is not JSON (${(error as Error).message}).`, {
        code: "INVALID_LINE",
      });
    }
    if (typeof row !== "object" || row === null || Array.isArray(row)) {
      throw new TransferError("The line is no JSON object.", { code: "INVALID_LINE" });
    }
    this.#hasRows = true;
    for (const column of this.#unseen) {
      if (Object.hasOwn(row, column)) this.#unseen.delete(column);
    }
    const record = this.#rows.read((column) => Object.hasOwn(row, column) ? row[column] : undefined);
    if (this.#known) {
      for (const name in row) {
        if (!this.#known.has(name)) record[name] = row[name];
      }
    }
    return accept(this.#dataset, record);
  }

  end(): void {
    if (!this.#hasRows || this.#unseen.size === 0) return;
    const columns = [...this.#unseen].join(", ");
    throw new TransferError(`No line has ${columns}. Correct the map.`, {
      code: "MISSING_COLUMN",
    });
  }
}

/** A number with more digits than a float can hold stays the text that it is in the file. */
function keepDigits(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source;
  return typeof value === "number" && source !== undefined && source.length > 15 ? source : value;
}
