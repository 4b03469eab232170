import { monthAfter } from "../backends/staging.ts";
import { DAY_MS } from "../records/calendar.ts";
import type { Dataset } from "../records/dataset.ts";
import { isoTime } from "./values.ts";

/** Values of one kind: their number, and the first with its line. */
interface Found {
  rows: number;
  readonly first: unknown;
  readonly line: number;
}

/**
 * Values of a file that are stored, but may be mistakes: times in the future, as from a wrong unit or order of day and
 * month, and amounts that are stored as 0 because only 18 digits after the point are kept.
 */
export class DoubtfulValues {
  readonly #decimals: readonly string[];
  /** Last time that is not noted, epoch ms. */
  readonly #latest: number;
  readonly #found: { future?: Found; lost?: Found } = {};

  /**
   * Checks values of a dataset. A day is allowed for time zones and clocks; vendors bill the rest of the month ahead.
   *
   * @param now Present time, epoch ms.
   */
  constructor({ name, columns }: Dataset<unknown>, now: number) {
    this.#latest = (name === "cost_entries" ? monthAfter(now) : now) + DAY_MS;
    this.#decimals = columns.filter(({ type }) => type === "decimal").map(({ field }) => field);
  }

  /** Compares a record with the input that it was read from. */
  check(record: unknown, input: Readonly<Record<string, unknown>>, line: number): void {
    const values = record as Record<string, unknown>;
    const { timestamp } = values;
    if (timestamp as number > this.#latest) this.#count("future", isoTime(timestamp as number), line);
    for (const field of this.#decimals) {
      const kept = values[field];
      if (kept === "0" && kept !== input[field] && isNonZero(input[field])) {
        this.#count("lost", input[field], line);
      }
    }
  }

  notes(): string[] {
    const { future, lost } = this.#found;
    const notes: string[] = [];
    if (future) {
      const what = future.rows === 1 ? "1 record is" : `${future.rows} records are`;
      notes.push(`${what} in the future${example(future)}. Check the unit and the format of times`);
    }
    if (lost) {
      const what = lost.rows === 1 ? "1 number is" : `${lost.rows} numbers are`;
      notes.push(`${what} stored as 0${example(lost)}: 18 digits after the point are kept`);
    }
    return notes;
  }

  #count(kind: "future" | "lost", value: unknown, line: number): void {
    const found = this.#found[kind] ??= { rows: 0, first: value, line };
    found.rows++;
  }
}

function example({ first, line }: Found): string {
  return `, such as ${first} in line ${line}`;
}

/** True if a number has a digit that is not 0 before its exponent. */
function isNonZero(value: unknown): boolean {
  return /^[^e]*[1-9]/i.test(String(value));
}
