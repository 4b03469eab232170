import type { Dataset } from "../records/dataset.ts";
import type { ImportPreview } from "../transfer/preview.ts";
import { toJsonRecord } from "../transfer/values.ts";
import { formatCount, formatTable, print } from "./output.ts";

/** Prints the mapping of each file, the first records as JSON, totals, and the number of records. */
export function printPreview(
  { columns }: Dataset<unknown>,
  { mappings, records, totals, counts }: ImportPreview,
): void {
  for (const { name, fields } of mappings) {
    print(formatTable([`field of ${name}`, "from"], fields.map(({ field, from }) => [field, from])));
    print("");
  }
  for (const record of records) print(JSON.stringify(toJsonRecord(columns, record)));
  if (records.length > 0) print("");
  if (totals.length > 0) {
    const rows = totals.map((
      { currency, period, chargeCategory, rows, total },
    ) => [currency, period, chargeCategory, formatCount(rows), total]);
    print(formatTable(["currency", "period", "charge category", "rows", "total"], rows));
    print("");
  }
  const numbers = [counts.records, counts.skipped, counts.bad].map(formatCount);
  print(formatTable(["would be stored", "skipped", "bad"], [numbers]));
}
