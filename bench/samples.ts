import type {
  CostEntryInput,
  DeviceMetricsInput,
  MetricPointInput,
  ServiceMetricsInput,
  SystemMetricsInput,
  UsageRecordInput,
} from "../mod.ts";

/** Time of the first record. */
export const START = Date.UTC(2026, 0, 1);
/** Number of nodes. */
export const NODES = 64;
/** Interval of the records of a node, in milliseconds. */
export const STEP_MS = 15_000;
const HOUR_MS = 3_600_000;

/** Numbers from 0 to 1, the same in every run. */
function noise(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const oneDecimal = (value: number) => Math.round(value * 10) / 10;

/** Samples with the shape of real hosts: days and weeks, noise, one decimal, and every eighth node idle. */
export function* samples(rows: number): Generator<SystemMetricsInput> {
  const random = noise(1);
  for (let i = 0; i < rows; i++) {
    const node = i % NODES;
    const timestamp = START + Math.floor(i / NODES) * STEP_MS;
    const hour = (timestamp / HOUR_MS + node / 8) % 24;
    const isWeekend = Math.floor(timestamp / 86_400_000 + 4) % 7 >= 5;
    const day = Math.sin((hour - 8) / 24 * 2 * Math.PI);
    const isIdle = node % 8 === 7;
    const load = isIdle ? 0.01 : Math.max(0.02, (isWeekend ? 0.3 : 0.5) + 0.3 * day);
    const wobble = () => isIdle ? 0 : random() - 0.5;
    const gpuUsage = oneDecimal(Math.min(100, Math.max(0, 100 * load + 6 * wobble())));
    yield {
      timestamp,
      clusterId: node < 48 ? "train" : "serve",
      nodeId: `gpu-${String(node).padStart(2, "0")}`,
      cpuUsage: oneDecimal(Math.max(0, 60 * load + 4 * wobble())),
      memoryUsage: oneDecimal(30 + 40 * load + wobble()),
      diskUsage: oneDecimal(40 + node / 4 + (timestamp - START) / 86_400_000 / 3),
      gpuUsage,
      networkIo: oneDecimal(Math.max(0, 120 * load + 10 * wobble())),
      activeConnections: Math.round(40 * load + 3 * wobble()),
      errorCount: random() < 0.002 ? 1 : 0,
      warningCount: random() < 0.01 ? 1 : 0,
      throughput: oneDecimal(Math.max(0, 900 * load + 20 * wobble())),
      latencyP50: oneDecimal(8 + 10 * load + wobble()),
      latencyP95: oneDecimal(20 + 30 * load + 3 * wobble()),
      latencyP99: oneDecimal(45 + 60 * load + 8 * wobble()),
      errorRate: 0,
      trainingActive: !isIdle && node < 48,
      modelLoading: false,
      dataLoading: !isIdle && random() < 0.05,
      gradientSync: !isIdle && node < 48,
      checkpointSaving: Math.floor(timestamp / 60_000) % 30 === 0 && !isIdle,
      temperature: oneDecimal(35 + 40 * load + wobble()),
      powerConsumption: oneDecimal(80 + 320 * load + 8 * wobble()),
      fanSpeed: Math.round((1_200 + 2_400 * load) / 50) * 50,
      healthStatus: gpuUsage > 99 ? "warning" : "healthy",
      costPerHour: 2.5,
      estimatedDailyCost: 60,
      labels: { team: node < 48 ? "nlp" : "serving" },
    };
  }
}

/** Samples of forty services, once a minute each, with all fields. */
export function* serviceSamples(rows: number): Generator<ServiceMetricsInput> {
  const random = noise(2);
  for (let i = 0; i < rows; i++) {
    const minute = Math.floor(i / 40);
    yield {
      timestamp: START + minute * 60_000,
      serviceName: `inference-${i % 40}`,
      status: "running",
      uptime: minute * 60,
      restartCount: 0,
      requestRate: oneDecimal(100 + 40 * random()),
      responseTime: oneDecimal(8 + 4 * random()),
      successRate: 99.9,
      cpuLimit: 4,
      memoryLimit: 16,
      cpuRequest: 2,
      memoryRequest: 8,
      dependencyHealth: { database: "healthy" },
      trainingJobsActive: Math.floor(3 * random()),
      trainingJobsQueued: 0,
      trainingJobsFailed: 0,
    };
  }
}

/** Costs by the hour of five hundred resources, with an id of the vendor's and three tags. */
export function* costSamples(rows: number): Generator<CostEntryInput> {
  const random = noise(3);
  const categories = ["gpu", "compute", "storage", "network"];
  for (let i = 0; i < rows; i++) {
    const resource = i % 500;
    yield {
      entryId: `li-${(i * 2_654_435_761 % 2 ** 32).toString(16).padStart(8, "0")}-${i}`,
      timestamp: START + Math.floor(i / 500) * HOUR_MS,
      resourceId: `i-0${(resource * 40_503 % 65_536).toString(16).padStart(16, "0")}`,
      category: categories[resource % 4],
      amount: (random() * 3).toFixed(10),
      region: resource % 3 === 0 ? "eu-west-1" : "us-east-1",
      tags: { team: `team-${resource % 12}`, project: `project-${resource % 40}`, environment: "production" },
    };
  }
}

/** Samples of eight accelerators in each of 64 nodes, with all fields that `nvidia-smi` gives. */
export function* deviceSamples(rows: number): Generator<DeviceMetricsInput> {
  const random = noise(4);
  for (let i = 0; i < rows; i++) {
    const device = i % (8 * NODES);
    const node = device >> 3;
    const utilization = node % 8 === 7 ? 0 : Math.round(60 + 40 * random());
    yield {
      timestamp: START + Math.floor(i / (8 * NODES)) * STEP_MS,
      clusterId: node < 48 ? "train" : "serve",
      nodeId: `gpu-${String(node).padStart(2, "0")}`,
      deviceId: `GPU-${(device * 40_503 % 65_536).toString(16).padStart(8, "0")}-86f3-7a43-b711-4771313afc50`,
      deviceIndex: device & 7,
      vendor: "nvidia",
      model: "NVIDIA H100 80GB HBM3",
      utilization,
      memoryUtilization: Math.round(utilization / 2),
      memoryUsed: Math.round(700 * utilization) * 1_048_576,
      memoryTotal: 85_520_809_984,
      temperature: 35 + Math.round(utilization / 3),
      powerConsumption: oneDecimal(70 + 6 * utilization),
      clockSm: 1_980,
      clockMemory: 2_619,
      errorCode: 0,
      throttled: false,
      labels: { team: node < 48 ? "nlp" : "serving" },
    };
  }
}

/** Calls of six language models by twelve teams, one each second. */
export function* usageSamples(rows: number): Generator<UsageRecordInput> {
  const random = noise(5);
  for (let i = 0; i < rows; i++) {
    const inputTokens = Math.floor(8_000 * random());
    const outputTokens = Math.floor(1_000 * random());
    yield {
      usageId: `chatcmpl-${(i * 2_654_435_761 % 2 ** 32).toString(16).padStart(8, "0")}-${i}`,
      timestamp: START + i * 1_000,
      provider: i % 3 === 0 ? "anthropic" : "openai",
      model: `model-${i % 6}`,
      operation: "chat",
      serviceName: `service-${i % 20}`,
      requests: 1,
      inputTokens,
      outputTokens,
      cacheReadTokens: Math.floor(inputTokens * random()),
      durationMs: Math.round(200 + 20 * outputTokens),
      tags: { team: `team-${i % 12}`, environment: "production" },
    };
  }
}

/** Points of a metric of each node, every 15 seconds. */
export function* pointSamples(rows: number): Generator<MetricPointInput> {
  const random = noise(6);
  for (let i = 0; i < rows; i++) {
    yield {
      timestamp: START + Math.floor(i / NODES) * STEP_MS,
      name: "scheduler.queue.length",
      value: Math.round(100 * random()),
      attributes: { "host.name": `gpu-${String(i % NODES).padStart(2, "0")}`, queue: "training" },
    };
  }
}
