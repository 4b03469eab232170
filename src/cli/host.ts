import { EVERYTHING, isGranted } from "../permissions.ts";
import type { SystemMetricsInput } from "../records/system_metrics.ts";
import { AmdGpus, type DeviceSample, NvidiaGpus } from "./gpus.ts";
import { lastBlocked, limitPrograms } from "./helper_programs.ts";

/** Time that a sample waits for a measure, in milliseconds. */
const MEASURE_LIMIT_MS = 5_000;
/** Pause before a measure that was too slow is taken again, in milliseconds. */
const RETRY_MS = 60_000;

/** One sample of a machine, and of each of its accelerators. */
export interface HostSample extends Omit<SystemMetricsInput, "timestamp"> {
  devices?: readonly DeviceSample[];
}

/** Samples the machine that this runs on. */
export interface Host {
  /** Name of the machine. Reading it needs a permission. */
  readonly name: string;
  /** Takes one sample within seconds. What cannot be measured here, or takes too long, is absent. */
  sample(): Promise<HostSample>;
}

/**
 * Loads the library that samples this machine, and takes a first, unused sample: rates need two.
 *
 * @param onNotice Gets a message when a measure is left out, and when it is taken again.
 * @param intervalMs The time between samples.
 */
export async function openHost(onNotice: (message: string) => void, intervalMs: number): Promise<Host> {
  limitPrograms();
  const { default: information } = await import("systeminformation");
  const measure = <T>(name: string, needs: readonly Deno.PermissionDescriptor[], take: () => Promise<T>) =>
    new Measure(name, { needs, take, onNotice });
  const load = measure("CPU usage", LOAD, () => information.currentLoad());
  const memory = measure("memory usage", MEMORY, () => information.mem());
  const disks = measure("disk usage (df)", EVERYTHING, () => information.fsSize());
  const networks = measure("network traffic", EVERYTHING, () => information.networkStats("*"));
  const temperature = measure("temperature (sensors)", EVERYTHING, () => information.cpuTemperature());
  const gpus = isGranted(...EVERYTHING) ? [new NvidiaGpus({ intervalMs, onNotice }), new AmdGpus()] : [];
  const sample = async () => {
    // Started in this order: a program that blocks the thread comes last.
    const taken = [load, memory, disks, temperature, networks].map((measure) => measure.take());
    await Promise.all(taken);
    const devices = gpus.flatMap((gpus) => gpus.take(performance.now()));
    const fields = withoutNulls({
      cpuUsage: load.value?.currentLoad,
      memoryUsage: memory.value && 100 * (1 - memory.value.available / memory.value.total),
      diskUsage: disks.value && 100 * share(disks.value.map(({ used, size }) => [used, size])),
      networkIo: networks.value &&
        sum(networks.value.map(({ rx_sec, tx_sec }) => (rx_sec ?? 0) + (tx_sec ?? 0))) / 1e6,
      temperature: temperature.value?.main,
      gpuUsage: mean(devices.map(({ utilization }) => utilization)),
      powerConsumption: sum(devices.map(({ powerConsumption = 0 }) => powerConsumption)) || undefined,
    });
    return { ...fields, devices };
  };
  await sample();
  return {
    get name() {
      return Deno.hostname();
    },
    sample,
  };
}

/** Permissions that CPU and memory need. For all else programs are run, or /proc and /sys are read. */
const LOAD: readonly Deno.PermissionDescriptor[] = [
  { name: "sys", kind: "cpus" },
  { name: "sys", kind: "loadavg" },
];
const MEMORY: readonly Deno.PermissionDescriptor[] = [{ name: "sys", kind: "systemMemoryInfo" }];

interface MeasureOptions<T> {
  /** The permissions without which it is not taken: the library would throw where no caller can catch it. */
  readonly needs: readonly Deno.PermissionDescriptor[];
  take(): Promise<T>;
  onNotice(message: string): void;
}

/** One measure of the machine, of which at most one runs at any time. */
class Measure<T> {
  /** The value of this sample; absent where the machine lacks it, or it took too long. */
  value: T | undefined;
  readonly #name: string;
  readonly #options: MeasureOptions<T>;
  #isRunning = false;
  /** The last one took too long: samples do not wait for it. */
  #isSlow = false;
  #retryAt = -Infinity;

  constructor(name: string, options: MeasureOptions<T>) {
    this.#name = name;
    this.#options = options;
  }

  /** Sets the value, or leaves it out after the limit. */
  async take(): Promise<void> {
    this.value = undefined;
    if (this.#isRunning || performance.now() < this.#retryAt || !isGranted(...this.#options.needs)) return;
    this.#isRunning = true;
    const run = this.#run();
    if (this.#isSlow) return;
    const limit = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#skip();
      limit.resolve();
    }, MEASURE_LIMIT_MS);
    await Promise.race([run, limit.promise]);
    clearTimeout(timer);
  }

  async #run(): Promise<void> {
    const start = performance.now();
    let value: T | undefined;
    try {
      value = await this.#options.take();
    } catch {
      // a measure that this machine does not have
    }
    this.#isRunning = false;
    if (performance.now() - start >= MEASURE_LIMIT_MS || lastBlocked() >= start) {
      this.#skip();
      this.#retryAt = performance.now() + RETRY_MS;
    } else if (this.#isSlow) {
      this.#isSlow = false;
      this.#options.onNotice(`Measured again: ${this.#name}.`);
    } else this.value = value;
  }

  #skip(): void {
    if (this.#isSlow) return;
    this.#isSlow = true;
    const seconds = MEASURE_LIMIT_MS / 1_000;
    this.#options.onNotice(
      `Left out of the samples: ${this.#name} gave no answer within ${seconds} s. It is tried again each minute.`,
    );
  }
}

function mean(values: readonly (number | undefined)[]): number | undefined {
  const measured = values.filter(isMeasured);
  return measured.length > 0 ? sum(measured) / measured.length : undefined;
}

function isMeasured(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}

/** The measured fields, rounded to two decimals. */
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
