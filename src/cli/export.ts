import { EXPORT_FORMATS, type ExportFormat, exportRecords } from "../transfer/export.ts";
import { asFileError } from "../transfer/transfer_error.ts";
import { exportMonths } from "../transfer/export_months.ts";
import { writeBytes, writeWholeFile, writeWholeFolder } from "../transfer/file_writer.ts";
import type { FocusOptions } from "../transfer/focus_cells.ts";
import { type Arguments, optionsOf, SPREADSHEET_OPTION } from "../query/arguments.ts";
import { type Command, readSpreadsheetSafe, SOURCE_OPTIONS, withBackend } from "./command.ts";
import { formatThings, note } from "./output.ts";
import { withPartFile } from "./part_file.ts";
import { ProgressLine } from "./progress.ts";
import {
  DATASET_NAMES,
  DATASETS,
  readDataset,
  readDatasetName,
  readSelection,
  SELECTION_OPTIONS,
  TABLE_OPTION,
} from "../query/selection.ts";
import { conflict, missing, readDurationMs, readName, readOption } from "../query/option_values.ts";

/** Options of FOCUS columns that a cost entry may lack. */
const FOCUS_OPTIONS = optionsOf({
  "focus-version V": "FOCUS: 1.0, 1.1, 1.2, 1.3 or 1.4 (default 1.4); also for parquet",
  "focus-dataset NAME": "FOCUS: contract-commitment, invoice-detail or billing-period in place of costs",
  "billing-account-id ID": "FOCUS: BillingAccountId",
  "billing-account-name NAME": "FOCUS: BillingAccountName",
  "provider NAME": "usage: only this provider; FOCUS: ServiceProviderName, ProviderName before 1.4",
  "publisher NAME": "FOCUS before 1.4: PublisherName (default: the provider)",
  "invoice-issuer NAME": "FOCUS: InvoiceIssuerName (default: the provider)",
  "invoice-id ID": "FOCUS: InvoiceId",
});

const FOCUS_NAMES = FOCUS_OPTIONS.map(({ name }) => name);

export const exportCommand: Command = {
  name: "database export",
  positionals: `<${DATASET_NAMES}>`,
  options: [
    ...SOURCE_OPTIONS,
    TABLE_OPTION,
    ...SELECTION_OPTIONS.filter(({ name }) => !FOCUS_NAMES.includes(name)), // --provider is both
    ...optionsOf({
      "format F": `${EXPORT_FORMATS.join(", ")} (default: from the file name, else ndjson)`,
      "output FILE": "write this file, completely or not at all; .gz compresses it (default stdout)",
      "partition-by month":
        "parquet: --output is a new folder with a file for each UTC month, as in month=2026-10/data.parquet",
    }),
    SPREADSHEET_OPTION,
    ...FOCUS_OPTIONS,
    ...optionsOf({
      "charge-period TIME": "FOCUS: length of a charge period without an end (default 1h)",
    }),
  ],
  examples: [
    "openfinops database export metrics --since 7d --output metrics.ndjson.gz",
    "openfinops database export costs --format focus --provider AWS --output focus.csv",
    "openfinops database export costs --format parquet --output costs.parquet",
    "openfinops database export costs --format parquet --partition-by month --output costs",
  ],
  async run(given) {
    const what = readDatasetName(given);
    if (what === undefined) {
      throw missing(`Name a dataset: ${Object.keys(DATASETS).join(", ")}.`);
    }
    const dataset = readDataset(what);
    const path = given.text("output");
    const format = readFormat(given, path);
    if (path === undefined && format === "parquet" && Deno.stdout.isTerminal()) {
      throw conflict("Parquet is binary. Pass --output FILE.");
    }
    const isSpreadsheetSafe = readSpreadsheetSafe(given, format);
    const hasFocus = format === "focus" || given.has("focus-version");
    const query = readSelection(given, dataset, hasFocus ? FOCUS_NAMES : []);
    const focus = readFocus(given);
    if (!hasFocus) refuseFocus(given, query);
    const isPartitioned = readPartitioned(given, { format, path });
    await withBackend(given, "read", async (backend) => {
      using progress = new ProgressLine();
      let records = 0;
      const options = {
        backend,
        dataset: dataset.name,
        query,
        focus,
        isSpreadsheetSafe,
        onProgress(count: number) {
          records = count;
          progress.show(count);
        },
      };
      const bytes = isPartitioned ? undefined : await exportRecords({ ...options, format });
      if (!bytes) await withPartFile((onPart) => writeWholeFolder(path!, exportMonths(options), onPart));
      else if (path === undefined) await writeStdout(bytes);
      else {
        const packed = path.endsWith(".gz") ? pack(bytes) : bytes;
        await withPartFile((onPart) => writeWholeFile(path, packed, onPart));
      }
      progress[Symbol.dispose]();
      note(`${formatThings(records, "record", "records")} exported as ${format}.`);
    });
  },
};

