import { ADMIN_ROUTES } from "../src/server/admin_routes.ts";
import { BACKEND_ROUTES } from "../src/server/backend_routes.ts";
import { importRecords } from "../mod.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";
import { openServer, PLACES, type TestServer } from "./server.ts";
import { until } from "./until.ts";

const DAY = 86_400_000;

function sender(server: TestServer) {
  return async (method: string, path: string, body?: unknown) => {
    const { status, text } = await server.send(`/api/v1/${path}`, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    return { status, body: text === "" ? undefined : JSON.parse(text) };
  };
}

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`Budgets on ${name} are created, listed, changed and deleted by requests`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url });
    const ask = sender(server);
    const timestamp = Date.now();
    await server.resources.costs.entries.add(costEntry({ timestamp, amount: "80.5", tags: { team: "nlp" } }));
    await server.resources.costs.flush();
    const input = { budgetId: "nlp/a b", amount: "100", currency: "USD", tags: { team: "nlp" } };
    const { status, body } = await ask("POST", "budgets", input);
    assertEquals([status, body.amount, body.currency], [200, "100", "USD"]);
    const id = encodeURIComponent(input.budgetId);
    assertEquals((await ask("PATCH", `budgets/${id}`, { amount: "161" })).body.amount, "161");
    const [budget] = (await ask("GET", "budgets")).body.rows;
    assertEquals([budget.spent, budget.remaining, budget.utilization], ["80.5", "80.5", 50]);
    assertMatch(budget.startTime, /^\d{4}-\d\d-\d\dT/);
    assertEquals((await ask("POST", "budgets", { ...input, amount: "7" })).body.error.code, "ALREADY_EXISTS");
    const wrong = await ask("POST", "budgets", { budgetId: "x", amont: "1" });
    assertEquals([wrong.status, wrong.body.error.code], [400, "UNKNOWN_FIELD"]);
    assertEquals((await ask("DELETE", `budgets/${id}`)).status, 204);
    assertEquals((await ask("DELETE", `budgets/${id}`)).status, 404);
    assertEquals((await ask("PATCH", `budgets/${id}`, {})).status, 404);
  });

  Deno.test(`Alerts, rules, clusters and services on ${name} are managed by requests`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url });
    const ask = sender(server);
    const rule = { field: "gpuUsage", below: 5, severity: "info", description: "idle" };
    assertEquals((await ask("PUT", "alert-rules/idle_gpu", rule)).body.name, "idle_gpu");
    const rules = (await ask("GET", "alert-rules")).body.rows;
    assert(rules.some((rule: { name: string }) => rule.name === "idle_gpu"));
    assert(rules.some((rule: { name: string }) => rule.name === "high_cpu_usage"));
    const metrics = { timestamp: Date.now(), clusterId: "prod", nodeId: "n/1", gpuUsage: 1 };
    await server.resources.hub.systemMetrics.add(metrics);
    await server.resources.hub.flush();
    const alert = await until(
      async () => (await ask("GET", "alerts")).body.rows[0],
      "the alert to be stored",
    );
    assertMatch(alert.firedAt, /^\d{4}-/);
    const id = encodeURIComponent(alert.alertId);
    const noted = await ask("POST", `alerts/${id}/acknowledge`, { by: "Ada" });
    assertEquals([noted.status, noted.body.acknowledgedBy], [200, "Ada"]);
    assertEquals((await ask("POST", `alerts/${id}/resolve`)).status, 200);
    assertEquals((await ask("GET", "alerts")).body.rows, []);
    assertEquals((await ask("GET", "alerts?resolved")).body.rows.length, 1);
    assertEquals((await ask("POST", "alerts/none/resolve")).status, 404);
    assertEquals((await ask("DELETE", "alert-rules/idle_gpu")).status, 204);
    assertEquals((await ask("DELETE", "alert-rules/idle_gpu")).status, 404);

    assertEquals((await ask("PUT", "clusters/prod", { nodes: ["n/1", "n2"] })).body.clusterId, "prod");
    assertEquals((await ask("GET", "clusters")).body.rows[0].nodes, ["n/1", "n2"]);
    assertEquals((await ask("GET", "views/clusters")).body.clusters[0].silentNodes, ["n2"]);
    assertEquals((await ask("DELETE", "clusters/prod")).status, 204);
    assertEquals((await ask("DELETE", "clusters/prod")).status, 404);
    const service = await ask("PUT", "services/api", { dependencies: ["db"] });
    assertEquals(service.body, { dependencies: ["db"], serviceName: "api" });
    assertEquals((await ask("GET", "services")).body.rows[0].serviceName, "api");
  });

  Deno.test(`Deliveries on ${name} are listed and undone by requests`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url });
    const ask = sender(server);
    const file = new Blob([
      "entryId,timestamp,resourceId,category,amount,currency\na,2026-01-05T00:00:00Z,r,gpu,0.1,USD\n",
    ]).stream();
    const { backend } = server.resources;
    const { delivery } = await importRecords(file, {
      backend,
      dataset: "cost_entries",
      format: "csv",
      source: "x",
    });
    const [found] = (await ask("GET", "deliveries")).body.rows;
    assertEquals(found.id, delivery!.id);
    assertEquals([found.parts[0].period, found.parts[0].totals], ["2026-01-01T00:00:00.000Z", {
      USD: "0.1",
    }]);
    const id = encodeURIComponent(found.id);
    assertEquals(await ask("POST", `deliveries/${id}/undo`), { status: 200, body: { deleted: 1 } });
    assertEquals((await ask("POST", `deliveries/${id}/undo`)).status, 404);
    assertEquals((await ask("GET", "deliveries")).body.rows[0].parts[0].ended.by, "undone");
    assertEquals((await ask("GET", "costs")).body.records, []);
  });
}

