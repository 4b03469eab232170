import { BackendError, CostObservatory, ObservabilityHub, openBackend, ValidationError } from "../mod.ts";
import type { SystemMetricsInput } from "../mod.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { assert, assertEquals, assertRejects, assertThrows } from "./assert.ts";
import { FakeTime, settle } from "./fake_time.ts";
import {
  costEntry,
  FULL_SERVICE_METRICS,
  FULL_SYSTEM_METRICS,
  NEW_YEAR,
  TemporaryFolder,
} from "./fixtures.ts";

const DAY = 24 * 3_600_000;
const at = (i: number): SystemMetricsInput => ({ timestamp: NEW_YEAR + i, activeConnections: i });

Deno.test("ObservabilityHub() keeps records in memory when it has no configuration", async () => {
  await using hub = new ObservabilityHub();
  await hub.collectSystemMetrics(FULL_SYSTEM_METRICS);
  await hub.collectServiceMetrics(FULL_SERVICE_METRICS);
  await hub.flush();
  assertEquals(await hub.queryHistoricalMetrics(), [FULL_SYSTEM_METRICS]);
  assertEquals(await hub.queryHistoricalServiceMetrics(), [FULL_SERVICE_METRICS]);
  assertEquals(hub.stats().backend, "memory");
});

Deno.test("ObservabilityHub[Symbol.asyncDispose]() throws when records are lost, and else nothing", async () => {
  using time = new FakeTime();
  const backend = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  await (await ObservabilityHub.open({ backend }))[Symbol.asyncDispose]();
  backend.write = () => {
    const options = { code: "CONNECTION_LOST", operation: "write", kind: "transient" } as const;
    return Promise.reject(new BackendError("away", options));
  };
  const hub = await ObservabilityHub.open({ backend });
  for (const i of [1, 2]) await hub.collectSystemMetrics(at(i));
  const disposed = assertRejects(
    () => hub[Symbol.asyncDispose](),
    BackendError,
    "Closed with 2 records lost",
  );
  const { code } = await time.passUntil(disposed, 1_000) as BackendError;
  assertEquals(code, "RECORDS_LOST");
});

Deno.test("cleanupOldData() deletes from all other datasets and reports the one that fails", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  const hub = await ObservabilityHub.open({ backend });
  await hub.collectSystemMetrics(FULL_SYSTEM_METRICS);
  await hub.collectServiceMetrics(FULL_SERVICE_METRICS);
  const deleteBefore = backend.deleteBefore.bind(backend);
  backend.deleteBefore = (dataset, before, options) => {
    if (dataset.name !== "system_metrics") return deleteBefore(dataset, before, options);
    const failure = { code: "LOCKED", operation: "delete", kind: "transient" } as const;
    return Promise.reject(new BackendError("locked", failure));
  };
  await assertRejects(() => hub.cleanupOldData({ retentionDays: 1 }), BackendError, "locked");
  assertEquals((await hub.queryHistoricalMetrics()).length, 1);
  assertEquals(await hub.queryHistoricalServiceMetrics(), []);
  await hub.close();
});

Deno.test("cleanupOldData() keeps resolved alerts as long as the dataset that is kept longest", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  const hub = await ObservabilityHub.open({ backend });
  for (const days of [10, 40]) {
    const body = { alertId: `${days}`, resolvedAt: Date.now() - days * DAY };
    await backend.documents.write({ kind: "alert", id: `${days}`, body });
  }
  const retentionDays = { system_metrics: 1, service_metrics: 30, device_metrics: 5, metric_points: 5 };
  await hub.cleanupOldData({ retentionDays, dryRun: true });
  assertEquals((await backend.documents.read("alert")).length, 2);
  await hub.cleanupOldData({ retentionDays });
  assertEquals((await backend.documents.read("alert")).map(({ id }) => id), ["10"]);
  await hub.close();
});

Deno.test("ObservabilityHub reads records of an earlier instance from the file", async () => {
  using folder = new TemporaryFolder();
  const config = { connectionString: folder.sqlite() };
  const first = await ObservabilityHub.open(config);
  await first.collectSystemMetrics(FULL_SYSTEM_METRICS);
  assertEquals(await first.close(), { committed: 1, spooled: 0, deadLettered: 0, lost: 0 });
  await using second = await ObservabilityHub.open(config);
  assertEquals(await second.queryHistoricalMetrics({ clusterId: "prod", nodeId: "gpu-01" }), [
    FULL_SYSTEM_METRICS,
  ]);
});

