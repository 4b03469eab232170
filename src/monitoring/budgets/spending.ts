import type { Backend, CurrencyTotal } from "../../backends/backend.ts";
import type { AggregateRow, GroupKey } from "../../records/aggregation.ts";
import type { Budget } from "../../records/budget.ts";
import { type BucketRange, bucketRangesOf } from "../../records/calendar.ts";
import { costEntries, type CostEntry } from "../../records/cost_entry.ts";
import { Decimal } from "../../records/decimal.ts";
import { localDay } from "../../records/periods.ts";
import { acceptQuery } from "../../records/query.ts";
import type { BudgetWindow } from "./budget.ts";

/** Basis of a cost. */
export type Basis = "billed" | "estimated";

/** Totals in the currency of a budget, by basis. They are never added. */
export type BasisTotals = Record<Basis, { total: Decimal; count: number }>;

/** Spending on a budget in a window. */
export interface Spending {
  /** In the currency of the budget. */
  readonly totals: BasisTotals;
  /** In other currencies. */
  readonly others: readonly CurrencyTotal[];
}

/** A budget and a window of it. */
export interface BudgetPeriod {
  readonly budget: Budget;
  readonly window: BudgetWindow;
}

/** Most windows in one query: each is a condition of it. */
const MAX_WINDOWS = 500;
/** Fewer budgets with the same filters than this are faster with a filtered query each. */
const MIN_SHARED = 4;

/** Returns the basis whose costs count: as the budget says, else billed where there is any. */
export function basisOf({ basis }: Budget, { billed, estimated }: BasisTotals): Basis {
  return basis ?? (billed.count === 0 && estimated.count > 0 ? "estimated" : "billed");
}

/** Returns the total that counts. */
export function spentOf(budget: Budget, totals: BasisTotals): Decimal {
  return totals[basisOf(budget, totals)].total;
}

/** Returns what is spent on one budget. */
export async function readSpending(backend: Backend, period: BudgetPeriod): Promise<Spending> {
  const [spending] = await readSpendings(backend, [period]);
  return spending;
}

/**
 * Returns what is spent on each budget, added up by the backend: for many budgets that filter by the same fields in one
 * pass over the costs, grouped by those fields.
 */
export async function readSpendings(backend: Backend, periods: readonly BudgetPeriod[]): Promise<Spending[]> {
  const spendings = new Map<BudgetPeriod, Spending>();
  const byFilter = Map.groupBy(periods, ({ budget }) => filterOf(budget));
  for (const alike of byFilter.values()) {
    const size = alike.length < MIN_SHARED ? 1 : MAX_WINDOWS;
    const parts = alike.flatMap((_, i) => i % size === 0 ? [alike.slice(i, i + size)] : []);
    for (const part of parts) {
      const found = await readShared(backend, part);
      part.forEach((period, i) => spendings.set(period, found[i]));
    }
  }
  return periods.map((period) => spendings.get(period)!);
}

/** The time range of a read, and its buckets. */
interface ReadSpan extends BudgetWindow {
  readonly ranges?: readonly BucketRange[];
}

/** Returns the daily totals of budgets in their time zones, each of the basis that counts for it. */
export async function readDailyTotals(
  backend: Backend,
  budgets: ReadonlyMap<Budget, Basis>,
  { start, end }: BudgetWindow,
): Promise<Map<Budget, Map<number, number>>> {
  const totals = new Map<Budget, Map<number, number>>();
  const byFilter = Map.groupBy(budgets.keys(), (budget) => filterOf(budget) + budget.timeZone);
  for (const alike of byFilter.values()) {
    const [{ timeZone }] = alike;
    const ranges = bucketRangesOf({ count: 1, unit: "d" }, { start, end, timeZone });
    const parts = alike.length < MIN_SHARED ? alike.map((budget) => [budget]) : [alike];
    for (const part of parts) {
      const rowsOf = await readBudgets(backend, part, { start, end, ranges });
      for (const budget of part) {
        const days = new Map<number, number>();
        for (const { start, group: [currency, basis], values: [sum] } of rowsOf(budget)) {
          if (currency !== budget.currency || (basis ?? "billed") !== budgets.get(budget)) continue;
          const day = localDay(start!, timeZone);
          days.set(day, (days.get(day) ?? 0) + Number(sum));
        }
        totals.set(budget, days);
      }
    }
  }
  return totals;
}

/** Reads the costs of budgets that filter by the same fields; of one budget by a query with its filters. */
async function readBudgets(
  backend: Backend,
  budgets: readonly Budget[],
  { start, end, ranges }: ReadSpan,
): Promise<(budget: Budget) => AggregateRow[]> {
  const [first] = budgets;
  if (budgets.length === 1) return await readOne(backend, first, { start, end, ranges });
  const { where, timeZone } = first;
  const query = acceptQuery(costEntries, { startTime: start, endTime: end, where, timeZone });
  const groupBy = fieldsOf(first);
  const rows = await readRows(backend, query, { groupBy, ranges });
  const byGroup = Map.groupBy(rows, ({ group: [, , ...values] }) => keyOf(values));
  return (budget) => keysOf(budget, groupBy).flatMap((key) => byGroup.get(key) ?? []);
}

