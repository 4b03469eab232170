import { aggregateMetrics, type MetricsAggregate } from "./aggregation/aggregate.ts";
import type {
  ServiceMetricsAggregateQuery,
  SystemMetricsAggregateQuery,
} from "./aggregation/aggregate_query.ts";
import type { ReadOptions } from "./backends/backend.ts";
import type { PersistenceConfig } from "./config.ts";
import type { DatasetHandle, SinkOptions } from "./dataset_handle.ts";
import type { AlertRule, AlertRuleInput } from "./monitoring/alerts/alert_rules.ts";
import { AlertMonitor, allRules } from "./monitoring/alerts/alert_monitor.ts";
import { Alerts, type AlertsQuery } from "./monitoring/alerts/alerts.ts";
import {
  acceptCluster,
  acceptService,
  type Cluster,
  type ClusterHealthSummary,
  clusterHealthSummary,
  type HealthOptions,
  healthWindow,
  type Service,
  type ServiceDependencyMap,
  serviceDependencyMap,
} from "./monitoring/health.ts";
import { CLUSTER, SERVICE } from "./monitoring/document_kinds.ts";
import type { CloseReport } from "./pipeline/pipeline_stats.ts";
import type { Alert } from "./records/alert.ts";
import type { ServiceMetricsQuery, SystemMetricsQuery } from "./records/query.ts";
import { type ServiceMetrics, serviceMetrics, type ServiceMetricsInput } from "./records/service_metrics.ts";
import { type SystemMetrics, systemMetrics, type SystemMetricsInput } from "./records/system_metrics.ts";
import {
  type CleanupOptions,
  type CloseOptions,
  type OpenedBackend,
  openInMemory,
  openStore,
  RecordStore,
  type StoreStats,
} from "./store.ts";

const DATASETS = [systemMetrics, serviceMetrics];

/** Metrics as the alert monitor reads them. */
type Observed = Parameters<AlertMonitor["observe"]>[1];

/**
 * Takes in system and service metrics and keeps them in a backend.
 *
 * @example Collect, flush, read back
 * ```ts
 * import { ObservabilityHub } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * await using hub = await ObservabilityHub.open({ connectionString: "sqlite://" });
 * await hub.collectSystemMetrics({ timestamp: Date.now(), clusterId: "prod", cpuUsage: 41.2 });
 * await hub.flush();
 * const [metrics] = await hub.queryHistoricalMetrics({ clusterId: "prod" });
 * assert.equal(metrics.cpuUsage, 41.2);
 * ```
 */
export class ObservabilityHub implements AsyncDisposable {
  /** Adds and reads observations of nodes. */
  readonly systemMetrics: DatasetHandle<
    SystemMetrics,
    SystemMetricsInput,
    SystemMetricsQuery,
    SystemMetricsAggregateQuery,
    MetricsAggregate
  >;
  /** Adds and reads observations of services. */
  readonly serviceMetrics: DatasetHandle<
    ServiceMetrics,
    ServiceMetricsInput,
    ServiceMetricsQuery,
    ServiceMetricsAggregateQuery,
    MetricsAggregate
  >;
  readonly #store: RecordStore;
  readonly #monitor: AlertMonitor;
  readonly #alerts: Alerts;

  /** Creates a hub that keeps its records in memory only. For all else: {@linkcode ObservabilityHub.open}. */
  constructor();
  /**
   * @internal
   * @param opened An open backend and its configuration.
   */
  constructor(opened: OpenedBackend);
  constructor(opened: OpenedBackend = openInMemory()) {
    const { documents } = opened.backend;
    const monitor = new AlertMonitor(documents, opened.emit);
    const store = new RecordStore(opened, { close: () => monitor.close() });
    this.systemMetrics = store.handle(systemMetrics, {
      aggregate: (backend, query) => aggregateMetrics(backend, systemMetrics, query),
      onAccepted: (metrics) => monitor.observe("system_metrics", metrics as unknown as Observed),
    });
    this.serviceMetrics = store.handle(serviceMetrics, {
      aggregate: (backend, query) => aggregateMetrics(backend, serviceMetrics, query),
      onAccepted: (metrics) => monitor.observe("service_metrics", metrics as unknown as Observed),
    });
    this.#store = store;
    this.#monitor = monitor;
    this.#alerts = new Alerts(documents, monitor);
  }

  /**
   * Opens a hub, and the backend that the configuration names.
   *
   * @param config Where and how records are kept; in memory where it is not given.
   * @returns The opened hub.
   * @throws {ConfigError} If the configuration cannot be used.
   * @throws {BackendError} If the backend cannot be opened.
   */
  static async open(config: PersistenceConfig = {}): Promise<ObservabilityHub> {
    const hub = new ObservabilityHub(await openStore(config, DATASETS));
    await hub.#monitor.load();
    return hub;
  }

