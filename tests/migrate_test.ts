import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { BackendError, type DatasetMigration, migrate, openBackend, ValidationError } from "../mod.ts";
import type { Backend, RawTransfer } from "../src/backends/backend.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import type { Dataset } from "../src/records/dataset.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { deviceMetrics } from "../src/records/device_metrics.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import type { Sink, WriteResult } from "../src/pipeline/sink.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { batchSink } from "../src/transfer/batch_sink.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { settle } from "./fake_time.ts";
import {
  costEntry,
  FULL_DEVICE_METRICS,
  FULL_SERVICE_METRICS,
  FULL_SYSTEM_METRICS,
  FULL_USAGE_RECORD,
  NEW_YEAR,
  TemporaryFolder,
} from "./fixtures.ts";
import { citusVersion, databaseFor } from "./citus_cluster.ts";
import { TestDatabase, timescaleVersion } from "./postgres_server.ts";
import { runOf } from "./command.ts";
import { until } from "./until.ts";

const HOUR = 3_600_000;

/** An empty SQLite database in memory. */
function empty(onConflict: "ignore" | "replace" = "replace"): Promise<Backend> {
  return openBackend({ connectionString: "sqlite://", onConflict });
}

/** A backend that does some things otherwise. */
function overriding(backend: Backend, methods: Partial<Backend>): Backend {
  return new Proxy(backend, {
    get(target, name) {
      if (Object.hasOwn(methods, name)) return Reflect.get(methods, name);
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Metrics of some nodes with many of the same time, and true repeats. */
function metrics(count: number, overrides: object = {}): object[] {
  return Array.from({ length: count }, (_, i) => ({
    timestamp: NEW_YEAR + Math.floor(i / 7) * 1_000,
    nodeId: `n${i % 3}`,
    activeConnections: i % 5,
    ...overrides,
  }));
}

async function fill(backend: Backend, dataset: Dataset<unknown>, records: readonly object[]): Promise<void> {
  for (let i = 0; i < records.length; i += 5_000) await write(backend, dataset, records.slice(i, i + 5_000));
}

/** All records of a dataset, in a normalized order of records and map keys. */
async function contentOf(backend: Backend, dataset: Dataset<unknown>): Promise<string[]> {
  const text = (value: unknown): string =>
    JSON.stringify(
      value,
      (_, value) =>
        typeof value === "object" && !Array.isArray(value)
          ? Object.fromEntries(Object.entries(value).sort())
          : value,
    );
  return (await read(backend, dataset)).map(text).sort();
}

async function assertSame(from: Backend, to: Backend): Promise<void> {
  for (const dataset of Object.values(DATASETS)) {
    assertEquals(await contentOf(to, dataset), await contentOf(from, dataset), dataset.name);
  }
}

function test(title: string, run: (from: Backend, to: Backend) => Promise<void>): void {
  Deno.test(`migrate() ${title}`, async () => {
    const [from, to] = [await empty(), await empty()];
    try {
      await run(from, to);
    } finally {
      await from.close();
      await to.close();
    }
  });
}

const figures = ({ dataset, copied, source, target, isSame }: DatasetMigration) => [
  dataset,
  copied,
  source.rows,
  target.rows,
  isSame,
];

test("copies every field of every dataset, and nothing the second time", async (from, to) => {
  await write(from, systemMetrics, [FULL_SYSTEM_METRICS, FULL_SYSTEM_METRICS, {
    timestamp: NEW_YEAR,
    labels: {},
  }]);
  await write(from, serviceMetrics, [FULL_SERVICE_METRICS]);
  await write(from, deviceMetrics, [FULL_DEVICE_METRICS]);
  await write(from, usageRecords, [FULL_USAGE_RECORD]);
  await write(from, costEntries, [
    costEntry({ amount: "-123456789012345678.000000000000000009", currency: "EUR", tags: { b: "1", a: "" } }),
    costEntry({ entryId: "e2", amount: "0.000000000000000001", description: "" }),
  ]);
  for (const isFirst of [true, false]) {
    const found = await migrate(from, to);
    assertEquals(found.map(figures), [
      ["system_metrics", isFirst ? 3 : 0, 3, 3, true],
      ["service_metrics", isFirst ? 1 : 0, 1, 1, true],
      ["device_metrics", isFirst ? 1 : 0, 1, 1, true],
      ["usage_records", isFirst ? 1 : 0, 1, 1, true],
      ["cost_entries", isFirst ? 2 : 0, 2, 2, true],
      ["metric_points", 0, 0, 0, true],
    ]);
    assertEquals(found[4].target.totals, [
      { currency: "EUR", total: "-123456789012345678.000000000000000009", count: 1 },
      { currency: "USD", total: "0.000000000000000001", count: 1 },
    ]);
  }
  await assertSame(from, to);
});

test("finds nothing to do between empty databases", async (from, to) => {
  assertEquals((await migrate(from, to)).map(figures), [
    ["system_metrics", 0, 0, 0, true],
    ["service_metrics", 0, 0, 0, true],
    ["device_metrics", 0, 0, 0, true],
    ["usage_records", 0, 0, 0, true],
    ["cost_entries", 0, 0, 0, true],
    ["metric_points", 0, 0, 0, true],
  ]);
});

test("copies late records and repeats in a second run", async (from, to) => {
  await fill(from, systemMetrics, metrics(50_000));
  await migrate(from, to);
  await write(from, systemMetrics, [
    { timestamp: NEW_YEAR - HOUR, nodeId: "late" },
    ...metrics(10),
    { timestamp: NEW_YEAR + 1_000 * HOUR },
  ]);
  const [found] = await migrate(from, to);
  assertEquals(figures(found), ["system_metrics", 12, 50_012, 50_012, true]);
  await assertSame(from, to);
});

test("is exact when the target has any part of the source", async (from, to) => {
  const all = metrics(30_000);
  await fill(from, systemMetrics, all);
  // Deterministic holes of all sizes, within and across the spans that are compared.
  await fill(
    to,
    systemMetrics,
    all.filter((_, i) => i % 1_000 > 3 && (i < 4_000 || i > 9_123) && i < 25_001),
  );
  const [found] = await migrate(from, to);
  assert(found.isSame);
  await assertSame(from, to);
});

test("copies spans that the target lacks, and nothing of equal ones between them", async (from, to) => {
  const all = metrics(3_200) as { timestamp: number }[];
  await fill(from, systemMetrics, all);
  // Whole spans of the 64 that are compared: those at the edge of a hole would differ in part.
  const spanMs = Math.ceil((all.at(-1)!.timestamp + 1 - NEW_YEAR) / 64);
  const left = all.filter(({ timestamp }) =>
    ![10, 11, 40].includes(Math.floor((timestamp - NEW_YEAR) / spanMs))
  );
  await fill(to, systemMetrics, left);
  const [found] = await migrate(from, to);
  assertEquals(figures(found), ["system_metrics", all.length - left.length, 3_200, 3_200, true]);
  await assertSame(from, to);
});

test("ends while the source keeps growing, and says that both differ", async (from, to) => {
  await fill(from, systemMetrics, metrics(700));
  let added = 0;
  const growing = overriding(to, {
    async write(...asked) {
      const timestamp = NEW_YEAR + 1 + added; // within the range of the first records
      if (added++ < 50) await write(from, systemMetrics, [{ timestamp, nodeId: `late${added}` }]);
      return await to.write(...asked);
    },
  });
  const [found] = await migrate(from, growing, { datasets: ["system_metrics"] });
  assert(added < 50 && !found.isSame, `${added} records were added`);
  const [again] = await migrate(from, to, { datasets: ["system_metrics"] });
  assert(again.isSame);
  await assertSame(from, to);
});

test("waits for writes in flight before it compares, each time", async (from, to) => {
  await fill(from, systemMetrics, metrics(700));
  const calls: string[] = [];
  const watched = overriding(to, {
    async finishWrites(...asked) {
      calls.push("wait");
      await to.finishWrites(...asked);
    },
    write(...asked) {
      calls.push("write");
      return to.write(...asked);
    },
    aggregate(...asked) {
      if (calls.at(-1) !== "compare") calls.push("compare");
      return to.aggregate(...asked);
    },
  });
  await write(to, systemMetrics, [{ timestamp: NEW_YEAR, nodeId: "other" }]);
  await migrate(from, watched, { datasets: ["system_metrics"] });
  assertEquals(calls, ["wait", "compare", "write", "wait", "compare"]);
});

test("copies many records of one millisecond exactly", async (from, to) => {
  const all = Array.from(
    { length: 45_000 },
    (_, i) => ({ timestamp: NEW_YEAR, activeConnections: i % 40_000 }),
  );
  await fill(from, systemMetrics, all);
  await fill(to, systemMetrics, all.slice(0, 20_001));
  const [found] = await migrate(from, to);
  assertEquals(figures(found), ["system_metrics", 24_999, 45_000, 45_000, true]);
  await assertSame(from, to);
});

test("compares more records of one millisecond than fit in memory", async (from, to) => {
  const all = Array.from(
    { length: 3_000 },
    (_, i) => ({ timestamp: NEW_YEAR, activeConnections: i % 2_000 }),
  );
  await fill(from, systemMetrics, all);
  await fill(to, systemMetrics, all.slice(0, 1_500));
  let isFirst = true;
  let writes = 0;
  const large = overriding(to, {
    write(...asked) {
      writes++;
      return to.write(...asked);
    },
    async aggregate(...asked) {
      if (!isFirst) return await to.aggregate(...asked);
      isFirst = false;
      return (await to.aggregate(...asked)).map((row) => ({ ...row, values: [1_600_000] }));
    },
  });
  let reads = 0;
  const counted = overriding(from, {
    read(...asked) {
      reads++;
      return from.read(...asked);
    },
  });
  const [found] = await migrate(counted, large, { datasets: ["system_metrics"] });
  assertEquals(figures(found), ["system_metrics", 1_500, 3_000, 3_000, true]);
  assertEquals(reads, 2 + 4); // the oldest, the newest, and once for each part
  assertEquals(writes, 4); // each part has some of the records
  await assertSame(from, to);
});

test(
  "keeps records of other nodes in the target",
  async (from, to) => {
    await fill(from, systemMetrics, metrics(3_000, { nodeId: "a" }));
    const others = metrics(3_000, { nodeId: "b" });
    await fill(to, systemMetrics, others);
    const [found] = await migrate(from, to);
    assertEquals(figures(found), ["system_metrics", 3_000, 3_000, 3_000, true]);
    assertEquals((await read(to, systemMetrics, { nodeId: "a" })).length, 3_000);
    assertEquals((await read(to, systemMetrics, { nodeId: "b" })).length, others.length);
  },
);

for (const nodes of [1, 20]) {
  test(`finds missing records of ${nodes} nodes among others in the target`, async (from, to) => {
    const all = metrics(3_000).map((record, i) => ({ ...record, nodeId: `n${i % nodes}` }));
    await fill(from, systemMetrics, all);
    await fill(to, systemMetrics, metrics(6_000, { nodeId: "other" }));
    await fill(to, systemMetrics, all.filter((_, i) => i % 10 > 2));
    const [found] = await migrate(from, to);
    assertEquals(figures(found), ["system_metrics", 900, 3_000, 3_000, true]);
    const ours = (records: { nodeId: string }[]) => records.filter(({ nodeId }) => nodeId !== "other").length;
    assertEquals(ours(await read(to, systemMetrics)), 3_000);
    assertEquals((await read(to, systemMetrics)).length, 9_000);
  });
}

test(
  "treats maps as equal when only the key order differs",
  async (from, to) => {
    const labels = [["a,b", "c"], ["a", "b,c"]];
    const record = { timestamp: NEW_YEAR, nodeId: "n" };
    await write(to, systemMetrics, [{ ...record, labels: Object.fromEntries(labels.toReversed()) }]);
    await write(from, systemMetrics, [
      { ...record, labels: Object.fromEntries(labels) },
      { ...record, cpuUsage: 1 },
    ]);
    const [found] = await migrate(from, to);
    assertEquals(figures(found), ["system_metrics", 1, 2, 2, true]);
  },
);

test("copies records again that the target has deleted", async (from, to) => {
  await fill(from, systemMetrics, metrics(3_000));
  await migrate(from, to);
  await to.deleteBefore(systemMetrics, NEW_YEAR + HOUR / 20, { dryRun: false });
  await migrate(from, to);
  await assertSame(from, to);
});

test("reports records that only the target has", async (from, to) => {
  await fill(from, systemMetrics, metrics(3_000));
  await migrate(from, to);
  await write(to, systemMetrics, [{ timestamp: NEW_YEAR + 1, nodeId: "n0" }]);
  const [found] = await migrate(from, to);
  assertEquals(figures(found), ["system_metrics", 0, 3_000, 3_001, false]);
});

test("copies changed costs when the target replaces", async (from, to) => {
  await write(from, costEntries, [costEntry(), costEntry({ entryId: "e2" })]);
  const ignoring = await empty("ignore");
  await migrate(from, to);
  await migrate(from, ignoring);
  await write(from, costEntries, [costEntry({ amount: "2" })]);
  const [replaced] = await migrate(from, to, { datasets: ["cost_entries"] });
  assertEquals([replaced.copied, replaced.isSame], [1, true]);
  await assertSame(from, to);
  const [ignored] = await migrate(from, ignoring, { datasets: ["cost_entries"] });
  assertEquals([ignored.isSame, ignored.source.totals[0].total, ignored.target.totals[0].total], [
    false,
    "3",
    "2",
  ]);
  await ignoring.close();
});

test("copies only the selected records", async (from, to) => {
  await fill(from, systemMetrics, metrics(700));
  await write(from, serviceMetrics, [FULL_SERVICE_METRICS]);
  const range = { startTime: NEW_YEAR + 10_000, endTime: new Date(NEW_YEAR + 20_000) };
  const found = await migrate(from, to, { ...range, datasets: ["system_metrics"] });
  assertEquals(found.map(figures), [["system_metrics", 70, 70, 70, true]]);
  assertEquals(await read(to, systemMetrics), await read(from, systemMetrics, range));
  assertEquals(await read(to, serviceMetrics), []);
  await assertRejects(
    () => migrate(from, to, { datasets: ["costs" as "cost_entries"] }),
    ValidationError,
    "datasets",
  );
});

test("counts in a dry run and copies nothing", async (from, to) => {
  await fill(from, systemMetrics, metrics(3_000));
  await fill(to, systemMetrics, metrics(1_000));
  const [found] = await migrate(from, to, { dryRun: true });
  assertEquals(figures(found), ["system_metrics", 2_000, 3_000, 1_000, false]);
  assert(found.bytes > 2_000 * 8 && found.bytes < 2_000 * 500, `${found.bytes} bytes`);
  assertEquals((await read(to, systemMetrics)).length, 1_000);
});

test("is exact after a failure before or after any commit", async (from, to) => {
  await fill(from, systemMetrics, metrics(60_000));
  await fill(
    from,
    costEntries,
    Array.from(
      { length: 25_000 },
      (_, i) =>
        costEntry({ entryId: `e${i}`, timestamp: NEW_YEAR + Math.floor(i / 9), amount: `0.${i + 1}` }),
    ),
  );
  let failures = 0;
  for (let batches = 0;; batches = failures % 3) {
    let left = batches;
    const isCommitted = failures % 2 === 0;
    const breaking = overriding(to, {
      async write(...asked) {
        if (left-- !== 0) return await to.write(...asked);
        if (isCommitted) await to.write(asked[0]);
        throw new Error("killed");
      },
    });
    try {
      const found = await migrate(from, breaking);
      assert(found.every(({ isSame }) => isSame));
      break;
    } catch (error) {
      assertEquals((error as Error).message, "killed");
      failures++;
    }
  }
  assert(failures > 3);
  await assertSame(from, to);
});

/** Runs `database migrate` again and again, killing it after random times, until it gets through. */
async function migrateUnderFire(from: string, to: string): Promise<number> {
  const cli = new URL("../cli.ts", import.meta.url).href;
  for (let kills = 0;; kills++) {
    const process = new Deno.Command(Deno.execPath(), {
      args: [
        ...runOf(cli),
        "database",
        "migrate",
        "--from",
        from,
        "--to",
        to,
      ],
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const stderr = new Response(process.stderr).text();
    // Longer each time, so that it gets through on the slowest machine too.
    const timer = setTimeout(() => {
      try {
        process.kill("SIGKILL");
      } catch {
        // it has just ended
      }
    }, 300 + Math.random() * 250 * (kills + 1));
    const { code, signal } = await process.status;
    clearTimeout(timer);
    if (signal !== "SIGKILL") {
      assertEquals(code, 0, await stderr);
      return kills;
    }
    await stderr;
  }
}

async function fillWithAll(connectionString: string): Promise<Backend> {
  const from = await openBackend({ connectionString });
  await fill(from, systemMetrics, metrics(60_000, { labels: { team: "nlp", "": "é" } }));
  await fill(
    from,
    costEntries,
    Array.from({ length: 12_000 }, (_, i) =>
      costEntry({
        entryId: `e${i}`,
        timestamp: NEW_YEAR + i * HOUR / 10,
        amount: `0.${i + 1}`,
        tags: { b: "1", a: "2" },
      })),
  );
  return from;
}

for (
  const [fromKind, toKind] of [["SQLite", "SQLite"], ["PostgreSQL", "PostgreSQL"]]
) {
  Deno.test(`migrate() is exact after kills at random times, from ${fromKind} into ${toKind}`, async () => {
    if (Deno.build.os === "windows") return; // has no SIGKILL to send
    using folder = new TemporaryFolder();
    await using databases = new AsyncDisposableStack();
    const make = async (kind: string, file: string) =>
      kind === "SQLite" ? folder.sqlite(file) : databases.use(await TestDatabase.create()).url;
    const [from, to] = [await make(fromKind, "from.db"), await make(toKind, "to.db")];
    const source = await fillWithAll(from);
    await migrateUnderFire(from, to);
    const target = await openBackend({ connectionString: to });
    try {
      await assertSame(source, target);
    } finally {
      await source.close();
      await target.close();
    }
  });
}

const KINDS: Readonly<Record<string, boolean>> = {
  postgresql: true,
  timescaledb: (await timescaleVersion()).version !== undefined,
  citus: (await citusVersion()).version !== undefined,
};

/** Registers a test with two databases on servers, which counts the batches that are copied without decoding. */
function testRaw(
  title: string,
  run: (from: Backend, to: Backend, raw: { batches: number; before: () => unknown }) => Promise<void>,
  kinds: readonly [from: string, to: string] = ["postgresql", "postgresql"],
): void {
  const ignore = !kinds.every((kind) => KINDS[kind]);
  Deno.test(`migrate() from ${kinds[0]} into ${kinds[1]} ${title}`, { ignore }, async () => {
    await using databases = new AsyncDisposableStack();
    const open = async (kind: string) => {
      const { url } = databases.use(await databaseFor(`${kind}:`));
      return await openBackend({
        connectionString: url.replace(/^\w+/, kind),
        onConflict: "replace",
        maxConnections: 4,
      });
    };
    const [from, to] = [await open(kinds[0]), await open(kinds[1])];
    const raw = { batches: 0, before: () => undefined as unknown };
    const write = to.raw!.write;
    const counting: RawTransfer["write"] = async (...batch) => {
      await raw.before();
      const result = await write(...batch);
      raw.batches++;
      return result;
    };
    try {
      await run(from, overriding(to, { raw: { ...to.raw!, write: counting } }), raw);
      await assertSame(from, to);
    } finally {
      await from.close();
      await to.close();
    }
  });
}

async function copiesExactly(from: Backend, to: Backend, raw: { batches: number }): Promise<void> {
  const amounts = [
    "-123456789012345678.000000000000000009",
    "0.000000000000000001",
    "0",
    "99999999999999999.5",
  ];
  await fill(from, systemMetrics, metrics(6_000)); // enough for a COPY into several shards at once
  await write(from, systemMetrics, [FULL_SYSTEM_METRICS, FULL_SYSTEM_METRICS]);
  for (const timestamp of [NEW_YEAR - 40 * 365 * 24 * HOUR, NEW_YEAR, NEW_YEAR + 1_000 * 365 * 24 * HOUR]) {
    await write(from, systemMetrics, [{ timestamp, nodeId: "é\u{1F600}", labels: { "": "", "é": '"' } }]);
  }
  await write(from, serviceMetrics, [FULL_SERVICE_METRICS]);
  await write(from, deviceMetrics, [FULL_DEVICE_METRICS]);
  await write(from, usageRecords, [FULL_USAGE_RECORD]);
  await write(from, costEntries, amounts.map((amount, i) => costEntry({ entryId: `e${i}`, amount })));
  assert((await migrate(from, to)).every(({ isSame }) => isSame));
  assertEquals(raw.batches, 5);
  assert((await migrate(from, to)).every(({ copied }) => copied === 0));
  assertEquals(raw.batches, 5);
}

for (
  const kinds of [
    ["postgresql", "postgresql"],
    ["postgresql", "citus"],
    ["citus", "timescaledb"],
    ["timescaledb", "postgresql"],
  ] as const
) testRaw("copies rows without decoding them, exactly", copiesExactly, kinds);

testRaw("copies large rows in several blocks", async (from, to, raw) => {
  const text = (key: string) => "x".repeat(60_000 - key.length);
  const large = {
    ...Object.fromEntries(
      ["description", "resourceName", "skuId", "invoiceId"].map((key) => [key, text(key)]),
    ),
    tags: { k: text("k") },
    focus: { k: text("k") },
  };
  await fill(
    from,
    costEntries,
    Array.from({ length: 30 }, (_, i) => costEntry({ ...large, entryId: `e${i}` })),
  );
  assert((await migrate(from, to)).every(({ isSame }) => isSame));
  assert(raw.batches > 1, `${raw.batches}`);
});

testRaw("goes on with records when the server refuses rows", async (from, to, raw) => {
  const costs = Array.from({ length: 100 }, (_, i) => costEntry({ entryId: `e${i}`, amount: "1.5" }));
  await fill(from, costEntries, costs);
  raw.before = () => write(to, costEntries, [costs[7]]);
  assertEquals((await migrate(from, to)).map(figures)[4], ["cost_entries", 99, 100, 100, true]);
  assertEquals(raw.batches, 0);
});

testRaw("stores rows once when a commit and its answer are lost", async (from, to, raw) => {
  await fill(from, systemMetrics, metrics(1_000));
  const losing = overriding(to, {
    raw: {
      ...to.raw!,
      async write(...batch) {
        const result = await to.raw!.write(...batch);
        if (raw.batches > 1) return result;
        throw new BackendError("lost", { code: "CONNECTION_LOST", operation: "write", kind: "transient" });
      },
    },
  });
  assertEquals((await migrate(from, losing)).map(figures)[0], ["system_metrics", 1_000, 1_000, 1_000, true]);
  assertEquals(raw.batches, 2); // the second of them a replay
});

for (const dataset of [systemMetrics, costEntries] as Dataset<unknown>[]) {
  Deno.test(`migrate() copies no row of ${dataset.name} that a trigger skips as copied`, async () => {
    await using source = await TestDatabase.create();
    await using target = await TestDatabase.create();
    const from = await openBackend({ connectionString: source.url });
    const to = await openBackend({ connectionString: target.url });
    try {
      await write(from, dataset, dataset === systemMetrics ? metrics(10) : [costEntry()]);
      await target.sql("CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'");
      await target.sql(
        `CREATE TRIGGER skip BEFORE INSERT ON ${dataset.name} FOR EACH ROW EXECUTE FUNCTION skip()`,
      );
      await assertRejects(() => migrate(from, to), BackendError, `a trigger of ${dataset.name} skipped`);
      assertEquals((await read(to, dataset)).length, 0);
    } finally {
      await from.close();
      await to.close();
    }
  });
}

Deno.test("migrate() copies PostgreSQL to SQLite while the source grows", async () => {
  await using database = await TestDatabase.create();
  const [from, to] = [await openBackend({ connectionString: database.url }), await empty()];
  try {
    await fill(from, systemMetrics, metrics(20_000));
    const late: Promise<unknown>[] = [];
    const [found] = await migrate(from, to, {
      datasets: ["system_metrics"],
      onProgress() {
        const record = { timestamp: NEW_YEAR + 5_000, nodeId: "late" };
        if (late.length < 2) late.push(write(from, systemMetrics, [record]));
      },
    });
    assert(found.isSame);
    await Promise.all(late);
    await migrate(from, to);
    await assertSame(from, to);
  } finally {
    await from.close();
    await to.close();
  }
});

Deno.test("migrate() waits for a commit that a killed run left to the server", async () => {
  await using database = await TestDatabase.create();
  const [from, to] = [await empty(), await openBackend({ connectionString: database.url })];
  try {
    await fill(from, systemMetrics, metrics(700));
    await write(to, systemMetrics, [{ timestamp: NEW_YEAR, nodeId: "other" }]); // makes the partition
    const { timestamp, nodeId, clusterId, activeConnections } = (await read(from, systemMetrics))[0];
    const values = `to_timestamp(${timestamp / 1_000}), '${clusterId}', '${nodeId}', ${activeConnections}`;
    const left = database.sql(
      `BEGIN; INSERT INTO system_metrics (timestamp, cluster_id, node_id, active_connections) VALUES (${values}); ` +
        "SELECT pg_sleep(0.8); COMMIT",
    );
    const isUnderWay =
      "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    let isOver = false;
    void left.then(() => isOver = true);
    await until(
      async () => isOver || (await database.sql(isUnderWay)).length > 0,
      "the commit to be under way",
    );
    const [found] = await migrate(from, to, { datasets: ["system_metrics"] });
    await left;
    assertEquals(figures(found), ["system_metrics", 699, 700, 700, true]);
  } finally {
    await from.close();
    await to.close();
  }
});

test(
  "copies documents without overwriting, and only when all records are selected",
  async (from, to) => {
    const budget = (id: string, body: unknown) => ({ kind: "budget", id, body });
    for (const id of ["a", "b"]) await from.documents.write(budget(id, "from"));
    await to.documents.write(budget("a", "to"));
    await migrate(from, to, { datasets: ["cost_entries"] });
    await migrate(from, to, { dryRun: true });
    assertEquals(await to.documents.read(), [budget("a", "to")]);
    await migrate(from, to);
    assertEquals(await to.documents.read(), [budget("a", "to"), budget("b", "from")]);
  },
);

Deno.test("batchSink() reports a failure when nothing is in flight", async () => {
  for (const isClosing of [true, false]) {
    const { promise: slow, resolve: end } = Promise.withResolvers<WriteResult>();
    let failures = 0;
    const sink: Sink = {
      write({ records: [first] }, onSent) {
        onSent?.();
        if (first !== 0) return slow;
        failures++;
        return Promise.reject(new Error("refused"));
      },
    };
    let written = 0;
    const writer = batchSink<unknown>({
      dataset: systemMetrics,
      sink,
      idOf: () => crypto.randomUUID(),
      onWritten: () => written++,
      atOnce: 2,
    }).getWriter();
    writer.closed.catch(() => {});
    for (const i of [0, 1]) void writer.write([i]).catch(() => {});
    let isTold = false;
    const told = (isClosing ? writer.close() : writer.write([2])).catch(() => isTold = true);
    await settle();
    assertEquals([failures > 0, isTold], [true, false]);
    end({ committed: 1, duplicates: 0, restated: 0 });
    await told;
    assertEquals([isTold, written], [true, 1]);
  }
});

Deno.test("batchSink() bounds concurrent writes and waits for the last", async () => {
  for (const atOnce of [1, 2]) {
    const ends: (() => void)[] = [];
    let written = 0;
    const sink: Sink = {
      write(batch, onSent) {
        const { promise, resolve } = Promise.withResolvers<WriteResult>();
        ends.push(() => resolve({ committed: batch.records.length, duplicates: 0, restated: 0 }));
        onSent?.();
        return promise;
      },
    };
    const writer = batchSink<unknown>({
      dataset: systemMetrics,
      sink,
      idOf: () => crypto.randomUUID(),
      onWritten: ({ committed }) => written += committed,
      atOnce,
    }).getWriter();
    for (let i = 0; i < 3; i++) void writer.write([i]);
    const closed = writer.close();
    await settle();
    assertEquals(ends.length, atOnce);
    for (let i = 0; i < 3; i++) {
      ends[i]();
      await settle();
      assertEquals(ends.length, Math.min(3, atOnce + i + 1));
    }
    await closed;
    assertEquals(written, 3);
  }
});
