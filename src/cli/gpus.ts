/**
 * Samples of GPUs from the programs of their vendors.
 *
 * @module
 */
import type { DeviceMetricsInput } from "../records/device_metrics.ts";
import { runProgram, startProgram } from "./helper_programs.ts";

export type DeviceSample = Omit<DeviceMetricsInput, "timestamp" | "clusterId" | "nodeId">;

/** Samples the GPUs of a vendor. */
export interface Gpus {
  /** Returns the newest sample of each device; none where the machine has no such device, or its program fails. */
  take(now: number): DeviceSample[];
}

/** Options of {@linkcode NvidiaGpus}. */
export interface GpuOptions {
  /** Time between samples, in milliseconds. */
  readonly intervalMs: number;
  /** Gets a message when sampling fails, and when it goes on. */
  onNotice(message: string): void;
}

/** Time that a program may be silent, in milliseconds. */
const SILENCE_LIMIT_MS = 5_000;
/** Pause before a program that failed is started again, in milliseconds. */
const RETRY_MS = 60_000;
const MIB = 1_048_576;

/** Column of `nvidia-smi --query-gpu` and what it becomes. */
interface Column {
  readonly query: string;
  readonly field: keyof DeviceSample;
  readonly scale?: number;
  readonly isText?: true;
}

/** The columns that every driver knows. */
const BASIC: readonly Column[] = [
  { query: "index", field: "deviceIndex" },
  { query: "uuid", field: "deviceId", isText: true },
  { query: "name", field: "model", isText: true },
  { query: "utilization.gpu", field: "utilization" },
  { query: "utilization.memory", field: "memoryUtilization" },
  { query: "memory.used", field: "memoryUsed", scale: MIB },
  { query: "memory.total", field: "memoryTotal", scale: MIB },
  { query: "temperature.gpu", field: "temperature" },
  { query: "power.draw", field: "powerConsumption" },
];
/** The columns of present drivers; an older one refuses the whole query. */
const FULL: readonly Column[] = [
  ...BASIC,
  { query: "temperature.memory", field: "memoryTemperature" },
  { query: "clocks.sm", field: "clockSm" },
  { query: "clocks.mem", field: "clockMemory" },
  { query: "clocks_throttle_reasons.active", field: "throttled", isText: true },
  { query: "mig.mode.current", field: "partition", isText: true },
];
/** Reasons of slower clocks: power cap, heat and brakes; not idle and not a clock that was set. */
const THROTTLED = 0xec;

interface Newest {
  readonly sample: DeviceSample;
  readonly at: number;
  /** Energy since the start of sampling, in joules. */
  readonly energy: number;
}

/** NVIDIA GPUs, by one `nvidia-smi` that runs as long as the sampling does. */
export class NvidiaGpus implements Gpus {
  readonly #options: GpuOptions;
  readonly #newest = new Map<string, Newest>();
  #columns = FULL;
  #stop: (() => void) | undefined;
  /** Last line that was understood, or the start of the program. */
  #heardAt = 0;
  #retryAt = -Infinity;
  #hasFailed = false;
  #hasNotedLine = false;
  #mig: DeviceSample[] = [];
  #isReadingMig = false;

  /** Makes a sampler; the program starts with the first sample. */
  constructor(options: GpuOptions) {
    this.#options = options;
  }

