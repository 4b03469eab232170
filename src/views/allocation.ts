import type { Backend } from "../backends/backend.ts";
import { ValidationError } from "../errors.ts";
import { type Bucket, bucketRangesOf, bucketsOf } from "../records/calendar.ts";
import { costEntries } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { deviceMetrics } from "../records/device_metrics.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import { usageRecords } from "../records/usage_record.ts";

/**
 * Division of the cost of a device among its workloads: by utilization, with what is unused as idle; by the time in
 * which a workload had the device; or evenly among those that had it.
 */
export type AllocationMethod = "utilization" | "time" | "even";
export const ALLOCATION_METHODS: readonly AllocationMethod[] = ["utilization", "time", "even"];

/** Question of {@linkcode allocateCosts}. */
export interface AllocationQuery {
  /** Earliest time, epoch ms. */
  startTime: number;
  /** Time before which, epoch ms. */
  endTime: number;
  /** Label of devices by which costs are divided, such as `team`, `pod` or `model`. */
  by: string;
  /**
   * Division of the cost of a device among its workloads.
   *
   * @default {"utilization"}
   */
  method?: AllocationMethod;
  /**
   * The costs to divide.
   *
   * @default {"estimated"}
   */
  basis?: "billed" | "estimated";
  /**
   * Span within which a cost is divided: a cost of a day by the use of that day.
   *
   * @default {"1d"}
   */
  bucket?: Bucket;
  /** Provider whose tokens count; all where absent. Those of vendors are no use of own devices. */
  provider?: string;
  /**
   * Time zone in which days begin.
   *
   * @default {"UTC"}
   */
  timeZone?: string;
}

/** Cost of a group of workloads. */
export interface AllocatedCost {
  /** Value of the label; null for devices in use without that label. */
  group: string | null;
  /** True for the row of what was not used. */
  isIdle?: true;
  currency: string;
  /** Exact cost: a canonical decimal string. */
  cost: string;
  /** Tokens of the group, if its usage is known: of a model, or with the label as a tag. */
  tokens?: number;
  /** Exact cost of a million tokens, rounded half to even at the 18th digit. */
  costPerMillionTokens?: string;
}

/** Answer of {@linkcode allocateCosts}. */
export interface Allocation {
  /** The cost of each group by currency, the greatest first, idle last. */
  rows: AllocatedCost[];
  /** The exact total of each currency: what was divided, and what the rows add up to. */
  totals: Record<string, string>;
  /** Costs of the time that no device was seen for, by currency. They are not divided. */
  unallocated: Record<string, string>;
}

/** Samples of a device within a span, by value of the label. */
interface Use {
  readonly value: string | null;
  readonly samples: number;
  /** Samples that have a utilization, and its sum in millionths of a percent, so that all backends give the same. */
  readonly measured: number;
  readonly utilization: bigint;
}

interface Device {
  readonly id: Pick<DeviceCost, "nodeId" | "deviceId" | "partition">;
  readonly weight: bigint;
  readonly uses: Use[];
}

const IDLE = Symbol("idle");
type Group = string | null | typeof IDLE;

/**
 * Divides the cost of nodes and devices among the workloads that used them. A cost belongs to a node, or to a device, by
 * its resource id. A node's cost is divided among its devices by their memory where all are known, else evenly; that of
 * a device by the method. Parts are rounded by largest remainder at the 18th digit: they add up to the cost exactly.
 *
 * @throws {ValidationError} If the query is wrong.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function allocateCosts(
  backend: Pick<Backend, "aggregate">,
  query: AllocationQuery,
): Promise<Allocation> {
  const { startTime, endTime, by, method = "utilization", provider } = query;
  const sums = new Map<string, Map<Group, bigint>>();
  const unallocated = await divideAmongDevices(backend, query, ({ device, currency, amount }) => {
    const ofCurrency = sums.getOrInsertComputed(currency, () => new Map());
    for (const [group, part] of divideDevice(amount, device, method)) {
      ofCurrency.set(group, (ofCurrency.get(group) ?? 0n) + part);
    }
  });
  const tokens = await readTokens(backend, by, { startTime, endTime, provider });
  const rows = [...sums].sort(([a], [b]) => a < b ? -1 : 1)
    .flatMap(([currency, groups]) => toRows(currency, groups, tokens));
  const total = ([currency, groups]: [string, Map<Group, bigint>]) =>
    [currency, toText([...groups.values()].reduce((sum, part) => sum + part, 0n))] as const;
  return { rows, totals: Object.fromEntries([...sums].map(total).sort()), unallocated };
}

/** Cost of a device, and the part of it that was not used. */
export interface DeviceCost {
  nodeId: string;
  deviceId: string;
  /** Partition of the device, where it has any. */
  partition?: string;
  currency: string;
  /** Exact cost: a canonical decimal string. */
  cost: string;
  /** Exact part of the cost that belongs to the time in which the device did not compute. */
  idleCost: string;
}

