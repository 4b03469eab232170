import {
  aggregateCosts,
  aggregateFields,
  type CostAggregate,
  type UsageAggregate,
} from "./aggregation/aggregate.ts";
import type { CostAggregateQuery, UsageRecordsAggregateQuery } from "./aggregation/aggregate_query.ts";
import type { ReadOptions } from "./backends/backend.ts";
import type { PersistenceConfig } from "./config.ts";
import type { DatasetHandle, SinkOptions } from "./dataset_handle.ts";
import type { ObservabilityHub } from "./hub.ts";
import {
  acknowledgeAnomaly,
  type AnomalyAcknowledgement,
  listAnomalies,
} from "./monitoring/anomalies/acknowledgements.ts";
import type { AnomalyQuery } from "./monitoring/anomalies/anomalies.ts";
import type { BudgetInput } from "./monitoring/budgets/budget.ts";
import type { BudgetStatus } from "./monitoring/budgets/budget_status.ts";
import { type BudgetChanges, type BudgetQuery, Budgets } from "./monitoring/budgets/budgets.ts";
import { type CostSummary, costSummary, type CostSummaryOptions } from "./views/costs.ts";
import { BuiltInPrices } from "./pricing/built_in_prices.ts";
import { PriceBook } from "./pricing/price_book.ts";
import { pricingSink } from "./pricing/pricing_sink.ts";
import { CostMonitor } from "./monitoring/cost_monitor.ts";
import { type CleanupOptions, startOfBudgets } from "./monitoring/retention.ts";
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
import type { DatasetName } from "./records/dataset.ts";
import type { CostEntriesQuery, UsageRecordsQuery } from "./records/query.ts";
import { type UsageRecord, type UsageRecordInput, usageRecords } from "./records/usage_record.ts";
import { assertOpened, type OpenedBackend, openInMemory, openStore } from "./open_store.ts";
import { type CloseOptions, RecordStore, type StoreStats } from "./store.ts";

const DATASETS = [costEntries, usageRecords];

