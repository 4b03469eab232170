import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { type CostEntryInput, CostObservatory, ObservabilityHub } from "../mod.ts";
import { readAmdMetrics, readMigDevices } from "../src/cli/gpus.ts";
import { sampleUntil } from "../src/cli/sampling.ts";
import { Meter } from "../src/cli/meter.ts";
import { OutageReporter } from "../src/cli/outage_reporter.ts";
import { Decimal } from "../src/records/decimal.ts";
import { DatabaseSync } from "node:sqlite";
import { assert, assertEquals } from "./assert.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { RUN, withoutSlowMeasures } from "./command.ts";
import { until } from "./until.ts";

const AT = ["--connection-string", "sqlite:///a.db"];

const test = (title: string, run: (folder: TemporaryFolder) => Promise<void>) =>
  Deno.test({
    name: `openfinops collect ${title}`,
    ignore: Deno.build.os === "windows", // has neither signals to send nor these programs
    fn: async () => {
      using folder = new TemporaryFolder();
      await run(folder);
    },
  });

/** Puts programs that note their process id and run a script in front of all others. */
function putFirst(folder: TemporaryFolder, programs: Record<string, string>): Record<string, string> {
  Deno.mkdirSync(folder.file("bin"));
  for (const [name, script] of Object.entries(programs)) {
    const path = folder.file(`bin/${name}`);
    Deno.writeTextFileSync(path, `#!/bin/sh\necho $$ >> "$0.pids"\n${script}\n`, { mode: 0o755 });
  }
  return { PATH: `${folder.file("bin")}:${Deno.env.get("PATH")}` };
}

/** The processes that a program was started as. */
function startsOf(folder: TemporaryFolder, program: string): number[] {
  try {
    return Deno.readTextFileSync(folder.file(`bin/${program}.pids`)).trim().split("\n").map(Number);
  } catch {
    return [];
  }
}

/** Returns true if the database has metrics. */
function hasMetrics(folder: TemporaryFolder): boolean {
  try {
    using database = new DatabaseSync(folder.file("a.db"), { readOnly: true });
    return database.prepare("SELECT 1 FROM system_metrics").get() !== undefined;
  } catch {
    return false; // not there yet, or not its tables
  }
}

/** Waits until a process has ended; one that nothing reaps has ended, too. */
async function hasEnded(pid: number): Promise<void> {
  await until(
    async () => {
      const { stdout } = await new Deno.Command("ps", { args: ["-o", "stat=", "-p", String(pid)] }).output();
      const state = new TextDecoder().decode(stdout).trim();
      return state === "" || state.startsWith("Z");
    },
    `process ${pid} to end`,
    20,
  );
}

interface Run {
  code: number;
  out: string;
  err: string;
}

/** Runs `collect` and sends it a signal once something is true. */
async function collectUntil(
  isTrue: (err: string) => boolean,
  { folder, env, signal }: { folder: TemporaryFolder; env: Record<string, string>; signal: Deno.Signal },
): Promise<Run> {
  const process = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "collect", "--interval", "100ms", "--cost-per-hour", "3600", ...AT],
    cwd: folder.path,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let err = "";
  let hasEnded = false;
  const read = async () => {
    for await (const piece of process.stderr.pipeThrough(new TextDecoderStream())) err += piece;
  };
  const stop = async () => {
    await until(() => isTrue(err) || hasEnded, () => `a moment to stop; collect says:\n${err}`, 50);
    if (!hasEnded) process.kill(signal);
  };
  const end = process.status.finally(() => hasEnded = true);
  const [out, { code }] = await Promise.all([new Response(process.stdout).text(), end, read(), stop()]);
  return { code, out, err };
}

async function query(folder: TemporaryFolder, dataset: string): Promise<Record<string, unknown>[]> {
  const args = [...RUN, "database", "query", dataset, ...AT, "--limit", "0", "--format", "json"];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, cwd: folder.path }).output();
  return JSON.parse(new TextDecoder().decode(stdout));
}

const HANG = "exec sleep 1000";

