import type { Backend } from "../backends/backend.ts";
import { costEntries } from "../records/cost_entry.ts";
import { acceptQuery } from "../records/query.ts";
import {
  type CostBreakdown,
  type CostSummary,
  costSummary,
  type CostSummaryOptions,
  type CurrencySummary,
} from "../views/costs.ts";
import { COST_MEASURES } from "../aggregation/aggregate_query.ts";
import type { CostAggregate } from "../aggregation/aggregate.ts";
import { bucketLabel } from "../records/periods.ts";
import { OTHER, showChange, showGroup, showPercent } from "../query/aggregate_columns.ts";
import { type Command, FORMAT_OPTIONS, readFormat, SOURCE_OPTIONS, withBackend } from "./command.ts";
import {
  bold,
  formatCount,
  formatTable,
  formatThings,
  isoTime,
  note,
  print,
  printFound,
  showMoney,
} from "./output.ts";
import { readSummary, SUMMARY_OPTIONS } from "../query/view_options.ts";
import { asCalled } from "./program_name.ts";

export const costsSummary: Command = {
  name: "costs summary",
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    ...SUMMARY_OPTIONS,
  ],
  examples: [
    "openfinops costs summary --time-zone Europe/Berlin",
    "openfinops costs summary --during last-month --group-by tags.team --top 5 --format json",
  ],
  async run(given) {
    const format = readFormat(given);
    const options = readSummary(given);
    const { found, newest } = await withBackend(given, "read", async (backend) => {
      const found = await costSummary(backend, options);
      return { found, newest: found.currencies.length > 0 ? null : await newestCost(backend, options) };
    });
    const table = () => printTables(found, COST_MEASURES[options.measure ?? "amount"] === undefined);
    printFound(format, found, { table, header: HEADER, rows: found.currencies.flatMap(rowsOf) });
    if (found.currencies.length === 0) {
      note(`No costs from ${isoTime(found.startTime)} to ${isoTime(found.endTime)}.`);
      const month = newest && bucketLabel({ count: 1, unit: "mo" }, newest, found.timeZone);
      const hint = month
        ? `The newest is of ${isoTime(newest)}: look there with --during ${month}.`
        : 'There are none at any time. "openfinops database stats" counts all records.';
      note(asCalled(hint));
    }
  },
};

/** The time of the newest cost that the filters find, at any time; null if there is none. */
async function newestCost(
  backend: Pick<Backend, "aggregate">,
  {
    startTime: _start,
    endTime: _end,
    at: _at,
    timeZone: _zone,
    groupBy: _groups,
    measure: _measure,
    top: _top,
    ...filters
  }: CostSummaryOptions,
): Promise<number | null> {
  const [{ values: [newest] }] = await backend.aggregate(costEntries, acceptQuery(costEntries, filters), {
    groupBy: [],
    measures: [{ function: "max", field: "timestamp" }],
  });
  return newest as number | null;
}

const HEADER = [
  "currency",
  "basis",
  "unit",
  "of",
  "name",
  "total",
  "share",
  "count",
  "previousTotal",
  "change",
  "sameDaysTotal",
  "sameDaysChange",
  "forecast",
  "forecastLow",
  "forecastHigh",
];

function rowsOf(summary: CurrencySummary): object[] {
  const row = (of: string, name: string | undefined, one: Partial<CostAggregate>) => (
    { ...one, basis: one.basis ?? "billed", of, name }
  );
  const { total, low, high } = summary.forecast ?? {};
  const ahead = { forecast: total, forecastLow: low, forecastHigh: high };
  return [
    row("all", undefined, { ...summary, share: Number(summary.total) === 0 ? 0 : 100, ...ahead }),
    ...summary.breakdowns.flatMap(({ groupBy, rows }) =>
      rows.map((one) => row(groupBy.join(","), groupName(one), one))
    ),
  ];
}

function groupName({ isOther, group }: CostAggregate): string {
  return isOther ? OTHER : Object.values(group ?? {}).map(showGroup).join(", ");
}

