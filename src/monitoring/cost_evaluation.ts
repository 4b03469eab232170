import type { Backend } from "../backends/backend.ts";
import { override } from "../backends/override.ts";
import { DELIVERY } from "../backends/staging.ts";
import type { EventListener } from "../pipeline/events.ts";
import type { Budget } from "../records/budget.ts";
import { DAY_MS } from "../records/calendar.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import type { RecordedDelivery } from "../transfer/recorded_delivery.ts";
import { newAnomalies } from "./anomalies/anomalies.ts";
import { type BudgetWindow, windowsIn } from "./budgets/budget.ts";
import { CrossingLog, recordCrossings } from "./budgets/crossings.ts";
import { readSpendings } from "./budgets/spending.ts";
import { type CostFinding, recordFinding } from "./cost_findings.ts";
import { bodiesOf, BUDGET, EVALUATION } from "./document_kinds.ts";

/** Days of costs that are evaluated in any case: those that came in no delivery, up to the end of a process. */
const RECENT_DAYS = 3;
/** Days of deliveries that the first evaluation looks at. */
const FIRST_DAYS = 7;
/** Clocks of processes may differ by this much. */
const MARGIN_MS = DAY_MS;

export interface EvaluationOptions {
  /** Gets the event of each finding that is new. */
  emit?: EventListener;
  /**
   * Spans of further costs that were committed, changed or deleted, such as those of an import without deliveries.
   *
   * @default {[]}
   */
  spans?: readonly BudgetWindow[];
  /**
   * Look for anomalies of the last five weeks as well.
   *
   * @default {false}
   */
  anomalies?: boolean;
}

/**
 * Evaluates budgets, and anomalies, over the periods whose costs changed since the last evaluation by any process: those
 * of deliveries that were published, replaced or undone, of the last days, and of `spans`. A process that was ended
 * between a commit and its evaluation is made up for by the next one.
 *
 * @returns The findings that are new: each is returned once over all processes.
 * @throws {BackendError} If the backend fails. The next evaluation finds the rest.
 */
export async function evaluateCosts(
  backend: Backend,
  { spans = [], anomalies = false, emit }: EvaluationOptions = {},
): Promise<CostFinding[]> {
  const { documents } = backend;
  const at = Date.now();
  const [last] = await bodiesOf<{ at: number }>(documents, EVALUATION);
  const since = (last?.at ?? at - FIRST_DAYS * DAY_MS) - MARGIN_MS;
  const changed: BudgetWindow[] = [
    ...spans,
    { start: at - RECENT_DAYS * DAY_MS, end: at },
    ...(await bodiesOf<RecordedDelivery>(documents, DELIVERY)).flatMap((delivery) =>
      delivery.parts.filter(({ ended }) => Math.max(delivery.at, ended?.at ?? 0) >= since)
        .map(({ first, last }) => ({ start: first, end: last + 1 }))
    ),
  ];
  const found: CostFinding[] = [];
  const periods = (await bodiesOf<Budget>(documents, BUDGET))
    .flatMap((budget) => windowsIn(budget, changed).map((window) => ({ budget, window })));
  const spendings = await readSpendings(backend, periods);
  const log = await CrossingLog.read(documents);
  for (const [i, period] of periods.entries()) {
    const { totals } = spendings[i];
    found.push(...await recordCrossings(backend, { ...period, totals }, { log, emit }));
  }
  for (const finding of anomalies ? await newAnomalies(backend) : []) {
    if (await recordFinding(backend, finding, emit)) found.push(finding);
  }
  await documents.write({ kind: EVALUATION, id: "cost_entries", body: { at } });
  return found;
}

/** A backend that notes the days of costs outside of deliveries: an evaluation does not know of them otherwise. */
export interface NotingBackend {
  /** The same backend, with the notes. */
  readonly backend: Backend;
  /** Returns the days as spans. */
  spans(): BudgetWindow[];
}

/** Makes a backend that notes the days of costs without a delivery. */
export function noteLooseCosts(backend: Backend): NotingBackend {
  const days = new Set<number>();
  const note = (records: readonly unknown[]) => {
    for (const { deliveryId, timestamp } of records as readonly CostEntry[]) {
      if (deliveryId === undefined) days.add(Math.floor(timestamp / DAY_MS));
    }
  };
  const noting = override(backend, {
    write(batch, onSent) {
      if (batch.dataset.name === "cost_entries") note(batch.records);
      return backend.write(batch, onSent);
    },
    stage: backend.stage && (async () => {
      const staging = await backend.stage!();
      const { add } = staging;
      staging.add = (records) => {
        note(records);
        return add.call(staging, records);
      };
      return staging;
    }),
  });
  return {
    backend: noting,
    spans: () => [...days].map((day) => ({ start: day * DAY_MS, end: (day + 1) * DAY_MS })),
  };
}
