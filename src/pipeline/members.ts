/**
 * Membership of records in requests, for idempotent appends.
 *
 * A caller may send a request again, to this process or to another one before the same database. Batches do not follow
 * requests: a batch gathers records of many, a request may span several batches, and a batch is halved around a record that
 * the backend refuses. So each record keeps its origin, a request and its position in it, and each batch lists its members:
 * runs of positions. The transaction of a batch adds them to what is stored of their requests, and stores only the records
 * at new positions. The origin is kept beside the record, so that records without a request cost nothing.
 *
 * @module
 */
import type { Dataset } from "../records/dataset.ts";
import type { Batch, Member } from "./sink.ts";

/** Minimum hours for which a backend knows a request. After that, a cleanup may delete it, and a repetition is stored. */
export const REQUEST_HOURS = 24;

/** Positions in a request, from the first to before the second. */
export type Range = [from: number, to: number];

/** Place of a record in a request. */
interface Origin {
  readonly requestId: string;
  readonly position: number;
}

/** Base class that returns its argument in place of a new object. */
class Given {
  constructor(given: object) {
    return given;
  }
}

/**
 * The origin of a record, in a private field of the record itself: nothing else sees it, and copies do not have it. A
 * `WeakMap` takes more than twice as long, and the garbage collector more (measured).
 */
class Marked extends Given {
  static #hasAny = false;
  #origin: Origin;

  constructor(record: object, origin: Origin) {
    super(record);
    this.#origin = origin;
    Marked.#hasAny = true;
  }

  /** True once a record has an origin: until then none is looked up. */
  static get hasAny(): boolean {
    return Marked.#hasAny;
  }

  static origin(record: object): Origin | undefined {
    return #origin in record ? record.#origin : undefined;
  }

  static move(record: object, origin: Origin): boolean {
    if (!(#origin in record)) return false;
    record.#origin = origin;
    return true;
  }
}

/** Notes the request of a record, and its position in it. */
export function setOrigin(record: unknown, requestId: string, position: number): void {
  const origin = { requestId, position };
  if (!Marked.move(record as object, origin)) new Marked(record as object, origin);
}

/** Makes a batch that lists the members of its records. */
export function batchOf<T>(id: string, dataset: Dataset<T>, records: readonly T[]): Batch<T> {
  const members = membersOf(records);
  return members ? { id, dataset, records, members } : { id, dataset, records };
}

/** Returns the members of records in their order, or undefined if no record belongs to a request. */
export function membersOf(records: readonly unknown[]): Member[] | undefined {
  if (!Marked.hasAny) return undefined;
  const members: { requestId: string; first: number; count: number; index: number }[] = [];
  let last: typeof members[number] | undefined;
  for (let index = 0; index < records.length; index++) {
    const origin = Marked.origin(records[index] as object);
    if (!origin) last = undefined;
    else if (last?.requestId === origin.requestId && last.first + last.count === origin.position) {
      last.count++;
    } else {
      last = { requestId: origin.requestId, first: origin.position, count: 1, index };
      members.push(last);
    }
  }
  return members.length > 0 ? members : undefined;
}

/** Returns the ids of the requests of members, each once, sorted. */
export function idsOf(members: readonly Member[]): string[] {
  return [...new Set(members.map(({ requestId }) => requestId))].sort();
}

/** Notes the origins of records that were read back with their members. */
export function restoreOrigins(records: readonly unknown[], members: readonly Member[]): void {
  for (const { requestId, first, count, index } of members) {
    for (let i = 0; i < count && index + i < records.length; i++) {
      setOrigin(records[index + i], requestId, first + i);
    }
  }
}

/** Positions of requests, as a transaction finds and extends them. */
export class StoredPositions {
  /** Sorted ranges of each request. No two touch. */
  readonly #ranges: Map<string, Range[]>;
  readonly #changed = new Set<string>();

  /** Starts from the stored ranges. */
  constructor(stored: Iterable<readonly [requestId: string, ranges: readonly Range[]]> = []) {
    this.#ranges = new Map([...stored].map(([id, ranges]) => [id, ranges.map(([from, to]) => [from, to])]));
  }

  /** The requests with positions that were not stored before, and all their ranges, in the order of the ids. */
  get changed(): [requestId: string, ranges: Range[]][] {
    return [...this.#changed].sort().map((id) => [id, this.#ranges.get(id)!]);
  }

  /** Adds the positions of members; returns the indexes in the batch of the records that were stored before. */
  add(members: readonly Member[]): Set<number> {
    const known = new Set<number>();
    for (const { requestId, first, count, index } of members) {
      let ranges = this.#ranges.get(requestId);
      if (!ranges) this.#ranges.set(requestId, ranges = []);
      let isNew = count;
      for (const [from, to] of extend(ranges, first, first + count)) {
        isNew -= to - from;
        for (let position = from; position < to; position++) known.add(index + position - first);
      }
      if (isNew > 0) this.#changed.add(requestId);
    }
    return known;
  }
}

/** Adds a range to sorted ranges; returns the parts of it that they had already. */
function extend(ranges: Range[], from: number, to: number): Range[] {
  const start = lowerBound(ranges, from);
  let end = start;
  const known: Range[] = [];
  let [first, last] = [from, to];
  for (; end < ranges.length && ranges[end][0] <= to; end++) {
    const [a, b] = ranges[end];
    if (Math.min(b, to) > Math.max(a, from)) known.push([Math.max(a, from), Math.min(b, to)]);
    first = Math.min(first, a);
    last = Math.max(last, b);
  }
  ranges.splice(start, end - start, [first, last]);
  return known;
}

/** Returns the index of the first range that ends at or after a position. */
function lowerBound(ranges: readonly Range[], position: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle][1] < position) low = middle + 1;
    else high = middle;
  }
  return low;
}
