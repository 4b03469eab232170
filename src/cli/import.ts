import { describePath } from "../errors.ts";
import { resolve } from "node:path";
import { noteLooseCosts } from "../monitoring/cost_evaluation.ts";
import { isGranted } from "../permissions.ts";
import { asFileError, TransferError } from "../transfer/transfer_error.ts";
import { importRecords } from "../transfer/import.ts";
import { importCosts } from "../transfer/import_costs.ts";
import type { CostFile, ImportOptions, ImportReport } from "../transfer/import_options.ts";
import { IMPORT_FORMATS, type ImportFormat } from "../transfer/formats.ts";
import { previewImport } from "../transfer/preview.ts";
import { makeReader } from "../transfer/mapping.ts";
import { isManifest, MANIFEST_SKIPPED } from "../transfer/manifest.ts";
import { fileAccess } from "../transfer/random_access.ts";
import type { Reject } from "../transfer/record_stream.ts";
import type { Arguments } from "./arguments.ts";
import { type Command, CONNECTION_OPTIONS, sqliteFile, userName, withBackend } from "./command.ts";
import { evaluateAndNotify, readChannels } from "./notifications.ts";
import { formatCount, formatTable, formatThings, note, print } from "./output.ts";
import { printPreview } from "./import_preview.ts";
import { ProgressLine } from "./progress.ts";
import { IMPORT_OPTIONS, readConflictPolicy, readDelivery, readMapping } from "../query/import_options.ts";
import { DATASET_NAMES, DATASETS, readDataset } from "../query/selection.ts";
import { readName, UsageError } from "../query/option_values.ts";

/** Rejected lines that are printed one by one. */
const SHOWN_REJECTS = 10;
const STDIN = "-";

const OVERRIDE_HINT = " (detected from the columns; --focus-version overrides)";

/** `openfinops database import` */
export const importCommand: Command = {
  name: "database import",
  positionals: `<${DATASET_NAMES}> FILE…`,
  maxPositionals: Infinity,
  options: [
    ...CONNECTION_OPTIONS,
    ...IMPORT_OPTIONS,
    { name: "dry-run", summary: "show the mapping, ten records and totals, and store nothing" },
    { name: "rejects", value: "FILE", summary: "write bad lines with their reasons to this file, as NDJSON" },
  ],
  examples: [
    "openfinops database import costs cur-2026-11-*.csv.gz",
    "openfinops database import costs bill.csv --map amount=Cost,Price --set currency=EUR --dry-run",
    "openfinops database import metrics cpu.csv --map cpuUsage=value --set nodeId=i-24ae8d",
    "openfinops database import devices gpus.csv --format nvidia-smi --set nodeId=gpu-01",
    "openfinops database import devices dcgm.prom --format prometheus --at 2026-11-01T00:00:00Z",
    "zcat *.ndjson.gz | openfinops database import services - --format ndjson",
  ],
  async run(given) {
    const [what, ...paths] = given.positionals;
    if (what === undefined || paths.length === 0) {
      throw new UsageError(
        `Name a dataset (${Object.keys(DATASETS).join(", ")}) and files. - is stdin.`,
        { code: "MISSING_ARGUMENT" },
      );
    }
    const dataset = readDataset(what).name;
    const mapping = readMapping(given, readDataset(what));
    const onConflict = readConflictPolicy(given);
    const files = paths.filter((path) => !isManifest(path)).map((path) => ({
      path,
      ...readFormat(given, path),
    }));
    for (const path of paths.filter(isManifest)) note(`${describePath(path)}: ${MANIFEST_SKIPPED}`);
    if (files.length === 0) {
      throw new UsageError("Name the files that it lists.", { code: "MISSING_ARGUMENT" });
    }
    for (const { path, format } of files) {
      makeReader(readDataset(what), { ...mapping, format }); // unknown fields, before anything is opened
      assertReadable(path);
    }
    const channels = dataset === "cost_entries" ? readChannels() : [];
    using rejects = new Rejects(given.text("rejects"), [...paths.map(pathOf), ...sqliteFile(given)]);
    using interrupt = new Interrupt();
    const options = {
      dataset,
      ...mapping,
      ...readDelivery(given, dataset),
      user: userName(),
      signal: interrupt.signal,
    };
    try {
      if (given.has("dry-run")) return await preview(files, options, rejects);
      await withBackend(given, "create", async (backend) => {
        rejects.empty();
        const run = dataset === "cost_entries" ? importAsDelivery : importEach;
        const looseCosts = noteLooseCosts(backend);
        await run(files, { ...options, backend }, rejects);
        if (dataset !== "cost_entries") return;
        await evaluateAndNotify(backend, channels, { spans: looseCosts() });
      }, { onConflict });
    } catch (error) {
      rejects.note();
      throw error;
    }
    rejects.summarize();
  },
};

