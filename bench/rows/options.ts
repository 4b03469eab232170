import type { PersistenceConfig } from "../../mod.ts";
import type { Places } from "../fixtures.ts";
import type { Family, Measure, Row } from "../row.ts";
import { intoServer, intoSqlite } from "./ingest.ts";

const RECORDS = 1_000_000;
const DATASET = "system_metrics";

type Make = (places: Places, config: PersistenceConfig) => Measure;

const BACKENDS = {
  SQLite: (places: Places, config: PersistenceConfig) => intoSqlite(places, DATASET, config),
  PostgreSQL: (places: Places, config: PersistenceConfig) =>
    intoServer(places, DATASET, { ...config, server: "postgresql" }),
  TimescaleDB: (places: Places, config: PersistenceConfig) =>
    intoServer(places, DATASET, { ...config, server: "timescaledb" }),
} as const;

/** A row that measures an option against its default. */
function row(
  name: string,
  { backend, work, config }: { backend: keyof typeof BACKENDS; work: string; config: PersistenceConfig },
): Row {
  const make: Make = BACKENDS[backend];
  return {
    name: `${name}-${backend.toLowerCase()}`,
    work: `ingest SystemMetrics, ${backend}, ${work}`,
    against: "the same without",
    quantity: "rate",
    records: RECORDS,
    open: (places) => Promise.resolve({ ours: make(places, config), theirs: make(places, {}) }),
  };
}

/** With a spool in a folder of its own each time. */
function spooled(backend: "SQLite" | "PostgreSQL"): Row {
  return {
    ...row("spool", { backend, work: "with a spool that is synced by batch", config: {} }),
    open: (places) =>
      Promise.resolve({
        theirs: BACKENDS[backend](places, {}),
        ours: async (records) => {
          const spoolDirectory = places.path();
          const seconds = await BACKENDS[backend](places, { spoolDirectory })(records);
          Deno.removeSync(spoolDirectory, { recursive: true });
          return seconds;
        },
      }),
  };
}

const LARGE_BATCHES = { work: "`batchSize` 5,000 in place of 100", config: { batchSize: 5_000 } };

/** Cost and benefit of options. */
export const optionRows: Family = {
  name: "options",
  rows: [
    spooled("SQLite"),
    spooled("PostgreSQL"),
    row("batch-size", { backend: "SQLite", ...LARGE_BATCHES }),
    row("batch-size", { backend: "PostgreSQL", ...LARGE_BATCHES }),
    row("columns", {
      backend: "TimescaleDB",
      work: "with `enableCompression`",
      config: { enableCompression: true },
    }),
  ],
};
