import { userInfo } from "node:os";
import { dirname } from "node:path";
import { CostObservatory, ObservabilityHub, openBackend } from "../mod.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { trendsOf } from "../src/cli/aggregation.ts";
import { formatTable } from "../src/cli/output.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { openfinops, RUN, withoutSlowMeasures } from "./command.ts";
import { databaseUrl, TestDatabase } from "./postgres_server.ts";
import { until } from "./until.ts";

/** The command with short waits for locks and deadlines. */
const HURRIED = [...RUN.slice(0, -1), "--preload", new URL("hurry.ts", import.meta.url).href, RUN.at(-1)!];

const test = (title: string, run: (folder: TemporaryFolder) => Promise<void>) =>
  Deno.test(`openfinops ${title}`, async () => {
    using folder = new TemporaryFolder();
    await run(folder);
  });

const AT = ["--connection-string", "sqlite:///a.db"];

/** A database with three metrics and three costs. */
async function fill(folder: TemporaryFolder): Promise<void> {
  const config = { connectionString: folder.sqlite("a.db") };
  await using hub = await ObservabilityHub.open(config);
  await using costs = await CostObservatory.open(config);
  for (let i = 0; i < 3; i++) {
    await hub.collectSystemMetrics({ timestamp: NEW_YEAR + i * 1000, nodeId: `n${i}`, cpuUsage: i + 0.5 });
    await costs.addCostEntry(costEntry({ entryId: `e${i}`, amount: "0.0000008", description: 'a "b", c' }));
  }
}

test("keeps what a driver prints when it is loaded out of its results", async (folder) => {
  await fill(folder);
  // As `@db/sqlite` does before its first download; then it cannot be had, and the built-in driver is taken.
  Deno.writeTextFileSync(
    folder.file("driver.ts"),
    `console.log("Downloading", "https://example.com/sqlite3"); console.table([1]); console.info("copied");
    throw new Error("no network");`,
  );
  const project = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));
  const imports = { ...project.imports, "@db/sqlite": `file://${folder.file("driver.ts")}` };
  Deno.writeTextFileSync(folder.file("map.json"), JSON.stringify({ imports }));
  const [run, ...rest] = RUN;
  for (const format of ["json", "ndjson", "csv"]) {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [run, "--no-lock", `--import-map=${folder.file("map.json")}`, ...rest].concat(
        ["database", "query", "metrics", "--format", format, ...AT],
      ),
      cwd: folder.path,
    }).output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assertEquals(code, 0, err);
    assertMatch(err, /Downloading https:/);
    assert(!/Downloading|copied|idx/.test(out), out);
    if (format === "json") assertEquals(JSON.parse(out).length, 3);
  }
});

test("--help lists all commands, and leads with examples", async ({ path: cwd }) => {
  const { code, out, err } = await openfinops(["--help"], { cwd });
  assertEquals([code, err], [0, ""]);
  const commands = [
    ...out.matchAll(/^ {2}((?:(?:database|metrics|costs|prices|alerts|token|notify) )?[a-z-]+) {2,}/gm),
  ].map((
    [, name],
  ) => name);
  assertEquals(commands, [
    "collect",
    "serve",
    "probe",
    "dashboard",
    "report",
    "database init",
    "database test-connection",
    "database stats",
    "database query",
    "database import",
    "database deliveries",
    "database verify",
    "database export",
    "database backup",
    "database migrate",
    "database cleanup",
    "database maintain",
    "database delete",
    "database dead-letter",
    "database examples",
    "metrics health",
    "costs summary",
    "costs reconcile",
    "costs budgets",
    "costs check",
    "costs anomalies",
    "costs ack",
    "costs set-budget",
    "costs price",
    "costs allocate",
    "prices list",
    "prices show",
    "prices test",
    "prices set",
    "alerts rules",
    "alerts list",
    "alerts ack",
    "alerts resolve",
    "alerts clusters",
    "token create",
    "token list",
    "token revoke",
    "notify flush",
    "notify list",
    "notify test",
  ]);
  for (const name of commands) {
    const help = await openfinops([...name.split(" "), "--help"], { cwd });
    assertEquals([help.code, help.err], [0, ""]);
    const [summary, title, ...lines] = help.out.split("\n").filter((line) => line !== "");
    assert(summary.endsWith(".") && title === "Examples:", help.out);
    const examples = lines.slice(0, lines.findIndex((line) => !line.startsWith("  ")));
    assert(examples.length > 0, help.out);
    for (const example of examples) assertMatch(example, new RegExp(`deno run -A \\S*cli\\.ts ${name}( |$)`));
  }
  assert((await openfinops(["database", "--help"], { cwd })).out.includes("database init"));
});

test("names the command in its texts as it was called", async (folder) => {
  const { path: cwd } = folder;
  if (Deno.build.os === "windows") return; // its shells do not set the variable _
  const install = ["install", "-q", "-g", "-f", "-A", "-n", "costs-tool", "--root", cwd, "--config"];
  const config = new URL("../deno.json", import.meta.url).pathname;
  const { success } = await new Deno.Command(Deno.execPath(), { args: [...install, config, RUN.at(-1)!] })
    .output();
  assert(success);
  const shell = async (command: string, env: Record<string, string> = {}) => {
    const { stdout } = await new Deno.Command("bash", { args: ["-c", command], cwd, env }).output();
    return new TextDecoder().decode(stdout);
  };
  const PATH = `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`;
  const installed = await shell("bin/costs-tool --help; true", { PATH });
  assert(installed.includes("\n  costs-tool collect --duration 10s"), installed);
  const collected = await shell("bin/costs-tool collect --duration 100ms; true", { PATH });
  assert(collected.includes("\n  costs-tool database stats\n"), collected);
  Deno.symlinkSync(new URL("..", import.meta.url).pathname, folder.file("checkout"));
  const run = await shell("cd checkout && deno run -q -A --cached-only cli.ts --help; true", { PATH });
  assert(run.includes("\n  deno run -A cli.ts collect --duration 10s"), run);
});

test("accepts the options and variables of the original OpenFinOps", async (folder) => {
  const { path: cwd } = folder;
  await fill(folder);
  const days = String(Math.ceil((Date.now() - NEW_YEAR) / 86_400_000) + 1);
  const env = { OPENFINOPS_DB_URL: "sqlite:///a.db" };
  const query = ["database", "query", "--format", "json"];
  const costs = await openfinops([...query, "--table", "cost_entries", "--days", days], { cwd, env });
  assertEquals([costs.code, JSON.parse(costs.out).length], [0, 3]);
  const now = { timestamp: Date.now(), clusterId: "c", nodeId: "new" };
  {
    await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite("a.db") });
    await hub.collectSystemMetrics(now);
  }
  const recent = await openfinops([...query, "--table", "system_metrics", "--days", "1"], { cwd, env });
  assertEquals(JSON.parse(recent.out).map(({ nodeId }: { nodeId: string }) => nodeId), ["new"]);
  const all = await openfinops(["database", "query", "--table", "all"], { cwd, env });
  assertEquals(all.out.split("\n").filter((line) => /^[a-z]+$/.test(line)), [
    "metrics",
    "services",
    "devices",
    "usage",
    "costs",
    "points",
  ]);

  const cleanup = ["database", "cleanup", "--dry-run", "--format", "json"];
  const deleted = async (args: string[], more: Record<string, string> = {}) =>
    JSON.parse((await openfinops([...cleanup, ...args], { cwd, env: { ...env, ...more } })).out);
  assertEquals((await deleted(["--days", days])).system_metrics, 0);
  assertEquals((await deleted(["--days", "1"])).system_metrics, 3);
  assertEquals((await deleted([], { OPENFINOPS_RETENTION_DAYS: days })).system_metrics, 0);
  assertEquals((await deleted(["--days", "1"], { OPENFINOPS_RETENTION_DAYS: days })).system_metrics, 3);

  const inMemory = await openfinops(["database", "stats"], { cwd, env: { OPENFINOPS_BACKEND: "in_memory" } });
  assertEquals([inMemory.code, inMemory.out.split("\n")[0]], [0, "memory"]);
  const wrong: [string[], Record<string, string>, string][] = [
    [[...query, "costs", "--table", "cost_entries"], {}, "both name a dataset"],
    [[...query, "--since", "1d", "--days", "1"], {}, "--days and --since"],
    [[...query, "--days", "x"], {}, "--days"],
    [[...query, "--table", "all"], {}, "--table all"],
    [[...cleanup, "--days", "1", "--retention-days", "1"], {}, "--retention-days and --days"],
    [cleanup, { OPENFINOPS_RETENTION_DAYS: "x" }, "OPENFINOPS_RETENTION_DAYS"],
  ];
  for (const [args, more, message] of wrong) {
    const { code, err } = await openfinops(args, { cwd, env: { ...env, ...more } });
    assertEquals(code, 2);
    assert(err.includes(message), err);
  }
});

