/** Records and places that several tests use. */
import type { CostEntry, CostEntryInput } from "../src/records/cost_entry.ts";
import type { ImportReport } from "../src/transfer/import_options.ts";
import type { DatasetName } from "../src/records/dataset.ts";
import type { MetricPoint } from "../src/records/metric_point.ts";
import type { DeviceMetrics } from "../src/records/device_metrics.ts";
import type { ServiceMetrics } from "../src/records/service_metrics.ts";
import type { SystemMetrics } from "../src/records/system_metrics.ts";
import type { UsageRecord } from "../src/records/usage_record.ts";
import { loadSqliteDriver } from "../src/backends/sqlite/driver.ts";

// The native library of @db/sqlite stays loaded for good: not within a test that is watched for leaks.
await loadSqliteDriver("auto");

/** 1 January 2026, UTC. */
export const NEW_YEAR = Date.UTC(2026, 0, 1);

/** System metrics in which every field holds something else. */
export const FULL_SYSTEM_METRICS: SystemMetrics = {
  timestamp: NEW_YEAR,
  clusterId: "prod",
  nodeId: "gpu-01",
  cpuUsage: 41.2,
  memoryUsage: 63.000000001,
  diskUsage: 40,
  gpuUsage: 99.9,
  networkIo: 0.1,
  activeConnections: 17,
  errorCount: 0,
  warningCount: 3,
  throughput: 1e21,
  latencyP50: 1.5,
  latencyP95: 12.25,
  latencyP99: 1e-7,
  errorRate: 0.5,
  trainingActive: true,
  modelLoading: false,
  dataLoading: true,
  gradientSync: false,
  checkpointSaving: true,
  temperature: -3.5,
  powerConsumption: 312.4,
  fanSpeed: 2400,
  healthStatus: "warning",
  costPerHour: 2.5,
  estimatedDailyCost: 60.1,
  labels: { team: "nlp", "quote\"'\\": "ünï 😀", "": "empty key", __proto: "x" },
};

/** Service metrics in which every field holds something else. */
export const FULL_SERVICE_METRICS: ServiceMetrics = {
  serviceName: "inference",
  timestamp: NEW_YEAR + 1,
  status: "running",
  uptime: 3600.5,
  restartCount: Number.MAX_SAFE_INTEGER,
  requestRate: 120.25,
  responseTime: 8.5,
  successRate: 99.99,
  cpuLimit: 4,
  memoryLimit: 16,
  cpuRequest: 2,
  memoryRequest: 8,
  dependencyHealth: { database: "healthy" },
  trainingJobsActive: 1,
  trainingJobsQueued: 2,
  trainingJobsFailed: 3,
};

/** Device metrics in which every field holds something else. */
export const FULL_DEVICE_METRICS: DeviceMetrics = {
  timestamp: NEW_YEAR + 3,
  clusterId: "prod",
  nodeId: "gpu-01",
  deviceId: "GPU-5fd4f087-86f3-7a43-b711-4771313afc50",
  deviceIndex: 7,
  vendor: "nvidia",
  model: "NVIDIA H100 80GB HBM3",
  partition: "MIG 1g.10gb",
  utilization: 87.5,
  memoryUtilization: 41,
  tensorUtilization: 0.1,
  memoryUsed: 74_694_262_784,
  memoryTotal: Number.MAX_SAFE_INTEGER,
  temperature: -3.5,
  memoryTemperature: 61,
  powerConsumption: 312.4,
  energyConsumption: 1e12,
  clockSm: 1980,
  clockMemory: 2619,
  errorCode: 79,
  throttled: false,
  labels: { pod: "train-0", namespace: "nlp" },
};

/** A usage record in which every field holds something else. */
export const FULL_USAGE_RECORD: UsageRecord = {
  usageId: "chatcmpl-1",
  timestamp: NEW_YEAR + 4,
  provider: "openai",
  model: "gpt-5",
  operation: "chat",
  serviceName: "support-bot",
  requests: 1,
  inputTokens: Number.MAX_SAFE_INTEGER,
  outputTokens: 512,
  cacheReadTokens: 1024,
  cacheWriteTokens: 0,
  reasoningTokens: 128,
  quantity: "0.000000000000000001",
  unit: "images",
  durationMs: 1234.5,
  timeToFirstTokenMs: 210,
  status: "ok",
  cost: "-0.0020105",
  currency: "USD",
  tags: { team: "nlp", user: "ünï 😀" },
};

