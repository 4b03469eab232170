import { openBackend } from "../mod.ts";
import type { Backend } from "../src/backends/backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { resolveConfig } from "../src/config.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { QUERY_ROUTES } from "../src/server/query_routes.ts";
import { VIEW_ROUTES } from "../src/server/views_routes.ts";
import { exportRecords } from "../src/transfer/export.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { openfinops } from "./command.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { openServer, PLACES, type TestServer } from "./server.ts";
import { until } from "./until.ts";

const HOUR = 3_600_000;
const JANUARY = "since=2026-01-01&until=2026-02-01";

/** Nodes that report each hour, costs of two currencies and of one time, and a use. */
async function fill({ resources: { hub, costs } }: TestServer): Promise<void> {
  for (let hour = 0; hour < 30; hour++) {
    for (const nodeId of ["a", "b", "c"]) {
      const timestamp = NEW_YEAR + hour * HOUR;
      await hub.systemMetrics.add({ timestamp, clusterId: "prod", nodeId, cpuUsage: hour + 0.5 });
    }
  }
  for (let i = 0; i < 25; i++) {
    await costs.entries.add(costEntry({
      entryId: `e${i}`,
      timestamp: NEW_YEAR + (i % 3) * 24 * HOUR,
      category: i % 2 === 0 ? "gpu" : "=storage",
      amount: `${i}.000000000000000001`,
      currency: i % 5 === 0 ? "EUR" : "USD",
      tags: { team: `t${i % 2}`, tenant: `acme${i % 2}` },
    }));
  }
  await costs.usage.add({
    usageId: "u",
    timestamp: NEW_YEAR,
    provider: "openai",
    model: "gpt-5",
    inputTokens: 7,
  });
  await Promise.all([hub.flush(), costs.flush()]);
}

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`GET of records on ${name} gives pages of JSON, and streams of NDJSON and CSV`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url });
    await fill(server);
    const { backend } = server.resources;
    for (
      const [path, dataset] of [["system-metrics", "system_metrics"], ["costs", "cost_entries"]] as const
    ) {
      for (const format of ["ndjson", "csv"] as const) {
        const expected = await new Response(await exportRecords({ backend, dataset, format })).text();
        const found = await server.send(`/api/v1/${path}?order=asc&format=${format}`);
        assertEquals(found.text, expected, `${path} ${format}`);
        assertMatch(
          found.headers.get("content-type")!,
          format === "csv" ? /^text\/csv/ : /^application\/x-ndjson$/,
        );
      }
      const lines = (await server.send(`/api/v1/${path}?format=ndjson`)).text.trim().split("\n");
      const found: unknown[] = [];
      for (let next: string | undefined = `/api/v1/${path}?limit=7`; next !== undefined;) {
        const page = await server.send(next);
        assertEquals(page.status, 200, page.text);
        found.push(...page.json().records);
        const { link } = Object.fromEntries(page.headers);
        const [, address] = /^<(.+)>; rel="next"$/.exec(link ?? "") ?? [];
        assertEquals(address?.includes(page.json().next), address && true);
        next = address;
      }
      const sorted = (texts: string[]) => texts.toSorted();
      assertEquals(sorted(found.map((record) => JSON.stringify(record))), sorted(lines));
    }
  });

  Deno.test(`GET of aggregates on ${name} gives what the command prints, amounts exact`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url });
    await fill(server);
    const questions: [path: string, words: string, args: string[]][] = [
      ["costs", "group-by=category,tags.team&bucket=1d", [
        "costs",
        "--group-by",
        "category,tags.team",
        "--bucket",
        "1d",
      ]],
      ["costs", "where=tags.team%3Dt0&group-by=currency&order=asc", [
        "costs",
        "--where",
        "tags.team=t0",
        "--group-by",
        "currency",
        "--order",
        "asc",
      ]],
      ["system-metrics", "measure=cpuUsage.p95,cpuUsage.avg&group-by=nodeId&node-id=b", [
        "metrics",
        "--measure",
        "cpuUsage.p95,cpuUsage.avg",
        "--group-by",
        "nodeId",
        "--node-id",
        "b",
      ]],
      ["usage", "measure=inputTokens.sum", ["usage", "--measure", "inputTokens.sum"]],
    ];
    for (const [path, words, args] of questions) {
      const ask = (format: string) =>
        server.send(`/api/v1/${path}/aggregate?${words}&${JANUARY}&format=${format}`);
      const rows = (await ask("json")).json().rows;
      assert(rows.length > 0, words);
      const lines = (await ask("ndjson")).text.trim().split("\n").map((line) => JSON.parse(line));
      assertEquals(lines, rows);
      if (place.url === undefined) continue;
      const range = ["--since", "2026-01-01", "--until", "2026-02-01"];
      const { out, err } = await openfinops(
        ["database", "query", ...args, ...range, "--format", "csv", "--connection-string", place.url],
        { cwd: place.folder.path },
      );
      assertEquals((await ask("csv")).text, out, `${words} ${err}`);
    }
    const total = await server.send(`/api/v1/costs/aggregate?${JANUARY}&where=currency=EUR`);
    assertEquals(total.json().rows[0].total, "50.000000000000000005");
  });
}

