import { reconcileInvoice } from "../monitoring/reconciliation.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import { type Command, FORMAT_OPTIONS, readFormat, SOURCE_OPTIONS, withBackend } from "./command.ts";
import { formatThings, printFound } from "./output.ts";
import { missing } from "../query/option_values.ts";

const HEADER = ["invoiceDetailId", "currency", "invoiced", "costs", "difference", "entries"];

export const costsReconcile: Command = {
  name: "costs reconcile",
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    { name: "invoice", value: "ID", summary: "the InvoiceId (required)" },
  ],
  examples: ["openfinops costs reconcile --invoice INV-1"],
  async run(given) {
    const invoice = given.text("invoice");
    if (invoice === undefined) {
      throw missing("Pass --invoice with the InvoiceId.");
    }
    const format = readFormat(given);
    const found = await withBackend(given, "read", (backend) => reconcileInvoice(backend, invoice));
    if (found.length === 0) {
      throw new TransferError(
        `No invoice ${invoice}. Import its Invoice Detail file (openfinops database import costs FILE --format focus), ` +
          "or compare its total with that of its costs: openfinops database query costs --where " +
          `'invoiceId=${invoice}' --group-by invoiceId`,
        { code: "NOT_FOUND" },
      );
    }
    printFound(format, found, { header: HEADER });
    const differing = found.filter(({ difference }) => difference !== "0").length;
    if (differing === 0) return;
    throw new TransferError(
      `The costs of invoice ${invoice} differ from it in ${formatThings(differing, "line", "lines")}.`,
      { code: "INVOICE_DIFFERS" },
    );
  },
};
