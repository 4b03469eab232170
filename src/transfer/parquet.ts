import type { ColumnType } from "../records/dataset.ts";
import { Decimal } from "../records/decimal.ts";
import type { Encoder } from "./values.ts";

/** A column of a file, and its values. */
export interface ParquetColumn {
  readonly name: string;
  readonly type: ColumnType;
  readonly isRequired: boolean;
}

/** Records that are held until they are written as one row group. */
const GROUP_RECORDS = 20_000;
/** UTF-16 code units of text that make a row group full before. The library takes several times that memory. */
const GROUP_TEXT = 16 * 2 ** 20;

/** The part of `hyparquet-writer` that is used here. Its own types do not resolve in every program that imports this. */
interface ParquetModule {
  ByteWriter: new () => ByteWriter;
  ParquetWriter: new (options: { writer: ByteWriter; schema: object[] }) => {
    write(options: { columnData: { name: string; data: unknown[] }[]; rowGroupSize: number }): void;
    finish(): void;
  };
}
interface ByteWriter {
  index: number;
  getBytes(): Uint8Array;
}

/** Storage of a column: schema element, and encoding of a value. */
interface Storage {
  readonly element: object;
  readonly encode?: (value: unknown) => unknown;
}

const STORAGE: Readonly<Record<ColumnType, Storage>> = {
  timestamp: {
    element: { type: "INT64", converted_type: "TIMESTAMP_MILLIS" },
    encode: (ms) => BigInt(ms as number),
  },
  text: { element: { type: "BYTE_ARRAY", converted_type: "UTF8" } },
  real: { element: { type: "DOUBLE" } },
  integer: { element: { type: "INT64" }, encode: (value) => BigInt(value as number) },
  boolean: { element: { type: "BOOLEAN" } },
  decimal: {
    element: {
      type: "FIXED_LEN_BYTE_ARRAY",
      type_length: 16,
      converted_type: "DECIMAL",
      precision: 38,
      scale: 18,
    },
    // In units of 10⁻¹⁸, which the library writes as they are; a number would go through a float.
    encode: (value) => Decimal.from(value as string).scaled,
  },
  map: { element: { type: "BYTE_ARRAY", converted_type: "JSON" } },
};

/**
 * A `TransformStream` of records into a file of Parquet: money as DECIMAL(38,18), maps as JSON.
 *
 * @param valuesOf The values of a record in the order of the columns; undefined where there is none.
 */
export async function parquetEncoder(
  columns: readonly ParquetColumn[],
  valuesOf: (record: unknown) => readonly unknown[],
): Promise<Encoder> {
  const { ByteWriter, ParquetWriter } = await import("hyparquet-writer") as unknown as ParquetModule;
  const schema = [{ name: "root", num_children: columns.length }, ...columns.map(toElement)];
  const bytes = new ByteWriter();
  const file = new ParquetWriter({ writer: bytes, schema });
  let held: (readonly unknown[])[] = [];
  let text = 0;
  const take = () => {
    const taken = bytes.getBytes().slice();
    bytes.index = 0;
    return taken;
  };
  const writeGroup = () => {
    const columnData = columns.map((column, i) => ({ name: column.name, data: toData(column, held, i) }));
    file.write({ columnData, rowGroupSize: GROUP_RECORDS });
    held = [];
    text = 0;
  };
  return new TransformStream({
    transform(records, controller) {
      for (const record of records) {
        const row = valuesOf(record);
        held.push(row);
        text += textLength(row);
        if (held.length < GROUP_RECORDS && text < GROUP_TEXT) continue;
        writeGroup();
        controller.enqueue(take());
      }
    },
    flush(controller) {
      if (held.length > 0) writeGroup();
      file.finish();
      controller.enqueue(take());
    },
  });
}

function toElement({ name, type, isRequired }: ParquetColumn): object {
  return { name, repetition_type: isRequired ? "REQUIRED" : "OPTIONAL", ...STORAGE[type].element };
}

function toData({ type }: ParquetColumn, rows: readonly (readonly unknown[])[], at: number): unknown[] {
  const { encode } = STORAGE[type];
  return rows.map((row) => row[at] === undefined || !encode ? row[at] : encode(row[at]));
}

/** Returns the length of all texts among some values, also in maps. */
function textLength(values: readonly unknown[]): number {
  let length = 0;
  for (const value of values) {
    if (typeof value === "string") length += value.length;
    else if (typeof value === "object" && value !== null) length += textLength(Object.values(value));
  }
  return length;
}