function printTables(
  { startTime, endTime, timeZone, dataEnd, currencies }: CostSummary,
  isMoney: boolean,
): void {
  if (currencies.length === 0) return;
  const date = (time: number) => bucketLabel({ count: 1, unit: "d" }, time, timeZone);
  const isPart = dataEnd !== undefined && dataEnd > startTime && dataEnd < endTime;
  const until = isPart ? `, last complete day ${date(dataEnd - 1)}` : "";
  print(`${date(startTime)} to ${date(endTime - 1)} (${timeZone})${until}`);
  for (const summary of currencies) {
    const { currency, basis, unit, total, count } = summary;
    const show = (amount: string) => isMoney ? showMoney(amount, currency) : amount;
    const name = [currency, unit, basis && `(${basis})`].filter((part) => part).join(" ");
    print("");
    print(bold(`${show(total)} ${name} in ${formatThings(count, "cost", "costs")}`));
    print("");
    print(formatTable(["", name, "change"], factsOf(summary, { show, date })));
    if (summary.noForecast !== undefined) print(`\nNo forecast: ${summary.noForecast}.`);
    else if (summary.forecast) print(`\n${explain(summary, show)}`);
    if (summary.trend) print(`\nDaily costs are ${summary.trend}.`);
    for (const breakdown of summary.breakdowns) printBreakdown(breakdown, show);
  }
}

/** Formats of amounts and days. */
interface Show {
  readonly show: (amount: string) => string;
  readonly date: (time: number) => string;
}

function factsOf(summary: CurrencySummary, { show, date }: Show): string[][] {
  const {
    total,
    previousTotal,
    change,
    sameDaysTotal,
    sameDaysChange,
    averagePerDay,
    averageDays,
    forecast,
  } = summary;
  const rows = [["total", show(total), ""]];
  if (sameDaysTotal !== undefined) {
    rows.push(["same days of the period before", show(sameDaysTotal), showChange(sameDaysChange)]);
  }
  if (previousTotal !== undefined) {
    rows.push(["whole period before", show(previousTotal), showChange(change)]);
  }
  const days = averageDays === undefined
    ? "a day with costs"
    : formatThings(averageDays, "complete day", "complete days");
  rows.push([`average of ${days}`, show(averagePerDay), ""]);
  if (forecast) {
    rows.push([`forecast, from data before ${date(forecast.dataEnd)}`, show(forecast.total), ""]);
    rows.push(["8 of 10 such forecasts are between", show(forecast.low), ""], [
      "and",
      show(forecast.high),
      "",
    ]);
  }
  return rows;
}

function explain({ forecast, currency }: CurrencySummary, show: Show["show"]): string {
  const { days, hasWeekdays, growthPerDay, monthly } = forecast!;
  const parts = [
    ...(hasWeekdays ? ["weekdays"] : []),
    ...(growthPerDay === undefined ? [] : [`growth of ${showChange(growthPerDay)} a day`]),
    ...monthly.map(({ day, amount }) =>
      `${show(amount.toFixed(2))} ${currency} on ${day === 0 ? "the last day" : `day ${day}`} of each month`
    ),
  ];
  const also = parts.length === 0 ? "" : `, ${parts.join(", ")}`;
  return `The forecast is from ${formatThings(days, "day", "days")}: the level of recent days${also}.`;
}

function printBreakdown({ groupBy, rows }: CostBreakdown, show: Show["show"]): void {
  const hasSameDays = rows.some(({ sameDaysTotal }) => sameDaysTotal !== undefined);
  print("");
  print(formatTable(
    [
      groupBy.join(", "),
      "total",
      "share",
      "",
      hasSameDays ? "same days before" : "period before",
      "change",
      "costs",
    ],
    rows.map((row) => [
      groupName(row),
      show(row.total),
      showPercent(row.share!),
      { bar: row.share! },
      show(row.sameDaysTotal ?? row.previousTotal ?? "0"),
      showChange(hasSameDays ? row.sameDaysChange : row.change),
      formatCount(row.count),
    ]),
  ));
}
