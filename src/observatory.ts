import { aggregateCosts, type CostAggregate } from "./aggregation/aggregate.ts";
import type { CostAggregateQuery } from "./aggregation/aggregate_query.ts";
import type { ReadOptions } from "./backends/backend.ts";
import type { PersistenceConfig } from "./config.ts";
import type { DatasetHandle, SinkOptions } from "./dataset_handle.ts";
import { type AnomalyQuery, findAnomalies } from "./monitoring/anomalies/anomaly_detection.ts";
import type { BudgetInput } from "./monitoring/budgets/budget.ts";
import type { BudgetStatus } from "./monitoring/budgets/budget_status.ts";
import { type BudgetChanges, type BudgetQuery, Budgets } from "./monitoring/budgets/budgets.ts";
import { type CostSummary, costSummary, type CostSummaryOptions } from "./monitoring/cost_summary.ts";
import { CostMonitor } from "./monitoring/cost_monitor.ts";
import { startOfBudgets } from "./monitoring/retention.ts";
import {
  costsOfRuns,
  startRun,
  stopRun,
  type TrainingRun,
  type TrainingRunTimes,
} from "./monitoring/training_runs.ts";
import type { CloseReport } from "./pipeline/pipeline_stats.ts";
import type { CostAnomaly } from "./records/anomaly.ts";
import type { Budget } from "./records/budget.ts";
import { costEntries, type CostEntry, type CostEntryInput } from "./records/cost_entry.ts";
import type { CostEntriesQuery } from "./records/query.ts";
import {
  type CleanupOptions,
  type CloseOptions,
  type OpenedBackend,
  openInMemory,
  openStore,
  RecordStore,
  type StoreStats,
} from "./store.ts";

