import type { Batch, WriteResult } from "../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import { byteLength, copyRecord, type Dataset, type DatasetName, keyOf } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { byDataset, DATASETS } from "../records/datasets.ts";
import type { Backend, BackendStats, ConflictPolicy, DeleteOptions, ProbeReport } from "./backend.ts";
import { maxBytesFor, RingBuffer } from "../records/ring_buffer.ts";
import { aggregate } from "./memory/aggregate.ts";
import { MemoryDocuments } from "./memory/documents.ts";
import { MemoryRequests } from "./memory/requests.ts";
import { MemoryStaging, type PutOutcome } from "./memory/staging.ts";
import type { Staging } from "./staging.ts";
import { matcherOf } from "./memory/matcher.ts";
import { currencyTotals } from "./currency_totals.ts";

const PAGE_RECORDS = 1_000;
/** Batch ids that are remembered. Nothing outlives the process, so only a retry can come again. */
const LEDGER_LENGTH = 1_000;

type Fields = { readonly timestamp: number } & Readonly<Record<string, unknown>>;

/** Keeps records in the process: of each dataset the newest `maxMemoryEntries`, and at most 64 MiB. */
export class MemoryBackend implements Backend {
  readonly name = "memory";
  readonly isDurable = false;
  readonly documents: MemoryDocuments = new MemoryDocuments();
  readonly #onConflict: ConflictPolicy;
  readonly #rings: Record<DatasetName, RingBuffer<Fields>>;
  readonly #ledger = new Map<string, WriteResult>();
  readonly #requests = new MemoryRequests();
  readonly #capacity: number;
  /** Committed records that were evicted for newer ones. */
  #evicted = 0;

  /**
   * Makes an empty backend.
   *
   * @param options How many records to keep of each dataset, and what to do about a key that exists.
   */
  constructor(options: { maxMemoryEntries: number; onConflict: ConflictPolicy }) {
    this.#onConflict = options.onConflict;
    this.#capacity = options.maxMemoryEntries;
    const ring = (dataset: Dataset<unknown>) =>
      new RingBuffer<Fields>({
        maxRecords: options.maxMemoryEntries,
        maxBytes: maxBytesFor(options.maxMemoryEntries),
        keyOf: dataset.key.length > 0 ? (record) => keyOf(dataset, record) : undefined,
      });
    this.#rings = byDataset(ring);
  }

  write(batch: Batch): Promise<WriteResult> {
    const known = this.#ledger.get(batch.id);
    if (known) return Promise.resolve({ ...known, isReplay: true });
    const stored = this.#requests.add(batch);
    let duplicates = stored?.size ?? 0;
    let restated = 0;
    for (const [index, record] of (batch.records as readonly Fields[]).entries()) {
      if (stored?.has(index)) continue;
      const outcome = this.#put(batch.dataset, record);
      if (outcome === "restated") restated++;
      else if (outcome === "duplicate") duplicates++;
    }
    const result = { committed: batch.records.length - duplicates, duplicates, restated };
    this.#ledger.set(batch.id, result);
    if (this.#ledger.size > LEDGER_LENGTH) this.#ledger.delete(this.#ledger.keys().next().value!);
    return Promise.resolve(result);
  }

  stage(): Promise<Staging> {
    const ring = this.#rings.cost_entries;
    return Promise.resolve(
      new MemoryStaging({
        documents: this.documents,
        values: () => ring.values(),
        remove: (isGone) => ring.remove(isGone),
        put: (record) => this.#put(DATASETS.cost_entries, record),
      }),
    );
  }

  async *read<T>(dataset: Dataset<T>, query: RecordQuery): AsyncGenerator<T[]> {
    const found = this.#select(dataset, query) as unknown as T[];
    for (let i = 0; i < found.length; i += PAGE_RECORDS) {
      yield found.slice(i, i + PAGE_RECORDS).map((record) => copyRecord(dataset, record));
    }
  }

  aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
  ): Promise<AggregateRow[]> {
    const records = this.#select(dataset, { ...query, limit: undefined });
    return Promise.resolve(aggregate(dataset, aggregation, records));
  }

  finishWrites(): Promise<void> {
    return Promise.resolve();
  }

  deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    { dryRun }: DeleteOptions,
  ): Promise<number> {
    const ring = this.#rings[dataset.name];
    const isOld = ({ timestamp }: Fields) => timestamp < before;
    return Promise.resolve(dryRun ? ring.values().filter(isOld).length : ring.remove(isOld));
  }

  deleteMatching(dataset: Dataset<unknown>, query: RecordQuery): Promise<number> {
    const found = new Set(this.#select(dataset, { ...query, limit: undefined }));
    return Promise.resolve(this.#rings[dataset.name].remove((record) => found.has(record)));
  }

  async stats(): Promise<BackendStats> {
    const of = ({ name }: Dataset<unknown>) => {
      let oldest = Infinity;
      let newest = -Infinity;
      const records = this.#rings[name].values();
      for (const { timestamp } of records) {
        oldest = Math.min(oldest, timestamp);
        newest = Math.max(newest, timestamp);
      }
      return { rows: records.length, ...(records.length > 0 ? { oldest, newest } : {}) };
    };
    return {
      datasets: byDataset(of),
      totals: await currencyTotals(this),
      storage: {
        maxMemoryEntries: this.#capacity,
        maxMemoryBytes: maxBytesFor(this.#capacity),
        evicted: this.#evicted,
      },
    };
  }

  probe(): Promise<ProbeReport> {
    return Promise.resolve({ writable: true, details: {}, warnings: [] });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #put(dataset: Dataset<unknown>, record: Fields): PutOutcome {
    const ring = this.#rings[dataset.name];
    if (!ring.has(record)) {
      this.#evicted += ring.push(record, byteLength(dataset, record));
      return "stored";
    }
    if (this.#onConflict === "ignore") return "duplicate";
    this.#evicted += ring.replace(record, byteLength(dataset, record));
    return "restated";
  }

  #select(dataset: Dataset<unknown>, query: RecordQuery): Fields[] {
    const { startTime = -Infinity, endTime = Infinity, limit, order } = query;
    const equals = Object.entries(query.equals);
    const conditions = (query.where ?? []).map((condition) => matcherOf(dataset, condition));
    const entries = Object.entries(query.entries);
    const found = this.#rings[dataset.name].values().filter((record) => {
      if (record.timestamp < startTime || record.timestamp >= endTime) return false;
      if (!equals.every(([field, value]) => record[field] === value)) return false;
      if (!conditions.every((holds) => holds(record))) return false;
      const map = record[dataset.mapFilter ?? ""] as Record<string, string> | undefined;
      return entries.every(([key, value]) => map !== undefined && map[key] === value);
    });
    const key = dataset.key.find((field) => field !== "timestamp");
    const byKey = key === undefined ? () => 0 : (a: Fields, b: Fields) => a[key]! < b[key]! ? -1 : 1;
    found.sort((a, b) => a.timestamp - b.timestamp || byKey(a, b)); // as databases read them
    if (order === "desc") found.reverse();
    return limit === undefined ? found : found.slice(0, limit);
  }
}
