import { fileURLToPath as fromFileUrl } from "node:url";
import "simple-ascii-chart"; // brings what the examples need into the cache, so that their runs need no network
import "../cli.ts"; // the same for the command
import { CostObservatory, ObservabilityHub } from "../mod.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { useDuckdbLibrary } from "./duckdb_library.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { exampleUrl, pack, PACKED, TOPICS } from "./pack_examples.ts";
import { citusVersion, databaseFor } from "./citus_cluster.ts";
import { timescaleVersion } from "./postgres_server.ts";

await useDuckdbLibrary();

type Topic = typeof TOPICS[number];

const ROOT = fromFileUrl(new URL("..", import.meta.url));
const RUN = ["run", "-q", "-A", "--cached-only"];
const decoder = new TextDecoder();

interface Run {
  out: string;
  err: string;
}

async function deno(args: readonly string[], { path }: TemporaryFolder): Promise<Run> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...RUN, ...args],
    cwd: path,
    env: { NO_COLOR: "1" },
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => decoder.decode(bytes));
  assertEquals(code, 0, err);
  return { out, err };
}

/** Runs an example in an empty folder, twice: what it leaves behind must not stand in its own way. */
function test(topic: Topic, check: (run: Run, round: number) => void, isPresent = true): void {
  if (!isPresent) return; // `tests/run.ts` says why
  Deno.test(`examples/${topic}.ts runs repeatedly`, async () => {
    using folder = new TemporaryFolder();
    await using database = ["postgresql", "timescaledb", "citus"].includes(topic)
      ? await databaseFor(`${topic}:`)
      : undefined;
    for (let round = 1; round <= 2; round++) {
      check(await deno([exampleUrl(topic).href, ...(database ? [database.url] : [])], folder), round);
    }
  });
}

test("memory", ({ out }) => {
  assertMatch(out, /^3 \{ avg: 80, max: 97.5 \}\n/);
  assertMatch(out, /nodeId: "gpu-01",\n +gpuUsage: 97.5\n/);
});

test("duckdb", ({ out }) => {
  const days = ["2026-01-30", "2026-01-31"].flatMap((day) => [`${day} nlp 30 USD`, `${day} vision 30 USD`]);
  assertEquals(out, `${days.join("\n")}\n`);
});

test("sqlite", ({ out }) => assertEquals(out, "gpu-01 97.5\n0.3000008 USD\n"));

test(
  "postgresql",
  ({ out }) => assertEquals(out, "gpu 4.25 EUR\ngpu 11.75 USD\nstorage 0.0234 USD\n"),
);

test("timescaledb", ({ out }) => {
  const [found, ...policies] = out.trimEnd().split("\n");
  assertEquals(found, "2880 40");
  assert(policies.includes("compression system_metrics 12:00:00"), out);
  assert(policies.includes("retention system_metrics 1 day"), out);
}, (await timescaleVersion()).version !== undefined);