Deno.test("An anomaly is acknowledged by its id, and only that one", async () => {
  await using server = await openServer();
  const ask = sender(server);
  const { costs } = server.resources;
  const today = Math.floor(Date.now() / DAY) * DAY;
  for (const category of ["compute", "storage"]) {
    for (let day = -45; day < 0; day++) {
      const amount = day === -5 ? "500" : "10";
      await costs.entries.add(
        costEntry({ entryId: `${category}/${day}`, timestamp: today + day * DAY, category, amount }),
      );
    }
  }
  const list = async () => (await ask("GET", "views/anomalies")).body.rows;
  const found = (await list()).filter(({ kind }: { kind: string }) => kind === "high");
  assertEquals(found.length, 2);
  const path = `anomalies/${encodeURIComponent(found[1].anomalyId)}/acknowledge`;
  const { status, body } = await ask("POST", path, { by: "Ada" });
  const same = (await costs.getCostAnomalies()).find(({ anomalyId }) => anomalyId === found[1].anomalyId);
  assertEquals([same?.acknowledgedBy, same?.acknowledgedAt], ["Ada", Date.parse(body.acknowledgedAt)]);
  assertEquals([status, body.anomalyId, body.acknowledgedBy], [200, found[1].anomalyId, "Ada"]);
  assertMatch(body.acknowledgedAt, /^\d{4}-/);
  assertEquals((await ask("POST", path)).body, body);
  const note = { acknowledgedAt: body.acknowledgedAt, acknowledgedBy: "Ada" };
  const after = (await list()).filter(({ kind }: { kind: string }) => kind === "high");
  assertEquals(after, [found[0], { ...found[1], ...note }]);
  const missing = await ask("POST", "anomalies/none/acknowledge");
  assertEquals([missing.status, missing.body.error.code], [404, "NOT_FOUND"]);
  assertEquals((await ask("POST", path, { by: 1 })).status, 400);
});

Deno.test("Routes of administration read with the scope read and change with admin", () => {
  for (const { method, path, scope } of ADMIN_ROUTES) {
    assertEquals(scope, method === "GET" ? "read" : "admin", `${method} ${path}`);
  }
  assertEquals(new Set(BACKEND_ROUTES.map(({ scope }) => scope)), new Set(["read"]));
});