test("leaves out a measure when its program hangs, and ends on SIGTERM", async (folder) => {
  const programs = { df: HANG, "nvidia-smi": "trap '' TERM\nsleep 1000", sensors: HANG, lspci: HANG };
  const env = putFirst(folder, programs);
  const { code, out, err } = await collectUntil(() => hasMetrics(folder), { folder, env, signal: "SIGTERM" });
  assertEquals(code, 0, err);
  const notices = err.trim().split("\n");
  assertEquals(new Set(notices).size, notices.length, err);
  for (const name of ["df", "nvidia-smi"]) {
    assert(notices.some((line) => line.startsWith("Left out of the samples: ") && line.includes(name)), err);
  }
  for (const name of Object.keys(programs)) {
    const pids = startsOf(folder, name);
    assert(pids.length <= 1, `${name} was started ${pids.length} times`);
    await Promise.all(pids.map(hasEnded));
  }
  const metrics = await query(folder, "metrics");
  assert(metrics.length >= 1);
  for (const { cpuUsage, diskUsage, gpuUsage } of metrics) {
    assertEquals([typeof cpuUsage, diskUsage, gpuUsage], ["number", undefined, undefined]);
  }
  assert(out.startsWith(`Stored ${metrics.length} sample`), out);
  assert((await query(folder, "costs")).length >= 1);
});

test("ends on SIGINT when its first sample waits for a program", async (folder) => {
  const env = putFirst(folder, { df: HANG });
  const isHanging = () => startsOf(folder, "df").length > 0;
  const { code, err } = await collectUntil(isHanging, { folder, env, signal: "SIGINT" });
  assertEquals([code, err], [0, "Stopped before the first sample.\n"]);
  await Promise.all(startsOf(folder, "df").map(hasEnded));
});

test("ends when another process holds a program's output open", async (folder) => {
  // A process of another group, which a signal to the program does not reach, keeps the pipe.
  const env = putFirst(folder, {
    "nvidia-smi": `setsid sh -c 'echo $$ > holder.pid; exec sleep 1000' &\n${HANG}`,
  });
  const { code, err } = await collectUntil(() => hasMetrics(folder), { folder, env, signal: "SIGTERM" });
  assertEquals(code, 0, err);
  assert(err.includes("Left out of the samples: GPU usage"), err);
  Deno.kill(Number(Deno.readTextFileSync(folder.file("holder.pid"))), "SIGKILL");
});

/** A `nvidia-smi` that prints these lines each 0.1 s for a query of so many columns, and fails for others. */
const nvidiaSmi = (columns: number, lines: readonly string[]) =>
  `case "$1" in --query-gpu=*) ;; *) exit 2;; esac
[ $(echo "$1" | tr -cd , | wc -c) -eq ${columns - 1} ] || { echo "Field is not valid" >&2; exit 2; }
[ "$3" = -l ] || exit 2
while :; do ${lines.map((line) => `echo '${line}'`).join("; ")}; sleep 0.1; done`;

/** Returns true if the database has device metrics. */
function hasDevices(folder: TemporaryFolder): boolean {
  try {
    using database = new DatabaseSync(folder.file("a.db"), { readOnly: true });
    return database.prepare("SELECT 1 FROM device_metrics").get() !== undefined;
  } catch {
    return false;
  }
}

const MIB = 1_048_576;

test("samples each NVIDIA GPU from one program, and the node's mean and sum", async (folder) => {
  const env = putFirst(folder, {
    "nvidia-smi": nvidiaSmi(14, [
      "0, GPU-a, NVIDIA H100, 40, 12, 71234, 81559, 64, 100.5, 70, 1980, 2619, 0x0000000000000004, Disabled",
      "1, GPU-b, NVIDIA H100, [N/A], [Not Supported], 0, 81559, 30, 30, [N/A], 345, 2619, 0x0000000000000001, [N/A]",
      "2, GPU-c, NVIDIA H100, 61, 0, [Unknown Error], 81559, 30, [N/A], [N/A], 345, 2619, 0x0, [N/A]",
      "an unexpected, line",
    ]),
  });
  const { code, err } = await collectUntil(() => hasDevices(folder), { folder, env, signal: "SIGTERM" });
  assertEquals(code, 0);
  assertEquals(
    withoutSlowMeasures(err),
    "nvidia-smi printed a line without a GPU, which is left out: an unexpected, line\n",
  );
  assertEquals(startsOf(folder, "nvidia-smi").length, 1);
  const { gpuUsage, powerConsumption } = (await query(folder, "metrics")).find(({ gpuUsage }) => gpuUsage)!;
  assertEquals([gpuUsage, powerConsumption], [50.5, 130.5]);
  const devices = (await query(folder, "devices")).toReversed().slice(0, 3);
  const [a, b, c] = devices.map(({ timestamp: _, nodeId: __, energyConsumption: energy, ...fields }) => {
    if (fields.powerConsumption !== undefined) assert(energy as number >= 0);
    return fields;
  });
  const common = { clusterId: "default", vendor: "nvidia", model: "NVIDIA H100", memoryTotal: 81_559 * MIB };
  assertEquals(a, {
    ...common,
    deviceId: "GPU-a",
    deviceIndex: 0,
    utilization: 40,
    memoryUtilization: 12,
    memoryUsed: 71_234 * MIB,
    temperature: 64,
    powerConsumption: 100.5,
    memoryTemperature: 70,
    clockSm: 1_980,
    clockMemory: 2_619,
    throttled: true,
  });
  assertEquals([b.deviceId, b.utilization, b.memoryUsed, b.throttled, b.powerConsumption], [
    "GPU-b",
    undefined,
    0,
    false,
    30,
  ]);
  assertEquals([c.deviceId, c.utilization, c.memoryUsed, c.powerConsumption], [
    "GPU-c",
    61,
    undefined,
    undefined,
  ]);
});