test("lists commands and exits with 2 when none is given", async ({ path: cwd }) => {
  for (const [group, least] of [[[], 16], [["database"], 15]] as const) {
    const { code, out, err } = await openfinops([...group], { cwd });
    assertEquals([code, out], [2, ""]);
    const listed = err.split("\n").filter((line) => /^ {2}(collect|database [a-z-]+) {2,}\S/.test(line));
    assertEquals(listed.length, least, err);
    assertMatch(err, /\n\nerror: Name a command.*\[MISSING_ARGUMENT\]\n$/);
  }
  const [bare, help] = [await openfinops([], { cwd }), await openfinops(["--help"], { cwd })];
  assertEquals(bare.err, `${help.out}\nerror: Name a command. [MISSING_ARGUMENT]\n`);
});

test("database query costs shows the basis where one is estimated", async ({ path: cwd }) => {
  const rows = (basis: string) =>
    `entryId,timestamp,resourceId,category,amount,currency,basis\n` +
    `a,2026-01-05T00:00:00Z,r,gpu,1,USD,\nb,2026-01-04T00:00:00Z,r,gpu,2,USD,${basis}\n`;
  for (const [basis, shown] of [["", ["USD", "USD"]], ["estimated", ["billed", "estimated"]]] as const) {
    const at = ["--connection-string", `sqlite:///${basis || "billed"}.db`];
    Deno.writeTextFileSync(`${cwd}/in.csv`, rows(basis));
    assertEquals((await openfinops(["database", "import", "costs", "in.csv", ...at], { cwd })).code, 0);
    const { out } = await openfinops(["database", "query", "costs", ...at], { cwd });
    const [header, ...lines] = out.trim().split("\n").map((line) => line.trim().split(/ +/).at(-1));
    assertEquals([header, lines], [basis ? "basis" : "currency", [...shown]]);
  }
});

test("names the user that acknowledges and imports, also without $USER", async (folder) => {
  const { path: cwd } = folder;
  const config = { connectionString: folder.sqlite("a.db") };
  await using hub = await ObservabilityHub.open(config);
  await hub.setAlertRule({ name: "idle", field: "gpuUsage", below: 5, severity: "info" });
  await hub.systemMetrics.add({ timestamp: Date.now(), clusterId: "c", nodeId: "n", gpuUsage: 1 });
  await hub.flush();
  await until(async () => (await hub.getAlerts()).length, "the alert to be stored");
  const input = "entryId,timestamp,resourceId,category,amount,currency\na,2026-01-05T00:00Z,r,c,1,USD\n";
  const [deno, ...rest] = RUN;
  const few = [
    deno,
    ...rest.flatMap((arg) => arg === "-A" ? ["--allow-read", "--allow-write", "--allow-env"] : [arg]),
  ];
  const { USER: _user, LOGNAME: _logname, USERNAME: _username, ...env } = Deno.env.toObject();
  const cases: [readonly string[], Record<string, string>, string][] = [
    [RUN, { USER: "kim", LOGNAME: "x" }, "kim"],
    [RUN, { USER: "", LOGNAME: "lee" }, "lee"],
    [RUN, {}, userInfo().username],
    [few, {}, "unknown user"],
  ];
  for (const [run, user, expected] of cases) {
    const command = async (...args: string[]) => {
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [...run, ...args, ...AT],
        cwd,
        env: { ...env, ...user },
        clearEnv: true,
      }).output();
      assert(success, new TextDecoder().decode(stderr));
    };
    Deno.writeTextFileSync(`${cwd}/in.csv`, input);
    await command("database", "import", "costs", "in.csv", "--source", `s${expected}`.replace(" ", "-"));
    await command("alerts", "ack", "idle/c/n");
    const [{ acknowledgedBy }] = await hub.getAlerts();
    const listed = await openfinops(["database", "deliveries", "--format", "json", ...AT], { cwd });
    assertEquals([acknowledgedBy, JSON.parse(listed.out).at(-1).user], [expected, expected]);
  }
});

test("--version prints the version in deno.json", async ({ path: cwd }) => {
  const { version } = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));
  assertEquals(await openfinops(["--version"], { cwd }), {
    code: 0,
    out: `openfinops ${version}\n`,
    err: "",
  });
});

test("exits with 2 and suggests the nearest name when a word is unknown", async ({ path: cwd }) => {
  const wrong: [string[], string][] = [
    [[], "Name a command. [MISSING_ARGUMENT]"],
    [["database"], 'Name a command after "database". [MISSING_ARGUMENT]'],
    [["database", "query", "costs", "--top", "3"], "Name their fields with --group-by."],
    [["query", "costs"], 'Did you mean "database query"?'],
    [["databse", "init"], 'Did you mean "database init"?'],
    [["colect"], 'Did you mean "collect"?'],
    [["database", "query", "--limt", "5"], "Unknown option --limt. Did you mean --limit?"],
    [["serve", "--port", "80"], "Unknown option --port. Did you mean --listen?"],
    [["database", "stats", "--db", "a.db"], "Unknown option --db. Did you mean --connection-string?"],
    [["database", "query", "metrcs"], 'Did you mean "metrics"?'],
    [["database", "query", "metrics", "costs"], 'Unexpected argument "costs".'],
    [["database", "query", "--limit"], "--limit N"],
    [["database", "query", "--limit", "-1"], 'from 0, not "-1"'],
    [["database", "query", "--limit", "many"], "a whole number from 0"],
    [["database", "query", "--since", "yesterdy"], "Did you mean yesterday?"],
    [["database", "query", "--since", "2026-02-30"], 'not "2026-02-30"'],
    [
      ["database", "migrate", "--from", "sqlite:///a.db", "--to", "sqlite:///b.db", "--until", "x"],
      'not "x"',
    ],
    [
      ["database", "query", "--since", "2026-02-01", "--until", "2026-01-01", ...AT],
      "--since (2026-02-01T00:00:00.000Z) must be no later than --until (2026-01-01T00:00:00.000Z).",
    ],
    [["metrics", "health", "--at", "1972-01-01"], "a time from 1973-03-03T09:46:40.000Z on"],
    [["database", "query", "--format", "cvs"], 'Unknown format "cvs". Did you mean "csv"?'],
    [["database", "query", "costs", "--group-by", "team"], "groupBy must be a name such as tags.team,"],
    [["database", "query", "costs", "--group-by", "category", "--top", "0"], "from 1"],
    [["database", "query", "costs", "--compare", "year"], "Give --bucket"],
    [["database", "query", "costs", "--bucket", "1x"], "bucket must be a span such as"],
    [
      ["database", "query", "--bucket", "1d", "--time-zone", "Mars"],
      "--time-zone must be the name of a time zone",
    ],
    [
      ["database", "query", "--bucket", "1d", "--since", "1d", "--until", "2d"],
      "must be no later than --until",
    ],
    [["database", "query", "--top", "0"], "--top must be a whole number from 1"],
    [["database", "query", "--measure", "cpuUsage"], "such as cpuUsage.avg"],
    [["database", "query", "--measure", "cpuUsage.mean"], "such as p95"],
    [["database", "query", "costs", "--measure", "amount.avg"], "must be a name such as amount,"],
    [["database", "query", "costs", "--node-id", "n"], "does not apply to cost_entries"],
    [["database", "cleanup", "--yes=1"], "takes no value"],
    [["database", "cleanup", "--retention-days", "x"], "a number from 0"],
    [["database", "cleanup"], "Pass --yes to confirm, or --dry-run to count."],
    [["database", "dead-letter"], "Name an action: list, retry, purge."],
    [["database", "dead-letter", "lst", "--spool-directory", "s"], 'Did you mean "list"?'],
    [["database", "dead-letter", "list"], "--dead-letter-directory or --spool-directory"],
    [["collect", "--interval", "1"], "such as 250ms"],
    [["collect", "--interval", "1ms"], "at least 100ms"],
    [["collect", "--interval", "30d"], "at most 24d"],
    [["collect", "--cost-per-hour", "2,50"], "2.50"],
    [["collect", "--cost-per-hour", "1e30"], "2.50"],
    [["collect", "--cost-per-hour", "-3"], "2.50"],
    [["collect", "--tag", "team", ...AT], "KEY=VALUE such as team=nlp"],
    [["collect", "--cost-per-hour", "1", "--currency", "usd", ...AT], "spelled USD"],
    [["database", "stats", "--connection-string", "mysql://root:secret@h/d"], 'scheme "mysql"'],
    [["database", "stats", "--backend", "sqlit"], "must be memory, sqlite"],
    [["database", "examples", "chrt"], 'Did you mean "chart"?'],
  ];
  const runs = await Promise.all(
    wrong.map(async ([args, expected]) => ({ args, expected, ...await openfinops(args, { cwd }) })),
  );
  for (const { args, expected, code, out, err } of runs) {
    assertEquals([code, out], [2, ""], args.join(" "));
    assert(err.includes(expected), `${args.join(" ")}: ${err}`);
    assert(!/\bsecret\b/.test(err), err);
  }
  assertEquals([...Deno.readDirSync(cwd)], []);
});

