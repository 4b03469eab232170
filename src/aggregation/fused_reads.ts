import type { Backend, ReadOptions } from "../backends/backend.ts";
import { unlessAborted } from "../pipeline/unless_aborted.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import { appendRange, bucketAt, bucketCount, type BucketRange, bucketsOf } from "../records/calendar.ts";
import { columnOf, type Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { mergeRows } from "./result_rows.ts";

/** Most points of time at which a statement cuts its time range. */
const MAX_POINTS = 2_000;

type Reader = Pick<Backend, "aggregate">;

/** A time range with its buckets, and the points of time at which the rows of a statement must be cut for it. */
interface Window {
  readonly start: number;
  readonly end: number;
  readonly ranges: readonly BucketRange[];
  readonly points: readonly number[];
}

/** A window that waits for the statement that answers it. */
interface Waiting {
  readonly window: Window;
  readonly found: PromiseWithResolvers<AggregateRow[]>;
}

/** Rows that a statement has read: those of the time between each two points. */
interface Cells {
  readonly start: number;
  readonly end: number;
  readonly points: ReadonlySet<number>;
  readonly rows: Promise<readonly AggregateRow[]>;
}

/** A dataset, the filters, groups and measures of an aggregate, and the windows that are asked for. */
interface Question {
  readonly dataset: Dataset<unknown>;
  readonly query: RecordQuery;
  readonly aggregation: Aggregation;
  readonly cells: Cells[];
  waiting: Waiting[];
  readonly signal: AbortSignal;
  /** Starts the next read. */
  timer?: ReturnType<typeof setTimeout>;
}

/**
 * Aggregates of one answer, read with as few scans as possible. Windows of time that are asked for in one turn of the
 * event loop, with the same filters, groups and measures, come from one statement, whose time range is cut at the
 * bounds and buckets of all of them. Later windows come from the cells that are known. Totals are exact, as cells are
 * added up as decimals.
 *
 * Use one for each answer: it never reads a cell again, unless all callers have aborted.
 */
export class FusedReads implements Reader {
  readonly #backend: Reader;
  readonly #questions = new Map<string, Question>();
  readonly #others = new Map<string, Promise<AggregateRow[]>>();
  #callers = 0;
  /** Ends the reads that run. */
  #controller = new AbortController();

  /** Returns the reader itself where it is one already. */
  static over(backend: Reader): FusedReads {
    return backend instanceof FusedReads ? backend : new FusedReads(backend);
  }

  private constructor(backend: Reader) {
    this.#backend = backend;
  }

  /** Rejects as soon as the signal aborts. Reads are canceled when the last caller aborts. */
  async aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    { signal }: ReadOptions = {},
  ): Promise<AggregateRow[]> {
    this.#callers++;
    try {
      return await unlessAborted(this.#find(dataset, query, aggregation), signal);
    } finally {
      if (--this.#callers === 0 && signal?.aborted) this.#forget(signal.reason);
    }
  }

  #find(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
  ): Promise<AggregateRow[]> {
    const { signal } = this.#controller;
    const { startTime, endTime, ...filters } = query;
    const { ranges, ...parts } = aggregation;
    const window = isAdditive(dataset, aggregation) ? windowOf(query, ranges) : undefined;
    const name = JSON.stringify([
      dataset.name,
      filters,
      parts,
      ...(window ? [] : [startTime, endTime, ranges]),
    ]);
    if (!window) {
      return this.#others.getOrInsertComputed(
        name,
        () => this.#backend.aggregate(dataset, query, aggregation, { signal }),
      );
    }
    const question = this.#questions.getOrInsertComputed(
      name,
      () => ({ dataset, query, aggregation, cells: [], waiting: [], signal }),
    );
    const known = question.cells.find((cells) => covers(cells, window));
    if (known) return pick(known, window, aggregation);
    const found = Promise.withResolvers<AggregateRow[]>();
    if (question.waiting.push({ window, found }) === 1) {
      question.timer = setTimeout(() => this.#read(question), 0);
    }
    return found.promise;
  }

  /** Ends all reads, and forgets them: a later caller reads again. */
  #forget(reason: unknown): void {
    this.#controller.abort(reason);
    this.#controller = new AbortController();
    for (const { timer } of this.#questions.values()) clearTimeout(timer);
    this.#questions.clear();
    this.#others.clear();
  }

  /** Reads what waits: windows that overlap or touch in one statement. */
  #read(question: Question): void {
    const waiting = question.waiting.toSorted((a, b) => a.window.start - b.window.start);
    question.waiting = [];
    while (waiting.length > 0) {
      const group = [waiting.shift()!];
      let { end } = group[0].window;
      const points = new Set(group[0].window.points);
      while (waiting.length > 0 && waiting[0].window.start <= end) {
        const more = points.union(new Set(waiting[0].window.points));
        if (more.size > MAX_POINTS) break;
        const next = waiting.shift()!;
        for (const point of next.window.points) points.add(point);
        end = Math.max(end, next.window.end);
        group.push(next);
      }
      const cells = this.#cellsOf(question, { ...group[0].window, end, points, isOne: group.length === 1 });
      question.cells.push(cells);
      for (const { window, found } of group) found.resolve(pick(cells, window, question.aggregation));
    }
  }

  #cellsOf(
    { dataset, query, aggregation, signal }: Question,
    { start, end, points, ranges, isOne }: Omit<Window, "points"> & { points: Set<number>; isOne: boolean },
  ): Cells {
    const rows = this.#backend.aggregate(dataset, { ...query, startTime: start, endTime: end }, {
      ...aggregation,
      ranges: isOne ? ranges : rangesBetween(points),
    }, { signal });
    // A bucket may begin before the time range.
    const starts = rows.then((rows) =>
      rows.map((row) => ({ ...row, start: Math.max(row.start ?? start, start) }))
    );
    return { start, end, points, rows: starts };
  }
}

