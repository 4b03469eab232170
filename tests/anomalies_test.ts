import { MemoryBackend } from "../src/backends/memory.ts";
import { ValidationError } from "../src/errors.ts";
import { acknowledgeAnomaly, listAnomalies } from "../src/monitoring/anomalies/acknowledgements.ts";
import { type AnomalyQuery, findAnomalies } from "../src/monitoring/anomalies/anomalies.ts";
import { costEntries, type CostEntry } from "../src/records/cost_entry.ts";
import {
  generate,
  type LabeledDay,
  random,
  readCase,
  type Score,
  scoreOf,
  SHAPES,
  total,
} from "./anomaly_series.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry } from "./fixtures.ts";

const DAY = 86_400_000;
/** A Wednesday; all days are long over. */
const FIRST = Date.UTC(2025, 0, 1) / DAY;

/** A cost of a series on the nth day. */
type Cost = [day: number, amount: number, overrides?: Partial<CostEntry>];

/** A backend with costs. */
async function filled(costs: readonly Cost[]): Promise<MemoryBackend> {
  const backend = new MemoryBackend({ maxMemoryEntries: 1e6, onConflict: "ignore" });
  await write(
    backend,
    costEntries,
    costs.map(([day, amount, overrides], i) =>
      costEntry({ entryId: `e${i}`, timestamp: (FIRST + day) * DAY, amount: amount.toFixed(6), ...overrides })
    ),
  );
  return backend;
}

/** Anomalies of costs from a day on, in short: the day, the kind, and the group. */
async function find(
  costs: readonly Cost[],
  { from = 70, to = 150, ...query }: AnomalyQuery & { from?: number; to?: number } = {},
): Promise<string[]> {
  const backend = await filled(costs);
  const range = { startTime: (FIRST + from) * DAY, endTime: (FIRST + to) * DAY };
  return (await findAnomalies(backend, { ...range, ...query })).map(
    ({ startTime, kind, group, currency, basis }) => {
      const names = Object.values(group).filter((name) => name !== null);
      return [startTime / DAY - FIRST, kind, ...names, ...(currency === "USD" ? [] : [currency]), basis]
        .filter((part) => part !== undefined).join(" ");
    },
  );
}

/** Costs of each day of a series, with noise of a tenth. */
function daily(length: number, amountOf: (day: number) => number, overrides?: Partial<CostEntry>): Cost[] {
  const next = random(length);
  return Array.from({ length }, (_, day): Cost => [day, amountOf(day) * (0.95 + next() / 10), overrides])
    .filter(([, amount]) => amount !== 0);
}

const dateOf = (day: number) => new Date((FIRST + day) * DAY).getUTCDate();

async function score(days: readonly LabeledDay[], warmUp: number): Promise<Score[]> {
  const backend = new MemoryBackend({ maxMemoryEntries: 1e6, onConflict: "ignore" });
  const fed = days.filter(({ label, amount }) => label !== "stopped" && amount !== 0);
  await write(
    backend,
    costEntries,
    fed.map(({ day, series, amount }) =>
      costEntry({ entryId: series, timestamp: day * DAY, category: series, amount: String(amount) })
    ),
  );
  const all = days.map(({ day }) => day);
  const [first, last] = [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))];
  const range = { startTime: (first + warmUp) * DAY, endTime: (last + 1) * DAY };
  return scoreOf(days, await findAnomalies(backend, range), first + warmUp);
}

/** Fails with the scores of each shape. */
function assertScore(scores: readonly Score[], least: number): void {
  const { precision, recall } = total(scores);
  const report = scores.map((each) => JSON.stringify(each)).join("\n");
  assert(precision > least && recall > least, `precision ${precision}, recall ${recall}\n${report}`);
}

