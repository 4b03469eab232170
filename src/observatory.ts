import { aggregateCosts, type CostAggregate } from "./answers/answer.ts";
import type { CostAggregateQuery } from "./answers/query.ts";
import type { PersistenceConfig } from "./config.ts";
import type { CloseReport } from "./pipeline/pipeline_stats.ts";
import { costEntries, type CostEntry, type CostEntryInput } from "./records/cost_entry.ts";
import type { CostEntriesQuery } from "./records/query.ts";
import {
  type CleanupOptions,
  type CloseOptions,
  memoryStore,
  openStore,
  type RecordStore,
  type SinkOptions,
  type StoreStats,
} from "./store.ts";

const DATASETS = [costEntries];

/** How many cost entries a cleanup deleted, or would delete. */
export interface ObservatoryCleanup {
  /** Cost entries. */
  cost_entries: number;
}

/**
 * Takes in cost entries and keeps them in a backend, exact to the last digit.
 *
 * @example Add a cost and read the exact total
 * ```ts
 * import { CostObservatory } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * await using costs = await CostObservatory.open({ connectionString: "sqlite://" });
 * const entry = { timestamp: Date.now(), resourceId: "gpu-01", category: "gpu" };
 * await costs.addCostEntry({ ...entry, entryId: "a", amount: "0.1" });
 * await costs.addCostEntry({ ...entry, entryId: "b", amount: "0.2" });
 * await costs.flush();
 * assert.deepEqual(await costs.aggregateCosts(), [{ currency: "USD", total: "0.3", count: 2 }]);
 * ```
 */
export class CostObservatory implements AsyncDisposable {
  readonly #store: RecordStore;

  /** Makes an observatory in memory only. For all else: {@linkcode CostObservatory.open}. */
  constructor();
  /**
   * @internal
   * @param store What {@linkcode CostObservatory.open} has opened.
   */
  constructor(store: RecordStore);
  constructor(store: RecordStore = memoryStore(DATASETS)) {
    this.#store = store;
  }

  /**
   * Opens an observatory, and the backend that the configuration names.
   *
   * @param config Where and how records are kept; in memory where it is not given.
   * @returns The opened observatory.
   * @throws {ConfigError} If the configuration cannot be used.
   * @throws {BackendError} If the backend cannot be opened.
   */
  static async open(config: PersistenceConfig = {}): Promise<CostObservatory> {
    return new CostObservatory(await openStore(config, DATASETS));
  }

  /**
   * Takes in one cost. Waits only while buffers are full.
   *
   * @param entry The cost entry; its identity is `(entryId, timestamp)`.
   * @returns A promise that resolves when it is accepted; see {@linkcode CostObservatory.flush}.
   * @throws {ValidationError} If a field is missing, unknown or wrong. Nothing was queued.
   */
  addCostEntry(entry: CostEntryInput): Promise<void> {
    return this.#store.add(costEntries, entry);
  }

  /**
   * A stream that takes in cost entries, for pipelines. When it has closed, all are committed.
   *
   * @param options Who is told of entries that are refused.
   * @returns The stream.
   */
  costEntriesSink(options?: SinkOptions): WritableStream<CostEntryInput> {
    return this.#store.sink(costEntries, options);
  }

  /**
   * Reads committed cost entries. Use {@linkcode CostObservatory.streamHistoricalCosts} for many.
   *
   * @param query What to read; all where it is not given.
   * @returns The entries, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  queryHistoricalCosts(query?: CostEntriesQuery): Promise<CostEntry[]> {
    return this.#store.query(costEntries, query);
  }

  /**
   * Streams committed cost entries, in flat memory. To stop early, leave the loop or cancel the stream.
   *
   * @param query What to read; all where it is not given.
   * @returns The entries, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   */
  streamHistoricalCosts(query?: CostEntriesQuery): ReadableStream<CostEntry> {
    return this.#store.stream(costEntries, query);
  }

  /**
   * The exact totals of committed cost entries, added up where they rest: over all, by time, by what they have in
   * common, or both. Currencies are never added together.
   *
   * @param query Which entries, and how they are told apart; all in one where it is not given.
   * @returns A total for each bucket, currency and group, by time, then currency, then group.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   *
   * @example What each team costs a day
   * ```ts
   * import { CostObservatory } from "@openfinops/telemetry";
   * import { strict as assert } from "node:assert";
   *
   * await using costs = new CostObservatory();
   * const entry = { timestamp: Date.UTC(2026, 2, 8, 12), resourceId: "gpu-01", category: "gpu" };
   * await costs.addCostEntry({ ...entry, entryId: "a", amount: "0.1", tags: { team: "nlp" } });
   * await costs.addCostEntry({ ...entry, entryId: "b", amount: "0.2", tags: { team: "nlp" } });
   * await costs.flush();
   * const [day] = await costs.aggregateCosts({
   *   bucket: "1d",
   *   timeZone: "America/New_York",
   *   groupBy: ["category", "tags.team"],
   * });
   * assert.deepEqual(day, {
   *   startTime: Date.UTC(2026, 2, 8, 5), // midnight in New York
   *   endTime: Date.UTC(2026, 2, 9, 4), // 23 hours later
   *   group: { category: "gpu", "tags.team": "nlp" },
   *   currency: "USD",
   *   total: "0.3",
   *   count: 2,
   * });
   * ```
   */
  aggregateCosts(query?: CostAggregateQuery): Promise<CostAggregate[]> {
    return aggregateCosts(this.#store.backend, query);
  }

  /**
   * The newest cost entries that this process has accepted, up to `maxMemoryEntries`, without asking the
   * backend.
   *
   * @returns The entries, in the order of their acceptance.
   */
  recentCosts(): CostEntry[] {
    return this.#store.newest(costEntries);
  }

  /**
   * Deletes cost entries that are older than the retention and gives their space back.
   *
   * @param options The retention in days, and whether to only count.
   * @returns How many entries.
   * @throws {ValidationError} If the retention is no number of days from 0.
   * @throws {BackendError} If the backend cannot be written.
   */
  async cleanupOldData(options?: CleanupOptions): Promise<ObservatoryCleanup> {
    const { cost_entries = 0 } = await this.#store.cleanup(options);
    return { cost_entries };
  }

  /**
   * Commits all that was accepted before.
   *
   * @returns A promise that resolves when it is committed.
   * @throws {BackendError} If the backend is in a state that somebody has to mend. The entries are kept and
   * written as soon as it is mended.
   */
  flush(): Promise<void> {
    return this.#store.flush();
  }

  /**
   * What was taken in, and what became of it.
   *
   * @returns Counters since the start.
   */
  stats(): StoreStats {
    return this.#store.stats();
  }

  /**
   * Ends the intake, commits what is left, and frees what the observatory has opened. Safe to call again.
   *
   * @param options When to give up.
   * @returns What was committed, kept on disk, set aside and lost.
   */
  close(options?: CloseOptions): Promise<CloseReport> {
    return this.#store.close(options);
  }

  /**
   * Closes, for `await using`.
   *
   * @throws {BackendError} If entries were lost: neither committed before the deadline, nor in a spool.
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#store.dispose();
  }
}
