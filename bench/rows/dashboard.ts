import { fileURLToPath as fromFileUrl } from "node:url";
import { useDuckdbLibrary } from "../../tests/duckdb_library.ts";
import { Missing } from "../peers.ts";
import type { Family, Row } from "../row.ts";

const PROGRAM = fromFileUrl(new URL("../dashboard_page.ts", import.meta.url));
/** Most seconds of the first page. */
const ENGINES = [
  { backend: "sqlite", title: "SQLite", seconds: 3 },
  { backend: "duckdb", title: "DuckDB", seconds: 1 },
  { backend: "postgresql", title: "PostgreSQL", seconds: 1 },
  { backend: "timescaledb", title: "TimescaleDB", seconds: 1 },
] as const;

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", "--no-lock", "--no-check", "--unsafe-proto", PROGRAM, ...args],
  }).output();
  const error = new TextDecoder().decode(stderr);
  if (/runs on Linux only|npm package/.test(error)) throw new Missing("this machine has no Chromium");
  if (code !== 0) throw new Error(error);
  return new TextDecoder().decode(stdout);
}

function row({ backend, title, seconds }: typeof ENGINES[number]): Row {
  return {
    name: `dashboard-${backend}`,
    work: `first page of the dashboard in Chromium, 30 days of 12 months, ${title}`,
    against: `${seconds} s`,
    quantity: "time",
    records: 5_000_000,
    reach: { atMost: 1 },
    open: async (places, records) => {
      if (backend === "duckdb") await useDuckdbLibrary();
      const url = backend === "sqlite" || backend === "duckdb"
        ? `${backend}:///${places.path(".db")}`
        : (await places.database(backend)).url.replace("postgresql:", `${backend}:`);
      await run("fill", url, String(records));
      return {
        ours: async () => Number(await run("measure", url)),
        theirs: () => Promise.resolve(seconds),
      };
    },
  };
}

/** Time until people see something. */
export const dashboardRows: Family = { name: "dashboard", rows: ENGINES.map(row) };
