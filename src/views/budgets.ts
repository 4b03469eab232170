import type { Backend } from "../backends/backend.ts";
import type { BudgetStatus } from "../monitoring/budgets/budget_status.ts";
import { type BudgetQuery, budgetStatuses } from "../monitoring/budgets/budgets.ts";

/** Budgets and what is spent of each. */
export interface BudgetsView {
  /** The budgets, by id. */
  budgets: BudgetStatus[];
}

/** Returns the status of budgets, without reporting thresholds. */
export async function budgetsView(backend: Backend, query?: BudgetQuery): Promise<BudgetsView> {
  return { budgets: await budgetStatuses(backend, query) };
}
