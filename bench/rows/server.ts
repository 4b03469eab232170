import { startServer } from "../../tests/server.ts";
import type { Places } from "../fixtures.ts";
import { PATHS } from "../posts.ts";
import { Subject } from "../processes.ts";
import type { Family, Measure, Row } from "../row.ts";
import { intoServer, intoSqlite, warmUpOf } from "./ingest.ts";

/** Datasets that are posted: prefix of the row, record and sink. */
const DATASETS = {
  system_metrics: ["server", "SystemMetrics", "systemMetricsSink()"],
  cost_entries: ["server-costs", "CostEntry", "costEntriesSink()"],
} as const;
type Posted = keyof typeof DATASETS;
const RECORDS = 200_000;
/** Records of a request, and clients that send at once. */
const [SIZE, CLIENTS] = [1_000, 10];
/** Requests of one record whose latency is measured. */
const SINGLES = 2_000;

/** `openfinops serve` with a spool, and clients in another process; until all is committed and the server has ended. */
function posts(
  places: Places,
  dataset: Posted,
  connectionString: () => Promise<AsyncDisposable & { url: string }>,
): Measure {
  return async (records) => {
    await using database = await connectionString();
    const spool = places.path();
    const server = await startServer(["--connection-string", database.url, "--spool-directory", spool], {
      cwd: Deno.cwd(),
    });
    await using client = Subject.deno();
    const order = { what: "post", dataset, url: server.url, size: SIZE, clients: CLIENTS } as const;
    const before = warmUpOf(records);
    await client.do({ ...order, first: records, records: before });
    await committed(new URL(`${PATHS[dataset]}/aggregate`, server.url), before);
    const { seconds } = await client.do({ ...order, first: 0, records });
    const end = performance.now();
    const code = await server.stop();
    if (code !== 0 || !server.lines.at(-1)!.includes(`Stored ${(before + records).toLocaleString("en")} `)) {
      throw new Error(`the server ended with ${code}: ${server.lines.join("\n")}`);
    }
    Deno.removeSync(spool, { recursive: true });
    return seconds + (performance.now() - end) / 1_000;
  };
}

/** Waits until a server shows so many records. */
async function committed(url: URL, records: number): Promise<void> {
  for (;;) {
    const { rows: [{ count } = { count: 0 }] } = await (await fetch(url)).json();
    if (count >= records) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The sink with a spool. */
function sink(places: Places, into: (spoolDirectory: string) => Measure): Measure {
  return async (records) => {
    const spool = places.path();
    const seconds = await into(spool)(records);
    Deno.removeSync(spool, { recursive: true });
    return seconds;
  };
}

async function sqliteFile(places: Places): Promise<AsyncDisposable & { url: string }> {
  const path = await places.file();
  return {
    url: `sqlite:///${path}`,
    [Symbol.asyncDispose]: () => Deno.remove(path),
  };
}

function row(dataset: Posted, backend: "SQLite" | "PostgreSQL", open: Row["open"]): Row {
  const [prefix, record, sink] = DATASETS[dataset];
  return {
    name: `${prefix}-${backend.toLowerCase()}`,
    work: `post ${record} as NDJSON by ten clients, 1,000 a request, ${backend} with a spool`,
    against: `\`${sink}\` with a spool`,
    quantity: "rate",
    records: RECORDS,
    reach: { atLeast: 0.6 },
    open,
  };
}

const latency: Row = {
  name: "server-latency",
  work: "p99 of a post of one record, SQLite with a spool",
  against: "p99 of a write and `fdatasync`",
  quantity: "time",
  records: SINGLES,
  reach: { atMost: 10 },
  async open(places) {
    const database = await sqliteFile(places);
    const spool = places.path();
    const server = places.use(
      await startServer(["--connection-string", database.url, "--spool-directory", spool], {
        cwd: Deno.cwd(),
      }),
    );
    const client = places.use(Subject.deno());
    const path = places.path();
    let first = 0;
    return {
      ours: async (records) => {
        const order = { dataset: "system_metrics", url: server.url, first, records } as const;
        first += records;
        return (await client.do({ what: "post-latency", ...order, size: 1, clients: 1 })).seconds;
      },
      theirs: async (records) =>
        (await client.do({ what: "append-latency", dataset: "system_metrics", path, records })).seconds,
    };
  },
};

function rowsOf(dataset: Posted): Row[] {
  return [
    row(dataset, "SQLite", (places) =>
      Promise.resolve({
        ours: posts(places, dataset, () => sqliteFile(places)),
        theirs: sink(places, (spoolDirectory) => intoSqlite(places, dataset, { spoolDirectory })),
      })),
    row(dataset, "PostgreSQL", (places) =>
      Promise.resolve({
        ours: posts(places, dataset, () => places.tables("postgresql", dataset, 2 * RECORDS)),
        theirs: sink(
          places,
          (spoolDirectory) => intoServer(places, dataset, { server: "postgresql", spoolDirectory }),
        ),
      })),
  ];
}

/** The server against the library. */
export const serverRows: Family = {
  name: "server",
  rows: [...rowsOf("system_metrics"), ...rowsOf("cost_entries"), latency],
};
