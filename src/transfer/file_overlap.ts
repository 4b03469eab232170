import { Charges, ChargeSample } from "./charge_sample.ts";
import { addHash, type ChargeHashes, type Hash, hexOf } from "./content_hash.ts";

/** Share of charges that count as most of them. */
export const MOST = 0.5;
/** Share of charges above which two deliveries are likely to be of the same costs. */
export const NEARLY_ALL = 0.9;
/** Minimum number of rows of a copy. Smaller files may be equal by chance. */
const ENOUGH_ROWS = 8;
/** Rows that are sampled: a file is found in one that is up to about 250 times as large. */
const SAMPLED_ROWS = 4_096;

/** Content that a file has in common with the files before it: most rows, or nearly all charges. */
export type Overlap = "rows" | "charges" | undefined;

interface Samples {
  readonly rows: ChargeSample;
  readonly charges: Charges;
}

function newSamples(): Samples {
  return { rows: new ChargeSample(SAMPLED_ROWS), charges: new Charges() };
}

/** Finds files of a part that overlap: copies, and exports of one month at two times. */
export class FileOverlap {
  readonly #files = new Set<string>();
  readonly #earlier = newSamples();
  #file = newSamples();
  #digest: Hash = new Uint32Array(4);
  #count = 0;

  /** Adds a row, by the hashes of its content and of its charge. */
  add(hash: Hash, charge: ChargeHashes): void {
    this.#file.rows.add(hash[0]);
    this.#file.charges.add(charge);
    addHash(this.#digest, hash);
    this.#count++;
  }

  /** Ends a file. Returns its overlap with the files before it. */
  endFile(): Overlap {
    if (this.#count === 0) return undefined;
    const name = `${this.#count} ${hexOf(this.#digest)}`;
    const isCopy = this.#count >= ENOUGH_ROWS && this.#files.has(name);
    const overlap = isCopy ? "rows" : this.#overlap();
    this.#files.add(name);
    this.#earlier.rows.merge(this.#file.rows);
    this.#earlier.charges.merge(this.#file.charges);
    this.#file = newSamples();
    this.#digest = new Uint32Array(4);
    this.#count = 0;
    return overlap;
  }

  #overlap(): Overlap {
    // Either may be the larger one: a later export has all rows of an earlier one and more.
    const { rows, charges } = this.#file;
    if (Math.max(...shares(rows, this.#earlier.rows)) >= MOST) return "rows";
    if (Math.min(...shares(charges, this.#earlier.charges)) >= NEARLY_ALL) return "charges";
    return undefined;
  }
}

/** The share of the file in the files before it, and their share in the file. */
function shares<T extends Sample<T>>(file: T, earlier: T): [number, number] {
  return [file.shareIn(earlier) ?? 0, earlier.shareIn(file) ?? 0];
}

interface Sample<T> {
  shareIn(other: T): number | undefined;
}
