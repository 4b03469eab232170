/** `alerts`, `metrics health` and `database maintain`, as a user runs them. */
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { DatabaseSync } from "node:sqlite";
import { type Backend, CostObservatory, ObservabilityHub, openBackend, type TelemetryEvent } from "../mod.ts";
import { openAlerts } from "../src/cli/alerts.ts";
import { AlertMonitor } from "../src/monitoring/alerts/alert_monitor.ts";
import { watchSilentNodes } from "../src/monitoring/alerts/silent_nodes.ts";
import { ALERT, LEASE } from "../src/monitoring/document_kinds.ts";
import { clusterHealthSummary, healthWindow } from "../src/monitoring/health.ts";
import { withLease } from "../src/monitoring/lease.ts";
import { DAY_MS } from "../src/records/calendar.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { costEntry, TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";
import { HttpReceiver } from "./receivers.ts";
import { RUN } from "./command.ts";
import { until } from "./until.ts";

/** A folder with a database, and the command in it. */
class Place extends TemporaryFolder {
  env: Record<string, string> = { OPENFINOPS_CONNECTION_STRING: "sqlite:///a.db" };

  async run(command: string, code = 0): Promise<{ out: string; err: string }> {
    const { stdout, stderr, ...found } = await new Deno.Command(Deno.execPath(), {
      args: [...RUN, ...command.split(" ")],
      cwd: this.path,
      env: this.env,
      stdin: "null",
    }).output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assertEquals(found.code, code, `${command}: ${err}`);
    return { out, err };
  }

  async json<T>(command: string, code = 0): Promise<T> {
    return JSON.parse((await this.run(`${command} --format json`, code)).out);
  }

  /** Tells the channel `ops` of the server. */
  useChannel(receiver: HttpReceiver): void {
    const channel = {
      name: "ops",
      type: "webhook",
      url: receiver.url(),
      secret: { env: "OPENFINOPS_SECRET" },
    };
    this.env.OPENFINOPS_CHANNELS = JSON.stringify([channel]);
    this.env.OPENFINOPS_SECRET = "s3cret";
  }

  async addMetrics(...records: Parameters<ObservabilityHub["collectSystemMetrics"]>[0][]): Promise<void> {
    await using hub = await ObservabilityHub.open({ connectionString: this.sqlite("a.db") });
    for (const record of records) await hub.collectSystemMetrics(record);
  }
}

const test = (title: string, run: (place: Place) => Promise<void>) =>
  Deno.test(`openfinops ${title}`, async () => {
    using place = new Place();
    await run(place);
  });

test("alerts rules lists, sets, disables and deletes rules", async (place) => {
  const set = "alerts rules idle_gpu --field gpuUsage --below 5 --for 30m --severity info --cluster-id prod";
  assertEquals((await place.run(set)).err, "Set: idle_gpu, gpuUsage below 5.\n");
  await place.run("alerts rules high_cpu_usage --disable");
  await place.run("alerts rules broken --dataset services --field status --equals down");
  const rules = await place.json<Record<string, unknown>[]>("alerts rules");
  const rule = (name: string) => rules.find((rule) => rule.name === name);
  const { durationMs, below, severity, clusterId } = rule("idle_gpu")!;
  assertEquals([durationMs, below, severity, clusterId], [1_800_000, 5, "info", "prod"]);
  assertEquals([rule("high_cpu_usage")?.isEnabled, rule("high_cpu_usage")?.above], [false, 90]);
  assertEquals(rule("broken")?.dataset, "service_metrics");
  const { out } = await place.run("alerts rules");
  assertMatch(out, /^idle_gpu +system_metrics +gpuUsage below 5 +1800 +info +prod +yes$/m);
  await place.run("alerts rules high_cpu_usage");
  await place.run("alerts rules idle_gpu --delete");
  const after = await place.json<Record<string, unknown>[]>("alerts rules");
  assertEquals(after.map(({ name, isEnabled }) => [name, isEnabled]).at(0), ["high_cpu_usage", true]);
  assert(!after.some(({ name }) => name === "idle_gpu"));
  for (
    const [command, expected] of [
      ["alerts rules new --below 5", /field must be given/],
      ["alerts rules new --field gpuUsage --below x", /below must be a finite number/],
      ["alerts rules new --field gpuUsag --below 5", /field must be one of/],
      ["alerts rules new", /There is no rule new/],
      ["alerts rules new --field gpuUsage --below 5 --for 5", /duration/],
    ] as const
  ) assertMatch((await place.run(command, 2)).err, expected);
});

