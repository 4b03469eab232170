import { optionsOf } from "../query/arguments.ts";
import { noteLooseCosts } from "../monitoring/cost_evaluation.ts";
import { PriceBook } from "../pricing/price_book.ts";
import { priceUsageRecords, type PriceUsageReport } from "../transfer/price_usage.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { evaluateAndNotify, readChannels } from "./notifications.ts";
import { formatCount, formatTable, formatThings, note, print, printFound, showMoney } from "./output.ts";
import { RANGE_OPTIONS, readRange } from "../query/selection.ts";

export const costsPrice: Command = {
  name: "costs price",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...RANGE_OPTIONS,
    ...optionsOf({
      reprice: "restate the costs of usage that was priced before",
      "dry-run": "compute only, and write nothing",
    }),
  ],
  examples: [
    "openfinops costs price --since this-month",
    "openfinops costs price --during last-month --reprice --dry-run",
  ],
  async run(given) {
    const format = readFormat(given);
    const [reprice, dryRun] = [given.has("reprice"), given.has("dry-run")];
    const query = readRange(given);
    const channels = dryRun ? [] : readChannels();
    const report = await withBackend(
      given,
      dryRun ? "read" : "existing",
      async (backend) => {
        const noting = noteLooseCosts(backend);
        const book = await PriceBook.read(backend.documents);
        const report = await priceUsageRecords(noting.backend, { query, book, reprice, dryRun });
        if (!dryRun) await evaluateAndNotify(backend, channels, { spans: noting.spans() });
        return report;
      },
      { onConflict: reprice ? "replace" : "ignore" },
    );
    const header = ["currency", "before", "after"];
    const currencies = [...new Set([...Object.keys(report.before), ...Object.keys(report.after)])].sort();
    const rows = currencies.map((currency) => ({
      currency,
      before: report.before[currency] ?? "0",
      after: report.after[currency] ?? "0",
    }));
    const table = () => {
      print(`${dryRun ? "Would price" : "Priced"} ${describeCounts(report)}.`);
      const shown = rows.map(({ currency, before, after }) => [
        currency,
        ...[before, after].map((total) => showMoney(total, currency)),
      ]);
      if (rows.length > 0) print(`\n${formatTable(header, shown)}`);
      printUnpriced(report);
    };
    printFound(format, report, { table, header, rows });
    if (report.records === 0) note("No usage in that time. `openfinops database import usage` imports it.");
  },
};

function describeCounts({ records, added, restated, deleted, unchanged }: PriceUsageReport): string {
  const counts = { added, restated, deleted, unchanged };
  const parts = Object.entries(counts).filter(([, count]) => count > 0)
    .map(([what, count]) => `${formatCount(count)} ${what}`);
  return `${formatThings(records, "use", "uses")}: ${parts.join(", ") || "no costs"}`;
}

function printUnpriced({ unpriced }: PriceUsageReport): void {
  if (unpriced.length === 0) return;
  print("\nWithout a price (`openfinops prices set` sets one):");
  const header = ["provider", "model", "unit", "quantity", "records"];
  print(formatTable(
    header,
    unpriced.map(({ provider = "", model = "", unit, quantity, records }) => [
      provider,
      model,
      unit,
      quantity,
      formatCount(records),
    ]),
  ));
}
