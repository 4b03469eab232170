import type { Column, ColumnType, Dataset } from "../records/dataset.ts";
import { Decimal } from "../records/decimal.ts";
import type { Encoder } from "./values.ts";

/** Records that are held until they are written as one row group. */
const GROUP_RECORDS = 20_000;
const ONE = 10n ** 18n;

/** As much of `hyparquet-writer` as is used here; its own types do not resolve in every program that imports this. */
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
    encode(value) {
      const { units, parts } = Decimal.from(value as string);
      return units * ONE + parts;
    },
  },
  map: { element: { type: "BYTE_ARRAY", converted_type: "JSON" } },
};

/** A `TransformStream` of records into a file of Parquet: money as DECIMAL(38,18), maps as JSON. */
export async function parquetEncoder({ columns }: Dataset<unknown>): Promise<Encoder> {
  const { ByteWriter, ParquetWriter } = await import("hyparquet-writer") as unknown as ParquetModule;
  const schema = [{ name: "root", num_children: columns.length }, ...columns.map(toElement)];
  const bytes = new ByteWriter();
  const file = new ParquetWriter({ writer: bytes, schema });
  let held: unknown[] = [];
  const take = () => {
    const taken = bytes.getBytes().slice();
    bytes.index = 0;
    return taken;
  };
  const writeGroup = () => {
    const columnData = columns.map((column) => ({ name: column.field, data: toData(column, held) }));
    file.write({ columnData, rowGroupSize: GROUP_RECORDS });
    held = [];
  };
  return new TransformStream({
    transform(records, controller) {
      held = held.concat(records);
      if (held.length < GROUP_RECORDS) return;
      writeGroup();
      controller.enqueue(take());
    },
    flush(controller) {
      if (held.length > 0) writeGroup();
      file.finish();
      controller.enqueue(take());
    },
  });
}

function toElement({ field, type, required }: Column): object {
  return { name: field, repetition_type: required ? "REQUIRED" : "OPTIONAL", ...STORAGE[type].element };
}

function toData({ field, type }: Column, records: readonly unknown[]): unknown[] {
  const { encode } = STORAGE[type];
  return (records as readonly Record<string, unknown>[]).map((record) => {
    const value = record[field];
    return value === undefined || !encode ? value : encode(value);
  });
}
