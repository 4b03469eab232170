import { BackendError } from "../mod.ts";
import type { Backend } from "../src/backends/backend.ts";
import { RemoteReader } from "../src/backends/remote/reader.ts";
import { acceptBackendQuery, toBackendQuery } from "../src/backends/remote/request.ts";
import { findAnomalies } from "../src/monitoring/anomalies/anomalies.ts";
import { readAggregate } from "../src/query/aggregate_columns.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { acceptQuery } from "../src/records/query.ts";
import { readDeliveries } from "../src/transfer/deliveries.ts";
import { exportRecords } from "../src/transfer/export.ts";
import { allocateCosts } from "../src/views/allocation.ts";
import { budgetsView } from "../src/views/budgets.ts";
import { clustersView } from "../src/views/clusters.ts";
import { costSummary } from "../src/views/costs.ts";
import { dataHealthView } from "../src/views/data_health.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { openfinops } from "./command.ts";
import {
  costEntry,
  FULL_COST_ENTRY,
  FULL_DEVICE_METRICS,
  FULL_METRIC_POINT,
  FULL_SERVICE_METRICS,
  FULL_SYSTEM_METRICS,
  FULL_USAGE_RECORD,
  NEW_YEAR,
  TemporaryFolder,
} from "./fixtures.ts";
import { HttpReceiver } from "./receivers.ts";
import { openServer, PLACES, type TestServer } from "./server.ts";
import { until } from "./until.ts";

const DAY = 86_400_000;

async function fill({ resources: { hub, costs } }: TestServer): Promise<void> {
  await hub.systemMetrics.add(FULL_SYSTEM_METRICS);
  await hub.serviceMetrics.add(FULL_SERVICE_METRICS);
  await hub.deviceMetrics.add(FULL_DEVICE_METRICS);
  await hub.metricPoints.add(FULL_METRIC_POINT);
  await costs.usage.add(FULL_USAGE_RECORD);
  await costs.entries.add(FULL_COST_ENTRY);
  for (let day = 0; day < 40; day++) {
    for (const team of ["nlp", "__proto__", "a b"]) {
      const entryId = `${team}-${day}`;
      const timestamp = NEW_YEAR + day * DAY;
      const amount = `${day === 35 ? 900 : 1}.000000000000000001`;
      await costs.entries.add(costEntry({ entryId, timestamp, amount, tags: { team } }));
    }
  }
  await Promise.all([hub.flush(), costs.flush()]);
  await costs.createBudget({ budgetId: "all", amount: "100", currency: "USD", period: "1mo" });
}

/** Questions whose answers a server must not change. */
const QUESTIONS: Readonly<Record<string, (backend: Backend) => Promise<unknown>>> = {
  summary: (backend) =>
    costSummary(backend, { startTime: NEW_YEAR, at: NEW_YEAR + 40 * DAY, groupBy: ["tags.team"], top: 2 }),
  zone: (backend) =>
    costSummary(backend, { startTime: "2026-01", endTime: "2026-02", timeZone: "America/New_York" }),
  budgets: async (backend) => {
    const { budgets } = await budgetsView(backend, { at: NEW_YEAR + 5 * DAY });
    return budgets.map(({ crossed, ...rest }) => [rest, crossed.map(({ at: _now, ...each }) => each)]);
  },
  clusters: (backend) => clustersView(backend, { at: NEW_YEAR + 1_000 }),
  anomalies: (backend) => findAnomalies(backend, { startTime: NEW_YEAR, endTime: NEW_YEAR + 40 * DAY }),
  allocation: (backend) =>
    allocateCosts(backend, { startTime: NEW_YEAR, endTime: NEW_YEAR + DAY, by: "team" }),
  data: async (backend) => ({ ...await dataHealthView(backend, NEW_YEAR), storage: {} }),
  deliveries: (backend) => readDeliveries(backend),
  compared: (backend) =>
    readAggregate(backend, costEntries, { bucket: "1w", compare: "previous", groupBy: ["category"] }),
  percentiles: (backend) =>
    readAggregate(backend, DATASETS.device_metrics, {
      fields: { utilization: ["p95", "avg", "max"] },
      groupBy: ["labels.pod"],
    }),
  usage: (backend) =>
    readAggregate(backend, DATASETS.usage_records, { fields: { quantity: ["sum"], cost: ["sum"] } }),
  filtered: (backend) =>
    readAggregate(backend, costEntries, {
      where: [
        { field: "tags.team", in: ["nlp", "a b"] },
        { field: "amount", gte: "1", lt: "5.5" },
        { field: "timestamp", lte: NEW_YEAR + 9 * DAY },
        { field: "description", missing: true },
        { field: "tags.team", ne: "x" },
        { field: "tags.team", missing: false },
      ],
      tags: { team: "nlp" },
      category: costEntry({}).category,
    }),
};

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`A command answers through a server on ${name} as from its database`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url });
    await fill(server);
    const { backend } = server.resources;
    const reader = new RemoteReader({ url: new URL(server.url) });
    for (const [question, ask] of Object.entries(QUESTIONS)) {
      assertEquals(await ask(reader), await ask(backend), question);
    }
    for (const { name: dataset } of Object.values(DATASETS)) {
      for (const format of ["ndjson", "csv", "focus"] as const) {
        if (format === "focus" && dataset !== "cost_entries") continue;
        const [found, expected] = await Promise.all(
          [reader, backend].map(async (backend) =>
            await new Response(await exportRecords({ backend, dataset, format })).text()
          ),
        );
        assert(expected.length > 50);
        assertEquals(found, expected, `${dataset} ${format}`);
      }
    }
    await assertRejects(() => reader.write(), BackendError, "only reads through a server");
    await reader.close();
  });
}