/**
 * Divides the cost of nodes among their devices, and that of each device into what was used and what was idle.
 *
 * @throws {ValidationError} If the query is wrong.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function deviceCosts(
  backend: Pick<Backend, "aggregate">,
  query: Omit<AllocationQuery, "by" | "method" | "provider">,
): Promise<DeviceCost[]> {
  const sums = new Map<string, { of: Omit<DeviceCost, "cost" | "idleCost">; cost: bigint; idle: bigint }>();
  await divideAmongDevices(backend, query, ({ device, currency, amount }) => {
    const of = { ...device.id, currency };
    const sum = sums.getOrInsertComputed(JSON.stringify(of), () => ({ of, cost: 0n, idle: 0n }));
    sum.cost += amount;
    for (const [group, part] of divideDevice(amount, device, "utilization")) {
      if (group === IDLE) sum.idle += part;
    }
  });
  return [...sums].sort(([a], [b]) => a < b ? -1 : 1).map(([, { of, cost, idle }]) => ({
    ...of,
    cost: toText(cost),
    idleCost: toText(idle),
  }));
}

/**
 * Divides the costs of each span among the devices that were seen in it, and reports each share.
 *
 * @returns The costs of the time that no device was seen for, by currency.
 */
async function divideAmongDevices(
  backend: Pick<Backend, "aggregate">,
  { startTime, endTime, by, basis = "estimated", bucket = DAY, timeZone = "UTC" }:
    & Omit<AllocationQuery, "by">
    & Partial<Pick<AllocationQuery, "by">>,
  onShare: (share: { device: Device; currency: string; amount: bigint }) => void,
): Promise<Record<string, string>> {
  if (!(startTime < endTime)) {
    throw new ValidationError({
      subject: "an allocation",
      field: "startTime",
      value: startTime,
      expected: "before endTime",
    });
  }
  const unallocated = new Map<string, bigint>();
  // One span after the other: a year of a thousand nodes must not be in memory at once.
  for (const span of bucketsOf(bucketRangesOf(bucket, { start: startTime, end: endTime, timeZone }))) {
    const within = { startTime: Math.max(span.start, startTime), endTime: Math.min(span.end, endTime) };
    const costs = await readCosts(backend, basis, within);
    const nodes = costs.length > 0 ? await readDevices(backend, by, within) : new Map();
    for (const { resourceId, currency, amount } of costs) {
      const devices: Device[] | undefined = nodes.get(resourceId);
      if (!devices) {
        unallocated.set(currency, (unallocated.get(currency) ?? 0n) + amount);
        continue;
      }
      const shares = divide(amount, devices.map(({ weight }) => weight));
      devices.forEach((device, i) => onShare({ device, currency, amount: shares[i] }));
    }
  }
  return Object.fromEntries(
    [...unallocated].map(([currency, sum]) => [currency, toText(sum)] as const).sort(),
  );
}

const DAY: Bucket = { count: 1, unit: "d" };

/**
 * Divides an amount by weights, so that the parts add up to it: each gets its share by weight, rounded down to whole units,
 * and the units that are left go to those that were cut the most; of equals to the first. Without any weight, the
 * first gets all.
 */
export function divide(amount: bigint, weights: readonly bigint[]): bigint[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0n);
  if (total === 0n) return weights.map((_, i) => i === 0 ? amount : 0n);
  const sign = amount < 0n ? -1n : 1n;
  const positive = amount * sign;
  const parts = weights.map((weight) => positive * weight / total);
  const rests = weights.map((weight) => positive * weight % total);
  const left = positive - parts.reduce((sum, part) => sum + part, 0n);
  const order = rests.map((_, i) => i).sort((a, b) =>
    rests[a] === rests[b] ? a - b : rests[a] > rests[b] ? -1 : 1
  );
  for (const i of order.slice(0, Number(left))) parts[i]++;
  return parts.map((part) => part * sign);
}

/** The parts of the cost of a device. */
function divideDevice(amount: bigint, { uses }: Device, method: AllocationMethod): [Group, bigint][] {
  // A device without the label that did nothing is idle.
  const counted = uses.filter(({ value, utilization }) =>
    method !== "utilization" || value !== null || utilization > 0n
  );
  const weights: [Group, bigint][] = counted.map((use) => {
    if (method === "utilization") return [use.value, use.utilization];
    const group = use.value ?? IDLE; // without the label no workload had it
    return [group, method === "time" ? BigInt(use.samples) : group === IDLE ? 0n : 1n];
  });
  if (method === "utilization") {
    const possible = uses.reduce((sum, { measured }) => sum + BigInt(measured) * FULL, 0n);
    const used = weights.reduce((sum, [, weight]) => sum + weight, 0n);
    weights.push([IDLE, possible > used ? possible - used : 0n]);
  }
  if (weights.every(([, weight]) => weight === 0n)) return [[IDLE, amount]];
  return divide(amount, weights.map(([, weight]) => weight)).map((part, i) => [weights[i][0], part]);
}

/** Full utilization of a sample, in millionths of a percent. */
const FULL = 100_000_000n;

