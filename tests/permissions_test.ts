import { fileURLToPath } from "node:url";
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { CostObservatory, importRecords, ObservabilityHub, openBackend } from "../mod.ts";
import { DeadLetters } from "../src/pipeline/dead_letters.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { useDuckdbLibrary } from "./duckdb_library.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { acceptRecords, HttpReceiver, SmtpReceiver } from "./receivers.ts";
import { openServer as startServer } from "./server.ts";
import { citusVersion, databaseFor } from "./citus_cluster.ts";
import { TestDatabase, timescaleVersion } from "./postgres_server.ts";

await useDuckdbLibrary();
const CLI = new URL("../cli.ts", import.meta.url).href;
const CONFIG_PATH = fileURLToPath(new URL("../deno.json", import.meta.url));
const CONFIG = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));
const SETS: Readonly<Record<string, Record<string, unknown>>> = CONFIG.permissions;

/** The commands, by what they need beside the database. Of each there is one that fails where a permission is missing. */
const READ = [
  "database stats",
  "database query metrics",
  "database query metrics --bucket 1d --measure cpuUsage.avg",
  "database export metrics",
  "database test-connection",
  "database cleanup --dry-run",
  "database deliveries",
  "metrics health",
  "alerts rules",
  "alerts list",
  "token list",
  "alerts clusters",
  "notify list",
  "costs summary",
  "costs reconcile --invoice INV-1",
  "costs budgets",
  "costs price --dry-run",
  "costs allocate --by team --days 1",
  "prices list --own",
  "prices show gpt-5",
  "prices test gpt-5 --input 1",
  "costs check --budget there --amount 1",
  "costs anomalies",
];
/** Commands that can read through a server. */
const THROUGH_SERVER = [
  "database stats",
  "database query metrics --bucket",
  "database export",
  "metrics health",
  "costs summary",
  "costs budgets",
  "costs allocate",
  "costs check",
  "costs anomalies",
];
const WRITE = [
  "database init",
  "database verify",
  "database delete metrics --node-id none --yes",
  "database cleanup --yes",
  "costs set-budget nlp --amount 1",
  "costs price",
  "prices set m --unit input --amount 1",
  "alerts rules hot --field temperature --above 90",
  "alerts clusters prod --node n",
  "database maintain --retention metrics=36500",
  "token create agents --scope ingest",
  "token revoke agents",
  "alerts ack node_silent/prod/n",
  "alerts resolve node_silent/prod/n",
  `costs ack 0/${"0".repeat(64)}`,
  "alerts clusters prod --delete",
];
/** Need the net of a channel as well, by a flag. */
const NOTIFY = ["notify test ops", "notify flush"];
const FILES = [
  "database import metrics in.csv --rejects bad.ndjson",
  "database export metrics --output out.parquet",
  "database backup backup.db",
  "database migrate --from sqlite:///other.db --to",
  "database dead-letter list --dead-letter-directory letters",
  "database dead-letter retry --dead-letter-directory letters",
  "prices set --file prices.csv",
  "report cluster --output report.html",
];
const COLLECT = ["collect --interval 100ms --duration 300ms"];
/** Runs until a signal; on a free port of loopback, which its set does not name. */
const SERVE = ["serve --listen 127.0.0.1:0", "dashboard --port 0"];
/** Needs the net of the server that it asks. */
const PROBE = ["probe"];
const NO_DATABASE = ["--help", "--version", "database examples"];

/** Commands of each set. */
const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  "sqlite-read": READ,
  "sqlite": [...WRITE, ...READ, ...FILES],
  "sqlite-collect": [...COLLECT, ...COLLECT.map((command) => `${command} --spool-directory spool`)],
  "sqlite-serve": SERVE,
  "duckdb": [WRITE[0], READ[0], READ[2], FILES[0], FILES[3]],
  "duckdb-collect": [`${COLLECT[0]} --spool-directory spool`],
  "duckdb-serve": SERVE,
  "postgresql": [...WRITE, ...READ],
  "postgresql-files": FILES,
  "postgresql-collect": COLLECT,
  "postgresql-serve": SERVE,
};