Deno.test("openfinops prints through --server what it prints from the database, byte for byte", async () => {
  using folder = new TemporaryFolder();
  const cwd = folder.path;
  await using server = await openServer({ connectionString: folder.sqlite() });
  await fill(server);
  const commands: string[][] = [
    ["database", "query", "costs", "--limit", "7"],
    ["database", "query", "costs", "--bucket", "1mo", "--group-by", "tags.team", "--format", "csv"],
    ["database", "export", "costs", "--format", "focus"],
    ["costs", "summary", "--since", "2026-01-01", "--at", "2026-02-10"],
    ["costs", "budgets", "--at", "2026-01-05", "--format", "csv"],
  ];
  for (const command of commands) {
    const [expected, found] = await Promise.all([
      openfinops([...command, "--connection-string", folder.sqlite()], { cwd }),
      openfinops([...command, "--server", server.url], { cwd, env: { OPENFINOPS_TOKEN: "any" } }),
    ]);
    assert(expected.out.length > 100, expected.err);
    assertEquals(found, expected, command.join(" "));
  }
  const wrong = await openfinops(["costs", "summary", "--server", "http://u:p@h/", "--since", "7d"], { cwd });
  assertEquals([wrong.code, wrong.err.includes("u:p")], [2, false], wrong.err);
  const both = await openfinops(["costs", "budgets", "--server", server.url, "--backend", "sqlite"], { cwd });
  assertEquals(both.code, 2);
  assertMatch(both.err, /--server and --backend name two places/);
});

Deno.test("A query that was checked is the same after it was sent", () => {
  const where = [
    { field: "tags.a.b", in: ["x", "y"] },
    { field: "amount", gt: "1.5", lte: "7" },
    { field: "chargePeriodEnd", gte: NEW_YEAR },
    { field: "region", missing: true },
    { field: "region", missing: false },
    { field: "region", ne: "eu" },
  ];
  for (
    const asked of [{}, {
      where,
      tags: { t: "v" },
      region: "eu",
      startTime: NEW_YEAR,
      limit: 3,
      order: "desc",
    }]
  ) {
    const query = acceptQuery(costEntries, asked);
    const sent = JSON.parse(JSON.stringify(toBackendQuery(costEntries, query)));
    assertEquals(acceptBackendQuery(costEntries, sent), query);
  }
});

/** Message about an answer of something else than a server. */
const FOREIGN = /not that of an OpenFinOps server \(status 200, .*\)\. Check the URL\. A proxy/;

Deno.test("RemoteReader and probe name an answer of something else", async () => {
  let answer: () => Response;
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => answer());
  const url = new URL(`http://127.0.0.1:${server.addr.port}`);
  const reader = new RemoteReader({ url });
  const asked = acceptQuery(costEntries);
  const html = () => new Response("<html>", { headers: { "content-type": "text/html" } });
  for (answer of [html, () => Response.json({}), () => Response.json(null)]) {
    const asking = [
      () => reader.stats(),
      () => reader.documents.read(),
      () => reader.probe(),
      () => reader.aggregate(costEntries, asked, { groupBy: [], measures: [] }),
    ];
    for (const ask of asking) {
      const error = await assertRejects(ask, BackendError) as BackendError;
      assertEquals(error.code, "SERVER_UNSUPPORTED");
      assertMatch(error.message, FOREIGN);
    }
  }
  answer = html;
  const { code, err } = await openfinops(["probe", url.href], { cwd: "." });
  assertEquals(code, 1);
  assertMatch(err, FOREIGN);
  await reader.close();
});

