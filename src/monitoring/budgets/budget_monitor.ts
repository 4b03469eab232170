import type { Backend } from "../../backends/backend.ts";
import { matcherOf } from "../../backends/memory/matcher.ts";
import type { EventListener } from "../../pipeline/events.ts";
import type { GroupKey } from "../../records/aggregation.ts";
import type { Budget } from "../../records/budget.ts";
import { DAY_MS } from "../../records/calendar.ts";
import { costEntries, type CostEntry } from "../../records/cost_entry.ts";
import { Decimal } from "../../records/decimal.ts";
import { acceptWhere } from "../../records/where.ts";
import { bodiesOf, BUDGET } from "../document_kinds.ts";
import { type BudgetWindow, windowAt, windowsIn } from "./budget.ts";
import { CrossingLog, recordCrossings, type SpentPeriod } from "./crossings.ts";
import { fieldsOf, filterOf, keyOfCost, keysOf, readSpendings } from "./spending.ts";

/** Periods of budgets that filter by the same fields, by the values for which they count. */
interface BudgetGroup {
  readonly fields: readonly GroupKey[];
  readonly matches: (entry: CostEntry) => boolean;
  readonly byKey: ReadonlyMap<string, readonly (readonly SpentPeriod[])[]>;
}

/**
 * Counts the spending on each budget as costs are committed, and records each threshold that is crossed. Watches the
 * present periods, and those of late costs from the next refresh on.
 */
export class BudgetMonitor {
  readonly #backend: Backend;
  readonly #emit: EventListener;
  /** Days since the epoch with costs in periods that are not watched. */
  readonly #days = new Set<number>();
  #refreshedAt = 0;
  #watched: readonly SpentPeriod[] = [];
  #groups: readonly BudgetGroup[] = [];
  #log = new CrossingLog();

  /** Creates a monitor that knows no budgets yet. */
  constructor(backend: Backend, emit: EventListener) {
    this.#backend = backend;
    this.#emit = emit;
  }

  /** Notes costs whose periods the next refresh has to read. */
  note(entries: readonly CostEntry[]): void {
    for (const { timestamp } of entries) this.#days.add(Math.floor(timestamp / DAY_MS));
  }

  /**
   * Counts committed costs that were not counted before.
   *
   * @returns True if some belong to periods that are not watched: a refresh is due.
   */
  count(entries: readonly CostEntry[]): boolean {
    for (const entry of entries) {
      let amount: Decimal | undefined;
      for (const { fields, matches, byKey } of this.#groups) {
        const key = keyOfCost(entry, fields);
        const budgets = key === undefined ? undefined : byKey.get(key);
        if (budgets === undefined || !matches(entry)) continue;
        for (const periods of budgets) {
          if (!isCounted(entry, periods[0].budget)) continue;
          const period = periods.find(({ window }) => isWithin(entry, window));
          if (period === undefined) {
            this.note([entry]);
            continue;
          }
          const found = period.totals[entry.basis ?? "billed"];
          found.total = found.total.plus(amount ??= Decimal.from(entry.amount));
          found.count++;
        }
      }
    }
    return this.#days.size > 0;
  }

  /** True if a budget has begun a new period. */
  get isOver(): boolean {
    const now = Date.now();
    return this.#watched.some(({ budget: { period, endTime = Infinity }, window: { start, end } }) =>
      period !== undefined && start <= this.#refreshedAt && end > this.#refreshedAt && end <= now &&
      end < endTime
    );
  }

  /** Reads the budgets, and the spending on them, from the backend. Meanwhile nothing may be committed. */
  async refresh(): Promise<void> {
    const now = Date.now();
    const { documents } = this.#backend;
    const log = await CrossingLog.read(documents);
    const late = [...this.#days].map((day) => ({ start: day * DAY_MS, end: (day + 1) * DAY_MS }));
    const periods = (await bodiesOf<Budget>(documents, BUDGET)).flatMap((budget) => {
      const present = windowAt(budget, now);
      const others = windowsIn(budget, late).filter(({ start }) => start !== present.start);
      return [present, ...others].map((window) => ({ budget, window }));
    });
    const spendings = await readSpendings(this.#backend, periods);
    this.#watched = periods.map((period, i) => ({ ...period, totals: spendings[i].totals }));
    this.#groups = groupsOf(this.#watched);
    this.#log = log;
    this.#refreshedAt = now;
    this.#days.clear();
  }

  /** Records the thresholds that were crossed. What cannot be stored is found again the next time. */
  async report(): Promise<void> {
    for (const period of this.#watched) {
      await recordCrossings(this.#backend, period, { log: this.#log, emit: this.#emit });
    }
  }
}

function isWithin({ timestamp }: CostEntry, { start, end }: BudgetWindow): boolean {
  return timestamp >= start && timestamp < end;
}

function isCounted(
  entry: CostEntry,
  { currency, startTime: start = 0, endTime: end = Infinity }: Budget,
): boolean {
  return entry.currency === currency && isWithin(entry, { start, end });
}

/** Groups budgets so that a cost is looked up once for all budgets that filter by the same fields. */
function groupsOf(watched: readonly SpentPeriod[]): BudgetGroup[] {
  const budgets = [...Map.groupBy(watched, ({ budget }) => budget).values()];
  const byFilter = Map.groupBy(budgets, ([{ budget }]) => filterOf(budget));
  return [...byFilter.values()].map((group) => {
    const [[{ budget }]] = group;
    const fields = fieldsOf(budget);
    const pairs = group.flatMap((one) => keysOf(one[0].budget, fields).map((key) => ({ key, one })));
    const byKey = new Map(
      [...Map.groupBy(pairs, ({ key }) => key)].map(([key, found]) => [key, found.map(({ one }) => one)]),
    );
    const conditions = acceptWhere(costEntries, budget.where ?? [], budget.timeZone)
      .map((condition) => matcherOf(costEntries, condition));
    return { fields, byKey, matches: (entry) => conditions.every((holds) => holds({ ...entry })) };
  });
}