/** True if the values of two parts of the records give those of both together, exactly. */
function isAdditive(dataset: Dataset<unknown>, { groupBy, ranges = [], measures }: Aggregation): boolean {
  if (groupBy.length + ranges.length === 0) return false; // there is a row also where no record is found
  return measures.every((measure) =>
    measure.function === "sum"
      ? columnOf(dataset, measure.field).type === "decimal"
      : ["count", "min", "max"].includes(measure.function)
  );
}

/** Returns the window of a query; undefined where it has no bounds, too many buckets, or fewer than its records. */
function windowOf(
  { startTime: start, endTime: end }: RecordQuery,
  ranges: readonly BucketRange[] = [],
): Window | undefined {
  if (start === undefined || end === undefined || start >= end || bucketCount(ranges) > MAX_POINTS) {
    return undefined;
  }
  if (ranges.length > 0 && (ranges[0].start > start || ranges.at(-1)!.end < end)) return undefined;
  const starts = [...bucketsOf(ranges)].map((bucket) => bucket.start).filter((at) => at > start && at < end);
  return { start, end, ranges, points: [start, ...starts, end] };
}

function covers({ start, end, points }: Cells, window: Window): boolean {
  return start <= window.start && window.end <= end && window.points.every((point) => points.has(point));
}

/** The ranges between points, of which those of equal length are one. */
function rangesBetween(points: ReadonlySet<number>): BucketRange[] {
  const ranges: BucketRange[] = [];
  const sorted = [...points].sort((a, b) => a - b);
  for (const [i, end] of sorted.slice(1).entries()) {
    appendRange(ranges, { start: sorted[i], end, stepMs: end - sorted[i] });
  }
  return ranges;
}

/** Adds up the cells within a window, by its buckets. */
async function pick(
  cells: Cells,
  { start: from, end, ranges, points }: Window,
  { measures }: Aggregation,
): Promise<AggregateRow[]> {
  const within = (await cells.rows).filter(({ start }) => start! >= from && start! < end);
  const rows = within.map(({ start, ...row }) =>
    ranges.length === 0 ? row : { ...row, start: bucketAt(ranges, start!).start }
  );
  const cuts = [...cells.points].filter((point) => point >= from && point <= end);
  return cuts.length === points.length ? rows : (await mergeRows({ measures }, rows)) as AggregateRow[];
}
