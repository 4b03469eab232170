import { nameOf } from "../monitoring/alerts/alert_monitor.ts";
import type { Backend } from "../backends/backend.ts";
import { acceptQuery } from "../records/query.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import { type ClustersView, clustersView } from "../views/clusters.ts";
import { HEALTH_STATUSES, systemMetrics } from "../records/system_metrics.ts";
import { type Command, FORMAT_OPTIONS, readFormat, SOURCE_OPTIONS, withBackend } from "./command.ts";
import { formatTable, formatThings, isoTime, note, print, printFound } from "./output.ts";
import { asCalled } from "./program_name.ts";
import { HEALTH_OPTIONS, readHealth } from "../query/view_options.ts";

export const metricsHealth: Command = {
  name: "metrics health",
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    ...HEALTH_OPTIONS,
  ],
  examples: [
    "openfinops metrics health",
    "openfinops metrics health --window 15m --format json",
  ],
  async run(given) {
    const format = readFormat(given);
    const options = readHealth(given);
    const { since, newest, ...found } = await withBackend(given, "read", async (backend) => {
      const found = await clustersView(backend, options);
      return { ...found, newest: found.clusters.length === 0 ? await newestTime(backend) : undefined };
    });
    const table = () => printTables(found);
    const rows = found.clusters.map(({ nodesBy, ...cluster }) => ({ ...cluster, ...nodesBy }));
    printFound(format, found, { table, header: HEADER, rows });
    if (found.clusters.length === 0) {
      note(`No metrics from ${isoTime(since)} to ${isoTime(found.at)}.`);
      note(asCalled(
        newest === undefined
          ? "None are stored. `openfinops collect` samples this machine."
          : `The newest are of ${newest}: \`openfinops metrics health --at ${newest}\` shows them.`,
      ));
    }
    failIfUnhealthy(found);
  },
};

/** Returns the time of the newest metrics of a node. */
async function newestTime(backend: Backend): Promise<string | undefined> {
  const query = acceptQuery(systemMetrics, { order: "desc", limit: 1 });
  const [page] = await Array.fromAsync(backend.read(systemMetrics, query));
  return page?.[0] && isoTime(page[0].timestamp);
}

/** Silence and lost notifications are failures that nothing else reports. */
function failIfUnhealthy({ clusters, deadNotifications }: Omit<ClustersView, "since">): void {
  const silent = clusters.flatMap(({ silentNodes }) => silentNodes).length;
  const problems = [
    ...(silent > 0 ? [`${formatThings(silent, "node is", "nodes are")} down`] : []),
    ...(deadNotifications > 0
      ? [`${formatThings(deadNotifications, "notification was", "notifications were")} given up`]
      : []),
  ];
  if (problems.length === 0) return;
  const remedy = "See the silent nodes above, and `notify list --state dead`.";
  throw new TransferError(`Not healthy: ${problems.join(", ")}. ${remedy}`, { code: "UNHEALTHY" });
}

const HEADER = [
  "clusterId",
  "status",
  "score",
  "nodes",
  ...HEALTH_STATUSES,
  "cpuUsage",
  "memoryUsage",
  "gpuUsage",
  "latencyP95",
  "throughput",
  "powerConsumption",
  "costPerHour",
  "trainingNodes",
  "lastSeen",
];

function printTables({ clusters, alerts }: Omit<ClustersView, "since">): void {
  const percent = (value: number | undefined) => value === undefined ? "" : value.toFixed(1);
  if (clusters.length > 0) {
    print(formatTable(
      [
        "cluster",
        "status",
        "score",
        "nodes",
        "not healthy",
        "cpu %",
        "memory %",
        "gpu %",
        "training",
        "last seen",
      ],
      clusters.map((cluster) => [
        cluster.clusterId,
        cluster.status,
        String(cluster.score),
        String(cluster.nodes),
        HEALTH_STATUSES.slice(1).filter((status) => cluster.nodesBy[status] > 0)
          .map((status) => `${cluster.nodesBy[status]} ${status}`).join(", "),
        percent(cluster.cpuUsage),
        percent(cluster.memoryUsage),
        percent(cluster.gpuUsage),
        String(cluster.trainingNodes),
        cluster.lastSeen === undefined ? "never" : isoTime(cluster.lastSeen),
      ]),
    ));
  }
  for (const { clusterId, silentNodes } of clusters) {
    if (silentNodes.length > 0) note(`${clusterId}: silent: ${silentNodes.join(", ")}`);
  }
  if (alerts.length === 0) return;
  print("");
  print(formatThings(alerts.length, "active alert:", "active alerts:"));
  print(formatTable(
    ["severity", "alert", "of", "value", "since", "acknowledged"],
    alerts.map((alert) => [
      alert.severity,
      alert.description,
      nameOf(alert),
      `${alert.field} ${alert.value}`,
      isoTime(alert.since),
      alert.acknowledgedAt === undefined ? "no" : alert.acknowledgedBy ?? "yes",
    ]),
  ));
}
