/**
 * Compares an invoice with the costs that name it.
 *
 * @module
 */
import type { Backend } from "../backends/backend.ts";
import { costEntries } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { acceptQuery } from "../records/query.ts";
import { readFocusRows } from "../transfer/focus_documents.ts";

/** A detail of an invoice beside its costs, in one currency. */
export interface ReconciledDetail {
  /** InvoiceDetailId; null for costs that name no detail. */
  invoiceDetailId: string | null;
  currency: string;
  /** The exact sum of the invoice, a canonical decimal string. */
  invoiced: string;
  /** The exact sum of the costs. */
  costs: string;
  /** The costs less the invoice; `0` if both are the same. */
  difference: string;
  /** The number of costs. */
  entries: number;
}

/**
 * Compares an invoice with the costs that name it, to the digit: by detail where costs name details, else as a whole.
 *
 * @returns A row for each detail and currency; none if the invoice is not stored.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function reconcileInvoice(
  backend: Pick<Backend, "aggregate" | "documents">,
  invoiceId: string,
): Promise<ReconciledDetail[]> {
  const details = (await readFocusRows(backend.documents, "invoice-detail"))
    .filter((row) => row.InvoiceId === invoiceId);
  if (details.length === 0) return [];
  const where = [{ field: "invoiceId", eq: invoiceId }, { field: "basis", eq: "billed" }];
  const found = await backend.aggregate(costEntries, acceptQuery(costEntries, { where }), {
    groupBy: [{ field: "currency" }, { field: "focus", key: "InvoiceDetailId" }],
    measures: [{ function: "sum", field: "amount" }, { function: "count" }],
  });
  const isByDetail = found.some(({ group: [, detail] }) => detail);
  const rows = new Map<string, ReconciledDetail>();
  const rowOf = (detail: string | null, currency: string) => {
    const invoiceDetailId = isByDetail ? detail || null : null;
    const name = JSON.stringify([invoiceDetailId, currency]);
    const row = rows.get(name) ??
      { invoiceDetailId, currency, invoiced: "0", costs: "0", difference: "0", entries: 0 };
    rows.set(name, row);
    return row;
  };
  for (const { InvoiceDetailId, BillingCurrency, BilledCost } of details) {
    const row = rowOf(InvoiceDetailId, BillingCurrency ?? "");
    row.invoiced = Decimal.from(row.invoiced).plus(Decimal.from(BilledCost ?? "0")).toString();
  }
  for (const { group: [currency, detail], values: [total, count] } of found) {
    const row = rowOf(detail, currency!);
    row.costs = Decimal.from(row.costs).plus(Decimal.from(total as string)).toString();
    row.entries += count as number;
  }
  return [...rows.values()].map((row) => ({
    ...row,
    difference: Decimal.from(row.costs).minus(Decimal.from(row.invoiced)).toString(),
  }));
}
