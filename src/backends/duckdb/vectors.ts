/**
 * Records in the memory of DuckDB: chunks of up to 2,048 rows, a vector for each column.
 *
 * @module
 */
import { type Column, withSortedKeys } from "../../records/dataset.ts";
import { Decimal, splitAmount } from "../../records/decimal.ts";
import type { DuckdbDriver, Handle } from "./driver.ts";

/** Most rows of a chunk. */
export const CHUNK_ROWS = 2_048;

const ONE = 10n ** 18n;
const LOW = (1n << 64n) - 1n;
/** Texts up to this many bytes are in the vector itself. */
const INLINE_BYTES = 12;
const TYPE_BIGNUM = [16, 19]; // HUGEINT and DECIMAL

type Values = Readonly<Record<string, unknown>>;
type Writer = (driver: DuckdbDriver, vector: Handle, values: readonly unknown[]) => void;

/** Writes numbers, a few words for each value. Words of null values are not read. */
function put(
  driver: DuckdbDriver,
  vector: Handle,
  { buffer, byteLength }: { buffer: ArrayBuffer; byteLength: number },
): void {
  driver.copy_data_to_vector(vector, 0, buffer, 0, byteLength);
}

/** Two words of 32 bits. */
const WORD = 2 ** 32;

/** Writes whole numbers of 64 bits as pairs of words: a BigInt for each would take four times as long. */
function putIntegers(
  driver: DuckdbDriver,
  vector: Handle,
  { values, factor }: { values: readonly unknown[]; factor: number },
): void {
  const words = new Int32Array(2 * values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value === undefined) continue;
    const high = Math.floor(value as number / WORD);
    const low = (value as number - high * WORD) * factor;
    words[2 * i] = low % WORD;
    words[2 * i + 1] = high * factor + Math.floor(low / WORD);
  }
  put(driver, vector, words);
}

/** Most different long texts that are remembered in a vector. */
const MAX_KNOWN = 256;

/**
 * Writes texts, 16 bytes for each: short ones of ASCII in place, where a call of the driver would take ten times as long.
 * The driver writes the others, a repeated one once: the 16 bytes with its address are copied.
 */
function putTexts(driver: DuckdbDriver, vector: Handle, values: readonly unknown[]): void {
  const words = new Uint32Array(4 * values.length);
  const bytes = new Uint8Array(words.buffer);
  const known = new Map<string, number>();
  const long: [index: number, first: number][] = [];
  for (let i = 0; i < values.length; i++) {
    const text = values[i] as string | undefined;
    if (text === undefined || putInline(text, bytes, 16 * i)) continue;
    let first = known.get(text);
    if (first === undefined) {
      first = i;
      driver.vector_assign_string_element(vector, i, text);
      if (known.size < MAX_KNOWN) known.set(text, i);
    }
    long.push([i, first]);
  }
  if (long.length > 0) {
    const data = driver.vector_get_data(vector, bytes.length);
    const found = new Uint32Array(data.buffer, data.byteOffset, words.length);
    for (const [i, first] of long) {
      for (let word = 0; word < 4; word++) words[4 * i + word] = found[4 * first + word];
    }
  }
  put(driver, vector, words);
}

/** Writes a short text of ASCII and its length; returns false for another text. */
function putInline(text: string, bytes: Uint8Array, at: number): boolean {
  const { length } = text;
  if (length > INLINE_BYTES) return false;
  let all = 0;
  for (let i = 0; i < length; i++) all |= bytes[at + 4 + i] = text.charCodeAt(i);
  bytes[at] = length;
  return all < 128;
}

