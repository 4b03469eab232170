/**
 * The newest records, up to a number: the oldest makes way for the next. Records with a key can be looked
 * up by it.
 *
 * @typeParam T The type of the records.
 */
export class RingBuffer<T> {
  readonly #capacity: number;
  readonly #keyOf?: (record: T) => string;
  readonly #slots = new Map<string, number>();
  #items: T[] = [];
  /** Where the oldest record is, once the ring is full. */
  #start = 0;

  /**
   * Makes an empty ring.
   *
   * @param capacity The most records that it keeps.
   * @param keyOf The key of a record, where records have one.
   */
  constructor(capacity: number, keyOf?: (record: T) => string) {
    this.#capacity = capacity;
    this.#keyOf = keyOf;
  }

  /** The number of records. */
  get length(): number {
    return this.#items.length;
  }

  /** Whether there is a record with the same key. */
  has(record: T): boolean {
    return this.#keyOf !== undefined && this.#slots.has(this.#keyOf(record));
  }

  /** Adds a record; the oldest goes if there is no room. Gives how many went. */
  push(record: T): number {
    let slot = this.#items.length;
    const isFull = slot >= this.#capacity;
    if (!isFull) this.#items.push(record);
    else {
      slot = this.#start;
      if (this.#keyOf) this.#slots.delete(this.#keyOf(this.#items[slot]));
      this.#items[slot] = record;
      this.#start = (slot + 1) % this.#capacity;
    }
    if (this.#keyOf) this.#slots.set(this.#keyOf(record), slot);
    return isFull ? 1 : 0;
  }

  /** Puts a record in the place of the one with the same key. */
  replace(record: T): void {
    this.#items[this.#slots.get(this.#keyOf!(record))!] = record;
  }

  /** All records, oldest first. */
  values(): T[] {
    return [...this.#items.slice(this.#start), ...this.#items.slice(0, this.#start)];
  }

  /**
   * Removes records.
   *
   * @param isUnwanted Whether a record goes.
   * @returns How many were removed.
   */
  remove(isUnwanted: (record: T) => boolean): number {
    const kept = this.values().filter((record) => !isUnwanted(record));
    const removed = this.length - kept.length;
    this.#items = [];
    this.#start = 0;
    this.#slots.clear();
    for (const record of kept) this.push(record);
    return removed;
  }
}