  take(now: number): DeviceSample[] {
    const limitMs = Math.max(SILENCE_LIMIT_MS, 3 * this.#options.intervalMs);
    if (this.#stop && now - this.#heardAt > limitMs) {
      this.#stop();
      this.#fail(now, `gave no answer within ${limitMs / 1_000} s`);
    } else if (!this.#stop && now >= this.#retryAt) this.#start(now);
    const found = [...this.#newest.values()].filter(({ at }) => now - at <= limitMs).map(({ sample }) =>
      sample
    );
    const isPartitioned = found.some(({ partition }) => partition === "Enabled");
    if (isPartitioned) this.#readMig();
    const devices = found.map(({ partition: _, ...sample }) => sample);
    return isPartitioned ? [...devices, ...this.#mig] : devices;
  }

  #start(now: number): void {
    const seconds = Math.max(1, Math.round(this.#options.intervalMs / 1_000));
    const columns = this.#columns;
    const args = [
      `--query-gpu=${columns.map(({ query }) => query).join(",")}`,
      "--format=csv,noheader,nounits",
      "-l",
      String(seconds),
    ];
    this.#heardAt = now;
    let hasLines = false;
    const stop = startProgram("nvidia-smi", args, {
      onLine: (line) => {
        const sample = this.#read(columns, line);
        hasLines ||= sample;
        if (sample && this.#hasFailed) {
          this.#hasFailed = false;
          this.#options.onNotice("Measured again: GPU usage (nvidia-smi).");
        }
      },
      onEnd: () => {
        if (this.#stop !== stop) return; // it was stopped
        this.#stop = undefined;
        if (!hasLines && columns === FULL) {
          this.#columns = BASIC;
          this.#retryAt = -Infinity;
        } else if (hasLines || this.#hasFailed) this.#fail(performance.now(), "ended");
        else this.#retryAt = performance.now() + RETRY_MS; // no driver is loaded
      },
    });
    this.#stop = stop;
    if (!stop) this.#retryAt = Infinity; // the machine has no such program
  }

  #fail(now: number, what: string): void {
    this.#stop = undefined;
    this.#retryAt = now + RETRY_MS;
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#options.onNotice(
      `Left out of the samples: GPU usage (nvidia-smi) ${what}. It is started again each minute.`,
    );
  }

  /** Reads a line; returns true if it is one of a GPU. */
  #read(columns: readonly Column[], line: string): boolean {
    const cells = line.split(",").map((cell) => cell.trim());
    const now = performance.now();
    if (cells.length !== columns.length || !/^(GPU|MIG)-/.test(cells[1])) {
      if (!this.#hasNotedLine && line.trim() !== "") {
        this.#hasNotedLine = true;
        this.#options.onNotice(
          `nvidia-smi printed a line without a GPU, which is left out: ${line.slice(0, 200)}`,
        );
      }
      return false;
    }
    this.#heardAt = now;
    const before = this.#newest.get(cells[1]);
    const sample = toSample(columns, cells);
    const watts = sample.powerConsumption ?? 0;
    const energy = (before?.energy ?? 0) + (before ? watts * (now - before.at) / 1_000 : 0);
    if (sample.powerConsumption !== undefined) sample.energyConsumption = Math.round(energy * 100) / 100;
    this.#newest.set(cells[1], { sample, at: now, energy });
    return true;
  }

  /** Reads the MIG instances, which only the XML of `nvidia-smi -q` lists with their memory. */
  #readMig(): void {
    if (this.#isReadingMig) return;
    this.#isReadingMig = true;
    runProgram("nvidia-smi", ["-q", "-x"]).then(
      (xml) => this.#mig = readMigDevices(xml),
      () => this.#mig = [],
    )
      .finally(() => this.#isReadingMig = false);
  }
}

function toSample(columns: readonly Column[], cells: readonly string[]): DeviceSample {
  const sample: Record<string, unknown> = { vendor: "nvidia" };
  columns.forEach(({ field, scale = 1, isText }, i) => {
    const cell = cells[i];
    if (cell.startsWith("[") || cell === "") return; // [N/A], [Not Supported], [Unknown Error]
    if (field === "throttled") {
      if (/^0x[0-9a-f]+$/i.test(cell)) sample.throttled = (Number(BigInt(cell) & 0xffn) & THROTTLED) !== 0;
    } else if (isText) sample[field] = cell;
    else if (/^-?\d+(\.\d+)?$/.test(cell)) sample[field] = Number(cell) * scale;
  });
  return sample as unknown as DeviceSample;
}

/** Reads the MIG instances of the XML that `nvidia-smi -q -x` prints: each with its memory. */
export function readMigDevices(xml: string): DeviceSample[] {
  const of = (text: string, name: string) =>
    new RegExp(`<${name}>\\s*([^<]*?)\\s*</${name}>`).exec(text)?.[1];
  return [...xml.matchAll(/<gpu id=[\s\S]*?<\/gpu>/g)].flatMap(([gpu]) => {
    const deviceId = of(gpu, "uuid");
    const model = of(gpu, "product_name");
    if (deviceId === undefined) return [];
    return [...gpu.matchAll(/<mig_device>([\s\S]*?)<\/mig_device>/g)].map(([, instance]): DeviceSample => {
      const memory = /<fb_memory_usage>([\s\S]*?)<\/fb_memory_usage>/.exec(instance)?.[1] ?? "";
      const bytes = (name: string) => {
        const mib = Number.parseFloat(of(memory, name) ?? "");
        return Number.isFinite(mib) ? Math.round(mib * MIB) : undefined;
      };
      return {
        deviceId,
        vendor: "nvidia",
        ...(model === undefined ? {} : { model }),
        partition: `${of(instance, "gpu_instance_id") ?? "?"}/${of(instance, "compute_instance_id") ?? "?"}`,
        memoryUsed: bytes("used"),
        memoryTotal: bytes("total"),
      };
    });
  });
}

/** AMD GPUs, by `amd-smi metric --json`, which runs again for each sample. */
export class AmdGpus implements Gpus {
  #newest: DeviceSample[] = [];
  #isReading = false;
  #retryAt = -Infinity;

  take(now: number): DeviceSample[] {
    if (!this.#isReading && now >= this.#retryAt) {
      this.#isReading = true;
      runProgram("amd-smi", ["metric", "--json"]).then(
        (json) => this.#newest = readAmdMetrics(json),
        (error) => {
          this.#newest = [];
          this.#retryAt = error instanceof Deno.errors.NotFound ? Infinity : performance.now() + RETRY_MS;
        },
      ).finally(() => this.#isReading = false);
    }
    return this.#newest;
  }
}

/** Fields of `amd-smi metric --json`, and the paths of their values. */
const AMD_FIELDS: readonly [field: keyof DeviceSample, paths: readonly string[], scale?: number][] = [
  ["utilization", ["usage.gfx_activity"]],
  ["memoryUtilization", ["usage.umc_activity"]],
  ["memoryUsed", ["mem_usage.used_vram"], MIB],
  ["memoryTotal", ["mem_usage.total_vram"], MIB],
  ["temperature", ["temperature.hotspot", "temperature.edge"]],
  ["memoryTemperature", ["temperature.mem"]],
  ["powerConsumption", ["power.socket_power"]],
  ["energyConsumption", ["energy.total_energy_consumption"]],
  ["clockSm", ["clock.gfx_0.clk"]],
  ["clockMemory", ["clock.mem_0.clk"]],
];

/**
 * Reads what `amd-smi metric --json` prints: a list of GPUs, in which a measure is a number, `{ value, unit }`, or `N/A`.
 *
 * @throws {SyntaxError} If it is no JSON.
 */
export function readAmdMetrics(json: string): DeviceSample[] {
  const found = JSON.parse(json) as unknown;
  const list = Array.isArray(found) ? found : (found as { gpu_data?: unknown[] }).gpu_data ?? [];
  return list.flatMap((gpu) => {
    const index = (gpu as { gpu?: unknown }).gpu;
    if (typeof index !== "number") return [];
    const sample: Record<string, unknown> = { deviceId: `amd-${index}`, deviceIndex: index, vendor: "amd" };
    for (const [field, paths, scale = 1] of AMD_FIELDS) {
      const value = paths.map((path) => numberAt(gpu, path)).find((value) => value !== undefined);
      if (value !== undefined) sample[field] = value * scale;
    }
    return [sample as unknown as DeviceSample];
  });
}

function numberAt(from: unknown, path: string): number | undefined {
  const found = path.split(".").reduce<unknown>(
    (inner, name) => (inner as Record<string, unknown> | null)?.[name],
    from,
  );
  const value = typeof found === "object" && found !== null ? (found as { value?: unknown }).value : found;
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
