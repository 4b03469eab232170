/**
 * Tries the changes of `mutations.ts`: makes each in a copy of the project, runs its tests there, and tells if they
 * noticed. It is what `deno task mutate` does. Exits with 3 if they notice less than 95 %.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { fileURLToPath as fromFileUrl } from "node:url";
import { suggest } from "../src/nearest.ts";
import { type Mutation, MUTATIONS } from "./mutations.ts";
import { PostgresServer } from "./postgres_server.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
/** Percentage of the changes that the tests must notice. */
const REQUIRED = 95;
/** The least and the multiple of the time without the change, after which a run counts as stuck. */
const LEAST_TIMEOUT_MS = 60_000;
const TIMEOUT_FACTOR = 10;

const USAGE = `Usage: deno task mutate [NAME…] [--jobs N] [--list]

NAME is an area or a change of tests/mutations.ts; all are tried without one.
--jobs N runs so many at a time (default: half of the processors). --list names them.`;

/** Result of a run of tests. */
interface Run {
  readonly result: "passed" | "failed" | "timeout" | "broken";
  readonly ms: number;
  readonly output: string;
}

/** Result of a change. `error` says why it could not be tried. */
interface Outcome {
  readonly result: "killed" | "survived" | "equivalent" | "error";
  readonly detail: string;
}

/** The tests without any change, each run once: a test that fails anyway notices nothing. */
const baselines = new Map<string, Promise<Run>>();

/** Test runs under way. */
const running = new Set<Deno.ChildProcess>();
/** True once the program was told to stop: it then ends what it has started, and removes its copies. */
let isStopped = false;

/** Runs an entry of `tests` in a copy of the project. */
async function runTests(copy: string, entry: string, timeoutMs: number): Promise<Run> {
  const [, file, filter] = /^(.*?\.ts)(?:: (.*))?$/.exec(entry) ?? [];
  const options = ["-q", "-A", "--no-check", "--fail-fast", "--preload", "tests/fixtures.ts"];
  if (filter) options.push("--filter", filter);
  const start = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", ...options, `tests/${file}`],
    cwd: copy,
    env: { NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
    detached: Deno.build.os !== "windows", // so that what it has started can be ended, too
  }).spawn();
  running.add(child);
  let isStuck = false;
  const timer = setTimeout(() => {
    isStuck = true;
    end(child);
  }, timeoutMs);
  const { success, stdout, stderr } = await child.output();
  clearTimeout(timer);
  running.delete(child);
  const decoder = new TextDecoder();
  const output = decoder.decode(stdout) + decoder.decode(stderr);
  const [, passed = 0, failed = 0] = /(\d+) passed[^|]*\| (\d+) failed/.exec(output)?.map(Number) ?? [];
  const result = isStuck ? "timeout" : success && passed > 0 ? "passed" : failed > 0 // a module that cannot be loaded fails as well, without a test that has failed
    ? "failed"
    : "broken";
  return { result, ms: performance.now() - start, output };
}

