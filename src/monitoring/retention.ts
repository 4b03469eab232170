import type { Backend, DeleteOptions, DocumentStore } from "../backends/backend.ts";
import { countingChange } from "../backends/change_count.ts";
import { ValidationError } from "../errors.ts";
import type { Alert } from "../records/alert.ts";
import type { Budget, BudgetCrossing } from "../records/budget.ts";
import { DAY_MS } from "../records/calendar.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import { windowAt } from "./budgets/budget.ts";
import { dayOfAnomaly } from "./anomalies/anomaly_id.ts";
import {
  ACKNOWLEDGEMENT,
  ALERT,
  ANOMALY_ACKNOWLEDGEMENT,
  bodiesOf,
  BUDGET,
  CROSSING,
} from "./document_kinds.ts";

/** Options of a cleanup. */
export interface CleanupOptions {
  /**
   * Age in days at which records are deleted: one number, or one for each dataset. A dataset without a number is deleted
   * as the configuration says. Costs that count in a current period of a budget stay.
   */
  retentionDays?: number | Partial<Record<DatasetName, number>>;
  /**
   * Count records only, and delete none.
   *
   * @default {false}
   */
  dryRun?: boolean;
  /**
   * Time after which no further step begins, in milliseconds. The next cleanup does the rest.
   *
   * @default {Infinity}
   */
  timeBudgetMs?: number;
}

/**
 * Returns the time before which records are older than a number of days, in epoch milliseconds.
 *
 * @throws {ValidationError} If it is no number from 0.
 */
export function retentionCutoff(retentionDays: number): number {
  if (retentionDays >= 0) {
    return Math.max(0, Math.floor(Date.now() - retentionDays * DAY_MS));
  }
  throw new ValidationError({
    subject: "a cleanup",
    field: "retentionDays",
    value: retentionDays,
    expected: "a number of days from 0, or Infinity",
  });
}

/** Records of one dataset before a time. */
export interface Deletion {
  readonly dataset: Dataset<unknown>;
  readonly before: number;
}

/** Deletes old records, dataset by dataset, and old alerts; returns how many records of each. */
export async function deleteOld(
  backend: Backend,
  deletions: readonly Deletion[],
  { dryRun, timeBudgetMs = Infinity, onHeld }: DeleteOptions,
): Promise<Partial<Record<DatasetName, number>>> {
  const deleted: Partial<Record<DatasetName, number>> = {};
  const failures: unknown[] = [];
  const end = performance.now() + timeBudgetMs;
  for (const { dataset, before } of deletions) {
    const options = { dryRun, timeBudgetMs: end - performance.now(), onHeld };
    try {
      const deletion = backend.deleteBefore(dataset, before, options);
      deleted[dataset.name] = await (dryRun ? deletion : countingChange(backend, deletion));
    } catch (error) {
      failures.push(error); // the other datasets are deleted all the same
    }
  }
  const before = Math.min(...deletions.map(({ before }) => before));
  // A user who may delete only records has done what was asked.
  if (!dryRun) await forgetOld(backend.documents, before).catch(() => {});
  if (failures.length > 0) throw failures[0];
  return deleted;
}

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
 * it and more than 400 days ago, except in periods that go on. Acknowledgements of anomalies of that time go, too.
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
  await forget(
    ANOMALY_ACKNOWLEDGEMENT,
    (body) => dayOfAnomaly((body as { anomalyId: string }).anomalyId) < oldest,
  );
  await forget(CROSSING, (body) => {
    const { at, budgetId, startTime } = body as BudgetCrossing;
    return at < oldest && present.get(budgetId) !== startTime;
  });
}
