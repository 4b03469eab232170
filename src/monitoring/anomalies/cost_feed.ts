import { DAY_MS } from "../../records/calendar.ts";
import type { CostAnomaly } from "../../records/anomaly.ts";
import { anomalyIdOf } from "./anomaly_id.ts";
import { MIN_DAYS, SeriesDetector, type Verdict } from "./series_detector.ts";

/** Days after its beginning in which a series may turn out to be large. */
const BEGINNING_DAYS = 7;
/** Part of the mean of all series from which a new one is large. */
const LARGE = 0.5;
/** Part of the costs of a day below which nothing is an anomaly. */
const MIN_SHARE = 1e-6;

/** Days of a time zone, by their number since 1970-01-01. */
export class DayCalendar {
  readonly #timeZone: string;

  constructor(timeZone: string) {
    this.#timeZone = timeZone;
  }

  /** Returns the day that holds a time. */
  dayOf(time: number): number {
    const date = Temporal.Instant.fromEpochMilliseconds(time).toZonedDateTimeISO(this.#timeZone)
      .toPlainDate();
    return date.toZonedDateTime("UTC").epochMilliseconds / DAY_MS;
  }

  /** Returns the start of a day. */
  startOf(day: number): number {
    const date = Temporal.Instant.fromEpochMilliseconds(day * DAY_MS).toZonedDateTimeISO("UTC").toPlainDate();
    return date.toZonedDateTime(this.#timeZone).epochMilliseconds;
  }
}

/** The total of a series on a day. */
export interface DayTotal {
  readonly group: CostAnomaly["group"];
  /** A canonical decimal string. */
  readonly total: string;
}

/** A series, and the day on which it began. */
interface Series extends Pick<DayTotal, "group"> {
  readonly detector: SeriesDetector;
  /** The first day; undefined once it is known to be large, and for a series that began with the feed. */
  begun?: number;
}

/** All series of one currency and basis, day by day. Series without costs in memory are dropped. */
export class CostFeed {
  readonly #of: Pick<CostAnomaly, "currency" | "basis">;
  readonly #calendar: DayCalendar;
  readonly #series = new Map<string, Series>();
  readonly #total = new SeriesDetector();
  #first: number | undefined;
  #isStopped = false;

  constructor(of: Pick<CostAnomaly, "currency" | "basis">, calendar: DayCalendar) {
    this.#of = of;
    this.#calendar = calendar;
  }

  /** Number of series. */
  get size(): number {
    return this.#series.size;
  }

  /** Takes the totals of the next day by series, and returns the anomalies. */
  observe(day: number, totals: ReadonlyMap<string, DayTotal>): CostAnomaly[] {
    this.#first ??= day;
    const sum = [...totals.values()].reduce((sum, { total }) => sum + Number(total), 0);
    const before = this.#total.level;
    const verdict = this.#total.observe(day, sum);
    if (totals.size === 0 && this.size > 1 && (verdict?.kind === "stopped" || this.#isStopped)) {
      this.#isStopped = true;
      for (const { detector } of this.#series.values()) detector.skip();
      return verdict ? [this.#anomaly(day, { group: {}, total: "0" }, verdict)] : [];
    }
    this.#isStopped = false;
    const large = LARGE * before / Math.max(1, this.size);
    for (const [name, { group }] of totals) {
      if (this.#series.has(name)) continue;
      const begun = day - this.#first < MIN_DAYS ? undefined : day;
      this.#series.set(name, { group, detector: new SeriesDetector(), begun });
    }
    return [...this.#series].flatMap(([name, series]) => {
      const found = totals.get(name) ?? { group: series.group, total: "0" };
      const amount = Number(found.total);
      const verdict = judge(day, series, { amount, large });
      if (!totals.has(name) && !series.detector.isAlive) this.#series.delete(name);
      const isTiny = verdict && Math.abs(amount - verdict.expected) < MIN_SHARE * Math.abs(before);
      return verdict && !isTiny ? [this.#anomaly(day, found, verdict)] : [];
    });
  }

  #anomaly(day: number, { group, total }: DayTotal, { kind, expected, severity }: Verdict): CostAnomaly {
    const startTime = this.#calendar.startOf(day);
    return {
      anomalyId: anomalyIdOf({ startTime, group, ...this.#of }),
      startTime,
      endTime: this.#calendar.startOf(day + 1),
      group,
      ...this.#of,
      kind,
      amount: total,
      expected,
      deviation: (Number(total) - expected) / Math.abs(expected) * 100,
      severity,
    };
  }
}

/** Judges a day of a series. A beginning, and a cost where none is expected, is an anomaly if it is large. */
function judge(
  day: number,
  series: Series,
  { amount, large }: { amount: number; large: number },
): Verdict | undefined {
  const verdict = series.detector.observe(day, amount);
  const isBeginning = series.begun !== undefined && day - series.begun < BEGINNING_DAYS;
  if (!isBeginning && verdict?.expected !== 0) return verdict;
  if (Math.abs(amount) < large || amount === 0) return undefined;
  if (!isBeginning) return verdict;
  if (amount < 0) return undefined;
  series.begun = undefined;
  return { kind: "new", expected: 0, severity: amount > 2 * large ? "high" : "medium" };
}
