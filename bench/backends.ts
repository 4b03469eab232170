/**
 * Measures what the backends differ in: disk by row, and how many records a second several processes write at
 * once. `deno run -A bench/backends.ts`
 *
 * @module
 */
import { type Backend, CostObservatory, type DatasetName, ObservabilityHub, openBackend } from "../mod.ts";
import { PostgresServer, serverVersion, TestDatabase, timescaleVersion } from "../tests/postgres_server.ts";
import {
  costSamples,
  deviceSamples,
  pointSamples,
  samples,
  serviceSamples,
  usageSamples,
} from "./samples.ts";

const ROWS = 300_000;
const ROUNDS = 3; // the middle one counts
const SAMPLES = {
  system_metrics: samples,
  service_metrics: serviceSamples,
  device_metrics: deviceSamples,
  usage_records: usageSamples,
  cost_entries: costSamples,
  metric_points: pointSamples,
};

/** Puts the samples of a dataset into a backend. */
async function fill(backend: Backend, dataset: DatasetName, rows: number): Promise<void> {
  const hub = await ObservabilityHub.open({ backend });
  const costs = await CostObservatory.open({ backend });
  const sinks: Record<DatasetName, WritableStream> = {
    system_metrics: hub.systemMetricsSink(),
    service_metrics: hub.serviceMetricsSink(),
    device_metrics: hub.deviceMetrics.sink(),
    usage_records: costs.usage.sink(),
    cost_entries: costs.costEntriesSink(),
    metric_points: hub.metricPoints.sink(),
  };
  await ReadableStream.from<unknown>(SAMPLES[dataset](rows)).pipeTo(sinks[dataset]);
  await hub.close();
  await costs.close();
}

/** Opens a new database and gives what is to be done with it afterwards. */
type Make = () => Promise<{ url: string; database?: TestDatabase; remove(): Promise<void> }>;

const onServer = (scheme: string): Make => async () => {
  const database = await TestDatabase.create();
  const url = database.url.replace(/^\w+/, scheme);
  return { url, database, remove: () => database[Symbol.asyncDispose]() };
};

const inFile: Make = () => {
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  const remove = () => Promise.resolve(Deno.removeSync(folder, { recursive: true }));
  return Promise.resolve({ url: `sqlite:///${folder}/bench.db`, remove });
};

/** Bytes by row of a dataset, indexes included. */
async function bytesPerRow(make: Make, dataset: DatasetName, enableCompression: boolean): Promise<number> {
  const { url, database, remove } = await make();
  const filled = await openBackend({ connectionString: url, enableCompression });
  await fill(filled, dataset, ROWS);
  await filled.close(); // with it goes the write-ahead log of SQLite
  if (enableCompression) {
    await database!.sql(`SELECT compress_chunk(chunk, true) FROM show_chunks('${dataset}') chunk`);
  }
  const backend = await openBackend({ connectionString: url });
  const { datasets, storage } = await backend.stats();
  const { tableBytes, indexBytes } = datasets[dataset];
  await backend.close();
  await remove();
  return (tableBytes === undefined ? Number(storage.fileSizeBytes) : tableBytes + indexBytes!) / ROWS;
}

/** Records a second of so many processes that write into one database at once. */
async function writersRate(make: Make, writers: number): Promise<number> {
  const { url, remove } = await make();
  await (await openBackend({ connectionString: url })).close();
  const args = ["run", "-q", "-A", new URL(import.meta.url).pathname, "writer", url];
  const runs = Array.from({ length: writers }, () => new Deno.Command(Deno.execPath(), { args }).output());
  const spans = (await Promise.all(runs)).map(({ stdout }) =>
    JSON.parse(new TextDecoder().decode(stdout)) as [number, number]
  );
  await remove();
  const took = Math.max(...spans.map(([, end]) => end)) - Math.min(...spans.map(([start]) => start));
  return writers * ROWS / took * 1_000;
}

/** Work of such a process: writes, and reports when it started and ended. */
async function beWriter(url: string): Promise<void> {
  const backend = await openBackend({ connectionString: url });
  const start = performance.timeOrigin + performance.now();
  await fill(backend, "system_metrics", ROWS);
  console.log(JSON.stringify([start, performance.timeOrigin + performance.now()]));
  await backend.close();
}

async function measure(name: string, make: Make, enableCompression = false): Promise<void> {
  for (const dataset of Object.keys(SAMPLES) as DatasetName[]) {
    const bytes = await bytesPerRow(make, dataset, enableCompression);
    console.log(`${name}, ${dataset}: ${bytes.toFixed(0)} bytes a row`);
  }
  if (enableCompression) return;
  for (const writers of [1, 2, 4]) {
    const rates: number[] = [];
    for (let i = 0; i < ROUNDS; i++) rates.push(await writersRate(make, writers));
    console.log(
      `${name}, ${writers} writers: ${
        Math.round(rates.sort((a, b) => a - b)[1]).toLocaleString("en")
      } records a second`,
    );
  }
}

if (Deno.args[0] === "writer") {
  await beWriter(Deno.args[1]);
} else {
  await measure("sqlite", inFile);
  await using server = await PostgresServer.start({ settings: ["fsync = on", "max_wal_size = 4GB"] });
  await server.loadTimescale();
  Deno.env.set("TEST_POSTGRESQL_URL", server.url());
  console.log(`PostgreSQL ${await serverVersion()}`);
  await measure("postgresql", onServer("postgresql"));
  if ((await timescaleVersion()).version) {
    await measure("timescaledb", onServer("timescaledb"));
    await measure("timescaledb, compressed", onServer("timescaledb"), true);
  }
}
