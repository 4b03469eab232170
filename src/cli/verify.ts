import { TransferError } from "../transfer/transfer_error.ts";
import { verifyDatabase } from "../transfer/verify.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { formatTable, formatThings, print, printFound } from "./output.ts";

const HEADER = ["check", "subject", "expected", "found"] as const;

/** `openfinops database verify` */
export const verify: Command = {
  name: "database verify",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS],
  examples: ["openfinops database verify"],
  async run(given) {
    const format = readFormat(given);
    const faults = await withBackend(given, "existing", verifyDatabase);
    const rows = faults.map((fault) => HEADER.map((name) => fault[name]));
    const table = () => {
      if (rows.length === 0) print("Deliveries, totals, keys and the ledger agree.");
      else print(formatTable([...HEADER], rows));
    };
    printFound(format, faults, { table, header: HEADER, rows });
    if (rows.length === 0) return;
    throw new TransferError(
      `${formatThings(rows.length, "record does", "records do")} not agree with what is stored. ` +
        "Import the files of a delivery again; costs that you deleted on purpose differ, too.",
      { code: "DATABASE_DIFFERS" },
    );
  },
};
