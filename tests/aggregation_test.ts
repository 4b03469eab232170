import { CostObservatory, ObservabilityHub, ValidationError } from "../mod.ts";
import { aggregateMetrics } from "../src/aggregation/aggregate.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

Deno.test("aggregateMetrics() and aggregateCosts() name the field of an invalid question", async () => {
  await using hub = new ObservabilityHub();
  await using costs = new CostObservatory();
  const wrong: [object, string, unknown][] = [
    [{ bucket: "1 fortnight" }, "bucket", "such as 30s, 15m, 6h"],
    [{ bucket: 3600 }, "bucket", "such as 30s, 15m, 6h"],
    [{ bucket: "2d" }, "bucket", "1d, 1w, 1mo"],
    [{ timeZone: "Mars/Olympus" }, "timeZone", "America/New_York"],
    [{ timeZone: "" }, "timeZone", "America/New_York"],
    [{ groupBy: "clusterId" }, "groupBy", "an array"],
    [{ groupBy: ["cluster"] }, "groupBy", "a name such as "],
    [{ groupBy: ["timestamp"] }, "groupBy", "a name such as "],
    [{ groupBy: ["x.team"] }, "groupBy", "a name such as "],
    [{ groupBy: [1] }, "groupBy", "a name such as "],
    [{ top: 0 }, "top", "from 1"],
    [{ top: 1.5 }, "top", "from 1"],
    [{ top: 1e300 }, "top", "from 1"],
    [{ top: "2" }, "top", "from 1"],
    [{ emptyBuckets: true }, "emptyBuckets", "no bucket"],
    [{ bucket: "1h", emptyBuckets: 1 }, "emptyBuckets", "true or false"],
    [
      { bucket: "1s", emptyBuckets: true, startTime: NEW_YEAR, endTime: NEW_YEAR + 6 * DAY },
      "emptyBuckets",
      "500000",
    ],
    [{ startTime: NEW_YEAR + 1, endTime: NEW_YEAR }, "startTime", "no later than endTime"],
    [{ startTime: 1_767_225_600 }, "startTime", "looks like seconds"],
    [{ buckets: "1h" }, "buckets", "spelled bucket"],
  ];
  const ofMetrics: [object, string, unknown][] = [
    [{ groupBy: ["labels"] }, "groupBy", "labels.…"],
    [{ groupBy: ["labels.\0"] }, "groupBy", "labels.…"],
    [{ fields: { cpuUse: ["avg"] } }, "fields.cpuUse", "cpuUsage"],
    [{ fields: { clusterId: ["max"] } }, "fields.clusterId", "cpuUsage"],
    [{ fields: { cpuUsage: ["mean"] } }, "fields.cpuUsage", "such as p95"],
    [{ fields: { cpuUsage: ["p101"] } }, "fields.cpuUsage", "such as p95"],
    [{ fields: { cpuUsage: "avg" } }, "fields.cpuUsage", "an array"],
    [{ fields: ["cpuUsage"] }, "fields", "an object"],
  ];
  const ask = [
    ...[...wrong, ...ofMetrics].map((row) => [(asked: object) => hub.aggregateMetrics(asked), row] as const),
    ...[...wrong, [{ fields: {} }, "fields", "one of "], [
      { groupBy: ["entryId"] },
      "groupBy",
      "a name such as ",
    ]]
      .map((row) => [(asked: object) => costs.aggregateCosts(asked), row as typeof wrong[0]] as const),
  ];
  for (const [aggregate, [asked, field, expected]] of ask) {
    const error = await aggregate(asked).catch((error) => error);
    assert(error instanceof ValidationError, `${JSON.stringify(asked)}: ${error}`);
    assertEquals(error.field, field);
    assert(error.expected.includes(expected as string), error.message);
  }
});

Deno.test("aggregateCosts() keeps the top groups of each currency and adds up the others", async () => {
  await using costs = new CostObservatory();
  const entries: [string, number, string, string][] = [
    ["a", 0, "5", "USD"],
    ["b", 0, "0.1", "USD"],
    ["b", 1, "7", "USD"],
    ["c", 0, "0.000000000000000001", "USD"],
    ["d", 0, "0.2", "USD"],
    ["d", 1, "-1", "USD"],
    ["a", 0, "1", "EUR"],
    ["d", 0, "2", "EUR"],
  ];
  for (const [i, [category, day, amount, currency]] of entries.entries()) {
    await costs.addCostEntry(
      costEntry({ entryId: `e${i}`, category, amount, currency, timestamp: NEW_YEAR + day * DAY }),
    );
  }
  await costs.flush();
  const found = await costs.aggregateCosts({ bucket: "1d", groupBy: ["category"], top: 2 });
  const rows = found.map(({ startTime, group, isOther, currency, total, count }) => [
    (startTime! - NEW_YEAR) / DAY,
    isOther ? "(others)" : group!.category,
    currency,
    total,
    count,
  ]);
  assertEquals(rows, [
    [0, "d", "EUR", "2", 1],
    [0, "a", "EUR", "1", 1],
    [0, "a", "USD", "5", 1],
    [0, "b", "USD", "0.1", 1],
    [0, "(others)", "USD", "0.200000000000000001", 2],
    [1, "b", "USD", "7", 1],
    [1, "(others)", "USD", "-1", 1],
  ]);
  const [{ group }] = found.filter(({ isOther }) => isOther);
  assertEquals(group, { category: null });
});