  /**
   * Takes in one observation of a node. Waits only while buffers are full.
   *
   * @param metrics The observation.
   * @returns A promise that resolves when it is accepted; see {@linkcode ObservabilityHub.flush}.
   * @throws {ValidationError} If a field is missing, unknown or wrong. Nothing was queued.
   */
  collectSystemMetrics(metrics: SystemMetricsInput): Promise<void> {
    return this.systemMetrics.add(metrics);
  }

  /**
   * Takes in one observation of a service. Waits only while buffers are full.
   *
   * @param metrics The observation.
   * @returns A promise that resolves when it is accepted; see {@linkcode ObservabilityHub.flush}.
   * @throws {ValidationError} If a field is missing, unknown or wrong. Nothing was queued.
   */
  collectServiceMetrics(metrics: ServiceMetricsInput): Promise<void> {
    return this.serviceMetrics.add(metrics);
  }

  /**
   * A stream that takes in system metrics, for pipelines. When it has closed, all are committed.
   *
   * @param options Who is told of records that are refused.
   * @returns The stream.
   *
   * @example Pipe records in
   * ```ts
   * import { ObservabilityHub } from "@openfinops/telemetry";
   *
   * await using hub = new ObservabilityHub();
   * await ReadableStream.from([{ timestamp: Date.now(), cpuUsage: 12.5 }])
   *   .pipeTo(hub.systemMetricsSink());
   * ```
   */
  systemMetricsSink(options?: SinkOptions): WritableStream<SystemMetricsInput> {
    return this.systemMetrics.sink(options);
  }

  /**
   * A stream that takes in service metrics, for pipelines. When it has closed, all are committed.
   *
   * @param options Who is told of records that are refused.
   * @returns The stream.
   */
  serviceMetricsSink(options?: SinkOptions): WritableStream<ServiceMetricsInput> {
    return this.serviceMetrics.sink(options);
  }

  /**
   * Reads committed system metrics. Use {@linkcode ObservabilityHub.streamHistoricalMetrics} for many.
   *
   * @param query What to read; all where it is not given.
   * @param options A signal that ends the read.
   * @returns The records, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  queryHistoricalMetrics(query?: SystemMetricsQuery, options?: ReadOptions): Promise<SystemMetrics[]> {
    return this.systemMetrics.query(query, options);
  }

  /**
   * Reads committed service metrics.
   *
   * @param query What to read; all where it is not given.
   * @param options A signal that ends the read.
   * @returns The records, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  queryHistoricalServiceMetrics(
    query?: ServiceMetricsQuery,
    options?: ReadOptions,
  ): Promise<ServiceMetrics[]> {
    return this.serviceMetrics.query(query, options);
  }

  /**
   * Streams committed system metrics, in flat memory. To stop early, leave the loop or cancel the stream.
   *
   * @param query What to read; all where it is not given.
   * @param options A signal that ends the read.
   * @returns The records, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   */
  streamHistoricalMetrics(query?: SystemMetricsQuery, options?: ReadOptions): ReadableStream<SystemMetrics> {
    return this.systemMetrics.stream(query, options);
  }

  /**
   * Streams committed service metrics, in flat memory.
   *
   * @param query What to read; all where it is not given.
   * @param options A signal that ends the read.
   * @returns The records, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   */
  streamHistoricalServiceMetrics(
    query?: ServiceMetricsQuery,
    options?: ReadOptions,
  ): ReadableStream<ServiceMetrics> {
    return this.serviceMetrics.stream(query, options);
  }

  /**
   * Puts committed system metrics together where they rest: by time, by what they have in common, or both.
   *
   * @param query Which metrics, how they are told apart, and what is wanted of which fields.
   * @param options A signal that ends the read.
   * @returns A row for each bucket and group, by time and then by group.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   *
   * @example The load of each cluster, hour by hour
   * ```ts
   * import { ObservabilityHub } from "@openfinops/telemetry";
   * import { strict as assert } from "node:assert";
   *
   * await using hub = new ObservabilityHub();
   * const timestamp = Date.UTC(2026, 0, 1, 12, 30);
   * await hub.collectSystemMetrics({ timestamp, clusterId: "prod", cpuUsage: 40 });
   * await hub.collectSystemMetrics({ timestamp, clusterId: "prod", cpuUsage: 60 });
   * await hub.flush();
   * const [hour] = await hub.aggregateMetrics({
   *   bucket: "1h",
   *   groupBy: ["clusterId"],
   *   fields: { cpuUsage: ["avg", "max", "p95"] },
   * });
   * assert.equal(hour.startTime, Date.UTC(2026, 0, 1, 12));
   * assert.deepEqual(hour.group, { clusterId: "prod" });
   * assert.deepEqual(hour.fields.cpuUsage, { avg: 50, max: 60, p95: 59 });
   * ```
   */
  aggregateMetrics(query?: SystemMetricsAggregateQuery, options?: ReadOptions): Promise<MetricsAggregate[]> {
    return this.systemMetrics.aggregate(query, options);
  }

