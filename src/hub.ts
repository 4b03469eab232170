import { aggregateMetrics, type MetricsAggregate } from "./aggregation/aggregate.ts";
import type {
  DeviceMetricsAggregateQuery,
  MetricPointsAggregateQuery,
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
  type Cluster,
  type ClusterHealthSummary,
  clusterHealthSummary,
  type HealthOptions,
  healthWindow,
} from "./monitoring/health.ts";
import {
  acceptService,
  type Service,
  type ServiceDependencyMap,
  serviceDependencyMap,
} from "./monitoring/service_dependencies.ts";
import { CLUSTER, SERVICE } from "./monitoring/document_kinds.ts";
import type { CloseReport } from "./pipeline/pipeline_stats.ts";
import type { Alert } from "./records/alert.ts";
import { type DeviceMetrics, deviceMetrics, type DeviceMetricsInput } from "./records/device_metrics.ts";
import { type MetricPoint, type MetricPointInput, metricPoints } from "./records/metric_point.ts";
import type {
  DeviceMetricsQuery,
  MetricPointsQuery,
  ServiceMetricsQuery,
  SystemMetricsQuery,
} from "./records/query.ts";
import { type ServiceMetrics, serviceMetrics, type ServiceMetricsInput } from "./records/service_metrics.ts";
import { type SystemMetrics, systemMetrics, type SystemMetricsInput } from "./records/system_metrics.ts";
import { assertOpened, type OpenedBackend, openInMemory, openStore } from "./open_store.ts";
import type { CleanupOptions } from "./monitoring/retention.ts";
import { type CloseOptions, RecordStore, type StoreStats } from "./store.ts";

const DATASETS = [systemMetrics, serviceMetrics, deviceMetrics, metricPoints];

/** Metrics as the alert monitor reads them. */
type Observed = Parameters<AlertMonitor["observe"]>[1];

