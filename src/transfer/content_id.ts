import { createHash } from "node:crypto";
import type { Dataset } from "../records/dataset.ts";
import { contentOf } from "./values.ts";

/** Slots of a table for the first rows; it doubles as it fills. */
const FIRST_SLOTS = 2 ** 12;

/**
 * Ids for rows that have none: a hash of what the row says, and for one that says the same as an earlier row of the
 * file its number, so that true repeats stay apart and the same file gives the same ids again. Takes 16 to 32 bytes
 * of memory a row.
 */
export class ContentIds {
  /** Count of each row that occurred more than once. */
  readonly #repeats = new Map<string, number>();
  /** The first 8 bytes of the hashes that were seen, in an open-addressed table; 0 where there is none. */
  #seen = new BigUint64Array(FIRST_SLOTS);
  #size = 0;

  /** The id of the next row of the file. */
  next(row: string): string {
    const hash = createHash("sha256").update(row).digest();
    const id = `row-${hash.toString("hex", 0, 16)}`;
    if (this.#add(hash.readBigUInt64LE() || 1n)) return id;
    const count = (this.#repeats.get(id) ?? 1) + 1;
    this.#repeats.set(id, count);
    return `${id}-${count}`;
  }

  /** Adds a hash. Returns true if it was new. */
  #add(hash: bigint): boolean {
    const slot = find(this.#seen, hash);
    if (this.#seen[slot] === hash) return false;
    this.#seen[slot] = hash;
    if (++this.#size > this.#seen.length / 2) this.#grow();
    return true;
  }

  #grow(): void {
    const larger = new BigUint64Array(2 * this.#seen.length);
    for (const hash of this.#seen) {
      if (hash !== 0n) larger[find(larger, hash)] = hash;
    }
    this.#seen = larger;
  }
}

/** Keys that are remembered, each in 16 bytes. */
const KEY_SLOTS = 2 ** 18;

/**
 * Notices a key that stands for records that differ. Only so many keys are remembered, so that memory stays flat: a
 * column that is no key gives itself away again and again.
 */
export class KeyClashes {
  readonly #dataset: Dataset<unknown>;
  readonly #keys = new BigUint64Array(KEY_SLOTS);
  readonly #contents = new BigUint64Array(KEY_SLOTS);
  #first: Record<string, unknown> | undefined;

  /** Begins with no keys. */
  constructor(dataset: Dataset<unknown>) {
    this.#dataset = dataset;
  }

  /** The first record that said something else than an earlier one with its key. */
  get first(): Record<string, unknown> | undefined {
    return this.#first;
  }

  /** Takes in the next record of the file. */
  add(record: unknown): void {
    const { key, columns } = this.#dataset;
    if (key.length === 0 || this.#first) return;
    const values = record as Record<string, unknown>;
    const keyHash = hashOf(JSON.stringify(key.map((field) => values[field])));
    const content = hashOf(contentOf(columns, record));
    const slot = Number(keyHash % BigInt(KEY_SLOTS));
    if (this.#keys[slot] !== keyHash) {
      this.#keys[slot] = keyHash;
      this.#contents[slot] = content;
    } else if (this.#contents[slot] !== content) this.#first = values;
  }
}

/** 64 bits of a text in a fifth of the time of SHA-256; a collision would only stop an import for nothing. */
function hashOf(text: string): bigint {
  let [high, low] = [1, 2];
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    high = Math.imul(high ^ unit, 0x85ebca6b);
    high ^= high >>> 15;
    low = Math.imul(low ^ unit, 0xc2b2ae35);
    low ^= low >>> 13;
  }
  return BigInt(high >>> 0) << 32n | BigInt(low >>> 0);
}

/** Returns the slot of a hash in the table. */
function find(table: BigUint64Array, hash: bigint): number {
  let slot = Number(hash & BigInt(table.length - 1));
  while (table[slot] !== 0n && table[slot] !== hash) slot = (slot + 1) % table.length;
  return slot;
}
