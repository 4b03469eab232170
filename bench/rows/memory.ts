import { useDuckdbLibrary } from "../../tests/duckdb_library.ts";
import { Subject } from "../processes.ts";
import type { Places } from "../fixtures.ts";
import type { Family, Measure, Row } from "../row.ts";

const RECORDS = 10_000_000;
/** The part of the records whose memory all of them may take. */
const FEW = 0.1;

function row(name: string, work: string, peakOf: (places: Places) => Measure): Row {
  return {
    name,
    work: `memory: ${work}`,
    against: "itself with a tenth of the records",
    quantity: "memory",
    records: RECORDS,
    reach: { atMost: 1.1 },
    isCold: true, // memory that was taken to warm up would hide what is taken later
    open: (places) => {
      const ours = peakOf(places);
      return Promise.resolve({ ours, theirs: (records) => ours(Math.ceil(records * FEW)) });
    },
  };
}

const intoFile = (scheme: "sqlite" | "duckdb") => (places: Places): Measure => async (records) => {
  if (scheme === "duckdb") await useDuckdbLibrary();
  const path = await places.file(scheme);
  const connectionString = `${scheme}:///${path}`;
  const { peak } = await places.ingest("system_metrics", records, { connectionString });
  Deno.removeSync(path);
  return peak!;
};

const intoPostgresql = (places: Places): Measure => async (records) => {
  await using database = await places.tables("postgresql", "system_metrics", records);
  const { peak } = await places.ingest("system_metrics", records, { connectionString: database.url });
  return peak!;
};

const migration = (places: Places): Measure => async (records) => {
  const from = await places.filled("sqlite", { system_metrics: records });
  await using database = await places.database("postgresql");
  await using subject = Subject.deno();
  return (await subject.do({ what: "migrate", from, to: database.url })).peak!;
};

/** Peak memory of a process, as the system reports it. */
export const memoryRows: Family = {
  name: "memory",
  rows: [
    row("memory-ingest-sqlite", "ingest SystemMetrics, SQLite", intoFile("sqlite")),
    // Its memory grows with the file: DuckDB caches the blocks that it writes, up to 1 GB.
    {
      ...row("memory-ingest-duckdb", "ingest SystemMetrics, DuckDB with its cache", intoFile("duckdb")),
      reach: undefined,
    },
    row("memory-ingest-postgresql", "ingest SystemMetrics, PostgreSQL", intoPostgresql),
    row("memory-migrate", "migrate SQLite → PostgreSQL", migration),
  ],
};
