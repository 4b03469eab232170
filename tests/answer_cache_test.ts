/** Answers are kept until newer data, shared by viewers, bounded, and given up with the last viewer. */
import { override } from "../src/backends/override.ts";
import { cached, forgetting } from "../src/server/answer_cache.ts";
import type { Route, RouteRequest, ServerResources } from "../src/server/route.ts";
import { VIEW_ROUTES } from "../src/server/views_routes.ts";
import { importRecords } from "../mod.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { acceptQuery } from "../src/records/query.ts";
import { deleteRecords } from "../src/transfer/delete_records.ts";
import { PriceBook } from "../src/pricing/price_book.ts";
import { priceUsageRecords } from "../src/transfer/price_usage.ts";
import { undoDelivery } from "../src/transfer/deliveries.ts";
import { assert, assertEquals } from "./assert.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";
import { openServer } from "./server.ts";

/** A route whose answers the test gives, and its resources with a number of commits. */
function setUp(answer: (signal: AbortSignal) => Response | Promise<Response>) {
  let committed = 0;
  let reads = 0;
  const stats = () => ({ datasets: { cost_entries: { committed, restated: 0 } } });
  const resources = { hub: { stats }, costs: { stats } } as unknown as ServerResources;
  const route: Route = {
    method: "GET",
    path: "/x",
    scope: "read",
    summary: "",
    handle({ signal }) {
      reads++;
      return answer(signal);
    },
  };
  const ask = (
    search = "",
    { signal = new AbortController().signal, tenant, mayBeStale }: Partial<RouteRequest> & {
      mayBeStale?: boolean;
    } = {},
  ) => {
    const url = new URL(`http://localhost/x${search}`);
    const headers: HeadersInit = mayBeStale ? { "cache-control": "max-stale" } : {};
    const asked = {
      request: new Request(url, { headers }),
      url,
      params: {},
      signal,
      tenant,
    } as unknown as RouteRequest;
    return Promise.resolve(cached(route).handle(asked, resources));
  };
  const change = () =>
    forgetting(route).handle({ signal: new AbortController().signal } as RouteRequest, resources);
  return { ask, change, reads: () => reads, commit: () => committed++ };
}

Deno.test("An answer is read once for many viewers, until newer data or a change", async () => {
  const { ask, change, reads, commit } = setUp(() => Response.json({ a: 1 }));
  const found = await Promise.all(Array.from({ length: 10 }, () => ask()));
  assertEquals(await Promise.all(found.map((response) => response.json())), found.map(() => ({ a: 1 })));
  assertEquals([await (await ask()).json(), reads()], [{ a: 1 }, 1]);
  await ask("?other");
  await ask("", { tenant: "t" });
  assertEquals(reads(), 3);
  commit();
  await ask();
  assertEquals(reads(), 4);
  await change();
  assertEquals(reads(), 5);
  await ask();
  assertEquals(reads(), 6);
});

Deno.test("A client that takes old answers gets one for as long as its read took, or one on its way", async () => {
  let now = 0;
  const original = Date.now;
  Date.now = () => now;
  try {
    const { ask, reads, commit } = setUp(() => {
      now += 4_000;
      return Response.json({});
    });
    const old = { mayBeStale: true };
    await ask("", old); // read from 0 s to 4 s
    commit();
    now = 7_999;
    assertEquals((await ask("", old)).headers.get("age"), "7");
    assertEquals(reads(), 1);
    await ask(); // read until 12 s
    assertEquals(reads(), 2);
    commit();
    now = 16_000;
    await ask("", old);
    assertEquals(reads(), 3);
  } finally {
    Date.now = original;
  }
  const { promise, resolve } = Promise.withResolvers<Response>();
  const { ask, reads, commit } = setUp(() => promise);
  const both = [ask()];
  commit();
  both.push(ask("", { mayBeStale: true }));
  assertEquals(reads(), 1);
  both.push(ask());
  assertEquals(reads(), 2);
  resolve(Response.json({}));
  await Promise.all(both);
});

Deno.test("Errors and large answers are not kept", async () => {
  for (const answer of [() => Response.json({}, { status: 503 }), () => new Response("x".repeat(3 << 20))]) {
    const { ask, reads } = setUp(answer);
    const [a, b] = [await ask(), await ask()];
    assertEquals([(await a.text()).length, reads()], [(await b.text()).length, 2]);
  }
});

Deno.test("Answers take a bounded part of memory", async () => {
  const { ask, reads } = setUp(() => new Response("x".repeat(1 << 20)));
  for (let i = 0; i < 20; i++) await (await ask(`?${i}`)).text();
  await ask("?19");
  assertEquals(reads(), 20);
  await ask("?0"); // the oldest
  assertEquals(reads(), 21);
});

Deno.test("Keys of answers count as memory, too", async () => {
  const { ask, reads } = setUp(() => new Response("x"));
  const pad = "x".repeat(1 << 20);
  for (let i = 0; i < 10; i++) await (await ask(`?${pad}${i}`)).text();
  await ask(`?${pad}9`);
  assertEquals(reads(), 10);
  await ask(`?${pad}0`);
  assertEquals(reads(), 11);
});