test("alerts list, ack and resolve follow an alert", async (place) => {
  const hot = { timestamp: Date.now(), clusterId: "prod", nodeId: "gpu-01", temperature: 99 };
  await place.run("alerts rules hot --field temperature --above 90 --severity critical");
  await place.addMetrics(hot);
  const [alert] = await place.json<Record<string, unknown>[]>("alerts list");
  assertEquals([alert.alertId, alert.severity, alert.value], ["hot/prod/gpu-01", "critical", 99]);
  assertEquals(
    (await place.run("alerts ack hot/prod/gpu-01 --by kim")).err,
    "Acknowledged: hot/prod/gpu-01.\n",
  );
  assertMatch(
    (await place.run("alerts list")).out,
    /acknowledgedAt +acknowledgedBy\n[^]*^hot\/prod\/gpu-01 +critical +temperature above 90 +temperature +99 .* kim$/m,
  );
  await place.run("alerts resolve hot/prod/gpu-01");
  assertEquals(await place.json("alerts list"), []);
  const [resolved] = await place.json<Record<string, unknown>[]>("alerts list --all");
  assertEquals([resolved.alertId, typeof resolved.resolvedAt], ["hot/prod/gpu-01", "string"]);
  assertMatch((await place.run("alerts resolve hot/prod/gpu-01", 2)).err, /active alert/);
  assertMatch((await place.run("alerts ack", 2)).err, /Name an alert/);
});

test("metrics health exits with 3 when a registered node is silent for its interval", async (place) => {
  await place.run("alerts clusters prod --node gpu-01,gpu-02 --node gpu-03 --every 2h --region eu");
  assertEquals(await place.json("alerts clusters"), [
    { clusterId: "prod", nodes: ["gpu-01", "gpu-02", "gpu-03"], intervalMs: 7_200_000, region: "eu" },
  ]);
  const now = Date.now();
  const nodes = (ages: Record<string, number>) =>
    Object.entries(ages).map(([nodeId, age]) => ({ timestamp: now - age, clusterId: "prod", nodeId }));
  await place.addMetrics(...nodes({ "gpu-01": 0, "gpu-02": 3_600_000, "gpu-03": 3 * 3_600_000 }));
  const { out, err } = await place.run("metrics health", 3);
  assertMatch(out, /^prod +warning +67 +3 +1 down /m);
  assertMatch(err, /^prod: silent: gpu-03\nerror: Not healthy: 1 node is down\. .* \[UNHEALTHY\]\n$/);
  await place.run("alerts clusters prod --node gpu-01,gpu-02 --every 2h");
  await place.run("metrics health");
  await place.run("alerts clusters prod --delete");
  await place.run("metrics health");
  assertEquals(await place.json("alerts clusters"), []);
});

Deno.test("AlertMonitor.refresh() takes over rules and resolved alerts of another process", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const alerts = openAlerts(backend); // as the command has them
  const told: string[] = [];
  const emit = (event: TelemetryEvent) => told.push(event.message);
  const monitor = new AlertMonitor(backend.documents, emit);
  await monitor.load();
  let timestamp = Date.now() - 60_000;
  const observe = (temperature: number) => {
    monitor.observe("system_metrics", { timestamp: timestamp++, clusterId: "c", nodeId: "n", temperature });
  };
  await alerts.setRule({ name: "hot", field: "temperature", above: 50 });
  observe(60);
  assertEquals(told, []);
  await monitor.refresh();
  observe(60);
  await monitor.refresh(); // which changes nothing
  observe(60);
  assertEquals(told, ["warning: temperature above 50: c/n, temperature 60"]);
  await until(async () => (await backend.documents.read(ALERT)).length > 0, "the alert to be stored");
  await alerts.resolve("hot/c/n");
  observe(61);
  assertEquals(told.length, 1);
  await monitor.refresh();
  observe(62);
  assertEquals(told.slice(1), ["warning: temperature above 50: c/n, temperature 62"]);
  await alerts.setRule({ name: "hot", field: "temperature", above: 50, isEnabled: false });
  await monitor.refresh();
  observe(63);
  assertEquals(told.length, 2);
  await monitor.close();
  await backend.close();
});

