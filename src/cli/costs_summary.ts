import {
  type CostShare,
  type CostSummary,
  costSummary,
  type CurrencySummary,
} from "../monitoring/cost_summary.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { bold, formatCount, formatTable, isoTime, note, print, printFound, sparkline } from "./output.ts";
import { RANGE_OPTIONS, readRange } from "./selection.ts";
import { readCount } from "./option_values.ts";
import { asCalled } from "./program_name.ts";

/** `openfinops costs summary` */
export const costsSummary: Command = {
  name: "costs summary",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...RANGE_OPTIONS.map((option) =>
      option.name === "since" ? { ...option, summary: `${option.summary} (default 24h)` } : option
    ),
    { name: "top", value: "N", summary: "number of resources to list (default 10)" },
  ],
  examples: [
    "openfinops costs summary",
    "openfinops costs summary --since 30d --top 5 --format json",
  ],
  async run(given) {
    const format = readFormat(given);
    const top = given.text("top");
    const options = { ...readRange(given), ...(top === undefined ? {} : { top: readCount("top", top, 1) }) };
    const found = await withBackend(given, "read", (backend) => costSummary(backend, options));
    const table = () => printTables(found);
    printFound(format, found, { table, header: HEADER, rows: found.currencies.flatMap(rowsOf) });
    if (found.currencies.length === 0) {
      note(`No costs from ${isoTime(found.startTime)} to ${isoTime(found.endTime)}.`);
      const hint = given.text("since") === undefined ? "Look further back with --since 30d. " : "";
      note(asCalled(`${hint}"openfinops database stats" prints the time range of all costs.`));
    }
  },
};

const HEADER = ["currency", "of", "name", "total", "count", "percent"];

function rowsOf({ currency, basis, total, count, categories, resources }: CurrencySummary) {
  const row = (of: string) => ({ name, total, count, percent }: CostShare) => [
    nameOf(currency, basis),
    of,
    name,
    total,
    count,
    percent,
  ];
  return [
    row("all")({ total, count, percent: 100 }),
    ...categories.map(row("category")),
    ...resources.map(row("resource")),
  ];
}

/** A currency, and in brackets the basis of costs that are not billed. */
function nameOf(currency: string, basis: string | undefined): string {
  return basis ? `${currency} (${basis})` : currency;
}

function printTables({ startTime, endTime, currencies }: CostSummary): void {
  if (currencies.length > 0) print(`${isoTime(startTime)} to ${isoTime(endTime)}`);
  for (const summary of currencies) {
    const { currency, basis, total, count, previousTotal, change, projectedPer30Days, trend } = summary;
    print("");
    print(
      bold(`${total} ${nameOf(currency, basis)} in ${formatCount(count)} ${count === 1 ? "cost" : "costs"}`),
    );
    const changed = change === undefined ? "" : `: ${change > 0 ? "+" : ""}${change.toFixed(1)} %`;
    print(`previous period: ${previousTotal}${changed}; trend within this one: ${trend}`);
    print(`30-day forecast: about ${Number(Number(projectedPer30Days).toPrecision(4))}`);
    printShares("category", summary.categories);
    printShares("resource", summary.resources);
  }
}

function printShares(title: string, shares: readonly CostShare[]): void {
  print("");
  print(formatTable(
    [title, "total", "%", "", "costs"],
    shares.map(({ name = "(others)", total, percent, count }) => [
      name,
      total,
      percent.toFixed(1),
      sparkline([percent]),
      formatCount(count),
    ]),
  ));
}