Deno.test("findAnomalies() finds labels of the case with precision and recall above 0.95", async () => {
  const days = await readCase();
  const scores = await score(days, 70);
  assertScore(scores, 0.95);
  for (const each of scores) assertScore([each], 0.85);
  // Nothing depends on the names of the series, nor on their scale.
  const renamed = days.map((day) => ({ ...day, series: `x${day.series}`, amount: day.amount * 0.0137 }));
  assertEquals(total(await score(renamed, 70)), total(scores));
});

Deno.test("findAnomalies() finds anomalies in series of other shapes, noise and scales", async () => {
  const scores: Score[] = [];
  for (const seed of [11, 13, 21, 24]) {
    const firstDay = FIRST - seed * 41;
    const found = await score(generate(seed, { firstDay, length: 150, warmUp: 70, perShape: 12 }), 70);
    assertScore(found, 0.9);
    scores.push(...found);
  }
  assertScore(scores, 0.95);
  for (const shape of Object.keys(SHAPES)) assertScore(scores.filter((each) => each.shape === shape), 0.75);
});

Deno.test("findAnomalies() finds a day of many short-lived instances in the costs of their service", async () => {
  const costs = Array.from({ length: 100 }, (_, day) => day).flatMap((day): Cost[] =>
    Array.from({ length: day === 80 ? 40 : 10 }, (_, i): Cost => [
      day,
      2 + i % 3,
      { resourceId: `i-${day}-${i}`, serviceName: "EC2" },
    ])
  );
  assertEquals(await find(costs, { to: 100 }), ["80 high gpu EC2"]);
});

Deno.test("findAnomalies() reports a change of level on its first day only", async () => {
  assertEquals(await find(daily(150, (day) => day < 90 ? 10 : 35)), ["90 high gpu"]);
  assertEquals(await find(daily(150, (day) => day < 90 ? 35 : 10)), ["90 low gpu"]);
});

Deno.test("findAnomalies() expects weekdays, days of the month and growth", async () => {
  const weekday = (day: number) => (FIRST + day) % 7;
  assertEquals(await find(daily(150, (day) => weekday(day) < 2 ? 3 : 10)), []);
  assertEquals(await find(daily(150, (day) => weekday(day) < 2 ? 0 : 10)), []);
  assertEquals(await find(daily(150, (day) => dateOf(day) === 1 ? 90 : 10)), []);
  assertEquals(await find(daily(150, (day) => dateOf(day + 1) === 1 ? 90 : 10)), []);
  assertEquals(await find(daily(150, (day) => 1.01 ** day)), []);
  // More than the fee that is usual on the 1st.
  assertEquals(await find(daily(150, (day) => day === 120 ? 400 : dateOf(day) === 1 ? 90 : 10)), [
    "120 high gpu",
  ]);
});

Deno.test("findAnomalies() takes absent days for zero and tells a stop from a series with gaps", async () => {
  assertEquals(await find(daily(150, (day) => day >= 90 && day < 93 ? 0 : 10)), ["90 stopped gpu"]);
  assertEquals(await find(daily(150, (day) => day * 7 % 10 < 3 ? 0 : 10)), []);
  assertEquals(await find(daily(150, (day) => day % 9 === 0 ? 10 : 0)), []);
  // One that has no costs on weekends stops on a Monday.
  const isWeekend = (day: number) => (FIRST + day + 4) % 7 % 6 === 0;
  assertEquals(await find(daily(150, (day) => isWeekend(day) || (day >= 96 && day < 103) ? 0 : 10)), [
    "96 stopped gpu",
  ]);
});