/** For each permission of a set a command that cannot do without it. */
const NEEDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "sqlite-read": { read: READ[0], env: READ[0] },
  "sqlite": { read: WRITE[0], write: WRITE[0], env: WRITE[0] },
  "sqlite-collect": { read: COLLECT[0], write: COLLECT[0], env: COLLECT[0], sys: COLLECT[0] },
  "sqlite-serve": { read: SERVE[0], write: SERVE[0], net: SERVE[0], env: SERVE[0] },
  "duckdb": { read: WRITE[0], write: WRITE[0], env: WRITE[0], ffi: READ[0] },
  "duckdb-collect": {
    read: COLLECT[0],
    write: COLLECT[0],
    env: COLLECT[0],
    sys: COLLECT[0],
    ffi: COLLECT[0],
  },
  "duckdb-serve": { read: SERVE[0], write: SERVE[0], net: SERVE[0], env: SERVE[0], ffi: SERVE[0] },
  "postgresql": { net: READ[0], env: READ[0] },
  "postgresql-files": { read: FILES[0], write: FILES[1], net: FILES[1], env: FILES[1] },
  "postgresql-collect": { net: COLLECT[0], env: COLLECT[0], sys: COLLECT[0] },
  "postgresql-serve": { read: SERVE[0], write: SERVE[0], net: SERVE[0], env: SERVE[0] },
};

/** A folder with a copy of deno.json, so that "." in its sets is this folder, and a database. */
interface Place {
  readonly folder: TemporaryFolder;
  readonly url: string;
}

async function prepare({ folder, url }: Place): Promise<void> {
  Deno.copyFileSync(new URL("../deno.lock", import.meta.url), folder.file("deno.lock"));
  const fewer = Object.entries(SETS).flatMap(([name, set]) =>
    Object.keys(set).map((kind) => [`${name}-without-${kind}`, { ...set, [kind]: false }])
  );
  const permissions = { ...SETS, ...Object.fromEntries(fewer) };
  Deno.writeTextFileSync(folder.file("deno.json"), JSON.stringify({ ...CONFIG, permissions }));
  Deno.writeTextFileSync(folder.file("in.csv"), "timestamp,cpuUsage\n2026-01-01T00:00Z,1\n");
  Deno.writeTextFileSync(folder.file("prices.csv"), "model,unit,amount\nm,input,1\n");
  for (const [connectionString, nodeId] of [[url, "here"], [folder.sqlite("other.db"), "there"]]) {
    await using hub = await ObservabilityHub.open({ connectionString });
    await hub.collectSystemMetrics({ timestamp: NEW_YEAR, nodeId, cpuUsage: 50 });
  }
  const backend = await openBackend({ connectionString: url });
  const costs = await CostObservatory.open({ backend });
  await costs.createBudget({ budgetId: "there", amount: 1 });
  await costs.close();
  const invoice =
    "InvoiceId,InvoiceDetailId,InvoiceIssuerName,BilledCost,BillingCurrency\nINV-1,1,AWS,0,USD\n";
  await importRecords(new Blob([invoice]).stream(), { backend, dataset: "cost_entries", format: "focus" });
  await backend.close();
  const letters = new DeadLetters(folder.file("letters"), "system_metrics");
  await letters.append({
    batchId: "b1",
    message: "refused",
    record: { timestamp: NEW_YEAR, nodeId: "late" },
  });
}

interface Run {
  code: number;
  out: string;
  err: string;
}

