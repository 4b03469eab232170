import type { AggregateRow, Aggregation } from "../../records/aggregation.ts";
import type { RecordQuery } from "../../records/query.ts";
import { COUNTED } from "../postgres.ts";
import type { Partition } from "../postgres/partitions.ts";
import type { Slice } from "../postgres/slices.ts";

/** Records that the coordinator collects and sorts at once: some 20 MB. */
const MOST_ROWS = 50_000;
/** Time buckets for each full slice. More buckets give slices of more even size. */
const PARTS = 4;

/** Counts the records of a query. */
type Count = (query: RecordQuery, aggregation: Aggregation) => Promise<AggregateRow[]>;

/** Cuts slices of a query into slices of time with few records each. A limit that is low is passed on to the workers. */
export async function sliceByRows(
  slices: readonly Slice[],
  count: Count,
  most: number = MOST_ROWS,
): Promise<Slice[]> {
  const found: Slice[] = [];
  for (const slice of slices) {
    const { query, partitions } = slice;
    if (query.limit !== undefined && query.limit <= most) found.push(slice);
    else {
      const starts = await cut(query, count, most);
      const queries = [query.startTime, ...starts].map((startTime, i) => ({
        ...query,
        startTime,
        endTime: starts[i] ?? query.endTime,
      }));
      if (query.order === "desc") queries.reverse();
      found.push(...queries.map((query) => ({ query, partitions: within(partitions, query) })));
    }
  }
  return found;
}

function within(
  partitions: readonly Partition[],
  { startTime = -Infinity, endTime = Infinity }: RecordQuery,
): Partition[] {
  return partitions.filter(({ start, end }) => start < endTime && end > startTime);
}

/** The times at which a query is cut, in order. */
async function cut(query: RecordQuery, count: Count, most: number): Promise<number[]> {
  const [{ values }] = await count(query, COUNTED);
  const [rows, oldest, newest] = values as readonly number[];
  if (rows <= most || oldest === newest) return [];
  const stepMs = Math.ceil((newest + 1 - oldest) / Math.ceil(PARTS * rows / most));
  const aggregation: Aggregation = {
    ranges: [{ start: oldest, end: newest + 1, stepMs }],
    groupBy: [],
    measures: [{ function: "count" }],
  };
  const buckets = (await count(query, aggregation)).map(({ start, values: [rows] }) => ({
    start: start!,
    rows: rows as number,
  })).sort((a, b) => a.start - b.start);
  const cuts: number[] = [];
  let sum = 0;
  for (const { start, rows } of buckets) {
    if (sum > 0 && sum + rows > most) {
      cuts.push(start);
      sum = 0;
    }
    sum += rows;
    if (rows <= most || stepMs === 1) continue;
    cuts.push(...await cut({ ...query, startTime: start, endTime: start + stepMs }, count, most));
    sum = most; // the next bucket begins a slice
  }
  return cuts;
}
