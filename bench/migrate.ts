/**
 * Measures `migrate()` from SQLite to PostgreSQL against `pgloader` on the same file and server, in turn, and the
 * memory that it takes. `deno run -A bench/migrate.ts [RECORDS]`.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { migrate, openBackend } from "../mod.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { PostgresServer, runSql, serverVersion, TestDatabase } from "../tests/postgres_server.ts";
import { median } from "./median.ts";

const RECORDS = 2_000_000;
const ROUNDS = 3;
const START = Date.UTC(2026, 0, 1);

/** What each column of a record holds, by SQL: 64 nodes, every field set, a record of each node every minute. */
const VALUES: Readonly<Record<string, string>> = {
  timestamp: `${START} + (i / 64) * 60000`,
  cluster_id: "'prod'",
  node_id: "'gpu-' || (i % 64)",
  health_status: "'healthy'",
  labels: `'{"team":"nlp"}'`,
};
const BY_TYPE: Readonly<Record<string, string>> = {
  real: "(i % 1000) / 10.0",
  integer: "i % 7",
  boolean: "i % 2",
};

/** Makes a file of openfinops with so many metrics. */
async function makeFile(path: string, records: number): Promise<void> {
  await (await openBackend({ connectionString: `sqlite:///${path}` })).close();
  const database = new DatabaseSync(path);
  const columns = systemMetrics.columns.map(({ name, type }) => VALUES[name] ?? BY_TYPE[type]);
  database.exec(
    `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ${records - 1}) ` +
      `INSERT INTO system_metrics SELECT ${columns.join(", ")} FROM n; PRAGMA wal_checkpoint(TRUNCATE)`,
  );
  database.close();
}

/** Seconds, and the most memory in MiB where it is known. */
interface Run {
  seconds: number;
  peak?: number;
}

/** What the process of {@linkcode byMigrate} does. */
async function migrateHere(path: string, url: string): Promise<void> {
  let peak = 0;
  const watch = setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  const start = performance.now();
  const from = await openBackend({ connectionString: `sqlite:///${path}` }, { mode: "read" });
  const to = await openBackend({ connectionString: url });
  const [{ isSame }] = await migrate(from, to, { datasets: ["system_metrics"] });
  await from.close();
  await to.close();
  clearInterval(watch);
  if (!isSame) throw new Error("both sides differ");
  console.log(JSON.stringify({ seconds: (performance.now() - start) / 1_000, peak: peak / 2 ** 20 }));
}

async function byMigrate(path: string, url: string): Promise<Run> {
  const { stdout, success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", "--cached-only", import.meta.url, "migrate", path, url],
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("migrate() failed");
  return JSON.parse(new TextDecoder().decode(stdout));
}

async function byPgloader(path: string, url: string): Promise<Run> {
  const start = performance.now();
  const { success, stdout } = await new Deno.Command("pgloader", { args: [`sqlite://${path}`, url] })
    .output();
  if (!success) throw new Error(new TextDecoder().decode(stdout));
  return { seconds: (performance.now() - start) / 1_000 };
}

async function measure(run: typeof byMigrate, path: string, records: number): Promise<Run> {
  await using database = await TestDatabase.create();
  const found = await run(path, database.url);
  const [{ rows }] = await runSql(database.url, "SELECT count(*) AS rows FROM system_metrics");
  if (Number(rows) !== records) throw new Error(`${rows} of ${records} records came over`);
  return found;
}

async function main(records: number): Promise<void> {
  const hasPgloader = await new Deno.Command("pgloader", { args: ["--version"] }).output().then(
    () => true,
    () => false,
  );
  const folder = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  await using server = await PostgresServer.start({ settings: ["fsync = on", "max_wal_size = 4GB"] });
  Deno.env.set("TEST_POSTGRESQL_URL", server.url());
  try {
    const [few, many] = [records / 4, records].map((count) => ({ count, path: `${folder}/${count}.db` }));
    await makeFile(few.path, few.count);
    await makeFile(many.path, many.count);
    console.log(
      `${records} SystemMetrics from SQLite to PostgreSQL ${await serverVersion()}, ${ROUNDS} rounds`,
    );
    const rates: Record<"ours" | "pgloader", number[]> = { ours: [], pgloader: [] };
    const peaks: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const { seconds, peak } = await measure(byMigrate, many.path, records);
      rates.ours.push(records / seconds);
      peaks.push(peak!);
      if (hasPgloader) rates.pgloader.push(records / (await measure(byPgloader, many.path, records)).seconds);
    }
    const show = (name: string, found: number[]) =>
      console.log(
        `${name.padEnd(12)} ${Math.round(median(found) / 1_000)}k/s  (${
          found.map((rate) => `${Math.round(rate / 1_000)}k`).join(", ")
        })`,
      );
    show("migrate()", rates.ours);
    if (hasPgloader) {
      show("pgloader", rates.pgloader);
      const ratio = median(rates.ours.map((rate, i) => rate / rates.pgloader[i]));
      console.log(`migrate() to pgloader: ${ratio.toFixed(2)}`);
    } else console.log("Not run: pgloader, which this machine does not have");
    const { peak } = await measure(byMigrate, few.path, few.count);
    console.log(
      `peak memory: ${peak!.toFixed(0)} MiB for ${few.count} records, ${
        median(peaks).toFixed(0)
      } MiB for ${records}: ` +
        `${(median(peaks) / peak!).toFixed(2)} times`,
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

if (Deno.args[0] === "migrate") await migrateHere(Deno.args[1], Deno.args[2]);
else await main(Number(Deno.args[0] ?? RECORDS));
