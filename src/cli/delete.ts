import type { Backend } from "../backends/backend.ts";
import { currencyTotals } from "../backends/currency_totals.ts";
import { monthAfter } from "../backends/staging.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import type { WhereCondition } from "../records/where.ts";
import { deleteRecords } from "../transfer/delete_records.ts";
import { money, sumOf } from "../transfer/recorded_delivery.ts";
import { parseTime } from "../transfer/values.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, confirmDeletion, CONNECTION_OPTIONS, readDryRun, withBackend } from "./command.ts";
import { formatThings, print } from "./output.ts";
import { conflict, invalidValue, missing } from "../query/option_values.ts";
import {
  DATASET_NAMES,
  DATASETS,
  readDataset,
  readSelection,
  SELECTION_OPTIONS,
} from "../query/selection.ts";

export const deleteCommand: Command = {
  name: "database delete",
  positionals: `<${DATASET_NAMES}>`,
  missing: `Name a dataset: ${Object.keys(DATASETS).join(", ")}.`,
  options: [
    ...CONNECTION_OPTIONS,
    ...SELECTION_OPTIONS,
    ...optionsOf({
      "billing-period PERIOD": "only costs of this billing period, such as 2026-11",
      "dry-run": "only count",
      yes: "delete without confirmation",
    }),
  ],
  examples: [
    "openfinops database delete costs --source csv --billing-period 2026-11",
    "openfinops database delete metrics --where 'nodeId=gpu-07' --since 7d --dry-run",
  ],
  async run(given) {
    const [name] = given.positionals;
    const dataset = readDataset(name);
    const queries = readQueries(given, dataset);
    const isDryRun = readDryRun(given, "Delete is for good.");
    // The database is not opened to change it before the question is answered: that would migrate it.
    const what = await withBackend(given, "read", (backend) => describe(backend, dataset, queries));
    if (!confirmDeletion(given, what, isDryRun)) return;
    const deleted = await withBackend(given, "existing", async (backend) => {
      let sum = 0;
      for (const query of queries) sum += await deleteRecords(backend, dataset, query);
      return sum;
    });
    print(`Deleted ${formatThings(deleted, "record", "records")} of ${dataset.name}.`);
  },
};

/** The number of records that queries find, and the totals of costs. */
async function describe(
  backend: Backend,
  dataset: Dataset<unknown>,
  queries: readonly RecordQuery[],
): Promise<string> {
  let rows = 0;
  const totals: Record<string, string>[] = [];
  for (const query of queries) {
    const [{ values: [count] }] = await backend.aggregate(dataset, query, {
      groupBy: [],
      measures: [{ function: "count" }],
    });
    rows += count as number;
    if (dataset.name !== costEntries.name) continue;
    for (const { currency, basis = "billed", total } of await currencyTotals(backend, query)) {
      totals.push({ [`${basis} ${currency}`]: total });
    }
  }
  const amounts = totals.length > 0 ? ` (${money(sumOf(totals))})` : "";
  return `${formatThings(rows, "record", "records")} of ${dataset.name}${amounts}`;
}

/** The queries that together find what to delete; none of them finds a record of another. */
function readQueries(given: Arguments, dataset: Dataset<unknown>): RecordQuery[] {
  const selection = readSelection(given, dataset);
  const period = given.text("billing-period");
  if (dataset.name !== costEntries.name && period !== undefined) {
    throw conflict("--billing-period applies to costs only. Remove it.");
  }
  const all = (selection.where ?? []) as WhereCondition[];
  if (Object.keys(selection).length === 0 && period === undefined) {
    throw missing("Give a condition, such as --since, --until, --where or --source.");
  }
  const withWhere = (conditions: readonly WhereCondition[]) =>
    acceptQuery(dataset, { ...selection, ...(conditions.length > 0 ? { where: conditions } : {}) });
  if (period === undefined) return [withWhere(all)];
  const start = parseTime(/^\d{4}-\d\d$/.test(period) ? `${period}-01` : period);
  if (start === undefined) throw invalidValue("billing-period", "a month such as 2026-11, or a day", period);
  const named = withWhere([...all, { field: "billingPeriodStart", eq: start }]);
  // Costs without BillingPeriodStart belong to the UTC month of the charge.
  const unnamed = withWhere([...all, { field: "billingPeriodStart", missing: true }]);
  const startTime = Math.max(start, unnamed.startTime ?? start);
  const endTime = Math.min(monthAfter(start), unnamed.endTime ?? Infinity);
  return startTime < endTime ? [named, { ...unnamed, startTime, endTime }] : [named];
}