test("hides the password when a connection string is misplaced", async ({ path: cwd }) => {
  const url = "postgresql://agent:secret@db.example/telemetry";
  const long = `postgresql://agent:${"secret".repeat(20)}@db.example/telemetry`;
  const wrong = [
    ["database", "migrate", url, "sqlite:///b.db"],
    ["database", "stats", "--backend", url],
    ["database", "stats", "--backend", long],
    ["database", "import", url, "a.csv"],
    ["database", "import", "costs", url],
    ["database", "statz", url],
    ["database", "query", "--since", `${url}?password=secret`],
    ["database", "query", "--limit", "postgresql://agent:my secret@db.example"],
  ];
  const runs = await Promise.all(wrong.map((args) => openfinops(args, { cwd })));
  for (const { code, err } of runs) {
    assert(code > 0 && err.includes("may hold a password") && !err.includes("secret"), err);
  }
});

test("finds what is wrong with the arguments before it opens a database", async ({ path: cwd }) => {
  Deno.writeTextFileSync(`${cwd}/in.csv`, "a,b\n1,2\n");
  const wrong = [
    ["costs", "set-budget", "x", ...AT],
    ["costs", "set-budget", "x", "--currency", "EUR", ...AT],
    ["costs", "set-budget", "x", "--delete", ...AT],
    ["costs", "set-budget", "x", "--amount", "-1", ...AT],
    ["costs", "set-budget", "x".repeat(300), "--amount", "1", ...AT],
    ["costs", "set-budget", "x", "--amount", "1", "--threshold", "0", ...AT],
    ["costs", "set-budget", "x", "--amount", "1", "--period", "week", ...AT],
    ["database", "import", "costs", "in.csv", "--map", "none=a", ...AT],
    ["database", "import", "metrics", "in.csv", "--format", "focus", ...AT],
    ["database", "import", "costs", "in.csv", "none.csv", ...AT],
    ["database", "init", "--retention-days", "x", ...AT],
    ["database", "init", "--retention-days", "30", ...AT],
    ["database", "migrate", "--from", "sqlite:///none.db", "--to", "sqlite:///a.db"],
    ["collect", "--duration", "x", ...AT],
    ["collect", "--cost-per-hour", "x", ...AT],
    ["database", "init", "--connection-string", "sqlite:///"],
  ];
  const runs = await Promise.all(wrong.map(async (args) => ({ args, ...await openfinops(args, { cwd }) })));
  for (const { args, code, out } of runs) assertEquals([code > 0, out], [true, ""], args.join(" "));
  assertEquals([...Deno.readDirSync(cwd)].map(({ name }) => name), ["in.csv"]);
});

test("exits with 1 and creates nothing when the database is missing", async ({ path: cwd }) => {
  for (const command of [["stats"], ["query"], ["test-connection"], ["cleanup", "--yes"]]) {
    const { code, out, err } = await openfinops(["database", ...command, ...AT], { cwd });
    assertEquals([code, out], [1, ""]);
    assert(err.includes("create the database with `openfinops database init`"), err);
  }
  assertEquals([...Deno.readDirSync(cwd)], []);
});

test("database init creates a database and can run again", async ({ path: cwd }) => {
  for (let i = 0; i < 2; i++) {
    const { code, out } = await openfinops(["database", "init", ...AT], { cwd });
    assertEquals([code, out], [0, "Ready: sqlite:///a.db (sqlite, schema version 6)\n"]);
  }
});

test("reads the connection string from the environment", async ({ path: cwd }) => {
  const env = { OPENFINOPS_CONNECTION_STRING: "sqlite:///env.db" };
  await openfinops(["database", "init"], { cwd, env });
  assertEquals([...Deno.readDirSync(cwd)].map(({ name }) => name), ["env.db"]);
});

test("prefers the option over the environment", async ({ path: cwd }) => {
  const env = {
    OPENFINOPS_BACKEND: "postgresql",
    OPENFINOPS_CONNECTION_STRING: "postgresql://127.0.0.1:1/d",
  };
  const { code, out } = await openfinops(["database", "init", ...AT], { cwd, env });
  assertEquals([code, out], [0, "Ready: sqlite:///a.db (sqlite, schema version 6)\n"]);
  const both = await openfinops(["database", "stats", "--backend", "postgresql", ...AT], { cwd });
  assertEquals(both.code, 2);
  assert(both.err.includes("the backend is postgresql, but the connection string names sqlite"), both.err);
});

test("database test-connection prints driver, version, write access and time", async (folder) => {
  const cwd = folder.path;
  await fill(folder);
  const { code, out } = await openfinops(["database", "test-connection", ...AT, "--format", "json"], { cwd });
  const { backend, writable, milliseconds, driver, sqliteVersion } = JSON.parse(out);
  assertEquals([code, backend, writable], [0, "sqlite", true]);
  assert(milliseconds >= 0 && ["node:sqlite", "@db/sqlite"].includes(driver));
  assertMatch(sqliteVersion, /^3\.\d+\.\d+$/);
  assertMatch((await openfinops(["database", "test-connection", ...AT], { cwd })).out, /writable +yes/);
});

