import { ObservabilityHub } from "../mod.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import type { AlertSeverity } from "../src/records/alert.ts";
import type { HealthStatus } from "../src/records/system_metrics.ts";
import { assertEquals } from "./assert.ts";

const MINUTE = 60_000;

/** Node status by the alert that is active, and by what the node says of itself. */
const BY_ALERT: readonly [AlertSeverity, own: HealthStatus, expected: HealthStatus, score: number][] = [
  ["info", "healthy", "healthy", 100],
  ["warning", "healthy", "warning", 70],
  ["critical", "healthy", "critical", 40],
  ["emergency", "healthy", "critical", 40],
  ["critical", "warning", "critical", 40],
  ["warning", "critical", "critical", 40], // never better than what it says
  ["emergency", "down", "down", 0],
];

for (const [severity, own, expected, score] of BY_ALERT) {
  Deno.test(`getClusterHealthSummary() takes a node that says ${own} for ${expected} by a ${severity} alert`, async () => {
    await using hub = new ObservabilityHub();
    await hub.setAlertRule({ name: "busy", field: "gpuUsage", above: 50, severity });
    const at = Date.now();
    const node = { clusterId: "a", healthStatus: own };
    await hub.collectSystemMetrics({ timestamp: at - MINUTE, ...node, nodeId: "n1", gpuUsage: 90 });
    const health = async () => (await hub.getClusterHealthSummary({ at })).clusters[0];
    const before = await health();
    assertEquals([before.nodesBy[expected], before.score], [1, score]);
    await hub.collectSystemMetrics({ timestamp: at, ...node, nodeId: "n1", gpuUsage: 10 });
    assertEquals((await health()).nodesBy[own], 1); // the alert is resolved
  });
}

Deno.test("getClusterHealthSummary() lets an alert worsen only the node that it is about", async () => {
  await using hub = new ObservabilityHub();
  await hub.setAlertRule({ name: "busy", field: "gpuUsage", above: 50, severity: "critical" });
  const at = Date.now();
  for (const [clusterId, nodeId] of [["a", "n1"], ["a", "n2"], ["b", "n1"]]) {
    const gpuUsage = clusterId === "a" && nodeId === "n1" ? 90 : 10;
    await hub.collectSystemMetrics({ timestamp: at, clusterId, nodeId, gpuUsage });
  }
  const { clusters, alerts } = await hub.getClusterHealthSummary({ at });
  assertEquals(clusters.map(({ score, status }) => [score, status]), [[70, "warning"], [100, "healthy"]]);
  assertEquals(alerts.length, 1);
});

Deno.test("Health at a past time sees no newer records, stored or in this process", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 100, onConflict: "ignore" });
  const now = Date.now();
  const at = now - 2 * MINUTE;
  await using writer = await ObservabilityHub.open({ backend });
  for (
    const [timestamp, healthStatus, status] of [[at, "healthy", "running"], [now, "down", "down"]] as const
  ) {
    await writer.collectSystemMetrics({ timestamp, clusterId: "a", healthStatus, cpuUsage: timestamp - at });
    await writer.collectServiceMetrics({ timestamp, serviceName: "api", status });
  }
  await writer.collectSystemMetrics({ timestamp: at + 1, clusterId: "b" });
  await writer.flush();
  await using reader = await ObservabilityHub.open({ backend });
  for (const hub of [writer, reader]) {
    const { clusters } = await hub.getClusterHealthSummary({ at });
    assertEquals(
      clusters.map(({ clusterId, status, lastSeen, cpuUsage }) => [clusterId, status, lastSeen, cpuUsage]),
      [
        ["a", "healthy", at, 0],
      ],
    );
    assertEquals((await hub.getServiceDependencyMap({ at })).nodes.map(({ status }) => status), ["running"]);
    assertEquals((await hub.getClusterHealthSummary({ at: now })).clusters[0].status, "down");
    // A window before any of them.
    assertEquals((await hub.getClusterHealthSummary({ at: at - 1 })).clusters, []);
  }
});
