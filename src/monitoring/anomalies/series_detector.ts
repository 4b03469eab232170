/**
 * Detection of anomalies in the daily costs of one series, day by day.
 *
 * @module
 */
import { quantile } from "../../records/aggregation.ts";
import { DAY_MS } from "../../records/calendar.ts";
import type { CostAnomaly } from "../../records/anomaly.ts";

/** Days that a series remembers: 14 weeks, in which three months lie before any day. */
export const HISTORY_DAYS = 98;
/** Days before a series is judged. */
export const MIN_DAYS = 10;
/** Days of another level in a row that make it the level. */
const SHIFT_DAYS = 5;
/** Days from which the level is taken, and those from which the spread is. */
const LEVEL_DAYS = 14;
const SPREAD_DAYS = 56;
/** Weeks from which the part of a weekday is taken, the fewest of them, and days in which all weekdays have those. */
const WEEKS = 8;
const MIN_WEEKS = 3;
const SEASON_DAYS = 28;
/** Standard deviations, of logarithms, that are taken for chance: down, where noise that is not of logarithms has a longer tail, and up. */
const SIGMAS_DOWN = 5.5;
const SIGMAS_UP = 4.5;
/** Part of the expected cost that a day may deviate in any case. */
const MIN_DEVIATION = 0.25;
/** A weekday with less than this part of the level is expected to cost nothing. */
const NEARLY_NOTHING = 0.05;
/** Times that costs stopped among the days in memory, which make it usual. */
const USUAL_STOPS = 2;
/** Spread from which one day more without costs is taken for chance. */
const SIGMA_OF_STOP = 0.5;
/** From the median of absolute deviations, and from the span of the middle 80 %, to a standard deviation. */
const SIGMA_OF_MAD = 1.4826;
const SIGMA_OF_SPAN = 1 / 2.5631;

/** Judgement of a day that is out of order. */
export type Verdict = Pick<CostAnomaly, "kind" | "expected" | "severity">;

/** Expectation of a day: its cost, and the parts of it between which the day is in order. */
interface Outlook {
  readonly expected: number;
  readonly low: number;
  readonly high: number;
  /** Standard deviation of the logarithms. */
  readonly sigma: number;
}

/**
 * Judges each day of a series by the days before it:
 *
 * - The level is the median of the last two weeks, each day divided by the part that its weekday usually has.
 * - The spread is the median deviation from the level.
 * - A day of the month that was out of order in half of the months before is expected to be so again.
 * - A change of level is an anomaly on its first day. After five days it is the level.
 */
export class SeriesDetector {
  /** Costs of the last days. */
  #days: number[] = [];
  /** Parts that those days had of the week around them; NaN where that is not known. */
  #parts: number[] = [];
  /** Costs of the last days in order, without the weekday. */
  #base: number[] = [];
  /** Logarithms of the parts of the level that days had. */
  #errors: number[] = [];
  /** Costs, without weekday and calendar, of the last days if they are out of order on one side. */
  #run: number[] = [];
  #isRunUp = false;

  /** Level of the series: the median of days with costs, if half of the days have costs. */
  get level(): number {
    const costs = this.#base.filter((total) => total !== 0);
    return 2 * costs.length < this.#base.length ? 0 : median(costs);
  }

  /** True if any day in its memory has costs. */
  get isAlive(): boolean {
    return this.#days.some((total) => total !== 0);
  }

