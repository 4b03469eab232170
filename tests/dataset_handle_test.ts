import {
  type Backend,
  CostObservatory,
  importRecords,
  ObservabilityHub,
  openBackend,
  type SystemMetricsInput,
} from "../mod.ts";
import { assert, assertEquals } from "./assert.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";
import { Proxy } from "./faults/proxy.ts";
import { runSql, TestDatabase } from "./postgres_server.ts";
import { Turns } from "./turns.ts";
import { inTime, until } from "./until.ts";

const at = (i: number): SystemMetricsInput => ({ timestamp: NEW_YEAR + i, cpuUsage: i });
/** Several pages. */
const RECORDS = 5_000;

/** Opens an empty database of each kind. */
const PLACES: Readonly<Record<string, () => Promise<{ backend: Backend; database?: TestDatabase }>>> = {
  memory: async () => ({ backend: await openBackend({}) }),
  SQLite: async () => ({ backend: await openBackend({ connectionString: "sqlite://" }) }),
  async PostgreSQL() {
    const database = await TestDatabase.create();
    return { backend: await openBackend({ connectionString: database.url, maxConnections: 2 }), database };
  },
};

async function withHub(
  place: string,
  run: (hub: ObservabilityHub, backend: Backend, database?: TestDatabase) => Promise<void>,
): Promise<void> {
  const { backend, database } = await PLACES[place]();
  const hub = await ObservabilityHub.open({ backend });
  try {
    await ReadableStream.from(Array.from({ length: RECORDS }, (_, i) => at(i))).pipeTo(
      hub.systemMetrics.sink(),
    );
    await run(hub, backend, database);
  } finally {
    await hub.close();
    await backend.close();
    await database?.[Symbol.asyncDispose]();
  }
}

/** Error that a promise rejects with. */
async function reasonOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error("it did not reject");
}

Deno.test("DatasetHandle reads a record in memory as soon as add() has resolved", async () => {
  await using hub = new ObservabilityHub();
  for (let i = 1; i <= 3; i++) {
    await hub.systemMetrics.add(at(i));
    assertEquals((await hub.systemMetrics.query({ order: "desc", limit: 1 }))[0].cpuUsage, i);
    assertEquals((await Array.fromAsync(hub.systemMetrics.stream())).length, i);
    assertEquals((await hub.systemMetrics.aggregate())[0].count, i);
    assertEquals(hub.systemMetrics.recent().length, i);
    assertEquals((await hub.queryHistoricalMetrics()).length, i);
  }
  await hub.serviceMetrics.add({ serviceName: "api", timestamp: NEW_YEAR });
  assertEquals((await hub.serviceMetrics.query({ serviceName: "api" })).length, 1);
  assertEquals((await hub.cleanupOldData({ retentionDays: 0 })).service_metrics, 1);
});

Deno.test("CostObservatory answers from memory with all costs that add() has resolved for", async () => {
  await using costs = new CostObservatory();
  await costs.createBudget({ budgetId: "b", amount: "10" });
  await costs.entries.add(costEntry({ timestamp: Date.now(), amount: "4", tags: { training_run_id: "r" } }));
  assertEquals((await costs.entries.aggregate())[0].total, "4");
  assertEquals((await costs.getBudgetStatus())[0].spent, "4");
  assertEquals((await costs.getCostSummary()).currencies[0].total, "4");
  await costs.startTrainingRunTracking("r", { startTime: Date.now() - 1_000 });
  assertEquals((await costs.getTrainingRuns())[0].totals[0].total, "4");
});

Deno.test("hubs that share a backend in memory read what the others have accepted", async () => {
  const backend = await openBackend({});
  const [one, other] = [await ObservabilityHub.open({ backend }), await ObservabilityHub.open({ backend })];
  await one.systemMetrics.add(at(1));
  assertEquals((await other.systemMetrics.query()).length, 1);
  await Promise.all([one.close(), other.close()]);
});

