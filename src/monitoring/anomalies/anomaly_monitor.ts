import { DAY_MS } from "../../records/calendar.ts";
import { aggregateCosts } from "../../aggregation/aggregate.ts";
import type { Backend } from "../../backends/backend.ts";
import type { EventListener } from "../../pipeline/events.ts";
import type { CostAnomaly } from "../../records/anomaly.ts";
import type { CostEntry } from "../../records/cost_entry.ts";
import { Decimal } from "../../records/decimal.ts";
import { ANOMALY } from "../document_kinds.ts";
import {
  detectAnomaly,
  type Expectation,
  expectationOf,
  HISTORY_DAYS,
  SERIES,
  spanOf,
} from "./anomaly_detection.ts";

/** The most categories of resources that are watched; beyond, those that came first are forgotten. */
const MAX_SERIES = 10_000;

/** Daily costs of one category of one resource. */
interface Series {
  readonly group: CostAnomaly["group"];
  readonly currency: string;
  /** The totals of the days, the present one included. */
  readonly totals: Map<number, Decimal>;
  /** The newest day that has costs. */
  day: number;
  /** Expected cost of that day; computed on demand. */
  allowed?: Expectation | null;
  /** True if that day is an anomaly. */
  isFound: boolean;
}

/**
 * Adds up what each category of each resource costs a day, as costs are committed, and tells of a day that costs too
 * much as soon as it does; of one that costs too little when it is over, which the first cost of a later day shows.
 */
export class AnomalyMonitor {
  readonly #backend: Backend;
  readonly #emit: EventListener;
  readonly #found = new Set<CostAnomaly>();
  #series = new Map<string, Series>();

  /** Makes a watch that knows of no costs yet. */
  constructor(backend: Backend, emit: EventListener) {
    this.#backend = backend;
    this.#emit = emit;
  }

  /** Counts committed costs that were not counted before. */
  count(entries: readonly CostEntry[]): void {
    const latest = Math.floor(Date.now() / DAY_MS) + 1;
    for (const entry of entries) {
      const day = Math.floor(entry.timestamp / DAY_MS);
      if (day > latest) continue; // it is booked ahead: taken for the present, it would make all that comes late
      const series = this.#seriesOf(entry.category, entry.resourceId, entry.currency);
      if (day > series.day) this.#startDay(series, day);
      add(series, day, Decimal.from(entry.amount));
      if (day < series.day) series.allowed = undefined; // it came late, and changes what is to be expected
      else this.#evaluate(series, { isOver: false });
    }
  }

  /** Takes what was spent up to now from the backend. Meanwhile nothing may be committed. */
  async refresh(): Promise<void> {
    this.#series = new Map();
    const today = Math.floor(Date.now() / DAY_MS);
    const rows = await aggregateCosts(this.#backend, {
      startTime: (today - HISTORY_DAYS) * DAY_MS,
      endTime: (today + 2) * DAY_MS,
      bucket: "1d",
      groupBy: SERIES,
    });
    for (const { startTime, currency, total, group } of rows) {
      const series = this.#seriesOf(group!.category!, group!.resourceId!, currency);
      add(series, startTime! / DAY_MS, Decimal.from(total));
      series.day = Math.max(series.day, startTime! / DAY_MS);
    }
    for (const series of this.#series.values()) this.#evaluate(series, { isOver: false });
    await this.#forgetOld(today);
  }

  /** Tells of what was found, unless this or another process has. Where that cannot be stored, it is told the next time. */
  async report(): Promise<void> {
    const { documents } = this.#backend;
    for (const anomaly of [...this.#found]) {
      const document = { kind: ANOMALY, id: await idOf(anomaly), body: anomaly };
      const isNew = await documents.write(document, { ifAbsent: true });
      this.#found.delete(anomaly);
      if (!isNew) continue;
      this.#emit({
        type: "cost-anomaly",
        dataset: "cost_entries",
        message: describeAnomaly(anomaly),
        anomaly,
      });
    }
  }

  /** Days before this are not reported again. */
  async #forgetOld(today: number): Promise<void> {
    const { documents } = this.#backend;
    for (const { id, body } of await documents.read(ANOMALY)) {
      if ((body as CostAnomaly).startTime < (today - HISTORY_DAYS) * DAY_MS) {
        await documents.delete(ANOMALY, id);
      }
    }
  }

  #seriesOf(category: string, resourceId: string, currency: string): Series {
    const name = `${category}\0${resourceId}\0${currency}`;
    let series = this.#series.get(name);
    if (!series) {
      series = { group: { category, resourceId }, currency, totals: new Map(), day: -1, isFound: false };
      if (this.#series.size >= MAX_SERIES) this.#series.delete(this.#series.keys().next().value!);
      this.#series.set(name, series);
    }
    return series;
  }

  #startDay(series: Series, day: number): void {
    this.#evaluate(series, { isOver: true });
    series.day = day;
    series.allowed = undefined;
    series.isFound = false;
    for (const then of series.totals.keys()) if (then < day - HISTORY_DAYS) series.totals.delete(then);
  }

  #evaluate(series: Series, { isOver }: { isOver: boolean }): void {
    const { day, isFound, group, currency, totals } = series;
    // Old costs that are imported are no news.
    if (isFound || (day + 2) * DAY_MS < Date.now()) return;
    const allowed = this.#allowed(series);
    const found = allowed && detectAnomaly(totalOf(series), allowed);
    if (!found || (found.deviation < 0 && !isOver)) return;
    series.isFound = true;
    this.#found.add({ ...spanOf(day), group, currency, amount: totals.get(day)!.toString(), ...found });
  }

  #allowed(series: Series): Expectation | null {
    if (series.allowed === undefined) {
      const history = [...series.totals].filter(([day]) =>
        day < series.day && day >= series.day - HISTORY_DAYS
      )
        .map(([day, total]) => ({ day, total: Number(total.toString()) }))
        .toSorted((a, b) => a.day - b.day);
      series.allowed = expectationOf(history, series.day) ?? null;
    }
    return series.allowed;
  }
}

/** An anomaly in words. */
function describeAnomaly({ group, currency, amount, startTime, expected }: CostAnomaly): string {
  const what = Object.values(group).map((value) => value ?? "(none)").join(", ");
  const day = new Date(startTime).toISOString().slice(0, 10);
  return `${what}: ${amount} ${currency} on ${day}, where about ${
    Number(expected.toPrecision(6))
  } is expected`;
}

/** Bounded in length, so that every backend can index it. */
async function idOf({ startTime, currency, group }: CostAnomaly): Promise<string> {
  const name = JSON.stringify([currency, ...Object.values(group)]);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name)));
  return `${startTime}/${hash.toHex()}`;
}

function add({ totals }: Series, day: number, amount: Decimal): void {
  totals.set(day, totals.get(day)?.plus(amount) ?? amount);
}

function totalOf({ totals, day }: Series): number {
  return Number(totals.get(day)!.toString());
}
