import { ValidationError } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptRecord } from "../records/validation.ts";
import { TransferError } from "./transfer_error.ts";
import { makeReader } from "./mapping.ts";
import type { MappingOptions } from "./mapping_options.ts";
import { DoubtfulValues } from "./doubtful_values.ts";
import { assertWhole, type FileRow, type Reject } from "./rows.ts";

export type { Reject };

/** Result of a line: a record, several of one line, a line that is no charge, or one that could not be taken. */
export type Outcome = Taken | { readonly skipped: true } | Reject;

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
    const make = () => makeReader(dataset, options, columns);
    const reader = columns ? withDelimiterHint(dataset, columns, make) : make();
    let isFirst = true;
    let hasRows = false;
    const doubtful = new DoubtfulValues(dataset, Date.now());
    const take = (input: Record<string, unknown>, line: number): Taken => {
      const taken = accept(dataset, input);
      doubtful.check(taken.record, input, line);
      return taken;
    };
    const read = ({ values, line }: FileRow): Outcome[] => {
      const taken = reader.read(values).map((input) => input ? take(input, line) : SKIPPED);
      const [first] = taken;
      const absent = isFirst && "record" in first ? reader.absentIn?.(values, first.record) : undefined;
      isFirst = false;
      return absent ? [{ ...first as Taken, absent }] : taken;
    };
    super({
      transform(rows, controller) {
        hasRows ||= rows.length > 0;
        if (dataset.name === "cost_entries") assertWhole(rows);
        controller.enqueue(rows.flatMap((row) => readRow(row, read)));
      },
      flush() {
        if (columns && !hasRows) options.onNote?.("the file has no rows");
        reader.end?.();
        for (const note of doubtful.notes()) options.onNote?.(note);
      },
    });
  }
}

const SKIPPED = { skipped: true } as const;

/** Replaces an error of missing columns by a hint, if the header seems to have another delimiter. */
function withDelimiterHint<T>(dataset: Dataset<unknown>, columns: readonly string[], make: () => T): T {
  try {
    return make();
  } catch (error) {
    const header = columns.join(",");
    const delimiter = [";", "|", "\t"].find((each) => header.split(each).length > columns.length);
    if (!(error instanceof TransferError) || delimiter === undefined) throw error;
    const name = delimiter === "\t" ? "tab" : `"${delimiter}"`;
    throw new TransferError(
      `Cannot import ${dataset.name}: the columns seem to be separated by ${name}. Use --delimiter ${name}.`,
      error,
    );
  }
}

function readRow(row: FileRow, read: (row: FileRow) => Outcome[]): Outcome[] {
  const { line, text, fault } = row;
  if (fault !== undefined) return [{ line, code: "INVALID_LINE", reason: fault, text }];
  try {
    return read(row);
  } catch (error) {
    if (error instanceof ValidationError || error instanceof TransferError) {
      return [{ line, code: error.code, reason: error.message, text }];
    }
    throw error;
  }
}

/** Stands for an id until the content of a cost makes one. */
const NO_ID = "row";

function accept(dataset: Dataset<unknown>, input: Record<string, unknown>): Taken {
  const isHashed = dataset.key.includes("entryId") && (input.entryId ?? undefined) === undefined;
  if (isHashed) input.entryId = NO_ID;
  return { record: acceptRecord(dataset, input), isHashed };
}
