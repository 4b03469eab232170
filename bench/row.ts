import { Missing } from "./peers.ts";
import type { Places } from "./fixtures.ts";

/** Measured quantity, which decides how values are shown. */
export type Quantity = "rate" | "time" | "memory" | "disk";

/** Target of a row: a minimum ratio of rates, a maximum ratio of time or memory, or a minimum of our own rate. */
export type Reach = { readonly atLeast: number } | { readonly atMost: number } | {
  readonly perSecond: number;
};

/** Does a thing once, with so many records; gives seconds, MiB or bytes a record. */
export type Measure = (records: number) => Promise<number>;

/** Something that is measured on two sides. */
export interface Row {
  /** The name on the command line. */
  readonly name: string;
  /** Work. */
  readonly work: string;
  /** Peer. */
  readonly against: string;
  /** Measured quantity. For rates more is better, for everything else less. */
  readonly quantity: Quantity;
  /** With how many records; none where there are none. */
  readonly records?: number;
  /** Target, if there is one. */
  readonly reach?: Reach;
  /** Number of pairs, {@linkcode PAIRS} by default. */
  readonly pairs?: number;
  /** True if values do not vary between runs, so that no warm-up is needed. */
  readonly isCold?: boolean;
  /** Makes ready what both sides need. */
  open(places: Places, records: number): Promise<Sides>;
}

/** Both sides of a row. */
export interface Sides {
  readonly ours: Measure;
  readonly theirs: Measure;
}

/** Rows that share what they are measured with. */
export interface Family {
  readonly name: string;
  readonly rows: readonly Row[];
}

/** The middle of some values, and how far they are apart. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

/** Result of a row. */
export interface RowResult {
  readonly name: string;
  readonly records?: number;
  /** Missing program; no other field is set then. */
  readonly missing?: string;
  /** Seconds, MiB, or bytes a record; a value a pair. */
  readonly ours?: readonly number[];
  readonly theirs?: readonly number[];
  /** Our rate, time, memory or disk as a part of theirs. */
  readonly ratio?: Spread;
  /** Duration of the whole row, in seconds. */
  readonly took?: number;
}

/** The pairs of each row: ours and theirs in turn. */
export const PAIRS = 5;
/** The part of the records that both sides are warmed up with. */
const WARM_UP = 0.1;

/** Measures a row: a pair to warm up, which is not counted, and then pair after pair. */
export async function measureRow(row: Row, places: Places, records = row.records ?? 0): Promise<RowResult> {
  const start = performance.now();
  const known = { name: row.name, ...(row.records === undefined ? {} : { records }) };
  try {
    const { ours, theirs } = await row.open(places, records);
    const found: { ours: number[]; theirs: number[] } = { ours: [], theirs: [] };
    if (!row.isCold) {
      await ours(Math.ceil(records * WARM_UP));
      await theirs(Math.ceil(records * WARM_UP));
    }
    for (let pair = 0; pair < (row.pairs ?? PAIRS); pair++) {
      // The order alternates, so that neither always finds the caches of the other.
      if (pair % 2 === 0) found.ours.push(await ours(records));
      found.theirs.push(await theirs(records));
      if (pair % 2 === 1) found.ours.push(await ours(records));
    }
    const ratios = found.ours.map((value, i) =>
      row.quantity === "rate" ? found.theirs[i] / value : value / found.theirs[i]
    );
    return { ...known, ...found, ratio: spread(ratios), took: (performance.now() - start) / 1_000 };
  } catch (error) {
    if (error instanceof Missing) return { ...known, missing: error.message };
    throw error;
  }
}

/** The middle of the values: what one round that was disturbed does not change. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function spread(values: readonly number[]): Spread {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

/** Returns true if the median of a result meets the target. */
export function isReached(reach: Reach, { ratio, ours, records = 0 }: RowResult): boolean {
  if ("perSecond" in reach) return records / median(ours!) >= reach.perSecond;
  return "atLeast" in reach ? ratio!.median >= reach.atLeast : ratio!.median <= reach.atMost;
}
