import type { SystemMetricsInput } from "../../mod.ts";
import { TYPES } from "../../src/backends/duckdb/schema.ts";
import { HOUR_MS } from "../../src/records/calendar.ts";
import { useDuckdbLibrary } from "../../tests/duckdb_library.ts";
import { runSql } from "../../tests/postgres_server.ts";
import type { Places } from "../fixtures.ts";
import { program } from "../peers.ts";
import { Subject } from "../processes.ts";
import { QUESTIONS } from "../questions.ts";
import { datasetOf, type Measured, type Precision, recordAt, source } from "../records.ts";
import type { Family, Measure, Row } from "../row.ts";
import { START } from "../samples.ts";
import { VictoriaMetrics } from "../victoria_metrics.ts";
import { byCopy, byImport, intoFile } from "./ingest.ts";

const RECORDS = 1_000_000;
const STORED = 5_000_000;
/** The part of the records that there are cost entries. */
const COSTS = 0.2;

/** The same records taken in by something else. */
interface Peer {
  readonly name: string;
  readonly against: string;
  readonly reach?: Row["reach"];
  open(places: Places, dataset: Measured): Promise<Measure>;
}

const SQLITE: Peer = {
  name: "",
  against: "the same into SQLite",
  reach: { atLeast: 1 },
  open: (places, dataset) => Promise.resolve(intoFile(places, dataset, { scheme: "sqlite" })),
};

/** Programs that load the same SystemMetrics from a file, each by its own bulk load. */
const PEERS: readonly Peer[] = [
  {
    name: "-bare",
    against: "`read_csv` of bare DuckDB",
    open: (places) => Promise.resolve(byBareDuckdb(places)),
  },
  {
    name: "-sqlite3",
    against: "`sqlite3` `.import`",
    async open(places, dataset) {
      await program("sqlite3");
      return byImport(places, dataset);
    },
  },
  {
    name: "-psql",
    against: "`psql` `\\copy` into PostgreSQL",
    async open(places, dataset) {
      await program("psql");
      return byCopy(places, dataset, "postgresql");
    },
  },
  {
    name: "-victoria",
    against: "CSV into VictoriaMetrics",
    async open(places, dataset) {
      await program("victoria-metrics");
      return async (records) => {
        const path = await places.records(dataset, records, "csv");
        await using server = await VictoriaMetrics.start(places);
        const start = performance.now();
        await server.takeFile(path);
        return (performance.now() - start) / 1_000;
      };
    },
  },
];

/** DuckDB itself, into the table of the library; like the library it is not done before the log is in the file. */
function byBareDuckdb(places: Places): Measure {
  return async (records) => {
    const file = await places.records("system_metrics", records, "csv");
    const path = await places.file("duckdb");
    const columns = datasetOf("system_metrics").columns.map(({ name, type }) => {
      if (type === "timestamp") return `epoch_ms(${name})`;
      return type === "map" ? `${name}::JSON::MAP(VARCHAR, VARCHAR)` : name;
    });
    const types = datasetOf("system_metrics").columns.map(({ name, type }) =>
      `'${name}': '${type === "timestamp" ? "BIGINT" : type === "map" ? "VARCHAR" : TYPES[type].sql}'`
    );
    const sql = `INSERT INTO system_metrics SELECT ${columns.join(", ")} ` +
      `FROM read_csv('${file}', header = false, columns = {${types.join(", ")}}); CHECKPOINT; ` +
      "SELECT count(*) FROM system_metrics";
    await using subject = Subject.deno();
    const { seconds } = await subject.do({ what: "bare", path, sql, isCold: true });
    Deno.removeSync(path);
    return seconds;
  };
}

