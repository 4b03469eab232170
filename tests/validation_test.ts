import { ValidationError } from "../src/errors.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { acceptQuery } from "../src/records/query.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { assert, assertEquals, assertThrows } from "./assert.ts";
import { costEntry, FULL_SERVICE_METRICS, FULL_SYSTEM_METRICS, NEW_YEAR } from "./fixtures.ts";

const acceptSystem = (fields: object) => acceptRecord(systemMetrics, { timestamp: NEW_YEAR, ...fields });
const acceptCost = (fields: object) => acceptRecord(costEntries, { ...costEntry(), ...fields });

/** The field, the wish and the message of the error that something throws. */
function refusal(run: () => unknown): { field: string; expected: string; message: string } {
  const error = assertThrows(run, ValidationError) as ValidationError;
  return { field: error.field, expected: error.expected, message: error.message };
}

Deno.test("acceptRecord() keeps a record with every field", () => {
  assertEquals(acceptRecord(systemMetrics, FULL_SYSTEM_METRICS), FULL_SYSTEM_METRICS);
  assertEquals(acceptRecord(serviceMetrics, FULL_SERVICE_METRICS), FULL_SERVICE_METRICS);
});

Deno.test("acceptRecord() fills defaults and keeps absent fields absent", () => {
  assertEquals(acceptSystem({ cpuUsage: null, labels: undefined }), {
    timestamp: NEW_YEAR,
    clusterId: "default",
    nodeId: "default",
  });
  assertEquals(acceptCost({}).currency, "USD");
});

Deno.test("acceptRecord() returns a copy", () => {
  const given = { timestamp: NEW_YEAR, cpuUsage: 1, labels: { a: "b" } };
  const record = acceptRecord(systemMetrics, given);
  given.cpuUsage = 2;
  given.labels.a = "c";
  assertEquals([record.cpuUsage, record.labels], [1, { a: "b" }]);
});

Deno.test("acceptRecord() accepts a Date and fields in any order", () => {
  const record = acceptRecord(systemMetrics, { labels: {}, cpuUsage: 1, timestamp: new Date(NEW_YEAR) });
  assertEquals(record.timestamp, NEW_YEAR);
});

Deno.test("acceptRecord() keeps amounts in canonical form", () => {
  assertEquals(acceptCost({ amount: 0.1 }).amount, "0.1");
  assertEquals(acceptCost({ amount: "8.0E-7" }).amount, "0.0000008");
  assertEquals(acceptCost({ amount: "-0" }).amount, "0");
  assertEquals(acceptCost({ amount: "0.0000000000000000005" }).amount, "0");
});

Deno.test("acceptRecord() refuses numbers that are not finite", () => {
  for (const cpuUsage of [NaN, Infinity, -Infinity, "41.2", 1n, true, {}]) {
    assertEquals(refusal(() => acceptSystem({ cpuUsage })).expected, "a finite number");
  }
  assertEquals(refusal(() => acceptSystem({ errorCount: 1.5 })).expected, "a whole number");
  assertEquals(refusal(() => acceptSystem({ trainingActive: 1 })).expected, "true or false");
});

Deno.test("acceptRecord() suggests milliseconds when a time is in seconds", () => {
  const { field, message } = refusal(() => acceptSystem({ timestamp: NEW_YEAR / 1000 }));
  assertEquals(field, "timestamp");
  assertEquals(
    message,
    "Cannot accept system metrics: timestamp must be a time in epoch milliseconds (this looks like " +
      "seconds; multiply by 1000), not 1767225600.",
  );
});

Deno.test("acceptRecord() refuses invalid and out-of-range times", () => {
  for (const timestamp of [NEW_YEAR * 1000, -1, 0, NaN, NEW_YEAR + 0.5, "2026-01-01", new Date("x")]) {
    assertEquals(refusal(() => acceptSystem({ timestamp })).field, "timestamp");
  }
  assert(
    refusal(() => acceptSystem({ timestamp: NEW_YEAR * 1000 })).message.includes("microseconds") === false,
  );
  assert(refusal(() => acceptSystem({ timestamp: NEW_YEAR * 1000 })).message.includes("micro- or nano"));
});

Deno.test("acceptRecord() refuses records without a key", () => {
  assertEquals(refusal(() => acceptRecord(systemMetrics, {})).field, "timestamp");
  assertEquals(refusal(() => acceptRecord(serviceMetrics, { timestamp: NEW_YEAR })).field, "serviceName");
  for (const field of ["entryId", "resourceId", "category", "amount"]) {
    assertEquals(refusal(() => acceptCost({ [field]: undefined })).field, field);
    assertEquals(refusal(() => acceptCost({ [field]: "" })).field, field);
  }
  assertEquals(refusal(() => acceptSystem({ clusterId: "" })).expected, "a non-empty string");
});

Deno.test("acceptRecord() refuses text that PostgreSQL cannot store", () => {
  assertEquals(refusal(() => acceptSystem({ nodeId: "a\0b" })).expected, "free of NUL characters");
  const lone = "\ud800";
  assertEquals(refusal(() => acceptCost({ description: `x${lone}` })).field, "description");
  assertEquals(refusal(() => acceptCost({ tags: { a: lone } })).field, 'tags["a"]');
  assertEquals(refusal(() => acceptCost({ tags: { "k\0": "v" } })).expected, "free of NUL characters");
});

