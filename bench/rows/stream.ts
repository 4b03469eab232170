import { program } from "../peers.ts";
import { Shell, Subject } from "../processes.ts";
import type { Family, Measure } from "../row.ts";

const RECORDS = 1_000_000;

/** Each process reads all of it once before, and is then measured. */
function read(connectionString: string, records: number): Measure {
  return async () => {
    await using subject = Subject.deno();
    const order = { what: "read", connectionString, records } as const;
    await subject.do(order);
    return (await subject.do(order)).seconds;
  };
}

/** Read rates. */
export const streamRows: Family = {
  name: "stream",
  rows: [
    {
      name: "stream-postgresql",
      work: "stream SystemMetrics out, PostgreSQL",
      against: "`psql` `COPY (SELECT … ORDER BY timestamp) TO STDOUT`",
      quantity: "rate",
      records: RECORDS,
      reach: { atLeast: 0.6 },
      open: async (places, records) => {
        await program("psql");
        const url = await places.filled("postgresql", { system_metrics: records });
        const shell = places.use(await Shell.psql(url));
        return {
          ours: read(url, records),
          theirs: () => shell.run("COPY (SELECT * FROM system_metrics ORDER BY timestamp) TO STDOUT;"),
        };
      },
    },
    {
      name: "stream-sqlite",
      work: "stream SystemMetrics out, SQLite",
      against: "a bare `node:sqlite` `iterate()`",
      quantity: "rate",
      records: RECORDS,
      reach: { atLeast: 0.8 },
      open: async (places, records) => {
        const connectionString = await places.filled("sqlite", { system_metrics: records });
        const path = connectionString.replace("sqlite:///", "");
        return {
          ours: read(connectionString, records),
          theirs: async () => {
            await using subject = Subject.deno();
            await subject.do({ what: "iterate", path, records });
            return (await subject.do({ what: "iterate", path, records })).seconds;
          },
        };
      },
    },
  ],
};