Deno.test("findAnomalies() never calls a usual cost high after days without costs on its weekday", async () => {
  const other = daily(150, () => 20, { category: "steady" });
  const constant = (amountOf: (day: number) => number): Cost[] => [
    ...other,
    ...Array.from({ length: 150 }, (_, day): Cost => [day, amountOf(day)]).filter(([, amount]) =>
      amount !== 0
    ),
  ];
  const isThursday = (day: number) => (FIRST + day) % 7 === 0;
  const gap = (day: number) => isThursday(day) && day >= 30 && day < 58 ? 0 : 25;
  assertEquals(await find(constant(gap), { from: 59 }), []);
  assertEquals(await find(constant(gap), { from: 20 }), ["36 stopped gpu", "43 stopped gpu"]);
  assertEquals(await find(constant((day) => day >= 50 && day < 64 ? 0 : 25), { from: 51 }), []);
  assertEquals(await find(constant((day) => day % 2 * 25), { from: 30 }), []);
  assertEquals(await find(constant((day) => day === 100 ? 75 : day % 2 * 25), { from: 30 }), [
    "100 high gpu",
  ]);
});

Deno.test("findAnomalies() calls no series new that had costs, a credit, or costs and credits of zero", async () => {
  const old = ["a", "b", "c"].flatMap((category) => daily(150, () => 20, { category }));
  const series = (amountOf: (day: number) => number) => [...old, ...daily(150, amountOf)];
  assertEquals(await find(series((day) => day === 100 ? -30 : day * 7 % 10 < 3 ? 0 : 15)), ["100 low gpu"]);
  assertEquals(await find(series((day) => dateOf(day) === 3 ? -40 : 10)), []);
  assertEquals(await find(series((day) => day < 90 ? 0 : -30)), []);
  const monthly = (day: number) => day >= 20 && dateOf(day) === 1 ? 500 : 0;
  assertEquals(await find(series(monthly), { from: 20 }), ["31 new gpu"]);
  assertEquals(await find(series(monthly), { from: 40 }), []);
  assertEquals(await find(series((day) => day >= 20 && day % 7 === 0 ? 50 : 0), { from: 15 }), [
    "21 new gpu",
  ]);
  // Credits pay for all costs until the 90th day.
  const paid = daily(90, () => 0).concat(...Array.from({ length: 150 }, (_, day): Cost[] => [
    [day, 30],
    ...(day < 90 ? [[day, -30] as Cost] : []),
  ]));
  assertEquals(await find([...old, ...paid], { from: 20 }), ["90 high gpu"]);
});

Deno.test("findAnomalies() reports once that all costs stop, and no series after it", async () => {
  const feed = (to: number, gap: number): Cost[] =>
    ["gpu", "cpu", "disk"].flatMap((category) =>
      daily(to, (day) => day >= 90 && day < 90 + gap ? 0 : 10, { category })
    );
  assertEquals(await find(feed(120, 4)), ["90 stopped", "120 stopped"]); // the second one: it ended for good
  assertEquals(await find(feed(120, 0), { to: 120 }), []);
  const others = daily(150, () => 5, { category: "eu", currency: "EUR" });
  assertEquals(await find([...feed(100, 0), ...others]), ["100 stopped"]);
});

Deno.test("findAnomalies() waits two days for late costs before a feed has stopped", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 1e5, onConflict: "ignore" });
  const today = Math.floor(Date.now() / DAY);
  const feed = (category: string, last: number) =>
    Array.from(
      { length: 60 },
      (_, i) => costEntry({ entryId: `${category}${i}`, timestamp: (today - last - i) * DAY, category }),
    );
  await write(backend, costEntries, [...feed("gpu", 2), ...feed("cpu", 2)]);
  assertEquals(await findAnomalies(backend), []);
  const late = new MemoryBackend({ maxMemoryEntries: 1e5, onConflict: "ignore" });
  await write(late, costEntries, [...feed("gpu", 4), ...feed("cpu", 4)]);
  const [found, ...others] = await findAnomalies(late);
  assertEquals([found.kind, found.group, today - found.startTime / DAY, others], ["stopped", {}, 3, []]);
});

Deno.test("findAnomalies() reports a series that begins if it is large", async () => {
  const old = ["a", "b", "c"].flatMap((category) => daily(150, () => 100, { category }));
  const begins = (amount: number) => daily(150, (day) => day < 90 ? 0 : amount, { category: "new" });
  assertEquals(await find([...old, ...begins(80)]), ["90 new new"]);
  assertEquals(await find([...old, ...begins(20)]), []);
  assertEquals(await find(begins(80)), []); // the first costs of all
});