Deno.test("GET answers wrong words with 400, a code and the nearest name", async () => {
  await using server = await openServer();
  const cases: [path: string, code: string, message: RegExp][] = [
    ["costs?catagory=gpu", "UNKNOWN_OPTION", /Unknown parameter "catagory". Did you mean "category"\?/],
    ["costs?groupBy=region", "UNKNOWN_OPTION", /"groupBy"/],
    ["costs/aggregate?groupBy=region", "UNKNOWN_OPTION", /Did you mean "group-by"\?/],
    ["costs?node-id=a", "UNKNOWN_OPTION", /"node-id"/],
    ["costs?since=yestrday", "INVALID_OPTION", /^since must be a time .* Did you mean yesterday\?/],
    ["costs?since=2026-02&until=2026-01", "INVALID_OPTION", /^since \(.*\) must be no later than until/],
    ["costs?days=2&since=7d", "CONFLICTING_OPTIONS", /^days and since both set the start/],
    ["costs?limit=1&limit=2", "INVALID_OPTION", /^limit is given more than once/],
    ["costs?limit=0", "INVALID_OPTION", /^limit must be a whole number from 1 to 10000/],
    ["costs?limit=10001", "INVALID_OPTION", /format=ndjson/],
    ["costs?limit=", "INVALID_OPTION", /^limit needs a value/],
    ["costs?format=xml", "INVALID_OPTION", /Unknown format "xml"/],
    ["costs?spreadsheet-safe", "CONFLICTING_OPTIONS", /format=csv/],
    ["costs?spreadsheet-safe=yes&format=csv", "INVALID_OPTION", /true or false/],
    ["costs?cursor=abc", "INVALID_OPTION", /^cursor must be the "next" of a page/],
    ["costs?where=categori=gpu", "UNKNOWN_FIELD", /a name such as category/],
    ["costs?time-zone=Mars", "INVALID_OPTION", /^time-zone must be/],
    ["costs/aggregate?measure=amont", "INVALID_FIELD", /amount/],
    [
      "costs/aggregate?limit=2",
      "CONFLICTING_OPTIONS",
      /^limit counts the groups.* Name their fields with group-by/,
    ],
    ["costs/aggregate?top=2", "CONFLICTING_OPTIONS", /^top ranks groups. Name their fields with group-by/],
    ["system-metrics/aggregate?measure=cpuUsage", "INVALID_OPTION", /^measure must be FIELD.MEASURE/],
    ["views/costs?top=x", "INVALID_OPTION", /^top must be/],
    ["views/budgets?budget-id=none", "NOT_FOUND", /none/],
    ["views/allocation", "MISSING_ARGUMENT", /by/],
  ];
  for (const [path, code, message] of cases) {
    const { status, json, text } = await server.send(`/api/v1/${path}`);
    assertEquals([status, json().error.code], [code === "NOT_FOUND" ? 404 : 400, code], `${path} ${text}`);
    assertMatch(json().error.message, message);
  }
});

Deno.test("A cursor belongs to its query, and ranges and limits may change", async () => {
  await using server = await openServer();
  await fill(server);
  const first = (await server.send("/api/v1/costs?limit=5&category=gpu")).json();
  const ask = (words: string) => server.send(`/api/v1/costs?${words}&cursor=${first.next}`);
  assertEquals((await ask("limit=50&category=gpu&since=30y")).json().records.length, 8);
  const other = await ask("limit=5&category=storage");
  assertEquals([other.status, other.json().error.code], [400, "CONFLICTING_OPTIONS"]);
  assertEquals((await ask("category=gpu&order=asc")).status, 400);
  const rest = (await ask("category=gpu&format=ndjson")).text.trim().split("\n").map((line) =>
    JSON.parse(line)
  );
  assertEquals(new Set([...first.records, ...rest].map(({ entryId }) => entryId)).size, 13);
  const forged = btoa(JSON.stringify(["x", NEW_YEAR, 1, "'; DROP TABLE cost_entries; --"]));
  assertEquals((await server.send(`/api/v1/costs?cursor=${forged}`)).status, 400);
});