test("database stats prints rows, times, totals and size in every format", async (folder) => {
  const cwd = folder.path;
  await fill(folder);
  const stats = async (format: string) =>
    (await openfinops(["database", "stats", ...AT, "--format", format], { cwd })).out;
  const { datasets, totals, storage } = JSON.parse(await stats("json"));
  assertEquals(datasets.system_metrics, {
    rows: 3,
    oldest: "2026-01-01T00:00:00.000Z",
    newest: "2026-01-01T00:00:02.000Z",
    retentionDays: 90,
  });
  assertEquals(totals, [{ currency: "USD", total: "0.0000024", count: 3 }]);
  assert(storage.fileSizeBytes > 0);
  assertMatch(await stats("table"), /system_metrics +3 +2026-01-01T00:00:00.000Z/);
  assertEquals((await stats("csv")).split("\n")[2], "service_metrics,0,,");
  assertEquals(JSON.parse((await stats("ndjson")).split("\n")[1]), {
    dataset: "service_metrics",
    rows: 0,
    retentionDays: 90,
  });
});

test("database query prints the newest records first in every format", async (folder) => {
  const cwd = folder.path;
  await fill(folder);
  const query = async (...args: string[]) =>
    (await openfinops(["database", "query", ...AT, ...args], { cwd })).out;
  assertEquals(JSON.parse(await query("metrics", "--limit", "2", "--format", "json")), [
    { timestamp: "2026-01-01T00:00:02.000Z", clusterId: "default", nodeId: "n2", cpuUsage: 2.5 },
    { timestamp: "2026-01-01T00:00:01.000Z", clusterId: "default", nodeId: "n1", cpuUsage: 1.5 },
  ]);
  assertEquals(JSON.parse(await query("--node-id", "nobody", "--format", "json")), []);
  const oldest = await query("metrics", "--order", "asc", "--limit", "1", "--format", "ndjson");
  assertEquals(JSON.parse(oldest).nodeId, "n0");
  const until = await query("metrics", "--until", "2026-01-01T00:00:01Z", "--format", "ndjson");
  assertEquals(JSON.parse(until).nodeId, "n0");
  const [header, first] = (await query("costs", "--format", "csv")).split("\n");
  assertEquals(header, costEntries.columns.map(({ field }) => field).join());
  assertMatch(first, /^e2,2026-01-01T00:00:00.000Z,gpu-01,gpu,0.0000008,USD,,,"a ""b"", c",+$/);
  assertMatch(await query("costs"), /^entryId +timestamp +resourceId +category +amount/);
});

test("treats a time before any record as the beginning", async (folder) => {
  const cwd = folder.path;
  await fill(folder);
  const rows = async (...args: string[]) => {
    const { code, out, err } = await openfinops([...args, ...AT, "--format", "csv"], { cwd });
    assertEquals(code, 0, err);
    return out.trimEnd().split("\n").length - 1;
  };
  for (const since of ["1972-01-01", "60000d", "999999999999d"]) {
    assertEquals(await rows("database", "query", "--since", since), 3);
    assertEquals(await rows("database", "query", "--until", since), 0);
  }
  assertEquals(await rows("database", "query", "--bucket", "1d", "--empty-buckets", "--since", "60000d"), 1);
  assertEquals(await rows("database", "query", "--since", "0.33333s"), 0);
  assertEquals(await rows("costs", "summary", "--since", "60000d"), 3);
  assertEquals(
    (await openfinops(["costs", "set-budget", "b", "--amount", "1", "--since", "60000d", ...AT], { cwd }))
      .code,
    0,
  );
});

test("database query prints a field once, and names the tags that there are", async ({ path: cwd }) => {
  {
    await using costs = await CostObservatory.open({ connectionString: `sqlite:///${cwd}/a.db` });
    for (const [i, resourceId] of ["r1", "r2", "r3"].entries()) {
      const tags = { user_team: "nlp", user_env: "prod" };
      await costs.addCostEntry(costEntry({ entryId: `e${i}`, amount: String(i + 1), resourceId, tags }));
    }
    await costs.addCostEntry(
      costEntry({ entryId: "est", amount: "4", resourceId: "r1", basis: "estimated" }),
    );
  }
  const query = (...args: string[]) =>
    openfinops(["database", "query", "costs", ...AT, "--group-by", ...args], { cwd });
  const csv = await query("currency,resourceId,basis", "--top", "1", "--format", "csv");
  assertEquals(
    csv.out,
    "currency,resourceId,basis,others,total,share,count\nUSD,r3,billed,,3,50,1\nUSD,,billed,yes,3,50,2\n" +
      "USD,r1,estimated,,4,100,1\n",
  );
  const table = await query("currency,resourceId", "--top", "1");
  assertMatch(table.out, /^currency +resourceId +basis +total +share +count\nUSD +r3 +billed /);
  assertMatch(table.out, /\nUSD +\(other\) +billed +3\.00 /);
  const expected = "No record has tags.team. The newest have tags: user_env, user_team.\n";
  assertEquals((await query("tags.team")).err, expected);
  assertEquals((await query("category", "--where", "tags.team=nlp")).err, `${expected}No costs match.\n`);
});

test("database query aggregates by time and group in every format", async (folder) => {
  const cwd = folder.path;
  await fill(folder);
  const query = async (...args: string[]) => {
    const { code, out, err } = await openfinops(["database", "query", ...AT, ...args], { cwd });
    const isByTeam = args.some((arg) => arg.includes("tags.team"));
    assertEquals([code, err], [0, isByTeam ? "No record has tags.team.\n" : ""]);
    return out;
  };
  const costs = [
    "costs",
    "--group-by",
    "category,tags.team",
    "--bucket",
    "1d",
    "--time-zone",
    "America/New_York",
  ];
  assertEquals(JSON.parse(await query(...costs, "--format", "json")), [{
    startTime: "2025-12-31T05:00:00.000Z",
    endTime: "2026-01-01T05:00:00.000Z",
    group: { category: "gpu", "tags.team": null },
    currency: "USD",
    total: "0.0000024",
    count: 3,
    share: 100,
  }]);
  assertEquals(JSON.parse(await query(...costs, "--format", "ndjson")).total, "0.0000024");
  assertEquals(
    await query(...costs, "--format", "csv"),
    "startTime,endTime,category,tags.team,currency,total,share,count\n" +
      "2025-12-31T05:00:00.000Z,2026-01-01T05:00:00.000Z,gpu,,USD,0.0000024,100,3\n",
  );
  assertMatch(
    await query(...costs),
    /^day +category +tags.team +currency +total +share +count\n2025-12-31 +gpu +\(none\) .* 0.0000024 +100.0 % +3\n$/,
  );
  const metrics = ["metrics", "--group-by", "nodeId", "--measure", "cpuUsage.avg,cpuUsage.p95", "--top", "1"];
  assertEquals(
    await query(...metrics, "--format", "csv"),
    "nodeId,others,count,cpuUsage.avg,cpuUsage.p95\nn2,,1,2.5,2.5\n,yes,2,1,\n",
  );
  const empty = [
    "--bucket",
    "1d",
    "--empty-buckets",
    "--since",
    "2026-01-01T00:00Z",
    "--until",
    "2026-01-03T00:00Z",
  ];
  const days = JSON.parse(await query("metrics", ...empty, "--format", "json")) as { count: number }[];
  assertEquals(days.map(({ count }) => count), [3, 0]);
});

Deno.test("formatTable() aligns columns of wide characters and combining marks", () => {
  const table = formatTable(["node", "n"], [["ノード", "a"], ["e\u0301te\u0301", "b"], ["😀", "c"], [
    "plain",
    "d",
  ]]);
  assertEquals(table.split("\n"), [
    "node    n",
    "ノード  a",
    "e\u0301te\u0301     b",
    "😀      c",
    "plain   d",
  ]);
});

Deno.test("formatTable() aligns numbers, bytes and percentages right", () => {
  const rows = [["a", "7", "512 B", "6.6 %", "1e-7", "n1"], ["bb", "1,000", "1.5 MiB", "", "-0.25", "7"]];
  assertEquals(formatTable(["x", "rows", "size", "to", "cost", "node"], rows).split("\n"), [
    "x    rows     size     to   cost  node",
    "a       7    512 B  6.6 %   1e-7  n1",
    "bb  1,000  1.5 MiB         -0.25  7",
  ]);
});

