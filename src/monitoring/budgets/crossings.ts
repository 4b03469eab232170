import type { Backend, DocumentStore } from "../../backends/backend.ts";
import type { EventListener } from "../../pipeline/events.ts";
import type { Budget, BudgetCrossing } from "../../records/budget.ts";
import { type CostFinding, recordFinding } from "../cost_findings.ts";
import { bodiesOf, CROSSING } from "../document_kinds.ts";
import { type BudgetWindow, windowAt } from "./budget.ts";
import { reachedThresholds, thresholdAmount } from "./budget_status.ts";
import { basisOf, type BasisTotals, type BudgetPeriod } from "./spending.ts";

/** A threshold of a running period is armed again when spending falls below this part of it: 9 of 10. */
const REARM = [9n, 10n] as const;

/** A budget, a window of it, and what is spent in it. */
export interface SpentPeriod extends BudgetPeriod {
  readonly totals: BasisTotals;
}

/** Recorded crossings: of each threshold in a period the newest. */
export class CrossingLog {
  readonly #newest = new Map<string, BudgetCrossing>();

  static async read(documents: DocumentStore): Promise<CrossingLog> {
    const log = new CrossingLog();
    for (const crossing of await bodiesOf<BudgetCrossing>(documents, CROSSING)) {
      const { generation: known = -1 } = log.#newest.get(nameOf(crossing)) ?? {};
      if ((crossing.generation ?? 0) > known || known < 0) log.set(crossing);
    }
    return log;
  }

  /** Returns the newest crossing of a threshold in a period. */
  newest({ budgetId }: Budget, { start }: BudgetWindow, threshold: number): BudgetCrossing | undefined {
    return this.#newest.get(nameOf({ budgetId, startTime: start, threshold }));
  }

  /** Returns the crossings of a budget, of one period or of all, that are not armed again. */
  of({ budgetId }: Pick<Budget, "budgetId">, window?: BudgetWindow): BudgetCrossing[] {
    return [...this.#newest.values()].filter((crossing) =>
      crossing.budgetId === budgetId && crossing.rearmedAt === undefined &&
      (window === undefined || crossing.startTime === window.start)
    );
  }

  /** Replaces the newest crossing. */
  set(crossing: BudgetCrossing): void {
    this.#newest.set(nameOf(crossing), crossing);
  }
}

function nameOf({ budgetId, startTime, threshold }: Omit<BudgetCrossing, "at" | "spent">): string {
  return `${budgetId}/${startTime}/${threshold}`;
}

/** The id of the document of a crossing. */
function crossingId(crossing: BudgetCrossing): string {
  return `${nameOf(crossing)}${crossing.generation === undefined ? "" : `/${crossing.generation}`}`;
}

/**
 * Records the thresholds that a period has crossed, and arms those again of a running period that it is far below.
 *
 * @returns The findings that were new.
 */
export async function recordCrossings(
  backend: Backend,
  { budget, window, totals }: SpentPeriod,
  { log, emit }: { readonly log: CrossingLog; readonly emit?: EventListener },
): Promise<CostFinding[]> {
  const found: CostFinding[] = [];
  const basis = basisOf(budget, totals);
  const { total: spent } = totals[basis];
  const reached = reachedThresholds(budget, spent);
  for (const threshold of budget.thresholds) {
    const newest = log.newest(budget, window, threshold);
    const isActive = newest !== undefined && newest.rearmedAt === undefined;
    if (isActive) {
      const limit = thresholdAmount(budget, threshold).timesFraction(...REARM);
      // Billed costs that take the place of estimates are the same spending.
      const isFallen = spent.compare(limit) < 0 && basis === (newest.basis ?? "billed");
      if (isFallen && Date.now() < window.end) log.set(await rearm(backend, newest));
    } else if (reached.includes(threshold)) {
      const crossing: BudgetCrossing = {
        budgetId: budget.budgetId,
        startTime: window.start,
        threshold,
        at: Date.now(),
        spent: spent.toString(),
        ...(basis === "estimated" ? { basis } : {}),
        ...(newest === undefined ? {} : { generation: (newest.generation ?? 0) + 1 }),
      };
      const finding = findingOf(budget, crossing);
      if (await recordFinding(backend, finding, emit)) found.push(finding);
      log.set(crossing);
    }
  }
  return found;
}

/** Arms a threshold again. */
export async function rearm({ documents }: Backend, crossing: BudgetCrossing): Promise<BudgetCrossing> {
  const body = { ...crossing, rearmedAt: Date.now() };
  await documents.write({ kind: CROSSING, id: crossingId(crossing), body });
  return body;
}

function findingOf(budget: Budget, crossing: BudgetCrossing): CostFinding {
  const message = describeCrossing(budget, crossing);
  const event = { type: "budget-threshold", dataset: "cost_entries", message, budget, crossing } as const;
  return { id: crossingId(crossing), event };
}

/** Describes a crossing in a sentence, with its period if that was over. */
export function describeCrossing(
  budget: Budget,
  { threshold, spent, at, startTime }: BudgetCrossing,
): string {
  const { name, amount, currency, timeZone } = budget;
  const start = Temporal.Instant.fromEpochMilliseconds(startTime).toZonedDateTimeISO(timeZone);
  const period = windowAt(budget, startTime).end > at ? "" : ` in the period from ${start.toPlainDate()}`;
  return `Budget ${name} has reached ${threshold} %: ${spent} of ${amount} ${currency} are spent${period}`;
}
