import { percentOf } from "../records/decimal.ts";
import { parseBucket } from "../records/calendar.ts";
import { allocateCosts, type AllocatedCost, ALLOCATION_METHODS } from "../views/allocation.ts";
import {
  type Command,
  CONNECTION_OPTIONS,
  FORMAT_OPTIONS,
  readFormat,
  readZone,
  withBackend,
} from "./command.ts";
import { formatCount, formatTable, note, print, printFound, showMoney } from "./output.ts";
import { invalidValue, readName, UsageError } from "../query/option_values.ts";
import { RANGE_OPTIONS, readRange } from "../query/selection.ts";

const HEADER = ["group", "isIdle", "currency", "cost", "tokens", "costPerMillionTokens"] as const;

/** `openfinops costs allocate` */
export const costsAllocate: Command = {
  name: "costs allocate",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...RANGE_OPTIONS,
    { name: "by", value: "LABEL", summary: "label of devices: team, pod, model … (required)" },
    { name: "method", value: "NAME", summary: `${ALLOCATION_METHODS.join(", ")} (default utilization)` },
    { name: "basis", value: "NAME", summary: "costs to divide: estimated or billed (default estimated)" },
    { name: "provider", value: "NAME", summary: "count only the tokens of this provider, such as vllm" },
    { name: "bucket", value: "SPAN", summary: "span within which a cost is divided (default 1d)" },
  ],
  examples: [
    "openfinops costs allocate --by team --during last-month",
    "openfinops costs allocate --by model --since 7d --method time --exact",
  ],
  async run(given) {
    const by = given.text("by");
    if (by === undefined) {
      throw new UsageError("Pass --by with a label of devices.", { code: "MISSING_ARGUMENT" });
    }
    const format = readFormat(given);
    const method = readName("method", given.text("method") ?? "utilization", ALLOCATION_METHODS);
    const basis = readName("basis", given.text("basis") ?? "estimated", ["estimated", "billed"]);
    const span = given.text("bucket") ?? "1d";
    const bucket = parseBucket(span);
    if (!bucket) throw invalidValue("bucket", "a span such as 1h, 6h or 1d", span);
    const { startTime, endTime = Date.now() } = readRange(given);
    if (startTime === undefined) {
      throw new UsageError("Pass a time range: --since, --during or --days.", { code: "MISSING_ARGUMENT" });
    }
    const query = {
      startTime,
      endTime,
      by,
      method,
      basis,
      bucket,
      timeZone: readZone(given),
      provider: given.text("provider"),
    };
    const found = await withBackend(given, "read", (backend) => allocateCosts(backend, query));
    const rows = found.rows.map((row) =>
      HEADER.map((field) => row[field] === null ? undefined : row[field]?.toString())
    );
    const table = () => found.rows.length > 0 && printTable(by, found.rows, found.totals);
    printFound(format, found, { table, header: HEADER, rows });
    for (const [currency, cost] of Object.entries(found.unallocated)) {
      note(`Not divided: ${showMoney(cost, currency)} ${currency} of resources without device metrics.`);
    }
    if (found.rows.length === 0) {
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
  return Number(total) === 0 ? "" : `${percentOf(Number(part), Number(total)).toFixed(1)} %`;
}
