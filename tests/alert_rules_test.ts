import { ObservabilityHub } from "../mod.ts";
import type { AlertSeverity } from "../src/records/alert.ts";
import { assertEquals } from "./assert.ts";

const MINUTE = 60_000;

/** The built-in rules, as docs/monitoring.md lists them: a value within the limit, one beyond it, and for how long. */
const BUILT_IN: readonly [
  name: string,
  field: string,
  within: unknown,
  beyond: unknown,
  durationMs: number,
  severity: AlertSeverity,
][] = [
  ["high_cpu_usage", "cpuUsage", 90, 90.001, 5 * MINUTE, "warning"],
  ["high_memory_usage", "memoryUsage", 85, 85.001, 3 * MINUTE, "critical"],
  ["gpu_overheating", "temperature", 85, 85.001, MINUTE, "critical"],
  ["high_error_rate", "errorRate", 5, 5.001, 2 * MINUTE, "critical"],
  ["low_success_rate", "successRate", 95, 94.999, 2 * MINUTE, "critical"],
  ["service_down", "status", "degraded", "down", MINUTE / 2, "emergency"],
];

/** Those of devices, which tests/device_alerts_test.ts is about. */
const OF_DEVICES = ["device_overheating", "device_error", "device_throttled", "device_idle"];

for (const [name, field, within, beyond, durationMs, severity] of BUILT_IN) {
  Deno.test(`ObservabilityHub has the built-in rule ${name}`, async () => {
    await using hub = await ObservabilityHub.open();
    const isOfService = ["successRate", "status"].includes(field);
    const start = Date.now() - 60 * MINUTE;
    const report = (ms: number, value: unknown) => {
      const timestamp = start + ms;
      return isOfService
        ? hub.collectServiceMetrics({ timestamp, serviceName: "api", [field]: value })
        : hub.collectSystemMetrics({ timestamp, nodeId: "n1", [field]: value });
    };
    const active = async () => (await hub.getAlerts()).map(({ rule, severity }) => [rule, severity]);
    for (const ms of [0, durationMs / 2, durationMs]) await report(ms, within);
    assertEquals(await active(), []);
    for (const ms of [1, durationMs / 2, durationMs]) await report(durationMs + ms, beyond);
    assertEquals(await active(), []);
    await report(2 * durationMs + 1, beyond);
    assertEquals(await active(), [[name, severity]]);
    await report(2 * durationMs + 1, within); // of the same millisecond, and later to arrive
    assertEquals(await active(), []);
    await hub.setAlertRule({
      ...(await hub.getAlertRules()).find((rule) => rule.name === name)!,
      isEnabled: false,
    });
    for (const times of [3, 4, 5]) await report(times * durationMs, beyond);
    assertEquals(await active(), []);
  });
}

Deno.test("ObservabilityHub has no built-in rules beside those that are listed", async () => {
  await using hub = await ObservabilityHub.open();
  assertEquals((await hub.getAlertRules()).map(({ name }) => name), [
    ...BUILT_IN.map(([name]) => name),
    ...OF_DEVICES,
  ]);
});

Deno.test("An acknowledgement is about an alert as it fired then, and not when it fires again", async () => {
  await using hub = await ObservabilityHub.open();
  await hub.setAlertRule({ name: "hot", field: "gpuUsage", above: 50 });
  const start = Date.now() - MINUTE;
  const report = (second: number, gpuUsage: number) =>
    hub.collectSystemMetrics({ timestamp: start + second * 1_000, gpuUsage });
  const notes = async () => (await hub.getAlerts()).map(({ acknowledgedBy }) => acknowledgedBy);
  await report(0, 90);
  await hub.acknowledgeAlert("hot/default/default", { by: "ada" });
  assertEquals(await notes(), ["ada"]);
  await report(1, 91); // it is the same alert
  assertEquals(await notes(), ["ada"]);
  assertEquals((await hub.acknowledgeAlert("hot/default/default")).acknowledgedBy, "ada");
  assertEquals(await notes(), ["ada"]);
  await report(2, 10);
  await report(3, 90);
  assertEquals(await notes(), [undefined]);
});
