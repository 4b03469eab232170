/** The bounds of a {@linkcode RingBuffer}. */
export interface RingBufferOptions<T> {
  /** The most records. */
  readonly maxRecords: number;
  /**
   * The most bytes of all records; one record of any size is kept.
   *
   * @default {Infinity}
   */
  readonly maxBytes?: number;
  /** The key of a record, where records have one. */
  readonly keyOf?: (record: T) => string;
}

/** The most bytes of one dataset that a process keeps in memory. */
const MAX_BYTES = 64 * 2 ** 20;
/** The bytes for each record where `maxMemoryEntries` asks for so many records that 64 MiB could not hold them. */
const BYTES_PER_RECORD = 2_048;
/** V8 stores a text outside Latin-1 in two bytes for each code unit, which `byteLength()` counts as one. */
const BYTES_PER_UNIT = 2;

/** Returns the bound in bytes for a number of records: 64 MiB, or 2 KiB a record where that is more. */
export function maxBytesFor(maxRecords: number): number {
  return Math.max(MAX_BYTES, BYTES_PER_RECORD * maxRecords);
}

/**
 * The newest records, up to a number of records and of bytes. The oldest records are evicted first. Records with a key
 * can be looked up by it.
 *
 * @typeParam T The type of the records.
 */
export class RingBuffer<T> {
  readonly #maxRecords: number;
  readonly #maxSize: number;
  readonly #keyOf?: (record: T) => string;
  readonly #slots = new Map<string, number>();
  #items: (T | undefined)[] = [];
  /** The size of the record in each slot. */
  #sizes: number[] = [];
  /** The slot of the oldest record. */
  #start = 0;
  #length = 0;
  #size = 0;

  /** Creates an empty ring. */
  constructor({ maxRecords, maxBytes = Infinity, keyOf }: RingBufferOptions<T>) {
    this.#maxRecords = maxRecords;
    this.#maxSize = maxBytes / BYTES_PER_UNIT;
    this.#keyOf = keyOf;
  }

  /** The number of records. */
  get length(): number {
    return this.#length;
  }

  /** Returns true if there is a record with the same key. */
  has(record: T): boolean {
    return this.#keyOf !== undefined && this.#slots.has(this.#keyOf(record));
  }

  /**
   * Adds a record, and evicts the oldest ones if there is no room.
   *
   * @returns How many records were evicted.
   */
  push(record: T, size = 0): number {
    const before = this.#length;
    if (before === this.#maxRecords) this.#evict();
    let slot = this.#start + this.#length;
    if (slot >= this.#maxRecords) slot -= this.#maxRecords;
    this.#items[slot] = record;
    this.#sizes[slot] = size;
    this.#length++;
    this.#size += size;
    if (this.#keyOf) this.#slots.set(this.#keyOf(record), slot);
    while (this.#size > this.#maxSize && this.#length > 1) this.#evict();
    return before + 1 - this.#length;
  }

  /**
   * Replaces the record with the same key.
   *
   * @returns How many records were evicted because it is larger.
   */
  replace(record: T, size = 0): number {
    const slot = this.#slots.get(this.#keyOf!(record))!;
    const before = this.#length;
    this.#items[slot] = record;
    this.#size += size - this.#sizes[slot];
    this.#sizes[slot] = size;
    while (this.#size > this.#maxSize && this.#length > 1) this.#evict();
    return before - this.#length;
  }

  /** Returns all records, oldest first. */
  values(): T[] {
    const end = this.#start + this.#length;
    const wrapped = Math.max(0, end - this.#maxRecords);
    return [...this.#items.slice(this.#start, end), ...this.#items.slice(0, wrapped)] as T[];
  }

  /**
   * Removes records.
   *
   * @returns How many were removed.
   */
  remove(isUnwanted: (record: T) => boolean): number {
    const records = this.values();
    const sizes = records.map((_, i) => this.#sizes[(this.#start + i) % this.#maxRecords]);
    this.#items = [];
    this.#sizes = [];
    this.#start = this.#length = this.#size = 0;
    this.#slots.clear();
    for (const [i, record] of records.entries()) if (!isUnwanted(record)) this.push(record, sizes[i]);
    return records.length - this.#length;
  }

  #evict(): void {
    const slot = this.#start;
    if (this.#keyOf) this.#slots.delete(this.#keyOf(this.#items[slot]!));
    this.#items[slot] = undefined;
    this.#size -= this.#sizes[slot];
    this.#start = slot + 1 === this.#maxRecords ? 0 : slot + 1;
    this.#length--;
  }
}
