import { DatabaseSync } from "node:sqlite";
import { runSql } from "../../tests/postgres_server.ts";
import { findPython, program } from "../peers.ts";
import type { Places, ServerName } from "../fixtures.ts";
import { Shell, Subject } from "../processes.ts";
import { datasetOf, type Measured } from "../records.ts";
import type { Family, Measure, Reach, Row } from "../row.ts";
import type { PersistenceConfig } from "../../mod.ts";

const RECORDS = 1_000_000;
/** Warm-up of the library's process, as in one that has run for a while. */
const WARM_UP = 0.1;
const WORK: Readonly<Record<Measured, string>> = {
  system_metrics: "ingest SystemMetrics",
  cost_entries: "ingest CostEntry with their unique key",
  device_metrics: "ingest DeviceMetrics",
  usage_records: "ingest UsageRecord with their unique key",
};

/** Takes so many records in, and others before, elsewhere, which are not measured. */
export type Ingest = (records: number, warmUp?: number) => Promise<number>;

/** The library, in a process of its own. */
async function ingest(
  config: PersistenceConfig,
  { dataset, records, warmUp, elsewhere }: {
    dataset: Measured;
    records: number;
    warmUp: number;
    elsewhere?: string;
  },
): Promise<number> {
  await using subject = Subject.deno();
  const first = { ...config, connectionString: elsewhere };
  await subject.do({ what: "ingest", dataset, records: warmUp, config: first });
  return (await subject.do({ what: "ingest", dataset, records, config })).seconds;
}

/** Number of records that a process takes in before it is measured. */
export const warmUpOf = (records: number): number => Math.ceil(records * WARM_UP);

/** The library, in memory. */
export function intoMemory(dataset: Measured): Ingest {
  return (records, warmUp = warmUpOf(records)) => ingest({}, { dataset, records, warmUp });
}

/** The library, into an SQLite file. */
export function intoSqlite(places: Places, dataset: Measured, more: PersistenceConfig = {}): Ingest {
  return intoFile(places, dataset, { scheme: "sqlite", ...more });
}

/** The library, into an SQLite or DuckDB file. */
export function intoFile(
  places: Places,
  dataset: Measured,
  { scheme, ...more }: PersistenceConfig & { scheme: "sqlite" | "duckdb" },
): Ingest {
  return async (records, warmUp = warmUpOf(records)) => {
    const [elsewhere, path] = [await places.file(scheme), await places.file(scheme)];
    const config = { ...more, connectionString: `${scheme}:///${path}` };
    const seconds = await ingest(config, {
      dataset,
      records,
      warmUp,
      elsewhere: `${scheme}:///${elsewhere}`,
    });
    for (const file of [elsewhere, path]) Deno.removeSync(file);
    return seconds;
  };
}

/** The library, into a database of its own on a server. */
export function intoServer(
  places: Places,
  dataset: Measured,
  { server, ...more }: { server: ServerName } & PersistenceConfig,
): Ingest {
  return async (records, warmUp = warmUpOf(records)) => {
    await using elsewhere = await places.tables(server, dataset, records);
    await using database = await places.tables(server, dataset, records);
    const config = { ...more, backend: server, connectionString: database.url };
    return await ingest(config, { dataset, records, warmUp, elsewhere: elsewhere.url });
  };
}

/** The `sqlite3` shell; like the library it is not done before the write-ahead log is in the file. */
export function byImport(places: Places, dataset: Measured): Measure {
  return async (records) => {
    const path = await places.file();
    const csv = await places.records(dataset, records, "csv");
    const seconds = await runInShell(
      path,
      `.import --csv "${csv}" ${dataset}\nPRAGMA wal_checkpoint(TRUNCATE);`,
    );
    const database = new DatabaseSync(path);
    const { rows } = database.prepare(`SELECT count(*) AS rows FROM ${dataset}`).get()!;
    database.close();
    assertRows(Number(rows), records);
    Deno.removeSync(path);
    return seconds;
  };
}

async function runInShell(path: string, commands: string): Promise<number> {
  await using shell = await Shell.sqlite(path);
  return await shell.run(commands);
}

/** `psql`, into tables of the library on a server. */
export function byCopy(places: Places, dataset: Measured, server: ServerName): Measure {
  return async (records) => {
    const path = await places.records(dataset, records, "copy");
    await using database = await places.tables(server, dataset, records);
    await using shell = await Shell.psql(database.url);
    const seconds = await shell.run(`\\copy ${dataset} FROM '${path}'`);
    await assertRowsOn(database.url, dataset, records);
    return seconds;
  };
}

