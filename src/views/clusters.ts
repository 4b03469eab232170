import type { Backend } from "../backends/backend.ts";
import { AlertMonitor } from "../monitoring/alerts/alert_monitor.ts";
import { Alerts } from "../monitoring/alerts/alerts.ts";
import {
  type ClusterHealthSummary,
  clusterHealthSummary,
  type HealthOptions,
  healthWindow,
} from "../monitoring/health.ts";
import { readOutbox } from "../monitoring/notifications/outbox.ts";

/** Health of clusters in a time window, active alerts, and notifications that could not be sent. */
export interface ClustersView extends ClusterHealthSummary {
  /** The start of the time window, in epoch milliseconds. */
  since: number;
  /** The number of notifications that are given up. */
  deadNotifications: number;
}

/** Returns the health of clusters from what is committed. */
export async function clustersView(backend: Backend, options?: HealthOptions): Promise<ClustersView> {
  const window = healthWindow(options);
  const alerts = new Alerts(backend.documents, new AlertMonitor(backend.documents, () => {}));
  const found = await clusterHealthSummary(backend, { window, recent: [], alerts: await alerts.list() });
  const outbox = await readOutbox(backend.documents);
  const deadNotifications = outbox.filter(({ body }) => body.state === "dead").length;
  return { ...found, since: window.since, deadNotifications };
}
