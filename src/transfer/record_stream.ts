import { type ErrorCode, ValidationError } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptRecord } from "../records/validation.ts";
import { TransferError } from "./transfer_error.ts";
import { makeReader, type MappingOptions, namedColumns, type RowReader } from "./mapping.ts";
import type { FileRow } from "./rows.ts";

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

/** A `TransformStream` of rows into records, or into what is wrong with a row: one bad row costs no other. */
export class RecordStream extends TransformStream<readonly FileRow[], Outcome[]> {
  /**
   * Makes the stream.
   *
   * @throws {TransferError} If a column is missing, or one would be lost unseen.
   */
  constructor(dataset: Dataset<unknown>, options: MappingOptions, columns?: readonly string[]) {
    const reader: RecordReader = columns
      ? withDelimiterHint(columns, () => new ColumnsReader(dataset, options, columns))
      : new ObjectsReader(dataset, options);
    super({
      transform: (rows, controller) => controller.enqueue(rows.map((row) => take(row, reader))),
      flush: () => reader.end?.(),
    });
  }
}

/** Adds to an error about columns what another delimiter would make of a header that seems to be one column. */
function withDelimiterHint<T>(columns: readonly string[], make: () => T): T {
  try {
    return make();
  } catch (error) {
    const [, delimiter] = columns.length === 1 ? /\w([;|\t])/.exec(columns[0]) ?? [] : [];
    if (!(error instanceof TransferError) || delimiter === undefined) throw error;
    const name = delimiter === "\t" ? "tab" : `"${delimiter}"`;
    throw new TransferError(
      `${error.message} Are the cells separated by ${name}? Use --delimiter ${name}.`,
      error,
    );
  }
}

/** Makes a record from a row. */
interface RecordReader {
  read(row: FileRow): Taken;
  /** Checks that need all rows. */
  end?(): void;
}

function take(row: FileRow, reader: RecordReader): Outcome {
  const { line, text, fault } = row;
  if (fault !== undefined) return { line, code: "INVALID_LINE", reason: fault, text };
  try {
    return reader.read(row);
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

/** Reads rows that all have the same columns. */
class ColumnsReader implements RecordReader {
  readonly #dataset: Dataset<unknown>;
  readonly #rows: RowReader;
  #isFirst = true;

  constructor(dataset: Dataset<unknown>, options: MappingOptions, columns: readonly string[]) {
    this.#dataset = dataset;
    this.#rows = makeReader(dataset, options, columns);
  }

  read({ get }: FileRow): Taken {
    const taken = accept(this.#dataset, this.#rows.read(get));
    const absent = this.#isFirst ? this.#rows.absentIn?.(get, taken.record) : undefined;
    this.#isFirst = false;
    return absent ? { ...taken, absent } : taken;
  }
}

/** Reads rows whose columns differ from row to row. */
class ObjectsReader implements RecordReader {
  readonly #dataset: Dataset<unknown>;
  readonly #rows: RowReader;
  /** Without a mapping, validation refuses columns that are not fields. */
  readonly #known: ReadonlySet<string> | undefined;
  /** The columns that are mapped, and that no row has had so far. */
  readonly #unseen: Set<string>;
  #hasRows = false;

  constructor(dataset: Dataset<unknown>, options: MappingOptions) {
    this.#dataset = dataset;
    this.#rows = makeReader(dataset, options);
    this.#unseen = new Set(namedColumns(options));
    const isMapped = options.map || options.set || options.idColumn;
    this.#known = isMapped ? undefined : new Set(dataset.columns.flatMap(({ field, name }) => [field, name]));
  }

  read({ get, names = [] }: FileRow): Taken {
    this.#hasRows = true;
    for (const column of this.#unseen) {
      if (names.includes(column)) this.#unseen.delete(column);
    }
    const record = this.#rows.read(get);
    if (this.#known) {
      for (const name of names) {
        if (!this.#known.has(name)) record[name] = get(name);
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
