import { normalize } from "node:path";
import type { DatasetName } from "../records/dataset.ts";
import { describePath } from "../errors.ts";
import { noteLooseCosts } from "../monitoring/cost_evaluation.ts";
import { asFileError, TransferError } from "../transfer/transfer_error.ts";
import { importRecords } from "../transfer/import.ts";
import { importCosts } from "../transfer/import_costs.ts";
import type { CostFile, ImportOptions, ImportReport } from "../transfer/import_options.ts";
import { IMPORT_FORMATS, type ImportFormat } from "../transfer/formats.ts";
import { previewImport } from "../transfer/preview.ts";
import { makeReader } from "../transfer/mapping.ts";
import { isManifest, MANIFEST_SKIPPED } from "../transfer/manifest.ts";
import { fileAccess } from "../transfer/random_access.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, CONNECTION_OPTIONS, sqliteFile, userName, withBackend } from "./command.ts";
import { evaluateAndNotify, readChannels } from "./notifications.ts";
import { note } from "./output.ts";
import { printPreview, printReport } from "./import_output.ts";
import { ProgressLine } from "./progress.ts";
import { FileNotes } from "./file_notes.ts";
import { Rejects } from "./rejects.ts";
import { listenForStop, STOP_SIGNALS } from "./stop.ts";
import { IMPORT_OPTIONS, readConflictPolicy, readDelivery, readMapping } from "../query/import_options.ts";
import { DATASET_NAMES, DATASETS, readDataset } from "../query/selection.ts";
import { conflict, missing, readName, UsageError } from "../query/option_values.ts";

const STDIN = "-";

const OVERRIDE_HINT = " (detected from the columns; --focus-version overrides)";

export const importCommand: Command = {
  name: "database import",
  positionals: `<${DATASET_NAMES}> FILE…`,
  maxPositionals: Infinity,
  options: [
    ...CONNECTION_OPTIONS,
    ...IMPORT_OPTIONS,
    ...optionsOf({
      "dry-run": "show the mapping, sample values and totals, and store nothing",
      json: "--dry-run: print JSON, with ten records of each mapping",
      "rejects FILE": "write bad lines with their reasons to this file, as NDJSON",
    }),
  ],
  examples: [
    "openfinops database import costs cur-2026-11-*.csv.gz",
    "openfinops database import costs bill.csv --map amount=Cost,Price --set currency=EUR --dry-run",
    "openfinops database import metrics cpu.csv --map cpuUsage=value --set nodeId=i-24ae8d",
    "openfinops database import devices gpus.csv --set nodeId=gpu-01",
    "openfinops database import devices dcgm.prom --format prometheus --at 2026-11-01T00:00:00Z",
    "zcat *.ndjson.gz | openfinops database import services - --format ndjson",
  ],
  async run(given) {
    const [what, ...paths] = given.positionals;
    if (what === undefined || paths.length === 0) {
      throw missing(`Name a dataset (${Object.keys(DATASETS).join(", ")}) and files. - is stdin.`);
    }
    const dataset = readDataset(what).name;
    const mapping = readMapping(given, readDataset(what));
    const onConflict = readConflictPolicy(given);
    const files = readFiles(given, { paths, dataset });
    for (const { path, format } of files) {
      makeReader(readDataset(what), { ...mapping, format }); // unknown fields, before anything is opened
      assertReadable(path);
    }
    if (given.has("json") && !given.has("dry-run")) {
      throw conflict("--json applies to --dry-run only.");
    }
    const channels = dataset === "cost_entries" ? readChannels() : [];
    using notes = new FileNotes();
    using rejects = new Rejects(given.text("rejects"), [...paths.map(pathOf), ...sqliteFile(given)]);
    // A listener for SIGHUP would also stop an import that was started to ignore it.
    using interrupt = listenForStop(interruption(), STOP_SIGNALS.filter((name) => name !== "SIGHUP"));
    const options = {
      dataset,
      onConflict,
      ...mapping,
      ...readDelivery(given, dataset),
      user: userName(),
      signal: interrupt.signal,
    };
    try {
      const reporters = { rejects, notes };
      if (given.has("dry-run")) {
        return await preview(files, options, { ...reporters, isJson: given.has("json") });
      }
      await withBackend(given, "create", async (backend) => {
        rejects.empty();
        const run = dataset === "cost_entries" ? importAsDelivery : importEach;
        const noting = noteLooseCosts(backend);
        await run(files, { ...options, backend: noting.backend }, reporters);
        if (dataset !== "cost_entries") return;
        await evaluateAndNotify(backend, channels, { spans: noting.spans() });
      }, { onConflict });
    } catch (error) {
      rejects.note();
      throw error;
    }
    rejects.summarize();
  },
};