/** Fields that name a device. */
export const DEVICE = ["nodeId", "deviceId", "partition"] as const;

/** The devices by node, and each by its own id, with their uses; in an order that does not depend on the backend. */
async function readDevices(
  backend: Pick<Backend, "aggregate">,
  by: string | undefined,
  within: { startTime: number; endTime: number },
): Promise<Map<string, Device[]>> {
  const rows = await backend.aggregate(deviceMetrics, acceptQuery(deviceMetrics, within), {
    groupBy: [
      ...DEVICE.map((field) => ({ field })),
      ...(by === undefined ? [] : [{ field: "labels", key: by }]),
    ],
    measures: [
      { function: "count" },
      { function: "count", field: "utilization" },
      { function: "sum", field: "utilization" },
      { function: "max", field: "memoryTotal" },
    ],
  });
  const sorted = rows.toSorted((a, b) => JSON.stringify(a.group) < JSON.stringify(b.group) ? -1 : 1);
  const nodes = new Map<string, Map<string, Pick<Device, "id"> & { memory: number; uses: Use[] }>>();
  for (const { group: [nodeId, deviceId, partition, value = null], values } of sorted) {
    const [samples, measured, utilization, memory] = values as (number | null)[];
    const devices = nodes.getOrInsertComputed(nodeId!, () => new Map());
    const device = devices.getOrInsertComputed(JSON.stringify([deviceId, partition]), () => {
      const id = { nodeId: nodeId!, deviceId: deviceId!, ...(partition === null ? {} : { partition }) };
      return { id, memory: 0, uses: [] };
    });
    device.memory = Math.max(device.memory, memory ?? 0);
    device.uses.push({
      value,
      samples: samples!,
      measured: measured!,
      utilization: BigInt(Math.round((utilization ?? 0) * 1e6)),
    });
  }
  const found = new Map<string, Device[]>();
  for (const [nodeId, devices] of nodes) {
    const isKnown = [...devices.values()].every(({ memory }) => memory > 0);
    for (const { id, memory, uses } of devices.values()) {
      const device = { id, weight: isKnown ? BigInt(memory) : 1n, uses };
      for (const name of new Set([nodeId, id.deviceId])) found.set(name, [...found.get(name) ?? [], device]);
    }
  }
  return found;
}

/** Costs by resource and currency, in units of 10⁻¹⁸. */
async function readCosts(
  backend: Pick<Backend, "aggregate">,
  basis: "billed" | "estimated",
  within: { startTime: number; endTime: number },
): Promise<{ resourceId: string; currency: string; amount: bigint }[]> {
  const query: RecordQuery = acceptQuery(costEntries, { ...within, where: [{ field: "basis", eq: basis }] });
  const rows = await backend.aggregate(costEntries, query, {
    groupBy: [{ field: "resourceId" }, { field: "currency" }],
    measures: [{ function: "sum", field: "amount" }],
  });
  return rows.map(({ group: [resourceId, currency], values: [sum] }) => (
    { resourceId: resourceId!, currency: currency!, amount: Decimal.from(sum as string).scaled }
  ));
}

/** Tokens by model, or by the tag of the same name. */
async function readTokens(
  backend: Pick<Backend, "aggregate">,
  by: string,
  within: { startTime: number; endTime: number; provider?: string },
): Promise<Map<string | null, number>> {
  const rows = await backend.aggregate(usageRecords, acceptQuery(usageRecords, within), {
    groupBy: [by === "model" ? { field: "model" } : { field: "tags", key: by }],
    measures: [{ function: "sum", field: "inputTokens" }, { function: "sum", field: "outputTokens" }],
  });
  return new Map(
    rows.map((
      { group: [value], values: [input, output] },
    ) => [value, Number(input ?? 0) + Number(output ?? 0)]),
  );
}

function toRows(
  currency: string,
  groups: ReadonlyMap<Group, bigint>,
  tokens: ReadonlyMap<string | null, number>,
): AllocatedCost[] {
  const rank = ([group, part]: [Group, bigint]) =>
    [group === IDLE, -part, String(group === IDLE ? "" : group)] as const;
  return [...groups].sort((a, b) => {
    const [[aIdle, aCost, aName], [bIdle, bCost, bName]] = [rank(a), rank(b)];
    return Number(aIdle) - Number(bIdle) || (aCost < bCost ? -1 : aCost > bCost ? 1 : aName < bName ? -1 : 1);
  }).map(([group, part]): AllocatedCost => {
    if (group === IDLE) return { group: null, isIdle: true, currency, cost: toText(part) };
    const used = tokens.get(group);
    if (!used) return { group, currency, cost: toText(part) };
    const perMillion = Decimal.fromParts(0n, part).timesFraction(1_000_000n, BigInt(used)).toString();
    return { group, currency, cost: toText(part), tokens: used, costPerMillionTokens: perMillion };
  });
}

function toText(amount: bigint): string {
  return Decimal.fromParts(0n, amount).toString();
}
