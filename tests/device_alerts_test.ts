import { ObservabilityHub } from "../mod.ts";
import { assert, assertEquals } from "./assert.ts";

const MINUTE = 60_000;

Deno.test("ObservabilityHub alerts of a hot, failed, slowed down and idle GPU by itself", async () => {
  await using hub = new ObservabilityHub();
  const start = Date.now() - 61 * MINUTE;
  for (let minute = 0; minute <= 60; minute++) {
    const timestamp = start + minute * MINUTE;
    const base = {
      timestamp,
      clusterId: "prod",
      nodeId: "n1",
      utilization: 50,
      temperature: 60,
      errorCode: 0,
    };
    await hub.deviceMetrics.add({ ...base, deviceId: "hot", temperature: minute < 58 ? 60 : 95 });
    await hub.deviceMetrics.add({ ...base, deviceId: "failed", errorCode: minute === 60 ? 79 : 0 });
    await hub.deviceMetrics.add({ ...base, deviceId: "slow", throttled: minute >= 50 });
    await hub.deviceMetrics.add({ ...base, deviceId: "idle", utilization: 0 });
    await hub.deviceMetrics.add({ ...base, deviceId: "fine" });
    await hub.systemMetrics.add({ timestamp, clusterId: "prod", nodeId: "n1", cpuUsage: 10 });
  }
  const alerts = await hub.getAlerts();
  assertEquals(alerts.map(({ alertId, severity, value }) => [alertId, severity, value]).sort(), [
    ["device_error/prod/n1/failed", "critical", 79],
    ["device_idle/prod/n1/idle", "info", 0],
    ["device_overheating/prod/n1/hot", "critical", 95],
    ["device_throttled/prod/n1/slow", "warning", true],
  ]);
  const { clusters: [prod] } = await hub.getClusterHealthSummary();
  assertEquals(prod.status, "critical");
});

Deno.test("ObservabilityHub applies a rule to one device, and resolves its alert alone", async () => {
  await using hub = new ObservabilityHub();
  await hub.setAlertRule({
    name: "full",
    dataset: "device_metrics",
    field: "memoryUsed",
    above: 10,
    deviceId: "d1",
  });
  const add = (deviceId: string, timestamp: number, memoryUsed: number) =>
    hub.deviceMetrics.add({ nodeId: "n1", deviceId, timestamp, memoryUsed });
  const now = Date.now() - 10;
  await add("d1", now, 11);
  await add("d2", now, 11);
  const active = async () => (await hub.getAlerts()).map(({ deviceId }) => deviceId);
  assertEquals(await active(), ["d1"]);
  await add("d2", now + 1, 1);
  assertEquals(await active(), ["d1"]);
  await add("d1", now + 1, 1);
  assertEquals(await active(), []);
  assert((await hub.getAlerts({ includeResolved: true })).every(({ resolvedAt }) => resolvedAt === now + 1));
});