Deno.test("acceptRecord() refuses ids that are too long to index, and names the length", () => {
  const { expected } = refusal(() => acceptCost({ entryId: "x".repeat(801) }));
  assertEquals(expected, "at most 800 characters (this has 801)");
});

Deno.test("acceptRecord() refuses maps that are too large", () => {
  const { field, expected } = refusal(() => acceptSystem({ labels: { a: "x".repeat(65_535), b: "y" } }));
  assertEquals([field, expected], ["labels", "at most 65536 characters in all (this has 65538)"]);
});

Deno.test("acceptRecord() refuses unknown health states", () => {
  const { expected } = refusal(() => acceptSystem({ healthStatus: "fine" }));
  assertEquals(expected, "one of healthy, warning, critical, down");
});

Deno.test("acceptRecord() refuses tags that are not a plain object of strings", () => {
  assertEquals(refusal(() => acceptCost({ tags: { team: 7 } })).message.includes('tags["team"]'), true);
  for (const tags of [["a"], new Map(), "a=b", 3]) {
    assertEquals(refusal(() => acceptCost({ tags })).expected, "a plain object of strings");
  }
});

Deno.test("acceptRecord() refuses amounts that are not decimals or too long", () => {
  for (const amount of ["1,5", "", "abc", NaN, Infinity, {}, 5n]) {
    assertEquals(refusal(() => acceptCost({ amount })).field, "amount");
  }
  assertEquals(acceptCost({ amount: "9".repeat(18) }).amount, "9".repeat(18));
  for (const amount of ["1" + "0".repeat(18), 1e18, "-1e18", "999999999999999999.9999999999999999999"]) {
    assertEquals(
      refusal(() => acceptCost({ amount })).expected,
      "a decimal with at most 18 digits before the point",
    );
  }
});

Deno.test("acceptRecord() accepts ISO 4217 codes and names of virtual currencies", () => {
  for (const currency of ["USD", "XTS", "credits", "DBU", "Snowflake Credits", "₿"]) {
    assertEquals(acceptCost({ currency }).currency, currency);
  }
  for (const [currency, code] of [["usd", "USD"], ["Eur", "EUR"], [" USD", "USD"], ["euro", "EUR"]]) {
    assertEquals(refusal(() => acceptCost({ currency })).expected, `spelled ${code}, the code of ISO 4217`);
  }
  assertEquals(refusal(() => acceptCost({ currency: " " })).expected, "a code such as USD");
  assertEquals(refusal(() => acceptCost({ currency: "credits " })).expected, "free of white space around it");
});

Deno.test("acceptRecord() refuses unknown fields and suggests the spelling", () => {
  const misspelled = refusal(() => acceptSystem({ cpu_usage: 1 }));
  assertEquals(misspelled.expected, "spelled cpuUsage");
  assertEquals(
    misspelled.message,
    'Cannot accept system metrics: unknown field "cpu_usage". Did you mean "cpuUsage"?',
  );
  const unknown = refusal(() => acceptSystem({ completelyDifferent: "red" }));
  assertEquals(unknown.message, 'Cannot accept system metrics: unknown field "completelyDifferent".');
  assertEquals(acceptSystem({ colour: undefined }).timestamp, NEW_YEAR);
});

Deno.test("acceptRecord() refuses values that are not objects", () => {
  for (const input of [null, undefined, 1, "x", []]) {
    assertThrows(() => acceptRecord(systemMetrics, input), ValidationError);
  }
});

Deno.test("acceptRecord() shortens values in messages", () => {
  const { message } = refusal(() => acceptCost({ amount: "x".repeat(100_000) }));
  assert(message.length < 250, message);
});

Deno.test("acceptQuery() refuses unknown fields, wrong values and reversed ranges", () => {
  assertEquals(refusal(() => acceptQuery(systemMetrics, { category: "gpu" })).field, "category");
  assertEquals(refusal(() => acceptQuery(systemMetrics, { limit: 0 })).field, "limit");
  assertEquals(refusal(() => acceptQuery(systemMetrics, { limit: 1.5 })).field, "limit");
  assertEquals(refusal(() => acceptQuery(systemMetrics, { order: "up" })).field, "order");
  assertEquals(refusal(() => acceptQuery(systemMetrics, { nodeId: 1 })).field, "nodeId");
  assertEquals(refusal(() => acceptQuery(systemMetrics, { startTime: 1767225600 })).field, "startTime");
  assertEquals(refusal(() => acceptQuery(costEntries, { tags: { a: 1 } })).field, 'tags["a"]');
  const backwards = { startTime: NEW_YEAR + 1, endTime: NEW_YEAR };
  assertEquals(refusal(() => acceptQuery(systemMetrics, backwards)).field, "startTime");
});

Deno.test("acceptQuery() refuses texts that no record can contain", () => {
  for (const [text, expected] of [["a\0b", "NUL"], ["\ud800", "surrogates"]]) {
    for (const query of [{ category: text }, { tags: { a: text } }]) {
      const { field, expected: found } = refusal(() => acceptQuery(costEntries, query));
      assertEquals([field, found.includes(expected)], ["tags" in query ? 'tags["a"]' : "category", true]);
    }
  }
  assertEquals(acceptQuery(costEntries, { category: "", region: "é😀" }).equals, {
    category: "",
    region: "é😀",
  });
});
