/**
 * Runs all checks and all tests, and ends with a line `N passed, N failed`. It is what `deno task test` does. With
 * `--coverage [FILE…]`, as in `deno task coverage`, it runs the tests only, and prints their coverage by folder.
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";
import { CitusCluster, citusVersion } from "./citus_cluster.ts";
import { coverageTable } from "./coverage.ts";
import { NODE_EXPORTER, PROMETHEUS } from "./node_exporter.ts";
import { PostgresServer, serverVersion, TestDatabase, timescaleVersion } from "./postgres_server.ts";
import { sqliteDrivers } from "./sqlite_drivers.ts";

const CHECKS: readonly (readonly string[])[] = [
  ["fmt", "--check"],
  ["lint"],
  ["task", "check"],
  ["task", "spelling"],
];

const ROOT = new URL("..", import.meta.url);
const LOCK = new URL("deno.lock", ROOT);
const [option, ...files] = Deno.args;
const isCoverage = option === "--coverage";

/** Runs deno, with its output shown. */
async function deno(args: readonly string[], cwd: string | URL = ROOT): Promise<boolean> {
  console.log(`\n> deno ${args.join(" ")}`);
  const { success } = await new Deno.Command(Deno.execPath(), { args: [...args], cwd }).spawn().status;
  return success;
}

/** The numbers of tests in a JUnit report. */
function readReport(path: string): { tests: number; failed: number } {
  const report = Deno.readTextFileSync(path);
  const [header] = /<testsuites[^>]*>/.exec(report) ?? [""];
  const count = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(header)?.[1] ?? 0);
  return { tests: count("tests"), failed: count("failures") + count("errors") };
}

async function runTests(): Promise<{ passed: number; failed: number }> {
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-" });
  try {
    // Commands on DuckDB files add its package, which is large, to the lock file of a checkout.
    Deno.copyFileSync(LOCK, `${folder}/deno.lock`);
    Deno.env.set("TEST_LOCK_FILE", `${folder}/deno.lock`);
    const path = `${folder}/report.xml`;
    const options = ["-q", "-A", "--doc", "--parallel", `--junit-path=${path}`];
    const config = fromFileUrl(new URL("deno.json", ROOT));
    for (const name of ["time_limit.ts", "fixtures.ts"]) {
      options.push("--preload", fromFileUrl(new URL(`tests/${name}`, ROOT)));
    }
    // The commands that the tests start leave profiles in the same folder.
    const profiles = `${folder}/profiles`;
    if (isCoverage) options.push(`--coverage=${profiles}`, "--coverage-raw-data-only");
    const paths = files.length > 0 ? files.map((path) => Deno.realPathSync(path)) : [fromFileUrl(ROOT)];
    // In the temporary folder, because the examples of the documents write files where they run.
    const success = await deno(["test", ...options, "--config", config, ...paths], folder);
    if (isCoverage) console.log(`\n${await coverageTable(profiles)}`);
    const { tests, failed } = readReport(path);
    // A module that does not load fails the run without being counted as a test.
    return { passed: tests - failed, failed: success ? failed : Math.max(1, failed) };
  } finally {
    Deno.copyFileSync(`${folder}/deno.lock`, LOCK);
    Deno.removeSync(folder, { recursive: true });
  }
}

let passed = 0;
let failed = 0;
for (const args of isCoverage ? [] : CHECKS) {
  if (await deno(args)) passed++;
  else failed++;
}
// One server for all tests, each of which makes a database of its own; one that is given is used as it is.
const given = Deno.env.get("TEST_POSTGRESQL_URL");
const server = given ? undefined : await PostgresServer.start();
await server?.loadTimescale();
if (server) Deno.env.set("TEST_POSTGRESQL_URL", server.url());
const postgresql = `postgresql (${await serverVersion()}${
  server ? `, ${server.binaries.from}` : ", as given"
})`;
const timescale = await timescaleVersion();
const cluster = Deno.env.has("TEST_CITUS_URL") ? undefined : await CitusCluster.start();
await cluster?.addTemplate();
if (cluster) Deno.env.set("TEST_CITUS_URL", cluster.coordinator.url());
const citus = await citusVersion();
const documents = await TestDatabase.create(); // what the examples in the documents write into
Deno.env.set("DATABASE_URL", documents.url);
const tests = await runTests();
await documents[Symbol.asyncDispose]();
await server?.[Symbol.asyncDispose]();
await cluster?.[Symbol.asyncDispose]();
passed += tests.passed;
failed += tests.failed;

const { present, absent } = await sqliteDrivers();
const backends = ["memory", ...present.map((name) => `sqlite (${name})`), postgresql];
if (timescale.version) backends.push(`timescaledb (${timescale.version})`);
if (citus.version) backends.push(`citus (${citus.version})`);
console.log(`\nBackends: ${backends.join(", ")}`);
for (const { name, reason } of absent) console.log(`Not run: sqlite (${name}): ${reason}`);
if (!timescale.version) console.log(`Not run: timescaledb: ${timescale.reason}`);
if (!citus.version) console.log(`Not run: citus: ${citus.reason}`);
if (!NODE_EXPORTER) console.log("Not run: node_exporter: it is not installed");
if (!PROMETHEUS) console.log("Not run: Prometheus: it is not installed");
console.log(`${passed} passed, ${failed} failed`);
Deno.exitCode = failed === 0 ? 0 : 1;
