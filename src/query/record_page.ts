/**
 * Pages of records that continue one another. A cursor is the place of the last record: its time, and its place among the
 * records of that time. Records that arrive meanwhile move no other to another page, and none is given twice.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type Backend, PAGE_BYTES, type ReadOptions } from "../backends/backend.ts";
import { byteLength, type Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { contentOf } from "../transfer/values.ts";

/** Place of a record in the order of a query. */
export interface RecordPlace {
  /** Time of the record, epoch ms. */
  readonly time: number;
  /** Place among the records of that time: the key; without one, the fields that records are sorted by and a hash of all. */
  readonly names: readonly string[];
  /** Number of records that were given of this place: without a key, several may be equal. */
  readonly count: number;
}

export interface RecordPage {
  /** The records: at most the limit, and fewer where they are large. */
  readonly records: unknown[];
  /** Place of the last one; absent on the last page. */
  readonly next?: RecordPlace;
}

export interface PageOptions extends ReadOptions {
  /** Place after which the page begins. */
  readonly after?: RecordPlace;
}

type Fields = Readonly<Record<string, unknown>> & { readonly timestamp: number };

/** Reads a page. The query has its limit. */
export async function readPage(
  backend: Pick<Backend, "read">,
  dataset: Dataset<unknown>,
  query: RecordQuery & { readonly limit: number },
  options: PageOptions = {},
): Promise<RecordPage> {
  const page = new PageBuilder(dataset, query.limit);
  const fill = dataset.key.length > 0 ? fillByKey : fillByTime;
  await fill(page, { backend, dataset, query, fields: tieFields(dataset), ...options });
  const last = page.records.at(-1);
  if (!last || !page.isCut) return { records: page.records };
  const names = namesOf(dataset, last);
  const isLast = (record: Fields) =>
    record.timestamp === last.timestamp && isSame(namesOf(dataset, record), names);
  let count = 0;
  for (let i = page.records.length - 1; i >= 0 && isLast(page.records[i]); i--) count++;
  const { after } = options;
  if (after && count === page.records.length && after.time === last.timestamp && isSame(after.names, names)) {
    count += after.count;
  }
  return { records: page.records, next: { time: last.timestamp, names, count } };
}

/** Reads all records after a place, in pages of the backend. */
export async function* readAfter(
  backend: Pick<Backend, "read">,
  dataset: Dataset<unknown>,
  query: RecordQuery,
  options: PageOptions = {},
): AsyncGenerator<unknown[]> {
  if (!options.after) return yield* backend.read(dataset, query, options);
  const { limit = Infinity } = query;
  let left = limit;
  for (let after: RecordPlace | undefined = options.after; after && left > 0;) {
    const asked = { ...query, limit: Math.min(left, MOST_AT_ONCE) };
    const page: RecordPage = await readPage(backend, dataset, asked, { ...options, after });
    if (page.records.length > 0) yield page.records;
    left -= page.records.length;
    after = page.next;
  }
}

/** Records that {@linkcode readAfter} reads at once. */
const MOST_AT_ONCE = 10_000;

/** Input of both ways to fill a page. */
interface Source extends PageOptions {
  readonly backend: Pick<Backend, "read">;
  readonly dataset: Dataset<unknown>;
  readonly query: RecordQuery;
  /** Fields by which records of one time are sorted. */
  readonly fields: readonly string[];
}

/** Records of a page that is being filled. */
class PageBuilder {
  readonly records: Fields[] = [];
  /** True if there is a record that found no room. */
  isCut = false;
  readonly #dataset: Dataset<unknown>;
  readonly #limit: number;
  #bytes = 0;

  constructor(dataset: Dataset<unknown>, limit: number) {
    this.#dataset = dataset;
    this.#limit = limit;
  }

  /** Number of records for which there is room. */
  get room(): number {
    return this.#limit - this.records.length;
  }

  /** Adds a record; the first one always. */
  add(record: Fields): void {
    const isFull = this.room <= 0 || this.#bytes >= PAGE_BYTES;
    if (isFull) this.isCut = true;
    if (this.isCut) return;
    this.#bytes += byteLength(this.#dataset, record);
    this.records.push(record);
  }
}

/** Fills a page where backends read the records of one time in the order of their key. */
async function fillByKey(page: PageBuilder, source: Source): Promise<void> {
  const { fields, query, after } = source;
  const isAscending = query.order === "asc";
  const parts: (RecordQuery | undefined)[] = [];
  if (after) {
    const operator = isAscending ? ">" as const : "<" as const;
    const beyond = { field: fields[0], operator, values: after.names };
    parts.push(clip({ ...query, where: [...query.where ?? [], beyond] }, after.time, after.time + 1));
  }
  parts.push(beyond(query, after?.time));
  for (const part of parts) {
    if (part === undefined || page.isCut) continue;
    for await (const record of recordsOf(source, { ...part, limit: page.room + 1 })) {
      page.add(record);
      if (page.isCut) break;
    }
  }
}

