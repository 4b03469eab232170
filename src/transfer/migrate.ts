import { createHash } from "node:crypto";
import type { Backend } from "../backends/backend.ts";
import { BackendError, ValidationError } from "../errors.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import type { WriteResult } from "../pipeline/sink.ts";
import { byteLength, type Dataset, type DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import { BATCHES_AT_ONCE, batchSink, FixedBatches } from "./batch_sink.ts";
import {
  addTallies,
  type DatasetTotals,
  differingGroups,
  isSame,
  missingRows,
  nameOf,
  type Range,
  rowsIn,
  type Span,
  sum,
  tally,
  toSpans,
} from "./comparison.ts";
import { copyRaw, type RawPair, rawPairOf } from "./raw_copy.ts";
import { contentOf } from "./values.ts";

/** Into how many spans of time a range is divided to find where source and target differ. */
const SPANS = 64;
/** So many records and fewer are compared one by one. */
const MAX_COMPARED_ROWS = 20_000;
/** Maximum number of target records whose hashes are held at once, about 100 bytes each. */
const PART_ROWS = 500_000;
/** Number of passes for a source that is written to meanwhile. */
const MAX_ROUNDS = 5;
/** So many groups and fewer are read each by itself. */
const MAX_GROUP_QUERIES = 8;
const SAMPLE_RECORDS = 1_000;

/** Options of a migration. */
export interface MigrateOptions {
  /** Datasets; all by default. */
  datasets?: readonly DatasetName[];
  /** Only records from this time on: epoch milliseconds or a `Date`. */
  startTime?: number | Date;
  /** Only records before this time. */
  endTime?: number | Date;
  /**
   * Only count what would be copied.
   *
   * @default {false}
   */
  dryRun?: boolean;
  /** Called about once a batch. */
  onProgress?: (progress: MigrateProgress) => void;
}

/** Progress of a migration. */
export interface MigrateProgress {
  /** Dataset that is being copied. */
  dataset: DatasetName;
  /** Records that were copied. */
  copied: number;
  /** Records that were found to be missing. */
  missing: number;
}

/** Result of a dataset: copied rows, and the comparison afterwards. */
export interface DatasetMigration {
  /** The dataset; `alerts` of OpenFinOps in Python. */
  dataset: DatasetName | "alerts";
  /** Records that were copied, or in a dry run would be. */
  copied: number;
  /** About how many bytes these take. */
  bytes: number;
  /** Rows and totals of the source. */
  source: DatasetTotals;
  /** Rows and totals of the target for the same groups and time range. */
  target: DatasetTotals;
  /** True if the target has more records, of other times or groups than the source. They are not compared. */
  targetHasMore: boolean;
  /** True if both are equal, to the last row and digit. */
  isSame: boolean;
}

/**
 * Copies the records of one backend into another, as a stream and in flat memory, so that the target holds what the
 * source holds: no record is lost, and none is there twice.
 *
 * There is nothing to resume: each run finds out what the target lacks and copies that. The rows are their own
 * checkpoint, so it can be killed at any moment, the source may be written to meanwhile, and a second run brings the
 * rest. One migration at a time may write into a target.
 *
 * Budgets, alerts, rules and the like come along where neither datasets nor times are named; those that the target has
 * already stay as they are.
 *
 * @param from The source.
 * @param to The target. Opened with `onConflict: "replace"` it also takes over costs that the source has restated.
 * @param options What is migrated.
 * @returns What was done, and how both compare.
 * @throws {BackendError} If the source cannot be read or the target cannot be written. What is copied stays.
 *
 * @example Move from one file to another
 * ```ts
 * import { migrate, ObservabilityHub, openBackend } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * const from = await openBackend({ connectionString: "sqlite://" });
 * const to = await openBackend({ connectionString: "sqlite://" });
 * const hub = await ObservabilityHub.open({ backend: from });
 * await hub.collectSystemMetrics({ timestamp: Date.now(), cpuUsage: 41.2 });
 * await hub.close();
 *
 * for (const copied of [1, 0]) {
 *   const [metrics] = await migrate(from, to, { datasets: ["system_metrics"] });
 *   assert.deepEqual([metrics.copied, metrics.isSame], [copied, true]);
 * }
 * await from.close();
 * await to.close();
 * ```
 */
export async function migrate(
  from: MigrationSource,
  to: Backend,
  options: MigrateOptions = {},
): Promise<DatasetMigration[]> {
  const { datasets = Object.keys(DATASETS) as DatasetName[], startTime, endTime } = options;
  const migrations = datasets.map((name) => {
    const dataset = DATASETS[name];
    if (!dataset) {
      const expected = `one of ${Object.keys(DATASETS).join(", ")}`;
      throw new ValidationError({ subject: "a migration", field: "datasets", value: name, expected });
    }
    return { dataset, query: acceptQuery(dataset, { startTime, endTime }) };
  });
  const done: DatasetMigration[] = [];
  for (const { dataset, query } of migrations) {
    done.push(await new Migration({ from, to, dataset, options }).run(query));
  }
  const isWhole = options.datasets === undefined && startTime === undefined && endTime === undefined;
  if (isWhole && !options.dryRun) await copyDocuments(from, to);
  return done;
}

/** Source of a migration: a backend, or a database of another program that is read as one. */
export interface MigrationSource extends Pick<Backend, "read" | "aggregate" | "raw"> {
  /** Documents beside the records. */
  readonly documents: Pick<Backend["documents"], "read">;
}

/** Budgets, alerts and the like come along; what the target knows of already stays as it is there. */
async function copyDocuments(from: MigrationSource, to: Backend): Promise<void> {
  for (const document of await from.documents.read()) await to.documents.write(document, { ifAbsent: true });
}

/** Spans of a comparison. */
interface Compared {
  readonly spans: readonly Span[];
  /** Number of tallies of the target whose group the source does not have. */
  readonly ignored: number;
}

const NO_SPANS: Compared = { spans: [], ignored: 0 };

class Migration {
  readonly #from: MigrationSource;
  readonly #to: Backend;
  readonly #dataset: Dataset<unknown>;
  readonly #options: MigrateOptions;
  /** Copies rows without decoding them; undefined where that is not possible, and after the first refusal. */
  #raw: RawPair | undefined;
  #copied = 0;
  #missing = 0;

  constructor(
    { from, to, dataset, options }: {
      from: MigrationSource;
      to: Backend;
      dataset: Dataset<unknown>;
      options: MigrateOptions;
    },
  ) {
    this.#from = from;
    this.#to = to;
    this.#dataset = dataset;
    this.#options = options;
    this.#raw = rawPairOf(from, to);
  }

  async run(query: RecordQuery): Promise<DatasetMigration> {
    const range = await this.#range(query);
    if (!range) return this.#report(NO_SPANS, query);
    if (this.#options.dryRun) {
      const compared = await this.#compare(range);
      this.#copied = sum(compared.spans.map(missingRows));
      return this.#report(compared, query, { range, bytes: this.#copied * await this.#recordBytes(range) });
    }
    // A process that was killed may have left a batch behind that the server is still about to commit.
    await retryBriefly(() => this.#to.finishWrites(this.#dataset));
    // An empty target needs no comparison first.
    if (!await this.#first(this.#to, this.#query(range))) await this.#copyAll(range);
    for (let round = 1;; round++) {
      const compared = await this.#compare(range);
      const { spans } = compared;
      if (round === 1) this.#missing += sum(spans.map(missingRows));
      const isLast = round > MAX_ROUNDS || spans.every(isSame);
      if (isLast || await this.#copy(spans) === 0 && round > 1) {
        return this.#report(compared, query, { range });
      }
      await retryBriefly(() => this.#to.finishWrites(this.#dataset));
    }
  }

  async #copyAll(range: Range): Promise<void> {
    const [{ values: [rows] }] = await this.#from.aggregate(this.#dataset, this.#query(range), {
      groupBy: [],
      measures: [{ function: "count" }],
    });
    this.#missing = rows as number;
    await this.#copyRange(range);
  }

  /** Copies a range of which the target has nothing. */
  async #copyRange(range: Range): Promise<void> {
    if (!this.#raw) return await this.#write(this.#from.read(this.#dataset, this.#query(range)));
    try {
      await copyRaw(this.#raw, {
        dataset: this.#dataset,
        query: this.#query(range),
        onWritten: (result) => this.#note(result),
      });
    } catch (error) {
      if (!(error instanceof BackendError) || error.retryable) throw error;
      // Copied as records, all that the target accepts are stored, and the error names the others.
      this.#raw = undefined;
      await retryBriefly(() => this.#to.finishWrites(this.#dataset));
      await this.#copy((await this.#compare(range)).spans);
    }
  }

  /** From the oldest record to the newest: what comes later is for the next run. */
  async #range(query: RecordQuery): Promise<Range | undefined> {
    const oldest = await this.#first(this.#from, query);
    const newest = await this.#first(this.#from, { ...query, order: "desc" });
    return oldest && newest && { start: oldest.timestamp, end: newest.timestamp + 1 };
  }

  async #first(backend: MigrationSource, query: RecordQuery): Promise<{ timestamp: number } | undefined> {
    for await (const [record] of backend.read(this.#dataset, { ...query, limit: 1 })) {
      return record as { timestamp: number };
    }
  }

  /** Returns the tallies of both sides by time range. */
  async #compare({ start, end }: Range): Promise<Compared> {
    const spanMs = Math.max(1, Math.ceil((end - start) / SPANS));
    const [source, target] = await Promise.all(
      [this.#from, this.#to].map((backend) => tally(backend, this.#dataset, { start, end, spanMs })),
    );
    const spans = toSpans({ source, target }, { spanMs, end });
    return { spans, ignored: target.length - sum(spans.map(({ target }) => target.length)) };
  }

  /** Copies the missing records of some spans. Returns their number. */
  async #copy(spans: readonly Span[]): Promise<number> {
    const before = this.#copied;
    let absent: Range | undefined; // spans of which the target has nothing are copied in one go
    const copyAbsent = async () => {
      if (absent) await this.#copyRange(absent);
      absent = undefined;
    };
    for (const span of spans) {
      if (differingGroups(span).length === 0) continue;
      if (span.target.length === 0) {
        const isAdjacent = absent?.end === span.start;
        if (!isAdjacent) await copyAbsent();
        absent = { start: isAdjacent ? absent!.start : span.start, end: span.end };
        continue;
      }
      await copyAbsent();
      const isSmall = span.end - span.start === 1 ||
        Math.max(rowsIn(span.source), rowsIn(span.target)) <= MAX_COMPARED_ROWS;
      if (isSmall) await this.#copyMissing(span);
      else await this.#copy((await this.#compare(span)).spans);
    }
    await copyAbsent();
    return this.#copied - before;
  }

  /** Copies one by one the records of a span that the target does not have, or not as often. */
  async #copyMissing(span: Span): Promise<void> {
    // A span of one millisecond can hold any number, as costs by the day do: it is read again for each part.
    const parts = Math.ceil(rowsIn(span.target) / PART_ROWS);
    for (let part = 0; part < parts; part++) await this.#write(this.#missingRecords(span, { part, parts }));
  }

  /** Those records, of one of the parts that the contents of the span are in. */
  async *#missingRecords(
    span: Span,
    { part, parts }: { part: number; parts: number },
  ): AsyncGenerator<unknown[]> {
    const hashIn = (record: unknown) => {
      const hash = hashOf(contentOf(this.#dataset.columns, record));
      return partOf(hash, parts) === part ? hash : undefined;
    };
    const present = new Map<string, number>();
    for await (const page of this.#differing(this.#to, span)) {
      for (const hash of page.map(hashIn)) {
        if (hash !== undefined) present.set(hash, (present.get(hash) ?? 0) + 1);
      }
    }
    for await (const page of this.#differing(this.#from, span)) {
      yield page.filter((record) => {
        const hash = hashIn(record);
        if (hash === undefined) return false;
        const count = present.get(hash) ?? 0;
        if (count > 0) present.set(hash, count - 1);
        return count === 0;
      });
    }
  }

  /** Returns records of the groups that differ in a time range. */
  async *#differing(backend: MigrationSource, span: Span): AsyncGenerator<unknown[]> {
    const groups = differingGroups(span);
    const names = new Set(groups.map(nameOf));
    const queries = groups.length <= MAX_GROUP_QUERIES
      ? groups.map((group) => ({ ...this.#query(span), equals: this.#equals(group) }))
      : [this.#query(span)];
    for (const query of queries) {
      for await (const page of backend.read(this.#dataset, query)) {
        // Other records of the target may be many, and are not kept in memory.
        yield page.filter((record) => names.has(nameOf(groupOf(this.#dataset, record))));
      }
    }
  }

  #equals(group: readonly string[]): Record<string, string> {
    return Object.fromEntries(this.#dataset.groups.map((field, i) => [field, group[i]]));
  }

  async #write(pages: AsyncIterable<unknown[]>): Promise<void> {
    const sink = batchSink<unknown>({
      dataset: this.#dataset,
      sink: this.#to,
      atOnce: BATCHES_AT_ONCE,
      idOf: () => crypto.randomUUID(), // what was deleted in the target since is to come back
      onWritten: (result) => this.#note(result),
    });
    await ReadableStream.from(pages).pipeThrough(new FixedBatches(this.#dataset)).pipeTo(sink);
  }

  #note({ committed }: WriteResult): void {
    this.#copied += committed;
    this.#options.onProgress?.({ dataset: this.#dataset.name, copied: this.#copied, missing: this.#missing });
  }

  #query({ start, end }: Range): RecordQuery {
    return { ...acceptQuery(this.#dataset), startTime: start, endTime: end };
  }

  /** About how many bytes a record takes, by the first ones. */
  async #recordBytes(range: Range): Promise<number> {
    const sizes: number[] = [];
    for await (
      const page of this.#from.read(this.#dataset, { ...this.#query(range), limit: SAMPLE_RECORDS })
    ) {
      for (const record of page) sizes.push(byteLength(this.#dataset, record));
    }
    return sum(sizes) / Math.max(1, sizes.length);
  }

  async #report(
    { spans, ignored }: Compared,
    query: RecordQuery,
    { range, bytes = 0 }: { range?: Range; bytes?: number } = {},
  ): Promise<DatasetMigration> {
    return {
      dataset: this.#dataset.name,
      copied: this.#copied,
      bytes: Math.round(bytes),
      source: addTallies(spans.flatMap(({ source }) => source)),
      target: addTallies(spans.flatMap(({ target }) => target)),
      targetHasMore: ignored > 0 || await this.#hasOtherTimes(query, range),
      isSame: spans.every(isSame),
    };
  }

  /** Returns true if the target has records of the query before or after a range. */
  async #hasOtherTimes(query: RecordQuery, range?: Range): Promise<boolean> {
    const [oldest, newest] = await Promise.all([
      this.#first(this.#to, query),
      this.#first(this.#to, { ...query, order: "desc" }),
    ]);
    if (!oldest || !newest) return false;
    return !range || oldest.timestamp < range.start || newest.timestamp >= range.end;
  }
}

/** A 128-bit hash of a content: smaller than the content, and unique in practice. */
function hashOf(content: string): string {
  return createHash("sha256").update(content).digest().toString("latin1", 0, 16);
}

function partOf(hash: string, parts: number): number {
  return (hash.charCodeAt(0) << 8 | hash.charCodeAt(1)) % parts;
}

function groupOf(dataset: Dataset<unknown>, record: unknown): string[] {
  return dataset.groups.map((field) => (record as Record<string, string>)[field]);
}