/** Runs the command with a set and nothing else; the host of the server is given as the documents say. */
async function run(
  { folder, url }: Place,
  command: string,
  set?: string,
  { net = [], env = {} }: { net?: string[]; env?: Record<string, string> } = {},
): Promise<Run> {
  const { protocol, host } = new URL(url);
  const [base = "", missing] = set?.split("-without-") ?? [];
  const flags = set === undefined ? [] : [`-P=${set}`];
  const isServer = SERVE.includes(command);
  if (SETS[base]?.net !== undefined && missing !== "net") {
    net = [...base.startsWith("postgresql") ? [host] : [], ...isServer ? ["127.0.0.1"] : [], ...net];
  }
  if (net.length > 0) flags.push(`--allow-net=${net.join(",")}`);
  const args = command.split(" ");
  if (args.at(-1) === "--to") args.push(url);
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "--no-prompt", "--cached-only", "--config", "deno.json", ...flags, CLI, ...args],
    cwd: folder.path,
    env: {
      ...env,
      OPENFINOPS_CONNECTION_STRING: url,
      OPENFINOPS_BACKEND: /^(sqlite|duckdb):$/.test(protocol) ? protocol.slice(0, -1) : "",
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const [{ code }, stdout, err] = await Promise.all([
    process.status,
    new Response(process.stdout).bytes(),
    readErrors(process, isServer),
  ]);
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err };
}

/** Reads stderr. A server is ended once it listens. */
async function readErrors(process: Deno.ChildProcess, isServer: boolean): Promise<string> {
  let err = "";
  for await (const text of process.stderr.pipeThrough(new TextDecoderStream())) {
    err += text;
    if (isServer && /^Listening/m.test(text)) process.kill("SIGTERM");
  }
  return err;
}

/** The backends that the machine has, each with a database of its own. */
const PLACES: readonly { name: string; sets: RegExp; open(): Promise<Place & AsyncDisposable> }[] = [
  { name: "SQLite", sets: /^sqlite/, open: () => openFile("sqlite") },
  { name: "DuckDB", sets: /^duckdb/, open: () => openFile("duckdb") },
  { name: "PostgreSQL", sets: /^postgresql/, open: () => openServer("postgresql") },
  ...(await timescaleVersion()).version === undefined
    ? []
    : [{ name: "TimescaleDB", sets: /^postgresql/, open: () => openServer("timescaledb") }],
  ...(await citusVersion()).version === undefined
    ? []
    : [{ name: "Citus", sets: /^postgresql/, open: () => openServer("citus") }],
];

function openFile(scheme: string): Promise<Place & AsyncDisposable> {
  const folder = new TemporaryFolder();
  const url = `${scheme}:///${folder.file(`test.${scheme}`)}`;
  return Promise.resolve({
    folder,
    url,
    [Symbol.asyncDispose]: () => Promise.resolve(folder[Symbol.dispose]()),
  });
}