for (const place of Object.keys(PLACES)) {
  Deno.test(`DatasetHandle rejects with the reason of a signal that has aborted, on ${place}`, async () => {
    await withHub(place, async ({ systemMetrics }) => {
      const signal = AbortSignal.abort(new Error("not any more"));
      for (
        const work of [
          systemMetrics.query({}, { signal }),
          Array.fromAsync(systemMetrics.stream({}, { signal })),
          systemMetrics.aggregate({}, { signal }),
        ]
      ) assertEquals(await reasonOf(work), signal.reason);
      assertEquals(
        (await systemMetrics.aggregate({}, { signal: new AbortController().signal }))[0].count,
        RECORDS,
      );
    });
  });

  Deno.test(`DatasetHandle.stream() ends between pages when its signal aborts, on ${place}`, async () => {
    await withHub(place, async ({ systemMetrics }) => {
      // As many as the pool would have connections, twice.
      for (let round = 0; round < 4; round++) {
        const stop = new AbortController();
        const reader = systemMetrics.stream({}, { signal: stop.signal }).getReader();
        assertEquals((await reader.read()).value?.cpuUsage, 0);
        stop.abort();
        const rest = async () => {
          while (!(await reader.read()).done);
        };
        assertEquals(await reasonOf(rest()), stop.signal.reason);
      }
      assertEquals((await systemMetrics.query()).length, RECORDS);
    });
  });

  Deno.test(`importRecords() ends when its signal aborts, on ${place}`, async () => {
    await withHub(place, async ({ systemMetrics }, backend) => {
      const stop = new AbortController();
      const encoder = new TextEncoder();
      const lines = Array.from({ length: 30_000 }, (_, i) => JSON.stringify(at(RECORDS + i)) + "\n");
      const input = new ReadableStream<Uint8Array>({
        pull(controller) {
          if (lines.length > 0) controller.enqueue(encoder.encode(lines.splice(0, 1_000).join("")));
          else return new Promise<void>(() => {}); // a file that never ends
        },
      });
      let stored = 0;
      const reason = await reasonOf(importRecords(input, {
        backend,
        dataset: "system_metrics",
        format: "ndjson",
        signal: stop.signal,
        onProgress(progress) {
          stored = progress.stored;
          stop.abort();
        },
      }));
      assertEquals(reason, stop.signal.reason);
      assert(stored > 0);
      const [{ count }] = await systemMetrics.aggregate();
      assert(count >= RECORDS + stored, String(count));
    });
  });
}

/** Locks the table of system metrics until it is disposed, and counts the statements that wait for it. */
async function lockMetrics(url: string) {
  const { default: postgres } = await import("postgres");
  const locker = postgres(url, { max: 1, onnotice: () => {} });
  const lock = await locker.reserve();
  await lock`BEGIN`;
  await lock`LOCK TABLE system_metrics IN ACCESS EXCLUSIVE MODE`;
  return {
    /** Waits until a number of statements wait for the table. */
    async waiting(count: number): Promise<void> {
      const statement = "SELECT count(*)::text AS n FROM pg_stat_activity " +
        "WHERE datname = current_database() AND wait_event_type = 'Lock'";
      const isSo = async () => Number((await runSql(url, statement))[0].n) === count;
      await until(isSo, `${count} statements that wait for the table`, 20);
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await lock`COMMIT`;
      lock.release();
      await locker.end();
    },
  };
}

/** Queries and aggregates metrics. Returns the errors. */
function readBoth({ systemMetrics }: ObservabilityHub, signal: AbortSignal): Promise<unknown[]> {
  const works = [systemMetrics.query({}, { signal }), systemMetrics.aggregate({}, { signal })];
  return Promise.all(works.map(reasonOf));
}

Deno.test("DatasetHandle cancels a PostgreSQL query when its signal aborts", async () => {
  await withHub("PostgreSQL", async (hub, _backend, database) => {
    {
      await using lock = await lockMetrics(database!.url);
      for (let round = 0; round < 2; round++) {
        const stop = new AbortController();
        const reasons = readBoth(hub, stop.signal);
        await lock.waiting(2);
        stop.abort();
        assertEquals(await reasons, [stop.signal.reason, stop.signal.reason]);
        await lock.waiting(0); // while the table is still locked
      }
      // At any moment, also while connections are made.
      for (let ms = 0; ms < 20; ms++) {
        const stop = new AbortController();
        const reasons = readBoth(hub, stop.signal);
        await new Promise((resolve) => setTimeout(resolve, ms));
        stop.abort();
        assertEquals(await reasons, [stop.signal.reason, stop.signal.reason]);
      }
      await lock.waiting(0);
    }
    assertEquals((await hub.systemMetrics.query()).length, RECORDS);
  });
});

Deno.test("DatasetHandle cancels a PostgreSQL query when the request to cancel overtakes it", async () => {
  await using database = await TestDatabase.create();
  await using proxy = await Proxy.start(Number(new URL(database.url).port));
  await using hub = await ObservabilityHub.open({ connectionString: proxy.url(database.url) });
  const stop = new AbortController();
  await Promise.all([hub.systemMetrics.query(), hub.systemMetrics.aggregate()]); // connects
  await using lock = await lockMetrics(database.url);
  proxy.holdBack();
  const reasons = readBoth(hub, stop.signal);
  await new Promise((resolve) => setTimeout(resolve)); // the statements are sent
  const request = proxy.nextEnd();
  stop.abort();
  await inTime(request, "a request to cancel");
  proxy.resume();
  assertEquals(await reasons, [stop.signal.reason, stop.signal.reason]);
  await lock.waiting(0);
});

Deno.test("append() lets other work go on between the records that it refuses", async () => {
  await using hub = await ObservabilityHub.open();
  const records = Array.from({ length: 1_000 }, (_, i) => ({ timestamp: NEW_YEAR + i, networkIn: 1 }));
  using turns = new Turns();
  const { refused } = await hub.systemMetrics.append(records as SystemMetricsInput[]);
  assertEquals(refused.length, 1_000);
  assert(turns.count >= 10, `${turns.count} turns`);
});