Deno.test("database query says that m is minutes when a bucket of minutes gives many rows", async () => {
  using folder = new TemporaryFolder();
  const connectionString = folder.sqlite();
  const backend = await openBackend({ connectionString });
  const records = Array.from({ length: 201 }, (_, i) => ({ timestamp: NEW_YEAR + i * 60_000 }));
  await write(backend, systemMetrics, records as never);
  await backend.close();
  const query = async (...args: string[]) => {
    const env = { OPENFINOPS_CONNECTION_STRING: connectionString };
    return (await openfinops(["database", "query", "metrics", "--since", "2025-12-01", ...args], {
      cwd: folder.path,
      env,
    }))
      .err;
  };
  assertEquals(await query("--bucket", "1m"), "201 rows: 1m is in minutes; months are 1mo.\n");
  assertEquals(await query("--bucket", "60s"), "");
  assertEquals(await query("--bucket", "2m"), "");
});

Deno.test("trendsOf() draws bars and merges buckets when there are many", () => {
  const rows = Array.from({ length: 120 }, (_, i) => ({
    startTime: i,
    group: { category: i % 2 ? "gpu" : null },
    currency: "USD",
    total: String(i % 2 ? i : 0),
  }));
  const trends = trendsOf(rows, 72);
  assertEquals(trends.map(([name, bars]) => [name, bars.length]), [["(none) USD", 60], ["gpu USD", 60]]);
  assertEquals(trendsOf(rows, 140)[0][1].length, 120);
  assertEquals(trendsOf(rows, 10)[0][1].length, 20);
  assertEquals([trends[0][1], trends[1][1][0], trends[1][1].at(-1)], ["▁".repeat(60), "▁", "█"]);
  const hours = [10, null, 40].map((avg, i) => ({ startTime: i, count: 1, fields: { cpuUsage: { avg } } }));
  assertEquals(trendsOf(hours), [["(all)", "▃▁█"]]);
  assertEquals(trendsOf([{ group: { category: "gpu" }, currency: "USD", total: "1" }]), []);
});

test("database query says so when it stops at the default limit", async (folder) => {
  const cwd = folder.path;
  const hub = await ObservabilityHub.open({ connectionString: folder.sqlite("a.db") });
  for (let i = 0; i < 150; i++) await hub.collectSystemMetrics({ timestamp: NEW_YEAR + i });
  await hub.close();
  const some = await openfinops(["database", "query", ...AT, "--format", "ndjson"], { cwd });
  assertEquals(some.out.trimEnd().split("\n").length, 100);
  assertEquals(some.err, "Stopped at 100 records; --limit 0 prints all.\n");
  const all = await openfinops(["database", "query", ...AT, "--format", "ndjson", "--limit", "0"], { cwd });
  assertEquals([all.out.trimEnd().split("\n").length, all.err], [150, ""]);
});

test("database cleanup counts in a dry run and deletes with --yes", async (folder) => {
  const cwd = folder.path;
  await fill(folder);
  const cleanup = async (...args: string[]) => {
    const { code, out, err } = await openfinops(
      ["database", "cleanup", ...AT, "--retention-days", "0", "--format", "json", ...args],
      { cwd },
    );
    assertEquals(code, 0);
    const isNamed = args.includes("--dataset");
    assertEquals(
      err,
      isNamed ? "" : "Costs and usage stay. To delete old ones, name them: --dataset costs,usage.\n",
    );
    return JSON.parse(out);
  };
  const none = { service_metrics: 0, device_metrics: 0, metric_points: 0 };
  const expected = { system_metrics: 3, ...none };
  assertEquals(await cleanup("--dry-run"), expected);
  assertEquals(await cleanup("--yes"), expected);
  assertEquals(await cleanup("--yes"), { system_metrics: 0, ...none });
  assertEquals(await cleanup("--yes", "--dataset", "costs,metrics"), { system_metrics: 0, cost_entries: 3 });
  for (const env of [{}, { OPENFINOPS_RETENTION_DAYS: "30" }] as Record<string, string>[]) {
    const args = ["database", "cleanup", ...AT, "--dataset", "costs", "--yes"];
    const { code, err } = await openfinops(args, { cwd, env });
    assertEquals(code, 2);
    assert(err.includes("Costs and usage are deleted only by an explicit --retention-days"), err);
  }
});

test("database cleanup leaves the rest to the next one after its time budget", async (folder) => {
  const backend = await openBackend({ connectionString: folder.sqlite("a.db") });
  const rows = Array.from({ length: 10_200 }, (_, i) => ({ timestamp: NEW_YEAR + i }));
  await write(backend, systemMetrics, rows);
  await backend.close();
  const args = ["database", "cleanup", ...AT, "--retention-days", "0", "--yes", "--format", "json"];
  const deleted = async (...more: string[]) =>
    JSON.parse((await openfinops([...args, ...more], { cwd: folder.path })).out).system_metrics;
  assertEquals(await deleted("--time-budget", "1ms"), 10_000); // a step takes longer, and is the only one
  assertEquals(await deleted(), 200);
});

test("database cleanup names costs that a budget keeps", async ({ path: cwd }) => {
  const costs = await CostObservatory.open({ connectionString: `sqlite:///${cwd}/a.db` });
  await costs.createBudget({ budgetId: "all", amount: "10", period: "1y" });
  await costs.addCostEntry({
    entryId: "e",
    timestamp: Date.now(),
    resourceId: "r",
    category: "gpu",
    amount: "1",
  });
  await costs.close();
  const which = ["--dataset", "costs", "--retention-days", "0"];
  const args = ["database", "cleanup", ...AT, ...which, "--yes", "--format", "json"];
  const { out, err } = await openfinops(args, { cwd });
  assertEquals(JSON.parse(out).cost_entries, 0);
  assertMatch(
    err,
    /^Costs since \d{4}-01-01T00:00:00\.000Z stay: they count in a current period of a budget\.\n$/,
  );
});

test("collect stores samples and exact costs and suggests commands", async ({ path: cwd }) => {
  const { code, out, err } = await openfinops(
    [
      "collect",
      ...AT,
      "--duration",
      "700ms",
      "--interval",
      "200ms",
      "--cluster-id",
      "c",
      "--cost-per-hour",
      "3600",
    ],
    { cwd },
  );
  assertEquals([code, withoutSlowMeasures(err)], [0, ""]);
  assertMatch(out, /^Stored \d+ samples? and \d+ cost entr(y|ies) in sqlite:\/\/\/a\.db\.\n\nTry next:\n/);
  const metrics = JSON.parse(
    (await openfinops(["database", "query", ...AT, "--format", "json"], { cwd })).out,
  );
  assert(metrics.length >= 1);
  for (const { clusterId, nodeId, memoryUsage } of metrics) {
    assertEquals([clusterId, nodeId], ["c", Deno.hostname()]);
    assert(memoryUsage > 0 && memoryUsage < 100);
  }
  // Each UTC minute in which it ran costs a sixtieth, and there are one or two.
  const costs = JSON.parse(
    (await openfinops(["database", "query", "costs", ...AT, "--format", "json"], { cwd })).out,
  );
  assert(costs.length === 1 || costs.length === 2, JSON.stringify(costs));
  for (const { entryId, timestamp, chargePeriodEnd, amount } of costs) {
    assertMatch(timestamp, /:00\.000Z$/);
    assertEquals(entryId, `c/${Deno.hostname()}/${timestamp.replace(":00.000Z", "Z")}`);
    assertEquals([amount, Date.parse(chargePeriodEnd) - Date.parse(timestamp)], ["60", 60_000]);
  }
});

