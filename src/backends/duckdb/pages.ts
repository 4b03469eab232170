import { byteLength, type Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";
import { PAGE_BYTES } from "../backend.ts";
import { tieBreaker } from "../sql/schema.ts";
import { literal } from "../sql/select.ts";
import { timeLiteral } from "./schema.ts";
import type { DuckdbSession } from "./session.ts";

/** Most rows that a statement sorts and gives. */
const MAX_ROWS = 32_768;
/** Rows of the first statement, where nothing is known of their size. */
const FIRST_ROWS = 100;
/** Rows and bytes of a page. */
const PAGE_ROWS = 2_048;
/** Bytes of the rows that a statement gives, about. */
const STATEMENT_BYTES = 4 * PAGE_BYTES;
/** Spans into which time is divided to find slices of few rows. */
const SPANS = 4_096;

/** A span of time with so many rows. */
interface Slice {
  readonly start: number;
  readonly end: number;
  rows: number;
}

/**
 * Reads the records that a query finds, in pages, within one transaction. DuckDB has no index on time: to sort all rows at
 * once takes memory and disk for all of them, so time is cut into slices with few rows first, which a scan of one column
 * counts.
 */
export async function* readPages<T>(
  session: DuckdbSession,
  dataset: Dataset<T>,
  { query, where }: { query: RecordQuery; where: string },
): AsyncGenerator<T[]> {
  const { order, limit = Infinity } = query;
  await session.execute("BEGIN");
  const slices = await findSlices(session, dataset, {
    where,
    maxRows: limit <= MAX_ROWS ? Infinity : MAX_ROWS,
  });
  const second = tieBreaker(dataset);
  const columns = dataset.columns.map(({ name }) => name).join(", ");
  const sign = order === "asc" ? ">" : "<";
  let left = limit;
  let room = FIRST_ROWS;
  for (const { start, end } of order === "asc" ? slices : slices.toReversed()) {
    let after = "";
    for (;;) {
      const most = Math.min(left, room);
      if (most === 0) return;
      const range = `timestamp >= ${timeLiteral(start)} AND timestamp < ${timeLiteral(end)}${after}`;
      const { records, last } = await session.records(
        `SELECT ${columns}, ${second} FROM ${dataset.source} ${where ? `${where} AND` : "WHERE"} ${range} ` +
          `ORDER BY timestamp ${order}, ${second} ${order} LIMIT ${most}`,
        dataset,
      );
      const bytes = yield* pagesOf(dataset, records);
      left -= records.length;
      if (records.length > 0) room = Math.ceil(Math.min(MAX_ROWS, records.length * STATEMENT_BYTES / bytes));
      if (records.length < most) break;
      const time = timeLiteral((records.at(-1) as { timestamp: number }).timestamp);
      const value = last!.at(-1);
      const tie = typeof value === "string" ? literal(value) : String(value);
      after = ` AND (timestamp ${sign} ${time} OR (timestamp = ${time} AND ${second} ${sign} ${tie}))`;
    }
  }
}

/** Gives records in pages of few rows and bytes; returns the bytes of all. */
function* pagesOf<T>(dataset: Dataset<T>, records: readonly T[]): Generator<T[], number> {
  let [all, bytes, first] = [1, 0, 0];
  for (let at = 0; at < records.length; at++) {
    const length = byteLength(dataset, records[at]);
    all += length;
    bytes += length;
    if (at + 1 - first < PAGE_ROWS && bytes < PAGE_BYTES && at + 1 < records.length) continue;
    yield records.slice(first, at + 1);
    [bytes, first] = [0, at + 1];
  }
  return all;
}

/** Cuts the time of the rows that a condition finds into slices of few rows, where the rows of a span are not more. */
export async function findSlices(
  session: DuckdbSession,
  { source }: Dataset<unknown>,
  { where, maxRows }: { where: string; maxRows: number },
): Promise<Slice[]> {
  const [[first, last, rows]] = await session.query(
    `SELECT min(timestamp), max(timestamp), count(*) FROM ${source} ${where}`,
  ) as number[][];
  if (rows === 0) return [];
  const all = { start: first, end: last + 1, rows };
  if (rows <= maxRows) return [all];
  const width = Math.ceil((all.end - first) / SPANS);
  const counted = await session.query(
    `SELECT (epoch_ms(timestamp) - ${first}) // ${width} AS span, count(*) FROM ${source} ${where} GROUP BY 1 ORDER BY 1`,
  ) as number[][];
  const slices: Slice[] = [];
  for (const [span, rows] of counted) {
    const last = slices.at(-1);
    const end = first + (span + 1) * width;
    if (last && last.rows + rows <= maxRows) {
      slices[slices.length - 1] = { ...last, end, rows: last.rows + rows };
    } else slices.push({ start: first + span * width, end, rows });
  }
  return slices;
}