/**
 * Stores cost entries exactly, and evaluates budgets and anomalies.
 *
 * {@linkcode CostObservatory.entries} adds and reads entries. `addCostEntry`, `queryHistoricalCosts` and the other methods
 * about entries are the same under the names of OpenFinOps.
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
  /** Adds and reads usage records. */
  readonly usage: DatasetHandle<
    UsageRecord,
    UsageRecordInput,
    UsageRecordsQuery,
    UsageRecordsAggregateQuery,
    UsageAggregate
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
    assertOpened(opened, "CostObservatory");
    const { backend, emit, config: { anomalyDetection, timeZone } } = opened;
    const monitor = new CostMonitor(backend, { emit, anomalies: anomalyDetection });
    this.#store = new RecordStore(opened, {
      settle: () => monitor.settle(),
      close: () => monitor.close(),
    });
    const sink = monitor.decorate(backend);
    this.entries = this.#store.handle(costEntries, {
      aggregate: aggregateCosts,
      sink,
      retentionFloor: () => startOfBudgets(backend.documents),
    });
    this.usage = this.#store.handle(usageRecords, {
      aggregate: (backend, query) => aggregateFields(backend, usageRecords, query),
      sink: opened.prices && pricingSink(backend, { costs: sink, readPrices: opened.prices }),
    });
    this.#budgets = new Budgets(backend, {
      emit,
      onChange: () => monitor.changed(),
      isClosed: () => monitor.isClosed,
      timeZone,
    });
  }

  /**
   * Opens an observatory and its backend.
   *
   * @param config Storage, batching and retention; records in memory where absent.
   * @returns The opened observatory.
   * @throws {ConfigError} If the configuration cannot be used.
   * @throws {BackendError} If the backend cannot be opened.
   */
  static async open(config: PersistenceConfig = {}): Promise<CostObservatory> {
    const opened = await openStore(config, DATASETS);
    if (!opened.config.priceUsage) return new CostObservatory(opened);
    const builtIn = await BuiltInPrices.load();
    const prices = () => PriceBook.read(opened.backend.documents, builtIn);
    return new CostObservatory({ ...opened, prices });
  }

  /**
   * Adds one cost: `entries.add()`.
   *
   * @param entry The cost entry; its identity is `(entryId, timestamp)`.
   * @returns A promise that resolves when it is accepted, not yet committed; see {@linkcode CostObservatory.flush}.
   * @throws {ValidationError} If a field is missing, unknown or wrong. Nothing was queued.
   */
  addCostEntry(entry: CostEntryInput): Promise<void> {
    return this.entries.add(entry);
  }

  /**
   * Opens a stream that adds cost entries: `entries.sink()`. Closing it commits them.
   *
   * @param options What happens to entries that validation refuses.
   * @returns The stream.
   */
  costEntriesSink(options?: SinkOptions): WritableStream<CostEntryInput> {
    return this.entries.sink(options);
  }

  /**
   * Reads committed cost entries: `entries.query()`.
   *
   * @param query Filters, time range, order and limit; all records where absent.
   * @param options A signal that ends the read.
   * @returns The entries, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  queryHistoricalCosts(query?: CostEntriesQuery, options?: ReadOptions): Promise<CostEntry[]> {
    return this.entries.query(query, options);
  }

  /**
   * Streams committed cost entries in flat memory: `entries.stream()`.
   *
   * @param query Filters, time range, order and limit; all records where absent.
   * @param options A signal that ends the read.
   * @returns The entries, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   */
  streamHistoricalCosts(query?: CostEntriesQuery, options?: ReadOptions): ReadableStream<CostEntry> {
    return this.entries.stream(query, options);
  }

  /**
   * Returns exact totals of committed cost entries by time bucket and group, summed in the backend: `entries.aggregate()`.
   * Currencies are never added together.
   *
   * @param query Filters, time range, buckets and groups; one total for each currency where absent.
   * @param options A signal that ends the read.
   * @returns A total for each bucket, currency and group, by time, then currency, then group.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   *
   * @example Cost of each team by day
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
   * Returns the newest cost entries that this process has accepted: `entries.recent()`.
   *
   * @returns The entries, in the order of acceptance.
   */
  recentCosts(): CostEntry[] {
    return this.entries.recent();
  }

  /**
   * Stores a budget in the backend. `onEvent` gets an event when spend reaches a threshold, once in each period over all
   * processes and restarts. Creating the same budget again changes nothing.
   *
   * @param budget Amount, filters, period and thresholds.
   * @returns The budget with all defaults filled in.
   * @throws {ValidationError} If a field is missing, unknown or wrong, or another budget has this id.
   * @throws {BackendError} If the backend cannot be written.
   *
   * @example Budget of a team
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
   * Changes a budget. Thresholds above the current spend can be reached again.
   *
   * @param budgetId The id of the budget.
   * @param changes The fields that change; null resets a field to its default.
   * @returns The changed budget.
   * @throws {ValidationError} If there is no such budget, or a field is unknown or wrong.
   * @throws {BackendError} If the backend cannot be written.
   */
  updateBudget(budgetId: string, changes: BudgetChanges): Promise<Budget> {
    return this.#budgets.update(budgetId, changes);
  }

  /**
   * Deletes a budget. Costs stay.
   *
   * @param budgetId The id of the budget.
   * @returns True if there was one.
   * @throws {BackendError} If the backend cannot be written.
   */
  deleteBudget(budgetId: string): Promise<boolean> {
    return this.#budgets.delete(budgetId);
  }

  /**
   * Returns the status of budgets from the committed costs of all processes, exactly.
   *
   * @param query Id of a budget, and the time; all budgets and now where absent.
   * @returns The budgets, by id.
   * @throws {ValidationError} If there is no such budget, or the time is invalid.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getBudgetStatus(query?: BudgetQuery): Promise<BudgetStatus[]> {
    await this.#store.ready();
    return await this.#budgets.status(query);
  }

  /**
   * Returns spending by currency: the total of a month or another range, the same days and the whole period before, a
   * forecast, and the most expensive groups, from the costs that are committed.
   *
   * @param options Time range, filters, groups and the time of the summary; this month where absent.
   * @returns A summary for each currency; of estimated costs apart.
   * @throws {ValidationError} If an option is wrong.
   * @throws {BackendError} If the backend cannot be read.
   *
   * @example October, by team
   * ```ts
   * import { CostObservatory } from "@openfinops/telemetry";
   *
   * await using costs = new CostObservatory();
   * const asked = { startTime: "2026-10", endTime: "2026-11", timeZone: "Europe/Berlin", groupBy: ["tags.team"] };
   * for (const { currency, total, change, breakdowns } of (await costs.getCostSummary(asked)).currencies) {
   *   console.log(currency, total, change, breakdowns[0].rows);
   * }
   * ```
   */
  async getCostSummary(options?: CostSummaryOptions): Promise<CostSummary> {
    await this.#store.ready();
    return await costSummary(this.#store.backend, { timeZone: this.#store.config.timeZone, ...options });
  }

  /**
   * Returns the days on which a series cost far more or far less than expected, began, or stopped, from medians of the 14
   * weeks before. With `anomalyDetection` in the configuration, `onEvent` gets an event for each such day.
   *
   * @param query Time range, filters and groups; the last 30 days by category and service where absent.
   * @returns The days, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getCostAnomalies(query?: AnomalyQuery): Promise<CostAnomaly[]> {
    await this.#store.ready();
    return await listAnomalies(this.#store.backend, { timeZone: this.#store.config.timeZone, ...query });
  }

  /**
   * Acknowledges an anomaly. {@linkcode CostObservatory.getCostAnomalies} still returns it. Does not check that the
   * anomaly exists, as that would read months of costs.
   *
   * @param anomalyId The id of the anomaly.
   * @param options Name of the person; the stored name is kept where absent.
   * @returns The acknowledgement.
   * @throws {ValidationError} If it is not the id of an anomaly.
   * @throws {BackendError} If the backend cannot be written.
   */
  acknowledgeCostAnomaly(anomalyId: string, options?: { by?: string }): Promise<AnomalyAcknowledgement> {
    return acknowledgeAnomaly(this.#store.backend.documents, anomalyId, options);
  }

  /**
   * Starts tracking the cost of a training run: costs with the tag `training_run_id`. Stored in the backend, so that
   * another process can end it.
   *
   * @param trainingRunId The id. It restarts a run with the same id.
   * @param options Start time; now where absent.
   * @returns The id and the start time.
   * @throws {ValidationError} If the id or the time is invalid.
   * @throws {BackendError} If the backend cannot be written.
   *
   * @example Cost of a run
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
   * Stops tracking a training run. {@linkcode CostObservatory.getTrainingRuns} includes costs of the run that arrive later.
   *
   * @param trainingRunId The id.
   * @param options End time; now where absent.
   * @returns The cost of the run, by committed costs.
   * @throws {ValidationError} If there is no such run, or the time is invalid.
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
   * @param trainingRunId Id of a run; all runs where absent.
   * @returns The runs, by id.
   * @throws {ValidationError} If there is no such run.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getTrainingRuns(trainingRunId?: string): Promise<TrainingRun[]> {
    await this.#store.ready();
    return await costsOfRuns(this.#store.backend, trainingRunId);
  }

  /**
   * Deletes cost entries older than a retention that was given for them, and frees their space. Without a number, none is
   * deleted. Entries that count in a current period of a budget stay.
   *
   * @param options Retention in days, dry run, and time budget.
   * @returns Number of deleted entries.
   * @throws {ValidationError} If a retention is not a number of days from 0.
   * @throws {BackendError} If the backend cannot be written.
   */
  async cleanupOldData(options?: CleanupOptions): Promise<Record<"cost_entries" | "usage_records", number>> {
    const { cost_entries = 0, usage_records = 0 } = await this.#store.cleanup(options);
    return { cost_entries, usage_records };
  }

  /**
   * Commits all that was accepted before. Blocks while the spool cannot be written or read; the event `paused` and
   * `alarm` in the counters report that.
   *
   * @returns A promise that resolves when it is committed.
   * @throws {BackendError} If the backend needs an operator, as for a missing privilege. The entries are kept, and written
   * once that is fixed.
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
   * Ends the intake, commits what is left, and closes what the observatory has opened. A second call returns the same
   * report.
   *
   * @param options Time to commit what is left, 10 s by default.
   * @returns Number of records committed, spooled, dead-lettered and lost.
   */
  close(options?: CloseOptions): Promise<CloseReport> {
    return this.#store.close(options);
  }

  /**
   * Closes at the end of an `await using` block.
   *
   * @throws {BackendError} If entries were lost: neither committed before the deadline, nor in a spool.
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#store.dispose();
  }
}

/** Returns the handle of each dataset, to add records that are checked when they are added. */
export function handlesOf(
  { hub, costs }: { hub: ObservabilityHub; costs: CostObservatory },
): Readonly<Record<DatasetName, Pick<DatasetHandle<unknown, never>, "add" | "append">>> {
  return {
    system_metrics: hub.systemMetrics,
    service_metrics: hub.serviceMetrics,
    device_metrics: hub.deviceMetrics,
    metric_points: hub.metricPoints,
    usage_records: costs.usage,
    cost_entries: costs.entries,
  };
}
