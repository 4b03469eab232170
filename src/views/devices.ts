import { aggregateMetrics } from "../aggregation/aggregate.ts";
import type { Backend } from "../backends/backend.ts";
import { Decimal } from "../records/decimal.ts";
import { type DeviceMetrics, deviceMetrics } from "../records/device_metrics.ts";
import { acceptQuery, type DeviceMetricsQuery } from "../records/query.ts";
import { type AllocationQuery, DEVICE, type DeviceCost, deviceCosts } from "./allocation.ts";

/** Question of {@linkcode devicesView}. */
export interface DevicesQuery
  extends
    Pick<AllocationQuery, "startTime" | "endTime" | "basis" | "timeZone">,
    Pick<DeviceMetricsQuery, "clusterId"> {
  /**
   * Mean utilization below which a device is idle, percent.
   *
   * @default {5}
   */
  idleBelow?: number;
}

/** Utilization and cost of a device. Measures that were not taken are absent. */
export interface DeviceUse
  extends
    Pick<DeviceMetrics, "clusterId" | "nodeId" | "deviceId" | "deviceIndex" | "partition" | "utilization">,
    Pick<DeviceMetrics, "memoryUsed" | "memoryTotal" | "powerConsumption" | "temperature"> {
  samples: number;
  /** True if the mean utilization is below the threshold. */
  isIdle?: true;
  /** Cost of the device by currency, with the part that was not used. */
  costs: Pick<DeviceCost, "currency" | "cost" | "idleCost">[];
}

/** Exact totals of the devices in one currency. */
export interface DeviceTotal {
  currency: string;
  cost: string;
  /** Part of it that was not used, also of devices that are busy at times. */
  idleCost: string;
  /** Cost of the devices that are idle. */
  costOfIdleDevices: string;
}

/** Devices in a time range. */
export interface DevicesView {
  /** Start of the range, in epoch milliseconds. */
  startTime: number;
  /** End of the range, exclusive, in epoch milliseconds. */
  endTime: number;
  /** Each device, by cluster, node and index. Utilization, power and temperature are means, memory the maximum. */
  devices: DeviceUse[];
  /** Totals by currency. */
  totals: DeviceTotal[];
}

/**
 * Returns the utilization of devices, and what the idle ones cost.
 *
 * @throws {ValidationError} If the query is wrong.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function devicesView(
  backend: Pick<Backend, "aggregate">,
  { idleBelow = 5, clusterId, ...query }: DevicesQuery,
): Promise<DevicesView> {
  const { startTime, endTime } = query;
  acceptQuery(deviceMetrics, { startTime, endTime });
  const rows = await aggregateMetrics(backend, deviceMetrics, {
    startTime,
    endTime,
    ...(clusterId === undefined ? {} : { clusterId }),
    groupBy: ["clusterId", ...DEVICE],
    fields: {
      utilization: ["avg"],
      deviceIndex: ["min"],
      memoryUsed: ["max"],
      memoryTotal: ["max"],
      powerConsumption: ["avg"],
      temperature: ["avg"],
    },
  });
  const nameOf = (device: object) =>
    JSON.stringify(DEVICE.map((field) => (device as Record<string, unknown>)[field] ?? null));
  const costs = Map.groupBy(rows.length > 0 ? await deviceCosts(backend, query) : [], nameOf);
  const devices = rows.map(({ group, count, fields }): DeviceUse => {
    const taken = Object.entries(fields).map(([field, measures]) =>
      [field, Object.values(measures)[0]] as const
    )
      .filter(([, value]) => value !== null && value !== undefined);
    const named = Object.entries(group!).filter(([, value]) => value !== null);
    const device = Object.fromEntries([...named, ...taken]) as unknown as DeviceUse;
    return {
      ...device,
      samples: count,
      ...(device.utilization !== undefined && device.utilization < idleBelow ? { isIdle: true } : {}),
      costs: take(costs, nameOf(group!)).map(({ currency, cost, idleCost }) => ({
        currency,
        cost,
        idleCost,
      })),
    };
  });
  return { startTime, endTime, devices: devices.toSorted(byPlace), totals: totalsOf(devices) };
}

/** Takes the costs of a device out of the map: none counts twice where clusters have nodes of equal names. */
function take(costs: Map<string, DeviceCost[]>, name: string): DeviceCost[] {
  const found = costs.get(name) ?? [];
  costs.delete(name);
  return found;
}

function byPlace(a: DeviceUse, b: DeviceUse): number {
  const [left, right] = [a, b].map(({ clusterId, nodeId }) => JSON.stringify([clusterId, nodeId]));
  if (left !== right) return left < right ? -1 : 1;
  return (a.deviceIndex ?? 0) - (b.deviceIndex ?? 0) || (nameOfDevice(a) < nameOfDevice(b) ? -1 : 1);
}

function nameOfDevice({ deviceId, partition = "" }: DeviceUse): string {
  return `${deviceId} ${partition}`;
}

function totalsOf(devices: readonly DeviceUse[]): DeviceTotal[] {
  const all = devices.flatMap(({ isIdle, costs }) => costs.map((cost) => ({ isIdle, ...cost })));
  const add = (amounts: readonly string[]) =>
    amounts.reduce((sum, amount) => sum.plus(Decimal.from(amount)), Decimal.ZERO).toString();
  return [...Map.groupBy(all, ({ currency }) => currency)].toSorted(([a], [b]) => a < b ? -1 : 1).map(
    ([currency, found]) => ({
      currency,
      cost: add(found.map(({ cost }) => cost)),
      idleCost: add(found.map(({ idleCost }) => idleCost)),
      costOfIdleDevices: add(found.filter(({ isIdle }) => isIdle).map(({ cost }) => cost)),
    }),
  );
}
