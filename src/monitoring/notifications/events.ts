import type { DocumentStore } from "../../backends/backend.ts";
import type { Alert } from "../../records/alert.ts";
import type { CostAnomaly } from "../../records/anomaly.ts";
import type { Budget, BudgetCrossing } from "../../records/budget.ts";
import { DAY_MS } from "../../records/calendar.ts";
import { describeAlert } from "../alerts/alert_monitor.ts";
import { describeAnomaly } from "../anomalies/anomalies.ts";
import { windowAt } from "../budgets/budget.ts";
import { describeCrossing } from "../budgets/crossings.ts";
import { ALERT, ANOMALY, bodiesOf, BUDGET, CROSSING, EXISTENCE } from "../document_kinds.ts";
import type { TOPICS } from "./channels.ts";
import type { Notification } from "./send.ts";

/** Events up to this age are notified, and older ones that still hold. */
export const RECENT_MS = 7 * DAY_MS;

/** Something to tell. */
export interface Occurrence extends Omit<Notification, "key"> {
  /** Id, unique over all occurrences; the same in every process. */
  readonly id: string;
  readonly topic: typeof TOPICS[number];
  /** Budget and end of its period, where a threshold was crossed. */
  readonly period?: { readonly budgetId: string; readonly end: number };
}

/**
 * Returns the events to notify of. They derive only from the documents of crossed thresholds, anomalies and alerts, so
 * each process finds the same events at any time, and none is lost between the commit and the outbox.
 */
export async function occurrencesIn(documents: DocumentStore, now: number): Promise<Occurrence[]> {
  const budgets = await bodiesOf<Budget>(documents, BUDGET);
  const existence = await readExistence(documents);
  const found: Lasting[] = [
    ...(await documents.read(CROSSING)).map(({ id, body }) =>
      ofCrossing(id, body as BudgetCrossing, budgets)
    ),
    ...(await documents.read(ANOMALY)).map(({ id, body }) => ofAnomaly(id, body as CostAnomaly)),
    ...(await bodiesOf<Alert>(documents, ALERT)).flatMap(ofAlert),
  ];
  return found.filter(({ at, until = 0 }) => at > now - RECENT_MS || until > now)
    .filter(({ period }) => !period || period.end > (existence.get(`budget/${period.budgetId}`) ?? 0))
    .map(({ until: _, ...occurrence }) => occurrence);
}

/** Returns since when budgets and channels exist. */
export async function readExistence(documents: DocumentStore): Promise<Map<string, number>> {
  const found = await documents.read(EXISTENCE);
  return new Map(found.map(({ id, body }) => [id, (body as { since: number }).since]));
}

/** An occurrence, and until when it holds. */
type Lasting = Occurrence & { readonly until?: number };

function ofCrossing(id: string, crossing: BudgetCrossing, budgets: readonly Budget[]): Lasting {
  const { budgetId, threshold, at, startTime } = crossing;
  const budget = budgets.find((budget) => budget.budgetId === budgetId);
  const end = budget && windowAt(budget, startTime).end;
  return {
    id: `budget/${id}`,
    topic: "budget",
    type: "budget-threshold",
    at,
    until: end,
    ...(end === undefined ? {} : { period: { budgetId, end } }),
    severity: threshold >= 100 ? "critical" : "warning",
    message: budget ? describeCrossing(budget, crossing) : `Budget ${budgetId} has reached ${threshold} %`,
    details: crossing,
  };
}

function ofAnomaly(id: string, anomaly: CostAnomaly): Lasting {
  return {
    id: `anomaly/${id}`,
    topic: "anomaly",
    type: "cost-anomaly",
    at: anomaly.at ?? anomaly.endTime,
    severity: anomaly.severity === "high" ? "critical" : "warning",
    message: describeAnomaly(anomaly),
    details: anomaly,
  };
}

/** An alert that has fired, and that was resolved. */
function ofAlert(alert: Alert): Lasting[] {
  const { alertId, firedAt, resolvedAt, severity } = alert;
  const of = { topic: "alert", severity, details: alert } as const;
  const { resolvedAt: _, ...active } = alert;
  const message = describeAlert(active);
  const until = resolvedAt === undefined ? Infinity : 0;
  const fired = {
    ...of,
    id: `alert/${alertId}/${firedAt}`,
    type: "alert-fired",
    at: firedAt,
    until,
    message,
  } as const;
  if (resolvedAt === undefined) return [fired];
  const id = `${fired.id}/resolved`;
  return [fired, { ...of, id, type: "alert-resolved", at: resolvedAt, message: describeAlert(alert) }];
}
