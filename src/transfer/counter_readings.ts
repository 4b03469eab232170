import { createHash } from "node:crypto";
import type { Sample } from "./prometheus.ts";

/** Last reading of a counter. */
interface Reading {
  readonly value: number;
  readonly time: number;
  readonly start?: number;
}

/** Growth of a counter between two readings. */
export interface Increase {
  readonly value: number;
  /** Time between the readings, in seconds. */
  readonly seconds: number;
}

/** Readings of one owner. */
interface Owned {
  /** In the order of the last readings. */
  readonly readings: Map<string, Reading>;
  /** Time from which each series that begins is counted from zero. */
  since: number;
}

/** Default number of series that are remembered: some 30 MB. */
const MAX_SERIES = 100_000;
/** Characters of the name of a series that are kept as they are. */
const MAX_NAME_LENGTH = 500;

/**
 * Remembers the last reading of each counter. Beyond the limit, forgets the least recently read series of the owner who has
 * the most: its next reading is a baseline and counts nothing, like the first of a series that began before this process.
 *
 * Readings end with the process. Another server may count a series while this one restarts, so that growth since a stored
 * reading could count twice.
 */
export class CounterReadings {
  readonly #owners = new Map<string, Owned>();
  readonly #maxSeries: number;
  readonly #since: number;
  #size = 0;

  /** Remembers nothing yet. */
  constructor({ maxSeries = MAX_SERIES, since = Infinity }: { maxSeries?: number; since?: number } = {}) {
    this.#maxSeries = maxSeries;
    this.#since = since;
  }

  /** Number of series of all owners. */
  get size(): number {
    return this.#size;
  }

  /** Takes a reading. Returns the growth since the previous one; undefined where that is not known. */
  take(
    series: string,
    { value, start, isDelta }: Pick<Sample, "value" | "start" | "isDelta">,
    time: number,
    owner = "",
  ): Increase | undefined {
    if (isDelta) return { value, seconds: start === undefined ? 0 : (time - start) / 1_000 };
    if (!(value >= 0 && value < Infinity)) return undefined; // the next one would look like a restart
    series = shortName(series);
    const own = this.#owners.getOrInsertComputed(owner, () => ({ readings: new Map(), since: this.#since }));
    const last = own.readings.get(series);
    if (last && time <= last.time) return undefined; // late, or the same again
    own.readings.delete(series); // to the end of the order
    own.readings.set(series, { value, time, start });
    const from = last ? growthFrom(last, value, start, time) : firstFrom(own, start, time);
    if (!last) this.#makeRoom();
    return from && { value: value - from.value, seconds: (time - from.time) / 1_000 };
  }

  #makeRoom(): void {
    if (++this.#size <= this.#maxSeries) return;
    let most: Owned | undefined;
    for (const own of this.#owners.values()) {
      if (own.readings.size > (most?.readings.size ?? 0)) most = own;
    }
    const [series, { time }] = most!.readings.entries().next().value!;
    most!.readings.delete(series);
    this.#size--;
    // It began before: without this it would be counted from zero once more.
    most!.since = Math.max(most!.since, time);
  }
}

/** Returns a name of bounded length in place of that of a series: its hash, where it is long. */
export function shortName(series: string): string {
  return series.length <= MAX_NAME_LENGTH ? series : createHash("sha256").update(series).digest("base64url");
}

/** The reading from which the first one of a series counts: its start, if it began where it could be seen. */
function firstFrom({ since }: Owned, start: number | undefined, time: number): Reading | undefined {
  return start !== undefined && start > since && start < time ? { value: 0, time: start } : undefined;
}

/**
 * The reading from which a later one counts. A new start, or a lower value, is a counter that was set back to zero. A start
 * at the time of the reading says that the true one is not known: the values decide.
 */
function growthFrom(last: Reading, value: number, start: number | undefined, time: number): Reading {
  const isRestarted = start !== undefined && start < time && last.start !== undefined && start > last.start &&
    start >= last.time;
  if (isRestarted) return { value: 0, time: start };
  return value >= last.value ? last : { value: 0, time: last.time };
}