Deno.test("GET of CSV chooses by Accept, and is safe for spreadsheets on request", async () => {
  await using server = await openServer();
  await fill(server);
  const ask = async (path: string, accept: string) => {
    const { headers, text } = await server.send(`/api/v1/${path}`, { headers: { accept } });
    return [headers.get("content-type"), text.includes("'=storage")];
  };
  const [json, csv, ndjson] = ["application/json", "text/csv; charset=utf-8", "application/x-ndjson"];
  assertEquals(await ask("costs", "text/csv"), [csv, false]);
  assertEquals(await ask("costs?spreadsheet-safe", "text/csv"), [csv, true]);
  assertEquals(await ask("costs?format=csv&spreadsheet-safe=true", "application/json"), [csv, true]);
  assertEquals(await ask("costs/aggregate?group-by=category&spreadsheet-safe", "text/csv"), [csv, true]);
  assertEquals(await ask("costs", "text/html, application/x-ndjson;q=0.5, */*;q=0.1"), [ndjson, false]);
  assertEquals(await ask("costs", "text/csv;q=0.2, application/json"), [json, false]);
  assertEquals(await ask("costs", "*/*"), [json, false]);
});

/** A backend in memory whose reads go on for good. */
function endlessBackend(): { backend: Backend; state: { pages: number; ended: boolean } } {
  const backend: Backend = new MemoryBackend(resolveConfig());
  const state = { pages: 0, ended: false };
  const page = Array.from(
    { length: 1_000 },
    (_, i) => costEntry({ entryId: `${i}`, description: "x".repeat(1_000) }),
  );
  backend.read = async function* <T>() {
    try {
      for (;;) {
        state.pages++;
        yield page.map((entry) => ({ ...entry, timestamp: NEW_YEAR + state.pages })) as T[];
        await new Promise((resolve) => setTimeout(resolve));
      }
    } finally {
      state.ended = true;
    }
  };
  return { backend, state };
}

