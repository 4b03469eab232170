import { openBackend, type WhereCondition } from "../mod.ts";
import { aggregateCosts } from "../src/aggregation/aggregate.ts";
import { exportRecords } from "../src/transfer/export.ts";
import type { Arguments } from "../src/query/arguments.ts";
import { readWhere, splitNames } from "../src/query/where.ts";
import { ValidationError } from "../src/errors.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { acceptQuery } from "../src/records/query.ts";
import { costSummary } from "../src/views/costs.ts";
import { nearest } from "../src/nearest.ts";
import { assertEquals, assertRejects, assertThrows } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";

const parse = (...texts: string[]) =>
  readWhere({ texts: () => texts } as unknown as Arguments, {
    dataset: costEntries,
    timeZone: "UTC",
  });

Deno.test("readWhere() reads each comparison, and names and values in quotes", () => {
  const cases: [string, WhereCondition][] = [
    ["serviceName!=AmazonS3", { field: "serviceName", ne: "AmazonS3" }],
    ["serviceName = Amazon S3 ", { field: "serviceName", eq: "Amazon S3" }],
    ["tags.env in prod,stage", { field: "tags.env", in: ["prod", "stage"] }],
    ['tags.env not in "a,b", c', { field: "tags.env", notIn: ["a,b", "c"] }],
    ["tags.team missing", { field: "tags.team", missing: true }],
    ['tags.""=x', { field: "tags.", eq: "x" }],
    ["tags. missing", { field: "tags.", missing: true }],
    ["tags.user:team present", { field: "tags.user:team", missing: false }],
    ['tags."a=b, \\"c\\""=x', { field: 'tags.a=b, "c"', eq: "x" }],
    ["amount>100", { field: "amount", gt: "100" }],
    ["amount <= -1e-7", { field: "amount", lte: "-1e-7" }],
    ['description=""', { field: "description", eq: "" }],
    ["description=a=b", { field: "description", eq: "a=b" }],
    ["chargePeriodEnd>=2026-01-01", { field: "chargePeriodEnd", gte: NEW_YEAR }],
  ];
  for (const [text, expected] of cases) assertEquals(parse(text), [expected], text);
  assertEquals(splitNames(""), []);
  assertThrows(() => splitNames(",,,"), Error, "has no names");
  assertEquals(splitNames('region,tags."a,b",tags.c,focus.x'), ["region", "tags.a,b", "tags.c", "focus.x"]);
});

Deno.test("readWhere() refuses what it cannot read, and suggests the nearest name", () => {
  const refused: [string, string][] = [
    ["serviceName", "Cannot read the condition"],
    ["=x", "Cannot read the condition"],
    ["serviceName in ", "Cannot read the condition"],
    ["servicName=x", "must be a name such as serviceName,"],
    ["tag.team=x", "must be a name such as tags.team,"],
    ["user_team=x", "must be a name such as tags.user_team,"],
    ["tags=x", "must be a name such as tags.…,"],
    ["amount=x", "a decimal number or string"],
    ["serviceName>x", "a field that is a number or a time"],
    ["chargePeriodEnd>soon", "a time such as 2026-01-31T12:00Z"],
  ];
  for (const [text, message] of refused) assertThrows(() => parse(text), Error, message);
  const wrong = [{}, [{ field: "region" }], [{ field: "region", like: "x" }], [{ field: "region", in: [] }]];
  for (const where of wrong) {
    assertThrows(() => acceptQuery(costEntries, { where }), ValidationError, "where");
  }
});

Deno.test("aggregateCosts() sums a measure, quantities by unit and estimates separately", async () => {
  for (const connectionString of [undefined, "sqlite://"]) {
    const backend = await openBackend({ connectionString });
    await write(backend, costEntries, [
      costEntry({
        entryId: "a",
        amount: "1",
        effectiveCost: "0.5",
        consumedQuantity: 10,
        consumedUnit: "Tokens",
      }),
      costEntry({
        entryId: "b",
        amount: "2",
        effectiveCost: "0.25",
        consumedQuantity: 1,
        consumedUnit: "Hours",
      }),
      costEntry({
        entryId: "c",
        amount: "4",
        basis: "estimated",
        consumedQuantity: "0.1",
        consumedUnit: "Hours",
      }),
      costEntry({ entryId: "d", amount: "8", currency: "EUR" }),
    ]);
    const base = { currency: "USD" };
    assertEquals(await aggregateCosts(backend), [
      { currency: "EUR", total: "8", count: 1 },
      { ...base, total: "3", count: 2 },
      { ...base, basis: "estimated", total: "4", count: 1 },
    ]);
    assertEquals(await aggregateCosts(backend, { measure: "effectiveCost" }), [{
      ...base,
      total: "0.75",
      count: 2,
    }]);
    assertEquals(await aggregateCosts(backend, { measure: "consumedQuantity" }), [
      { ...base, unit: "Hours", total: "1", count: 1 },
      { ...base, unit: "Tokens", total: "10", count: 1 },
      { ...base, basis: "estimated", unit: "Hours", total: "0.1", count: 1 },
    ]);
    const where = [{ field: "basis", eq: "billed" }, { field: "amount", gt: 1 }];
    assertEquals(await aggregateCosts(backend, { where, groupBy: ["consumedUnit"] }), [
      { group: { consumedUnit: null }, currency: "EUR", total: "8", count: 1 },
      { group: { consumedUnit: "Hours" }, ...base, total: "2", count: 1 },
    ]);
    assertEquals((await backend.stats()).totals.map(({ total }) => total), ["8", "3", "4"]);
    const { currencies } = await costSummary(backend, { startTime: NEW_YEAR - 1, endTime: NEW_YEAR + 1 });
    assertEquals(currencies.map(({ currency, basis, total }) => [currency, basis, total]), [
      ["EUR", undefined, "8"],
      ["USD", undefined, "3"],
      ["USD", "estimated", "4"],
    ]);
    const measure = "efectiveCost" as "effectiveCost";
    await assertRejects(
      () => aggregateCosts(backend, { measure }),
      Error,
      "must be a name such as effectiveCost,",
    );
    const file = await exportRecords({
      backend,
      dataset: "cost_entries",
      format: "ndjson",
      query: { where },
    });
    assertEquals(
      (await new Response(file as ReadableStream<Uint8Array<ArrayBuffer>>).text()).split("\n").length,
      3,
    );
    await backend.close();
  }
});

Deno.test("nearest() counts edits by the letters of a name, without its signs", () => {
  assertEquals(nearest("__proto__", ["amount"]), "");
  assertEquals(nearest("cpu-usag", ["cpuUsage"]), "cpuUsage");
});
