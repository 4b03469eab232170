/**
 * Output of an import: its outcome, or what it would store.
 *
 * @module
 */
import type { Dataset } from "../records/dataset.ts";
import type { ImportReport } from "../transfer/import_options.ts";
import type { ImportPreview, PreviewMapping } from "../transfer/preview.ts";
import { toJsonRecord } from "../transfer/values.ts";
import { formatCount, formatTable, print } from "./output.ts";
import { bold, cut, escapeControls } from "./table.ts";

/** Records whose values are shown beside the columns that they come from. */
const SHOWN_RECORDS = 3;
/** Longer values are cut: a map of tags would make the table hard to read. */
const MAX_VALUE = 40;

/** Prints the outcome of an import: its rows, and for a delivery totals before and after. */
export function printReport(report: ImportReport): void {
  const { stored, restated, known, rejected, skipped = 0, delivery } = report;
  const { replaced, different, totals } = delivery ??
    { replaced: 0, different: report.different ?? 0, totals: [] };
  const counts = [stored, replaced + restated, known, different, skipped, rejected].map(formatCount);
  print(formatTable(["stored", "replaced", "known", "different", "skipped", "bad"], [counts]));
  if (totals.length === 0) return;
  print("");
  print(formatTable(
    ["source", "period", "currency", "before", "after"],
    totals.map(({ source, period, currency, before, after }) => [source, period, currency, before, after]),
  ));
}

/** Prints the mapping of each file with values of its first records, totals, and the number of records; or all as JSON. */
export function printPreview(dataset: Dataset<unknown>, preview: ImportPreview, isJson: boolean): void {
  const mappings = preview.mappings.map((mapping) => ({
    ...mapping,
    records: mapping.records.map((record) => toJsonRecord(dataset.columns, record)),
  }));
  const { totals, counts } = preview;
  if (isJson) return print(JSON.stringify({ mappings, totals, counts }, null, 2));
  for (const mapping of mappings) {
    print(`${bold(escapeControls(mapping.name))}\n${formatMapping(mapping)}`);
    print("");
  }
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

/** Fields down, their columns and the values of the first records across. */
function formatMapping(
  { fields, records }: Pick<PreviewMapping, "fields"> & {
    readonly records: readonly Record<string, unknown>[];
  },
): string {
  const shown = records.slice(0, SHOWN_RECORDS);
  const mapped = new Set(fields.map(({ field }) => field.split(".")[0]));
  const derived = new Set(
    shown.flatMap((record) => Object.keys(record)).filter((field) => !mapped.has(field)),
  );
  const rows = [...fields, ...[...derived].map((field) => ({ field, from: "" }))];
  return formatTable(
    ["field", "from", ...shown.map((_, i) => `record ${i + 1}`)],
    rows.map((
      { field, from },
    ) => [field, from, ...shown.map((record) => cut(valueOf(record, field), MAX_VALUE))]),
  );
}

/** The text of a field, or of one entry of a map. */
function valueOf(record: Record<string, unknown>, name: string): string {
  const [field, ...key] = name.split(".");
  const whole = record[field];
  const value = key.length > 0 ? (whole as Record<string, string> | undefined)?.[key.join(".")] : whole;
  return value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
}