/** Fills a page where the records of one time come in any order: those are sorted here. */
async function fillByTime(page: PageBuilder, source: Source): Promise<void> {
  const { query, after } = source;
  if (after) await addTies(page, source, { time: after.time, after });
  let rest = beyond(query, after?.time);
  while (rest !== undefined && !page.isCut) {
    const limit = page.room + 1;
    let bytes = 0;
    let found = 0;
    let group: Fields[] = [];
    for await (const record of recordsOf(source, { ...rest, limit })) {
      found++;
      if (group.length > 0 && group[0].timestamp !== record.timestamp) {
        for (const tie of sortTies(source, group)) page.add(tie);
        group = [];
      }
      group.push(record);
      bytes += byteLength(source.dataset, record);
      if (page.isCut || bytes > PAGE_BYTES) break;
    }
    if (found < limit && !page.isCut && bytes <= PAGE_BYTES) { // these were all
      for (const tie of sortTies(source, group)) page.add(tie);
      return;
    }
    // More of the last time may not have been read.
    const time = group[0].timestamp;
    if (!page.isCut) await addTies(page, source, { time });
    rest = beyond(query, time);
  }
}

/** Adds the first records of a time, in memory for those that find room. */
async function addTies(
  page: PageBuilder,
  source: Source,
  { time, after }: { time: number; after?: RecordPlace },
): Promise<void> {
  const part = clip(source.query, time, time + 1);
  if (!part) return;
  const most = page.room + 1;
  let seen = after?.count ?? 0;
  let held: Fields[] = [];
  let bytes = 0;
  for await (const record of recordsOf(source, { ...part, limit: undefined })) {
    if (after) {
      const order = compareTies(source, record, after.names);
      if (order < 0 || order === 0 && seen-- > 0) continue;
    }
    held.push(record);
    bytes += byteLength(source.dataset, record);
    if (held.length < 2 * most && bytes < 2 * PAGE_BYTES) continue;
    held = firstOf(sortTies(source, held), source.dataset, most);
    bytes = held.reduce((sum, one) => sum + byteLength(source.dataset, one), 0);
  }
  for (const tie of sortTies(source, held)) page.add(tie);
}

/** The first records up to a number and to the bytes of a page, and one more, which says that there are more. */
function firstOf(sorted: readonly Fields[], dataset: Dataset<unknown>, most: number): Fields[] {
  let bytes = 0;
  const end = sorted.findIndex((record, i) => {
    const isOver = i >= most || bytes >= PAGE_BYTES;
    bytes += byteLength(dataset, record);
    return isOver;
  });
  return end < 0 ? [...sorted] : sorted.slice(0, end + 1);
}

async function* recordsOf(
  { backend, dataset, signal }: Source,
  query: RecordQuery,
): AsyncGenerator<Fields> {
  for await (const page of backend.read(dataset, query, { signal })) yield* page as Fields[];
}

/** The part of a query within a span; undefined where it has none. */
function clip(query: RecordQuery, start: number, end: number): RecordQuery | undefined {
  const startTime = Math.max(start, query.startTime ?? -Infinity);
  const endTime = Math.min(end, query.endTime ?? Infinity);
  return startTime < endTime
    ? {
      ...query,
      ...(startTime > -Infinity ? { startTime } : {}),
      ...(endTime < Infinity ? { endTime } : {}),
    }
    : undefined;
}

/** The part of a query after a time, in its order. */
function beyond(query: RecordQuery, time: number | undefined): RecordQuery | undefined {
  if (time === undefined) return query;
  return query.order === "asc" ? clip(query, time + 1, Infinity) : clip(query, -Infinity, time);
}

/** Fields by which records of one time are sorted before their hash: the key, or those of the dataset. */
function tieFields({ key, sortBy }: Dataset<unknown>): string[] {
  return (key.length > 0 ? key : sortBy).filter((field) => field !== "timestamp");
}

function namesOf(dataset: Dataset<unknown>, record: Fields): string[] {
  const fields = tieFields(dataset).map((field) => String(record[field] ?? ""));
  return dataset.key.length > 0 ? fields : [...fields, hashOf(dataset, record)];
}

function hashOf(dataset: Dataset<unknown>, record: Fields): string {
  return createHash("sha256").update(contentOf(dataset.columns, record)).digest("base64url");
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i]);
}

/** Compares records of one time, or one with the names of a place. Hashes take long, and are rarely needed. */
function compareTies(
  { dataset, query, fields }: Pick<Source, "dataset" | "query" | "fields">,
  a: Fields,
  b: Fields | readonly string[],
): number {
  const sign = query.order === "asc" ? 1 : -1;
  const names = Array.isArray(b) ? b as readonly string[] : undefined;
  for (let i = 0; i < fields.length; i++) {
    const one = String(a[fields[i]] ?? "");
    const other = names ? names[i] : String((b as Fields)[fields[i]] ?? "");
    if (one !== other) return one < other ? -sign : sign;
  }
  const [one, other] = [hashOf(dataset, a), names?.[fields.length] ?? hashOf(dataset, b as Fields)];
  return one === other ? 0 : one < other ? -sign : sign;
}

/** Sorts the records of one time. */
function sortTies(source: Source, ties: readonly Fields[]): Fields[] {
  return ties.toSorted((a, b) => compareTies(source, a, b));
}
