import type { Backend } from "../backends/backend.ts";
import { COST_MEASURES } from "../aggregation/aggregate_query.ts";
import type { Column, Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { AGGREGATE_OPTIONS, isAggregate, readAggregateRequest } from "../query/aggregate.ts";
import { DEFAULT_LIMIT, readRecordQuery, RECORD_OPTIONS } from "../query/records.ts";
import { noteAbsentKeys, printAggregate } from "./aggregation.ts";
import type { Arguments } from "../query/arguments.ts";
import { type Command, FORMAT_OPTIONS, readFormat, SOURCE_OPTIONS, withBackend } from "./command.ts";
import {
  bold,
  type Format,
  formatTable,
  formatThings,
  note,
  print,
  printEach,
  showMoney,
  toCells,
  toJsonRecord,
} from "./output.ts";
import { DATASET_NAMES, DATASETS, readDataset, readDatasetName, TABLE_OPTION } from "../query/selection.ts";
import { conflict } from "../query/option_values.ts";

/** Rows of a result above which minutes may have been meant as months. */
const MANY_ROWS = 200;

export const query: Command = {
  name: "database query",
  positionals: `[${DATASET_NAMES}]`,
  options: [
    ...SOURCE_OPTIONS,
    ...FORMAT_OPTIONS,
    { ...TABLE_OPTION, summary: `${TABLE_OPTION.summary}, or all` },
    ...RECORD_OPTIONS,
    ...AGGREGATE_OPTIONS,
  ],
  examples: [
    "openfinops database query metrics --since 24h --limit 5",
    "openfinops database query costs --category gpu --format csv --limit 0",
    "openfinops database query costs --since 30d --group-by category,tags.team --bucket 1d --top 5",
    "openfinops database query costs --where 'tags.env in prod,stage' --group-by serviceName --measure effectiveCost",
    "openfinops database query metrics --bucket 1h --group-by clusterId --measure cpuUsage.avg,cpuUsage.p95",
  ],
  async run(given) {
    const format = readFormat(given);
    const what = readDatasetName(given) ?? "metrics";
    if (what === "all") return await printAll(given, format);
    const dataset = readDataset(what);
    if (isAggregate(given)) {
      const request = readAggregateRequest(given, dataset);
      return await withBackend(given, "read", async (backend) => {
        const rows = await printAggregate(backend, dataset, { request, format });
        if (rows === 0) note(`No ${what} match.`);
        const [, count] = /^(\d+)m$/.exec(given.text("bucket") ?? "") ?? [];
        if (rows > MANY_ROWS && count) {
          note(`${formatThings(rows, "row", "rows")}: ${count}m is in minutes; months are ${count}mo.`);
        }
      });
    }
    const asked = readRecordQuery(given, dataset);
    await withBackend(given, "read", async (backend) => {
      const rows = await printRecords(format, dataset, records(backend, dataset, asked));
      if (rows === 0) {
        await noteAbsentKeys(backend, dataset, { query: asked, keys: asked.where ?? [] });
        note(`No ${what} match.`);
      } else if (rows === DEFAULT_LIMIT && given.text("limit") === undefined) {
        note(`Stopped at ${rows} records; --limit 0 prints all.`);
      }
    });
  },
};

/** Prints a table of each dataset. */
async function printAll(given: Arguments, format: Format): Promise<void> {
  if (format !== "table" || isAggregate(given)) {
    throw conflict("--table all prints tables of records. Name one dataset for anything else.");
  }
  const queries = Object.entries(DATASETS).map(([name, dataset]) =>
    [name, dataset, readRecordQuery(given, dataset)] as const
  );
  await withBackend(given, "read", async (backend) => {
    for (const [name, dataset, asked] of queries) {
      print(bold(name));
      if (await printRecords(format, dataset, records(backend, dataset, asked)) === 0) {
        note(`No ${name} match.`);
      }
      print("");
    }
  });
}

async function* records(
  backend: Backend,
  dataset: Dataset<unknown>,
  asked: RecordQuery,
): AsyncGenerator<unknown> {
  for await (const page of backend.read(dataset, asked)) yield* page;
}

/** Prints records in a format, and returns their number. All but the table stream. */
async function printRecords(
  format: Format,
  dataset: Dataset<unknown>,
  records: AsyncIterable<unknown>,
): Promise<number> {
  const { columns } = dataset;
  if (format === "table") return printTable(dataset, await Array.fromAsync(records) as Fields[]);
  return await printEach(format, records, {
    header: columns.map(({ field }) => field),
    cells: (record) => toCells(columns, record),
    toJson: (record) => toJsonRecord(columns, record),
  });
}

type Fields = Readonly<Record<string, unknown>>;

function printTable(dataset: Dataset<unknown>, found: readonly Fields[]): number {
  const isShown = ({ field, summary, required }: Column) =>
    summary && (required || found.some((record) => record[field] !== undefined));
  const columns = dataset.columns.filter(isShown);
  const isMoney = columns.map(({ field }) =>
    Object.hasOwn(COST_MEASURES, field) && !COST_MEASURES[field as "amount"]
  );
  const rows = found.map((record) =>
    toCells(columns, record).map((cell, i) => cell ?? columns[i].absent ?? "").map((cell, i) =>
      isMoney[i] && cell !== "" ? showMoney(cell, record.currency as string) : cell
    )
  );
  if (rows.length > 0) print(formatTable(columns.map(({ field }) => field), rows));
  return rows.length;
}
