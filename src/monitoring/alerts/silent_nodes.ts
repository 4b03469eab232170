import type { Backend } from "../../backends/backend.ts";
import type { Alert } from "../../records/alert.ts";
import { ALERT, bodiesOf } from "../document_kinds.ts";
import { clusterHealthSummary, healthWindow } from "../health.ts";
import { alertIdOf } from "./alert_monitor.ts";

/** The rule of these alerts. No metrics can break it: it is about their absence. */
const RULE = { name: "node_silent", severity: "critical", description: "Node is down" } as const;

/**
 * Fires an alert for each node that has been silent for longer than its interval, and resolves it once the node reports.
 *
 * @throws {BackendError} If the backend fails. The next call does the rest.
 */
export async function watchSilentNodes(backend: Backend): Promise<void> {
  const { documents } = backend;
  const window = healthWindow();
  const { clusters } = await clusterHealthSummary(backend, { window, recent: [], alerts: [] });
  const silent = clusters.flatMap(({ clusterId, silentNodes }) =>
    silentNodes.map((nodeId) => ({ alertId: alertIdOf(RULE, { clusterId, nodeId }), clusterId, nodeId }))
  );
  const alerts = (await bodiesOf<Alert>(documents, ALERT)).filter(({ rule, resolvedAt }) =>
    rule === RULE.name && resolvedAt === undefined
  );
  const put = (body: Alert) => documents.write({ kind: ALERT, id: body.alertId, body });
  for (const node of silent) {
    if (alerts.some(({ alertId }) => alertId === node.alertId)) continue;
    const { name: rule, ...more } = RULE;
    await put({ ...node, rule, ...more, field: "silent", value: true, since: window.at, firedAt: window.at });
  }
  for (const alert of alerts) {
    if (silent.some(({ alertId }) => alertId === alert.alertId)) continue;
    await put({ ...alert, resolvedAt: window.at });
  }
}