test("samples GPUs of a driver that lacks the newer columns", async (folder) => {
  const env = putFirst(folder, {
    "nvidia-smi": nvidiaSmi(9, ["0, GPU-a, Tesla K80, 40, 12, 100, 200, 64, 100.5"]),
  });
  const { code, err } = await collectUntil(() => hasDevices(folder), { folder, env, signal: "SIGTERM" });
  assertEquals([code, withoutSlowMeasures(err)], [0, ""]);
  assertEquals((await query(folder, "devices"))[0].utilization, 40);
});

test("goes on when nvidia-smi ends, and says so", async (folder) => {
  const env = putFirst(folder, {
    "nvidia-smi": "echo '0, GPU-a, T4, 40, 12, 100, 200, 64, 70, [N/A], 1, 1, 0x0, [N/A]'; sleep 0.3",
  });
  const isNoted = (err: string) => err.includes("ended. It is started again");
  const { code, err } = await collectUntil(isNoted, { folder, env, signal: "SIGTERM" });
  assertEquals([code, withoutSlowMeasures(err)], [
    0,
    "Left out of the samples: GPU usage (nvidia-smi) ended. It is started again each minute.\n",
  ]);
});

test("reads MIG instances and AMD GPUs in their documented forms", () => {
  const xml = `<nvidia_smi_log><gpu id="00000000:01:00.0"><product_name>NVIDIA A100</product_name>
<mig_mode><current_mig>Enabled</current_mig></mig_mode><mig_devices><mig_device><index>0</index>
<gpu_instance_id>1</gpu_instance_id><compute_instance_id>0</compute_instance_id>
<fb_memory_usage><total>4864 MiB</total><reserved>0 MiB</reserved><used>3 MiB</used></fb_memory_usage></mig_device>
<mig_device><index>1</index><gpu_instance_id>2</gpu_instance_id><compute_instance_id>0</compute_instance_id>
<fb_memory_usage><total>9856 MiB</total><used>N/A</used></fb_memory_usage></mig_device></mig_devices>
<uuid>GPU-a</uuid></gpu><gpu id="00000000:02:00.0"><uuid>GPU-b</uuid><mig_devices>None</mig_devices></gpu></nvidia_smi_log>`;
  const mig = { deviceId: "GPU-a", vendor: "nvidia", model: "NVIDIA A100" };
  assertEquals(readMigDevices(xml), [
    { ...mig, partition: "1/0", memoryUsed: 3 * MIB, memoryTotal: 4_864 * MIB },
    { ...mig, partition: "2/0", memoryUsed: undefined, memoryTotal: 9_856 * MIB },
  ]);
  const gpu = {
    gpu: 0,
    usage: {
      gfx_activity: { value: 97, unit: "%" },
      umc_activity: { value: 12, unit: "%" },
      mm_activity: "N/A",
    },
    power: { socket_power: { value: 512, unit: "W" } },
    clock: { gfx_0: { clk: { value: 2_100, unit: "MHz" } }, mem_0: { clk: { value: 1_300, unit: "MHz" } } },
    temperature: { edge: "N/A", hotspot: { value: 64, unit: "C" }, mem: { value: 50, unit: "C" } },
    mem_usage: { total_vram: { value: 196_592, unit: "MB" }, used_vram: { value: 1_024, unit: "MB" } },
    energy: { total_energy_consumption: { value: 123.5, unit: "J" } },
  };
  const sample = {
    deviceId: "amd-0",
    deviceIndex: 0,
    vendor: "amd",
    utilization: 97,
    memoryUtilization: 12,
    memoryUsed: 1_024 * MIB,
    memoryTotal: 196_592 * MIB,
    temperature: 64,
    memoryTemperature: 50,
    powerConsumption: 512,
    energyConsumption: 123.5,
    clockSm: 2_100,
    clockMemory: 1_300,
  };
  assertEquals(readAmdMetrics(JSON.stringify([gpu])), [sample]);
  assertEquals(readAmdMetrics(JSON.stringify({ gpu_data: [gpu, { gpu: "x" }] })), [sample]);
  return Promise.resolve();
});