test("collect gives its costs and samples the fields that budgets filter by", async ({ path: cwd }) => {
  const budget = [
    "costs",
    "set-budget",
    "nlp",
    "--amount",
    "1",
    ...AT,
    "--tag",
    "team=nlp",
    "--region",
    "eu",
  ];
  await openfinops([...budget, "--category", "gpu"], { cwd });
  const fields = [
    "--tag",
    "team=nlp",
    "--tag",
    "a=b=c",
    "--region",
    "eu",
    "--category",
    "gpu",
    "--label",
    "rack=7",
  ];
  const args = ["collect", ...AT, "--duration", "100ms", "--interval", "100ms", "--cost-per-hour", "60"];
  const { code, err } = await openfinops([...args, ...fields], { cwd });
  assertEquals(code, 0, err);
  const query = async (dataset: string) =>
    JSON.parse((await openfinops(["database", "query", dataset, ...AT, "--format", "json"], { cwd })).out);
  const [cost] = await query("costs");
  assertEquals([cost.tags, cost.region, cost.category], [{ team: "nlp", a: "b=c" }, "eu", "gpu"]);
  assertEquals((await query("metrics"))[0].labels, { rack: "7" });
  const budgets = await openfinops(["costs", "budgets", ...AT, "--format", "json"], { cwd });
  assert(Number(JSON.parse(budgets.out)[0].spent) >= 1, budgets.out);
});

test("collect suggests commands without the password", async ({ path: cwd }) => {
  await using database = await TestDatabase.create();
  const { username } = new URL(database.url);
  const connectionString = databaseUrl(database.url, database.name, username, "secret");
  const collect = ["collect", "--duration", "100ms"];
  const given = await openfinops([...collect, "--connection-string", connectionString], { cwd });
  const env = { OPENFINOPS_CONNECTION_STRING: connectionString };
  const fromEnvironment = await openfinops(collect, { cwd, env });
  for (const { code, out } of [given, fromEnvironment]) {
    assertEquals(code, 0, out);
    const [, hint] = out.split("\nTry next");
    assertMatch(hint, /database query metrics --limit 5\n.* database stats\n$/);
    assert(!hint.includes("://") && !out.includes("secret"), out);
  }
  assert(given.out.includes("with OPENFINOPS_CONNECTION_STRING set to the same:"), given.out);
});

test("collect ends with the reason when its first sample is refused", async ({ path: cwd }) => {
  const long = "x".repeat(300);
  const { code, err } = await openfinops(["collect", ...AT, "--duration", "5s", "--node-id", long], { cwd });
  assertEquals(code, 2);
  assert(err.includes("nodeId must be at most 255 characters"), err);
});

test("database test-connection tells a locked file from a read-only one", async (folder) => {
  await fill(folder);
  const { DatabaseSync } = await import("node:sqlite");
  const other = new DatabaseSync(folder.file("a.db"));
  other.exec("BEGIN IMMEDIATE");
  const given = ["database", "test-connection", "--sqlite-driver", "node:sqlite", ...AT];
  const { code, err } = await openfinops(given, { cwd: folder.path, run: HURRIED });
  assertEquals(code, 1);
  assertMatch(err, /: another process holds the lock \(.*\)\. .* \[LOCKED\]\n$/);
  other.exec("ROLLBACK");
  other.close();
});