Deno.test("clusterHealthSummary() has a node down before the window is over when its interval is shorter", async () => {
  await using hub = new ObservabilityHub();
  const now = Date.now();
  await hub.registerCluster({ clusterId: "prod", nodes: ["a"], intervalMs: 60_000 });
  for (const [nodeId, age] of [["a", 90_000], ["b", 30_000], ["c", 90_000]] as const) {
    await hub.collectSystemMetrics({ timestamp: now - age, clusterId: "prod", nodeId, cpuUsage: 50 });
  }
  const { clusters: [{ silentNodes, nodes, lastSeen }] } = await hub.getClusterHealthSummary({ at: now });
  assertEquals([silentNodes, nodes, lastSeen], [["a", "c"], 3, now - 30_000]);
});

Deno.test("watchSilentNodes() fires once for a silent node, and resolves when it reports", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  await using hub = await ObservabilityHub.open({ backend });
  await hub.registerCluster({ clusterId: "prod", nodes: ["a", "b"] });
  await hub.collectSystemMetrics({ timestamp: Date.now(), clusterId: "prod", nodeId: "b" });
  await hub.flush();
  await watchSilentNodes(backend);
  const first = await backend.documents.read(ALERT);
  assertEquals(first.map(({ id }) => id), ["node_silent/prod/a"]);
  await watchSilentNodes(backend);
  assertEquals(await backend.documents.read(ALERT), first);
  await hub.collectSystemMetrics({ timestamp: Date.now(), clusterId: "prod", nodeId: "a" });
  await hub.flush();
  await watchSilentNodes(backend);
  assertEquals(await hub.getAlerts(), []);
  const window = healthWindow();
  const { clusters } = await clusterHealthSummary(backend, { window, recent: [], alerts: [] });
  assertEquals(clusters[0].silentNodes, []);
  await hub.close();
  await backend.close();
});

test("database maintain deletes by dataset, and tells of budgets and silent nodes", async (place) => {
  await using receiver = new HttpReceiver();
  place.useChannel(receiver);
  const now = Date.now();
  const old = now - 100 * DAY_MS;
  await place.addMetrics({ timestamp: old }, { timestamp: now });
  await using costs = await CostObservatory.open({ connectionString: place.sqlite("a.db") });
  await costs.addCostEntry(costEntry({ timestamp: old }));
  await costs.addCostEntry(costEntry({ timestamp: now, entryId: "e2", amount: "9" }));
  await costs.flush();
  await place.run("costs set-budget all --amount 10 --threshold 80");
  await place.run("alerts clusters prod --node gpu-01");

  const kept = await place.run("database maintain");
  assertMatch(kept.out, /^Maintained sqlite:\/\/\/a\.db: deleted 0 records, \d new findings?\.\n$/);
  assertMatch(kept.err, /Budget all has reached 80 %: 9 of 10 USD are spent/);
  const told = receiver.received.length;
  const messages = receiver.received.map(({ text }) => JSON.parse(text))
    .filter(({ type }) => type !== "cost-anomaly").map(({ message }) => message).sort();
  assertEquals(messages, [
    "Budget all has reached 80 %: 9 of 10 USD are spent",
    "critical: Node is down: prod/gpu-01, silent true",
  ]);
  const { out, err } = await place.run("database maintain --retention metrics=30d --retention costs=50");
  assertEquals([out, err], ["Maintained sqlite:///a.db: deleted 2 records, 0 new findings.\n", ""]);
  assertEquals(receiver.received.length, told);
  for (const dataset of ["metrics", "costs"]) {
    assertEquals((await place.json<unknown[]>(`database query ${dataset}`)).length, 1);
  }
  assertMatch((await place.run("database maintain --retention metric=3", 2)).err, /Did you mean "metrics"/);
  assertMatch((await place.run("database maintain --every 1s", 2)).err, /at least 1m/);
});

