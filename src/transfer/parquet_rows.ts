/**
 * Rows of a file of Parquet, typed as its schema says: decimals exact, times as ISO 8601.
 *
 * @module
 */
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { damaged } from "./decompress.ts";
import type { RandomAccess } from "./random_access.ts";
import type { FileRow, FileRows, RowOptions } from "./rows.ts";
import { TransferError } from "./transfer_error.ts";
import { isoTime } from "./values.ts";

/** Bytes of values that are decoded at once. */
const SLICE_BYTES = 256 * 2 ** 20;
/** Bytes that a value takes beside its own in a file. */
const VALUE_BYTES = 16;
const PAGE_ROWS = 1_000;
/** The most bytes of a column in one row group, as they are stored: the library reads these at once. */
const MAX_CHUNK_BYTES = 256 * 2 ** 20;

interface SchemaElement {
  readonly name: string;
  readonly type?: string;
  readonly repetition_type?: string;
  readonly scale?: number;
  converted_type?: string;
  logical_type?: {
    readonly type: string;
    readonly unit?: string;
    readonly scale?: number;
    readonly isAdjustedToUTC?: boolean;
  };
}
interface SchemaNode {
  readonly element: SchemaElement;
  readonly children: readonly SchemaNode[];
}
interface RowGroup {
  readonly num_rows: bigint;
  readonly total_byte_size: bigint;
  readonly columns: readonly { readonly meta_data?: { readonly total_compressed_size: bigint } }[];
}
interface Metadata {
  readonly row_groups: readonly RowGroup[];
}
interface Scan {
  readonly ranges: readonly { readonly rowStart: number; readonly rowEnd: number }[];
  readColumn(options: { column: string; rowStart: number; rowEnd: number }): Promise<ArrayLike<unknown>>;
}

/** The part of `hyparquet` that is used here. Its own types do not resolve in every program that imports this. */
interface ParquetModule {
  parquetMetadataAsync(file: object, options: object): Promise<Metadata>;
  parquetSchema(metadata: Metadata): SchemaNode;
  parquetScan(options: object): Promise<Scan>;
}

/** The last second that a `Date` can hold. */
const MAX_SECONDS = 8_640_000_000_000n;

/** Turns a value of a column as it is stored into one of a row. */
type Convert = (value: unknown) => unknown;

/**
 * Reads the rows of a file of Parquet, a part of a row group at a time.
 *
 * @throws {TransferError} If the file is damaged or packed in a way that cannot be read.
 */
export async function readParquetRows(
  file: RandomAccess,
  { format: given, detect }: Pick<RowOptions, "format" | "detect">,
): Promise<FileRows> {
  const library = await import("hyparquet") as unknown as ParquetModule;
  const { parquetMetadataAsync, parquetSchema, parquetScan } = library;
  const buffer = {
    byteLength: file.size,
    slice: (start: number, end = file.size) => file.slice(start, end).arrayBuffer(),
  };
  return await orDamaged(async () => {
    const metadata = await parquetMetadataAsync(buffer, { geoparquet: false });
    const nodes = parquetSchema(metadata).children;
    const columns = nodes.map(({ element }) => element.name);
    const format = given ?? detect?.(columns);
    // FOCUS keeps each value as the text that CSV has.
    const converts = nodes.map((node) => format === "focus" ? asText(converterOf(node)) : converterOf(node));
    const scan = await parquetScan({
      file: buffer,
      metadata,
      utf8: false,
      parsers: PARSERS,
      compressors: COMPRESSORS,
    });
    return { format, columns, rows: ReadableStream.from(pagesOf(scan, metadata, { columns, converts })) };
  });
}

async function orDamaged<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const { message, code } = error as Error & { code?: string };
    if (error instanceof TransferError || (code !== undefined && /^E[A-Z]+$/.test(code))) throw error;
    if (!/unsupported|not supported/.test(message)) {
      // Other messages tell of what the library tried to do with bytes that make no sense.
      throw damaged("Parquet", /^parquet /.test(message) ? message : "unreadable content");
    }
    throw new TransferError(`the Parquet file cannot be read (${message}). Export it as CSV.`, {
      code: "UNSUPPORTED_FORMAT",
    });
  }
}

