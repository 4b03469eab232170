/**
 * Measures the library against what people would use instead, on this machine: `deno task bench --help`.
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";
import { readArguments } from "../src/cli/arguments.ts";
import type { Option } from "../src/query/arguments.ts";
import { formatTable, formatThings, note, print } from "../src/cli/output.ts";
import { readCount, readName, UsageError } from "../src/query/option_values.ts";
import { type GrowthResult, GROWTHS, measureGrowth } from "./growth.ts";
import { Places } from "./fixtures.ts";
import { plotGrowth } from "./plot.ts";
import { duration, fullReport, growthLine, replacePart, rowLine, shortReport } from "./report.ts";
import { describeMachine, mergeResults, readResults, type Results, toJson } from "./results.ts";
import { measureRow, PAIRS, type RowResult } from "./row.ts";
import { FAMILIES } from "./rows.ts";

const OPTIONS: readonly Option[] = [
  { name: "list", summary: "print the names of all rows, by family, and what they are" },
  { name: "rows", value: "N", summary: "measure with so many records in place of those of each row" },
  { name: "json", value: "FILE", summary: "write what was measured as JSON" },
  { name: "write", summary: "update results.json, growth.svg, bench/README.md and docs/performance.md" },
  { name: "help", summary: "print this" },
];

/** Something to measure by its name. */
interface Task {
  readonly family: string;
  readonly name: string;
  readonly title: string;
  /** Measures it, with another number of records than its own if that is given; gives the line to print. */
  run(places: Places, found: Found, records?: number): Promise<string>;
}

/** Results so far. */
interface Found {
  readonly rows: RowResult[];
  readonly growth: GrowthResult[];
}

const TASKS: readonly Task[] = [
  ...FAMILIES.flatMap(({ name: family, rows }) =>
    rows.map((row): Task => ({
      family,
      name: row.name,
      title: `${row.work}, against ${row.against}`,
      run: async (places, { rows }, records) => {
        const result = await measureRow(row, places, row.records && records);
        rows.push(result);
        return rowLine(row, result);
      },
    }))
  ),
  ...GROWTHS.map((growth): Task => ({
    family: "growth",
    name: growth.name,
    title: `time against records, ${growth.title}`,
    run: async (places, found, records) => {
      const result = await measureGrowth(growth, places, records);
      found.growth.push(result);
      return growthLine(result);
    },
  })),
];

function choose(names: readonly string[]): readonly Task[] {
  const known = [...new Set(TASKS.flatMap(({ family, name }) => [family, name]))];
  const selected = names.map((name) => readName("row", name, known));
  return selected.length === 0
    ? TASKS
    : TASKS.filter(({ family, name }) => selected.includes(family) || selected.includes(name));
}

/** Measures one thing after the other; a family has places of its own. Gives whether none has failed. */
async function measure(tasks: readonly Task[], found: Found, records: number | undefined): Promise<boolean> {
  let isComplete = true;
  for (const family of new Set(tasks.map(({ family }) => family))) {
    await using places = new Places();
    for (const task of tasks.filter((task) => task.family === family)) {
      try {
        print(await task.run(places, found, records));
      } catch (error) {
        note(`${task.name} failed: ${error}`); // an hour of measuring is not lost for one row
        isComplete = false;
      }
    }
  }
  return isComplete;
}

/** Puts the results where they are kept and shown. */
async function publish(found: Results): Promise<void> {
  const results = mergeResults(found);
  const file = (path: string) => new URL(path, import.meta.url);
  Deno.writeTextFileSync(file("growth.svg"), await plotGrowth(results.growth));
  const parts = { "README.md": fullReport(results), "../docs/performance.md": shortReport(results) };
  for (const [path, part] of Object.entries(parts)) {
    Deno.writeTextFileSync(file(path), replacePart(Deno.readTextFileSync(file(path)), part));
  }
  const paths = ["results.json", "growth.svg", ...Object.keys(parts)].map((path) => fromFileUrl(file(path)));
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "-q", ...paths] }).output();
}

function list(tasks: readonly Task[]): string {
  return formatTable(
    ["family", "row", "what"],
    tasks.map(({ family, name, title }) => [family, name, title]),
  );
}

function help(): string {
  return [
    "Measures the library against what people would use instead, on this machine.",
    "",
    "Usage: deno task bench [ROW or FAMILY …] [options]",
    "",
    ...OPTIONS.map(({ name, value = "", summary }) => `  ${`--${name} ${value}`.padEnd(14)} ${summary}`),
  ].join("\n");
}

async function main(args: readonly string[]): Promise<number> {
  const given = await readArguments(args, OPTIONS);
  const tasks = choose(given.positionals);
  const [rows, json] = [given.text("rows"), given.text("json")];
  if (given.has("help") || given.has("list")) {
    print(given.has("help") ? help() : list(tasks));
    return 0;
  }
  const records = rows === undefined ? undefined : readCount("rows", rows, 1_000);
  if (records !== undefined && given.has("write")) {
    throw new UsageError("--write needs rows of their own size. Leave out --rows.", "CONFLICTING_OPTIONS");
  }
  note(
    `${formatThings(tasks.length, "row", "rows")}, ${PAIRS} pairs each; at full size they took ${
      duration(readResults(), tasks.map(({ name }) => name))
    } when they were written down last.`,
  );
  const found: Found = { rows: [], growth: [] };
  const isComplete = await measure(tasks, found, records);
  const results = { machine: await describeMachine(), ...found };
  if (json !== undefined) Deno.writeTextFileSync(json, toJson(results));
  if (given.has("write")) await publish(results);
  return isComplete ? 0 : 1;
}

try {
  Deno.exitCode = await main(Deno.args);
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  note(`bench: ${error.message}`);
  Deno.exitCode = 2;
}