/** Creates the error of an import that a signal stops. */
function interruption(): TransferError {
  return new TransferError(
    "Interrupted. No costs were stored. Other records that were written stay. Run the same command again; it skips them.",
    { code: "INTERRUPTED" },
  );
}

/** Reads the files to import: no manifests, and none twice of costs, whose equal rows all count. */
function readFiles(
  given: Arguments,
  { paths, dataset }: { readonly paths: readonly string[]; readonly dataset: DatasetName },
): GivenFile[] {
  const named = new Set<string>();
  for (const path of paths) {
    const normal = normalize(path);
    if (named.has(normal) && dataset === "cost_entries") {
      throw conflict(`${nameOf(path)} is named twice. Name it once.`);
    }
    named.add(normal);
    if (isManifest(path)) note(`${describePath(path)}: ${MANIFEST_SKIPPED}`);
  }
  const files = paths.filter((path) => !isManifest(path)).map((path) => ({
    path,
    ...readFormat(given, path),
  }));
  if (files.length > 0) return files;
  throw missing("Name the files that it lists.");
}

interface GivenFile {
  readonly path: string;
  readonly format?: ImportFormat;
  readonly form?: ImportOptions["form"];
}

/** Callbacks that print messages about files. */
interface Reporters {
  readonly rejects: Rejects;
  readonly notes: FileNotes;
}

/** Imports files one by one. */
async function importEach(
  files: readonly GivenFile[],
  options: Omit<ImportOptions, "format">,
  reporters: Reporters,
): Promise<void> {
  const { rejects } = reporters;
  const reports: Omit<ImportReport, "delivery">[] = [];
  const sum = (field: "stored" | "known" | "restated" | "skipped" | "different") =>
    reports.reduce((sum, report) => sum + (report[field] ?? 0), 0);
  const printTotal = () => {
    const [stored, known, restated] = [sum("stored"), sum("known"), sum("restated")];
    const [skipped, different] = [sum("skipped"), sum("different")];
    printReport({ stored, known, restated, skipped, different, rejected: rejects.count });
  };
  let clash: unknown;
  for (const [i, file] of files.entries()) {
    using progress = new ProgressLine();
    try {
      await withFiles([file], { options, ...reporters, progress }, async ([{ open, format, form }], told) => {
        const onProgress: Told["onProgress"] = (state) => told.onProgress?.(reports[i] = state);
        reports[i] = await importRecords(await open(), { ...options, ...told, format, form, onProgress });
      });
    } catch (error) {
      if (error instanceof TransferError && error.code === "KEY_CLASH") {
        clash ??= error;
        continue; // the records of the other files can be stored
      }
      if (sum("stored") + sum("known") + sum("different") > 0) printTotal();
      throw error;
    }
  }
  printTotal();
  if (clash) throw clash;
}

async function importAsDelivery(
  files: readonly GivenFile[],
  options: Omit<ImportOptions, "format">,
  reporters: Reporters,
): Promise<void> {
  using progress = new ProgressLine();
  await withFiles(files, { options, ...reporters, progress }, async (opened, told) => {
    await importCosts(opened, { ...options, ...told, onDelivered: printReport });
  });
}

