import type { Backend } from "../backends/backend.ts";
import { openBackend } from "../open_backend.ts";
import { resolveConfig } from "../config.ts";
import { BackendError } from "../errors.ts";
import { MemoryBackend } from "../backends/memory.ts";
import { DATASETS as DATASETS_BY_NAME } from "../records/datasets.ts";
import { Decimal } from "../records/decimal.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import { type DatasetMigration, migrate, type MigrateOptions } from "../transfer/migrate.ts";
import { mayBeOriginal } from "../transfer/original_reader.ts";
import { migrateOriginal, openOriginal, OriginalSource } from "../transfer/original_source.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, FORMAT_OPTIONS, readFormat } from "./command.ts";
import {
  type Format,
  formatBytes,
  formatCount,
  formatCsv,
  formatTable,
  formatThings,
  note,
  print,
} from "./output.ts";
import { ProgressLine } from "./progress.ts";
import { DATASET_NAMES, RANGE_OPTIONS, readDataset, readRange } from "../query/selection.ts";
import { missing } from "../query/option_values.ts";

export const migrateCommand: Command = {
  name: "database migrate",
  options: [
    ...optionsOf({
      "from URL": "source database",
      "to URL": "target database; created if it is missing",
      "dataset NAME ...": `only this dataset, one of ${DATASET_NAMES}; repeatable`,
    }),
    ...RANGE_OPTIONS,
    { name: "dry-run", summary: "only count the records to copy" },
    ...FORMAT_OPTIONS,
  ],
  examples: [
    "openfinops database migrate --from sqlite:///openfinops.db --to postgresql://agent@db.example/telemetry",
    "openfinops database migrate --from sqlite:///a.db --to sqlite:///b.db --dataset costs --since 90d --dry-run",
  ],
  async run(given) {
    const format = readFormat(given);
    const [fromUrl, toUrl] = [readUrl(given, "from"), readUrl(given, "to")];
    const datasets = given.texts("dataset").map((name) => readDataset(name).name);
    const range = readRange(given);
    const dryRun = given.has("dry-run");
    const from = await openSource(fromUrl);
    try {
      const rejected = from instanceof OriginalSource ? await describeOriginal(from) : 0;
      const to = await openTarget(toUrl, dryRun);
      try {
        using progress = new ProgressLine();
        const options: MigrateOptions = {
          ...range,
          ...(datasets.length > 0 ? { datasets } : {}),
          dryRun,
          onProgress: ({ copied, missing }) => progress.show(copied, copied / Math.max(copied, missing)),
        };
        const found = from instanceof OriginalSource
          ? await migrateOriginal(from, to, options)
          : await migrate(from, to, options);
        progress[Symbol.dispose]();
        reportMigration(format, found, dryRun);
      } finally {
        await to.close();
      }
      if (rejected > 0) throw notTaken(rejected);
    } finally {
      await from.close();
    }
  },
};

/** Opens the source: a database of this program, or of OpenFinOps in Python. */
async function openSource(connectionString: string): Promise<Backend | OriginalSource> {
  try {
    return await openBackend({ connectionString }, { mode: "read" });
  } catch (error) {
    if (!mayBeOriginal(error)) throw error;
    const original = await openOriginal(connectionString);
    if (!original) throw error;
    return original;
  }
}

/** Says what a database of the original holds. Returns the number of rows that cannot be taken. */
async function describeOriginal(source: OriginalSource): Promise<number> {
  const { rows, rejected, rejects, unknown } = await source.inspect();
  const counts = [...rows].map(([table, count]) => `${table} ${formatCount(count)}`).join(", ");
  note(`The source is a database of OpenFinOps in Python (${counts}).`);
  for (const { table, id, reason } of rejects) note(`${table} ${id}: ${reason}`);
  if (unknown.length > 0) note(`Left out, as no field holds it: ${unknown.join(", ")}`);
  return rejected;
}