test("database maintain prunes the ledger without a retention", async (place) => {
  await place.addMetrics({ timestamp: Date.now() });
  using database = new DatabaseSync(place.file("a.db"));
  database.exec(`UPDATE ledger SET committed_at = ${Date.now() - 31 * DAY_MS}`);
  await place.run("database maintain");
  assertEquals(database.prepare("SELECT count(*) AS rows FROM ledger").get()!.rows, 0);
  assertEquals((await place.json<unknown[]>("database query metrics")).length, 1);
});

Deno.test("openfinops database maintain creates the partitions of the coming weeks", async () => {
  await using database = await TestDatabase.create();
  using place = new Place();
  place.env.OPENFINOPS_CONNECTION_STRING = database.url;
  await place.run("database init");
  await Promise.all([1, 2].map(() => place.run("database maintain")));
  const backend = await openBackend({ connectionString: database.url });
  const { datasets } = await backend.stats();
  assert(datasets.system_metrics.partitions! >= 5, `${datasets.system_metrics.partitions}`);
  assert(datasets.cost_entries.partitions! >= 2, `${datasets.cost_entries.partitions}`);
  await backend.close();
});

test("database maintain runs once at a time, and again after a crash", async (place) => {
  await place.run("database init");
  const backend = await openBackend({ connectionString: place.sqlite("a.db") });
  const busy = await withLease(backend.documents, "maintenance", () => place.run("database maintain"));
  assertEquals([busy?.out, busy?.err], [
    "",
    "Another process maintains this database now. Nothing was done.\n",
  ]);
  assertMatch((await place.run("database maintain")).out, /^Maintained/); // it was given back
  const [{ body }] = await backend.documents.read(LEASE);
  const write = (until: number) =>
    backend.documents.write({ kind: LEASE, id: "maintenance", body: { ...body as object, until } });
  await write(Date.now() - 1); // of a process that was killed
  assertMatch((await place.run("database maintain")).out, /^Maintained/);
  await write(Date.now() + DAY_MS); // of a clock that was far ahead
  assertMatch((await place.run("database maintain")).out, /^Maintained/);
  await backend.close();
});

Deno.test("withLease() lets one of many processes work at a time", async () => {
  using folder = new TemporaryFolder();
  const config = { connectionString: folder.sqlite() };
  const backends: Backend[] = [];
  for (let i = 0; i < 4; i++) backends.push(await openBackend(config));
  let atOnce = 0;
  let most = 0;
  const done = await Promise.all(backends.map(({ documents }) =>
    withLease(documents, "x", async () => {
      most = Math.max(most, ++atOnce);
      await new Promise((resolve) => setTimeout(resolve, 20));
      return atOnce--;
    })
  ));
  assert(most === 1 && done.some((result) => result !== undefined), String(done));
  for (const backend of backends) await backend.close();
});

test("database maintain --every goes on until SIGTERM", async (place) => {
  if (Deno.build.os === "windows") return; // has no signals to send
  await place.run("database init");
  const process = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "database", "maintain", "--every", "1m"],
    cwd: place.path,
    env: place.env,
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let out = (await reader.read()).value ?? "";
  process.kill("SIGTERM");
  for (let read = await reader.read(); !read.done; read = await reader.read()) out += read.value;
  assertEquals(out.match(/^Maintained/gm)?.length, 1, out);
  assertEquals((await process.status).code, 0);
});