/** A file with its format. */
interface GivenFile {
  readonly path: string;
  readonly format?: ImportFormat;
  readonly form?: ImportOptions["form"];
}

/** Imports files one by one. */
async function importEach(
  files: readonly GivenFile[],
  options: Omit<ImportOptions, "format">,
  rejects: Rejects,
): Promise<void> {
  const total = { stored: 0, known: 0, restated: 0, skipped: 0 };
  const add = ({ stored, known, restated, skipped = 0 }: Omit<ImportReport, "delivery">) => {
    total.stored += stored;
    total.known += known;
    total.restated += restated;
    total.skipped += skipped;
  };
  for (const { path, ...form } of files) {
    using progress = new ProgressLine();
    const { open, size, name } = asCostFile({ path });
    let written: Omit<ImportReport, "delivery"> = { stored: 0, known: 0, restated: 0, rejected: 0 };
    try {
      const report = await importRecords(await open(), {
        ...options,
        ...form,
        onNote: (text) => note(`${name}: ${text}`),
        onReject: (reject) => rejects.add(name, reject),
        onProgress(state) {
          written = state;
          progress.show(state.stored + state.known, size && state.bytes / size);
        },
      });
      add(report);
    } catch (error) {
      add(written);
      if (total.stored + total.known > 0) printReport({ ...total, rejected: rejects.count });
      throw asImportError(error, path);
    }
  }
  printReport({ ...total, rejected: rejects.count });
}

/** Imports files of costs as one delivery. */
async function importAsDelivery(
  files: readonly GivenFile[],
  options: Omit<ImportOptions, "format">,
  rejects: Rejects,
): Promise<void> {
  using progress = new ProgressLine();
  await withFiles(files, { options, rejects, progress }, async (opened, told) => {
    await importCosts(opened, { ...options, ...told, onDelivered: printReport });
  });
}

/** Prints what an import would store. */
async function preview(
  files: readonly GivenFile[],
  options: Omit<ImportOptions, "backend" | "format">,
  rejects: Rejects,
): Promise<void> {
  using progress = new ProgressLine();
  rejects.empty();
  const found = await withFiles(
    files,
    { options, rejects, progress },
    (opened, told) => previewImport(opened, { ...options, ...told }),
  );
  printPreview(readDataset(options.dataset), found);
  rejects.summarize();
}

/** Callbacks of an import that report to the terminal. */
type Told = Pick<ImportOptions, "onFocusVersion" | "onNote" | "onReject" | "onProgress">;