function ingestRow(name: string, dataset: "system_metrics" | "cost_entries", peer: Peer): Row {
  return {
    name: `ingest-${name}-duckdb${peer.name}`,
    work: `ingest ${dataset === "system_metrics" ? "SystemMetrics" : "CostEntry"}, DuckDB`,
    against: peer.against,
    quantity: "rate",
    records: RECORDS,
    ...(peer.reach ? { reach: peer.reach } : {}),
    async open(places) {
      await useDuckdbLibrary();
      const theirs = await peer.open(places, dataset);
      return { ours: intoFile(places, dataset, { scheme: "duckdb" }), theirs };
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

/** Queries measures by hour and cluster in VictoriaMetrics. The query has run once before. */
async function askVictoria(places: Places, records: number): Promise<() => Promise<number>> {
  const server = places.use(await VictoriaMetrics.start(places));
  const fields = ["cpu_usage", "gpu_usage"];
  await server.take(source<SystemMetricsInput>("system_metrics", records), fields);
  const measures = fields.flatMap((name) =>
    ["avg", "max"].map((fn) =>
      `label_set(${fn} by (cluster_id) (${fn}_over_time(${name}[1h])), "m", "${name} ${fn}")`
    )
  );
  const query = encodeURIComponent(`union(${measures.join(", ")})`);
  const { timestamp: last } = recordAt("system_metrics", records - 1) as { timestamp: number };
  // The window of a step ends with it.
  const range = `start=${(START + HOUR_MS) / 1_000}&end=${
    Math.ceil((last + 1) / HOUR_MS) * HOUR_MS / 1_000
  }&step=1h`;
  const ask = async () => {
    const { data } = JSON.parse(await server.get(`/api/v1/query_range?query=${query}&${range}&nocache=1`));
    if (data.result.length !== 8) throw new Error(`VictoriaMetrics gave ${data.result.length} series`);
  };
  return async () => {
    await ask();
    const start = performance.now();
    await ask();
    return (performance.now() - start) / 1_000;
  };
}

/** Measures the bytes of a record on disk. */
type BytesIn = (places: Places, precision: Precision) => Measure;

const inFile = (scheme: "sqlite" | "duckdb"): BytesIn => (places, precision) => async (records) => {
  await using subject = Subject.deno();
  const path = places.path(".db");
  const config = { connectionString: `${scheme}:///${path}` };
  await subject.do({ what: "ingest", dataset: "system_metrics", records, config, precision });
  return Deno.statSync(path).size / records;
};

const inPostgres: BytesIn = (places, precision) => async (records) => {
  await using database = await places.database("postgresql");
  const config = { backend: "postgresql", connectionString: database.url } as const;
  await using subject = Subject.deno();
  await subject.do({ what: "ingest", dataset: "system_metrics", records, config, precision });
  const [{ bytes }] = await runSql(
    database.url,
    "SELECT sum(pg_total_relation_size(relid))::bigint AS bytes FROM pg_partition_tree('system_metrics')",
  );
  return Number(bytes) / records;
};

const inVictoria: BytesIn = (places, precision) => async (records) => {
  await using server = await VictoriaMetrics.start(places);
  await server.take(source<SystemMetricsInput>("system_metrics", records, precision));
  return await server.bytes() / records;
};

const DISKS: readonly { name: string; against: string; bytes: BytesIn; reach?: Row["reach"] }[] = [
  { name: "", against: "SQLite", bytes: inFile("sqlite"), reach: { atMost: 0.3 } },
  { name: "-psql", against: "PostgreSQL", bytes: inPostgres },
  { name: "-victoria", against: "VictoriaMetrics", bytes: inVictoria },
];

const PRECISIONS: readonly { name: string; digits: string; precision: Precision }[] = [
  { name: "", digits: "values of two decimals", precision: "two-decimals" },
  { name: "-full", digits: "values of all digits", precision: "full" },
];

const diskRows: readonly Row[] = PRECISIONS.flatMap(({ name: suffix, digits, precision }) =>
  DISKS.map(({ name, against, bytes, reach }): Row => ({
    name: `disk-duckdb${name}${suffix}`,
    work: `disk of SystemMetrics with ${digits}, DuckDB`,
    against,
    quantity: "disk",
    records: RECORDS,
    pairs: 1, // the same in every run
    isCold: true,
    ...(reach && suffix === "" ? { reach } : {}),
    async open(places) {
      await useDuckdbLibrary();
      return { ours: inFile("duckdb")(places, precision), theirs: bytes(places, precision) };
    },
  }))
);

/** DuckDB beside other databases, and beside itself. */
export const duckdbRows: Family = {
  name: "duckdb",
  rows: [
    ingestRow("metrics", "system_metrics", SQLITE),
    ingestRow("costs", "cost_entries", SQLITE),
    ...PEERS.map((peer) => ingestRow("metrics", "system_metrics", peer)),
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
    ...diskRows,
  ],
};