test("collect, import and costs price notify before they end", async (place) => {
  await using receiver = new HttpReceiver();
  place.useChannel(receiver);
  const told = () =>
    receiver.received.splice(0).map(({ text }) => JSON.parse(text)).map(({ type, details }) =>
      `${type} ${details.budgetId} ${details.threshold}`
    ).sort();
  for (const id of ["meter", "bill", "model"]) {
    await place.run(`costs set-budget ${id} --amount 1 --threshold 100 --resource-id ${id}`);
  }
  const collect = "collect --duration 100ms --interval 100ms --cost-per-hour 120 --node-id meter";
  assertMatch((await place.run(collect)).err, /^Sent 1 notification\.$/m);
  assertEquals(told(), ["budget-threshold meter 100"]);

  Deno.writeTextFileSync(
    place.file("bill.csv"),
    `timestamp,resourceId,category,amount,currency\n${Date.now()},bill,c,2,USD\n`,
  );
  const { err } = await place.run("database import costs bill.csv");
  assertMatch(err, /Budget bill has reached 100 %: 2 of 1 USD are spent\nSent 1 notification\.\n$/);
  assertEquals(told(), ["budget-threshold bill 100"]);
  assertEquals((await place.run("database import costs bill.csv")).err, "");

  const use = { timestamp: Date.now(), usageId: "u", model: "model", inputTokens: 3_000_000 };
  Deno.writeTextFileSync(
    place.file("usage.ndjson"),
    JSON.stringify({ ...use, provider: "own", serviceName: "s" }),
  );
  await place.run("database import usage usage.ndjson");
  await place.run("prices set model --provider own --unit input --amount 1");
  const priced = await place.run("costs price");
  assertEquals(priced.out.split("\n")[0], "Priced 1 use: 1 added.");
  assertEquals(told(), ["budget-threshold model 100"]);
});

test("database import waits 5 seconds at most for a channel that does not answer", async (place) => {
  await using receiver = new HttpReceiver();
  place.useChannel(receiver);
  const held = Promise.withResolvers<Response>();
  receiver.answer = () => held.promise;
  for (const id of ["all", "more"]) await place.run(`costs set-budget ${id} --amount 1 --threshold 100`);
  Deno.writeTextFileSync(
    place.file("bill.csv"),
    `timestamp,resourceId,category,amount,currency\n${Date.now()},r,c,2,USD\n`,
  );
  const { err } = await place.run("database import costs bill.csv");
  assertMatch(err, /^Not sent: 1 notification to ops: no answer in time\. The outbox keeps it; /m);
  held.resolve(new Response());
  receiver.answer = () => new Response();
  assertEquals((await place.run("notify flush")).err, "Sent 2 notifications.\n");
  assertEquals([receiver.keys.length, new Set(receiver.keys).size], [3, 2]);
  assertEquals((await place.json<{ state: string }[]>("notify list")).map(({ state }) => state), [
    "sent",
    "sent",
  ]);
  assertEquals((await place.run("notify flush")).err, "Nothing to send.\n");
  const files = [...Deno.readDirSync(place.path)].map(({ name }) => Deno.readTextFileSync(place.file(name)));
  assert(!/T0KEN|s3cret/.test(`${err}${files}`), "the database or a message holds a secret");
});

test("metrics health exits with 3 when a notification was given up", async (place) => {
  await using receiver = new HttpReceiver();
  place.useChannel(receiver);
  receiver.answer = () => new Response(null, { status: 410 });
  await place.run("costs set-budget all --amount 1 --threshold 100");
  Deno.writeTextFileSync(
    place.file("bill.csv"),
    `timestamp,resourceId,category,amount,currency\n${Date.now()},r,c,2,USD\n`,
  );
  await place.run("database import costs bill.csv");
  await place.run("metrics health");
  using database = new DatabaseSync(place.file("a.db"));
  // As if the first attempt had been a day ago.
  database.exec(
    "UPDATE live_documents SET body = json_set(body, '$.firstAt', 0) WHERE kind = 'notification'",
  );
  const { err } = await place.run("notify flush", 1);
  assertMatch(err, /^Not sent: 1 notification to ops: the server answered 410\. Given up after a day; /m);
  const health = await place.run("metrics health", 3);
  assertMatch(health.err, /^error: Not healthy: 1 notification was given up\. .* \[UNHEALTHY\]$/m);
  assertMatch((await place.run("notify list --state dead")).out, / ops +dead .* the server answered 410 /);
  receiver.answer = () => new Response();
  assertMatch((await place.run("notify flush")).err, /^Nothing to send\.\n$/);
  assertMatch((await place.run("notify flush --dead")).err, /^Sent 1 notification\.\n$/);
  await place.run("metrics health");
});