/** Prints what an import would store. */
async function preview(
  files: readonly GivenFile[],
  options: Omit<ImportOptions, "backend" | "format">,
  { isJson, ...reporters }: Reporters & { readonly isJson: boolean },
): Promise<void> {
  using progress = new ProgressLine();
  reporters.rejects.empty();
  const found = await withFiles(
    files,
    { options, ...reporters, progress },
    (opened, told) => previewImport(opened, { ...options, ...told }),
  );
  printPreview(readDataset(options.dataset), found, isJson);
  reporters.rejects.summarize();
}

/** Callbacks of an import that report to the terminal. */
type Told = Pick<ImportOptions, "onFocusVersion" | "onNote" | "onReject" | "onProgress">;

/** Opens files one after the other. Messages and errors name the one that is read. */
async function withFiles<T>(
  files: readonly GivenFile[],
  { options, rejects, notes, progress }: Reporters & {
    options: Pick<ImportOptions, "focusVersion">;
    progress: ProgressLine;
  },
  run: (files: readonly CostFile[], told: Told) => Promise<T>,
): Promise<T> {
  let current = files[0].path;
  const opened = files.map((file): CostFile => {
    const found = asCostFile(file);
    return {
      ...found,
      open() {
        current = file.path;
        return found.open();
      },
    };
  });
  const total = opened.reduce<number | undefined>(
    (sum, { size }) => sum === undefined || size === undefined ? undefined : sum + size,
    0,
  );
  const hint = options.focusVersion ? "" : OVERRIDE_HINT;
  try {
    return await run(opened, {
      onFocusVersion: (version) => notes.add(`FOCUS ${version}${hint}`, nameOf(current)),
      onNote: (text, file) => notes.add(text, file ?? (files.length === 1 ? nameOf(current) : undefined)),
      onReject: (reject) => rejects.add(nameOf(current), reject),
      onProgress: ({ staged, stored, known, bytes }) =>
        progress.show(staged + stored + known, total && bytes / total),
    });
  } catch (error) {
    throw asImportError(error, current);
  }
}

function asCostFile({ path, ...form }: GivenFile): CostFile {
  const { isFile, size } = path === STDIN ? { isFile: false, size: 0 } : Deno.statSync(path);
  return {
    name: nameOf(path),
    ...form,
    ...(isFile ? { size } : {}),
    open: async () => {
      if (path === STDIN) return Deno.stdin.readable;
      return isFile ? fileAccess(path, size) : (await Deno.open(path)).readable;
    },
  };
}

function asImportError(error: unknown, path: string): unknown {
  if (!(error instanceof TransferError)) return asFileError("read", path, error);
  // The options lack what the file does not have.
  if (error.code === "MISSING_CURRENCY") {
    return new UsageError(`${nameOf(path)}: ${error.message}`, error.code);
  }
  const isOfFile = error.code !== "DELIVERY_REFUSED" && error.code !== "INTERRUPTED";
  return isOfFile ? new TransferError(`${nameOf(path)}: ${error.message}`, error) : error;
}

function readFormat(given: Arguments, path: string): Pick<GivenFile, "format" | "form"> {
  const format = given.text("format");
  if (format !== undefined) return { format: readName("format", format, IMPORT_FORMATS) };
  return /\.(ndjson|jsonl)(\.(gz|zst))?$/i.test(path) ? { form: "ndjson" } : {};
}

/** Before anything is made: a name that is misspelled must not leave an empty database behind. */
function assertReadable(path: string): void {
  if (path === STDIN) return;
  try {
    const { isFile, isDirectory } = Deno.statSync(path);
    if (isFile) Deno.openSync(path).close();
    if (!isDirectory) return; // a pipe is opened once: its writer would not wait for a second time
  } catch (error) {
    throw asFileError("read", path, error);
  }
  throw new TransferError(`Cannot read ${describePath(path)}: it is a folder. Name a file.`, {
    code: "NOT_A_FILE",
  });
}

/** Name of a file in messages. */
function nameOf(path: string): string {
  return path === STDIN ? "stdin" : describePath(path);
}

/** Path at which a file can be inspected; stdin may be one, too. */
function pathOf(path: string): string {
  return path === STDIN ? "/dev/stdin" : path;
}