/** A metric point in which every field holds something else. */
export const FULL_METRIC_POINT: MetricPoint = {
  timestamp: NEW_YEAR + 5,
  name: "my.queue.length",
  value: -1.5e-7,
  attributes: { "queue.name": "ünï 😀", host: "n1" },
};

/** The required fields of a record of each dataset, beside those with a default. */
export const REQUIRED_FIELDS: Readonly<Record<DatasetName, object>> = {
  system_metrics: { timestamp: NEW_YEAR },
  service_metrics: { timestamp: NEW_YEAR, serviceName: "s" },
  device_metrics: { timestamp: NEW_YEAR, deviceId: "d" },
  usage_records: { timestamp: NEW_YEAR, usageId: "u" },
  cost_entries: { timestamp: NEW_YEAR, entryId: "e1", resourceId: "gpu-01", category: "gpu", amount: "1" },
  metric_points: { timestamp: NEW_YEAR, name: "m", value: 1 },
};

/** A cost entry in which every field holds something else. */
export const FULL_COST_ENTRY: CostEntry = {
  entryId: "full",
  timestamp: NEW_YEAR + 2,
  resourceId: "i-1",
  category: "AI and Machine Learning",
  amount: "-123456789012345678.000000000000000009",
  currency: "EUR",
  region: "eu-west-1",
  tags: { team: "nlp", "a.b[0]": "$.x" },
  description: 'line 1\nline 2, "quoted"',
  billingPeriod: "2026-01",
  chargePeriodEnd: NEW_YEAR + 3_600_002,
  chargeCategory: "Usage",
  chargeClass: "Correction",
  chargeFrequency: "Recurring",
  serviceName: "Bedrock",
  serviceSubcategory: "Generative AI",
  serviceProviderName: "AWS",
  hostProviderName: "Amazon",
  invoiceIssuerName: "AWS Inc.",
  billingAccountId: "1",
  subAccountId: "2",
  resourceName: "one",
  resourceType: "Model",
  skuId: "claude",
  consumedQuantity: "1000000.000000000000000001",
  consumedUnit: "Tokens",
  pricingQuantity: "1",
  pricingUnit: "1M Tokens",
  listCost: "2",
  contractedCost: "1.5",
  effectiveCost: "-0.000000000000000001",
  billingPeriodStart: NEW_YEAR,
  billingPeriodEnd: NEW_YEAR + 31 * 86_400_000,
  invoiceId: "INV-1",
  basis: "estimated",
  source: "focus:1",
  deliveryId: "d1",
  focus: { SkuMeter: 'input, "tokens"', x_Vendor: "ünï 😀", ResourceId: "" },
};

/** A cost entry that is as short as it may be. */
export function costEntry(overrides: Partial<CostEntryInput> = {}): CostEntryInput {
  return {
    entryId: "e1",
    timestamp: NEW_YEAR,
    resourceId: "gpu-01",
    category: "gpu",
    amount: "1",
    ...overrides,
  };
}

/** A folder that is gone when the test is over. */
export class TemporaryFolder implements Disposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "openfinops-" });

  /** The path of a file in it. */
  file(name: string): string {
    return `${this.path}/${name}`;
  }

  /** The connection string of an SQLite file in it. */
  sqlite(name = "test.db"): string {
    return `sqlite:///${this.file(name)}`;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** The numbers of an import, without its delivery. */
export function countsOf({ delivery: _, ...counts }: ImportReport): ImportReport {
  return counts;
}

/** Records without what each delivery gives them. */
export function withoutDelivery<T>(records: readonly T[]): T[] {
  return records.map((record) => {
    const { source: _source, deliveryId: _deliveryId, ...rest } = record as Partial<CostEntry>;
    return rest as T;
  });
}

/** The statements that undo those of an upgrade, so that a database is as an older release left it. */
export function undoUpgrade(statements: readonly string[]): string[] {
  return statements.flatMap((statement) => {
    const [, created] = /^CREATE TABLE (\w+)/.exec(statement) ?? [];
    if (created) return [`DROP TABLE ${created}`];
    const [, altered] = /^ALTER TABLE (\w+)/.exec(statement) ?? [];
    return [...statement.matchAll(/ADD COLUMN (\w+)/g)].map(([, name]) =>
      `ALTER TABLE ${altered} DROP COLUMN ${name}`
    );
  });
}
