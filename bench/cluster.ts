/**
 * CPU time of the parts of a Citus cluster for each record and each batch, and bytes a record: what docs/scaling.md
 * computes with. Time of processors, unlike time on a clock, is about the same on a busy machine.
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
import type { PostgresServer } from "../tests/postgres_server.ts";
import { datasetOf, type Measured, recordADay, source } from "./records.ts";

const { values: { records } } = parseArgs({ options: { records: { type: "string", default: "200000" } } });
const RECORDS = Number(records);
/** Records of a large batch, as a server in front of many agents writes them. */
const LARGE = 10_000;
/** Records that one agent writes in a minute: those of eight accelerators every 15 seconds. */
const SMALL = 32;
const TICKS_A_SECOND = 100;

/** CPU seconds of a server and of all processes that it started. */
function cpuOf(server: PostgresServer): number {
  const ticks = (pid: number, fields: readonly number[]) => {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
    return fields.reduce((sum, field) => sum + Number(stat[field]), 0);
  };
  const children = Deno.readTextFileSync(`/proc/${server.pid}/task/${server.pid}/children`).trim().split(" ");
  let sum = ticks(server.pid, [11, 12, 13, 14]); // its own, and that of children that have ended
  for (const child of children) {
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

async function measure(
  cluster: CitusCluster,
  name: Measured,
  { count, size }: { count: number; size: number },
) {
  await using database = await CitusDatabase.create(cluster);
  const backend = await openBackend({ backend: "citus", connectionString: database.url });
  await backend.write({
    id: crypto.randomUUID(),
    dataset: datasetOf(name),
    records: recordADay(name, count),
  });
  await database.sql(`TRUNCATE ${name}`);
  const now =
    () => [cpuOf(cluster.coordinator), cluster.workers.reduce((sum, server) => sum + cpuOf(server), 0)];
  const [coordinator, workers] = now();
  const client = await writeAll(backend, name, { count, size });
  const after = now();
  const { tableBytes = 0, indexBytes = 0 } = (await backend.stats()).datasets[name];
  await backend.close();
  return {
    coordinator: after[0] - coordinator,
    workers: after[1] - workers,
    client,
    bytes: (tableBytes + indexBytes) / count,
  };
}

await using cluster = await CitusCluster.start({ settings: ["fsync = on", "max_wal_size = 4GB"] });
if (!cluster) {
  console.error("This machine has no Citus.");
  Deno.exit(1);
}
for (const name of ["system_metrics", "device_metrics", "cost_entries"] as const) {
  const found = await measure(cluster, name, { count: RECORDS, size: LARGE });
  const us = (seconds: number) => (1e6 * seconds / RECORDS).toFixed(1);
  console.log(
    `${name}: µs a record: client ${us(found.client)}, coordinator ${us(found.coordinator)}, ` +
      `workers ${us(found.workers)}; ${found.bytes.toFixed(0)} bytes a record`,
  );
}
const count = Math.ceil(RECORDS / 20);
const small = await measure(cluster, "device_metrics", { count, size: SMALL });
const ms = (seconds: number) => (1e3 * seconds / (count / SMALL)).toFixed(2);
console.log(
  `batches of ${SMALL}: ms a batch: client ${ms(small.client)}, coordinator ${ms(small.coordinator)}, ` +
    `workers ${ms(small.workers)}`,
);
