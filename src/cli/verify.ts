import { money, periodName } from "../transfer/delivery.ts";
import { verifyDeliveries } from "../transfer/deliveries.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { formatTable, formatThings, print, printFound } from "./output.ts";

const HEADER = ["delivery", "source", "period", "recordedRows", "rows", "recorded", "found"] as const;

/** `openfinops database verify` */
export const verify: Command = {
  name: "database verify",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS],
  examples: ["openfinops database verify"],
  async run(given) {
    const format = readFormat(given);
    const differing = await withBackend(given, "existing", verifyDeliveries);
    const rows = differing.map(({ id, part, found }) => [
      id,
      part.source,
      periodName(part.period),
      part.rows,
      found.rows,
      money(part.totals),
      money(found.totals),
    ]);
    const table = () => {
      if (rows.length === 0) print("All deliveries are as they were recorded.");
      else print(formatTable([...HEADER], rows.map((row) => row.map(String))));
    };
    printFound(format, differing, { table, header: HEADER, rows });
    if (rows.length === 0) return;
    throw new TransferError(
      `${
        formatThings(rows.length, "billing period differs", "billing periods differ")
      } from what was delivered. ` +
        "Import the files again; costs that you deleted on purpose differ, too.",
      { code: "DELIVERIES_DIFFER" },
    );
  },
};
