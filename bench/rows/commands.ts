import { fileURLToPath as fromFileUrl } from "node:url";
import { runSql } from "../../tests/postgres_server.ts";
import { program } from "../peers.ts";
import type { Places } from "../fixtures.ts";
import { Subject, timeOf } from "../processes.ts";
import type { Family, Measure, Row } from "../row.ts";

const CLI = fromFileUrl(new URL("../../cli.ts", import.meta.url));
const ours = (...args: string[]) => timeOf(Deno.execPath(), ["run", "-q", "-A", CLI, ...args]);

/** Copies all metrics into empty tables of another database, and checks that all arrived. */
function copyInto(places: Places, run: (from: string, to: string) => Promise<number>): Measure {
  return async (records) => {
    const from = await places.filled("postgresql", { system_metrics: records });
    await using target = await places.tables("postgresql", "system_metrics", records);
    const seconds = await run(from, target.url);
    const [{ rows }] = await runSql(target.url, "SELECT count(*) AS rows FROM system_metrics");
    if (Number(rows) !== records) throw new Error(`${rows} of ${records} records came over`);
    return seconds;
  };
}

const migration: Row = {
  name: "migrate-postgresql",
  work: "`migrate()` PostgreSQL → PostgreSQL, comparison included",
  against: "binary `COPY` from `psql` to `psql`",
  quantity: "rate",
  records: 1_000_000,
  reach: { atLeast: 0.8 },
  open: async (places) => {
    await program("psql");
    const subject = places.use(Subject.deno());
    return {
      ours: copyInto(
        places,
        async (from, to) => (await subject.do({ what: "migrate", from, to })).seconds,
      ),
      theirs: copyInto(places, (from, to) =>
        timeOf("sh", [
          "-c",
          'psql -qc "COPY (TABLE system_metrics) TO STDOUT (FORMAT binary)" "$0" | ' +
          'psql -qc "COPY system_metrics FROM STDIN (FORMAT binary)" "$1"',
          from,
          to,
        ])),
    };
  },
};

const startUp: Row = {
  name: "start-up",
  work: "start of the command (`--help`)",
  against: "an empty script under `deno run`",
  quantity: "time",
  reach: { atMost: 1.5 },
  pairs: 25,
  open: (places) => {
    const path = places.path(".ts");
    Deno.writeTextFileSync(path, "");
    return Promise.resolve({
      ours: () => ours("--help"),
      theirs: () => timeOf(Deno.execPath(), ["run", "-q", "-A", path]),
    });
  },
};

/** Start of the command, and migration. */
export const commandRows: Family = { name: "commands", rows: [migration, startUp] };