test("replaces the progress line when it prints a message", async (folder) => {
  // The first is for the rates, the second for a sample, and the third hangs when the line is there.
  const env = putFirst(folder, {
    df: `[ $(wc -l < "$0.pids") -lt 3 ] || ${HANG}\nexec /usr/bin/env PATH="\${PATH#*:}" df "$@"`,
  });
  const command = [Deno.execPath(), ...RUN, "collect", "--interval", "100ms", "--duration", "4s", ...AT];
  const { stdout } = await new Deno.Command("script", {
    args: ["-qec", command.join(" "), "/dev/null"],
    cwd: folder.path,
    env,
    stdin: "null",
  }).output();
  const shown = new TextDecoder().decode(stdout);
  assert(/samples?, .*committed/.test(shown), shown);
  assert(shown.includes("\r\x1b[KLeft out of the samples: "), shown);
});

const MINUTE_MS = 60_000;
const COST = { currency: "USD", category: "compute" };

/** Runs `sampleUntil()` for some samples, with a clock that each sample sets. */
async function sampleAt(
  times: readonly number[],
  { costs, plan = {} }: { costs: Pick<CostObservatory, "addCostEntry">; plan?: { clusterId?: string } },
): Promise<void> {
  await using hub = new ObservabilityHub();
  const stop = new AbortController();
  const [now, elapsed] = [Date.now, performance.now];
  let samples = 0;
  const host = {
    name: "n",
    sample() {
      if (samples === times.length) {
        stop.abort();
        return new Promise<never>(() => {});
      }
      const time = times[samples++];
      Date.now = () => time;
      performance.now = () => time;
      return Promise.resolve({});
    },
  };
  Date.now = performance.now = () => times[0];
  const costPerHour = Decimal.from("2.5");
  const all = { intervalMs: 1, durationMs: Infinity, clusterId: "c", costPerHour, cost: COST, ...plan };
  try {
    await sampleUntil(stop.signal, all, { hub, costs, host, nodeId: "n", reporter: new OutageReporter() });
  } finally {
    Date.now = now;
    performance.now = elapsed;
  }
}

/** Costs that are remembered. */
function recorder(): { added: CostEntryInput[]; addCostEntry(entry: CostEntryInput): Promise<void> } {
  const added: CostEntryInput[] = [];
  return { added, addCostEntry: (entry) => Promise.resolve(void added.push(entry)) };
}

const START = NEW_YEAR + 30_000; // in the middle of a minute
const times = (count: number, stepMs: number, start = START) =>
  Array.from({ length: count }, (_, i) => start + i * stepMs);

Deno.test("sampleUntil() charges each UTC minute in which it runs once and in full", async () => {
  const costs = recorder();
  await sampleAt(times(10, 10_000), { costs }); // to 100 s later
  assertEquals(costs.added.map(({ entryId, timestamp, amount }) => [entryId, timestamp, amount]), [
    ["c/n/2026-01-01T00:00Z", NEW_YEAR, "0.041666666666666667"],
    ["c/n/2026-01-01T00:01Z", NEW_YEAR + MINUTE_MS, "0.041666666666666666"],
    ["c/n/2026-01-01T00:02Z", NEW_YEAR + 2 * MINUTE_MS, "0.041666666666666667"],
  ]);
});

Deno.test("sampleUntil() charges an hour exactly what it costs at any interval", async () => {
  for (const stepMs of [7_000, 60_000, 900_000]) {
    const costs = recorder();
    await sampleAt(times(Math.ceil(3_570_000 / stepMs) + 1, stepMs), { costs });
    const hour = costs.added.filter(({ timestamp }) => (timestamp as number) < NEW_YEAR + 60 * MINUTE_MS);
    const sum = hour.reduce((sum, { amount }) => sum.plus(Decimal.from(amount)), Decimal.ZERO);
    assertEquals([hour.length, String(sum)], [60, "2.5"], `every ${stepMs} ms`);
  }
});

