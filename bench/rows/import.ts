import type { Places } from "../fixtures.ts";
import { Subject } from "../processes.ts";
import type { Family, Measure, Row } from "../row.ts";
import { intoServer, intoSqlite, warmUpOf } from "./ingest.ts";

const DATASET = "cost_entries";

/** Imports a file of CSV by the library, in a process that has imported a smaller one elsewhere. */
function importCosts(
  places: Places,
  open: (records: number) => Promise<{ url: string } & AsyncDisposable>,
): Measure {
  return async (records) => {
    await using subject = Subject.deno();
    let seconds = 0;
    for (const count of [warmUpOf(records), records]) {
      const path = await places.records(DATASET, count, "import");
      await using database = await open(records);
      const order = { what: "import", dataset: DATASET, records: count, path } as const;
      ({ seconds } = await subject.do({ ...order, connectionString: database.url }));
    }
    return seconds;
  };
}

async function sqliteFile(places: Places) {
  const path = await places.file();
  return {
    url: `sqlite:///${path}`,
    [Symbol.asyncDispose]: () => Deno.remove(path),
  };
}

function row(
  backend: string,
  open: (places: Places) => { ours: Measure; theirs: (records: number) => Promise<number> },
): Row {
  return {
    name: `import-costs-${backend.toLowerCase()}`,
    work: `import CostEntry from CSV as a delivery, ${backend}`,
    against: "`costEntriesSink()`, the same rows in the same order",
    quantity: "time",
    records: 1_000_000,
    reach: { atMost: 1.6 },
    open: (places) => Promise.resolve(open(places)),
  };
}

/** Import of files, against the sink. */
export const importRows: Family = {
  name: "import",
  rows: [
    row("SQLite", (places) => ({
      ours: importCosts(places, () => sqliteFile(places)),
      theirs: intoSqlite(places, DATASET),
    })),
    row("PostgreSQL", (places) => ({
      ours: importCosts(places, (records) => places.tables("postgresql", DATASET, records)),
      theirs: intoServer(places, DATASET, { server: "postgresql" }),
    })),
  ],
};
