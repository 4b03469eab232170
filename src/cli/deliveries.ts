import {
  type ListedDelivery,
  livePartsOf,
  nothingLeftOf,
  readDeliveries,
  replacedFiles,
  undoDelivery,
} from "../transfer/deliveries.ts";
import { money, periodName, sumOf } from "../transfer/recorded_delivery.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import {
  type Command,
  confirmDeletion,
  CONNECTION_OPTIONS,
  FORMAT_OPTIONS,
  readDryRun,
  readFormat,
  userName,
  withBackend,
} from "./command.ts";
import { formatTable, formatThings, isoTime, note, print, printFound } from "./output.ts";
import { missing } from "../query/option_values.ts";

const HEADER = ["delivery", "time", "user", "source", "period", "rows", "totals", "state", "files"] as const;

export const deliveries: Command = {
  name: "database deliveries",
  positionals: "[undo ID]",
  maxPositionals: 2,
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...optionsOf({
      "dry-run": "only show what undo would delete",
      yes: "undo without confirmation",
    }),
  ],
  examples: [
    "openfinops database deliveries",
    "openfinops database deliveries undo 20261130T083000-1f0c2a9b",
  ],
  async run(given) {
    const [action, id] = given.positionals;
    if (action === undefined) return await list(given);
    if (action === "undo" && id !== undefined) return await undo(given, id);
    throw missing('Write "database deliveries", or "database deliveries undo ID".');
  },
};

async function list(given: Arguments): Promise<void> {
  const format = readFormat(given);
  const found = await withBackend(given, "read", readDeliveries);
  const rows = found.flatMap(({ id, at, user = "", files, parts }) =>
    parts.map(({ source, period, rows, totals, ended }) => {
      const by = ended?.by ?? "stored";
      return {
        delivery: id,
        time: isoTime(at),
        user,
        source,
        period: periodName(period),
        rows,
        totals: money(totals),
        state: /^\d/.test(by) ? `replaced by ${by}` : by,
        files: files.join(" "),
      };
    })
  );
  const table = () => print(formatTable(HEADER, rows.map((row) => HEADER.map((name) => String(row[name])))));
  printFound(format, rows, { table, header: HEADER });
}

async function undo(given: Arguments, id: string): Promise<void> {
  const isDryRun = readDryRun(given, "Undo deletes for good.");
  const all = await withBackend(given, "read", readDeliveries);
  const what = describeLive(all, id);
  const files = replacedFiles(all, id);
  if (files.length > 0) {
    note(`The costs that it replaced are not kept. To restore them, import again: ${files.join(" ")}`);
  }
  if (!confirmDeletion(given, what, isDryRun)) return;
  const user = userName();
  const rows = await withBackend(given, "existing", (backend) => undoDelivery(backend, id, { user }));
  print(`Deleted ${formatThings(rows, "cost", "costs")} of delivery ${id}.`);
}

/** Costs of a delivery that are there. */
function describeLive(all: readonly ListedDelivery[], id: string): string {
  const delivery = all.find((delivery) => delivery.id === id);
  const live = delivery ? livePartsOf(delivery) : [];
  if (live.length === 0) throw nothingLeftOf(id);
  const rows = live.reduce((sum, part) => sum + part.rows, 0);
  const totals = money(sumOf(live.map((part) => part.totals)));
  return `${formatThings(rows, "cost", "costs")} of delivery ${id} (${totals})`;
}