Deno.test("findAnomalies() never adds estimated to billed costs, nor two currencies", async () => {
  const costs = [
    ...daily(120, () => 10),
    ...daily(120, (day) => day === 95 ? 60 : 10, { basis: "estimated" }),
    ...daily(120, (day) => day === 97 ? 60 : 10, { currency: "EUR" }),
  ];
  assertEquals(await find(costs, { to: 120 }), ["95 high gpu estimated", "97 high gpu EUR"]);
});

Deno.test("findAnomalies() groups by tag or account and reads days in a time zone", async () => {
  const costs = ["nlp", "cv"].flatMap((team) =>
    daily(120, (day) => team === "cv" && day === 95 ? 60 : 10, { tags: { team }, subAccountId: `a-${team}` })
  );
  assertEquals(await find(costs, { to: 120, groupBy: ["tags.team"] }), ["95 high cv"]);
  assertEquals(await find(costs, { to: 120, groupBy: ["subAccountId"] }), ["95 high a-cv"]);
  assertEquals(
    await find(costs, { to: 120, groupBy: ["tags.team"], where: [{ field: "tags.team", ne: "cv" }] }),
    [],
  );
  const late = costs.map(([day, amount, more]): Cost => [
    day,
    amount,
    { ...more, timestamp: (FIRST + day) * DAY + 20 * 3_600_000 },
  ]);
  const backend = new MemoryBackend({ maxMemoryEntries: 1e5, onConflict: "ignore" });
  await write(
    backend,
    costEntries,
    late.map(([, amount, more], i) => costEntry({ entryId: `e${i}`, amount: String(amount), ...more })),
  );
  const range = { startTime: (FIRST + 70) * DAY, endTime: (FIRST + 119) * DAY };
  const [found] = await findAnomalies(backend, { ...range, timeZone: "Asia/Tokyo" });
  assertEquals(new Date(found.startTime).toISOString(), "2025-04-06T15:00:00.000Z"); // the 96th day there
});

Deno.test("listAnomalies() has one id in any order of fields, and keeps acknowledgements of former ids", async () => {
  const costs = daily(120, (day) => day === 95 ? 60 : 10, { tags: { team: "cv" }, subAccountId: "a" });
  const backend = await filled(costs);
  const list = async (groupBy: string[]) => {
    const range = { startTime: (FIRST + 70) * DAY, endTime: (FIRST + 119) * DAY };
    const [{ anomalyId, acknowledgedBy }] = await listAnomalies(backend, { ...range, groupBy });
    return { anomalyId, acknowledgedBy };
  };
  const [sorted, turned] = [["subAccountId", "tags.team"], ["tags.team", "subAccountId"]];
  const { anomalyId } = await list(turned);
  assertEquals(await list(sorted), { anomalyId, acknowledgedBy: undefined });
  const name = JSON.stringify(["USD", undefined, { "tags.team": "cv", subAccountId: "a" }]);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name)));
  await acknowledgeAnomaly(backend.documents, `${anomalyId.split("/")[0]}/${hash.toHex()}`, { by: "kim" });
  assertEquals(await list(turned), { anomalyId, acknowledgedBy: "kim" });
  await acknowledgeAnomaly(backend.documents, anomalyId, { by: "lee" });
  for (const fields of [sorted, turned]) {
    assertEquals(await list(fields), { anomalyId, acknowledgedBy: "lee" });
  }
});

Deno.test("findAnomalies() refuses more than 10,000 series", async () => {
  const costs = Array.from({ length: 10_001 }, (_, i): Cost => [80, 1, { resourceId: `r${i}` }]);
  await assertRejects(() => find(costs, { groupBy: ["resourceId"] }), ValidationError, "up to 10000 series");
});