function byExecuteValues(places: Places, pageSize: number): Measure {
  return async (records) => {
    const { name, columns } = datasetOf("system_metrics");
    const path = await places.records("system_metrics", records, "copy");
    await using database = await places.tables("postgresql", "system_metrics", records);
    await using subject = await Subject.python();
    const { url } = database;
    const order = { what: "execute_values", url, path, table: name, columns, pageSize } as const;
    const { seconds } = await subject.do(order);
    await assertRowsOn(database.url, name, records);
    return seconds;
  };
}

async function assertRowsOn(url: string, table: string, records: number): Promise<void> {
  const [{ rows }] = await runSql(url, `SELECT count(*) AS rows FROM ${table}`);
  assertRows(Number(rows), records);
}

function assertRows(rows: number, records: number): void {
  if (rows !== records) throw new Error(`${rows} of ${records} rows came in`);
}

function onSqlite(name: string, dataset: Measured, reach: Reach): Row {
  return {
    name,
    work: `${WORK[dataset]}, SQLite`,
    against: "`sqlite3` `.import` of the same CSV",
    quantity: "rate",
    records: RECORDS,
    reach,
    open: async (places) => {
      await program("sqlite3");
      return { ours: intoSqlite(places, dataset), theirs: byImport(places, dataset) };
    },
  };
}

function onPostgresql(name: string, dataset: Measured, reach: Reach): Row {
  return {
    name,
    work: `${WORK[dataset]}, PostgreSQL`,
    against: "`psql` `\\copy`",
    quantity: "rate",
    records: RECORDS,
    reach,
    open: async (places) => {
      await program("psql");
      const server = "postgresql";
      return { ours: intoServer(places, dataset, { server }), theirs: byCopy(places, dataset, server) };
    },
  };
}

function againstPsycopg(pageSize: number): Row {
  return {
    name: `ingest-metrics-postgresql-psycopg2-${pageSize}`,
    work: `${WORK.system_metrics}, PostgreSQL`,
    against: `\`psycopg2\` \`execute_values\`, pages of ${pageSize.toLocaleString("en")}`,
    quantity: "rate",
    records: RECORDS,
    reach: { atLeast: 5 },
    open: async (places) => {
      await findPython();
      return {
        ours: intoServer(places, "system_metrics", { server: "postgresql" }),
        theirs: byExecuteValues(places, pageSize),
      };
    },
  };
}

const onTimescale: Row = {
  name: "ingest-metrics-timescaledb",
  work: `${WORK.system_metrics}, TimescaleDB with compression`,
  against: "`psql` `\\copy` into the plain hypertable",
  quantity: "rate",
  records: RECORDS,
  reach: { atLeast: 1 },
  open: async (places) => {
    await program("psql");
    const config = { server: "timescaledb", enableCompression: true } as const;
    return {
      ours: intoServer(places, "system_metrics", config),
      theirs: byCopy(places, "system_metrics", "timescaledb"),
    };
  },
};

/** A dataset against one of the same kind that is measured against a peer. */
function againstDataset(dataset: Measured, other: Measured): Row[] {
  const make = (name: string, work: string, into: (places: Places, dataset: Measured) => Measure): Row => ({
    name: `ingest-${name}`,
    work: `${WORK[dataset]}, ${work}`,
    against: `${WORK[other]}, the same way`,
    quantity: "rate",
    records: RECORDS,
    reach: { atLeast: 0.9 },
    open: (places) => Promise.resolve({ ours: into(places, dataset), theirs: into(places, other) }),
  });
  const name = dataset.split("_")[0].replace(/device$/, "devices");
  return [
    make(`${name}-sqlite`, "SQLite", intoSqlite),
    make(
      `${name}-postgresql`,
      "PostgreSQL",
      (places, dataset) => intoServer(places, dataset, { server: "postgresql" }),
    ),
  ];
}

/** Ingest rates. */
export const ingestRows: Family = {
  name: "ingest",
  rows: [
    onSqlite("ingest-metrics-sqlite", "system_metrics", { atLeast: 1 }),
    onPostgresql("ingest-metrics-postgresql", "system_metrics", { atLeast: 0.9 }),
    againstPsycopg(100),
    againstPsycopg(1_000),
    onTimescale,
    onSqlite("ingest-costs-sqlite", "cost_entries", { atLeast: 0.8 }),
    onPostgresql("ingest-costs-postgresql", "cost_entries", { atLeast: 0.8 }),
    ...againstDataset("device_metrics", "system_metrics"),
    ...againstDataset("usage_records", "cost_entries"),
  ],
};