Deno.test("RemoteReader names what a server refuses, and never the token", async () => {
  let answer: () => Response = () => new Response();
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => answer());
  const url = new URL(`http://127.0.0.1:${server.addr.port}`);
  const reader = new RemoteReader({ url, token: () => "s3cret" });
  const refusal = (status: number) =>
    Response.json({ error: { code: "X", message: "in words." } }, { status });
  const lines = (text: string) => new Response(text, { headers: { "content-type": "application/x-ndjson" } });
  const cases: [answer: () => Response, code: string, message: RegExp][] = [
    [() => refusal(401), "TOKEN_REFUSED", /in words.*token create/],
    [() => refusal(403), "SCOPE_MISSING", /in words[^.]*\)\. Sending takes the scope `ingest`/],
    [() => refusal(404), "SERVER_UNSUPPORTED", /no such route.*Check the URL/],
    [() => refusal(429), "RATE_LIMITED", /limits the rate/],
    [() => refusal(503), "SERVER_BUSY", /in words/],
    [() => new Response("<html>", { status: 502 }), "SERVER_BUSY", /status 502\)/],
    [() => Response.redirect("http://example.com/"), "SERVER_UNSUPPORTED", /redirects/],
    [
      () => new Response("<html>", { headers: { "content-type": "text/html" } }),
      "SERVER_UNSUPPORTED",
      FOREIGN,
    ],
    [() => Response.json({}), "SERVER_UNSUPPORTED", FOREIGN],
    [() => lines('{"records":[{}]}\n'), "CONNECTION_LOST", /ended early/],
    [
      () => lines('{"records":[{}]}\n{"error":{"code":"LOCKED","kind":"transient","message":"m"}}\n'),
      "LOCKED",
      /^m$/,
    ],
  ];
  for (const [given, code, message] of cases) {
    answer = given;
    const error = await assertRejects(
      () => Array.fromAsync(reader.read(costEntries, acceptQuery(costEntries))),
      BackendError,
    ) as BackendError;
    assertEquals(error.code, code, error.message);
    assertMatch(error.message, message);
    assert(!error.message.includes("s3cret") && !error.message.includes("It is retried"), error.message);
  }
  await reader.close();
  const secure = new RemoteReader({ url: new URL(url.href.replace("http:", "https:")) });
  const plain = await assertRejects(() => secure.stats(), BackendError) as BackendError;
  assertEquals(plain.code, "TLS_REFUSED", plain.message);
  await secure.close();
  await server.shutdown();
  const later = new RemoteReader({ url });
  const refused = await assertRejects(() => later.stats(), BackendError) as BackendError;
  assertEquals(refused.code, "CONNECTION_REFUSED");
  await later.close();
});

Deno.test("A read through a server that is left ends the read of the server", async () => {
  await using server = await openServer();
  await fill(server);
  const { backend } = server.resources;
  let hasEnded = false;
  backend.read = async function* <T>() {
    try {
      for (let i = 0;; i++) {
        yield [costEntry({ entryId: `${i}`, description: "x".repeat(100_000) })] as T[];
        await new Promise((resolve) => setTimeout(resolve));
      }
    } finally {
      hasEnded = true;
    }
  };
  const reader = new RemoteReader({ url: new URL(server.url) });
  for await (const [record] of reader.read(costEntries, acceptQuery(costEntries))) {
    assertEquals(record.entryId, "0");
    break;
  }
  await until(() => hasEnded, "the read of the server to end");
  await reader.close();
});

Deno.test("RemoteReader gives up a server that accepts requests and vanishes", async () => {
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const held: Deno.Conn[] = [];
  const listening = (async () => {
    for await (const connection of silent) held.push(connection);
  })();
  const reader = new RemoteReader({ url: new URL(`http://127.0.0.1:${silent.addr.port}`), probeMs: 50 });
  const readOne = async () => {
    for await (const _page of reader.read(costEntries, acceptQuery(costEntries)));
  };
  for (const ask of [() => reader.stats(), readOne]) {
    const error = await assertRejects(ask, BackendError) as BackendError;
    assertEquals([error.code, error.kind], ["CONNECTION_TIMEOUT", "transient"]);
  }
  await reader.close();
  silent.close();
  for (const connection of held) connection.close();
  await listening;
});

Deno.test("RemoteReader waits for an answer that takes long while the server answers probes", async () => {
  const answer = Promise.withResolvers<void>();
  await using receiver = new HttpReceiver();
  receiver.answer = async ({ path }) => {
    if (path !== "/healthz") await answer.promise;
    else answer.resolve();
    return Response.json({ datasets: {}, status: "ok" });
  };
  const reader = new RemoteReader({ url: new URL(receiver.url()), probeMs: 2_000 });
  assertEquals(await reader.stats() as unknown, { datasets: {}, status: "ok" });
  await reader.close();
});
