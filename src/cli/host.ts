import { EVERYTHING, isGranted } from "../permissions.ts";
import type { SystemMetricsInput } from "../records/system_metrics.ts";

/** Samples the machine that this runs on. */
export interface Host {
  /** The name of the machine; asking for it takes a permission. */
  readonly name: string;
  /** Takes one sample. What cannot be measured here is absent. */
  sample(): Promise<Omit<SystemMetricsInput, "timestamp">>;
}

/** Loads what it takes to sample this machine, and takes a first, unused sample: rates need two. */
export async function openHost(): Promise<Host> {
  const { default: information } = await import("systeminformation");
  const sample = async () => {
    const [load, memory, disks, networks, temperature, graphics] = await Promise.all([
      measure(LOAD, () => information.currentLoad()),
      measure(MEMORY, () => information.mem()),
      measure(EVERYTHING, () => information.fsSize()),
      measure(EVERYTHING, () => information.networkStats("*")),
      measure(EVERYTHING, () => information.cpuTemperature()),
      measure(EVERYTHING, () => information.graphics()),
    ]);
    const gpus = graphics?.controllers.filter(({ utilizationGpu }) => isMeasured(utilizationGpu)) ?? [];
    return withoutNulls({
      cpuUsage: load?.currentLoad,
      memoryUsage: memory && 100 * (1 - memory.available / memory.total),
      diskUsage: disks && 100 * share(disks.map(({ used, size }) => [used, size])),
      networkIo: networks && sum(networks.map(({ rx_sec, tx_sec }) => (rx_sec ?? 0) + (tx_sec ?? 0))) / 1e6,
      temperature: temperature?.main,
      gpuUsage: gpus.length > 0 ? sum(gpus.map((gpu) => gpu.utilizationGpu!)) / gpus.length : undefined,
      powerConsumption: graphics && sum(graphics.controllers.map((gpu) => gpu.powerDraw ?? 0)) || undefined,
    });
  };
  await sample();
  return {
    get name() {
      return Deno.hostname();
    },
    sample,
  };
}

/** What it takes to measure CPU and memory; for all else programs are run, or /proc and /sys are read. */
const LOAD: readonly Deno.PermissionDescriptor[] = [
  { name: "sys", kind: "cpus" },
  { name: "sys", kind: "loadavg" },
];
const MEMORY: readonly Deno.PermissionDescriptor[] = [{ name: "sys", kind: "systemMemoryInfo" }];

/**
 * A measure that this machine does not have, or that may not be taken, is no reason to stop. What may not be taken
 * is not tried: the library would throw where nobody can catch it.
 */
async function measure<T>(
  wanted: readonly Deno.PermissionDescriptor[],
  take: () => Promise<T>,
): Promise<T | undefined> {
  if (!isGranted(...wanted)) return undefined;
  try {
    return await take();
  } catch {
    return undefined;
  }
}

function isMeasured(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** Only what was measured, with the two decimals that such measures are good for. */
function withoutNulls(sample: Record<string, unknown>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(sample)
      .filter((entry): entry is [string, number] => isMeasured(entry[1]))
      .map(([field, value]) => [field, Math.round(value * 100) / 100]),
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function share(pairs: readonly (readonly [number, number])[]): number {
  return sum(pairs.map(([part]) => part)) / sum(pairs.map(([, whole]) => whole));
}
