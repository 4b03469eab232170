import { percentOf } from "../records/decimal.ts";
import { allocateCosts, type AllocatedCost } from "../views/allocation.ts";
import { type Command, FORMAT_OPTIONS, readFormat, SOURCE_OPTIONS, withBackend } from "./command.ts";
import { formatCount, formatTable, note, print, printFound, showMoney } from "./output.ts";
import { showPercent } from "../query/aggregate_columns.ts";
import { ALLOCATION_OPTIONS, readAllocation } from "../query/view_options.ts";

const HEADER = ["group", "isIdle", "currency", "cost", "tokens", "costPerMillionTokens"];

export const costsAllocate: Command = {
  name: "costs allocate",
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    ...ALLOCATION_OPTIONS,
  ],
  examples: [
    "openfinops costs allocate --by team --during last-month",
    "openfinops costs allocate --by model --since 7d --method time --exact",
  ],
  async run(given) {
    const format = readFormat(given);
    const query = readAllocation(given);
    const { by, basis } = query;
    const found = await withBackend(given, "read", (backend) => allocateCosts(backend, query));
    const { rows, totals } = found;
    const table = () => rows.length > 0 && printTable(by, rows, totals);
    printFound(format, found, { table, header: HEADER, rows });
    for (const [currency, cost] of Object.entries(found.unallocated)) {
      note(`Not divided: ${showMoney(cost, currency)} ${currency} of resources without device metrics.`);
    }
    if (rows.length === 0) {
      note(
        `No ${basis} costs of nodes with device metrics in that time. Their resourceId must be the node or device id.`,
      );
    }
  },
};

function printTable(
  by: string,
  rows: readonly AllocatedCost[],
  totals: Readonly<Record<string, string>>,
): void {
  const cells = rows.map(({ group, isIdle, currency, cost, tokens, costPerMillionTokens }) => [
    isIdle ? "(idle)" : group ?? "(none)",
    currency,
    showMoney(cost, currency),
    share(cost, totals[currency]),
    tokens === undefined ? "" : formatCount(tokens),
    costPerMillionTokens === undefined ? "" : showMoney(costPerMillionTokens, currency),
  ]);
  for (const [currency, total] of Object.entries(totals)) {
    cells.push(["(total)", currency, showMoney(total, currency), "", "", ""]);
  }
  print(formatTable([by, "currency", "cost", "share", "tokens", "cost per 1M tokens"], cells));
}

function share(part: string, total: string): string {
  return Number(total) === 0 ? "" : showPercent(percentOf(Number(part), Number(total)));
}
