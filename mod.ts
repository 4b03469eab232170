/**
 * Telemetry and cost data of AI/ML clusters that is never lost, never counted twice and exact to the last
 * digit, in memory, in SQLite, in PostgreSQL or in TimescaleDB.
 *
 * {@linkcode ObservabilityHub} stores system and service metrics, {@linkcode CostObservatory} stores cost entries. A
 * {@linkcode DatasetHandle} adds and reads the records of one dataset. {@linkcode importRecords},
 * {@linkcode exportRecords} and {@linkcode migrate} move records. Importing this module opens nothing and needs no
 * permission.
 *
 * @example Store metrics and costs in one file
 * ```ts
 * import { CostObservatory, ObservabilityHub } from "@openfinops/telemetry";
 *
 * const config = { connectionString: "sqlite:///openfinops.db" };
 * await using hub = await ObservabilityHub.open(config);
 * await using costs = await CostObservatory.open(config);
 * await hub.systemMetrics.add({ timestamp: Date.now(), clusterId: "prod", cpuUsage: 41.2 });
 * ```
 *
 * @module
 */
export { CostObservatory } from "./src/observatory.ts";
export { ObservabilityHub } from "./src/hub.ts";
export { openBackend, type OpenOptions } from "./src/open_backend.ts";
export type { PersistenceConfig } from "./src/config.ts";
export {
  type AppendOptions,
  type AppendReport,
  DatasetHandle,
  type SinkOptions,
} from "./src/dataset_handle.ts";
export type { CleanupOptions } from "./src/monitoring/retention.ts";
export type { CloseOptions, StoreStats } from "./src/store.ts";
export { BackendError, ConfigError, ValidationError } from "./src/errors.ts";
export type { BackendErrorOptions, ErrorCode, FailureKind, ValidationErrorOptions } from "./src/errors.ts";
export { StorageBackend } from "./src/backends/backend.ts";
export type {
  Backend,
  BackendStats,
  CurrencyTotal,
  DatasetStats,
  DeleteOptions,
  DocumentStore,
  PolicyStats,
  ProbeReport,
  RawRows,
  RawTransfer,
  ReadOptions,
  StorageFault,
  StoredDocument,
  WriteCondition,
} from "./src/backends/backend.ts";
export type { AlertRule, AlertRuleInput } from "./src/monitoring/alerts/alert_rules.ts";
export type { AlertsQuery } from "./src/monitoring/alerts/alerts.ts";
export type { AnomalyAcknowledgement } from "./src/monitoring/anomalies/acknowledgements.ts";
export type { AnomalyQuery } from "./src/monitoring/anomalies/anomalies.ts";
export type { BudgetInput } from "./src/monitoring/budgets/budget.ts";
export type { BudgetStatus } from "./src/monitoring/budgets/budget_status.ts";
export type { BudgetChanges, BudgetQuery } from "./src/monitoring/budgets/budgets.ts";
export type {
  CostBreakdown,
  CostForecast,
  CostSummary,
  CostSummaryOptions,
  CurrencySummary,
} from "./src/views/costs.ts";
export type { TrainingRun, TrainingRunTimes } from "./src/monitoring/training_runs.ts";
export type {
  Cluster,
  ClusterHealth,
  ClusterHealthSummary,
  HealthOptions,
  NodeHealth,
} from "./src/monitoring/health.ts";
export type { Service, ServiceDependencyMap, ServiceNode } from "./src/monitoring/service_dependencies.ts";
export type { Alert, AlertSeverity, AlertSubject } from "./src/records/alert.ts";
export type { CostAnomaly } from "./src/records/anomaly.ts";
export type { Budget, BudgetCrossing } from "./src/records/budget.ts";
export type {
  AggregateSpan,
  CostAggregate,
  MetricsAggregate,
  UsageAggregate,
} from "./src/aggregation/aggregate.ts";
export type {
  CostAggregateQuery,
  CostMeasure,
  DeviceMetricsAggregateQuery,
  GroupingOptions,
  MeasureName,
  MeasuresOf,
  MetricPointsAggregateQuery,
  NumericField,
  ServiceMetricsAggregateQuery,
  SystemMetricsAggregateQuery,
  UsageRecordsAggregateQuery,
} from "./src/aggregation/aggregate_query.ts";
export type { AggregateRow, Aggregation, GroupKey, Measure } from "./src/records/aggregation.ts";
export type { BucketRange } from "./src/records/calendar.ts";
export type { Comparison } from "./src/records/periods.ts";
export type { EventDetails, EventListener, TelemetryEvent } from "./src/pipeline/events.ts";
export type { CloseReport, CommitLatency, PipelineStats } from "./src/pipeline/pipeline_stats.ts";
export type { Batch, Member, Sink, WriteRefusal, WriteResult } from "./src/pipeline/sink.ts";
export type { Column, ColumnType, Dataset, DatasetName } from "./src/records/dataset.ts";
export { Decimal } from "./src/records/decimal.ts";
export {
  type CostAmountField,
  CostCategory,
  type CostEntry,
  type CostEntryInput,
  type CostTimeField,
} from "./src/records/cost_entry.ts";
export type { DeviceMetrics, DeviceMetricsInput } from "./src/records/device_metrics.ts";
export type { MetricPoint, MetricPointInput } from "./src/records/metric_point.ts";
export {
  type UsageExtra,
  usageFromAISDK,
  usageFromAnthropic,
  usageFromOpenAI,
} from "./src/records/usage_adapters.ts";
export type { UsageDecimalField, UsageRecord, UsageRecordInput } from "./src/records/usage_record.ts";
export type { ServiceMetrics, ServiceMetricsInput } from "./src/records/service_metrics.ts";
export type { HealthStatus, SystemMetrics, SystemMetricsInput } from "./src/records/system_metrics.ts";
export type {
  CostEntriesQuery,
  DeviceMetricsQuery,
  MetricPointsQuery,
  RecordQuery,
  ServiceMetricsQuery,
  SystemMetricsQuery,
  TimeRangeQuery,
  UsageRecordsQuery,
} from "./src/records/query.ts";
export type { Condition, Operator, WhereCondition, WhereValue } from "./src/records/where.ts";
export { TransferError } from "./src/transfer/transfer_error.ts";
export { type ExportOptions, exportRecords } from "./src/transfer/export.ts";
export type { FocusOptions } from "./src/transfer/focus_cells.ts";
export type {
  DeliveredPart,
  PartState,
  Publication,
  PublicationPlan,
  PublishResult,
  Staging,
} from "./src/backends/staging.ts";
export type { DeliveryOptions } from "./src/transfer/delivery.ts";
export type { DeliveryTotal } from "./src/transfer/delivery_verdict.ts";
export { importRecords } from "./src/transfer/import.ts";
export type {
  DeliveryReport,
  ImportOptions,
  ImportProgress,
  ImportReport,
} from "./src/transfer/import_options.ts";
export type { CellOptions } from "./src/transfer/cell_readers.ts";
export type { FileInput } from "./src/transfer/file_parts.ts";
export type { RandomAccess } from "./src/transfer/random_access.ts";
export type { FieldMapping } from "./src/transfer/field_plan.ts";
export type { ImportFormat } from "./src/transfer/formats.ts";
export type { MappingOptions } from "./src/transfer/mapping_options.ts";
export {
  type DatasetMigration,
  migrate,
  type MigrateOptions,
  type MigrateProgress,
  type MigrationSource,
} from "./src/transfer/migrate.ts";
export type { DatasetTotals } from "./src/transfer/comparison.ts";
export type { Reject } from "./src/transfer/record_stream.ts";
