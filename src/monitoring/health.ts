import type { Backend } from "../backends/backend.ts";
import type { Alert, AlertSeverity } from "../records/alert.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptQuery } from "../records/query.ts";
import {
  HEALTH_STATUSES,
  type HealthStatus,
  type SystemMetrics,
  systemMetrics,
} from "../records/system_metrics.ts";
import { acceptTime, asBound } from "../records/validation.ts";
import { type Check, isAnything, isText, isTexts, takeFields } from "../records/field_checks.ts";
import { bodiesOf, CLUSTER } from "./document_kinds.ts";

/** A cluster that is to be watched. */
export interface Cluster {
  /** The id, as metrics have it. */
  clusterId: string;
  /**
   * The nodes that it should have: one that does not report counts as down.
   *
   * @default {[]}
   */
  nodes?: string[];
  /** The region. */
  region?: string;
  /**
   * Expected interval between the metrics of a node, in milliseconds: one that is silent for longer is down.
   *
   * @default {the window of the summary}
   */
  intervalMs?: number;
}

/** Time and window of a health summary. */
export interface HealthOptions {
  /**
   * Time of the summary: epoch milliseconds or a `Date`.
   *
   * @default {now}
   */
  at?: number | Date;
  /**
   * Nodes and services that were silent for this long before that time are down, in milliseconds.
   *
   * @default {300_000}
   */
  windowMs?: number;
}

/** Health of a cluster. Measures that no node has taken are absent. */
export interface ClusterHealth {
  /** The cluster. */
  clusterId: string;
  /** The region, where it is registered with one. */
  region?: string;
  /** The health of the cluster: healthy from a score of 80, warning from 60, critical from 20, else down. */
  status: HealthStatus;
  /** The mean over the nodes: 100 for a healthy one, 70 for a warning, 40 for a critical one, 0 for one that is down. */
  score: number;
  /** Number of nodes: registered ones, and others that have reported. */
  nodes: number;
  /** Number of nodes by status: their own, or worse if an alert is active; silent ones are down. */
  nodesBy: Record<HealthStatus, number>;
  /** The nodes that should have reported and have not. */
  silentNodes: string[];
  /** CPU in use, percent, the mean over the nodes. */
  cpuUsage?: number;
  /** Memory in use, percent, the mean. */
  memoryUsage?: number;
  /** GPU in use, percent, the mean. */
  gpuUsage?: number;
  /** 95th percentile of latency, ms, the mean. */
  latencyP95?: number;
  /** Operations a second, the sum. */
  throughput?: number;
  /** Power drawn, W, the sum. */
  powerConsumption?: number;
  /** Cost an hour as reported by the nodes, the sum. Indicative. */
  costPerHour?: number;
  /** Number of nodes that are training. */
  trainingNodes: number;
  /** The time of the newest metrics, in epoch milliseconds; absent where there are none. */
  lastSeen?: number;
}

/** Health of a node. Measures that it has not taken are absent. */
export interface NodeHealth
  extends Pick<SystemMetrics, "cpuUsage" | "memoryUsage" | "gpuUsage" | "powerConsumption" | "costPerHour"> {
  /** The cluster. */
  clusterId: string;
  /** The node. */
  nodeId: string;
  /** Its own status, or worse if an alert is active; down if it is silent. */
  status: HealthStatus;
  /** The time of its newest metrics, in epoch milliseconds; absent where there are none. */
  lastSeen?: number;
}

/** Health of all clusters. */
export interface ClusterHealthSummary {
  /** Time of the summary, in epoch milliseconds. */
  at: number;
  /** Each cluster, by id. */
  clusters: ClusterHealth[];
  /** Each node, by cluster and id. */
  nodes: NodeHealth[];
  /** The alerts that are active, the worst first. */
  alerts: Alert[];
}

const SCORES: Readonly<Record<HealthStatus, number>> = { healthy: 100, warning: 70, critical: 40, down: 0 };
const MIN_SCORE: readonly [HealthStatus, number][] = [["healthy", 80], ["warning", 60], ["critical", 20]];
/** Node status that an active alert implies. */
const STATUS_OF: Readonly<Record<AlertSeverity, HealthStatus>> = {
  info: "healthy",
  warning: "warning",
  critical: "critical",
  emergency: "critical",
};

const isDuration: Check = {
  test: (value) => typeof value === "number" && value > 0,
  expected: "a number of milliseconds above 0",
};
const HEALTH_FIELDS: Record<keyof HealthOptions, Check> = { at: isAnything, windowMs: isDuration };
const CLUSTER_FIELDS: Record<keyof Cluster, Check> = {
  clusterId: isText,
  nodes: isTexts,
  region: isText,
  intervalMs: isDuration,
};