Deno.test("A stream of records reads no further than the client takes it, and ends with the client", async () => {
  const { backend, state } = endlessBackend();
  await using server = await openServer({ backend });
  for (const path of ["/api/v1/costs?format=ndjson", "/api/v1/costs?format=csv"]) {
    Object.assign(state, { pages: 0, ended: false });
    const response = await fetch(new URL(path, server.url));
    const reader = response.body!.getReader();
    await reader.read();
    let pages = -1;
    while (pages !== state.pages) { // until the buffers of both ends are full
      pages = state.pages;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    assert(pages < 60, `${pages} MB`);
    await reader.cancel();
    await until(() => state.ended, `the read of ${path} to end`);
    state.ended = false;
    await server.send(path, { method: "HEAD" });
    await until(() => state.ended, `the read of ${path} to end`);
  }
});

Deno.test("A read that fails is an error before the answer has begun, and cuts the connection after", async () => {
  const backend: Backend = new MemoryBackend(resolveConfig());
  let after = 0;
  backend.read = async function* <T>(): AsyncGenerator<T[]> {
    for (let i = 0; i < after; i++) yield [costEntry({ entryId: `${i}`, timestamp: NEW_YEAR + i })] as T[];
    throw new Error("postgresql://user:secret@host failed");
  };
  await using server = await openServer({ backend });
  for (const path of ["costs", "costs?format=ndjson", "costs?format=csv"]) {
    const { status, text } = await server.send(`/api/v1/${path}`);
    assertEquals([status, text.includes("secret")], [500, false], path);
  }
  after = 3;
  await assertRejects(() => server.send("/api/v1/costs?format=ndjson"), TypeError);
});

Deno.test("A token of a tenant reads its own records alone", async () => {
  await using server = await openServer();
  await fill(server);
  const { resources } = server;
  const ask = async (path: string) => {
    const url = new URL(path, "http://localhost/api/v1/");
    const route = [...QUERY_ROUTES, ...VIEW_ROUTES].find((route) => route.path === url.pathname)!;
    const request = new Request(url);
    const { signal } = request;
    const [body, chunks] = [() => Promise.resolve(new Uint8Array()), async function* () {}];
    return await route.handle({ request, url, params: {}, signal, body, chunks, tenant: "acme1" }, resources);
  };
  const { records } = await (await ask("costs?limit=100")).json();
  assertEquals([records.length, new Set(records.map((record: never) => record["tags"]["tenant"]))], [
    12,
    new Set(["acme1"]),
  ]);
  const lines = (await (await ask("costs?format=ndjson&where=tags.tenant%3Dacme0")).text()).trim();
  assertEquals(lines, "");
  const { rows } = await (await ask("costs/aggregate")).json();
  assertEquals(rows.reduce((sum: number, { count }: { count: number }) => sum + count, 0), 12);
  for (const path of ["service-metrics", "views/costs", "views/data", "views/budgets"]) {
    await assertRejects(() => ask(path), Error, "Use a token without a tenant");
  }
});

Deno.test("Each view answers with times as ISO 8601 and exact amounts", async () => {
  using folder = new TemporaryFolder();
  await using server = await openServer({ connectionString: folder.sqlite() });
  await fill(server);
  await server.resources.costs.createBudget({
    budgetId: "all",
    amount: "1000",
    currency: "USD",
    period: "1mo",
  });
  const words: Record<string, string> = {
    costs: "during=2026-01&group-by=tags.team",
    budgets: "at=2026-01-15",
    clusters: "at=2026-01-01T01:00:01Z",
    allocation: "during=2026-01&by=team",
    anomalies: "during=2026-01",
    devices: "during=2026-01",
    models: "during=2026-01",
  };
  const answers: Record<string, string> = {};
  for (const { path } of VIEW_ROUTES) {
    const name = path.split("/").at(-1)!;
    const { status, text, json } = await server.send(`${path}?${words[name] ?? ""}`);
    assertEquals(status, 200, `${path} ${text}`);
    answers[name] = text;
    json();
    assert(!/"(startTime|endTime|at|since|lastSeen|oldest|newest)":\d/.test(text), text);
  }
  assertMatch(answers.costs, /"currency":"USD","total":"250.00000000000000002"/);
  assertMatch(answers.budgets, /"spent":"250.00000000000000002"/);
  assertMatch(answers.clusters, /"clusterId":"prod","status":"healthy"/);
  assertMatch(answers.models, /"model":"gpt-5"/);
  assertMatch(answers.data, /"pipelines":/);
});

Deno.test("Other requests are answered while a large aggregate is computed", async () => {
  await using server = await openServer();
  for (const category of ["a", "b", "c", "d"]) {
    await server.resources.costs.entries.add(costEntry({ entryId: category, category, timestamp: NEW_YEAR }));
  }
  const query = "since=2026-01-01&until=2026-01-11&bucket=1m&empty-buckets&group-by=category"; // 57,600 rows
  let isDone = false;
  let others = 0;
  const large = fetch(new URL(`/api/v1/costs/aggregate?${query}`, server.url)).then((response) => {
    isDone = true; // the answer begins
    return response.json();
  });
  while (!isDone) {
    assertEquals((await server.send("/healthz")).status, 200);
    others++;
  }
  const { rows } = await large;
  assertEquals(rows.length, 57_600);
  assertEquals(
    rows.map((row: { total: string }) => row.total).filter((total: string) => total !== "0").length,
    4,
  );
  assert(others > 3, `${others} other requests`);
});

Deno.test("A stream of 200 MB of records takes flat memory", async () => {
  using folder = new TemporaryFolder();
  const connectionString = folder.sqlite();
  const backend = await openBackend({ connectionString });
  const description = "x".repeat(10_000);
  for (let batch = 0; batch < 20; batch++) {
    const entries = Array.from(
      { length: 1_000 },
      (_, i) =>
        costEntry({ entryId: `${batch}-${i}`, timestamp: NEW_YEAR + batch * 1_000 + i % 7, description }),
    );
    await write(backend, costEntries, entries);
  }
  await backend.close();
  await using server = await openServer({ connectionString });
  const response = await fetch(new URL("/api/v1/costs?format=ndjson", server.url));
  const before = Deno.memoryUsage().heapUsed;
  let [bytes, most] = [0, 0];
  for await (const chunk of response.body!) {
    bytes += chunk.length;
    most = Math.max(most, Deno.memoryUsage().heapUsed - before);
  }
  assert(bytes > 200e6, String(bytes));
  assert(most < 150 * 2 ** 20, `${most / 2 ** 20} MiB`);
});