Deno.test("A read ends with the last of its viewers", async () => {
  let isEnded = false;
  const { ask } = setUp((signal) =>
    new Promise((_, reject) =>
      signal.addEventListener("abort", () => {
        isEnded = true;
        reject(signal.reason);
      })
    )
  );
  const [first, second] = [new AbortController(), new AbortController()];
  const answers = [first, second].map(({ signal }) =>
    ask("", { signal }).then(() => "answer", () => "ended")
  );
  first.abort();
  assertEquals([await answers[0], isEnded], ["ended", false]);
  second.abort();
  assertEquals([await answers[1], isEnded], ["ended", true]);
});

Deno.test("A read of older data ends with its viewers, too", async () => {
  const signals: AbortSignal[] = [];
  const { ask, commit } = setUp((signal) => {
    signals.push(signal);
    return new Promise(() => {});
  });
  const viewers = [new AbortController(), new AbortController()];
  const answers = viewers.map(({ signal }) => {
    const answer = ask("", { signal }).catch(() => "ended");
    commit();
    return answer;
  });
  for (const [index, viewer] of viewers.entries()) {
    viewer.abort();
    await answers[index];
    assertEquals(signals.map(({ aborted }) => aborted), [true, index === 1]);
  }
});

Deno.test("An answer is read again after a deletion in the process of the server", async () => {
  await using server = await openServer();
  const { costs, backend } = server.resources;
  const bill = new TextEncoder().encode(
    "Id,ChargePeriodStart,BilledCost,BillingCurrency,ServiceCategory,ResourceId\n" +
      "d,2026-01-02T00:00:00Z,8,USD,Compute,r\n",
  );
  const count = async () => {
    const { json } = await server.send("/api/v1/costs/aggregate");
    return json().rows.reduce((sum: number, { count }: { count: number }) => sum + count, 0);
  };
  const { delivery } = await importRecords(ReadableStream.from([bill]), {
    backend,
    dataset: "cost_entries",
    format: "focus",
    source: "x",
  });
  for (const [i, timestamp] of [NEW_YEAR, Date.now(), Date.now()].entries()) {
    await costs.entries.add(costEntry({ entryId: String(i), timestamp, resourceId: `r${i}` }));
  }
  await costs.flush();
  assertEquals(await count(), 4);
  await undoDelivery(override(backend, {}), delivery!.id);
  assertEquals(await count(), 3);
  await deleteRecords(backend, costEntries, acceptQuery(costEntries, { resourceId: "r2" }));
  assertEquals(await count(), 2);
  await costs.cleanupOldData({ retentionDays: 1, dryRun: true });
  assertEquals(await count(), 2);
  await costs.cleanupOldData({ retentionDays: 1 });
  assertEquals(await count(), 1);
});

Deno.test("An answer is read again after an import in the process of the server", async () => {
  await using server = await openServer();
  const count = async () =>
    (await server.send("/api/v1/system-metrics/aggregate?measure=cpuUsage.avg")).json().rows[0].count;
  const { backend } = server.resources;
  for (const [i, nodeId] of ["a", "b"].entries()) {
    const csv = new TextEncoder().encode(`timestamp,nodeId,cpuUsage\n2026-01-01T00:00Z,${nodeId},1\n`);
    await importRecords(ReadableStream.from([csv]), { backend, dataset: "system_metrics", format: "csv" });
    assertEquals(await count(), i + 1);
  }
});

Deno.test("An answer is read again after usage was priced in the process of the server", async () => {
  await using server = await openServer();
  const { costs, backend } = server.resources;
  const total = async () => {
    const { json } = await server.send("/api/v1/costs/aggregate?where=source%3Dprices");
    return json().rows.map(({ total }: { total: string }) => total);
  };
  await costs.usage.add({ usageId: "a", timestamp: Date.now(), model: "m", inputTokens: 5 });
  await costs.flush();
  assertEquals(await total(), []);
  const price = { provider: "*", model: "m", unit: "input", amount: "2", currency: "USD", per: 1, setAt: 1 };
  await priceUsageRecords(backend, { book: new PriceBook([price]) });
  assertEquals(await total(), ["10"]);
});

Deno.test("A read that has ended is not aborted", async () => {
  let signal: AbortSignal | undefined;
  const { ask } = setUp((given) => {
    signal = given;
    return Response.json({});
  });
  await (await ask()).text();
  assertEquals(signal?.aborted, false);
});

Deno.test("Each read of a view gets the signal of its request", async () => {
  await using server = await openServer();
  const { resources } = server;
  await resources.costs.entries.add(costEntry({ timestamp: Date.now() }));
  await resources.costs.usage.add({ usageId: "a", timestamp: Date.now(), model: "m" });
  const { backend } = resources;
  const signals: (AbortSignal | undefined)[] = [];
  const aggregate = backend.aggregate.bind(backend);
  backend.aggregate = (...asked) => {
    signals.push(asked[3]?.signal);
    return aggregate(...asked);
  };
  const { signal } = new AbortController();
  for (const route of VIEW_ROUTES.filter(({ path }) => !path.endsWith("/data"))) {
    signals.length = 0;
    const url = new URL(`http://localhost${route.path}`);
    if (route.path.endsWith("/allocation")) url.search = "?since=7d&by=team";
    const asked = { request: new Request(url), url, params: {}, signal } as unknown as RouteRequest;
    assertEquals((await route.handle(asked, resources)).status, 200, route.path);
    assertEquals(signals, signals.map(() => signal), route.path);
    if (route.path.endsWith("/costs")) assert(signals.length > 2);
  }
});
