import { fileURLToPath as fromFileUrl } from "node:url";
import { runSql } from "../../tests/postgres_server.ts";
import { program } from "../peers.ts";
import type { Places } from "../fixtures.ts";
import { timeOf } from "../processes.ts";
import type { Family, Row } from "../row.ts";

const CLI = fromFileUrl(new URL("../../cli.ts", import.meta.url));
const ours = (...args: string[]) => timeOf(Deno.execPath(), ["run", "-q", "-A", CLI, ...args]);

/** Fills an empty database by a command, and sees to it that all is there. */
async function fill(
  places: Places,
  { records, run }: { records: number; run: (url: string) => Promise<number> },
): Promise<number> {
  await using database = await places.database("postgresql");
  const seconds = await run(database.url);
  const [{ rows }] = await runSql(database.url, "SELECT count(*) AS rows FROM system_metrics");
  if (Number(rows) !== records) throw new Error(`${rows} of ${records} records came over`);
  return seconds;
}

const migration: Row = {
  name: "migrate",
  work: "`database migrate` SQLite → PostgreSQL, start and comparison included",
  against: "`pgloader`, start included",
  quantity: "rate",
  records: 1_000_000,
  reach: { atLeast: 4 },
  open: async (places) => {
    const { path: pgloader } = await program("pgloader");
    const from = (records: number) => places.filled("sqlite", { system_metrics: records });
    return {
      ours: async (records) => {
        const source = await from(records);
        return await fill(places, {
          records,
          run: (url) => ours("database", "migrate", "--from", source, "--to", url),
        });
      },
      theirs: async (records) => {
        const source = (await from(records)).replace("sqlite:///", "sqlite://");
        return await fill(places, { records, run: (url) => timeOf(pgloader, [source, url]) });
      },
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

/** The command as it is called: both sides are measured from the start of the program to its end. */
export const commandRows: Family = { name: "commands", rows: [migration, startUp] };