Deno.test("ObservabilityHub rejects and counts a bad record and stores the others", async () => {
  await using hub = new ObservabilityHub();
  await hub.collectSystemMetrics(at(1));
  await assertRejects(() => hub.collectSystemMetrics({ timestamp: NaN }), ValidationError, "timestamp");
  await hub.collectSystemMetrics(at(2));
  await hub.flush();
  const { accepted, committed, refused } = hub.stats().datasets.system_metrics!;
  assertEquals([accepted, committed, refused], [2, 2, 1]);
});

Deno.test("ObservabilityHub.systemMetricsSink() has committed when its pipe ends", async () => {
  using folder = new TemporaryFolder();
  await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  const records = Array.from({ length: 12_345 }, (_, i) => at(i));
  await ReadableStream.from(records).pipeTo(hub.systemMetricsSink());
  assertEquals(hub.stats().datasets.system_metrics!.committed, 12_345);
  let next = 0;
  for await (const { activeConnections } of hub.streamHistoricalMetrics()) {
    assertEquals(activeConnections, next++);
  }
  assertEquals(next, 12_345);
});

Deno.test("ObservabilityHub.systemMetricsSink() stores valid records and rejects at the end", async () => {
  await using hub = new ObservabilityHub();
  const records = [at(1), { timestamp: 5 }, at(2), { timestamp: NEW_YEAR, cpuUsage: NaN }, at(3)];
  const error = await assertRejects(
    () => ReadableStream.from(records).pipeTo(hub.systemMetricsSink()),
    ValidationError,
  ) as ValidationError;
  assertEquals(error.value, 5);
  assertEquals((await hub.queryHistoricalMetrics()).length, 3);
});

Deno.test("ObservabilityHub.systemMetricsSink() passes bad records to onInvalid", async () => {
  await using hub = new ObservabilityHub();
  const refused: unknown[] = [];
  const bad = { timestamp: 5 };
  await ReadableStream.from([at(1), bad, at(2)]).pipeTo(
    hub.systemMetricsSink({ onInvalid: (_error, record) => refused.push(record) }),
  );
  assertEquals([refused, (await hub.queryHistoricalMetrics()).length], [[bad], 2]);
});

Deno.test("ObservabilityHub.recentSystemMetrics() returns records before a flush", async () => {
  await using hub = await ObservabilityHub.open({ connectionString: "sqlite://", maxMemoryEntries: 2 });
  for (const i of [1, 2, 3]) await hub.collectSystemMetrics(at(i));
  await hub.collectServiceMetrics(FULL_SERVICE_METRICS);
  assertEquals(hub.recentSystemMetrics().map(({ activeConnections }) => activeConnections), [2, 3]);
  assertEquals(hub.recentServiceMetrics(), [FULL_SERVICE_METRICS]);
});

Deno.test("ObservabilityHub.recentSystemMetrics() returns copies", async () => {
  await using hub = await ObservabilityHub.open({ connectionString: "sqlite://" });
  await hub.collectSystemMetrics(FULL_SYSTEM_METRICS);
  const [record] = hub.recentSystemMetrics();
  record.cpuUsage = 999;
  record.labels!.team = "other";
  await hub.flush();
  assertEquals(await hub.queryHistoricalMetrics(), [FULL_SYSTEM_METRICS]);
});

Deno.test("ObservabilityHub.close() refuses an invalid deadline and stays open", async () => {
  await using hub = new ObservabilityHub();
  await assertRejects(() => hub.close({ deadlineMs: NaN }), ValidationError, "deadlineMs");
  await hub.collectSystemMetrics(at(1));
});

Deno.test("ObservabilityHub refuses an invalid query", async () => {
  await using hub = new ObservabilityHub();
  await assertRejects(() => hub.queryHistoricalMetrics({ limit: -1 }), ValidationError, "limit");
  assertEquals(await hub.queryHistoricalMetrics({ startTime: 0 }), []);
  assertThrows(() => hub.streamHistoricalMetrics({ startTime: 5 }), ValidationError, "startTime");
});

Deno.test("ObservabilityHub.streamHistoricalMetrics() can be canceled early", async () => {
  using folder = new TemporaryFolder();
  await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  for (let i = 0; i < 3_000; i++) await hub.collectSystemMetrics(at(i));
  await hub.flush();
  let records = 0;
  for await (const _ of hub.streamHistoricalMetrics()) if (++records === 10) break;
  await hub.streamHistoricalMetrics().cancel();
  const reader = hub.streamHistoricalMetrics().getReader();
  assertEquals((await reader.read()).value?.activeConnections, 0);
  await reader.cancel();
  assertEquals(await reader.read(), { done: true, value: undefined });
  await hub.collectSystemMetrics(at(3_000));
  await hub.flush();
  assertEquals([records, (await hub.queryHistoricalMetrics()).length], [10, 3_001]);
  // A read that went on would keep the write-ahead log from being emptied.
  assertEquals((await hub.close()).lost, 0);
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["test.db"]);
});