Deno.test("Requests about a budget or an alert that does not exist say so, and what exists", async () => {
  await using server = await openServer();
  const ask = sender(server);
  const change = async (id: string) => await ask("PATCH", `budgets/${id}`, { amount: "5" });
  const answer = (message: string, field: string) => ({
    status: 404,
    body: { error: { code: "NOT_FOUND", message, field } },
  });
  const missing = 'Cannot find a budget: budgetId "none" does not exist. Use the id of a budget';
  assertEquals(await change("none"), answer(`${missing} (there is none yet).`, "budgetId"));
  await ask("POST", "budgets", { budgetId: "nlp", amount: "10" });
  assertEquals(await change("none"), answer(`${missing} (nlp).`, "budgetId"));
  const { body: { error: again } } = await ask("POST", "budgets", { budgetId: "nlp", amount: "20" });
  assertMatch(again.message, /a budget with this id exists; change that one/);
  assertEquals(
    await ask("POST", "alerts/none/resolve"),
    answer(
      'Cannot find an alert: alertId "none" does not exist. Use the id of an active alert, as the list of alerts shows it.',
      "alertId",
    ),
  );
});

Deno.test("Bodies that are no JSON objects are refused with 400", async () => {
  await using server = await openServer();
  for (const body of ["[]", "{", "1", "null", '"x"']) {
    const { status, json } = await server.send("/api/v1/budgets", { method: "POST", body });
    assertEquals([status, json().error.code], [400, "INVALID_BODY"], body);
  }
});

Deno.test("Routes for --server refuse requests that no command makes", async () => {
  await using server = await openServer();
  const ask = sender(server);
  const read = (query: unknown, dataset = "cost_entries") => ask("POST", "backend/read", { dataset, query });
  const count = { function: "count" };
  const aggregate = (aggregation: unknown) =>
    ask("POST", "backend/aggregate", { dataset: "cost_entries", query: {}, aggregation });
  const refused = [
    () => read({}, "live_documents"),
    () => read(undefined),
    () => read([]),
    () => read({ "1=1; --": "x" }),
    () => read({ where: [{ field: "amount) OR (1=1", eq: 1 }] }),
    () => read({ where: [{ field: "category", gt: "a" }] }),
    () => read({ startTime: "0; DROP TABLE cost_entries" }),
    () => read({ limit: "1; DROP TABLE cost_entries" }),
    () => read({ order: "asc; DROP TABLE cost_entries" }),
    () => aggregate(undefined),
    () => aggregate({ groupBy: [], measures: [{ function: "sum", field: "category" }] }),
    () => aggregate({ groupBy: [], measures: [{ function: "pg_sleep", field: "amount" }] }),
    () => aggregate({ groupBy: [], measures: [{ function: "percentile", field: "amount", fraction: 0.5 }] }),
    () => aggregate({ groupBy: [{ field: "1" }], measures: [count] }),
    () => aggregate({ groupBy: [{ field: "tags" }], measures: [count] }),
    () => aggregate({ groupBy: [{ field: "tags", key: "a\0b" }], measures: [count] }),
    () => aggregate({ groupBy: [{ field: "amount" }], measures: [count] }),
    () => aggregate({ groupBy: "tags", measures: [count] }),
    () => aggregate({ groupBy: [], measures: [count], ranges: [{ start: "0", end: 1, stepMs: 1 }] }),
    () => aggregate({ groupBy: [], measures: [count], ranges: [{ start: 0, end: 1, stepMs: 0 }] }),
    () => ask("GET", "backend/documents"),
    () => ask("GET", "backend/documents?kind=token"),
    () => ask("GET", "backend/documents?kind=budget&kind=token"),
  ];
  for (const request of refused) {
    const { status, body } = await request();
    assertEquals(status, 400, request.toString());
    assert(body.error.code, request.toString());
  }
  assertEquals((await aggregate({ groupBy: [], measures: [count] })).body, {
    rows: [{ group: [], values: [0] }],
  });
  await server.resources.costs.entries.add(costEntry({ timestamp: NEW_YEAR }));
  const lines = (await server.send("/api/v1/backend/read", {
    method: "POST",
    body: JSON.stringify({ dataset: "cost_entries", query: {} }),
  })).text.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals([lines[0].records.length, lines.at(-1)], [1, { end: true }]);
  const large = await ask("POST", "backend/read", { x: "x".repeat(2 ** 20) });
  assertEquals([large.status, large.body.error.code], [413, "BODY_TOO_LARGE"]);
});