const WRITERS: Readonly<Record<Column["type"], Writer>> = {
  timestamp: (driver, vector, values) => putIntegers(driver, vector, { values, factor: 1_000 }),
  integer: (driver, vector, values) => putIntegers(driver, vector, { values, factor: 1 }),
  real(driver, vector, values) {
    const data = new Float64Array(values.length);
    for (let i = 0; i < values.length; i++) data[i] = values[i] as number;
    put(driver, vector, data);
  },
  boolean(driver, vector, values) {
    const data = new Uint8Array(values.length);
    for (let i = 0; i < values.length; i++) data[i] = values[i] ? 1 : 0;
    put(driver, vector, data);
  },
  text: putTexts,
  decimal(driver, vector, values) {
    const data = new BigInt64Array(2 * values.length);
    for (let i = 0; i < values.length; i++) {
      if (values[i] === undefined) continue;
      const [units, parts] = splitAmount(values[i] as string);
      const scaled = BigInt(units) * ONE + BigInt(parts);
      data[2 * i] = BigInt.asIntN(64, scaled);
      data[2 * i + 1] = scaled >> 64n;
    }
    put(driver, vector, data);
  },
  map(driver, vector, values) {
    const keys: string[] = [];
    const entries: string[] = [];
    const ranges = new Int32Array(4 * values.length); // pairs of 64 bits: the first entry, and how many there are
    for (let i = 0; i < values.length; i++) {
      const first = keys.length;
      if (values[i] !== undefined) {
        const map = withSortedKeys(values[i] as Record<string, string>);
        for (const key in map) {
          keys.push(key);
          entries.push(map[key]);
        }
      }
      ranges[4 * i] = first;
      ranges[4 * i + 2] = keys.length - first;
    }
    driver.list_vector_reserve(vector, keys.length);
    driver.list_vector_set_size(vector, keys.length);
    put(driver, vector, ranges);
    const child = driver.list_vector_get_child(vector);
    WRITERS.text(driver, driver.struct_vector_get_child(child, 0), keys);
    WRITERS.text(driver, driver.struct_vector_get_child(child, 1), entries);
  },
};

/** Writes the values of a column into a vector; undefined ones are null. */
export function writeVector(
  driver: DuckdbDriver,
  vector: Handle,
  { field, type }: Pick<Column, "field" | "type">,
  records: readonly unknown[],
): void {
  const values: unknown[] = new Array(records.length);
  let valid: Uint8Array<ArrayBuffer> | undefined;
  let present = 0;
  for (let i = 0; i < records.length; i++) {
    const value = values[i] = (records[i] as Values)[field];
    if (value !== undefined) {
      present++;
      continue;
    }
    valid ??= new Uint8Array(validityBytes(records.length)).fill(255);
    valid[i >> 3] &= ~(1 << (i & 7));
  }
  if (present > 0) WRITERS[type](driver, vector, values);
  if (valid) writeValidity(driver, vector, valid);
}

/** Makes all values of a vector null. */
export function writeNulls(driver: DuckdbDriver, vector: Handle, count: number): void {
  writeValidity(driver, vector, new Uint8Array(validityBytes(count)));
}

function writeValidity(driver: DuckdbDriver, vector: Handle, valid: Uint8Array<ArrayBuffer>): void {
  driver.vector_ensure_validity_writable(vector);
  driver.copy_data_to_vector_validity(vector, 0, valid.buffer, 0, valid.length);
}

function validityBytes(count: number): number {
  return Math.ceil(count / 64) * 8;
}

function wordsOf(driver: DuckdbDriver, vector: Handle, count: number): BigInt64Array {
  const bytes = driver.vector_get_data(vector, count * 8);
  return new BigInt64Array(bytes.buffer, bytes.byteOffset, count);
}

/** Reads a vector of a type, given by its number: times in epoch milliseconds, decimals as canonical texts. */
export function readVector(driver: DuckdbDriver, vector: Handle, type: number, count: number): unknown[] {
  const values = read(driver, vector, type, count);
  const valid = driver.vector_get_validity(vector, validityBytes(count));
  if (valid) {
    for (let i = 0; i < count; i++) if ((valid[i >> 3] >> (i & 7) & 1) === 0) values[i] = null;
  }
  return values;
}

