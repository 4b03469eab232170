/**
 * The part of the contract that is about answers: the same from every backend.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import {
  aggregateCosts,
  aggregateFields,
  aggregateMetrics,
  type CostAggregate,
} from "../src/aggregation/aggregate.ts";
import type { Backend } from "../src/backends/backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { acceptQuery } from "../src/records/query.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { ValidationError } from "../src/errors.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const ZONE = "America/New_York";
/** Midnight in New York before the day of 23 hours, and before the day of 25. */
const SPRING = Date.UTC(2026, 2, 8, 5);
const AUTUMN = Date.UTC(2026, 10, 1, 4);

type Register = (title: string, run: (backend: Backend) => Promise<void>) => void;

/** Registers the tests. */
export function answersContract(test: Register): void {
  test("returns null for a measure when a group has no values", async (backend) => {
    const values = [10, 20, 30, 40, 50, undefined];
    await write(
      backend,
      systemMetrics,
      values.map((cpuUsage, i) => ({ timestamp: NEW_YEAR + i, cpuUsage, errorCount: i, clusterId: "a" })),
    );
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR, clusterId: "b" }]);
    const measures = ["avg", "min", "max", "sum", "count", "p0", "p25", "p95", "p100"] as const;
    const fields = { cpuUsage: measures, errorCount: ["sum", "p50"] };
    assertEquals(await aggregateMetrics(backend, systemMetrics, { groupBy: ["clusterId"], fields }), [
      {
        group: { clusterId: "a" },
        count: 6,
        fields: {
          cpuUsage: { avg: 30, min: 10, max: 50, sum: 150, count: 5, p0: 10, p25: 20, p95: 48, p100: 50 },
          errorCount: { sum: 15, p50: 2.5 },
        },
      },
      {
        group: { clusterId: "b" },
        count: 1,
        fields: {
          cpuUsage: {
            avg: null,
            min: null,
            max: null,
            sum: null,
            count: 0,
            p0: null,
            p25: null,
            p95: null,
            p100: null,
          },
          errorCount: { sum: null, p50: null },
        },
      },
    ]);
  });

  test("sums whole numbers beyond 64 bits", async (backend) => {
    const activeConnections = Number.MAX_SAFE_INTEGER;
    const record = { timestamp: NEW_YEAR, activeConnections };
    await write(backend, systemMetrics, Array.from({ length: 1_500 }, () => record));
    const [{ fields }] = await aggregateMetrics(backend, systemMetrics, {
      fields: { activeConnections: ["sum", "avg"] },
    });
    const { sum, avg } = fields.activeConnections;
    assert(Math.abs(sum! / (1_500 * activeConnections) - 1) < 1e-9 && sum! > 2 ** 63, String(sum));
    assert(Math.abs(avg! / activeConnections - 1) < 1e-9, String(avg));
  });

  test("sums tokens, and quantities and reported costs by unit and currency", async (backend) => {
    const use = (usageId: string, rest: object) => ({ usageId, timestamp: NEW_YEAR, model: "m", ...rest });
    await write(backend, usageRecords, [
      use("a", { inputTokens: 9_007_199_254_740_990, durationMs: 10, cost: "0.1", currency: "USD" }),
      use("b", { inputTokens: 1, durationMs: 30, cost: "0.200000000000000001", currency: "USD" }),
      use("c", { quantity: "0.1", unit: "images", cost: "1", currency: "EUR", tags: { team: "nlp" } }),
      use("d", { quantity: "0.2", unit: "images" }),
      use("e", { model: "n", quantity: "7", unit: "tokens" }),
    ]);
    const ask = (query: object) => aggregateFields(backend, usageRecords, query);
    assertEquals(await ask({ groupBy: ["model"], fields: { inputTokens: ["sum"], durationMs: ["p50"] } }), [
      {
        group: { model: "m" },
        count: 4,
        fields: { inputTokens: { sum: 9_007_199_254_740_991 }, durationMs: { p50: 20 } },
      },
      { group: { model: "n" }, count: 1, fields: { inputTokens: { sum: null }, durationMs: { p50: null } } },
    ]);
    const cost = (sum: string | null) => ({ cost: { sum } });
    assertEquals(await ask({ fields: { cost: ["sum"] } }), [
      { currency: "EUR", count: 1, fields: cost("1") },
      { currency: "USD", count: 2, fields: cost("0.300000000000000001") },
      { currency: null, count: 2, fields: cost(null) },
    ]);
    assertEquals(
      await ask({ fields: { quantity: ["sum", "count"] }, where: [{ field: "unit", missing: false }] }),
      [
        { unit: "images", count: 2, fields: { quantity: { sum: "0.3", count: 2 } } },
        { unit: "tokens", count: 1, fields: { quantity: { sum: "7", count: 1 } } },
      ],
    );
    assertEquals(
      await ask({ groupBy: ["tags.team"], top: 1, fields: { cost: ["sum"] }, currency: undefined }),
      [
        { group: { "tags.team": "nlp" }, currency: "EUR", count: 1, fields: cost("1") },
        { group: { "tags.team": null }, currency: "USD", count: 2, fields: cost("0.300000000000000001") },
        { group: { "tags.team": null }, currency: null, count: 2, fields: cost(null) },
      ],
    );
    for (const measure of ["avg", "p95"]) {
      await assertRejects(() => ask({ fields: { cost: [measure] } }), ValidationError, "sum or count");
    }
  });

  test("aggregates an empty result when no record matches", async (backend) => {
    const fields = { cpuUsage: ["avg", "p95"] };
    const nothing = { count: 0, fields: { cpuUsage: { avg: null, p95: null } } };
    assertEquals(await aggregateMetrics(backend, systemMetrics, { fields }), [nothing]);
    assertEquals(await aggregateMetrics(backend, systemMetrics, { fields, groupBy: ["nodeId"] }), []);
    assertEquals(await aggregateMetrics(backend, systemMetrics, { fields, bucket: "1d" }), []);
    assertEquals(await aggregateCosts(backend), []);
    const range = { startTime: NEW_YEAR, endTime: NEW_YEAR + 2 * HOUR, bucket: "1h", emptyBuckets: true };
    assertEquals(
      await aggregateMetrics(backend, systemMetrics, { fields, ...range }),
      [0, 1].map((hour) => ({
        startTime: NEW_YEAR + hour * HOUR,
        endTime: NEW_YEAR + (hour + 1) * HOUR,
        ...nothing,
      })),
    );
  });

  test("counts a day of 23 or 25 hours as one bucket", async (backend) => {
    const midnights = [SPRING - DAY, SPRING, SPRING + 23 * HOUR, AUTUMN - DAY, AUTUMN, AUTUMN + 25 * HOUR];
    await write(
      backend,
      costEntries,
      midnights.flatMap((midnight, i) => [
        costEntry({ entryId: `last${i}`, timestamp: midnight - 1, amount: "0.01" }),
        costEntry({ entryId: `first${i}`, timestamp: midnight, amount: "1" }),
      ]),
    );
    for (const startTime of [undefined, SPRING - 2 * DAY + 1]) {
      const days = await aggregateCosts(backend, { startTime, bucket: "1d", timeZone: ZONE });
      assertEquals(
        days.map(({ startTime, endTime, total }) => [startTime, (endTime! - startTime!) / HOUR, total]),
        [
          [SPRING - 2 * DAY, 24, "0.01"],
          [SPRING - DAY, 24, "1.01"],
          [SPRING, 23, "1.01"],
          [SPRING + 23 * HOUR, 24, "1"],
          [AUTUMN - 2 * DAY, 24, "0.01"],
          [AUTUMN - DAY, 24, "1.01"],
          [AUTUMN, 25, "1.01"],
          [AUTUMN + 25 * HOUR, 24, "1"],
        ],
      );
    }
  });

  test("buckets weeks from Monday, months and years by the calendar", async (backend) => {
    const days = [[2025, 11, 31], [2026, 0, 1], [2026, 0, 4], [2026, 0, 5], [2026, 1, 28], [2026, 2, 1]];
    const times = days.map(([year, month, day]) => Date.UTC(year, month, day));
    await write(
      backend,
      costEntries,
      times.map((timestamp, i) => costEntry({ timestamp, entryId: `e${i}` })),
    );
    const counts = async (bucket: string) =>
      (await aggregateCosts(backend, { bucket })).map(({ startTime, count }) =>
        `${new Date(startTime!).toISOString().slice(0, 10)}: ${count}`
      );
    assertEquals(await counts("1w"), ["2025-12-29: 3", "2026-01-05: 1", "2026-02-23: 2"]);
    assertEquals(await counts("1mo"), ["2025-12-01: 1", "2026-01-01: 3", "2026-02-01: 1", "2026-03-01: 1"]);
    assertEquals(await counts("3mo"), ["2025-10-01: 1", "2026-01-01: 5"]);
    assertEquals(await counts("1y"), ["2025-01-01: 1", "2026-01-01: 5"]);
  });

  test("assigns records outside the ranges to buckets of their own", async (backend) => {
    const beside = [-25, -11, -10, -1, 0, 9, 10, 19, 20, 21, 30];
    await write(backend, systemMetrics, beside.map((ms) => ({ timestamp: NEW_YEAR + ms })));
    const rows = await backend.aggregate(systemMetrics, acceptQuery(systemMetrics), {
      ranges: [
        { start: NEW_YEAR, end: NEW_YEAR + 10, stepMs: 10 },
        { start: NEW_YEAR + 10, end: NEW_YEAR + 20, stepMs: 5 },
      ],
      groupBy: [],
      measures: [{ function: "count" }],
    });
    const counts = new Map(rows.map(({ start, values }) => [start! - NEW_YEAR, values[0]]));
    assertEquals([0, 10, 15].map((start) => counts.get(start)), [2, 1, 1]);
    assertEquals([...counts.keys()].filter((start) => start >= 0 && start < 20).length, 3);
  });

  test("restarts buckets at midnight when they do not divide a day", async (backend) => {
    const memory = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "ignore" });
    const costs = Array.from(
      { length: 400 },
      (_, i) => costEntry({ timestamp: SPRING - 20 * DAY + i * 150 * MINUTE, entryId: `e${i}` }),
    );
    for (const one of [memory, backend]) await write(one, costEntries, costs);
    const asked = { bucket: "7h", timeZone: ZONE };
    const found = await aggregateCosts(backend, asked);
    assertEquals(found, await aggregateCosts(memory, asked));
    assert(found.length > 160, `${found.length} spans in 42 days`);
  });

  test("answers by any bucket where one record is of the year 9999", async (backend) => {
    const [first, last] = [Date.UTC(1974, 0, 1), Date.UTC(9999, 11, 31, 23)];
    const times = [first, SPRING - 1, SPRING, SPRING + 7 * HOUR - 1, last];
    await write(
      backend,
      costEntries,
      times.map((timestamp, i) => costEntry({ timestamp, entryId: `e${i}`, amount: `${i + 1}` })),
    );
    const starts = async (asked: object) =>
      (await aggregateCosts(backend, { timeZone: ZONE, ...asked })).map(({ startTime, endTime, total }) => [
        new Date(startTime!).toISOString().slice(0, 16),
        (endTime! - startTime!) / HOUR,
        total,
      ]);
    assertEquals(await starts({ bucket: "7h" }), [
      ["1973-12-31T19:00", 7, "1"],
      ["2026-03-08T02:00", 3, "2"],
      ["2026-03-08T05:00", 7, "7"],
      ["9999-12-31T19:00", 7, "5"],
    ]);
    assertEquals(await starts({ bucket: "1d" }), [
      ["1973-12-31T05:00", 24, "1"],
      ["2026-03-07T05:00", 24, "2"],
      ["2026-03-08T05:00", 23, "7"],
      ["9999-12-31T05:00", 24, "5"],
    ]);
    assertEquals(await starts({ bucket: "1mo", timeZone: "UTC" }), [
      ["1974-01-01T00:00", 744, "1"],
      ["2026-03-01T00:00", 744, "9"],
      ["9999-12-01T00:00", 744, "5"],
    ]);
    assertEquals(await starts({ bucket: "1mo", startTime: SPRING + HOUR, endTime: last }), [
      ["2026-03-01T05:00", 743, "4"],
    ]);
    assertEquals((await starts({ bucket: "1y" })).length, 3);
    const months = await starts({ bucket: "1mo", timeZone: "UTC", emptyBuckets: true });
    assertEquals([months.length, months[1], months.at(-1)], [
      8_026 * 12,
      ["1974-02-01T00:00", 672, "0"],
      ["9999-12-01T00:00", 744, "5"],
    ]);
    for (const bucket of ["7h", "1m", "1d"]) {
      const asked = { bucket, emptyBuckets: true };
      await assertRejects(() => aggregateCosts(backend, asked), ValidationError, "emptyBuckets");
    }
  });

  const expectedFarApart = new Map<string, CostAggregate[]>(); // computed once for all backends of a file
  test("answers by buckets of records far apart as the memory backend does", async (backend) => {
    const memory = new MemoryBackend({ maxMemoryEntries: 20_000, onConflict: "ignore" });
    // As many days as take several statements for buckets that do not divide a day.
    const costs = Array.from({ length: 4_300 }, (_, i) =>
      costEntry({
        timestamp: Date.UTC(2015, 0, 1) + i * 25 * HOUR,
        entryId: `e${i}`,
        resourceId: `r${i % 2}`,
      }));
    for (const one of [memory, backend]) await write(one, costEntries, costs);
    for (const bucket of ["7h", "1w"]) {
      for (const top of [undefined, 1]) {
        const asked = { bucket, timeZone: ZONE, groupBy: ["resourceId"], top };
        const found = await aggregateCosts(backend, asked);
        // Compared row by row: a difference between thousands of rows would take gigabytes to show.
        const key = JSON.stringify(asked);
        const expected = expectedFarApart.get(key) ?? await aggregateCosts(memory, asked);
        expectedFarApart.set(key, expected);
        const i = found.findIndex((row, i) => !isDeepStrictEqual(row, expected[i]));
        assertEquals(found[i], expected[i], bucket);
        assertEquals(found.length, expected.length);
        assertEquals(found.reduce((sum, { count }) => sum + count, 0), 4_300);
      }
    }
  });

  test("sums each currency exactly by category and tag", async (backend) => {
    const largest = "999999999999999999.999999999999999999";
    await write(backend, costEntries, [
      ...Array.from(
        { length: 3 },
        (_, i) => costEntry({ entryId: `l${i}`, amount: largest, tags: { team: "nlp" } }),
      ),
      costEntry({ entryId: "e1", amount: "-0.000000000000000001", tags: { team: "nlp" } }),
      costEntry({ entryId: "e2", amount: "0.5", currency: "EUR", tags: { team: "nlp", other: "x" } }),
      costEntry({ entryId: "e3", amount: "0.25", tags: { other: "x" } }),
      costEntry({ entryId: "e4", amount: "0.125" }),
    ]);
    const groupBy = ["category", "tags.team"];
    const byCurrency = await aggregateCosts(backend, { groupBy: ["currency", "currency"] });
    assertEquals(
      byCurrency.map(({ group, currency, count }) => [group!.currency, currency, count]),
      [["EUR", "EUR", 1], ["USD", "USD", 6]],
    );
    const found = await aggregateCosts(backend, { groupBy, bucket: "1d", endTime: NEW_YEAR + DAY });
    const day = { startTime: NEW_YEAR, endTime: NEW_YEAR + DAY };
    const group = { category: "gpu", "tags.team": "nlp" };
    assertEquals(found, [
      { ...day, group, currency: "EUR", total: "0.5", count: 1 },
      { ...day, group, currency: "USD", total: "2999999999999999999.999999999999999996", count: 4 },
      { ...day, group: { ...group, "tags.team": null }, currency: "USD", total: "0.375", count: 2 },
    ]);
  });

  test("groups by keys of any characters", async (backend) => {
    const keys = [
      "a.b",
      "a b",
      "ü",
      'q"',
      "q'",
      "back\\slash",
      "$",
      "a[0]",
      "line\nbreak",
      "__proto",
      "",
      "toString",
    ];
    await write(
      backend,
      systemMetrics,
      keys.map((key, i) => ({ timestamp: NEW_YEAR + i, labels: { [key]: `of ${key}` } })),
    );
    for (const key of keys) {
      const found = await aggregateMetrics(backend, systemMetrics, { groupBy: [`labels.${key}`] });
      assertEquals(
        found.map(({ group, count }) => [group![`labels.${key}`], count]),
        [[`of ${key}`, 1], [null, keys.length - 1]],
        key,
      );
    }
  });

  test("aggregates only records that match the filters", async (backend) => {
    await write(backend, costEntries, [
      costEntry({ tags: { team: "nlp" } }),
      costEntry({ entryId: "e2", category: "storage", tags: { team: "nlp" } }),
      costEntry({ entryId: "e3", timestamp: NEW_YEAR + HOUR, tags: { team: "nlp" } }),
      costEntry({ entryId: "e4", tags: { team: "vision" } }),
    ]);
    const asked = { endTime: NEW_YEAR + 1, category: "gpu", tags: { team: "nlp" }, groupBy: ["resourceId"] };
    assertEquals(await aggregateCosts(backend, asked), [
      { group: { resourceId: "gpu-01" }, currency: "USD", total: "1", count: 1 },
    ]);
  });

  test("orders, limits, shares and compares groups", async (backend) => {
    const amounts: [day: string, team: string | undefined, amount: string, currency?: string][] = [
      ["2025-02-28", "nlp", "5"],
      ["2026-01-31", "nlp", "100"],
      ["2026-01-30", "gone", "40"],
      ["2026-02-01", "nlp", "50"],
      ["2026-02-28", "other", "0.1"],
      ["2026-02-10", undefined, "30"],
      ["2026-02-10", undefined, "7", "EUR"],
      ["2026-02-11", "vision", "20"],
      ["2026-02-11", "credit", "-0.1"],
    ];
    await write(
      backend,
      costEntries,
      amounts.map(([day, team, amount, currency], i) =>
        costEntry({
          entryId: `e${i}`,
          timestamp: Date.parse(`${day}T12:00Z`),
          amount,
          currency,
          tags: team === undefined ? undefined : { team },
        })
      ),
    );
    const ask = async (more: object) => {
      const february = { startTime: "2026-02", endTime: "2026-03", groupBy: ["tags.team"] };
      return (await aggregateCosts(backend, { ...february, ...more })).map((row) => [
        row.isOther ? "(other)" : row.group?.["tags.team"],
        row.currency,
        row.total,
      ]);
    };
    const none = [null, "EUR", "7"];
    const [nlp, missing, vision] = [["nlp", "USD", "50"], [null, "USD", "30"], ["vision", "USD", "20"]];
    const [other, credit] = [["other", "USD", "0.1"], ["credit", "USD", "-0.1"]];
    assertEquals(await ask({}), [none, nlp, missing, vision, other, credit]);
    assertEquals(await ask({ order: "asc", limit: 2 }), [none, credit, other]);
    assertEquals(await ask({ order: "name" }), [none, credit, nlp, other, vision, missing]);
    assertEquals(await ask({ limit: 2 }), [none, nlp, missing]);
    assertEquals(await ask({ top: 4 }), [none, nlp, missing, vision, other, ["(other)", "USD", "-0.1"]]);
    assertEquals(await ask({ top: 2, order: "asc" }), [none, missing, nlp, ["(other)", "USD", "20"]]);
    const compared = async (more: object) =>
      (await aggregateCosts(backend, more)).filter(({ currency }) => currency === "USD").map((row) =>
        [row.group?.["tags.team"], row.total, row.share, row.previousTotal, row.change].filter((cell) =>
          cell !== undefined
        )
      );
    const asked = { startTime: "2026-02", endTime: "2026-03", compare: "previous", groupBy: ["tags.team"] };
    assertEquals(await compared({ ...asked, limit: 2, shares: true }), [
      ["nlp", "50", 50, "100", -50],
      [null, "30", 30, "0"],
    ]);
    assertEquals((await compared(asked)).at(-2), ["gone", "0", "40", -100]);
    assertEquals(await compared({ ...asked, groupBy: [], compare: "year" }), [["100", "5", 1_900]]);
    const { groupBy: _, startTime: __, ...all } = asked;
    assertEquals(await compared({ ...all, bucket: "1mo" }), [
      ["5", "0"],
      ["0", "5", -100],
      ["140", "0"],
      ["100", "140", -28.5714285714],
    ]);
    const week = { bucket: "1w", compare: "year", startTime: "2026-02-23", endTime: "2026-03-02" };
    assertEquals(await compared(week), [["0.1", "5", -98]]);
  });

  test("aggregates random questions as the memory backend does", async (backend) => {
    const memory = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "ignore" });
    const random = seeded(7);
    const metrics = Array.from({ length: 600 }, () => ({
      // Half of the times are whole minutes, where a boundary may lie.
      timestamp: SPRING - 3 * DAY + Math.floor(random() * 14_400) * MINUTE + (random() < 0.5 ? 0 : 1),
      clusterId: `c${Math.floor(random() * 3)}`,
      nodeId: `n${Math.floor(random() * 5)}`,
      healthStatus: (["healthy", undefined] as const)[Math.floor(random() * 2)],
      cpuUsage: random() < 0.2 ? undefined : random() * 100,
      errorCount: random() < 0.5 ? undefined : Math.floor(random() * 10),
      labels: random() < 0.3 ? undefined : { team: `t${Math.floor(random() * 3)}` },
    }));
    const services = metrics.map(({ timestamp, nodeId, cpuUsage }) => ({
      timestamp,
      serviceName: nodeId,
      responseTime: cpuUsage,
    }));
    const costs = metrics.map(({ timestamp, clusterId, nodeId, labels }, i) =>
      costEntry({
        timestamp,
        entryId: `e${i}`,
        category: clusterId,
        resourceId: nodeId,
        amount: ((random() - 0.2) * 10 ** Math.floor(random() * 12)).toFixed(12),
        currency: ["USD", "EUR"][i % 2],
        tags: labels,
      })
    );
    for (const one of [memory, backend]) {
      await write(one, systemMetrics, metrics);
      await write(one, serviceMetrics, services);
      await write(one, costEntries, costs);
    }
    const fields = { cpuUsage: ["avg", "min", "max", "p50", "p99.9"], errorCount: ["sum", "count", "p95"] };
    const shapes = [
      {},
      { bucket: "1h" },
      { bucket: "7m", timeZone: ZONE },
      { bucket: "6h", timeZone: ZONE, emptyBuckets: true },
      { bucket: "1d", timeZone: "Asia/Kathmandu" },
      { bucket: "1w", timeZone: ZONE, top: 2 },
      { bucket: "1w", timeZone: ZONE, limit: 1, order: "asc" },
      { bucket: "1mo", timeZone: "Australia/Lord_Howe", startTime: SPRING - DAY, endTime: SPRING + DAY },
    ];
    for (const shape of shapes) {
      for (const groupBy of [[], ["clusterId", "nodeId"], ["healthStatus", "labels.team"]]) {
        const asked = { ...shape, groupBy, fields };
        const [expected, found] = await Promise.all(
          [memory, backend].map((one) => aggregateMetrics(one, systemMetrics, asked)),
        );
        assertClose(found, expected, JSON.stringify(asked));
      }
      const ofServices = { ...shape, groupBy: ["serviceName"], fields: { responseTime: ["p95", "max"] } };
      const [expected, found] = await Promise.all(
        [memory, backend].map((one) => aggregateMetrics(one, serviceMetrics, ofServices)),
      );
      assertClose(found, expected, JSON.stringify(ofServices));
      for (const groupBy of [[], ["category", "tags.team"]]) {
        const asked: object = {
          ...shape,
          groupBy,
          shares: true,
          ...("bucket" in shape ? { compare: "previous" } : {}),
        };
        assertEquals(await aggregateCosts(backend, asked), await aggregateCosts(memory, asked));
      }
    }
  });
}

/** Compares all but the last digits of floats: databases may add them up in another order. */
function assertClose(actual: unknown, expected: unknown, asked: string): void {
  if (typeof actual === "number" && typeof expected === "number") {
    assert(Math.abs(actual - expected) <= 1e-12 * Math.abs(expected), `${actual}, not ${expected}: ${asked}`);
  } else if (typeof actual === "object" && typeof expected === "object" && actual && expected) {
    assertEquals(Object.keys(actual), Object.keys(expected), asked);
    for (const [key, value] of Object.entries(actual)) {
      assertClose(value, (expected as Record<string, unknown>)[key], asked);
    }
  } else assertEquals(actual, expected, asked);
}

/** Numbers from 0 to 1 that look random and are the same each time. */
function seeded(state: number): () => number {
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