/**
 * Checks a cluster.
 *
 * @throws {ValidationError} If a field is missing, unknown or wrong.
 */
export function acceptCluster(input: Cluster): Cluster {
  const checks = { fields: CLUSTER_FIELDS, required: ["clusterId"] };
  return takeFields("a cluster", input, checks) as unknown as Cluster;
}

/**
 * The window in which nodes and services must have reported.
 *
 * @throws {ValidationError} If it is none.
 */
export function healthWindow(options: HealthOptions = {}): { at: number; since: number } {
  const subject = "a query of health";
  const given = takeFields(subject, options, { fields: HEALTH_FIELDS });
  const at = acceptTime(subject, "at", given.at ?? Date.now());
  const { windowMs = 300_000 } = given as { windowMs?: number };
  return { at, since: asBound(Math.floor(at - windowMs)) };
}

/**
 * Returns the newest record of each node by cluster, or of each service, within a window, of those that are stored or in
 * this process.
 */
export async function newestByGroup<T extends { timestamp: number }>(
  backend: Backend,
  dataset: Dataset<T>,
  { at, since, recent = [] }: { at: number; since: number; recent?: readonly T[] },
): Promise<Map<string, Map<string, T>>> {
  const newest = new Map<string, Map<string, T>>();
  const [first, second = first] = dataset.filters;
  const look = (record: T) => {
    const fields = record as Record<string, unknown>;
    const group = fields[first] as string;
    let found = newest.get(group);
    if (!found) newest.set(group, found = new Map());
    const name = fields[second] as string;
    const known = found.get(name);
    if (!known || known.timestamp < record.timestamp) found.set(name, record);
  };
  const query = acceptQuery(dataset, { startTime: since, endTime: at + 1 });
  for await (const page of backend.read(dataset, query)) page.forEach(look);
  for (const record of recent) if (record.timestamp >= since && record.timestamp <= at) look(record);
  return newest;
}

/** A window, and the newest metrics of this process. */
export interface HealthInput<T> {
  readonly window: ReturnType<typeof healthWindow>;
  readonly recent: readonly T[];
}

export async function clusterHealthSummary(
  backend: Backend,
  { window, recent, alerts }: HealthInput<SystemMetrics> & { alerts: Alert[] },
): Promise<ClusterHealthSummary> {
  const newest = await newestByGroup(backend, systemMetrics, { ...window, recent });
  const clusters = await bodiesOf<Cluster>(backend.documents, CLUSTER);
  for (const cluster of clusters) await lookBack(backend, cluster, { ...window, newest });
  return { at: window.at, ...clusterHealth(newest, { at: window.at, clusters, alerts }), alerts };
}

/** Adds the newest metrics of the registered nodes whose interval is longer than the window. */
async function lookBack(
  backend: Backend,
  { clusterId, nodes = [], intervalMs = 0 }: Cluster,
  { at, since, newest }: ReturnType<typeof healthWindow> & {
    newest: Map<string, Map<string, SystemMetrics>>;
  },
): Promise<void> {
  const startTime = asBound(Math.floor(at - intervalMs));
  const found = newest.getOrInsertComputed(clusterId, () => new Map());
  for (const nodeId of startTime < since ? nodes : []) {
    if (found.has(nodeId)) continue;
    const query = { clusterId, nodeId, startTime, endTime: at + 1, order: "desc", limit: 1 };
    for await (const [record] of backend.read(systemMetrics, acceptQuery(systemMetrics, query))) {
      found.set(nodeId, record);
    }
  }
}

/** Returns the health of clusters by the newest metrics of each node, in one pass over metrics and alerts. */
function clusterHealth(
  newest: ReadonlyMap<string, ReadonlyMap<string, SystemMetrics>>,
  { at, clusters, alerts }: { at: number; clusters: readonly Cluster[]; alerts: readonly Alert[] },
): Pick<ClusterHealthSummary, "clusters" | "nodes"> {
  const registered = new Map(clusters.map((cluster) => [cluster.clusterId, cluster]));
  const alertsOf = Map.groupBy(alerts, ({ clusterId }) => clusterId);
  const found = [...new Set([...registered.keys(), ...newest.keys()])].toSorted().map((clusterId) => {
    const cluster = registered.get(clusterId) ?? { clusterId };
    const ofCluster = {
      at,
      newest: newest.get(clusterId) ?? new Map(),
      alerts: alertsOf.get(clusterId) ?? [],
    };
    const nodes = nodeHealth(cluster, ofCluster);
    return { health: healthOf(cluster, { ...ofCluster, nodes }), nodes };
  });
  return { clusters: found.map(({ health }) => health), nodes: found.flatMap(({ nodes }) => nodes) };
}