Deno.test("aggregateMetrics() ranks by the first measure and merges all but percentiles", async () => {
  await using hub = new ObservabilityHub();
  // Nodes without values come first and last: none of them counts as 0.
  const nodes = {
    mute: [undefined],
    hot: [90, 95],
    warm: [50, 60],
    cool: [10],
    cold: [1, 2, 3],
    silent: [undefined],
  };
  for (const [nodeId, values] of Object.entries(nodes)) {
    for (const cpuUsage of values) await hub.collectSystemMetrics({ timestamp: NEW_YEAR, nodeId, cpuUsage });
  }
  await hub.flush();
  const measures = ["avg", "max", "min", "sum", "count", "p50"] as const;
  const asked = { groupBy: ["nodeId"], top: 2, fields: { cpuUsage: measures } };
  assertEquals(await hub.aggregateMetrics(asked), [
    {
      group: { nodeId: "hot" },
      count: 2,
      fields: { cpuUsage: { avg: 92.5, max: 95, min: 90, sum: 185, count: 2, p50: 92.5 } },
    },
    {
      group: { nodeId: "warm" },
      count: 2,
      fields: { cpuUsage: { avg: 55, max: 60, min: 50, sum: 110, count: 2, p50: 55 } },
    },
    {
      group: { nodeId: null },
      isOther: true,
      count: 6,
      fields: { cpuUsage: { avg: 4, max: 10, min: 1, sum: 16, count: 4 } },
    },
  ]);
  const byCount = await hub.aggregateMetrics({ ...asked, top: 1, fields: { cpuUsage: ["p95"] } });
  assertEquals(byCount[0].group, { nodeId: "cold" });
});

Deno.test("aggregateCosts() fills empty buckets of each group when emptyBuckets is set", async () => {
  await using costs = new CostObservatory();
  await costs.addCostEntry(costEntry({ timestamp: NEW_YEAR + HOUR }));
  await costs.addCostEntry(costEntry({ entryId: "e2", timestamp: NEW_YEAR + 2 * HOUR, category: "storage" }));
  await costs.flush();
  const asked = {
    startTime: NEW_YEAR + 1,
    endTime: NEW_YEAR + 3 * HOUR + 1,
    bucket: "1h",
    groupBy: ["category"],
  };
  const found = await costs.aggregateCosts({ ...asked, emptyBuckets: true });
  const rows = found.map(({ startTime, group, total, count }) => [
    (startTime! - NEW_YEAR) / HOUR,
    group!.category,
    total,
    count,
  ]);
  assertEquals(rows, [
    [0, "gpu", "0", 0],
    [0, "storage", "0", 0],
    [1, "gpu", "1", 1],
    [1, "storage", "0", 0],
    [2, "storage", "1", 1],
    [2, "gpu", "0", 0],
    [3, "gpu", "0", 0],
    [3, "storage", "0", 0],
  ]);
  assertEquals((await costs.aggregateCosts(asked)).length, 2);
});

Deno.test("aggregateMetrics() ends its empty buckets with the bucket of the newest record", async () => {
  const memory = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  const last = NEW_YEAR + 3 * HOUR - 1;
  await write(memory, systemMetrics, [{ timestamp: NEW_YEAR }, { timestamp: last }]);
  const found = await aggregateMetrics(memory, systemMetrics, { bucket: "1h", emptyBuckets: true });
  assertEquals(found.map(({ endTime, count }) => [(endTime! - NEW_YEAR) / HOUR, count]), [[1, 1], [2, 0], [
    3,
    1,
  ]]);
});

Deno.test("aggregateMetrics() ignores records that arrive late and lie outside its buckets", async () => {
  const memory = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  await write(memory, systemMetrics, [{ timestamp: NEW_YEAR }]);
  // A record that arrives between the question for the newest and the question itself.
  const { aggregate } = memory;
  let asked = 0;
  memory.aggregate = async function (...given) {
    if (++asked === 3) await write(memory, systemMetrics, [{ timestamp: NEW_YEAR + 3 * HOUR }]);
    return await aggregate.apply(this, given);
  };
  const found = await aggregateMetrics(memory, systemMetrics, { bucket: "1h" });
  assertEquals(asked, 3);
  assertEquals(found.map(({ startTime, count }) => [startTime, count]), [[NEW_YEAR, 1]]);
});

Deno.test("aggregateCosts() refuses empty buckets when buckets times groups are too many", async () => {
  await using costs = new CostObservatory();
  for (let i = 0; i < 100; i++) {
    await costs.addCostEntry(
      costEntry({ entryId: `e${i}`, timestamp: NEW_YEAR + i * HOUR, category: `c${i}` }),
    );
  }
  await costs.flush();
  const asked = { startTime: NEW_YEAR, endTime: NEW_YEAR + 69 * 24 * HOUR, emptyBuckets: true };
  const refused = () => costs.aggregateCosts({ ...asked, bucket: "1m", groupBy: ["category"] });
  await assertRejects(refused, ValidationError, "9936000 or more");
  assertEquals((await costs.aggregateCosts({ ...asked, bucket: "1m" })).length, 69 * 24 * 60);
  const found = await costs.aggregateCosts({ ...asked, bucket: "1h", groupBy: ["category"] });
  assertEquals([found.length, found.filter(({ count }) => count > 0).length], [69 * 24 * 100, 100]);
});
