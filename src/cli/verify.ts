import { TransferError } from "../transfer/transfer_error.ts";
import { verifyDatabase } from "../transfer/verify.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { formatThings, print, printFound } from "./output.ts";

export const verify: Command = {
  name: "database verify",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS],
  examples: ["openfinops database verify"],
  async run(given) {
    const format = readFormat(given);
    const faults = await withBackend(given, "existing", verifyDatabase);
    if (format === "table" && faults.length === 0) print("Deliveries, totals, keys and the ledger agree.");
    else printFound(format, faults, { header: ["check", "subject", "expected", "found"] });
    if (faults.length === 0) return;
    throw new TransferError(
      `${formatThings(faults.length, "record does", "records do")} not agree with what is stored. ` +
        "Import the files of a delivery again; costs that you deleted on purpose differ, too.",
      { code: "DATABASE_DIFFERS" },
    );
  },
};
