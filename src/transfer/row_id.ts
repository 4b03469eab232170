import { createHash } from "node:crypto";

/** Slots of a table for the first rows; it doubles as it fills. */
const FIRST_SLOTS = 2 ** 12;

/**
 * Ids for rows that have none: a hash of what the row says, and for one that says the same as an earlier row of the
 * file its number, so that true repeats stay apart and the same file gives the same ids again. Takes 16 to 32 bytes
 * of memory a row.
 */
export class RowIds {
  /** How often each row was there that was there more than once. */
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

  /** Adds a hash; gives whether it was new. */
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

/** Where a hash is in the table, or would be. */
function find(table: BigUint64Array, hash: bigint): number {
  let slot = Number(hash & BigInt(table.length - 1));
  while (table[slot] !== 0n && table[slot] !== hash) slot = (slot + 1) % table.length;
  return slot;
}