const DATASETS = [costEntries];

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
  /** Adds and reads cost entries. */
  readonly entries: DatasetHandle<
    CostEntry,
    CostEntryInput,
    CostEntriesQuery,
    CostAggregateQuery,
    CostAggregate
  >;
  readonly #store: RecordStore;
  readonly #budgets: Budgets;

  /** Creates an observatory that keeps its entries in memory only. For all else: {@linkcode CostObservatory.open}. */
  constructor();
  /**
   * @internal
   * @param opened An open backend and its configuration.
   */
  constructor(opened: OpenedBackend);
  constructor(opened: OpenedBackend = openInMemory()) {
    const { backend, emit, config: { anomalyDetection } } = opened;
    const monitor = new CostMonitor(backend, { emit, anomalies: anomalyDetection });
    this.#store = new RecordStore(opened, {
      settle: () => monitor.settle(),
      close: () => monitor.close(),
    });
    this.entries = this.#store.handle(costEntries, {
      aggregate: aggregateCosts,
      sink: monitor.decorate(backend),
      retentionFloor: () => startOfBudgets(backend.documents),
    });
    this.#budgets = new Budgets(backend, { emit, onChange: () => monitor.changed() });
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
    return this.entries.add(entry);
  }

  /**
   * A stream that takes in cost entries, for pipelines. When it has closed, all are committed.
   *
   * @param options Who is told of entries that are refused.
   * @returns The stream.
   */
  costEntriesSink(options?: SinkOptions): WritableStream<CostEntryInput> {
    return this.entries.sink(options);
  }

  /**
   * Reads committed cost entries. Use {@linkcode CostObservatory.streamHistoricalCosts} for many.
   *
   * @param query What to read; all where it is not given.
   * @param options A signal that ends the read.
   * @returns The entries, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  queryHistoricalCosts(query?: CostEntriesQuery, options?: ReadOptions): Promise<CostEntry[]> {
    return this.entries.query(query, options);
  }

  /**
   * Streams committed cost entries, in flat memory. To stop early, leave the loop or cancel the stream.
   *
   * @param query What to read; all where it is not given.
   * @param options A signal that ends the read.
   * @returns The entries, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   */
  streamHistoricalCosts(query?: CostEntriesQuery, options?: ReadOptions): ReadableStream<CostEntry> {
    return this.entries.stream(query, options);
  }

  /**
   * The exact totals of committed cost entries, added up where they rest: over all, by time, by what they have in
   * common, or both. Currencies are never added together.
   *
   * @param query Which entries, and how they are told apart; all in one where it is not given.
   * @param options A signal that ends the read.
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
  aggregateCosts(query?: CostAggregateQuery, options?: ReadOptions): Promise<CostAggregate[]> {
    return this.entries.aggregate(query, options);
  }

  /**
   * The newest cost entries that this process has accepted, up to `maxMemoryEntries`, without asking the
   * backend.
   *
   * @returns The entries, in the order of their acceptance.
   */
  recentCosts(): CostEntry[] {
    return this.entries.recent();
  }

  /**
   * Makes a budget, and stores it in the backend. When what is spent reaches a threshold, `onEvent` is told, once in
   * each period, across processes and restarts. To make the same budget again changes nothing.
   *
   * @param budget What may be spent, on what, and when.
   * @returns The budget with nothing left open.
   * @throws {ValidationError} If a field is missing, unknown or wrong, or there is another budget of this id.
   * @throws {BackendError} If the backend cannot be written.
   *
   * @example A budget of a team
   * ```ts
   * import { CostObservatory } from "@openfinops/telemetry";
   * import { strict as assert } from "node:assert";
   *
   * const told: string[] = [];
   * await using costs = await CostObservatory.open({
   *   connectionString: "sqlite://",
   *   onEvent: ({ type, message }) => void (type === "budget-threshold" && told.push(message)),
   * });
   * await costs.createBudget({ budgetId: "nlp", amount: "100", tags: { team: "nlp" } });
   * await costs.addCostEntry({
   *   entryId: "a",
   *   timestamp: Date.now(),
   *   resourceId: "gpu-01",
   *   category: "gpu",
   *   amount: "80.5",
   *   tags: { team: "nlp" },
   * });
   * await costs.flush();
   * const [nlp] = await costs.getBudgetStatus({ budgetId: "nlp" });
   * assert.deepEqual([nlp.status, nlp.spent, nlp.remaining], ["approaching_limit", "80.5", "19.5"]);
   * assert.deepEqual(nlp.crossed.map(({ threshold }) => threshold), [50, 80]);
   * assert.equal(told[1], "Budget nlp has reached 80 %: 80.5 of 100 USD are spent");
   * ```
   */
  createBudget(budget: BudgetInput): Promise<Budget> {
    return this.#budgets.create(budget);
  }

  /**
   * Changes a budget. Thresholds that are no longer reached by it can be crossed again.
   *
   * @param budgetId The id of the budget.
   * @param changes The fields that change; null takes one back to its default.
   * @returns The changed budget.
   * @throws {ValidationError} If there is no such budget, or a field is unknown or wrong.
   * @throws {BackendError} If the backend cannot be written.
   */
  updateBudget(budgetId: string, changes: BudgetChanges): Promise<Budget> {
    return this.#budgets.update(budgetId, changes);
  }

  /**
   * Deletes a budget, and what is known of its thresholds. Costs stay.
   *
   * @param budgetId The id of the budget.
   * @returns Whether there was one.
   * @throws {BackendError} If the backend cannot be written.
   */
  deleteBudget(budgetId: string): Promise<boolean> {
    return this.#budgets.delete(budgetId);
  }

  /**
   * Returns the status of budgets from the committed costs of all processes, exactly.
   *
   * @param query Which budgets, and of when.
   * @returns Each budget, by id.
   * @throws {ValidationError} If there is no such budget, or the time is none.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getBudgetStatus(query?: BudgetQuery): Promise<BudgetStatus[]> {
    await this.#store.ready();
    return await this.#budgets.status(query);
  }

  /**
   * Returns spending: totals, change, categories and the most expensive resources, from the costs that
   * are committed.
   *
   * @param options Of which time; the last 24 hours where it is not given.
   * @returns A summary of each currency.
   * @throws {ValidationError} If an option is wrong.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getCostSummary(options?: CostSummaryOptions): Promise<CostSummary> {
    await this.#store.ready();
    return await costSummary(this.#store.backend, options);
  }

  /**
   * The days on which something cost far more or far less than on the like days before: by the five weeks before each
   * day, weekday by weekday, by medians. With `anomalyDetection` in the configuration, `onEvent` is told of such a day
   * while it lasts.
   *
   * @param query Which days and costs, and what is told apart; the last 30 days, by category and resource, where it is
   * not given.
   * @returns The days, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getCostAnomalies(query?: AnomalyQuery): Promise<CostAnomaly[]> {
    await this.#store.ready();
    return await findAnomalies(this.#store.backend, query);
  }

  /**
   * Begins to track what a training run costs: all costs with the tag `training_run_id`, from now on. Stored in the
   * backend, so that another process can end it.
   *
   * @param trainingRunId The id; an earlier run with this id starts over.
   * @param options When it began; now where it is not given.
   * @returns When it began.
   * @throws {ValidationError} If the id or the time is none.
   * @throws {BackendError} If the backend cannot be written.
   *
   * @example What a run costs
   * ```ts
   * import { CostObservatory } from "@openfinops/telemetry";
   * import { strict as assert } from "node:assert";
   *
   * await using costs = new CostObservatory();
   * const startTime = Date.UTC(2026, 0, 1);
   * await costs.startTrainingRunTracking("llm-7b", { startTime });
   * await costs.addCostEntry({
   *   entryId: "a",
   *   timestamp: startTime,
   *   resourceId: "gpu-01",
   *   category: "gpu",
   *   amount: "12.5",
   *   tags: { training_run_id: "llm-7b" },
   * });
   * await costs.flush();
   * const run = await costs.stopTrainingRunTracking("llm-7b", { endTime: Date.UTC(2026, 0, 1, 5) });
   * assert.deepEqual(run.totals, [{ currency: "USD", total: "12.5", count: 1, costPerHour: "2.5" }]);
   * ```
   */
  startTrainingRunTracking(
    trainingRunId: string,
    options?: { startTime?: number | Date },
  ): Promise<TrainingRunTimes> {
    return startRun(this.#store.backend, trainingRunId, options);
  }

  /**
   * Ends the tracking of a training run. Costs of the run that come in later are in what
   * {@linkcode CostObservatory.getTrainingRuns} gives.
   *
   * @param trainingRunId The id.
   * @param options When it ended; now where it is not given.
   * @returns What it has cost so far, by the costs that are committed.
   * @throws {ValidationError} If there is no such run, or the time is none.
   * @throws {BackendError} If the backend cannot be written or read.
   */
  async stopTrainingRunTracking(
    trainingRunId: string,
    options?: { endTime?: number | Date },
  ): Promise<TrainingRun> {
    await this.#store.ready();
    return await stopRun(this.#store.backend, trainingRunId, options);
  }

  /**
   * Returns the committed cost of training runs.
   *
   * @param trainingRunId Only this one; all where it is not given.
   * @returns Each run, by id.
   * @throws {ValidationError} If there is no such run.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getTrainingRuns(trainingRunId?: string): Promise<TrainingRun[]> {
    await this.#store.ready();
    return await costsOfRuns(this.#store.backend, trainingRunId);
  }

  /**
   * Deletes cost entries that are older than the retention and gives their space back. Those that count in a present
   * period of a budget stay, as what is spent would be forgotten with them.
   *
   * @param options The retention in days, and whether to only count.
   * @returns How many entries.
   * @throws {ValidationError} If the retention is no number of days from 0.
   * @throws {BackendError} If the backend cannot be written.
   */
  async cleanupOldData(options?: CleanupOptions): Promise<Record<"cost_entries", number>> {
    const { cost_entries = 0 } = await this.#store.cleanup(options);
    return { cost_entries };
  }

  /**
   * Commits all that was accepted before. While the spool cannot be written or read it waits, without an end, until
   * it is fixed. The event `paused` and `alarm` in the counters report it.
   *
   * @returns A promise that resolves when it is committed.
   * @throws {BackendError} If an operator must fix the backend. The entries are kept and
   * written as soon as it is fixed.
   */
  flush(): Promise<void> {
    return this.#store.flush();
  }

  /**
   * Returns the counters.
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
