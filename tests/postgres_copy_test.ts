import { Buffer } from "node:buffer";
import { encodeRecords, recordDecoder } from "../src/backends/postgres/copy.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assertEquals } from "./assert.ts";

const TIME = Date.UTC(2026, 0, 1);

function roundTrip(records: readonly object[]): unknown[] {
  return recordDecoder(systemMetrics)(Buffer.concat([...encodeRecords(systemMetrics, records)]));
}

Deno.test("binary COPY keeps each value when records have their fields in different orders", () => {
  const records = [
    { timestamp: TIME, clusterId: "prod", cpuUsage: 1.5, errorCount: 2, trainingActive: true },
    { trainingActive: false, cpuUsage: 2.5, labels: { team: "nlp" }, clusterId: "dev", timestamp: TIME + 1 },
    { timestamp: TIME + 2, clusterId: "prod", memoryUsage: 3.5 },
    { memoryUsage: 4.5, clusterId: "prod", timestamp: TIME + 3, notAField: 1 },
  ];
  const { notAField: _, ...last } = records[3] as Record<string, unknown>;
  assertEquals(roundTrip(records), [...records.slice(0, 3), last]);
});

Deno.test("binary COPY has room for the values behind a text that ends with its buffer", () => {
  const reals = systemMetrics.columns.filter(({ type }) => type === "real").map(({ field }, i) => [field, i]);
  for (let length = 43_300; length < 43_700; length += 13) { // 3 bytes each, in a buffer of 131,072
    const record = { timestamp: TIME, clusterId: "€".repeat(length), ...Object.fromEntries(reals) };
    assertEquals(roundTrip([record]), [record]);
  }
});
