import type { DocumentStore } from "../backends/backend.ts";
import type { Alert } from "../records/alert.ts";
import type { Budget, BudgetCrossing } from "../records/budget.ts";
import { DAY_MS } from "../records/calendar.ts";
import { windowAt } from "./budgets/budget.ts";
import { ACKNOWLEDGEMENT, ALERT, bodiesOf, BUDGET, CROSSING } from "./document_kinds.ts";

/** Before this time costs count in no present period of a budget. */
export async function startOfBudgets(documents: DocumentStore): Promise<number> {
  const now = Date.now();
  const windows = (await bodiesOf<Budget>(documents, BUDGET)).map((budget) => windowAt(budget, now));
  return Math.min(...windows.filter(({ end }) => end > now).map(({ start }) => start));
}

/** Days after which a cleanup forgets the thresholds of a period: bills of the last year may still be corrected. */
const CROSSING_DAYS = 400;

/**
 * Deletes alerts that were resolved before a time, with who took note of them, and thresholds that were crossed before
 * it and more than 400 days ago, except in periods that go on.
 */
export async function forgetOld(documents: DocumentStore, before: number): Promise<void> {
  const forget = async (kind: string, isOld: (body: unknown) => boolean) => {
    for (const { id, body } of await documents.read(kind)) if (isOld(body)) await documents.delete(kind, id);
  };
  await forget(
    ALERT,
    (body) => (body as Alert).resolvedAt !== undefined && (body as Alert).resolvedAt! < before,
  );
  const known = new Set((await bodiesOf<Alert>(documents, ALERT)).map(({ alertId }) => alertId));
  await forget(ACKNOWLEDGEMENT, (body) => !known.has((body as Pick<Alert, "alertId">).alertId));
  const budgets = await bodiesOf<Budget>(documents, BUDGET);
  const present = new Map(budgets.map((budget) => [budget.budgetId, windowAt(budget, Date.now()).start]));
  const oldest = Math.min(before, Date.now() - CROSSING_DAYS * DAY_MS);
  await forget(CROSSING, (body) => {
    const { at, budgetId, startTime } = body as BudgetCrossing;
    return at < oldest && present.get(budgetId) !== startTime;
  });
}