interface ClusterInput {
  readonly at: number;
  readonly newest: ReadonlyMap<string, SystemMetrics>;
  readonly alerts: readonly Alert[];
}

function nodeHealth(
  { clusterId, nodes = [], intervalMs = Infinity }: Cluster,
  { at, newest, alerts }: ClusterInput,
): NodeHealth[] {
  const alertsOf = Map.groupBy(alerts, ({ nodeId }) => nodeId);
  return [...new Set([...nodes, ...newest.keys()])].toSorted().map((nodeId) => {
    const found = newest.get(nodeId);
    if (!found) return { clusterId, nodeId, status: "down" };
    const { timestamp, healthStatus = "healthy", ...measures } = found;
    const byAlerts = alertsOf.get(nodeId)?.map(({ severity }) => STATUS_OF[severity]) ?? [];
    return {
      clusterId,
      nodeId,
      status: timestamp < at - intervalMs ? "down" : worstStatus(healthStatus, byAlerts),
      lastSeen: timestamp,
      ...averages([measures as SystemMetrics], ["cpuUsage", "memoryUsage", "gpuUsage"]),
      ...sums([measures as SystemMetrics], ["powerConsumption", "costPerHour"]),
    };
  });
}

function healthOf(
  { clusterId, region, intervalMs = Infinity }: Cluster,
  { at, newest, nodes }: ClusterInput & { nodes: readonly NodeHealth[] },
): ClusterHealth {
  const metrics = [...newest.values()].filter(({ timestamp }) => timestamp >= at - intervalMs);
  const reporting = new Set(metrics.map(({ nodeId }) => nodeId));
  const silentNodes = nodes.map(({ nodeId }) => nodeId).filter((node) => !reporting.has(node));
  const nodesBy: Record<HealthStatus, number> = { healthy: 0, warning: 0, critical: 0, down: 0 };
  for (const { status } of nodes) nodesBy[status]++;
  const count = nodes.length;
  const total = HEALTH_STATUSES.reduce((sum, status) => sum + nodesBy[status] * SCORES[status], 0);
  const score = count === 0 ? 0 : total / count;
  return {
    clusterId,
    ...(region === undefined ? {} : { region }),
    status: MIN_SCORE.find(([, least]) => score >= least)?.[0] ?? "down",
    score: Math.round(score),
    nodes: count,
    nodesBy,
    silentNodes,
    ...averages(metrics, ["cpuUsage", "memoryUsage", "gpuUsage", "latencyP95"]),
    ...sums(metrics, ["throughput", "powerConsumption", "costPerHour"]),
    trainingNodes: metrics.filter(({ trainingActive }) => trainingActive).length,
    ...(newest.size === 0
      ? {}
      : { lastSeen: [...newest.values()].reduce((max, { timestamp }) => Math.max(max, timestamp), 0) }),
  };
}

function worstStatus(status: HealthStatus, others: readonly HealthStatus[]): HealthStatus {
  return HEALTH_STATUSES[
    others.reduce(
      (max, other) => Math.max(max, HEALTH_STATUSES.indexOf(other)),
      HEALTH_STATUSES.indexOf(status),
    )
  ];
}

type Measure =
  | "cpuUsage"
  | "memoryUsage"
  | "gpuUsage"
  | "latencyP95"
  | "throughput"
  | "powerConsumption"
  | "costPerHour";

function sums(
  metrics: readonly SystemMetrics[],
  fields: readonly Measure[],
): Partial<Record<Measure, number>> {
  return overall(metrics, fields, (values) => values.reduce((sum, value) => sum + value, 0));
}

function averages(
  metrics: readonly SystemMetrics[],
  fields: readonly Measure[],
): Partial<Record<Measure, number>> {
  return overall(metrics, fields, (values) => values.reduce((sum, value) => sum + value, 0) / values.length);
}

function overall(
  metrics: readonly SystemMetrics[],
  fields: readonly Measure[],
  put: (values: readonly number[]) => number,
): Partial<Record<Measure, number>> {
  const found: Partial<Record<Measure, number>> = {};
  for (const field of fields) {
    const values = metrics.map((record) => record[field]).filter((value) => value !== undefined);
    if (values.length > 0) found[field] = put(values);
  }
  return found;
}
