import type { Backend } from "../backends/backend.ts";
import type { BudgetStatus } from "../monitoring/budgets/budget_status.ts";
import { type BudgetQuery, budgetStatuses } from "../monitoring/budgets/budgets.ts";
import { readDailyTotals } from "../monitoring/budgets/spending.ts";
import { bodiesOf, BUDGET } from "../monitoring/document_kinds.ts";
import type { Budget } from "../records/budget.ts";
import { startOfLocalDay } from "../records/periods.ts";

/** A budget with its spending by day. */
export interface BudgetDetails extends BudgetStatus {
  /** Thresholds in percent of the limit, ascending. */
  thresholds: number[];
  /** Days of the period that have costs. Totals are approximate. */
  days: { startTime: number; total: number }[];
}

/** Budgets and what is spent of each. */
export interface BudgetsView {
  /** The budgets, by id. */
  budgets: BudgetStatus[];
}

/** Returns the status of budgets, without reporting thresholds. */
export async function budgetsView(backend: Backend, query?: BudgetQuery): Promise<BudgetsView> {
  return { budgets: await budgetStatuses(backend, query) };
}

/** Returns the status of budgets with the spending of each day, for a burn-down. */
export async function budgetDaysView(
  backend: Backend,
  query?: BudgetQuery,
): Promise<{ budgets: BudgetDetails[] }> {
  const { budgets } = await budgetsView(backend, query);
  const stored = new Map(
    (await bodiesOf<Budget>(backend.documents, BUDGET)).map((budget) => [budget.budgetId, budget]),
  );
  const found: BudgetDetails[] = [];
  for (const alike of Map.groupBy(budgets, ({ startTime, endTime }) => `${startTime} ${endTime}`).values()) {
    const [{ startTime: start, endTime: end }] = alike;
    const known = alike.flatMap((status) => {
      const budget = stored.get(status.budgetId); // one that was deleted meanwhile is left out
      return budget ? [{ status, budget }] : [];
    });
    const basis = new Map(known.map(({ status, budget }) => [budget, status.basis]));
    const totals = await readDailyTotals(backend, basis, { start, end });
    for (const { status, budget } of known) {
      const days = [...totals.get(budget) ?? []].sort(([a], [b]) => a - b)
        .map(([day, total]) => ({ startTime: startOfLocalDay(day, budget.timeZone), total }));
      found.push({ ...status, thresholds: budget.thresholds, days });
    }
  }
  return { budgets: found.toSorted((a, b) => a.budgetId < b.budgetId ? -1 : 1) };
}
