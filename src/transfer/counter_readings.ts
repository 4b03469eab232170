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

/** Default number of series that are remembered: some 30 MB. */
const MAX_SERIES = 100_000;

/**
 * Remembers the last reading of each counter. Beyond the limit, forgets the least recently read series: its next reading
 * is a baseline and counts nothing, like the first of a series that began before this process.
 */
export class CounterReadings {
  /** In the order of the last readings. */
  readonly #readings = new Map<string, Reading>();
  readonly #maxSeries: number;
  /** Time from which each series that begins is counted from zero. */
  #since: number;

  /** Remembers nothing yet. */
  constructor({ maxSeries = MAX_SERIES, since = Infinity }: { maxSeries?: number; since?: number } = {}) {
    this.#maxSeries = maxSeries;
    this.#since = since;
  }

  /** Number of series. */
  get size(): number {
    return this.#readings.size;
  }

  /** Takes a reading. Returns the growth since the previous one; undefined where that is not known. */
  take(series: string, { value, start, isDelta }: Sample, time: number): Increase | undefined {
    if (isDelta) return { value, seconds: start === undefined ? 0 : (time - start) / 1_000 };
    const last = this.#readings.get(series);
    if (last && time <= last.time) return undefined; // late, or the same again
    this.#readings.delete(series); // to the end of the order
    this.#readings.set(series, { value, time, start });
    const from = last ? growthFrom(last, value, start, time) : this.#firstFrom(start, time);
    if (!last) this.#makeRoom();
    return from && { value: value - from.value, seconds: (time - from.time) / 1_000 };
  }

  /** The reading from which the first one of a series counts: its start, if it began where it could be seen. */
  #firstFrom(start: number | undefined, time: number): Reading | undefined {
    return start !== undefined && start > this.#since && start < time ? { value: 0, time: start } : undefined;
  }

  #makeRoom(): void {
    if (this.#readings.size <= this.#maxSeries) return;
    const [series, { time }] = this.#readings.entries().next().value!;
    this.#readings.delete(series);
    // It began before: without this it would be counted from zero once more.
    this.#since = Math.max(this.#since, time);
  }
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
