import type { Backend } from "../backends/backend.ts";
import { BackendError, describe } from "../errors.ts";
import { resolveConfig } from "../config.ts";
import { deleteOld, type Deletion, retentionCutoff, startOfBudgets } from "../monitoring/retention.ts";
import type { Dataset } from "../records/dataset.ts";
import { DATASETS, DELETED_BY_DEFAULT } from "../records/datasets.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import {
  type Command,
  confirmDeletion,
  CONNECTION_OPTIONS,
  env,
  FORMAT_OPTIONS,
  readDryRun,
  readFormat,
  withBackend,
} from "./command.ts";
import {
  type Format,
  formatCount,
  formatTable,
  formatThings,
  isoTime,
  note,
  print,
  printFound,
} from "./output.ts";
import {
  conflict,
  missing,
  readDurationMs,
  readNumber,
  readOption,
  UsageError,
} from "../query/option_values.ts";
import { DATASET_OPTION, readDatasets } from "../query/selection.ts";

const DEFAULT_DAYS = resolveConfig().retentionDays.system_metrics;

export const cleanup: Command = {
  name: "database cleanup",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    ...optionsOf({
      "retention-days N": `keep this many days (default ${DEFAULT_DAYS}; none for costs and usage)`,
      "days N": "the same as --retention-days",
    }),
    DATASET_OPTION,
    ...optionsOf({
      "time-budget TIME": "start no further step after this time (default: no limit)",
      "dry-run": "only count the records to delete",
      yes: "do not ask for confirmation",
    }),
  ],
  examples: [
    "openfinops database cleanup --retention-days 30 --dry-run",
    "openfinops database cleanup --retention-days 30 --yes",
    "openfinops database cleanup --dataset costs --retention-days 2555 --yes",
  ],
  async run(given) {
    const format = readFormat(given);
    const datasets = readDatasets(given);
    const before = retentionCutoff(readRetentionDays(given, datasets));
    const deletions = datasets.map((dataset): Deletion => ({ dataset, before }));
    const timeBudgetMs = readOption(given, "time-budget", readDurationMs) ?? Infinity;
    const isDryRun = readDryRun(given, "Cleanup deletes for good.");
    if (!given.has("dataset")) {
      note("Costs and usage stay. To delete old ones, name them: --dataset costs,usage.");
    }
    const isAsked = isDryRun || !given.has("yes");
    if (isAsked) {
      // The database is not opened to change it before the question is answered: that would migrate it.
      const found = await withBackend(given, "read", async (backend) => {
        return await deleteOld(backend, await sparingBudgets(backend, deletions), { dryRun: true });
      });
      if (isDryRun) return report(format, found, `Would be deleted (before ${isoTime(before)}):`);
      const rows = Object.values(found).reduce((sum, rows) => sum + rows);
      const what = `${formatThings(rows, "record", "records")} before ${isoTime(before)}`;
      if (rows > 0 && !confirmDeletion(given, what, isDryRun)) return;
    }
    const held: string[] = [];
    const onHeld = (partition: string) => held.push(partition);
    const deleted = await withBackend(given, "existing", async (backend) => {
      const spared = await sparingBudgets(backend, deletions, { isSilent: isAsked });
      return await deleteOld(backend, spared, { dryRun: false, timeBudgetMs, onHeld });
    });
    report(format, deleted, `Deleted (before ${isoTime(before)}):`);
    if (held.length === 0) return;
    throw new BackendError(
      `Skipped ${
        held.join(", ")
      }: other sessions hold them. End those (see pg_stat_activity), or run it again.`,
      { code: "LOCKED", operation: "delete", kind: "transient" },
    );
  },
};

/** Returns what to delete. Costs that count in a current period of a budget stay, and it says so. */
export async function sparingBudgets(
  { documents }: Backend,
  deletions: readonly Deletion[],
  { isSilent = false } = {},
): Promise<Deletion[]> {
  const { before } = deletions.find(({ dataset }) => dataset === DATASETS.cost_entries) ?? {};
  const ofBudgets = before === undefined ? Infinity : await startOfBudgets(documents);
  if (before === undefined || ofBudgets >= before) return [...deletions];
  if (!isSilent) {
    note(`Costs since ${isoTime(ofBudgets)} stay: they count in a current period of a budget.`);
  }
  return deletions.map((deletion) =>
    deletion.dataset === DATASETS.cost_entries ? { ...deletion, before: ofBudgets } : deletion
  );
}

function report(format: Format, deleted: Record<string, number>, title: string): void {
  const rows = Object.entries(deleted).map(([dataset, rows]) => ({ dataset, rows }));
  const header = ["dataset", "rows"];
  const table = () => {
    print(title);
    print(formatTable(header, rows.map(({ dataset, rows }) => [dataset, formatCount(rows)])));
  };
  printFound(format, deleted, { table, header, rows });
}

/** The days to keep. The defaults are for metrics: costs are deleted only by a number that is given for them. */
function readRetentionDays(given: Arguments, datasets: readonly Dataset<unknown>[]): number {
  const options = ["retention-days", "days"].filter((name) => given.has(name));
  if (options.length > 1) {
    throw conflict("--retention-days and --days are the same option. Remove one.");
  }
  const [option] = options;
  if (option !== undefined) return readNumber(option, given.text(option)!);
  if (!datasets.every(({ name }) => DELETED_BY_DEFAULT.includes(name))) {
    throw missing("Costs and usage are deleted only by an explicit --retention-days. Add it.");
  }
  const days = env("OPENFINOPS_RETENTION_DAYS");
  if (days === undefined) return DEFAULT_DAYS;
  if (/^\d+(\.\d+)?$/.test(days)) return Number(days);
  throw new UsageError(
    `OPENFINOPS_RETENTION_DAYS must be a number from 0, not ${describe(days)}.`,
    "INVALID_OPTION",
  );
}
