import { QUESTIONS } from "../questions.ts";
import { Subject } from "../processes.ts";
import { program } from "../peers.ts";
import type { Places } from "../fixtures.ts";
import { type Precision, source } from "../records.ts";
import { START } from "../samples.ts";
import { HOUR_MS } from "../../src/records/calendar.ts";
import type { Family, Row } from "../row.ts";
import type { SystemMetricsInput } from "../../mod.ts";
import { useDuckdbLibrary } from "../../tests/duckdb_library.ts";
import { intoFile } from "./ingest.ts";
import { victoriaMetrics } from "./receive.ts";

const RECORDS = 1_000_000;
const STORED = 5_000_000;
/** The part of the records that there are cost entries. */
const COSTS = 0.2;

function ingestRow(name: string, dataset: "system_metrics" | "cost_entries"): Row {
  return {
    name: `ingest-${name}-duckdb`,
    work: `ingest ${dataset === "system_metrics" ? "SystemMetrics" : "CostEntry"}, DuckDB`,
    against: "the same into SQLite",
    quantity: "rate",
    records: RECORDS,
    reach: { atLeast: 1 },
    async open(places) {
      await useDuckdbLibrary();
      const into = (scheme: "sqlite" | "duckdb") => intoFile(places, dataset, { scheme });
      return { ours: into("duckdb"), theirs: into("sqlite") };
    },
  };
}

function filled(places: Places, records: number): Promise<string> {
  return places.filled("duckdb", { system_metrics: records, cost_entries: Math.ceil(records * COSTS) });
}

/** Asks the library; the session stays open and has been asked once before. */
async function askOurs(places: Places, records: number, question: string): Promise<() => Promise<number>> {
  await useDuckdbLibrary();
  const connectionString = await filled(places, records);
  const subject = places.use(Subject.deno());
  return async () => (await subject.do({ what: "answer", connectionString, question })).seconds;
}

function answerRow(question: string): Row {
  return {
    name: `answers-${question}-duckdb`,
    work: `${QUESTIONS[question].title}, DuckDB`,
    against: "plain SQL in bare DuckDB",
    quantity: "time",
    records: STORED,
    reach: { atMost: 1.2 },
    async open(places, records) {
      const ours = await askOurs(places, records, question);
      const path = places.path(".duckdb");
      Deno.copyFileSync((await filled(places, records)).replace("duckdb:///", ""), path);
      const subject = places.use(Subject.deno());
      const order = { what: "bare", path, sql: QUESTIONS[question].duckdb! } as const;
      return { ours, theirs: async () => (await subject.do(order)).seconds };
    },
  };
}

/** Fills VictoriaMetrics with two measures of the records, and gives the time of an answer. */
async function askVictoria(places: Places, records: number): Promise<() => Promise<number>> {
  const { path } = await program("victoria-metrics");
  const server = places.use(victoriaMetrics(places, path));
  const { origin } = new URL(await server.url);
  const format = "1:time:unix_ms,2:label:cluster,3:label:node,4:metric:cpu_usage,5:metric:gpu_usage";
  const send = async (lines: string) => {
    const body = { method: "POST", body: lines };
    const response = await fetch(`${origin}/api/v1/import/csv?format=${format}`, body);
    await response.body?.cancel();
    if (!response.ok) throw new Error(`VictoriaMetrics answered ${response.status}`);
  };
  let lines = "";
  let last = 0;
  for await (const record of source<SystemMetricsInput>("system_metrics", records)) {
    last = record.timestamp as number;
    lines += `${last},${record.clusterId},${record.nodeId},${record.cpuUsage},${record.gpuUsage}\n`;
    if (lines.length < 4_000_000) continue;
    await send(lines);
    lines = "";
  }
  await send(lines);
  await (await fetch(`${origin}/internal/force_flush`)).text();
  const measures = ["cpu_usage", "gpu_usage"].flatMap((name) =>
    ["avg", "max"].map((fn) =>
      `label_set(${fn} by (cluster) (${fn}_over_time(${name}[1h])), "m", "${name} ${fn}")`
    )
  );
  const query = encodeURIComponent(`union(${measures.join(", ")})`);
  // The window of a step ends with it.
  const range = `start=${(START + HOUR_MS) / 1_000}&end=${
    Math.ceil((last + 1) / HOUR_MS) * HOUR_MS / 1_000
  }&step=1h`;
  const ask = async () => {
    const response = await fetch(`${origin}/api/v1/query_range?query=${query}&${range}&nocache=1`);
    const { data } = await response.json();
    if (data.result.length !== 8) throw new Error(`VictoriaMetrics gave ${data.result.length} series`);
  };
  return async () => {
    await ask();
    const start = performance.now();
    await ask();
    return (performance.now() - start) / 1_000;
  };
}

function diskRow(
  name: string,
  digits: string,
  { precision, reach }: { precision: Precision; reach?: Row["reach"] },
): Row {
  const bytesIn = (places: Places, scheme: string) => async (records: number) => {
    await using subject = Subject.deno();
    const path = places.path(".db");
    const config = { connectionString: `${scheme}:///${path}` };
    await subject.do({ what: "ingest", dataset: "system_metrics", records, config, precision });
    return Deno.statSync(path).size / records;
  };
  return {
    name,
    work: `disk of SystemMetrics with ${digits}, DuckDB`,
    against: "SQLite",
    quantity: "disk",
    records: RECORDS,
    pairs: 1, // the same in every run
    isCold: true,
    ...(reach ? { reach } : {}),
    async open(places) {
      await useDuckdbLibrary();
      return { ours: bytesIn(places, "duckdb"), theirs: bytesIn(places, "sqlite") };
    },
  };
}

/** DuckDB beside SQLite, beside bare DuckDB, and beside VictoriaMetrics. */
export const duckdbRows: Family = {
  name: "duckdb",
  rows: [
    ingestRow("metrics", "system_metrics"),
    ingestRow("costs", "cost_entries"),
    answerRow("hours"),
    answerRow("p95"),
    answerRow("costs-days"),
    {
      name: "answers-hours-duckdb-victoria",
      work: `${QUESTIONS.hours.title}, DuckDB`,
      against: "VictoriaMetrics",
      quantity: "time",
      records: STORED,
      reach: { atMost: 1 },
      async open(places, records) {
        const theirs = await askVictoria(places, records);
        return { ours: await askOurs(places, records, "hours"), theirs };
      },
    },
    diskRow("disk-duckdb", "values of two decimals", { precision: "two-decimals", reach: { atMost: 0.3 } }),
    diskRow("disk-duckdb-full", "values of all digits", { precision: "full" }),
  ],
};
