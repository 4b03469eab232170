import type { ChargeHashes } from "./content_hash.ts";

/** Charges that are sampled. */
const SIZE = 256;
/** The least number of sampled charges that says anything. */
const ENOUGH = 8;

/**
 * A sample of the charges of a delivery: the smallest hashes that differ. It is the same for the same charges in any order, and
 * two of them tell which share of the charges of one delivery another has (bottom-k sketch). Its size is the same for any
 * number of rows.
 */
export class ChargeSample {
  /** Hashes in ascending order. */
  readonly #hashes: number[] = [];
  readonly #size: number;

  /** Makes an empty sample of at most so many hashes. */
  constructor(size: number = SIZE) {
    this.#size = size;
  }

  /** Reads a sample that {@linkcode ChargeSample.toString} wrote. */
  static parse(text: string): ChargeSample {
    const sample = new ChargeSample();
    for (let at = 0; at < text.length; at += 8) sample.add(parseInt(text.slice(at, at + 8), 16));
    return sample;
  }

  /** Adds the hash of a charge, of 32 bits. */
  add(hash: number): void {
    const hashes = this.#hashes;
    if (hash >= this.#limit) return;
    let [at, end] = [0, hashes.length];
    while (at < end) {
      const middle = (at + end) >>> 1;
      if (hashes[middle] < hash) at = middle + 1;
      else end = middle;
    }
    if (hashes[at] === hash) return;
    hashes.splice(at, 0, hash);
    if (hashes.length > this.#size) hashes.pop();
  }

  /** Adds all of another sample. */
  merge(other: ChargeSample): void {
    for (const hash of other.#hashes) this.add(hash);
  }

  /**
   * Share of these charges that another delivery has, from 0 to 1; undefined where the samples are too small to tell.
   *
   * @param enough The least number of sampled charges that tells.
   */
  shareIn(other: ChargeSample, enough = ENOUGH): number | undefined {
    const most = Math.min(this.#limit, other.#limit);
    const sampled = this.#hashes.filter((hash) => hash <= most);
    if (sampled.length < enough) return undefined;
    const found = new Set(other.#hashes);
    return sampled.filter((hash) => found.has(hash)).length / sampled.length;
  }

  /** All hashes up to this one are in the sample. */
  get #limit(): number {
    return this.#hashes.length < this.#size ? Infinity : this.#hashes[this.#size - 1];
  }

  toString(): string {
    return this.#hashes.map((hash) => hash.toString(16).padStart(8, "0")).join("");
  }
}

/** The sampled charges of a delivery, by their quantities and by their amounts: a vendor restates one or the other. */
export class Charges {
  readonly #byQuantity: ChargeSample;
  readonly #byAmount: ChargeSample;

  constructor(byQuantity = "", byAmount = "") {
    this.#byQuantity = ChargeSample.parse(byQuantity);
    this.#byAmount = ChargeSample.parse(byAmount);
  }

  /** Adds the hashes of a charge with its quantity and with its amount. */
  add([quantity, amount]: ChargeHashes): void {
    this.#byQuantity.add(quantity);
    this.#byAmount.add(amount);
  }

  /** Adds all of another sample. */
  merge(other: Charges): void {
    this.#byQuantity.merge(other.#byQuantity);
    this.#byAmount.merge(other.#byAmount);
  }

  /** Share of these charges that another delivery has; see {@linkcode ChargeSample.shareIn}. */
  shareIn(other: Charges, enough?: number): number | undefined {
    const share = this.#byQuantity.shareIn(other.#byQuantity, enough);
    return share === undefined
      ? undefined
      : Math.max(share, this.#byAmount.shareIn(other.#byAmount, enough) ?? 0);
  }

  /** The samples as the document of a delivery records them. */
  toRecord(): { sample: string; amounts: string } {
    return { sample: String(this.#byQuantity), amounts: String(this.#byAmount) };
  }
}
