import type { Backend, CurrencyTotal } from "../../backends/backend.ts";
import type { AggregateRow, GroupKey } from "../../records/aggregation.ts";
import type { Budget } from "../../records/budget.ts";
import { costEntries, type CostEntry } from "../../records/cost_entry.ts";
import { Decimal } from "../../records/decimal.ts";
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
      const found = part.length === 1 ? [await readOne(backend, part[0])] : await readShared(backend, part);
      part.forEach((period, i) => spendings.set(period, found[i]));
    }
  }
  return periods.map((period) => spendings.get(period)!);
}

/** Reads the costs of one budget by a query with its filters. */
async function readOne(backend: Backend, { budget, window }: BudgetPeriod): Promise<Spending> {
  const { categories, resourceId, region, tags, where, timeZone } = budget;
  const [category, ...more] = categories ?? [];
  const query = acceptQuery(costEntries, {
    startTime: window.start,
    endTime: window.end,
    category: more.length === 0 ? category : undefined,
    resourceId,
    region,
    tags,
    where,
    timeZone,
  });
  const rows = await readRows(backend, query, { groupBy: more.length === 0 ? [] : [{ field: "category" }] });
  return spendingOf(budget, rows.filter(({ group }) => more.length === 0 || categories!.includes(group[2]!)));
}

/** Reads the costs of budgets that filter by the same fields, at once. */
async function readShared(backend: Backend, periods: readonly BudgetPeriod[]): Promise<Spending[]> {
  const bounds = [...new Set(periods.flatMap(({ window: { start, end } }) => [start, end]))].sort((a, b) =>
    a - b
  );
  const [{ budget: { where, timeZone } }] = periods;
  const query = acceptQuery(costEntries, { startTime: bounds[0], endTime: bounds.at(-1), where, timeZone });
  const groupBy = fieldsOf(periods[0].budget);
  // Between two bounds all costs count for the same windows.
  const ranges = bounds.slice(1).map((end, i) => ({ start: bounds[i], end, stepMs: end - bounds[i] }));
  const rows = await readRows(backend, query, { groupBy, ranges: ranges.length > 1 ? ranges : undefined });
  const byGroup = Map.groupBy(rows, ({ group: [, , ...values] }) => keyOf(values));
  return periods.map(({ budget, window }) => {
    const found = keysOf(budget, groupBy).flatMap((key) => byGroup.get(key) ?? [])
      .filter(({ start = window.start }) => start >= window.start && start < window.end);
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
