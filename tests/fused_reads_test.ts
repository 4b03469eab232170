/** Windows of costs that are read together give what each of them gives alone. */
import { FusedReads } from "../src/aggregation/fused_reads.ts";
import type { Backend } from "../src/backends/backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import type { Aggregation } from "../src/records/aggregation.ts";
import { bucketRangesOf } from "../src/records/calendar.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { acceptQuery } from "../src/records/query.ts";
import { costsView } from "../src/views/costs.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { Chance } from "./faults/chance.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = NEW_YEAR + 60 * DAY;
const DAYS = 60;

/** A backend with random costs from `START` on, and the time ranges that are read from it. */
async function setUp(chance: Chance) {
  const backend = new MemoryBackend({ maxMemoryEntries: 1_000, onConflict: "ignore" });
  await write(
    backend,
    costEntries,
    Array.from({ length: 300 }, (_, i) =>
      costEntry({
        entryId: String(i),
        timestamp: START + chance.between(0, DAYS * DAY),
        amount: `${chance.between(-9, 90)}.${chance.between(1, 999_999)}000000000001`,
        currency: chance.of(["USD", "EUR"]),
        category: chance.of(["gpu", "storage"]),
      })),
  );
  const read: [number?, number?][] = [];
  const reader: Pick<Backend, "aggregate"> = {
    aggregate(dataset, query, aggregation) {
      read.push([query.startTime, query.endTime]);
      return backend.aggregate(dataset, query, aggregation);
    },
  };
  return { backend, read, reader };
}

function sorted(rows: readonly object[]): string[] {
  return rows.map((row) => JSON.stringify(row, ["start", "group", "values"])).sort();
}

Deno.test("FusedReads gives each window what it has when it is read alone", async () => {
  for (let seed = 1; seed <= 20; seed++) {
    const chance = new Chance(seed);
    const { backend, reader } = await setUp(chance);
    const reads = FusedReads.over(reader);
    const measures: Aggregation["measures"] = [{ function: "sum", field: "amount" }, { function: "count" }];
    const windows = Array.from({ length: 12 }, () => {
      const startTime = START + chance.between(-DAY, DAYS * DAY);
      const endTime = startTime + chance.between(1, 30 * DAY);
      const bucket = chance.of(["none", "1h", "1d", "1w", "1mo"] as const);
      const timeZone = chance.of(["UTC", "America/New_York"]);
      const [, count, unit] = /^(\d+)(\w+)$/.exec(bucket) ?? [];
      const ranges = count === undefined
        ? []
        : bucketRangesOf({ count: 1, unit: unit as "h" }, { start: startTime, end: endTime, timeZone });
      const groupBy = chance.of([[{ field: "currency" }], [{ field: "currency" }, { field: "category" }]]);
      return [acceptQuery(costEntries, { startTime, endTime }), { ranges, groupBy, measures }] as const;
    });
    const ask = (some: typeof windows, from: Pick<Backend, "aggregate">) =>
      Promise.all(some.map((window) => from.aggregate(costEntries, ...window)));
    const found = [...await ask(windows.slice(0, 6), reads), ...await ask(windows.slice(6), reads)];
    const alone = await ask(windows, backend);
    assertEquals(found.map(sorted), alone.map(sorted), `seed ${seed}`);
  }
});

Deno.test("costsView() reads the costs of a time once for totals, and once for groups", async () => {
  const { read, reader } = await setUp(new Chance(3));
  const now = START + DAYS * DAY - 5 * HOUR;
  const options = { startTime: START + 30 * DAY, at: now, groupBy: ["category"], top: 1 };
  const { month, series, ...summary } = await costsView(reader, { ...options, bucket: "1d", month: true });
  // Edges of the range and of the month, a scan of all days, and groups of the range and of the period before it.
  const [, , days, before, groups, ...more] = read;
  assertEquals(more, []);
  assert(days[0]! < before[0]! && before[1]! <= groups[0]! && groups[1]! <= days[1]!, JSON.stringify(read));
  const usd = summary.currencies.find(({ currency }) => currency === "USD")!;
  const [top] = usd.breakdowns[0].rows;
  const ofTop = series!.filter(({ currency, group, isOther }) =>
    currency === "USD" && !isOther && group!.category === top.group!.category
  );
  assertEquals([ofTop.length, ofTop.reduce((sum, { count }) => sum + count, 0)], [30, top.count]);
  assertEquals(month!.currencies[0].breakdowns, []);
  assertEquals((await costsView(reader, options)).currencies, summary.currencies);
});

Deno.test("FusedReads cancels a read when the last of its callers aborts, and reads again after that", async () => {
  const signals: AbortSignal[] = [];
  const started = [0, 1].map(() => Promise.withResolvers<void>());
  const reader: Pick<Backend, "aggregate"> = {
    aggregate(_dataset, _query, _aggregation, options) {
      const signal = options!.signal!;
      signals.push(signal);
      started[signals.length - 1]?.resolve();
      if (signals.length > 2) return Promise.resolve([]);
      const { promise, reject } = Promise.withResolvers<never>();
      signal.addEventListener("abort", () => reject(signal.reason));
      return promise;
    },
  };
  const reads = FusedReads.over(reader);
  const [first, last] = [new AbortController(), new AbortController()];
  const sum: Aggregation = {
    groupBy: [{ field: "currency" }],
    measures: [{ function: "sum", field: "amount" }],
  };
  const window = acceptQuery(costEntries, { startTime: START, endTime: START + DAY });
  const ask = (signal?: AbortSignal, query = window) => reads.aggregate(costEntries, query, sum, { signal });
  const asked = [ask(first.signal), ask(last.signal), ask(last.signal, acceptQuery(costEntries, {}))];
  const refused = asked.map((one) => assertRejects(() => one, DOMException));
  await Promise.all(started.map(({ promise }) => promise));
  first.abort();
  await refused[0];
  assertEquals(signals.map(({ aborted }) => aborted), [false, false]);
  last.abort();
  await Promise.all(refused);
  assertEquals(signals.map(({ aborted }) => aborted), [true, true]);
  assertEquals(await ask(), []);
  assertEquals(signals.length, 3);
});
