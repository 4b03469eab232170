import { startServer } from "../../tests/server.ts";
import type { Places } from "../fixtures.ts";
import { Subject } from "../processes.ts";
import type { Family, Measure, Row } from "../row.ts";
import { intoServer, intoSqlite, warmUpOf } from "./ingest.ts";

const DATASET = "system_metrics";
const RECORDS = 200_000;
/** Records of a request, and clients that send at once. */
const [SIZE, CLIENTS] = [1_000, 10];
/** Requests of one record whose latency is measured. */
const SINGLES = 2_000;

/** `openfinops serve` with a spool, and clients in another process; until all is committed and the server has ended. */
function posts(places: Places, connectionString: () => Promise<AsyncDisposable & { url: string }>): Measure {
  return async (records) => {
    await using database = await connectionString();
    const spool = places.path();
    const server = await startServer(["--connection-string", database.url, "--spool-directory", spool], {
      cwd: Deno.cwd(),
    });
    await using client = Subject.deno();
    const order = { what: "post", dataset: DATASET, url: server.url, size: SIZE, clients: CLIENTS } as const;
    const before = warmUpOf(records);
    await client.do({ ...order, first: records, records: before });
    await committed(server.url, before);
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
async function committed(url: string, records: number): Promise<void> {
  for (;;) {
    const response = await fetch(new URL("api/v1/system-metrics/aggregate", url));
    const { rows: [{ count }] } = await response.json();
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

function row(backend: "SQLite" | "PostgreSQL", open: Row["open"]): Row {
  return {
    name: `server-${backend.toLowerCase()}`,
    work: `post SystemMetrics as NDJSON by ten clients, 1,000 a request, ${backend} with a spool`,
    against: "`systemMetricsSink()` with a spool",
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
        const order = { dataset: DATASET, url: server.url, first, records } as const;
        first += records;
        return (await client.do({ what: "post-latency", ...order, size: 1, clients: 1 })).seconds;
      },
      theirs: async (records) =>
        (await client.do({ what: "append-latency", dataset: DATASET, path, records })).seconds,
    };
  },
};

/** The server against the library. */
export const serverRows: Family = {
  name: "server",
  rows: [
    row("SQLite", (places) =>
      Promise.resolve({
        ours: posts(places, () => sqliteFile(places)),
        theirs: sink(places, (spoolDirectory) => intoSqlite(places, DATASET, { spoolDirectory })),
      })),
    row("PostgreSQL", (places) =>
      Promise.resolve({
        ours: posts(places, () => places.tables("postgresql", DATASET, 2 * RECORDS)),
        theirs: sink(
          places,
          (spoolDirectory) => intoServer(places, DATASET, { server: "postgresql", spoolDirectory }),
        ),
      })),
    latency,
  ],
};
