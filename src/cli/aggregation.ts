import { acceptAggregateRequest } from "../aggregation/aggregate_query.ts";
import type { Backend } from "../backends/backend.ts";
import {
  columnsOf,
  OTHER,
  readAggregate,
  type Row,
  showGroup,
  toJsonRow,
} from "../query/aggregate_columns.ts";
import type { GroupKey } from "../records/aggregation.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import {
  type Format,
  formatTable,
  note,
  print,
  printEach,
  showMoney,
  sparkline,
  terminalColumns,
} from "./output.ts";

/** The most bars of a line, also on a wider terminal: more buckets are put together. */
const MAX_BARS = 120;
const MIN_BARS = 20;
/** The most records in which keys are looked for, and the most keys that a note names. */
const [MAX_SEARCHED, MAX_KEYS] = [1_000, 10];

/** Runs the query, prints the result, and returns the number of rows. */
export async function printAggregate(
  backend: Backend,
  dataset: Dataset<unknown>,
  { request, format }: { request: object; format: Format },
): Promise<number> {
  const found = await readAggregate(backend, dataset, request);
  const accepted = acceptAggregateRequest(dataset, request);
  const all = columnsOf(dataset, accepted, { found, showMoney });
  const columns = all.filter(({ only = format }) => only === format);
  const header = columns.map(({ title }) => title);
  if (format !== "table") {
    const cells = (row: Row) => columns.map(({ cell }) => cell(row)?.toString());
    await printEach(format, found, { header, cells, toJson: toJsonRow });
  } else if (found.length > 0) {
    // The largest share has the longest bar.
    const most = accepted.shares && Deno.stdout.isTerminal() &&
      Math.max(...found.map(({ share = 0 }) => share));
    const rows = found.map((row) => [
      ...columns.map(({ cell, show = cell }) => show(row) ?? ""),
      ...(most ? [{ bar: (row.share ?? 0) / most * 100 }] : []),
    ]);
    print(formatTable(most ? [...header, ""] : header, rows));
    if (Deno.stdout.isTerminal()) printTrends(found);
  }
  const { query, groupBy, groupNames } = accepted;
  const empty = groupBy.filter((_, i) => found.every(({ group }) => group?.[groupNames[i]] === null));
  await noteAbsentKeys(backend, dataset, {
    query,
    keys: found.length > 0 ? empty : [...groupBy, ...query.where ?? []],
  });
  return found.length;
}

/** Says which keys of maps no record in the time range has: most often they are misspelled. */
export async function noteAbsentKeys(
  backend: Backend,
  dataset: Dataset<unknown>,
  { query: { startTime, endTime }, keys }: { query: RecordQuery; keys: readonly GroupKey[] },
): Promise<void> {
  for (const { field, key } of keys) {
    if (key === undefined) continue;
    const present = { field, key, operator: "present", values: [] } as const;
    const query = { ...acceptQuery(dataset, { startTime, endTime }), where: [present] };
    const measures = [{ function: "count" } as const];
    const [{ values: [count] }] = await backend.aggregate(dataset, query, { groupBy: [], measures });
    if (count === 0) {
      note(`No record has ${field}.${key}.${await knownKeys(backend, dataset, { query, field })}`);
    }
  }
}

/** Names keys that the newest records have, in a sentence. */
async function knownKeys(
  backend: Backend,
  dataset: Dataset<unknown>,
  { query, field }: { query: RecordQuery; field: string },
): Promise<string> {
  const keys = new Set<string>();
  const newest = { ...query, where: undefined, limit: MAX_SEARCHED };
  for await (const page of backend.read(dataset, newest)) {
    for (const record of page as Record<string, object | undefined>[]) {
      for (const key of Object.keys(record[field] ?? {})) if (keys.size < MAX_KEYS) keys.add(key);
    }
  }
  return keys.size === 0 ? "" : ` The newest have ${field}: ${[...keys].toSorted().join(", ")}.`;
}

/** Below the table: how each group went over time, as a line of bars. */
function printTrends(found: readonly Row[]): void {
  const trends = trendsOf(found, terminalColumns());
  if (trends.length === 0) return;
  print("");
  print(formatTable(["group", "over time"], trends));
}

/** Each group with its totals (of metrics: its first measure, or the number of records) as a line of bars. */
export function trendsOf(found: readonly Row[], columns = 80): [string, string][] {
  const times = [...new Set(found.map(({ startTime }) => startTime))].sort((a, b) => a! - b!);
  if (times.length < 2) return []; // without buckets there is only one
  const names = new Map(found.map((row) => [row, trendName(row)]));
  const widest = Math.max(...[...names.values()].map(({ length }) => length), "group".length);
  const perBar = Math.ceil(times.length / Math.max(MIN_BARS, Math.min(MAX_BARS, columns - widest - 2)));
  const barOf = new Map(times.map((time, i) => [time, Math.floor(i / perBar)]));
  const groups = new Map<string, number[]>();
  for (const row of found) {
    const name = names.get(row)!;
    const bars = groups.get(name) ?? Array<number>(Math.ceil(times.length / perBar)).fill(0);
    bars[barOf.get(row.startTime)!] += heightOf(row);
    groups.set(name, bars);
  }
  return [...groups].map(([name, bars]) => {
    const most = Math.max(...bars);
    return [name || "(all)", sparkline(bars.map((height) => most > 0 ? height / most * 100 : 0))];
  });
}

function trendName({ isOther, group, currency, basis, unit }: Row): string {
  const names = isOther ? [OTHER] : Object.values(group ?? {}).map(showGroup);
  return [...names, ...[currency, basis, unit].filter((value) => value)].join(" ");
}

function heightOf({ total, count, fields = {} }: Row): number {
  if (total !== undefined) return Number(total);
  const [first] = Object.values(fields).flatMap((measures) => Object.values(measures));
  return first !== undefined ? Number(first) : (Object.keys(fields).length > 0 ? 0 : count!);
}