/** Formats by the ending of a file name. */
const BY_ENDING: ReadonlyMap<string, ExportFormat> = new Map([
  ["csv", "csv"],
  ["parquet", "parquet"],
  ["ndjson", "ndjson"],
  ["jsonl", "ndjson"],
]);

function readFormat(given: Arguments, path = ""): ExportFormat {
  const format = given.text("format");
  if (format !== undefined) return readName("format", format, EXPORT_FORMATS);
  const [, ending] = /[^\\/]\.([^.\\/]+?)$/.exec(path.replace(/\.gz$/i, "")) ?? [];
  if (ending === undefined) return "ndjson";
  const byEnding = BY_ENDING.get(ending.toLowerCase());
  if (byEnding !== undefined) return byEnding;
  // Without the ending: it may be part of a connection string that was given by mistake.
  throw missing(
    `No format has the ending of the name in --output. Pass --format with one of ${
      EXPORT_FORMATS.join(", ")
    }.`,
  );
}

/** Returns true if the export is a folder of files. */
function readPartitioned(given: Arguments, { format, path }: { format: string; path?: string }): boolean {
  const unit = given.text("partition-by");
  if (unit === undefined) return false;
  readName("partition-by", unit, ["month"]);
  const problem = format !== "parquet"
    ? "--partition-by needs --format parquet."
    : path === undefined
    ? "--partition-by needs --output FOLDER."
    : ["limit", "order"].some((name) => given.text(name) !== undefined)
    ? "--partition-by takes neither --limit nor --order."
    : undefined;
  if (problem !== undefined) throw conflict(problem);
  return true;
}

/** Refuses options of FOCUS that are no conditions of the query. */
function refuseFocus(given: Arguments, query: ReturnType<typeof readSelection>): void {
  const unused = [...FOCUS_NAMES, "charge-period"].find((name) =>
    given.has(name) && query[name] === undefined
  );
  if (unused === undefined) return;
  throw conflict(`--${unused} applies to FOCUS only. Remove it, or add --format focus.`);
}

function readFocus(given: Arguments): FocusOptions {
  return {
    version: given.text("focus-version") as FocusOptions["version"],
    dataset: given.text("focus-dataset") as FocusOptions["dataset"],
    billingAccountId: given.text("billing-account-id"),
    billingAccountName: given.text("billing-account-name"),
    providerName: given.text("provider"),
    publisherName: given.text("publisher"),
    invoiceIssuerName: given.text("invoice-issuer"),
    invoiceId: given.text("invoice-id"),
    chargePeriodMs: readOption(given, "charge-period", readDurationMs),
  };
}

async function writeStdout(bytes: ReadableStream<Uint8Array>): Promise<void> {
  try {
    await writeBytes(Deno.stdout, bytes);
  } catch (error) {
    throw asFileError("write", "stdout", error);
  }
}

function pack(bytes: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  return bytes.pipeThrough(
    new CompressionStream("gzip") as unknown as TransformStream<Uint8Array, Uint8Array>,
  );
}
