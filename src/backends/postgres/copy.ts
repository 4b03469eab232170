/**
 * PostgreSQL's binary COPY format, which saves the server from reading texts.
 *
 * @see https://www.postgresql.org/docs/current/sql-copy.html
 * @module
 */
import type { Buffer } from "node:buffer";
import { recordBuilder } from "../../records/record_builder.ts";
import { type ColumnType, type Dataset, withSortedKeys } from "../../records/dataset.ts";

/** Header of a file: the signature, then eight bytes for no flags and no extension. */
export const HEADER: Uint8Array = Uint8Array.from(
  "PGCOPY\n\xff\r\n\0" + "\0".repeat(8),
  (character) => character.charCodeAt(0),
);
/** Ends the rows. */
export const END: Uint8Array = Uint8Array.of(255, 255);
/** Bytes that are handed to the socket at once. */
const CHUNK_BYTES = 64 * 1_024;
/** Timestamps count microseconds from 1 January 2000. */
const EPOCH_MS = Date.UTC(2000, 0, 1);
const ABSENT = -1;
/** The most bytes that a code unit takes in UTF-8. */
const MAX_BYTES_PER_UNIT = 3;
/** The bytes of any value but a text or a decimal, with its length in front. */
const FIXED_BYTES = 12;
const MAX_SHORT_TEXT = 32;

/** Bytes as they are written, one value after the other. Room for them is reserved beforehand. */
class Writer {
  #bytes = new Uint8Array(2 * CHUNK_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  readonly #utf8 = new TextEncoder();

  get length(): number {
    return this.#at;
  }