/** The columns of a file, and the conversion of each. */
interface ParquetColumns {
  readonly columns: readonly string[];
  readonly converts: readonly Convert[];
}

async function* pagesOf(
  scan: Scan,
  metadata: Metadata,
  { columns, converts }: ParquetColumns,
): AsyncGenerator<FileRow[]> {
  const groups = metadata.row_groups.filter(({ num_rows }) => num_rows > 0n);
  for (const [i, { rowStart, rowEnd }] of scan.ranges.entries()) {
    const group = groups[i];
    const largest = Math.max(
      ...group.columns.map(({ meta_data }) => Number(meta_data?.total_compressed_size ?? 0)),
    );
    if (largest > MAX_CHUNK_BYTES) {
      throw new TransferError(
        `a column of a row group has ${largest} bytes; up to ${MAX_CHUNK_BYTES} can be read. Write smaller row groups.`,
        { code: "UNSUPPORTED_FORMAT" },
      );
    }
    const rowBytes = Number(group.total_byte_size) / (rowEnd - rowStart) + VALUE_BYTES * columns.length;
    const step = Math.max(PAGE_ROWS, Math.floor(SLICE_BYTES / rowBytes));
    for (let start = rowStart; start < rowEnd; start += step) {
      const end = Math.min(start + step, rowEnd);
      const read = await orDamaged(() => readSlice(scan, columns, { rowStart: start, rowEnd: end }));
      for (let at = start; at < end; at += PAGE_ROWS) {
        const length = Math.min(PAGE_ROWS, end - at);
        yield Array.from({ length }, (_, k) => {
          const values = read.map((column, i) => {
            const value = column[at + k - start];
            return value === undefined || value === null ? null : converts[i](value);
          });
          return new ParquetRow(at + k + 1, values, columns);
        });
      }
    }
  }
}

/** Reads some rows, by column. */
async function readSlice(
  scan: Scan,
  columns: readonly string[],
  rows: { rowStart: number; rowEnd: number },
): Promise<ArrayLike<unknown>[]> {
  const read: ArrayLike<unknown>[] = [];
  for (const column of columns) { // one by one: each column of the row group is held while it is decoded
    const values = await scan.readColumn({ column, ...rows });
    if (values.length !== rows.rowEnd - rows.rowStart) {
      throw damaged("Parquet", `rows are missing in column ${column}`);
    }
    read.push(values);
  }
  return read;
}

class ParquetRow implements FileRow {
  readonly #columns: readonly string[];

  constructor(readonly line: number, readonly values: readonly unknown[], columns: readonly string[]) {
    this.#columns = columns;
  }

