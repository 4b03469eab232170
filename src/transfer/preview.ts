/**
 * Preview of an import: what would be stored, without a database.
 *
 * @module
 */
import type { CostEntry } from "../records/cost_entry.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { Decimal } from "../records/decimal.ts";
import { Delivery } from "./delivery.ts";
import type { FieldMapping } from "./field_plan.ts";
import { type CostFile, newProgress, ofFile } from "./import_options.ts";
import { type FileOptions, readFile, type Take } from "./read_records.ts";
import { periodName } from "./recorded_delivery.ts";
import { isoTime } from "./values.ts";

/** Records that a preview has of each mapping. */
const SHOWN_RECORDS = 10;

/** Total of a currency, billing period and charge category. */
export interface PreviewTotal {
  readonly currency: string;
  readonly period: string;
  readonly chargeCategory: string;
  readonly rows: number;
  readonly total: string;
}

/** Fields of a file and their columns. */
export interface PreviewMapping {
  readonly name: string;
  readonly fields: readonly FieldMapping[];
  readonly records: readonly unknown[];
}

/** Records that an import would store. */
export interface ImportPreview {
  /** Fields and their columns of each file, without files that repeat those of the one before. */
  readonly mappings: readonly PreviewMapping[];
  /** Records, lines that are no charge, and bad lines. */
  readonly counts: { readonly records: number; readonly skipped: number; readonly bad: number };
  readonly totals: readonly PreviewTotal[];
}

/** Reads files as an import does, and stores nothing. */
export async function previewImport(
  files: readonly CostFile[],
  given: FileOptions,
): Promise<ImportPreview> {
  const dataset: Dataset<unknown> = DATASETS[given.dataset];
  const isCosts = given.dataset === "cost_entries";
  const mappings: (PreviewMapping & { records: unknown[] })[] = [];
  const totals: Totals = new Map();
  const delivery = new Delivery({ ...given, closed: new Set(), files: files.map(({ name }) => name) });
  const progress = newProgress();
  for (const file of files) {
    const { name } = file;
    const options: FileOptions = {
      ...ofFile(file, given),
      onMapping(fields) {
        const before = mappings.at(-1)?.fields;
        if (JSON.stringify(before) !== JSON.stringify(fields)) mappings.push({ name, fields, records: [] });
      },
    };
    const take: Take = (record, from) => {
      if (!isCosts) return record;
      delivery.take(record, from);
      add(totals, record as CostEntry);
      return record;
    };
    const stored = { read: () => Promise.resolve([]) };
    const onEnd = (member?: string) => delivery.endFile(name, member);
    await readFile(await file.open(), { dataset, progress, options, take, stored, onEnd }, {
      async write(pages) {
        for await (const page of pages) {
          progress.staged += page.length;
          const { records } = mappings.at(-1)!;
          for (const record of page.slice(0, SHOWN_RECORDS - records.length)) {
            records.push(asShown(dataset, record));
          }
          given.onProgress?.({ ...progress });
        }
      },
      outcome: () => "Nothing was stored.",
    });
  }
  const { staged, stored, skipped = 0, rejected } = progress; // rows of FOCUS that are no costs are stored at once
  return {
    mappings,
    counts: { records: staged + stored, skipped, bad: rejected },
    totals: inOrder(totals),
  };
}

/** Totals by currency, period and category of the charge. */
type Totals = Map<string, { key: string[]; rows: number; total: Decimal }>;

function inOrder(totals: Totals): PreviewTotal[] {
  return [...totals.values()].map(({ key: [currency, period, chargeCategory], rows, total }) => ({
    currency,
    period,
    chargeCategory,
    rows,
    total: total.toString(),
  })).sort((a, b) =>
    `${a.currency} ${a.period} ${a.chargeCategory}` < `${b.currency} ${b.period} ${b.chargeCategory}` ? -1 : 1
  );
}

function add(
  totals: Totals,
  { currency, amount, chargeCategory = "", billingPeriodStart, timestamp }: CostEntry,
): void {
  const period = billingPeriodStart === undefined
    ? isoTime(timestamp).slice(0, 7)
    : periodName(billingPeriodStart);
  const key = [currency, period, chargeCategory];
  const name = key.join("\n");
  const { rows, total } = totals.get(name) ?? { rows: 0, total: Decimal.ZERO };
  totals.set(name, { key, rows: rows + 1, total: total.plus(Decimal.from(amount)) });
}

/** The fields of a record; a delivery that does not take place has no id. */
function asShown({ columns }: Dataset<unknown>, record: unknown): unknown {
  const values = record as Record<string, unknown>;
  const fields = columns.map(({ field }) => field).filter((field) => field !== "deliveryId");
  return Object.fromEntries(
    fields.filter((field) => values[field] !== undefined).map((field) => [field, values[field]]),
  );
}