Deno.test("ObservabilityHub.cleanupOldData() deletes records past the retention", async () => {
  await using hub = await ObservabilityHub.open({ connectionString: "sqlite://", retentionDays: 30 });
  for (const days of [1, 29, 31, 100]) await hub.collectSystemMetrics({ timestamp: Date.now() - days * DAY });
  await hub.flush();
  assertEquals(await hub.cleanupOldData({ dryRun: true }), {
    system_metrics: 2,
    service_metrics: 0,
    device_metrics: 0,
    metric_points: 0,
  });
  assertEquals(await hub.cleanupOldData({ retentionDays: 50 }), {
    system_metrics: 1,
    service_metrics: 0,
    device_metrics: 0,
    metric_points: 0,
  });
  assertEquals(await hub.cleanupOldData(), {
    system_metrics: 1,
    service_metrics: 0,
    device_metrics: 0,
    metric_points: 0,
  });
  assertEquals((await hub.queryHistoricalMetrics()).length, 2);
  await assertRejects(() => hub.cleanupOldData({ retentionDays: -1 }), ValidationError, "retentionDays");
});

Deno.test("ObservabilityHub.cleanupOldData() keeps each dataset for its own retention", async () => {
  const retentionDays = { system_metrics: 30, cost_entries: 1 };
  await using hub = await ObservabilityHub.open({ connectionString: "sqlite://", retentionDays });
  for (const days of [20, 40, 100]) {
    const timestamp = Date.now() - days * DAY;
    await hub.systemMetrics.add({ timestamp });
    await hub.serviceMetrics.add({ timestamp, serviceName: "api" });
  }
  assertEquals(await hub.cleanupOldData({ dryRun: true }), {
    system_metrics: 2,
    service_metrics: 1,
    device_metrics: 0,
    metric_points: 0,
  });
  const byCall = { service_metrics: 30, system_metrics: Infinity };
  assertEquals(await hub.cleanupOldData({ retentionDays: byCall }), {
    system_metrics: 0,
    service_metrics: 2,
    device_metrics: 0,
    metric_points: 0,
  });
  const unknown = { metrics: 30 } as object;
  await assertRejects(() => hub.cleanupOldData({ retentionDays: unknown }), ValidationError, "retentionDays");
});

Deno.test("ObservabilityHub throws when its disposal loses records, and reports nothing later", async () => {
  using time = new FakeTime();
  const backend = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  const gate = Promise.withResolvers<never>();
  let isWriting = false;
  backend.write = () => {
    isWriting = true;
    return gate.promise;
  };
  const told: string[] = [];
  const hub = await ObservabilityHub.open({ backend, onEvent: ({ type }) => told.push(type) });
  await hub.collectSystemMetrics(at(1));
  while (!isWriting) await time.pass(1);
  const error = await time.passUntil(
    assertRejects(() => hub[Symbol.asyncDispose](), BackendError, "1 record lost"),
  );
  assertEquals((error as BackendError).code, "RECORDS_LOST");
  gate.reject(new BackendError("away", { code: "BACKEND_FAILED", operation: "write", kind: "transient" }));
  await settle();
  assertEquals(told, []);
});

Deno.test("ObservabilityHub refuses records after close() and can close again", async () => {
  const hub = new ObservabilityHub();
  await hub.collectSystemMetrics(at(1));
  assertEquals(await hub.close(), await hub.close());
  await assertRejects(() => hub.collectSystemMetrics(at(1)), BackendError, "closed");
});

Deno.test("ObservabilityHub and CostObservatory leave a shared backend open", async () => {
  const backend = await openBackend({ connectionString: "sqlite://" });
  const hub = await ObservabilityHub.open({ backend });
  const costs = await CostObservatory.open({ backend });
  await hub.collectSystemMetrics(at(1));
  await costs.addCostEntry(costEntry());
  await hub.close();
  await costs.close();
  const { datasets } = await backend.stats();
  assertEquals([datasets.system_metrics.rows, datasets.cost_entries.rows], [1, 1]);
  await backend.close();
});