  get text(): string {
    return JSON.stringify(Object.fromEntries(this.#columns.map((name, i) => [name, this.values[i]])));
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** Parsers of the library: exact, where its own round or replace. */
const PARSERS = {
  stringFromBytes: (bytes?: Uint8Array) => bytes && utf8.decode(bytes),
  timestampFromNanoseconds: (nanos: bigint) => nanos, // of INT96; other times are left as they are stored
};

const COMPRESSORS = {
  GZIP: (bytes: Uint8Array) => gunzipSync(bytes),
  ZSTD: (bytes: Uint8Array) => zstdDecompressSync(bytes),
  BROTLI: (bytes: Uint8Array) => brotliDecompressSync(bytes),
};

/** Digits of a fraction of a second by unit. */
const DIGITS: Readonly<Record<string, number>> = { MILLIS: 3, MICROS: 6, NANOS: 9 };

/** The conversion of a column. What the library would round is marked as plain, so that it gives it as it is stored. */
function converterOf({ element, children }: SchemaNode): Convert {
  if (children.length > 0) return nested(children);
  const { converted_type: converted, logical_type: logical, type } = element;
  const kind = logical?.type ?? converted;
  const [, unit = logical?.unit] = /^TIME(?:STAMP)?_(.*)$/.exec(converted ?? "") ?? [];
  const isZoned = logical?.isAdjustedToUTC ?? true;
  const convert = converted === "DECIMAL" || kind === "DECIMAL"
    ? toDecimal(element.scale ?? logical?.scale ?? 0)
    : kind?.startsWith("TIMESTAMP")
    ? toTime(DIGITS[unit!], isZoned)
    : type === "INT96"
    ? toTime(9, true)
    : kind === "DATE"
    ? (days: unknown) => toTime(0, false)(BigInt(days as number) * 86_400n).slice(0, 10)
    : type === "FLOAT"
    ? shortest
    : plain;
  if (convert !== plain || kind === "JSON" || kind === "BSON" || kind?.startsWith("TIME")) {
    delete element.converted_type;
    delete element.logical_type;
  }
  return element.repetition_type === "REPEATED" ? each(convert) : convert;
}

function each(convert: Convert): Convert {
  return (value) =>
    Array.isArray(value) ? value.map((item) => item == null ? null : convert(item)) : convert(value);
}

/** The conversion of a struct, a list or a map, which the library has put together. */
function nested(children: readonly SchemaNode[]): Convert {
  const fields = new Map(children.map((child) => [child.element.name, converterOf(child)]));
  const [only] = children.length === 1 ? fields.values() : [];
  const isEntry = fields.size === 2 && fields.has("key") && fields.has("value");
  const convert: Convert = (value) => {
    if (Array.isArray(value)) return value.map((item) => item == null ? null : convert(item));
    if (!isObject(value)) return only ? only(value) : plain(value);
    const names = Object.keys(value);
    const isStruct = names.every((name) => fields.has(name));
    if (only && !isStruct) return only(value);
    return Object.fromEntries(names.map((name) => {
      const read = isStruct ? fields.get(name) : isEntry ? fields.get("value") : plain;
      const item = (value as Record<string, unknown>)[name];
      return [name, item == null ? null : read!(item)];
    }));
  };
  return convert;
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array);
}

/** A text of old programs has no type; an integer that a float cannot hold stays exact as text. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (!(value instanceof Uint8Array)) return value;
  try {
    return utf8.decode(value);
  } catch {
    return value.toHex();
  }
}

/** The shortest number that is the same float of 32 bits. */
function shortest(value: unknown): unknown {
  for (let digits = 6; digits < 9; digits++) {
    const number = Number((value as number).toPrecision(digits));
    if (Math.fround(number) === value) return number;
  }
  return value;
}

function toDecimal(scale: number): Convert {
  return (value) => {
    const units = value instanceof Uint8Array
      ? BigInt.asIntN(8 * value.length, value.length === 0 ? 0n : BigInt(`0x${value.toHex()}`))
      : BigInt(value as number | bigint);
    const digits = String(units < 0n ? -units : units).padStart(scale + 1, "0");
    const whole = `${units < 0n ? "-" : ""}${digits.slice(0, digits.length - scale)}`;
    const fraction = digits.slice(digits.length - scale).replace(/0+$/, "");
    return scale === 0 || fraction === "" ? whole : `${whole}.${fraction}`;
  };
}

function toTime(digits: number, isZoned: boolean): (value: unknown) => string {
  const unit = 10n ** BigInt(digits);
  return (value) => {
    const count = BigInt(value as bigint | number);
    const fraction = ((count % unit) + unit) % unit;
    if (count / unit > MAX_SECONDS || count / unit < -MAX_SECONDS) return `beyond all times: ${count}`;
    const seconds = Number((count - fraction) / unit);
    return `${isoTime(seconds * 1_000).slice(0, -5)}.${String(fraction).padStart(digits, "0")}${
      isZoned ? "Z" : ""
    }`;
  };
}

function asText(convert: Convert): Convert {
  return (value) => {
    const found = convert(value);
    return typeof found === "object" ? JSON.stringify(found) : String(found);
  };
}