  /**
   * Puts committed service metrics together, as {@linkcode ObservabilityHub.aggregateMetrics} does.
   *
   * @param query Which metrics, how they are told apart, and what is wanted of which fields.
   * @param options A signal that ends the read.
   * @returns A row for each bucket and group, by time and then by group.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  aggregateServiceMetrics(
    query?: ServiceMetricsAggregateQuery,
    options?: ReadOptions,
  ): Promise<MetricsAggregate[]> {
    return this.serviceMetrics.aggregate(query, options);
  }

  /**
   * The newest system metrics that this process has accepted, up to `maxMemoryEntries`, without asking the
   * backend.
   *
   * @returns The records, in the order of their acceptance.
   */
  recentSystemMetrics(): SystemMetrics[] {
    return this.systemMetrics.recent();
  }

  /**
   * The newest service metrics that this process has accepted, up to `maxMemoryEntries`, without asking the
   * backend.
   *
   * @returns The records, in the order of their acceptance.
   */
  recentServiceMetrics(): ServiceMetrics[] {
    return this.serviceMetrics.recent();
  }

  /**
   * Tells of a cluster: its region, and the nodes that it should have. Stored in the backend.
   *
   * @param cluster The cluster; it takes the place of the one that was registered with this id.
   * @returns A promise that resolves when it is stored.
   * @throws {ValidationError} If a field is missing, unknown or wrong.
   * @throws {BackendError} If the backend cannot be written.
   */
  async registerCluster(cluster: Cluster): Promise<void> {
    const body = acceptCluster(cluster);
    await this.#store.backend.documents.write({ kind: CLUSTER, id: body.clusterId, body });
  }

  /**
   * Tells of a service: where it runs, and what it depends on. Stored in the backend.
   *
   * @param service The service; it takes the place of the one that was registered with this name.
   * @returns A promise that resolves when it is stored.
   * @throws {ValidationError} If a field is missing, unknown or wrong.
   * @throws {BackendError} If the backend cannot be written.
   */
  async registerService(service: Service): Promise<void> {
    const body = acceptService(service);
    await this.#store.backend.documents.write({ kind: SERVICE, id: body.serviceName, body });
  }