/**
 * Stores and evaluates metrics of systems, services and devices.
 *
 * {@linkcode ObservabilityHub.systemMetrics} and {@linkcode ObservabilityHub.serviceMetrics} add and read records. The
 * methods named `collect…`, `query…`, `stream…`, `aggregate…` and `recent…` are the same under the names of OpenFinOps.
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
  /** Adds and reads observations of accelerators. */
  readonly deviceMetrics: DatasetHandle<
    DeviceMetrics,
    DeviceMetricsInput,
    DeviceMetricsQuery,
    DeviceMetricsAggregateQuery,
    MetricsAggregate
  >;
  /** Adds and reads values of metrics that no other dataset has a field for. */
  readonly metricPoints: DatasetHandle<
    MetricPoint,
    MetricPointInput,
    MetricPointsQuery,
    MetricPointsAggregateQuery,
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
    assertOpened(opened, "ObservabilityHub");
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
    this.deviceMetrics = store.handle(deviceMetrics, {
      aggregate: (backend, query) => aggregateMetrics(backend, deviceMetrics, query),
      onAccepted: (metrics) => monitor.observe("device_metrics", metrics as unknown as Observed),
    });
    this.metricPoints = store.handle(metricPoints, {
      aggregate: (backend, query) => aggregateMetrics(backend, metricPoints, query),
    });
    this.#store = store;
    this.#monitor = monitor;
    this.#alerts = new Alerts(documents, monitor);
  }

  /**
   * Opens a hub and its backend.
   *
   * @param config Storage, batching and retention; records in memory where absent.
   * @returns The opened hub.
   * @throws {ConfigError} If the configuration cannot be used.
   * @throws {BackendError} If the backend cannot be opened.
   */
  static async open(config: PersistenceConfig = {}): Promise<ObservabilityHub> {
    const opened = await openStore(config, DATASETS);
    const hub = new ObservabilityHub(opened);
    const loading = hub.#monitor.load();
    if (!opened.backend.isAway) await loading; // else rules load once the database answers
    return hub;
  }

  /**
   * Adds one observation of a node: `systemMetrics.add()`.
   *
   * @param metrics The observation.
   * @returns A promise that resolves when it is accepted, not yet committed; see {@linkcode ObservabilityHub.flush}.
   * @throws {ValidationError} If a field is missing, unknown or wrong. Nothing was queued.
   */
  collectSystemMetrics(metrics: SystemMetricsInput): Promise<void> {
    return this.systemMetrics.add(metrics);
  }

  /**
   * Adds one observation of a service: `serviceMetrics.add()`.
   *
   * @param metrics The observation.
   * @returns A promise that resolves when it is accepted, not yet committed; see {@linkcode ObservabilityHub.flush}.
   * @throws {ValidationError} If a field is missing, unknown or wrong. Nothing was queued.
   */
  collectServiceMetrics(metrics: ServiceMetricsInput): Promise<void> {
    return this.serviceMetrics.add(metrics);
  }

  /**
   * Opens a stream that adds system metrics: `systemMetrics.sink()`. Closing it commits them.
   *
   * @param options What happens to records that validation refuses.
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
   * Opens a stream that adds service metrics: `serviceMetrics.sink()`. Closing it commits them.
   *
   * @param options What happens to records that validation refuses.
   * @returns The stream.
   */
  serviceMetricsSink(options?: SinkOptions): WritableStream<ServiceMetricsInput> {
    return this.serviceMetrics.sink(options);
  }

  /**
   * Reads committed system metrics: `systemMetrics.query()`.
   *
   * @param query Filters, time range, order and limit; all records where absent.
   * @param options A signal that ends the read.
   * @returns The records, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  queryHistoricalMetrics(query?: SystemMetricsQuery, options?: ReadOptions): Promise<SystemMetrics[]> {
    return this.systemMetrics.query(query, options);
  }

  /**
   * Reads committed service metrics: `serviceMetrics.query()`.
   *
   * @param query Filters, time range, order and limit; all records where absent.
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
   * Streams committed system metrics in flat memory: `systemMetrics.stream()`.
   *
   * @param query Filters, time range, order and limit; all records where absent.
   * @param options A signal that ends the read.
   * @returns The records, by time.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   */
  streamHistoricalMetrics(query?: SystemMetricsQuery, options?: ReadOptions): ReadableStream<SystemMetrics> {
    return this.systemMetrics.stream(query, options);
  }

  /**
   * Streams committed service metrics in flat memory: `serviceMetrics.stream()`.
   *
   * @param query Filters, time range, order and limit; all records where absent.
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
   * Aggregates committed system metrics in the backend, by time bucket and group: `systemMetrics.aggregate()`.
   *
   * @param query Filters, time range, buckets, groups, and measures of fields.
   * @param options A signal that ends the read.
   * @returns A row for each bucket and group, by time and then by group.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   *
   * @example Load of each cluster by hour
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
   * Aggregates committed service metrics in the backend: `serviceMetrics.aggregate()`.
   *
   * @param query Filters, time range, buckets, groups, and measures of fields.
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
   * Returns the newest system metrics that this process has accepted: `systemMetrics.recent()`.
   *
   * @returns The records, in the order of acceptance.
   */
  recentSystemMetrics(): SystemMetrics[] {
    return this.systemMetrics.recent();
  }

  /**
   * Returns the newest service metrics that this process has accepted: `serviceMetrics.recent()`.
   *
   * @returns The records, in the order of acceptance.
   */
  recentServiceMetrics(): ServiceMetrics[] {
    return this.serviceMetrics.recent();
  }

  /**
   * Registers a cluster in the backend: its region, and the nodes that it should have.
   *
   * @param cluster The cluster; it replaces one with the same id.
   * @returns A promise that resolves when it is stored.
   * @throws {ValidationError} If a field is missing, unknown or wrong.
   * @throws {BackendError} If the backend cannot be written.
   */
  async registerCluster(cluster: Cluster): Promise<void> {
    const body = acceptCluster(cluster);
    await this.#store.backend.documents.write({ kind: CLUSTER, id: body.clusterId, body });
  }

  /**
   * Registers a service in the backend: where it runs, and what it depends on.
   *
   * @param service The service; it replaces one with the same name.
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
   * @param options Time of the summary, and time after which a silent node is down.
   * @returns Clusters by id, and active alerts.
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
   * Returns services and their dependencies, with the last reported state of each.
   *
   * @param options Time of the map, and time after which a silent service is down.
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
   * Stores an alert rule in the backend. Other processes apply it within a minute. Default rules are
   * `high_cpu_usage`, `high_memory_usage`, `gpu_overheating`, `high_error_rate`, `low_success_rate`,
   * `service_down`, `device_overheating`, `device_error`, `device_throttled` and `device_idle`.
   *
   * @param rule The rule; it replaces one with the same name. Where it differs, active alerts of the old one are resolved.
   * @returns The rule with all defaults filled in.
   * @throws {ValidationError} If a field is missing, unknown or wrong.
   * @throws {BackendError} If the backend cannot be written.
   *
   * @example Add a rule, and disable a default one
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
   * Removes a stored rule and resolves its alerts. A default rule of this name applies again.
   *
   * @param name The name of the rule.
   * @returns True if there was one.
   * @throws {BackendError} If the backend cannot be written.
   */
  removeAlertRule(name: string): Promise<boolean> {
    return this.#alerts.removeRule(name);
  }

  /**
   * Returns the alert rules: the default ones and the stored ones.
   *
   * @returns The rules.
   * @throws {BackendError} If the backend cannot be read.
   */
  getAlertRules(): Promise<AlertRule[]> {
    return allRules(this.#store.backend.documents);
  }

  /**
   * Returns active alerts of all processes: at most one for each rule and node or service. An alert fires once, is
   * reported to `onEvent`, and is resolved by the first metrics that do not break the rule.
   *
   * @param query Whether to include resolved alerts.
   * @returns The alerts, by severity, worst first.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  getAlerts(query?: AlertsQuery): Promise<Alert[]> {
    return this.#alerts.list(query);
  }

  /**
   * Acknowledges an active alert. It stays active; if it fires again, it is unacknowledged again.
   *
   * @param alertId The id of the alert.
   * @param options Name of the person.
   * @returns The alert.
   * @throws {ValidationError} If there is no such active alert.
   * @throws {BackendError} If the backend cannot be written.
   */
  acknowledgeAlert(alertId: string, options?: { by?: string }): Promise<Alert> {
    return this.#alerts.acknowledge(alertId, options);
  }

  /**
   * Resolves an alert by hand, for example of a removed node. It fires again if metrics break the rule again.
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
   * Deletes metrics older than their retention and frees their space.
   *
   * @param options Retention in days, dry run, and time budget.
   * @returns Number of deleted records of each dataset.
   * @throws {ValidationError} If a retention is not a number of days from 0.
   * @throws {BackendError} If the backend cannot be written.
   */
  async cleanupOldData(
    options?: CleanupOptions,
  ): Promise<Record<"system_metrics" | "service_metrics" | "device_metrics" | "metric_points", number>> {
    const { system_metrics = 0, service_metrics = 0, device_metrics = 0, metric_points = 0 } = await this
      .#store.cleanup(options);
    return { system_metrics, service_metrics, device_metrics, metric_points };
  }

  /**
   * Commits all that was accepted before. Blocks while the spool cannot be written or read; the event `paused` and
   * `alarm` in the counters report that.
   *
   * @returns A promise that resolves when it is committed.
   * @throws {BackendError} If the backend needs an operator, as for a missing privilege. The records are kept, and written
   * once that is fixed.
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
   * Ends the intake, commits what is left, and closes what the hub has opened. A second call returns the same report.
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
   * @throws {BackendError} If records were lost: neither committed before the deadline, nor in a spool.
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#store.dispose();
  }
}
