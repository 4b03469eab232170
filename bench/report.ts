/**
 * Results as lines on a terminal, and as the generated parts of bench/README.md and docs/performance.md.
 *
 * @module
 */
import { type GrowthResult, GROWTHS } from "./growth.ts";
import type { Results } from "./results.ts";
import { isReached, median, type Quantity, type Reach, type Row, type RowResult } from "./row.ts";
import { FAMILIES } from "./rows.ts";

const ROWS = FAMILIES.flatMap(({ rows }) => rows);

const count = (value: number) => value.toLocaleString("en");

/** The formats of values. */
const SHOWN: Readonly<Record<Quantity, (value: number, records: number) => string>> = {
  rate: (seconds, records) => `${count(Math.round(records / seconds / 1_000))} k/s`,
  time: (seconds) =>
    `${seconds < 0.1 ? (seconds * 1_000).toFixed(1) : count(Math.round(seconds * 1_000))} ms`,
  memory: (mib) => `${Math.round(mib)} MiB`,
  disk: (bytes) => `${Math.round(bytes)} B/record`,
};

function showReach(reach: Reach | undefined): string {
  if (!reach) return "";
  if ("perSecond" in reach) return `≥ ${reach.perSecond / 1_000} k/s`;
  return "atLeast" in reach ? `≥ ${reach.atLeast}` : `≤ ${reach.atMost}`;
}

/** The cells of a row: ours, theirs, ratio, spread, target, and "yes" if the target is met. */
function cells(row: Row, result: RowResult): string[] {
  const { missing, ours, theirs, ratio, records = 0 } = result;
  if (missing !== undefined) return ["", "", `not measured: ${missing}`, "", showReach(row.reach), ""];
  const show = (values: readonly number[]) => SHOWN[row.quantity](median(values), records);
  const { median: middle, least, most } = ratio!;
  return [
    show(ours!),
    show(theirs!),
    middle.toFixed(2),
    `${least.toFixed(2)}–${most.toFixed(2)}`,
    showReach(row.reach),
    row.reach ? (isReached(row.reach, result) ? "yes" : "no") : "",
  ];
}

/** A line for a terminal. */
export function rowLine(row: Row, result: RowResult): string {
  const [ours, theirs, ratio, spread, reach, isMet] = cells(row, result);
  if (result.missing !== undefined) return `${row.name.padEnd(38)} ${ratio}`;
  const target = reach && `, target ${reach}: ${isMet === "yes" ? "met" : "missed"}`;
  return `${row.name.padEnd(38)} ${ours.padStart(12)} to ${
    theirs.padStart(12)
  }: ${ratio} (${spread})${target}`;
}

/** A line for a terminal. */
export function growthLine({ name, missing, points, power }: GrowthResult): string {
  if (missing !== undefined) return `${name.padEnd(38)} not measured: ${missing}`;
  const times = points!.map(({ records, seconds }) => `${count(records)} in ${seconds.toPrecision(3)} s`);
  return `${name.padEnd(38)} ${times.join(", ")}: time grows with records^${power!.toFixed(2)}`;
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** Minutes, by what it took last; nothing where that is not known for all. */
export function duration(results: Results | undefined, names: readonly string[]): string {
  const took = names.map((name) =>
    [...results?.rows ?? [], ...results?.growth ?? []].find((result) => result.name === name)?.took ?? 0
  );
  const seconds = took.reduce((sum, seconds) => sum + seconds, 0);
  return seconds < 90 ? `${Math.round(seconds)} seconds` : `${Math.round(seconds / 60)} minutes`;
}

function resultOf(results: Results, name: string): RowResult | undefined {
  return results.rows.find((result) => result.name === name);
}

/** The generated part of `bench/README.md`: all rows. */
export function fullReport(results: Results): string {
  const measured = ROWS.flatMap((row) => {
    const result = resultOf(results, row.name);
    return result ? [{ row, result }] : [];
  });
  const short = measured.filter(({ row, result }) =>
    row.reach && result.ratio && !isReached(row.reach, result)
  );
  const names = [...ROWS, ...GROWTHS].map(({ name }) => name);
  const absent = names.filter((name) =>
    ![...results.rows, ...results.growth].some((result) => result.name === name)
  );
  return [
    `All rows took ${duration(results, names)} on this machine:`,
    table(["part", "version"], Object.entries(results.machine)),
    table(
      ["row", "work", "records", "against", "ours", "theirs", "ratio", "spread", "target", "met"],
      measured.map(({ row, result }) => [
        `\`${row.name}\``,
        row.work,
        result.records === undefined ? "" : count(result.records),
        row.against,
        ...cells(row, result),
      ]),
    ),
    short.length === 0 ? "All targets are met." : `Missed: ${
      short.map(({ row, result }) => {
        const [ours, , ratio] = cells(row, result);
        return `\`${row.name}\` (${"perSecond" in row.reach! ? ours : ratio}, target ${
          showReach(row.reach)
        })`;
      }).join(", ")
    }.`,
    ...(absent.length === 0 ? [] : [`Not measured yet: ${absent.map((name) => `\`${name}\``).join(", ")}.`]),
    "![Ingest time by number of records, for each backend](growth.svg)",
    `Time grows with a power of the number of records: ${
      results.growth.map(growthWords).join(", ")
    }. 1 is linear.`,
  ].join("\n\n");
}

function growthWords({ name, missing, power }: GrowthResult): string {
  const { title } = GROWTHS.find((growth) => growth.name === name)!;
  return missing === undefined ? `${power!.toFixed(2)} ${title}` : `${title} not measured (${missing})`;
}

/** The generated part of `docs/performance.md`: rows with a target. */
export function shortReport(results: Results): string {
  const rows = FAMILIES.filter(({ name }) => name !== "answers").flatMap(({ rows }) => rows);
  const measured = rows.flatMap((row) => {
    const result = resultOf(results, row.name);
    return row.reach && result ? [{ row, result }] : [];
  });
  const answers = FAMILIES.find(({ name }) => name === "answers")!.rows
    .flatMap(({ name }) => resultOf(results, name)?.ratio?.median ?? []);
  return [
    table(
      ["work", "against", "ratio", "spread", "target", "met"],
      measured.map(({ row, result }) => [row.work, row.against, ...cells(row, result).slice(2)]),
    ),
    answers.length === 0
      ? "Answers were not measured."
      : `Answers (aggregates over 5,000,000 metrics and 1,000,000 costs) take ${
        Math.min(...answers).toFixed(2)
      } to ${
        Math.max(...answers).toFixed(2)
      } of the time of plain SQL in the shells. The target is at most 1.1.`,
  ].join("\n\n");
}

/** A document with the part between the marks of the bench replaced. */
export function replacePart(document: string, part: string): string {
  const [before, after] = [document.split("<!-- bench -->")[0], document.split("<!-- /bench -->")[1]];
  if (after === undefined) {
    throw new Error("the document has no part between <!-- bench --> and <!-- /bench -->");
  }
  return `${before}<!-- bench -->\n\n${part}\n\n<!-- /bench -->${after}`;
}