  /**
   * Returns cluster health from the newest metrics of each node, committed or in this process, and the active alerts.
   *
   * @param options Of when, and how long a node may be silent.
   * @returns Each cluster, by id, and the active alerts.
   * @throws {ValidationError} If an option is wrong.
   * @throws {BackendError} If the backend cannot be read.
   *
   * @example A node that overheats
   * ```ts
   * import { ObservabilityHub } from "@openfinops/telemetry";
   * import { strict as assert } from "node:assert";
   *
   * await using hub = new ObservabilityHub();
   * await hub.registerCluster({ clusterId: "prod", nodes: ["gpu-01", "gpu-02"] });
   * const now = Date.now();
   * for (const ms of [60_000, 30_000, 0]) { // hot for a minute
   *   await hub.collectSystemMetrics({
   *     timestamp: now - ms,
   *     clusterId: "prod",
   *     nodeId: "gpu-01",
   *     temperature: 91,
   *   });
   * }
   * const { clusters: [prod], alerts: [alert] } = await hub.getClusterHealthSummary();
   * assert.equal(prod.status, "critical");
   * assert.deepEqual(prod.nodesBy, { healthy: 0, warning: 0, critical: 1, down: 1 });
   * assert.deepEqual(prod.silentNodes, ["gpu-02"]);
   * assert.equal(alert.rule, "gpu_overheating");
   * ```
   */
  async getClusterHealthSummary(options?: HealthOptions): Promise<ClusterHealthSummary> {
    return await clusterHealthSummary(this.#store.backend, {
      window: healthWindow(options),
      recent: this.systemMetrics.recent(),
      alerts: await this.#alerts.list(),
    });
  }

  /**
   * The services and what they depend on, with the state that each has told last.
   *
   * @param options Of when, and how long a service may be silent.
   * @returns Services as nodes, dependencies as edges.
   * @throws {ValidationError} If an option is wrong.
   * @throws {BackendError} If the backend cannot be read.
   */
  async getServiceDependencyMap(options?: HealthOptions): Promise<ServiceDependencyMap> {
    return await serviceDependencyMap(this.#store.backend, {
      window: healthWindow(options),
      recent: this.serviceMetrics.recent(),
    });
  }

  /**
   * Sets when an alert fires. Stored in the backend; other processes apply it from their next start. There are rules
   * without anybody's doing: `high_cpu_usage`, `high_memory_usage`, `gpu_overheating`, `high_error_rate`,
   * `low_success_rate` and `service_down`.
   *
   * @param rule The rule; it takes the place of the one with this name, whose active alerts are resolved where it differs.
   * @returns The rule with nothing left open.
   * @throws {ValidationError} If a field is missing, unknown or wrong.
   * @throws {BackendError} If the backend cannot be written.
   *
   * @example A rule of one's own
   * ```ts
   * import { ObservabilityHub } from "@openfinops/telemetry";
   *
   * await using hub = new ObservabilityHub();
   * await hub.setAlertRule({
   *   name: "idle_gpu",
   *   field: "gpuUsage",
   *   below: 5,
   *   durationMs: 30 * 60_000,
   *   severity: "info",
   *   description: "A GPU that is paid for and not used",
   * });
   * await hub.setAlertRule({ name: "high_cpu_usage", field: "cpuUsage", above: 90, isEnabled: false });
   * ```
   */
  setAlertRule(rule: AlertRuleInput): Promise<AlertRule> {
    return this.#alerts.setRule(rule);
  }

  /**
   * Removes a rule that was set, and resolves its alerts; a default rule of this name is in use again.
   *
   * @param name The name of the rule.
   * @returns Whether there was one.
   * @throws {BackendError} If the backend cannot be written.
   */
  removeAlertRule(name: string): Promise<boolean> {
    return this.#alerts.removeRule(name);
  }

  /**
   * The rules by which alerts fire: the default rules, and those that were set.
   *
   * @returns The rules.
   * @throws {BackendError} If the backend cannot be read.
   */
  getAlertRules(): Promise<AlertRule[]> {
    return allRules(this.#store.backend.documents);
  }

  /**
   * The alerts that are active, of this process and of others. There is one for each rule and each node or service; it
   * fires once, is told to `onEvent`, and is resolved by the first metrics that do not break the rule.
   *
   * @param query Whether those that are resolved are wanted as well.
   * @returns The alerts, the worst first.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  getAlerts(query?: AlertsQuery): Promise<Alert[]> {
    return this.#alerts.list(query);
  }

  /**
   * Takes note of an active alert. It stays active, and counts as not acknowledged when it fires again.
   *
   * @param alertId The id of the alert.
   * @param options Who takes note.
   * @returns The alert.
   * @throws {ValidationError} If there is no such active alert.
   * @throws {BackendError} If the backend cannot be written.
   */
  acknowledgeAlert(alertId: string, options?: { by?: string }): Promise<Alert> {
    return this.#alerts.acknowledge(alertId, options);
  }

  /**
   * Resolves an alert by hand, as of a node that is gone. It fires again if metrics break the rule again.
   *
   * @param alertId The id of the alert.
   * @returns The alert.
   * @throws {ValidationError} If there is no such active alert.
   * @throws {BackendError} If the backend cannot be written.
   */
  resolveAlert(alertId: string): Promise<Alert> {
    return this.#alerts.resolve(alertId);
  }

  /**
   * Deletes metrics that are older than the retention and gives their space back.
   *
   * @param options The retention in days, and whether to only count.
   * @returns How many records of each dataset.
   * @throws {ValidationError} If the retention is no number of days from 0.
   * @throws {BackendError} If the backend cannot be written.
   */
  async cleanupOldData(
    options?: CleanupOptions,
  ): Promise<Record<"system_metrics" | "service_metrics", number>> {
    const { system_metrics = 0, service_metrics = 0 } = await this.#store.cleanup(options);
    return { system_metrics, service_metrics };
  }

  /**
   * Commits all that was accepted before. While the spool cannot be written or read it waits, without an end, until
   * it is fixed. The event `paused` and `alarm` in the counters report it.
   *
   * @returns A promise that resolves when it is committed.
   * @throws {BackendError} If an operator must fix the backend. The records are kept and
   * written as soon as it is fixed.
   */
  flush(): Promise<void> {
    return this.#store.flush();
  }

  /**
   * Returns the counters.
   *
   * @returns Counters since the start, by dataset.
   */
  stats(): StoreStats {
    return this.#store.stats();
  }

  /**
   * Ends the intake, commits what is left, and frees what the hub has opened. Safe to call again.
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
   * @throws {BackendError} If records were lost: neither committed before the deadline, nor in a spool.
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#store.dispose();
  }
}