async function openServer(scheme: string): Promise<Place & AsyncDisposable> {
  const folder = new TemporaryFolder();
  const database = await databaseFor(`${scheme}:`);
  return {
    folder,
    url: database.url.replace(/^[a-z]+/, scheme),
    async [Symbol.asyncDispose]() {
      folder[Symbol.dispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

for (const { name, sets, open } of PLACES) {
  for (const set of Object.keys(SETS).filter((set) => sets.test(set))) {
    Deno.test(`permission set ${set} suffices on ${name} and errors name a missing one`, async () => {
      await using place = await open();
      await prepare(place);
      for (const command of COMMANDS[set]) {
        const { code, err } = await run(place, command, set);
        assertEquals(code, 0, `${command}: ${err}`);
      }
      for (const kind of Object.keys(SETS[set])) {
        const { code, out, err } = await run(place, NEEDS[set][kind], `${set}-without-${kind}`);
        assertEquals([code, out], [1, ""], err);
        const flag = `error: .*--allow-${kind}\\S* flag.* \\[PERMISSION_MISSING\\]`;
        assertMatch(err, new RegExp(`^${flag}\\n$`));
      }
    });
  }
}

for (const { name, sets, open } of PLACES.filter(({ name }) => name !== "DuckDB")) {
  Deno.test(`notify needs the net of its channel beside a permission set on ${name}`, async () => {
    await using place = await open();
    await using http = new HttpReceiver();
    await using smtp = await SmtpReceiver.start();
    await prepare(place);
    const set = sets.test("sqlite") ? "sqlite" : "postgresql";
    const [{ host }, mail] = [new URL(http.url()), new URL(smtp.url())];
    const channels = [{ name: "ops", type: "slack", url: http.url() }, {
      name: "mail",
      type: "email",
      url: smtp.url(),
      from: "a@x.example",
      to: ["b@x.example"],
    }];
    const env = { OPENFINOPS_CHANNELS: JSON.stringify(channels) };
    const net = [host, mail.host];
    for (const command of [...NOTIFY, "notify test mail"]) {
      const { code, err } = await run(place, command, set, { net, env });
      assertEquals(code, 0, `${command}: ${err}`);
    }
    for (const channel of ["ops", "mail"]) {
      const { code, err } = await run(place, `notify test ${channel}`, set, { env });
      assertEquals(code, 1);
      assertMatch(
        err,
        /: Deno did not grant net access to its host: add --allow-net\. \[NOTIFICATION_FAILED\]\n$/,
      );
    }
    assertEquals([http.received.length, smtp.received.length], [1, 1]);
  });
}

Deno.test("permission set server-collect suffices to send, and errors name a missing one", async () => {
  await using place = await PLACES[0].open();
  await using http = new HttpReceiver();
  http.answer = (received) =>
    received.path === "/x" ? Response.json({ status: "ok" }) : acceptRecords(received);
  await prepare(place);
  const url = http.url().replace(/\/$/, "");
  const net = [new URL(url).host];
  const env = { OPENFINOPS_TOKEN: "t" };
  for (const more of ["", " --spool-directory spool --log-format json"]) {
    const command = `${COLLECT[0]} --send ${url}${more}`;
    const { code, out, err } = await run(place, command, "server-collect", { net, env });
    assertEquals([code, out.startsWith("Sent ")], [0, true], err);
  }
  assert(http.received.length >= 2);
  assertEquals((await run(place, `probe ${url}/x`, undefined, { net })).code, 0);
  assertMatch((await run(place, `probe ${url}/x`)).err, /--allow-net\S* .*\[PERMISSION_MISSING\]/);
  const needs = { read: " --spool-directory spool", write: " --spool-directory spool", env: "", sys: "" };
  for (const [kind, more] of Object.entries(needs)) {
    const command = `${COLLECT[0]} --send ${url}${more}`;
    const { err } = await run(place, command, `server-collect-without-${kind}`, { net, env });
    assertMatch(err, new RegExp(`--allow-${kind}`));
  }
  // Records wait while the server may not be reached, as in an outage: without a spool they are lost.
  const { code, err } = await run(place, `${COLLECT[0]} --send ${url}`, "server-collect-without-net", {
    env,
  });
  assertEquals(code, 1);
  assertMatch(err, /paused: .*--allow-net\S* .*\n.*\[RECORDS_LOST\]\n$/s);
});

Deno.test("permission set server-read suffices to read through a server, and errors name a missing one", async () => {
  await using server = await startServer();
  await server.resources.costs.createBudget({ budgetId: "there", amount: "1" });
  await using place = await PLACES[0].open();
  await prepare(place);
  const net = [new URL(server.url).host];
  const env = { OPENFINOPS_TOKEN: "t" };
  for (const command of READ.filter((command) => THROUGH_SERVER.some((name) => command.startsWith(name)))) {
    const { code, err } = await run(place, `${command} --server ${server.url}`, "server-read", { net, env });
    assertEquals(code, 0, `${command}: ${err}`);
  }
  for (const [kind, granted] of Object.entries({ net: undefined, env: net })) {
    const command = `costs budgets --server ${server.url}`;
    const { code, err } = await run(place, command, `server-read-without-${kind}`, { net: granted, env });
    assertEquals(code, 1);
    assertMatch(err, new RegExp(`--allow-${kind}.*\\[PERMISSION_MISSING\\]`));
  }
});

Deno.test("deno.json has a permission set for every command", async () => {
  await using place = await PLACES[0].open();
  await prepare(place);
  for (const command of NO_DATABASE) {
    assertEquals((await run(place, command)).code, 0, command);
  }
  const { out } = await run(place, "--help");
  const all = [...Object.values(COMMANDS).flat(), ...NOTIFY, ...PROBE, ...NO_DATABASE];
  for (const [, name] of out.matchAll(/^ {2}((?:[a-z]+ )?[a-z-]+) {2,}/gm)) {
    assert(all.some((command) => `${command} `.startsWith(`${name} `)), name);
  }
});

Deno.test("docs/permissions.md lists every permission set", () => {
  const guide = Deno.readTextFileSync(new URL("../docs/permissions.md", import.meta.url));
  for (const set of Object.keys(SETS)) assert(guide.includes(`\n| \`${set}\` `), set);
});

Deno.test("collect samples CPU and memory without -A", async () => {
  await using place = await PLACES[0].open();
  await prepare(place);
  await run(place, COLLECT[0], "sqlite-collect");
  const { out } = await run(place, "database query metrics --limit 1 --format json", "sqlite-read");
  const [{ cpuUsage, memoryUsage, nodeId }] = JSON.parse(out);
  assertEquals([typeof cpuUsage, typeof memoryUsage], ["number", "number"]);
  assertEquals(nodeId, Deno.hostname());
});

Deno.test("openfinops needs no env permission when an option names the database", async () => {
  await using place = await PLACES[0].open();
  await prepare(place);
  const command = `database stats --connection-string ${place.url}`;
  const { code, err } = await run(place, command, "sqlite-without-env");
  assertEquals([code, err], [0, ""]);
});

/** Opens a hub on a database with these flags; gives what `open()` throws, or `opened`. */
async function openWith(flags: readonly string[], url: string): Promise<Record<string, string>> {
  const program = `import { ObservabilityHub } from "${new URL("../mod.ts", import.meta.url)}";
try {
  await (await ObservabilityHub.open({ connectionString: ${JSON.stringify(url)} })).close();
  console.log(JSON.stringify({ code: "opened" }));
} catch ({ code, kind, message }) {
  console.log(JSON.stringify({ code, kind, message }));
}`;
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("open.ts"), program);
  const options = ["-q", "--no-prompt", "--cached-only", "--no-check", "--config", CONFIG_PATH, ...flags];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...options, folder.file("open.ts")],
    stdin: "null",
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(err, "", `${flags} ${url}`);
  return JSON.parse(out);
}

Deno.test("openfinops names the missing flag at once for a forbidden server", async () => {
  await using database = await TestDatabase.create();
  const { port } = new URL(database.url);
  const at = (host: string) => database.url.replace("127.0.0.1", host);
  const denied: [string[], string, RegExp][] = [];
  for (
    const flags of [["--allow-env"], ["--allow-env", "--deny-net"], [
      "--allow-env",
      "--allow-net=127.0.0.1:1",
    ]]
  ) {
    denied.push(
      [
        flags,
        at("localhost"),
        new RegExp(`net access to "localhost:${port}", .*--allow-net=localhost:${port} flag`),
      ],
      [flags, at("db.example"), /net access to "db.example:\d+", .*--allow-net=db\.example:\d+ flag/],
      [flags, database.url, /net access to "127\.0\.0\.1:\d+", .*--allow-net flag/],
      [flags, at("[::1]"), /net access to "\[::1\]:\d+", .*--allow-net flag/],
      [flags, at("%2Ftmp"), /access to ".*\/tmp\/.s.PGSQL.\d+", .*--allow-(read|write|net) flag/],
    );
  }
  denied.push(
    [["--allow-net"], database.url, /Requires env access to "PG[A-Z]+", .*--allow-env flag/],
    [["--allow-env", `--allow-net=127.0.0.1:${port}`], at("localhost"), /--allow-net=localhost:\d+ flag/],
    [["--allow-env", "--allow-net=localhost:1"], at("localhost"), /Requires net access to "localhost:\d+"/],
  );
  for (const [flags, url, expected] of denied) {
    const { code, kind, message } = await openWith(flags, url);
    assertEquals([code, kind], ["PERMISSION_MISSING", "operator"], message);
    assertMatch(message, expected);
  }
  const granted: [string[], string][] = [
    [["--allow-env", `--allow-net=127.0.0.1:${port}`], database.url],
    [["--allow-env", `--allow-net=localhost:${port}`], at("localhost")],
    [["--allow-env", "--allow-net=localhost"], at("localhost")],
  ];
  for (const [flags, url] of granted) assertEquals((await openWith(flags, url)).code, "opened");
});
