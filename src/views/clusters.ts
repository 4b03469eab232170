import type { Backend } from "../backends/backend.ts";
import { AlertMonitor } from "../monitoring/alerts/alert_monitor.ts";
import { Alerts } from "../monitoring/alerts/alerts.ts";
import { bodiesOf, SERVICE } from "../monitoring/document_kinds.ts";
import {
  type ClusterHealthSummary,
  clusterHealthSummary,
  type HealthOptions,
  healthWindow,
  newestByGroup,
} from "../monitoring/health.ts";
import { dependencyMap, type Service, type ServiceNode } from "../monitoring/service_dependencies.ts";
import { readOutbox } from "../monitoring/notifications/outbox.ts";
import { type ServiceMetrics, serviceMetrics } from "../records/service_metrics.ts";

/** A service, those that it depends on, and its newest measures; absent where it has not reported. */
export interface ServiceHealth
  extends ServiceNode, Pick<ServiceMetrics, "requestRate" | "responseTime" | "successRate" | "restartCount"> {
  /** The time of its newest metrics, in epoch milliseconds; absent where there are none. */
  lastSeen?: number;
}

/** Health of clusters in a time window, active alerts, and notifications that could not be sent. */
export interface ClustersView extends ClusterHealthSummary {
  /** The start of the time window, in epoch milliseconds. */
  since: number;
  /** Each service, by name. */
  services: ServiceHealth[];
  /** The number of notifications that are given up. */
  deadNotifications: number;
}

/** Returns the health of clusters from what is committed. */
export async function clustersView(backend: Backend, options?: HealthOptions): Promise<ClustersView> {
  const window = healthWindow(options);
  const alerts = new Alerts(backend.documents, new AlertMonitor(backend.documents, () => {}));
  const found = await clusterHealthSummary(backend, { window, recent: [], alerts: await alerts.list() });
  const services = await readServices(backend, window);
  const outbox = await readOutbox(backend.documents);
  const deadNotifications = outbox.filter(({ body }) => body.state === "dead").length;
  return { ...found, since: window.since, services, deadNotifications };
}

async function readServices(
  backend: Backend,
  window: ReturnType<typeof healthWindow>,
): Promise<ServiceHealth[]> {
  const groups = await newestByGroup(backend, serviceMetrics, window);
  const newest = new Map([...groups.values()].flatMap((found) => [...found]));
  const { nodes } = dependencyMap([...newest.values()], await bodiesOf<Service>(backend.documents, SERVICE));
  return nodes.map((node) => {
    const found = newest.get(node.serviceName);
    if (!found) return node;
    const { timestamp, requestRate, responseTime, successRate, restartCount } = found;
    const measures = { requestRate, responseTime, successRate, restartCount };
    const taken = Object.entries(measures).filter(([, value]) => value !== undefined);
    return { ...node, lastSeen: timestamp, ...Object.fromEntries(taken) };
  });
}