function read(driver: DuckdbDriver, vector: Handle, type: number, count: number): unknown[] {
  if (type === 17) return readTexts(driver, vector, count);
  if (type === 26) return readMaps(driver, vector, count);
  if (type === 1) return Array.from(driver.vector_get_data(vector, count), (byte) => byte !== 0);
  if (type === 11) {
    const bytes = driver.vector_get_data(vector, count * 8);
    return Array.from(new Float64Array(bytes.buffer, bytes.byteOffset, count));
  }
  if (TYPE_BIGNUM.includes(type)) {
    const data = wordsOf(driver, vector, 2 * count);
    return Array.from({ length: count }, (_, i) => {
      const value = (data[2 * i + 1] << 64n) | (data[2 * i] & LOW);
      return type === 16 ? value : Decimal.fromParts(0n, value).toString();
    });
  }
  if (type === 4) {
    const bytes = driver.vector_get_data(vector, count * 4);
    return Array.from(new Int32Array(bytes.buffer, bytes.byteOffset, count));
  }
  const data = wordsOf(driver, vector, count);
  if (type === 12) return Array.from(data, (micros) => Number(micros / 1_000n));
  if (type === 5) return Array.from(data, Number);
  throw new Error(`a column has the unknown type ${type}`);
}

const decoder = new TextDecoder();

function readTexts(driver: DuckdbDriver, vector: Handle, count: number): (string | null)[] {
  const bytes = driver.vector_get_data(vector, count * 16);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, count * 4);
  const valid = driver.vector_get_validity(vector, validityBytes(count));
  const texts: (string | null)[] = new Array(count).fill(null);
  // Texts that are in the vector are often those of a few nodes, regions, teams.
  const known = new Map<number, { at: number; text: string }>();
  for (let i = 0; i < count; i++) {
    // The memory of a null is undefined, including its length.
    if (valid && (valid[i >> 3] >> (i & 7) & 1) === 0) continue;
    const at = i * 4;
    const length = words[at];
    if (length > INLINE_BYTES) {
      texts[i] = decoder.decode(
        driver.get_data_from_pointer(bytes.buffer, bytes.byteOffset + i * 16 + 8, length),
      );
      continue;
    }
    const hash = words[at] ^ Math.imul(words[at + 1], 31) ^ Math.imul(words[at + 2], 37) ^
      Math.imul(words[at + 3], 41);
    const found = known.get(hash);
    const isSame = found !== undefined && words[found.at] === length &&
      words[found.at + 1] === words[at + 1] &&
      words[found.at + 2] === words[at + 2] && words[found.at + 3] === words[at + 3];
    if (isSame) texts[i] = found.text;
    else {
      const text = decoder.decode(bytes.subarray(i * 16 + 4, i * 16 + 4 + length));
      known.set(hash, { at, text });
      texts[i] = text;
    }
  }
  return texts;
}

function readMaps(driver: DuckdbDriver, vector: Handle, count: number): Record<string, string>[] {
  const ranges = wordsOf(driver, vector, 2 * count);
  const size = driver.list_vector_get_size(vector);
  const child = driver.list_vector_get_child(vector);
  const keys = readTexts(driver, driver.struct_vector_get_child(child, 0), size) as string[];
  const values = readTexts(driver, driver.struct_vector_get_child(child, 1), size) as string[];
  const valid = driver.vector_get_validity(vector, validityBytes(count));
  return Array.from({ length: count }, (_, i) => {
    if (valid && (valid[i >> 3] >> (i & 7) & 1) === 0) return {};
    const first = Number(ranges[2 * i]);
    const end = first + Number(ranges[2 * i + 1]);
    const map: Record<string, string> = {};
    for (let at = first; at < end; at++) {
      // An assignment to this key would set the prototype.
      if (keys[at] === "__proto__") {
        return Object.fromEntries(keys.slice(first, end).map((key, i) => [key, values[first + i]]));
      }
      map[keys[at]] = values[at];
    }
    return map;
  });
}