Deno.test("CostObservatory charges a minute once with two collectors of a node and a restart", async () => {
  await using costs = new CostObservatory();
  await sampleAt(times(4, 10_000), { costs });
  await sampleAt(times(4, 10_000, START + 1_000), { costs }); // another one, whose samples lie between
  await sampleAt(times(4, 10_000, START + 45_000), { costs }); // a restart within a minute
  await costs.flush();
  const found = await costs.queryHistoricalCosts();
  assertEquals(found.map(({ entryId }) => entryId), ["c/n/2026-01-01T00:00Z", "c/n/2026-01-01T00:01Z"]);
  await sampleAt([START], { costs, plan: { clusterId: "c/n" } }); // no cluster and node of other names
  await costs.flush();
  const ids = (await costs.queryHistoricalCosts()).map(({ entryId }) => entryId);
  assertEquals([ids.length, ids.includes("c%2Fn/n/2026-01-01T00:00Z")], [3, true]);
});

Deno.test("Meter charges a minute once when its two clocks are read apart, or one is set back", async () => {
  const costs = recorder();
  const plan = {
    intervalMs: 100,
    durationMs: Infinity,
    clusterId: "c",
    costPerHour: Decimal.from("60"),
    cost: COST,
  };
  const meter = new Meter(costs, plan, "n");
  for (const [ms, elapsedMs] of [[-98, 0], [2, 100], [102, 205], [202, 305], [-500, 405], [302, 505]]) {
    await meter.charge(NEW_YEAR + ms, elapsedMs);
  }
  assertEquals(costs.added.map(({ timestamp }) => timestamp), [NEW_YEAR - MINUTE_MS, NEW_YEAR]);
});

Deno.test("sampleUntil() charges no minutes of a jump of the clock", async () => {
  const costs = recorder();
  const { now } = Date;
  await using hub = new ObservabilityHub();
  const stop = new AbortController();
  let samples = 0;
  const host = {
    name: "n",
    sample() {
      if (samples === 2) stop.abort();
      Date.now = () => START + 5 * 60 * MINUTE_MS * samples; // five hours, while next to no time passes
      samples++;
      return Promise.resolve({});
    },
  };
  const plan = {
    intervalMs: 1,
    durationMs: Infinity,
    clusterId: "c",
    costPerHour: Decimal.from("60"),
    cost: COST,
  };
  try {
    await sampleUntil(stop.signal, plan, { hub, costs, host, nodeId: "n", reporter: new OutageReporter() });
  } finally {
    Date.now = now;
  }
  assert(costs.added.length <= 4, `${costs.added.length}`);
});

Deno.test("sampleUntil() continues when validation refuses a record", async () => {
  await using hub = new ObservabilityHub();
  const stop = new AbortController();
  let samples = 0;
  const host = {
    name: "h",
    sample() {
      if (++samples === 4) {
        stop.abort();
        return new Promise<never>(() => {});
      }
      return Promise.resolve(samples < 3 ? { cpuUsage: NaN } : { cpuUsage: 1 });
    },
  };
  const costs = { addCostEntry: () => hub.collectSystemMetrics({ timestamp: NaN }) };
  const plan = {
    intervalMs: 100,
    durationMs: Infinity,
    clusterId: "c",
    costPerHour: Decimal.from("1"),
    cost: COST,
  };
  await sampleUntil(stop.signal, plan, { hub, costs, host, nodeId: "n", reporter: new OutageReporter() });
  await hub.flush();
  assertEquals(hub.recentSystemMetrics().map(({ cpuUsage }) => cpuUsage), [1]);
});

Deno.test("sampleUntil() charges no time twice when it is stopped during an insert", async () => {
  await using hub = new ObservabilityHub();
  const stop = new AbortController();
  const intake = Promise.withResolvers<void>();
  const ids: string[] = [];
  const costs = {
    addCostEntry({ entryId }: CostEntryInput) {
      ids.push(entryId);
      setTimeout(() => stop.abort());
      return intake.promise;
    },
  };
  const host = { name: "h", sample: () => Promise.resolve({}) };
  const plan = {
    intervalMs: 1_000,
    durationMs: Infinity,
    clusterId: "c",
    costPerHour: Decimal.from("1"),
    cost: COST,
  };
  const reporter = new OutageReporter();
  await sampleUntil(stop.signal, plan, { hub, costs, host, nodeId: "n", reporter });
  assertEquals(new Set(ids).size, ids.length);
  intake.reject(new Error("it was closed"));
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals(reporter.turnedAway, ids.length);
});