/** Opens files one after the other; what is told, and an error, names the one that is read. */
async function withFiles<T>(
  files: readonly GivenFile[],
  { options, rejects, progress }: {
    options: Pick<ImportOptions, "focusVersion">;
    rejects: Rejects;
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
      onFocusVersion: (version) => note(`${nameOf(current)}: FOCUS ${version}${hint}`),
      onNote: (text) => note(`${nameOf(current)}: ${text}`),
      onReject: (reject) => rejects.add(nameOf(current), reject),
      onProgress: ({ staged, bytes }) => progress.show(staged, total && bytes / total),
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
  if (error.code === "MISSING_CURRENCY") return new UsageError(`${nameOf(path)}: ${error.message}`, error);
  const isOfFile = error.code !== "DELIVERY_REFUSED" && error.code !== "INTERRUPTED";
  return isOfFile ? new TransferError(`${nameOf(path)}: ${error.message}`, error) : error;
}

/** Prints the outcome of an import: its rows, and for a delivery totals before and after. */
function printReport({ stored, restated, known, rejected, skipped = 0, delivery }: ImportReport): void {
  const { replaced, different, totals } = delivery ?? { replaced: 0, different: 0, totals: [] };
  const counts = [stored, replaced + restated, known, different, skipped, rejected].map(formatCount);
  print(formatTable(["stored", "replaced", "known", "different", "skipped", "bad"], [counts]));
  if (totals.length === 0) return;
  print("");
  print(formatTable(
    ["source", "period", "currency", "before", "after"],
    totals.map(({ source, period, currency, before, after }) => [source, period, currency, before, after]),
  ));
}

/** Aborts on Ctrl-C and TERM, so that the command can say what is stored. */
class Interrupt implements Disposable {
  readonly #controller = new AbortController();
  readonly #signals: readonly Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT"]
    : ["SIGINT", "SIGTERM"];
  readonly #abort = () =>
    this.#controller.abort(
      new TransferError(
        "Interrupted. No costs were stored. Other records that were written stay. Run the same command again; " +
          "it skips them.",
        { code: "INTERRUPTED" },
      ),
    );

  constructor() {
    for (const signal of this.#signals) Deno.addSignalListener(signal, this.#abort);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    for (const signal of this.#signals) Deno.removeSignalListener(signal, this.#abort);
  }
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

/** Name of a file, and of the member of a zip file, that a bad line is in. */
function placeOf(path: string, { member }: Reject): string {
  return member === undefined ? path : `${path}/${describePath(member)}`;
}

/** Path at which a file can be inspected; stdin may be one, too. */
function pathOf(path: string): string {
  return path === STDIN ? "/dev/stdin" : path;
}

/** Returns true if an open file is the one at a path, by device and inode. */
function isSameFile({ isFile, dev, ino }: Deno.FileInfo, path: string): boolean {
  if (!isFile || !isGranted({ name: "read", path })) return false;
  try {
    const other = Deno.statSync(path);
    return ino !== null && ino === other.ino && dev === other.dev;
  } catch {
    return false; // it is not there yet
  }
}

function inUseError(path: string): TransferError {
  return new TransferError(
    `Cannot write ${
      describePath(path)
    }: it is an input or the database. Name another file for rejected lines.`,
    { code: "FILE_IN_USE" },
  );
}

/** Rejected lines: prints the first, counts all, and writes them to a file if there is one. */
class Rejects implements Disposable {
  readonly #file: Deno.FsFile | undefined;
  readonly #path: string | undefined;
  #count = 0;

  /** Opens the file for them, which must be none of those that are in use. What it holds stays for now. */
  constructor(path: string | undefined, inUse: readonly string[]) {
    this.#path = path;
    if (path === undefined) return;
    if (inUse.some((other) => resolve(other) === resolve(path))) throw inUseError(path);
    try {
      this.#file = Deno.openSync(path, { write: true, create: true, mode: 0o600 });
    } catch (error) {
      throw asFileError("write", path, error);
    }
    const opened = this.#file.statSync();
    if (!inUse.some((other) => isSameFile(opened, other))) return;
    this.#file.close();
    throw inUseError(path);
  }

  /** Number of rejected lines. */
  get count(): number {
    return this.#count;
  }

  /** Forgets the bad lines of an earlier import. */
  empty(): void {
    if (this.#file?.statSync().isFile) this.#file.truncateSync();
  }

  add(path: string, reject: Reject): void {
    if (++this.#count <= SHOWN_REJECTS) note(`${placeOf(path, reject)}:${reject.line}: ${reject.reason}`);
    if (!this.#file) return;
    let bytes = new TextEncoder().encode(`${JSON.stringify({ file: path, ...reject })}\n`);
    try {
      while (bytes.length > 0) bytes = bytes.subarray(this.#file.writeSync(bytes));
    } catch (error) {
      throw asFileError("write", this.#path!, error);
    }
  }

  /** Says how many there were, where another error ends the import. */
  note(): void {
    if (this.#count > 0) note(`${formatThings(this.#count, "line is", "lines are")} bad.`);
  }

  /** A file with bad lines is not done. */
  summarize(): void {
    if (this.#count === 0) return;
    const hint = this.#path === undefined ? "; --rejects FILE keeps them" : `; ${this.#path} has them`;
    const more = this.#count > SHOWN_REJECTS ? ` (the first ${SHOWN_REJECTS} are named above)` : "";
    throw new TransferError(
      `Cannot import all: ${formatThings(this.#count, "line is", "lines are")} bad${more}${hint}.`,
      { code: "LINES_REJECTED" },
    );
  }

  [Symbol.dispose](): void {
    this.#file?.close();
  }
}