Deno.test("ObservabilityHub and CostObservatory share one file", async () => {
  using folder = new TemporaryFolder();
  const config = { connectionString: folder.sqlite() };
  await using hub = await ObservabilityHub.open(config);
  await using costs = await CostObservatory.open(config);
  for (let i = 0; i < 500; i++) {
    await hub.collectSystemMetrics(at(i));
    await costs.addCostEntry(costEntry({ entryId: `e${i}` }));
  }
  await Promise.all([hub.flush(), costs.flush()]);
  assertEquals((await hub.queryHistoricalMetrics()).length, 500);
  assertEquals((await costs.aggregateCosts())[0].total, "500");
});

Deno.test("ObservabilityHub loses nothing when its table cannot be written for a while", async () => {
  using folder = new TemporaryFolder();
  await using hub = await ObservabilityHub.open({
    connectionString: folder.sqlite(),
    sqliteDriver: "node:sqlite",
  });
  const { DatabaseSync } = await import("node:sqlite");
  const other = new DatabaseSync(folder.file("test.db"));
  other.exec("ALTER TABLE system_metrics RENAME TO hidden");
  await hub.collectSystemMetrics(at(1));
  await assertRejects(() => hub.flush(), BackendError, "no such table");
  const { buffered, inFlight, lastError } = hub.stats().datasets.system_metrics!;
  assertEquals(buffered + inFlight, 1);
  assert(lastError?.includes("no such table"));
  other.exec("ALTER TABLE hidden RENAME TO system_metrics");
  other.close();
  assertEquals((await hub.close()).committed, 1);
});

Deno.test("ObservabilityHub goes on when its listener throws or rejects", async () => {
  const told: string[] = [];
  const listeners: ((type: string) => unknown)[] = [
    () => {
      throw new Error("thrown by the listener");
    },
    () => Promise.reject(new Error("rejected by the listener")),
    async () => {
      await Promise.resolve();
      throw new Error("rejected later by the listener");
    },
  ];
  for (const listen of listeners) {
    await using hub = await ObservabilityHub.open({
      onEvent({ type }) {
        told.push(type);
        return listen(type) as void;
      },
    });
    await hub.setAlertRule({ name: "hot", field: "temperature", above: 85 });
    for (const temperature of [90, 20]) {
      await hub.collectSystemMetrics({ timestamp: NEW_YEAR + told.length, temperature });
    }
    await hub.flush();
    assertEquals((await hub.queryHistoricalMetrics()).length, 2);
    await new Promise((resolve) => setTimeout(resolve)); // a rejection without a handler ends the program by now
  }
  assertEquals(told, listeners.flatMap(() => ["alert-fired", "alert-resolved"]));
});

Deno.test("ObservabilityHub keeps a refused record until its folder is writable", async () => {
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("letters"), "not a folder");
  const told: string[] = [];
  await using hub = await ObservabilityHub.open({
    connectionString: folder.sqlite(),
    deadLetterDirectory: folder.file("letters"),
    onEvent: ({ type }) => told.push(type),
  });
  const { DatabaseSync } = await import("node:sqlite");
  const other = new DatabaseSync(folder.file("test.db"));
  other.exec(
    "CREATE TRIGGER t BEFORE INSERT ON system_metrics BEGIN SELECT RAISE(ABORT, 'a constraint failed'); END",
  );
  other.close();
  await hub.collectSystemMetrics(at(1));
  await assertRejects(() => hub.flush(), BackendError, "File exists");
  const { inFlight, alarm } = hub.stats().datasets.system_metrics!;
  assertEquals([inFlight, alarm?.includes("File exists")], [1, true]);
  Deno.removeSync(folder.file("letters"));
  await hub.flush(); // tries at once
  assertEquals(told, ["retry", "paused", "resumed", "dead-lettered"]);
  const [letter] = Deno.readTextFileSync(folder.file("letters/system_metrics.ndjson")).split("\n");
  assertEquals(JSON.parse(letter).record.activeConnections, 1);
  assertEquals(hub.stats().datasets.system_metrics!.deadLettered, 1);
});

Deno.test("mod.ts opens nothing and needs no permission when imported", async () => {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "--cached-only", "--no-prompt", new URL("../mod.ts", import.meta.url).href],
  }).output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
});

Deno.test("ObservabilityHub in memory needs no permission", async () => {
  const program = `import { ObservabilityHub } from ${
    JSON.stringify(new URL("../mod.ts", import.meta.url).href)
  };
    const hub = new ObservabilityHub();
    await hub.collectSystemMetrics({ timestamp: Date.now() });
    await hub.flush();
    console.log((await hub.queryHistoricalMetrics()).length);`;
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("program.ts"), program);
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "--cached-only", "--no-prompt", "--no-check", folder.file("program.ts")],
  }).output();
  assertEquals([code, new TextDecoder().decode(stdout)], [0, "1\n"]);
});
