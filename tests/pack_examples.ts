/**
 * Puts the programs of `examples/` into the command, which prints them wherever it runs: from JSR and in a
 * binary there is no such folder, and JSR takes no imports of text (as of August 2026). `deno task examples`.
 *
 * @module
 */

/** The programs, simplest first. */
export const TOPICS = [
  "memory",
  "sqlite",
  "duckdb",
  "postgresql",
  "timescaledb",
  "citus",
  "sharing",
  "streams",
  "spool",
  "migration",
  "ingest",
  "chart",
] as const;

/** File that the command reads. */
export const PACKED = new URL("../src/cli/examples.json", import.meta.url);

/** The path of a program. */
export function exampleUrl(topic: string): URL {
  return new URL(`../examples/${topic}.ts`, import.meta.url);
}

/** All programs by topic, as JSON. */
export function pack(): string {
  const programs = TOPICS.map((topic) => [topic, Deno.readTextFileSync(exampleUrl(topic))]);
  return `${JSON.stringify(Object.fromEntries(programs), null, 2)}\n`;
}

if (import.meta.main) Deno.writeTextFileSync(PACKED, pack());
