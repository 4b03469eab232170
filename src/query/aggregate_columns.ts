import {
  aggregateCosts,
  aggregateFields,
  type AggregateSpan,
  type CostAggregate,
  separatorsOf,
  type UsageAggregate,
} from "../aggregation/aggregate.ts";
import { type AggregateRequest, COST_MEASURES, hasMoney } from "../aggregation/aggregate_query.ts";
import type { Backend } from "../backends/backend.ts";
import { columnOf, type Dataset } from "../records/dataset.ts";
import { bucketLabel } from "../records/periods.ts";
import { isoTime } from "../transfer/values.ts";
import { NONE } from "./where.ts";

/**
 * Reads the rows of an aggregate of any dataset.
 *
 * @throws {ValidationError} If the request is wrong.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function readAggregate(
  backend: Pick<Backend, "aggregate">,
  dataset: Dataset<unknown>,
  request: object,
): Promise<Row[]> {
  if (hasMoney(dataset)) return await aggregateCosts(backend, request);
  return await aggregateFields(backend, dataset, request);
}

/** A row with its times as ISO 8601. */
export function toJsonRow({ startTime, endTime, ...rest }: AggregateSpan): object {
  return {
    ...(startTime === undefined ? {} : { startTime: isoTime(startTime), endTime: isoTime(endTime!) }),
    ...rest,
  };
}

/** Any row of a result. */
export type Row =
  & AggregateSpan
  & Partial<Omit<CostAggregate, keyof AggregateSpan | "unit" | "currency">>
  & Partial<UsageAggregate>;

export interface ResultColumn {
  readonly title: string;
  /** The value in CSV. */
  cell(row: Row): string | null | undefined;
  /** The cell of a table, if it is another. */
  show?(row: Row): string | null | undefined;
  /** The only format that has the column. */
  readonly only?: "table" | "csv";
}

/** The group of all others, in tables. */
export const OTHER = "(other)";

/** A group in a table. A name that reads as none or all others is in quotes. */
export function showGroup(value: string | null): string {
  if (value === null) return NONE;
  return value === NONE || value === OTHER || value.startsWith('"') ? JSON.stringify(value) : value;
}

/** Rows of a result, and the format of their amounts. */
interface Shown {
  readonly found: readonly Row[];
  readonly showMoney: (amount: string, currency: string) => string;
}

/** Columns of a result: bucket, group, then measures. */
export function columnsOf(
  dataset: Dataset<unknown>,
  { bucket, timeZone, groupNames, fieldMeasures, top, measure, ...request }: AggregateRequest,
  { found, showMoney }: Shown,
): ResultColumn[] {
  const columns: ResultColumn[] = [];
  const add = (title: string, cell: ResultColumn["cell"], more: Partial<ResultColumn> = {}) =>
    columns.push({ title, cell, ...more });
  if (bucket) {
    add("startTime", ({ startTime }) => isoTime(startTime!), { only: "csv" });
    add("endTime", ({ endTime }) => isoTime(endTime!), { only: "csv" });
    const label = ({ startTime }: Row) => bucketLabel(bucket, startTime!, timeZone);
    add(BUCKET_TITLES[bucket.unit] ?? "time", label, { only: "table" });
  }
  // A field whose values are kept apart anyway has one column, also where it is grouped by.
  const isMoney = hasMoney(dataset) && COST_MEASURES[measure] === undefined;
  const apart = new Map(
    apartFields(dataset, { fieldMeasures, isMoney }).map((field) => [field, cellOf(field)]),
  );
  const labeled = groupNames.find((name) => !apart.has(name));
  for (const name of groupNames) {
    const cell = apart.get(name);
    if (cell) {
      add(name, cell, { show: (row) => showGroup(cell(row) ?? null) });
      continue;
    }
    const show = ({ group, isOther }: Row) =>
      !isOther ? showGroup(group![name]) : name === labeled ? OTHER : "";
    add(name, ({ group }) => group![name], { show });
  }
  if (top !== undefined) add("others", ({ isOther }) => isOther ? "yes" : null, { only: "csv" });
  for (const [field, cell] of apart) {
    if (groupNames.includes(field)) continue;
    if (field !== "basis" || found.some(({ basis }) => basis !== undefined)) add(field, cell);
  }
  if (hasMoney(dataset)) columns.push(...moneyColumns(request, { found, isMoney, showMoney }));
  add("count", ({ count }) => String(count));
  for (const { field, measure } of fieldMeasures) {
    const cell = ({ fields }: Row) => fields?.[field]?.[measure]?.toString();
    const isMoney = measure === "sum" && columnOf(dataset, field).per === "currency";
    const show = (row: Row) =>
      isMoney && cell(row) ? showMoney(cell(row)!, row.currency ?? "") : cell(row) ?? "";
    add(`${field}.${measure}`, cell, { show });
  }
  return columns;
}

/** Columns of totals, shares and changes. */
function moneyColumns(
  { shares, compare }: Pick<AggregateRequest, "shares" | "compare">,
  { found, isMoney, showMoney }: Shown & { isMoney: boolean },
): ResultColumn[] {
  const show = (amount: string | undefined, { currency }: Row) =>
    amount === undefined ? "" : isMoney ? showMoney(amount, currency!) : amount;
  const amount = (title: "total" | "previousTotal" | "sameDaysTotal"): ResultColumn => (
    { title, cell: (row) => row[title], show: (row) => show(row[title], row) }
  );
  const change = (title: "change" | "sameDaysChange"): ResultColumn => (
    { title, cell: (row) => row[title]?.toString(), show: (row) => showChange(row[title]) }
  );
  const share: ResultColumn = {
    title: "share",
    cell: ({ share }) => share?.toString(),
    show: ({ share }) => showPercent(share!),
  };
  const hasSameDays = found.some(({ sameDaysTotal }) => sameDaysTotal !== undefined);
  return [
    amount("total"),
    ...shares ? [share] : [],
    ...compare ? [amount("previousTotal"), change("change")] : [],
    ...compare && hasSameDays ? [amount("sameDaysTotal"), change("sameDaysChange")] : [],
  ];
}

/** The fields whose values no row adds up. */
function apartFields(
  dataset: Dataset<unknown>,
  { fieldMeasures, isMoney }: Pick<AggregateRequest, "fieldMeasures"> & { isMoney: boolean },
): string[] {
  if (!hasMoney(dataset)) return separatorsOf(dataset, fieldMeasures);
  return ["currency", "basis", ...(isMoney ? [] : ["unit"])];
}

function cellOf(field: string): ResultColumn["cell"] {
  return field === "basis" ? ({ basis = "billed" }) => basis : (row) => row[field as "currency" | "unit"];
}

const BUCKET_TITLES: Partial<Record<string, string>> = { d: "day", w: "week of", mo: "month", y: "year" };

/** Formats a percentage, without the sign of one that rounds to zero. */
export function showPercent(percent: number): string {
  return `${(Number(percent.toFixed(1)) || 0).toFixed(1)} %`;
}

/** A change in percent, with its sign. */
export function showChange(percent: number | undefined): string {
  return percent === undefined ? "" : `${percent > 0 ? "+" : ""}${showPercent(percent)}`;
}
