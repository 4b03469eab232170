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
import type { Progress } from "./time_limit.ts";

const CHECKS: readonly (readonly string[])[] = [
  ["fmt", "--check"],
  ["lint"],
  ["task", "check"],
  ["task", "spelling"],
];
/** Files that take longest come first: one that starts last would keep the other cores waiting. */
const SLOW_FILES = [
  "timescale",
  "deliveries",
  "permissions",
  "postgres",
  "send",
  "citus",
  "documents",
  "cli",
  "server",
  "duckdb",
  "collect",
].map((name) => `tests/${name}_test.ts`);
/** CI ends a run after 20 minutes, without a word about the test that hangs. */
const DEADLINE_MS = Number(Deno.env.get("TEST_DEADLINE_MINUTES") ?? 18) * 60_000;

const ROOT = new URL("..", import.meta.url);
const LOCK = new URL("deno.lock", ROOT);
const [option, ...files] = Deno.args;
const isCoverage = option === "--coverage";

const pathOf = (name: string) => fromFileUrl(new URL(name, ROOT));

/** Runs a check, and shows its output when it has ended, because others run beside it. */
async function check(args: readonly string[]): Promise<boolean> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: [...args], cwd: ROOT })
    .output();
  console.log(`\n> deno ${args.join(" ")}`);
  for (const bytes of [stderr, stdout]) await Deno.stdout.write(bytes);
  return success;
}

/** Runs the tests until the deadline. Returns whether they passed, or undefined if they did not end. */
async function runUntilDeadline(args: string[], cwd: string): Promise<boolean | undefined> {
  console.log(`\n> deno ${args.join(" ")}`);
  // In a group of its own, to end the programs that the tests have started with it.
  const process = new Deno.Command(Deno.execPath(), { args, cwd, detached: true }).spawn();
  const end = () => Deno.kill(-process.pid, "SIGKILL");
  const interrupt = () => {
    end();
    Deno.exit(130);
  };
  Deno.addSignalListener("SIGINT", interrupt);
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    end();
  }, DEADLINE_MS - performance.now());
  const { success } = await process.status;
  clearTimeout(timer);
  Deno.removeSignalListener("SIGINT", interrupt);
  return isOver ? undefined : success;
}

/** The numbers of tests in a JUnit report. */
function readReport(path: string): { tests: number; failed: number } {
  const report = Deno.readTextFileSync(path);
  const [header] = /<testsuites[^>]*>/.exec(report) ?? [""];
  const count = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(header)?.[1] ?? 0);
  return { tests: count("tests"), failed: count("failures") + count("errors") };
}

/** The numbers of tests that ended before the deadline, and the files that did not, which count as failed. */
function readProgress(folder: string): { passed: number; failed: number } {
  const notes = [...Deno.readDirSync(folder)].map(({ name }) =>
    JSON.parse(Deno.readTextFileSync(`${folder}/${name}`)) as Progress
  );
  const left = notes.filter(({ running }) => running !== undefined);
  for (const { file, running } of left) {
    console.log(`Not finished: ${file}: ${running || "between two tests"}`);
  }
  const sum = (key: "passed" | "failed") => notes.reduce((total, note) => total + note[key], 0);
  return { passed: sum("passed"), failed: Math.max(1, sum("failed"), left.length) };
}

async function runTests(): Promise<{ passed: number; failed: number }> {
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-" });
  const progress = Deno.makeTempDirSync({ prefix: "openfinops-progress-" });
  try {
    // Commands on DuckDB files add its package, which is large, to the lock file of a checkout.
    Deno.copyFileSync(LOCK, `${folder}/deno.lock`);
    Deno.env.set("TEST_LOCK_FILE", `${folder}/deno.lock`);
    Deno.env.set("TEST_PROGRESS_FOLDER", progress);
    // One more than cores, as tests often wait for a server or a program.
    if (!Deno.env.has("DENO_JOBS")) Deno.env.set("DENO_JOBS", String(navigator.hardwareConcurrency + 1));
    const path = `${folder}/report.xml`;
    // `task check` has checked the types.
    const options = ["-q", "-A", "--doc", "--no-check", "--parallel", `--junit-path=${path}`];
    for (const name of ["time_limit.ts", "fixtures.ts"]) options.push("--preload", pathOf(`tests/${name}`));
    // The commands that the tests start leave profiles in the same folder.
    const profiles = `${folder}/profiles`;
    if (isCoverage) options.push(`--coverage=${profiles}`, "--coverage-raw-data-only");
    const paths = files.length > 0
      ? files.map((path) => Deno.realPathSync(path))
      : [...SLOW_FILES.map(pathOf), fromFileUrl(ROOT)];
    // In the temporary folder, because the examples of the documents write files where they run.
    const success = await runUntilDeadline(
      ["test", ...options, "--config", pathOf("deno.json"), ...paths],
      folder,
    );
    if (success === undefined) return readProgress(progress);
    if (isCoverage) console.log(`\n${await coverageTable(profiles)}`);
    const { tests, failed } = readReport(path);
    // A module that does not load fails the run without being counted as a test.
    return { passed: tests - failed, failed: success ? failed : Math.max(1, failed) };
  } finally {
    Deno.copyFileSync(`${folder}/deno.lock`, LOCK);
    for (const path of [folder, progress]) Deno.removeSync(path, { recursive: true });
  }
}

let passed = 0;
let failed = 0;
const checks = (isCoverage ? [] : CHECKS).map(check);
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
for (const success of await Promise.all(checks)) {
  if (success) passed++;
  else failed++;
}
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
