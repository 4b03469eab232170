/**
 * Kinds of documents that are stored beside the records.
 *
 * @module
 */
import type { DocumentStore } from "../backends/backend.ts";

/** An `AlertRule`, by name. */
export const ALERT_RULE = "alert_rule";
/** An `Alert`, by its id. */
export const ALERT = "alert";
/** Acknowledgement of an alert, by its id. Separate from the alert, which another process may write at the same time. */
export const ACKNOWLEDGEMENT = "alert_acknowledgement";
/** A `Cluster`, by its id. */
export const CLUSTER = "cluster";
/** A `Service`, by its name. */
export const SERVICE = "service";
/** A `Budget`, by its id. */
export const BUDGET = "budget";
/** A `BudgetCrossing`, by budget, period and threshold. */
export const CROSSING = "budget_crossing";
/** A reported `CostAnomaly`, by day and series. */
export const ANOMALY = "cost_anomaly";
/** Acknowledgement of an anomaly, by the id of the anomaly. Separate, as not each anomaly is a document. */
export const ANOMALY_ACKNOWLEDGEMENT = "anomaly_acknowledgement";
/** Time of the last evaluation of budgets and anomalies. */
export const EVALUATION = "cost_evaluation";
/** The times of a `TrainingRun`, by its id. */
export const TRAINING_RUN = "training_run";

/** An `OutboxEntry`: one notification for one channel, by its occurrence and the channel. */
export const NOTIFICATION = "notification";
/** Time since which a budget or a channel exists: `{ since }`, by `budget/ID` or `channel/NAME`. */
export const EXISTENCE = "existence";
/** A `Lease`, by its name. */
export const LEASE = "lease";

export async function bodiesOf<T>(documents: DocumentStore, kind: string): Promise<T[]> {
  return (await documents.read(kind)).map(({ body }) => body as T);
}