test("collect exits with 1 when the database refuses its records", async ({ path: cwd }) => {
  const process = new Deno.Command(Deno.execPath(), {
    args: [...HURRIED, "collect", "--duration", "3s", "--connection-string", "sqlite:///gone.db"],
    cwd,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await until(() => exists(`${cwd}/gone.db-wal`), "the database to be opened");
  Deno.removeSync(`${cwd}/gone.db`);
  const { code, stderr } = await process.output();
  const err = new TextDecoder().decode(stderr);
  assertEquals(code, 1, err);
  assertMatch(err, /deleted or replaced[^]*Add --spool-directory DIR to keep records/);
});

test("database query escapes control characters in tables", async (folder) => {
  const hub = await ObservabilityHub.open({ connectionString: folder.sqlite("a.db") });
  await hub.collectSystemMetrics({ timestamp: NEW_YEAR, nodeId: "a\nb\x1b[31m" });
  await hub.close();
  const { out } = await openfinops(["database", "query", ...AT], { cwd: folder.path });
  assert(out.includes("a\\x0ab\\x1b[31m"), out);
});

test("collect closes cleanly on SIGINT, SIGTERM and SIGHUP", async ({ path: cwd }) => {
  if (Deno.build.os === "windows") return; // has no signals to send
  await Promise.all((["SIGINT", "SIGTERM", "SIGHUP"] as const).map(async (signal) => {
    const process = new Deno.Command(Deno.execPath(), {
      args: [...RUN, "collect", "--interval", "100ms", "--connection-string", `sqlite:///${signal}.db`],
      cwd,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    await until(() => exists(`${cwd}/${signal}.db-wal`), "the database to be opened");
    process.kill(signal);
    const { code, stdout } = await process.output();
    assertEquals(code, 0);
    const [, samples] = /^Stored (\d+) samples?/.exec(new TextDecoder().decode(stdout))!;
    const at = ["--connection-string", `sqlite:///${signal}.db`];
    const { out } = await openfinops(["database", "stats", ...at, "--format", "json"], { cwd });
    assertEquals(JSON.parse(out).datasets.system_metrics.rows, Number(samples));
    assert(!exists(`${cwd}/${signal}.db-wal`));
  }));
});

test("collect keeps records in the spool when it cannot store them", async (folder) => {
  const { path: cwd } = folder;
  const args = ["collect", "--interval", "100ms", "--duration", "300ms", "--spool-directory", "spool", ...AT];
  await openfinops(["database", "init", ...AT], { cwd });
  const { DatabaseSync } = await import("node:sqlite");
  const database = new DatabaseSync(folder.file("a.db"));
  // Readers do not notice; writers are refused for a reason that an operator must fix.
  database.exec(
    "CREATE TRIGGER t BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'attempt to write a readonly'); END",
  );
  const first = await openfinops(args, { cwd, run: HURRIED });
  assertEquals(first.code, 0, first.err);
  assert(first.err.includes("paused: "), first.err);
  const [, kept] = /^Kept (\d+) records? in the spool/m.exec(first.out)!; // one, on a slow machine
  assertMatch(first.out, /^Stored 0 samples/);
  database.exec("DROP TRIGGER t");
  database.close();
  const second = await openfinops(args, { cwd });
  const [, stored] = /^Stored (\d+) samples?/.exec(second.out)!;
  assert(Number(stored) > Number(kept), second.out);
  const { out } = await openfinops(["database", "stats", ...AT, "--format", "json"], { cwd });
  assertEquals(JSON.parse(out).datasets.system_metrics.rows, Number(stored));
});

test("database dead-letter lists, retries and purges records", async (folder) => {
  const { path: cwd } = folder;
  const { DatabaseSync } = await import("node:sqlite");
  const deadLetterDirectory = folder.file("letters");
  const costs = await CostObservatory.open({
    connectionString: folder.sqlite("a.db"),
    sqliteDriver: "node:sqlite", // as below: one process opens a file with one driver only
    deadLetterDirectory,
  });
  const database = new DatabaseSync(folder.file("a.db"));
  const refuse = (name: string) =>
    `CREATE TRIGGER ${name} BEFORE INSERT ON cost_entries WHEN new.entry_id = '${name}' ` +
    `BEGIN SELECT RAISE(ABORT, '${name}: a constraint failed'); END;`;
  database.exec(refuse("e1") + refuse("e2"));
  for (const i of [0, 1, 2]) await costs.addCostEntry(costEntry({ entryId: `e${i}`, amount: "0.1" }));
  await costs.flush();
  assertEquals((await costs.close()).deadLettered, 2);
  const run = (...args: string[]) =>
    openfinops(["database", "dead-letter", ...args, "--dead-letter-directory", "letters"], { cwd });
  const listed = JSON.parse((await run("list", "--format", "json")).out);
  assertEquals(listed.map(({ record }: { record: { entryId: string } }) => record.entryId), ["e1", "e2"]);
  assert(listed[0].message.includes("e1: a constraint failed") && listed[0].dataset === "cost_entries");
  assertMatch((await run("list")).out, /^time +dataset +sqlState +message/);
  database.exec("DROP TRIGGER e1");
  const retried = await run("retry", ...AT);
  assertEquals([retried.code, retried.out], [1, "Stored 1 record, 1 still refused.\n"]);
  assert(retried.err.includes("e2: a constraint failed"), retried.err);
  database.exec("DROP TRIGGER e2");
  database.close();
  // A crash between storing and taking note: the same letter comes again, and is stored once.
  Deno.copyFileSync(folder.file("letters/cost_entries.ndjson"), folder.file("copy"));
  for (let i = 0; i < 2; i++) {
    assertEquals((await run("retry", ...AT)).out, "Stored 1 record, 0 still refused.\n");
    Deno.copyFileSync(folder.file("copy"), folder.file("letters/cost_entries.ndjson"));
  }
  const { out } = await openfinops(["database", "stats", ...AT, "--format", "json"], { cwd });
  assertEquals(JSON.parse(out).totals, [{ currency: "USD", total: "0.3", count: 3 }]);
  assert((await run("purge")).err.includes("Pass --yes to confirm"));
  assertEquals((await run("purge", "--yes")).out, "Deleted 1 record.\n");
  assertEquals((await run("list", "--format", "ndjson")).out, "");
});

test("exits with 0 and without an error when the reader of its output ends", async (folder) => {
  const { path: cwd } = folder;
  if (Deno.build.os === "windows") return; // has no bash
  const hub = await ObservabilityHub.open({ connectionString: folder.sqlite("a.db") });
  for (let i = 0; i < 3_000; i++) { // more than a pipe holds
    await hub.collectSystemMetrics({ timestamp: NEW_YEAR + i, labels: { team: "x".repeat(100) } });
  }
  await hub.close();
  const query = ["database", "query", "metrics", "--limit", "0", ...AT];
  const commands = [...["table", "json", "ndjson", "csv"].map((format) => [...query, "--format", format]), [
    "database",
    "export",
    "metrics",
    ...AT,
  ]];
  const ends = await Promise.all(commands.map(async (args) => {
    const run = [Deno.execPath(), ...RUN, ...args].map((arg) => `'${arg}'`).join(" ");
    const { stdout, stderr } = await new Deno.Command("bash", {
      args: ["-c", `${run} | head -n 1 | wc -l; echo "\${PIPESTATUS[0]}"`],
      cwd,
    }).output();
    return [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  }));
  for (const [i, end] of ends.entries()) assertEquals(end, ["1\n0\n", ""], commands[i].join(" "));
});

test("writes CSV that spreadsheets do not run with --spreadsheet-safe", async (folder) => {
  const { path: cwd } = folder;
  await using costs = await CostObservatory.open({ connectionString: folder.sqlite("a.db") });
  await costs.addCostEntry(costEntry({ tags: { team: "=1+1" }, region: "@x", amount: "-5" }));
  await costs.flush();
  const csv = ["--format", "csv", "--spreadsheet-safe", ...AT];
  const queried = await openfinops(["database", "query", "costs", ...csv], { cwd });
  assert(/,'@x,/.test(queried.out) && /,-5,/.test(queried.out), queried.out + queried.err);
  const grouped = await openfinops(["database", "query", "costs", "--group-by", "tags.team", ...csv], {
    cwd,
  });
  assert(/^'=1\+1,/m.test(grouped.out), grouped.out + grouped.err);
  const exported = await openfinops(["database", "export", "costs", ...csv], { cwd });
  assert(/,'@x,/.test(exported.out) && /,-5,/.test(exported.out), exported.out + exported.err);
  for (const words of ["database query costs", "database stats", "database export costs", "costs summary"]) {
    const { code, err } = await openfinops([...words.split(" "), "--spreadsheet-safe", ...AT], { cwd });
    assertEquals([code, /for CSV\. Pass --format csv\. \[CONFLICTING_OPTIONS\]/.test(err)], [2, true], err);
  }
});

test("database dead-letter reads a file larger than its memory", async (folder) => {
  const record = { timestamp: NEW_YEAR, nodeId: "n", clusterId: "é".repeat(250_000) };
  const file = Deno.openSync(folder.file("system_metrics.ndjson"), { write: true, createNew: true });
  for (let i = 0; i < 300; i++) {
    const letter = { time: "", dataset: "system_metrics", batchId: `b${i >> 1}`, message: "no", record };
    file.writeSync(new TextEncoder().encode(`${JSON.stringify(letter)}\n`)); // 0.5 MB, each of them twice
  }
  file.close();
  const run = async (...args: string[]) => {
    const [command, ...flags] = RUN;
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [command, "--v8-flags=--max-old-space-size=64", ...flags, "database", "dead-letter", ...args]
        .concat([
          "--dead-letter-directory",
          ".",
        ]),
      cwd: folder.path,
    }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout);
  };
  assertEquals((await run("list", "--format", "ndjson")).match(/\n/g)?.length, 150);
  assertEquals((await run("list", "--format", "json")).match(/"batchId"/g)?.length, 150);
  assertEquals(await run("purge", "--yes"), "Deleted 150 records.\n");
});

test("database dead-letter lists many records in tables of a thousand", async (folder) => {
  const letters = Array.from({ length: 2_001 }, (_, i) => {
    const record = { timestamp: NEW_YEAR, nodeId: `n${i}` };
    return JSON.stringify({ time: "", dataset: "system_metrics", batchId: `b${i}`, message: "no", record });
  });
  Deno.writeTextFileSync(folder.file("system_metrics.ndjson"), letters.join("\n"));
  const list = ["database", "dead-letter", "list", "--dead-letter-directory", "."];
  const { out } = await openfinops(list, { cwd: folder.path });
  const tables = out.split("\n\n").map((table) => table.trimEnd().split("\n"));
  assertEquals(tables.map(([header, ...rows]) => [header.startsWith("time "), rows.length]), [
    [true, 1_000],
    [true, 1_000],
    [true, 1],
  ]);
});

test("reads a read-only file and refuses to write it", async (folder) => {
  if (Deno.build.os === "windows") return; // chmod has no such meaning there
  const cwd = folder.path;
  await fill(folder);
  const before = Deno.readFileSync(folder.file("a.db"));
  // Root may write in spite of the mode, unless it drops that capability.
  const wrap = Deno.uid() === 0 ? ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"] : [];
  Deno.chmodSync(folder.file("a.db"), 0o444);
  assertEquals((await openfinops(["database", "stats", ...AT], { cwd, wrap })).code, 0);
  assertEquals([...Deno.readDirSync(cwd)].map(({ name }) => name), ["a.db"]);
  Deno.chmodSync(cwd, 0o555);
  try {
    const none = ["--connection-string", "sqlite:///none.db"];
    const init = await openfinops(["database", "init", ...none], { cwd, wrap });
    assertEquals(init.code, 1, init.err);
    assertMatch(init.err, /permission to write the file and its folder\. \[ACCESS_DENIED\]\n$/);
    const query = await openfinops(["database", "query", "costs", ...AT, "--format", "ndjson"], {
      cwd,
      wrap,
    });
    assertEquals([query.code, query.out.trimEnd().split("\n").length, query.err], [0, 3, ""]);
    const stats = await openfinops(["database", "stats", ...AT, "--format", "json"], { cwd, wrap });
    assertEquals(JSON.parse(stats.out).datasets.cost_entries.rows, 3);
    const probe = await openfinops(["database", "test-connection", ...AT, "--format", "json"], { cwd, wrap });
    assertEquals([probe.code, JSON.parse(probe.out).writable], [0, false]);
    for (
      const args of [["database", "init"], ["collect", "--duration", "1s"], ["database", "cleanup", "--yes"]]
    ) {
      const { code, err } = await openfinops([...args, ...AT], { cwd, wrap });
      assertEquals(code, 1, err);
      assertMatch(err, /permission to write the file and its folder\. \[ACCESS_DENIED\]\n$/);
    }
  } finally {
    Deno.chmodSync(cwd, 0o700);
  }
  assertEquals(Deno.readFileSync(folder.file("a.db")), before);
});

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

test("costs set-budget creates, changes and deletes, and costs budgets reports", async ({ path: cwd }) => {
  const run = (...args: string[]) => openfinops([...args, ...AT], { cwd });
  const none = await run("costs", "budgets");
  assertMatch(none.err, /no such file\. Check the path/);
  for (
    const [args, message] of [
      [["nlp", "--amount", "0"], /amount must be a decimal above 0/],
      [["nlp", "--amount", "1", "--tag", "team"], /KEY=VALUE/],
      [["nlp", "--amount", "1", "--threshold", "x"], /--threshold must be a percentage above 0/],
      [["nlp", "--amount", "1", "--delete"], /--delete cannot be combined/],
      [[], /Name a budget by its id/],
    ] as [string[], RegExp][]
  ) {
    const { code, err } = await run("costs", "set-budget", ...args);
    assertEquals(code, 2, err);
    assertMatch(err, message);
  }
  const made = await run(
    "costs",
    "set-budget",
    "nlp",
    "--amount",
    "2.5",
    "--tag",
    "team=nlp",
    "--threshold",
    "40",
  );
  assertEquals([made.code, made.err], [0, "Created: nlp, 2.5 USD per 1mo, for team=nlp.\n"]);
  const other = await run("costs", "set-budget", "other");
  assertEquals(other.code, 2);
  assertMatch(other.err, /amount must be given/);
  {
    await using costs = await CostObservatory.open({ connectionString: `sqlite:///${cwd}/a.db` });
    const entry = costEntry({ amount: "1.000000000000000001", tags: { team: "nlp" } });
    await costs.addCostEntry(entry);
  }
  const budgets = ["costs", "budgets", "nlp", "--at", "2026-01-15"];
  const [status] = JSON.parse((await run(...budgets, "--format", "json")).out);
  assertEquals([status.spent, status.remaining, status.status, status.startTime], [
    "1.000000000000000001",
    "1.499999999999999999",
    "under_budget",
    "2026-01-01T00:00:00.000Z",
  ]);
  const changed = await run("costs", "set-budget", "nlp", "--amount", "1");
  assertEquals(changed.err, "Changed: nlp, 1 USD per 1mo, for team=nlp.\n");
  await run("costs", "set-budget", "nlp", "--time-zone", "Europe/Berlin");
  assertMatch((await run(...budgets)).out, / to\nnlp .* 2026-01-31\n/);
  const table = await run(...budgets);
  assertMatch(table.out, /nlp +over budget +1\.00 +1\.00 USD +█+ +100\.0 +-0\.0000000000000000010 /);
  const [header, row] = (await run(...budgets, "--format", "csv")).out.split("\n");
  assertEquals(header.split(",").length, row.split(",").length);
  assertEquals((await run("costs", "budgets", "nlq")).code, 2);
  assertEquals((await run("costs", "set-budget", "nlp", "--delete")).err, "Deleted: nlp.\n");
  assertMatch((await run("costs", "set-budget", "nlp", "--delete")).err, /There is no budget "nlp"\./);
  assertMatch(
    (await run("costs", "budgets")).err,
    /^No budgets\. `deno run -A .*cli\.ts costs set-budget` creates one\.\n$/,
  );
});

test("costs summary and metrics health print a time range in every format", async (folder) => {
  await fill(folder);
  const { path: cwd } = folder;
  const run = (...args: string[]) => openfinops([...args, ...AT], { cwd });
  const summary = ["costs", "summary", "--since", "2026-01-01", "--until", "2026-01-02"];
  const { out: table } = await run(...summary);
  assertMatch(table, /^2026-01-01 to 2026-01-01 \(UTC\)\n\n0\.0000024 USD in 3 costs\n/);
  assertMatch(table, /\nwhole period before +0\.00\naverage of 1 complete day +0\.0000024\n/);
  assertMatch(
    table,
    /\ncategory +total +share +period before +change +costs\ngpu +0\.0000024 +100\.0 % +█+ +0\.00 +3\n/,
  );
  assert(!/increasing|decreasing|forecast/i.test(table), table);
  const { currencies: [usd] } = JSON.parse((await run(...summary, "--format", "json")).out);
  assertEquals([usd.total, usd.breakdowns[1].rows[0].group.resourceId], ["0.0000024", "gpu-01"]);
  const lines = (await run(...summary, "--format", "ndjson")).out.trim().split("\n").map((line) =>
    JSON.parse(line)
  );
  assertEquals(lines.map(({ of, count }) => [of, count]), [["all", 3], ["category", 3], ["resourceId", 3]]);
  const early = ["costs", "summary", "--at", "2026-01-01T00:00:10Z"];
  assertMatch(
    (await run(...early)).out,
    /\nNo forecast: it needs 14 complete days of costs, and there are 0\.\n/,
  );
  assertMatch(
    (await run("costs", "summary")).err,
    /^No costs from .*\nThe newest is of 2026-01-01T00:00:00\.000Z: look there with --during 2026-01\.\n$/,
  );
  assertMatch(
    (await run("costs", "summary", "--category", "none")).err,
    /^No costs from .*\nThere are none at any time\. ".* database stats" counts all records\.\n$/,
  );
  assertEquals((await run(...summary, "--until", "2025-12-31")).code, 2);

  const health = ["metrics", "health", "--at", "2026-01-01T00:00:02Z"];
  assertMatch((await run(...health)).out, /default +healthy +100 +3 +1\.5 +0 +2026-01-01T00:00:02\.000Z\n/);
  const { clusters } = JSON.parse((await run(...health, "--format", "json")).out);
  assertEquals([clusters[0].nodes, clusters[0].cpuUsage], [3, 1.5]);
  assertMatch(
    (await run(...health, "--format", "csv")).out,
    /^clusterId,status,score,nodes,healthy,[^]*\ndefault,healthy,100,3,3,/,
  );
  assertMatch(
    (await run("metrics", "health")).err,
    /^No metrics from .*\nThe newest are of 2026-01-01T00:00:02\.000Z: `.* metrics health --at 2026-01-01T00:00:02\.000Z` shows/,
  );
  assertEquals((await run(...health, "--window", "0s")).code, 2);
});

test("names itself alike under each program that starts it", async (folder) => {
  if (Deno.build.os === "windows") return; // has neither nice nor env
  const run = async (program: string, args: string[]) => {
    const env = {
      PATH: `${folder.file("bin")}:${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`,
      NO_COLOR: "1",
    };
    const { stderr } = await new Deno.Command(program, { args, env, cwd: folder.path }).output();
    return new TextDecoder().decode(stderr);
  };
  const cli = new URL("../cli.ts", import.meta.url).href;
  const config = new URL("../deno.json", import.meta.url).pathname;
  const options = ["-q", "-g", "-f", "-A", "--config", config, "--root", folder.path];
  await run(Deno.execPath(), ["install", ...options, "-n", "openfinops", cli]);
  for (
    const [program, ...args] of [
      ["sh", "-c", "openfinops nothing"],
      ["nice", "openfinops", "nothing"],
      ["env", "-u", "_", "openfinops", "nothing"],
    ]
  ) {
    assertMatch(await run(program, args), /\nTry: openfinops --help\n$/, program);
  }
});