async function readOne(
  backend: Backend,
  budget: Budget,
  { start, end, ranges }: ReadSpan,
): Promise<() => AggregateRow[]> {
  const { categories, resourceId, region, tags, where, timeZone } = budget;
  const [category, ...more] = categories ?? [];
  const query = acceptQuery(costEntries, {
    startTime: start,
    endTime: end,
    category: more.length === 0 ? category : undefined,
    resourceId,
    region,
    tags,
    where,
    timeZone,
  });
  const groupBy = more.length === 0 ? [] : [{ field: "category" }];
  const rows = await readRows(backend, query, { groupBy, ranges });
  return () => rows.filter(({ group }) => more.length === 0 || categories!.includes(group[2]!));
}

/** Returns what is spent on budgets that filter by the same fields. */
async function readShared(backend: Backend, periods: readonly BudgetPeriod[]): Promise<Spending[]> {
  const bounds = [...new Set(periods.flatMap(({ window: { start, end } }) => [start, end]))].sort((a, b) =>
    a - b
  );
  // Between two bounds all costs count for the same windows.
  const ranges = bounds.slice(1).map((end, i) => ({ start: bounds[i], end, stepMs: end - bounds[i] }));
  const rowsOf = await readBudgets(backend, periods.map(({ budget }) => budget), {
    start: bounds[0],
    end: bounds.at(-1)!,
    ranges: ranges.length > 1 ? ranges : undefined,
  });
  return periods.map(({ budget, window }) => {
    const found = rowsOf(budget).filter(({ start = window.start }) =>
      start >= window.start && start < window.end
    );
    return spendingOf(budget, found);
  });
}

async function readRows(
  backend: Backend,
  query: ReturnType<typeof acceptQuery>,
  { groupBy, ranges }: {
    groupBy: readonly GroupKey[];
    ranges?: Parameters<Backend["aggregate"]>[2]["ranges"];
  },
): Promise<AggregateRow[]> {
  return await backend.aggregate(costEntries, query, {
    ranges,
    groupBy: [{ field: "currency" }, { field: "basis" }, ...groupBy],
    measures: [{ function: "sum", field: "amount" }, { function: "count" }],
    mayUseRollUps: true,
  });
}

/** Returns a text that is the same for budgets that filter by the same fields and conditions. */
export function filterOf(budget: Budget): string {
  return JSON.stringify([fieldsOf(budget), ...(budget.where ? [budget.where, budget.timeZone] : [])]);
}

/** Returns the fields and tags by which a budget filters costs, beside the currency. */
export function fieldsOf({ categories, resourceId, region, tags = {} }: Budget): GroupKey[] {
  return [
    ...(categories === undefined ? [] : [{ field: "category" }]),
    ...(resourceId === undefined ? [] : [{ field: "resourceId" }]),
    ...(region === undefined ? [] : [{ field: "region" }]),
    ...Object.keys(tags).toSorted().map((key) => ({ field: "tags", key })),
  ];
}

/** Returns the keys of the costs that count for a budget: one, or one for each category. */
export function keysOf(
  { categories = [""], tags, ...budget }: Budget,
  fields: readonly GroupKey[],
): string[] {
  return [...new Set(categories)].map((category) =>
    keyOf(fields.map(({ field, key }) => {
      if (key !== undefined) return tags![key];
      return field === "category" ? category : budget[field as "resourceId" | "region"]!;
    }))
  );
}

/** Returns the key of a cost by the fields and tags of some budgets; undefined if it lacks one and counts for none. */
export function keyOfCost(entry: CostEntry, fields: readonly GroupKey[]): string | undefined {
  let cost = "";
  for (const { field, key } of fields) {
    const value = key === undefined
      ? entry[field as "category" | "resourceId" | "region"]
      : entry.tags?.[key];
    if (value === undefined) return undefined;
    cost += `${value}\0`;
  }
  return cost;
}

/** No value has the separator; a cost that lacks one has a key that no budget has. */
function keyOf(values: readonly (string | null)[]): string {
  return values.map((value) => value === null ? "\0" : `${value}\0`).join("");
}

function spendingOf({ currency }: Budget, rows: readonly AggregateRow[]): Spending {
  const none = () => ({ total: Decimal.ZERO, count: 0 });
  const byCurrency = new Map<string, BasisTotals>([[currency, { billed: none(), estimated: none() }]]);
  for (const { group: [name, basis], values: [sum, count] } of rows) {
    const totals = byCurrency.getOrInsertComputed(name!, () => ({ billed: none(), estimated: none() }));
    const found = totals[basis === "estimated" ? basis : "billed"];
    found.total = found.total.plus(Decimal.from(sum as string));
    found.count += count as number;
  }
  const totals = byCurrency.get(currency)!;
  byCurrency.delete(currency);
  const others = [...byCurrency].flatMap(([currency, { billed, estimated }]): CurrencyTotal[] =>
    [{ ...billed }, { ...estimated, basis: "estimated" as const }].filter(({ count }) => count > 0)
      .map((one) => ({ currency, ...one, total: one.total.toString() }))
  );
  return { totals, others };
}