  /** Takes the next day, and judges it. */
  observe(day: number, total: number): Verdict | undefined {
    let verdict: Verdict | undefined;
    if (this.#days.length < MIN_DAYS) this.#base.push(total);
    else verdict = this.#judge(day, total);
    this.#push(total);
    return verdict;
  }

  /** Takes a day of which nothing is known, as if it were the one a week before. */
  skip(): void {
    this.#push(this.#days.at(-7) ?? this.level);
  }

  #push(total: number): void {
    this.#days = pushed(this.#days, total, HISTORY_DAYS);
    this.#parts = pushed(this.#parts, NaN, HISTORY_DAYS);
    const at = this.#days.length - 4;
    if (at < 3) return;
    const week = this.#days.slice(at - 3);
    const around = median(week) || (this.#days[at] === 0 ? 0 : median(week.filter((each) => each !== 0)));
    if (around !== 0) this.#parts[at] = this.#days[at] / around;
  }

  #judge(day: number, total: number): Verdict | undefined {
    if (this.#days.length === SEASON_DAYS) this.#takeOutWeekdays(day);
    const factor = this.#weekday(day, day);
    const level = this.level;
    if (level === 0 || Math.abs(factor ?? 1) < NEARLY_NOTHING) return this.#judgeIdle(total, factor);
    const { expected, low, high, sigma } = this.#outlook(level, factor);
    const part = total / expected;
    const value = total / (factor ?? 1);
    const isInOrder = part >= low && part <= high;
    const lump = isInOrder ? undefined : this.#lump(day, part < 0 ? -1 : 1, high);
    if (part > 0 && lump === undefined) {
      this.#errors = pushed(this.#errors, Math.log(value / level), SPREAD_DAYS);
    }
    if (isInOrder) {
      if (this.#isNearRun(value, level)) {
        this.#extendRun(value, this.#isRunUp, high);
        return undefined;
      }
      this.#base = pushed(this.#base, value, LEVEL_DAYS);
      this.#run = [];
      return undefined;
    }
    const highest = high * (lump ?? 1);
    // A fee is the same on any weekday.
    const least = Math.min(Math.abs(part), Math.abs(part * (factor ?? 1)));
    if (lump !== undefined && (part < 0 || part >= low) && least <= highest) {
      this.#run = [];
      return undefined;
    }
    const isUp = part > highest;
    const isFirst = this.#extendRun(isUp ? value / (lump ?? 1) : value, isUp, high);
    if (Math.abs(part) < NEARLY_NOTHING ? !this.#isStop(day, level, sigma) : !isFirst) return undefined;
    const isFar = isUp ? part > 2 * highest - 1 : part < 2 * low - 1;
    return {
      kind: total === 0 ? "stopped" : total > expected ? "high" : "low",
      expected,
      severity: total === 0 || isFar ? "high" : "medium",
    };
  }

  /** Judges a day on which nothing is expected: the largest day before, or a part of the level, is in order. */
  #judgeIdle(total: number, factor = 1): Verdict | undefined {
    const { level } = this;
    const largest = Math.max(...this.#days.map(Math.abs));
    const expected = level === 0 ? median(this.#days.filter((each) => each !== 0)) : level * factor;
    const most = level === 0 ? largest * (1 + MIN_DEVIATION) : Math.abs(level) * MIN_DEVIATION;
    const isInOrder = Math.abs(total) <= most;
    if (level === 0 && isInOrder) this.#base = pushed(this.#base, total, LEVEL_DAYS);
    if (isInOrder) this.#run = [];
    else if (level !== 0 || this.#extendRun(total, true, 1 + MIN_DEVIATION)) {
      return { kind: total > expected ? "high" : "low", expected, severity: "high" };
    }
    return undefined;
  }

  /**
   * Takes a day that is out of order into the run of such days.
   *
   * @returns True if it begins a run, or goes as far beyond it as that is out of order.
   */
  #extendRun(value: number, isUp: boolean, high: number): boolean {
    const isFirst = this.#run.length === 0 || this.#isRunUp !== isUp;
    const isBeyond = isFirst || (isUp && value / median(this.#run) > high);
    this.#run = isFirst ? [value] : [...this.#run, value];
    this.#isRunUp = isUp;
    // A stop is over when costs come again as they were, unless it lasts.
    if (this.#run.length === (value === 0 ? LEVEL_DAYS : SHIFT_DAYS)) {
      this.#base = this.#run;
      this.#run = [];
    }
    return isBeyond;
  }

  /** Returns true if a day in order is nearer to the days out of order before it than to the level. */
  #isNearRun(value: number, level: number): boolean {
    const ratio = value / median(this.#run);
    return this.#run.length > 0 && ratio > 0 && Math.abs(Math.log(ratio)) < Math.abs(Math.log(value / level));
  }

  /** Returns true if a further day with next to no costs says that they have stopped. */
  #isStop(day: number, level: number, sigma: number): boolean {
    const isIdle = Array.from(
      { length: 7 },
      (_, i) => Math.abs(this.#weekday(day - i, day) ?? 1) < NEARLY_NOTHING,
    );
    const least = Math.abs(level) * NEARLY_NOTHING;
    const gaps = [...this.#days.map((total) => Math.abs(total) < least), true]
      .filter((_, at, { length }) => !isIdle[(length - 1 - at) % 7]);
    const length = gaps.length - 1 - gaps.lastIndexOf(false);
    const stops = gaps.filter((isGap, at) => isGap && at > 0 && !gaps[at - 1]).length - 1;
    return stops < USUAL_STOPS && length === 1 + Math.floor(sigma / SIGMA_OF_STOP);
  }

  #outlook(level: number, factor: number | undefined): Outlook {
    if (this.#errors.length === 0) {
      this.#errors = this.#base.map((value) => Math.log(value / level)).filter(Number.isFinite);
    }
    const sorted = Float64Array.from(this.#errors).sort();
    const center = quantile(sorted, 0.5);
    const deviation = median(this.#errors.map((error) => Math.abs(error - center)));
    // The span is larger than the deviation says where noise has heavy tails.
    const span = quantile(sorted, 0.9) - quantile(sorted, 0.1);
    const sigma = Math.max(SIGMA_OF_MAD * deviation, SIGMA_OF_SPAN * span);
    // In steady growth all days are above the level by the same part.
    const drift = Math.exp(Math.min(Math.max(center, -MIN_DEVIATION), MIN_DEVIATION));
    let low = Math.min(1 - MIN_DEVIATION, Math.exp(-SIGMAS_DOWN * sigma));
    let high = Math.max(1 + MIN_DEVIATION, Math.exp(SIGMAS_UP * sigma));
    if (factor === undefined) {
      // Weekdays are not known yet: they lie between the least and the most of the days before.
      const parts = this.#base.map((value) => value / level);
      low *= Math.min(1, ...parts.filter((part) => part > 0));
      high *= Math.max(1, ...parts);
    }
    return { expected: level * drift * (factor ?? 1), low, high, sigma };
  }

  /** Takes the weekdays out of the days that were judged before they were known. */
  #takeOutWeekdays(day: number): void {
    this.#base = this.#days.slice(-LEVEL_DAYS).flatMap((total, i) => {
      const factor = this.#weekday(day - LEVEL_DAYS + i, day) ?? 1;
      return Math.abs(factor) < NEARLY_NOTHING ? [] : [total / factor];
    });
    this.#errors = [];
  }

  /**
   * Returns the part of the level that a weekday has, as seen from a day; undefined until it is known.
   * A weekday is expected to cost nothing if it never did. Where some of its days have no costs, the others count.
   */
  #weekday(of: number, day: number): number | undefined {
    const parts: number[] = [];
    if (this.#days.length < SEASON_DAYS) return undefined;
    const first = this.#days.length - ((day - of) % 7 || 7);
    for (let at = first; at >= 3 && parts.length < WEEKS; at -= 7) {
      if (!Number.isNaN(this.#parts[at])) parts.push(this.#parts[at]);
    }
    if (parts.length < MIN_WEEKS) return undefined;
    const costs = parts.filter((part) => Math.abs(part) >= NEARLY_NOTHING);
    if (costs.length === 0) return median(parts);
    return costs.length < MIN_WEEKS ? undefined : median(costs);
  }

  /**
   * Returns the part, of a cost or of a credit (a side of -1), that the same day of the last three months had;
   * undefined unless it was out of order in half of them.
   */
  #lump(day: number, side: 1 | -1, high: number): number | undefined {
    const date = new Date(day * DAY_MS);
    const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
    const isLast = new Date((day + 1) * DAY_MS).getUTCDate() === 1;
    const partsOf = (dayOf: (lastDay: number) => number) =>
      [1, 2, 3].flatMap((months) => {
        const lastDay = new Date(Date.UTC(year, month - months + 1, 0)).getUTCDate();
        const then = Date.UTC(year, month - months, dayOf(lastDay)) / DAY_MS;
        const at = this.#days.length - (day - then);
        const around = at < 0 ? 0 : median(this.#days.slice(Math.max(0, at - 7), at + 8));
        if (around === 0) return [];
        const part = side * this.#days[at] / around;
        // A weekday that is always large is no fee.
        const most = side < 0 ? 0 : high * Math.max(1, this.#weekday(then, day) ?? 1);
        return [part > most ? part : 0];
      });
    const candidates = [partsOf((last) => Math.min(last, date.getUTCDate()))];
    if (isLast) candidates.push(partsOf((last) => last));
    for (const parts of candidates) {
      const above = parts.filter((part) => part > 0);
      if (above.length > 0 && 2 * above.length >= parts.length) return Math.max(...above);
    }
    return undefined;
  }
}

/** Adds a value at the end of a list, of which the last ones are kept. */
function pushed(values: readonly number[], value: number, length: number): number[] {
  return [...values.slice(1 - length), value];
}

/** The middle value; 0 of none. */
function median(values: readonly number[]): number {
  return values.length === 0 ? 0 : quantile(Float64Array.from(values).sort(), 0.5);
}