function notTaken(count: number): TransferError {
  return new TransferError(
    `Cannot copy all: ${formatThings(count, "row is", "rows are")} bad, and the first are named above. ` +
      "Correct them in the source and run it again.",
    { code: "LINES_REJECTED" },
  );
}

function readUrl(given: Arguments, option: string): string {
  const url = given.text(option);
  if (url === undefined) {
    throw missing(`Pass --${option} with the connection string of a database.`);
  }
  resolveConfig({ connectionString: url }); // an invalid one fails before anything is opened
  return url;
}

/** Codes of a target that the migration creates. */
const ABSENT: readonly string[] = ["FILE_NOT_FOUND", "TABLES_MISSING", "SCHEMA_NOT_FOUND"];

/**
 * Costs that changed in the source are updated in the target. A dry run creates nothing, so the target may not exist. Any
 * other failure would end the migration as well.
 */
async function openTarget(connectionString: string, dryRun: boolean): Promise<Backend> {
  const config = { connectionString, onConflict: "replace" } as const;
  if (!dryRun) return await openBackend(config);
  try {
    return await openBackend(config, { mode: "read" });
  } catch (error) {
    if (!(error instanceof BackendError) || !ABSENT.includes(error.code)) throw error;
    note("The target does not exist yet. It counts as empty.");
    return new MemoryBackend({ maxMemoryEntries: 1, onConflict: "replace" });
  }
}

/** A line of the table at the end: rows, or the total of a currency. */
interface Comparison {
  dataset: string;
  of: string;
  source: string;
  target: string;
  difference: string;
}

function compare({ dataset, source, target }: DatasetMigration): Comparison[] {
  const minus = (a: string, b: string) => Decimal.from(a).minus(Decimal.from(b)).toString();
  const line = (of: string, source: string, target: string) => (
    { dataset, of, source, target, difference: minus(target, source) }
  );
  const totals = (side: typeof source) =>
    new Map(side.totals.map(({ currency, total }) => [currency, total]));
  const [inSource, inTarget] = [totals(source), totals(target)];
  return [
    line("rows", String(source.rows), String(target.rows)),
    ...[...inSource].map(([currency, total]) => line(currency, total, inTarget.get(currency) ?? "0")),
  ];
}

/** Says which records of a target are not compared. */
function whichAreMore(dataset: DatasetMigration["dataset"]): string {
  if (dataset === "alerts") return "of other ids";
  return `of other times or another ${DATASETS_BY_NAME[dataset].groups.join(" or ")}`;
}

/**
 * Prints rows and totals of both sides.
 *
 * @throws {TransferError} If they differ, except in a dry run.
 */
export function reportMigration(format: Format, found: readonly DatasetMigration[], dryRun = false): void {
  const lines = found.flatMap(compare);
  if (format === "json") print(JSON.stringify(found, null, 2));
  else if (format === "ndjson") { for (const migration of found) print(JSON.stringify(migration)); }
  else if (format === "csv") {
    print("dataset,of,source,target,difference");
    for (const line of lines) print(formatCsv(Object.values(line)));
  } else {
    const cells = lines.map(({ of, ...line }) => {
      const show = (value: string) => of === "rows" ? formatCount(Number(value)) : value;
      return [line.dataset, of, show(line.source), show(line.target), show(line.difference)];
    });
    print(formatTable(["dataset", "", "source", "target", "difference"], cells));
  }
  for (const { dataset, copied, bytes, targetHasMore } of found) {
    if (dryRun) {
      note(`${dataset}: ${formatCount(copied)} records would be copied, about ${formatBytes(bytes)}`);
    } else if (copied > 0) note(`${dataset}: ${formatCount(copied)} records copied`);
    if (targetHasMore) {
      note(`${dataset}: the target has more records, ${whichAreMore(dataset)}; not compared`);
    }
  }
  if (dryRun || found.every(({ isSame }) => isSame)) return;
  throw new TransferError(
    "Source and target differ, as listed above. If the source is still being written, run it again.",
    { code: "MIGRATION_DIFFERS" },
  );
}
