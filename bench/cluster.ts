/**
 * CPU time of `serve` and of the parts of a Citus cluster for each record and each batch, and bytes a record: what
 * docs/scaling.md computes with. Time of processors, unlike time on a clock, is about the same on a busy machine.
 *
 * `deno run -A bench/cluster.ts [--records N]`
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { openBackend } from "../mod.ts";
import type { Backend } from "../src/backends/backend.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { CitusCluster, CitusDatabase } from "../tests/citus_cluster.ts";
import { TemporaryFolder } from "../tests/fixtures.ts";
import { PostgresServer, runSql } from "../tests/postgres_server.ts";
import { startServer } from "../tests/server.ts";
import { Subject } from "./processes.ts";
import { datasetOf, type Measured, recordADay, source } from "./records.ts";

const { values: { records } } = parseArgs({ options: { records: { type: "string", default: "200000" } } });
const RECORDS = Number(records);
/** Records of a large batch, as a server in front of many agents writes them. */
const LARGE = 10_000;
/** Records that one agent writes in a minute: those of eight accelerators every 15 seconds. */
const SMALL = 32;
const TICKS_A_SECOND = 100;

/** CPU seconds of a server and of all processes that it started. */
function cpuOf(server: { readonly pid: number }): number {
  const ticks = (pid: number, fields: readonly number[]) => {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
    return fields.reduce((sum, field) => sum + Number(stat[field]), 0);
  };
  const children = Deno.readTextFileSync(`/proc/${server.pid}/task/${server.pid}/children`).trim().split(" ");
  let sum = ticks(server.pid, [11, 12, 13, 14]); // its own, and that of children that have ended
  for (const child of children.filter((child) => child !== "")) {
    try {
      sum += ticks(Number(child), [11, 12]);
    } catch {
      // ended meanwhile, and is counted next time
    }
  }
  return sum / TICKS_A_SECOND;
}

/** CPU seconds of this process. */
function cpuHere(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Writes records in batches of a size; four are under way at a time. */
async function writeAll(backend: Backend, name: Measured, { count, size }: { count: number; size: number }) {
  const dataset = datasetOf(name);
  const all = (await Array.fromAsync(source<object>(name, count))).map((record) =>
    acceptRecord(dataset, record)
  );
  const batches = Array.from(
    { length: Math.ceil(count / size) },
    (_, i) => all.slice(i * size, (i + 1) * size),
  );
  const start = cpuHere();
  await Promise.all(Array.from({ length: 4 }, async () => {
    for (let records = batches.pop(); records; records = batches.pop()) {
      await backend.write({ id: crypto.randomUUID(), dataset, records });
    }
  }));
  return cpuHere() - start;
}

/** Servers of which processor time is counted together, by name, and how to open an empty database on them. */
interface Place {
  readonly backend: "citus" | "postgresql";
  readonly servers: Readonly<Record<string, readonly PostgresServer[]>>;
  create(): Promise<AsyncDisposable & { readonly url: string }>;
}

/** CPU seconds of the client and of each group of servers; and bytes a record. */
async function measure(
  { backend: kind, servers, create }: Place,
  name: Measured,
  { count, size }: { count: number; size: number },
): Promise<{ seconds: Record<string, number>; bytes: number }> {
  await using database = await create();
  const backend = await openBackend({ backend: kind, connectionString: database.url });
  await backend.write({
    id: crypto.randomUUID(),
    dataset: datasetOf(name),
    records: recordADay(name, count),
  });
  await runSql(database.url, `TRUNCATE ${name}`);
  const now = () =>
    Object.entries(servers).map(([, group]) => group.reduce((sum, server) => sum + cpuOf(server), 0));
  const before = now();
  const client = await writeAll(backend, name, { count, size });
  const after = now();
  const { tableBytes = 0, indexBytes = 0 } = (await backend.stats()).datasets[name];
  await backend.close();
  const groups = Object.keys(servers).map((group, i) => [group, after[i] - before[i]]);
  return {
    seconds: { client, ...Object.fromEntries(groups) },
    bytes: (tableBytes + indexBytes) / count,
  };
}

/** CPU seconds of `serve` with a spool for records that ten clients post as NDJSON, until all of them are stored. */
async function measureServe(url: string, records: number): Promise<number> {
  using spool = new TemporaryFolder();
  const args = ["--connection-string", url, "--spool-directory", spool.path];
  await using serving = await startServer(args, { cwd: Deno.cwd() });
  await using client = Subject.deno();
  const dataset = "system_metrics";
  const order = { what: "post", dataset, url: serving.url, size: 1_000, clients: 10 } as const;
  const send = async (first: number, records: number) => {
    await client.do({ ...order, first, records });
    for (;;) {
      const [{ rows }] = await runSql(url, `SELECT count(*)::int AS rows FROM ${dataset}`);
      if (rows === first + records) return cpuOf(serving.process);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  const warmUp = records / 5;
  const before = await send(0, warmUp);
  return await send(warmUp, records) - before;
}

/** Prints the times of a place, by record or by batch. */
function show(
  title: string,
  seconds: Record<string, number>,
  { per, unit }: { per: number; unit: "µs" | "ms" },
) {
  const scale = unit === "µs" ? 1e6 : 1e3;
  const parts = Object.entries(seconds).map(([name, spent]) =>
    `${name} ${(scale * spent / per).toFixed(2)} ${unit}`
  );
  console.log(`${title}: ${parts.join(", ")}`);
}

const SETTINGS = ["fsync = on", "max_wal_size = 4GB"];
await using cluster = await CitusCluster.start({ settings: SETTINGS });
if (!cluster) {
  console.error("This machine has no Citus.");
  Deno.exit(1);
}
await using server = await PostgresServer.start({ settings: ["shared_buffers = '64MB'", ...SETTINGS] });
const PLACES: readonly Place[] = [
  {
    backend: "citus",
    servers: { coordinator: [cluster.coordinator], workers: cluster.workers },
    create: () => CitusDatabase.createOn(cluster),
  },
  {
    backend: "postgresql",
    servers: { server: [server] },
    async create() {
      const name = `bench_${crypto.randomUUID().replaceAll("-", "")}`;
      await runSql(server.url(), `CREATE DATABASE ${name} TEMPLATE template0`);
      const drop = () => runSql(server.url(), `DROP DATABASE ${name} WITH (FORCE)`);
      return { url: server.url(name), [Symbol.asyncDispose]: async () => void await drop() };
    },
  },
];
for (const place of PLACES) {
  for (const name of ["system_metrics", "device_metrics", "cost_entries"] as const) {
    const { seconds, bytes } = await measure(place, name, { count: RECORDS, size: LARGE });
    show(`${place.backend}, ${name}, a record of ${bytes.toFixed(0)} bytes`, seconds, {
      per: RECORDS,
      unit: "µs",
    });
  }
  const count = SMALL * Math.ceil(RECORDS / 20 / SMALL);
  const { seconds } = await measure(place, "device_metrics", { count, size: SMALL });
  show(`${place.backend}, a batch of ${SMALL}`, seconds, { per: count / SMALL, unit: "ms" });
}
await using database = await PLACES[1].create();
show("serve, system_metrics", { server: await measureServe(database.url, RECORDS) }, {
  per: RECORDS,
  unit: "µs",
});
