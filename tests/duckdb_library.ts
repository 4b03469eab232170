/**
 * The native library of DuckDB for tests. By itself, without the lock file: what is in that, everybody downloads who starts
 * the program (140 MB).
 *
 * @module
 */
import { DUCKDB_PACKAGE, DUCKDB_VERSION } from "../src/backends/duckdb/driver.ts";

const PROGRAM = `import "npm:${DUCKDB_PACKAGE}@${DUCKDB_VERSION}";
import { createRequire } from "node:module";
console.log(Object.keys(createRequire(import.meta.url).cache).find((path) => path.endsWith("duckdb.node")));`;

/** Finds it, by npm, and names it to the driver, also in processes that are started. */
export async function useDuckdbLibrary(): Promise<void> {
  if (Deno.env.get("OPENFINOPS_DUCKDB")) return;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "-q", "--no-lock", "--no-config", PROGRAM],
    env: { NO_COLOR: "1" },
  }).output();
  const path = new TextDecoder().decode(stdout).trim();
  if (!path.endsWith(".node")) throw new Error(`${path} ${new TextDecoder().decode(stderr)}`);
  Deno.env.set("OPENFINOPS_DUCKDB", path);
}