test("citus", ({ out }) => {
  assertMatch(out, /^1000 100\n[^ ]+ \(0 shards, [\d.]+ MiB\), [^ ]+ \(\d+ shards/);
}, (await citusVersion()).version !== undefined);

test("sharing", ({ out }) => {
  const report = "{ committed: 1, spooled: 0, deadLettered: 0, lost: 0 }\n";
  assertEquals(out, report + report);
});

test("streams", ({ out, err }) => {
  assertEquals(out, "9999 9999\n");
  assertMatch(err, /^Cannot accept .*cpuUsage must be a finite number, not "hot"\.\n$/);
});

test("spool", ({ out, err }) => {
  assertEquals(
    out,
    "{ committed: 0, spooled: 2, deadLettered: 0, lost: 0 }\n" +
      "{ committed: 2, spooled: 0, deadLettered: 0, lost: 0 }\n",
  );
  assertEquals(err, "");
});

test("migration", ({ out, err }, round) => {
  const [stored, known] = round === 1 ? [2, 0] : [0, 2];
  const totals = '[ { currency: "USD", total: "0.2500008", count: 2 } ]';
  const [report, result, header] = out.split("\n");
  assertEquals(report, `{ stored: ${stored}, known: ${known}, restated: 0, rejected: 1 }`);
  assertEquals(result, `true ${totals} ${totals}`);
  assertMatch(header, /^BilledCost,/);
  assertMatch(out, /^0.0000008,.*\n0.25,/m);
  assertMatch(err, /^line 4: .*amount must be/);
});

test("chart", ({ out }) => {
  assertMatch(out, /^vision 91.14 USD\nnlp 1.4 USD\n/);
  assertMatch(out, /USD by day of January/);
  assertMatch(out, /13.01┤ +┏━/); // the last day of the team that costs more each day
});

Deno.test("examples/ingest.ts accepts NDJSON, names bad lines and ends cleanly", async () => {
  using folder = new TemporaryFolder();
  await using server = new Deno.Command(Deno.execPath(), {
    args: [...RUN, exampleUrl("ingest").href],
    cwd: folder.path,
    env: { NO_COLOR: "1" },
    stdout: "piped",
  }).spawn();
  const output = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const url = (await output.read()).value!.trim();
  const post = async (body: string) => {
    const response = await fetch(url, { method: "POST", body });
    return [response.status, await response.json()];
  };
  const good = '{"timestamp":1767225600000,"cpuUsage":12.5}\n';
  assertEquals(await post(good + good), [202, { accepted: 2, rejected: [] }]);
  const [status, { accepted, rejected }] = await post(
    `${good}{"timestamp":1767225600\n${good}{"cpuUsage":1}`,
  );
  assertEquals([status, accepted, rejected.length], [422, 2, 2]);
  assertMatch(rejected[1].reason, /timestamp/);
  const refused = await fetch(url);
  assertEquals([refused.status, await refused.text()], [405, "Send NDJSON with POST.\n"]);
  if (Deno.build.os === "windows") { // has no signal that a program could take
    server.kill();
    return;
  }
  server.kill("SIGTERM");
  let report = "";
  for (let chunk = await output.read(); !chunk.done; chunk = await output.read()) report += chunk.value;
  assertEquals(report, "{ committed: 4, spooled: 0, deadLettered: 0, lost: 0 }\n");
  assertEquals((await server.status).code, 0);
  await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite("example.db") });
  assertEquals((await hub.queryHistoricalMetrics()).length, 4);
});

Deno.test("examples run from a copy in another folder", async () => {
  using folder = new TemporaryFolder();
  // As the README has it for a checkout.
  Deno.writeTextFileSync(folder.file("deno.json"), JSON.stringify({ links: [ROOT] }));
  const { out: code } = await deno([`${ROOT}/cli.ts`, "database", "examples", "sqlite"], folder);
  Deno.writeTextFileSync(folder.file("example.ts"), code);
  assertEquals((await deno(["example.ts"], folder)).out, "gpu-01 97.5\n0.3000008 USD\n");
  await using costs = await CostObservatory.open({ connectionString: folder.sqlite("example.db") });
  assertEquals((await costs.queryHistoricalCosts()).length, 3);
});

Deno.test("openfinops database examples prints the files in examples/", async () => {
  using folder = new TemporaryFolder();
  const files = [...Deno.readDirSync(`${ROOT}/examples`)].filter(({ isFile }) => isFile).map(({ name }) =>
    name
  );
  assertEquals(files.sort(), TOPICS.map((topic) => `${topic}.ts`).sort());
  assertEquals(Deno.readTextFileSync(PACKED), pack(), "`deno task examples` brings it up to date");
  const { out } = await deno([`${ROOT}/cli.ts`, "database", "examples"], folder);
  for (const topic of TOPICS) assert(out.includes(Deno.readTextFileSync(exampleUrl(topic))), topic);
});