/** Ends a child and what it has started. */
function end(child: Deno.ChildProcess): void {
  try {
    if (Deno.build.os === "windows") child.kill("SIGKILL");
    else Deno.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** Makes a change in a copy, runs its tests, and takes it back. */
async function tryMutation(copy: string, { file, before, after, tests }: Mutation): Promise<Outcome> {
  const path = `${copy}/${file}`;
  const text = Deno.readTextFileSync(path);
  if (text.split(before).length !== 2) return { result: "error", detail: `"before" is not once in ${file}` };
  for (const entry of tests) {
    if (!baselines.has(entry)) baselines.set(entry, runTests(copy, entry, 20 * LEAST_TIMEOUT_MS));
    const { result, ms, output } = await baselines.get(entry)!;
    if (result !== "passed") {
      return {
        result: "error",
        detail: `"${entry}" does not pass without a change\n${output.slice(-2_000)}`,
      };
    }
    const timeoutMs = Math.max(LEAST_TIMEOUT_MS, TIMEOUT_FACTOR * ms);
    Deno.writeTextFileSync(path, text.replace(before, () => after));
    const run = await runTests(copy, entry, timeoutMs).finally(() => Deno.writeTextFileSync(path, text));
    const seconds = `${(run.ms / 1000).toFixed(1)} s`;
    if (run.result === "timeout") return { result: "killed", detail: `stuck, ended after ${seconds}` };
    if (run.result === "failed") return { result: "killed", detail: seconds };
    if (run.result === "broken") {
      return { result: "error", detail: `the change cannot be run\n${run.output.slice(-2_000)}` };
    }
  }
  return { result: "survived", detail: tests.join(", ") };
}

/** Copies the project as it is on disk, without what tests and tools leave behind. */
function copyProject(to: string): string {
  const copyFolder = (name: string) => {
    Deno.mkdirSync(`${to}/${name}`);
    for (const entry of Deno.readDirSync(`${ROOT}/${name}`)) {
      const path = `${name}/${entry.name}`;
      if (/^\/(\.git|coverage|dist)$|\.db(-shm|-wal)?$/.test(path)) continue;
      if (entry.isDirectory) copyFolder(path);
      else Deno.copyFileSync(`${ROOT}/${path}`, `${to}/${path}`);
    }
  };
  copyFolder("");
  return to;
}

/** The changes that are named, or all. */
function select(names: readonly string[]): Mutation[] {
  const all = Object.values(MUTATIONS).flat();
  if (names.length === 0) return all;
  return names.flatMap((name) => {
    const found = MUTATIONS[name] ?? all.filter((mutation) => mutation.name === name);
    if (found.length > 0) return found;
    const known = [...Object.keys(MUTATIONS), ...all.map(({ name }) => name)];
    console.error(`Unknown change "${name}".${suggest(name, known)}`);
    Deno.exit(2);
  });
}

/** Tries changes, so many at a time, each job in a copy of its own. */
async function tryAll(mutations: readonly Mutation[], jobs: number): Promise<Outcome["result"][]> {
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-mutate-" });
  const results: Outcome["result"][] = [];
  const left = mutations.values();
  const work = async (_: unknown, job: number) => {
    const copy = copyProject(`${folder}/${job}`);
    for (const mutation of left) {
      const { result, detail }: Outcome = mutation.equivalent
        ? { result: "equivalent", detail: mutation.equivalent }
        : await tryMutation(copy, mutation);
      if (isStopped) return;
      results.push(result);
      console.log(`${result.padEnd(10)} ${mutation.name} (${detail})`);
    }
  };
  try {
    await Promise.all(Array.from({ length: jobs }, work));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
  return results;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { jobs: { type: "string" }, list: { type: "boolean" }, help: { type: "boolean" } },
});
const jobs = Number(values.jobs ?? Math.max(1, Math.floor(navigator.hardwareConcurrency / 2)));
if (values.help || !(Number.isInteger(jobs) && jobs > 0)) {
  console.error(USAGE);
  Deno.exit(values.help ? 0 : 2);
}
const selected = select(positionals);
if (values.list) {
  for (const { name, file, equivalent } of selected) {
    console.log(`${name} (${file})${equivalent ? `: equivalent, ${equivalent}` : ""}`);
  }
  Deno.exit();
}
const stop = () => {
  isStopped = true;
  for (const child of running) end(child);
};
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  if (Deno.build.os !== "windows" || signal === "SIGINT") Deno.addSignalListener(signal, stop);
}
const given = Deno.env.get("TEST_POSTGRESQL_URL");
const server = given ? undefined : await PostgresServer.start();
await server?.loadTimescale();
if (server) Deno.env.set("TEST_POSTGRESQL_URL", server.url());
const results = await tryAll(selected, jobs).finally(() => server?.[Symbol.asyncDispose]());

const count = (result: Outcome["result"]) => results.filter((each) => each === result).length;
const tried = results.length - count("equivalent");
const percent = tried === 0 ? 100 : 100 * count("killed") / tried;
console.log(
  `\n${count("killed")} of ${tried} killed (${percent.toFixed(1)} %), ${count("survived")} survived, ` +
    `${count("error")} could not be tried, ${count("equivalent")} equivalent`,
);
Deno.exit(isStopped ? 130 : percent < REQUIRED ? 3 : 0); // listeners of signals would keep it running