  /** Makes room for so many bytes more. */
  reserve(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(2 * (this.#at + bytes));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }

  /** Bytes written since the last call. */
  take(): Uint8Array {
    const taken = this.#bytes.slice(0, this.#at);
    this.#at = 0;
    return taken;
  }

  byte(value: number): void {
    this.#bytes[this.#at++] = value;
  }

  bytes(values: Uint8Array): void {
    this.#bytes.set(values, this.#at);
    this.#at += values.length;
  }

  int16(value: number): void {
    this.#view.setInt16(this.#at, value);
    this.#at += 2;
  }

  int32(value: number): void {
    this.#view.setInt32(this.#at, value);
    this.#at += 4;
  }

  /** A whole number that a float holds exactly: without a BigInt for each. */
  int64(value: number): void {
    const high = Math.floor(value / 2 ** 32);
    this.#view.setInt32(this.#at, high);
    this.#view.setUint32(this.#at + 4, value - high * 2 ** 32);
    this.#at += 8;
  }

  bigInt64(value: bigint): void {
    this.#view.setBigInt64(this.#at, value);
    this.#at += 8;
  }

  /** A float with its length in front. */
  real(value: number): void {
    this.#view.setInt32(this.#at, 8);
    this.#view.setFloat64(this.#at + 4, value);
    this.#at += 12;
  }

  /** A text with its length in front; the prefix, if any, counts as part of it. Makes room for itself. */
  text(value: string, prefix?: number): void {
    this.reserve(5 + MAX_BYTES_PER_UNIT * value.length);
    const start = this.#at;
    this.#at += 4;
    if (prefix !== undefined) this.byte(prefix);
    // Short and plain texts, by far the most, are written faster than the encoder can be called.
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code > 127) {
        this.#at += this.#utf8.encodeInto(value.slice(i), this.#bytes.subarray(this.#at)).written;
        break;
      }
      this.#bytes[this.#at++] = code;
    }
    this.#view.setInt32(start, this.#at - start - 4);
  }
}

/** Writes a value with its length in front. Values are never absent here. */
const ENCODERS: Readonly<Record<ColumnType, (out: Writer, value: unknown) => void>> = {
  timestamp(out, value) {
    out.int32(8);
    const ms = value as number - EPOCH_MS;
    if (Number.isSafeInteger(ms * 1_000)) out.int64(ms * 1_000);
    else out.bigInt64(BigInt(ms) * 1_000n); // beyond the year 2285
  },
  text: (out, value) => out.text(value as string),
  real: (out, value) => out.real(value as number),
  integer(out, value) {
    out.int32(8);
    out.int64(value as number);
  },
  boolean(out, value) {
    out.int32(1);
    out.byte(value ? 1 : 0);
  },
  decimal: (out, value) => encodeNumeric(out, value as string),
  map: (out, value) => out.text(JSON.stringify(value), 1), // jsonb, version 1
};

/** A canonical amount as groups of four decimal digits. */
function encodeNumeric(out: Writer, amount: string): void {
  const [, sign, integer, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(amount)!;
  const whole = Math.ceil(integer.length / 4);
  const digits = integer.padStart(4 * whole, "0") + fraction.padEnd(4 * Math.ceil(fraction.length / 4), "0");
  const groups = (digits.match(/\d{4}/g) ?? []).map(Number);
  let weight = whole - 1; // the power of 10,000 of the first group
  while (groups[0] === 0) {
    groups.shift();
    weight--;
  }
  while (groups.at(-1) === 0) groups.pop();
  out.reserve(12 + 2 * groups.length);
  out.int32(8 + 2 * groups.length);
  out.int16(groups.length);
  out.int16(groups.length === 0 ? 0 : weight);
  out.int16(sign === "-" ? 0x4000 : 0);
  out.int16(fraction.length);
  for (const group of groups) out.int16(group);
}

/** Records as binary COPY, in chunks that are made only as they are asked for. */
export function* encodeRecords(
  dataset: Dataset<unknown>,
  records: readonly unknown[],
): Generator<Uint8Array> {
  const out = new Writer();
  const encode = rowEncoder(dataset, out);
  out.bytes(HEADER);
  for (const record of records) {
    encode(record as Record<string, unknown>);
    if (out.length >= CHUNK_BYTES) yield out.take();
  }
  out.reserve(END.length);
  out.bytes(END);
  yield out.take();
}

/** Makes the function that writes a record as a row. A record is read fastest in the order of its own fields. */
function rowEncoder(
  { columns, positions }: Dataset<unknown>,
  out: Writer,
): (record: Record<string, unknown>) => void {
  const rowBytes = 2 + FIXED_BYTES * columns.length;
  const fields = columns.map(({ field }) => field);
  const encoders = columns.map(({ type }) => ENCODERS[type]);
  const isReal = columns.map(({ type }) => type === "real");
  const values: unknown[] = columns.map(() => undefined);
  return (record) => {
    let next = 0;
    for (const field in record) {
      const position = fields[next] === field ? next : positions.get(field);
      if (position === undefined) continue;
      values[position] = record[field];
      next = position + 1;
    }
    out.reserve(rowBytes);
    out.int16(columns.length);
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      values[i] = undefined;
      if (value === undefined) out.int32(ABSENT);
      else if (isReal[i]) out.real(value as number); // most are
      else {
        encoders[i](out, value);
        out.reserve(rowBytes); // it may have taken the room of the others
      }
    }
  };
}

/** Bytes of COPY as they are read. A `DataView` reads numbers faster than a `Buffer` does. */
interface Chunk {
  readonly bytes: Buffer;
  readonly view: DataView;
}

/** Reads a value from where it starts to where it ends. */
const DECODERS: Readonly<Record<ColumnType, (chunk: Chunk, at: number, end: number) => unknown>> = {
  timestamp: ({ view }, at) => readTime(view, at),
  text: readText,
  real: ({ view }, at) => view.getFloat64(at),
  integer: ({ view }, at) => int64(view, at),
  boolean: ({ bytes }, at) => bytes[at] === 1,
  decimal: readText, // read as a canonical text
  map: (chunk, at, end) => withSortedKeys(JSON.parse(readText(chunk, at + 1, end))),
};

/** Reads a time as epoch milliseconds. */
export function readTime(view: DataView, at: number): number {
  const us = int64(view, at);
  const ms = Number.isSafeInteger(us) ? Math.trunc(us / 1_000) : Number(view.getBigInt64(at) / 1_000n);
  return ms + EPOCH_MS;
}

/** A whole number as the nearest float: exact for all that we keep, without a BigInt for each. */
function int64(view: DataView, at: number): number {
  return view.getInt32(at) * 2 ** 32 + view.getUint32(at + 4);
}

/** Short and plain texts, by far the most, are read faster than the decoder can be called. */
function readText({ bytes }: Chunk, at: number, end: number): string {
  if (end - at > MAX_SHORT_TEXT) return bytes.toString("utf8", at, end);
  let text = "";
  for (let i = at; i < end; i++) {
    if (bytes[i] > 127) return bytes.toString("utf8", at, end);
    text += String.fromCharCode(bytes[i]);
  }
  return text;
}

/** Makes the function that reads the records in a chunk of whole rows of binary COPY. */
export function recordDecoder<T>(dataset: Dataset<T>): (chunk: Buffer) => T[] {
  const decoders = dataset.columns.map(({ type }) => DECODERS[type]);
  const values: unknown[] = decoders.map(() => undefined);
  const build = recordBuilder(dataset);
  let isFirst = true;
  return (bytes) => {
    const chunk = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
    const records: T[] = [];
    let at = isFirst ? HEADER.length : 0;
    isFirst = false;
    while (at < bytes.length) {
      const count = chunk.view.getInt16(at);
      at += 2;
      if (count < 0) break;
      for (let i = 0; i < count; i++) {
        const length = chunk.view.getInt32(at);
        at += 4;
        if (length === ABSENT) values[i] = undefined;
        else {
          values[i] = decoders[i](chunk, at, at + length);
          at += length;
        }
      }
      records.push(build(values));
    }
    return records;
  };
}
