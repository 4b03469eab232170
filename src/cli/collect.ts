import { CostObservatory } from "../observatory.ts";
import { BackendError } from "../errors.ts";
import { ObservabilityHub } from "../hub.ts";
import { Decimal } from "../records/decimal.ts";
import type { Arguments } from "./arguments.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, withBackend } from "./command.ts";
import { type Host, openHost } from "./host.ts";
import { bold, formatThings, print, redraw, sparkline } from "./output.ts";
import { readDurationMs, UsageError } from "./usage.ts";

const HOUR_MS = 3_600_000n;
const MAX_INTERVAL_MS = 24 * 24 * 3_600_000;
/** The most that a crash can lose: an agent has few records, so that a batch would take long to fill. */
const COMMIT_SECONDS = 5;
const SPARKLINE_LENGTH = 30;

/** What the options ask for. */
interface Plan {
  intervalMs: number;
  durationMs: number;
  clusterId: string;
  nodeId?: string;
  costPerHour?: Decimal;
  currency: string;
}

/** `openfinops collect` */
export const collect: Command = {
  name: "collect",
  summary: "sample this machine, and what it costs, into the database until Ctrl-C",
  options: [
    ...CONNECTION_OPTIONS,
    { name: "interval", value: "TIME", summary: "time between samples (default 1s)" },
    { name: "duration", value: "TIME", summary: "stop after this time (default: until Ctrl-C)" },
    { name: "cluster-id", value: "ID", summary: "the cluster (default default)" },
    { name: "node-id", value: "ID", summary: "the node (default: the host's name)" },
    { name: "cost-per-hour", value: "AMOUNT", summary: "also add what the machine costs, exactly" },
    { name: "currency", value: "CODE", summary: "the currency of the cost (default USD)" },
  ],
  examples: [
    "openfinops collect --duration 10s --connection-string sqlite:///openfinops.db",
    "openfinops collect --interval 15s --cluster-id prod --cost-per-hour 2.50",
  ],
  async run(given) {
    const plan = readPlan(given);
    const stop = listenForStop();
    try {
      await withBackend(given, "create", async (backend) => {
        const config = { backend, batchIntervalSeconds: COMMIT_SECONDS };
        const hub = await ObservabilityHub.open(config);
        const costs = await CostObservatory.open(config);
        try {
          await sampleUntil(stop.signal, plan, { hub, costs, host: await openHost() });
        } finally {
          const [samples, entries] = await Promise.all([hub.close(), costs.close()]);
          const { lastError } = {
            ...hub.stats().datasets.system_metrics,
            ...costs.stats().datasets.cost_entries,
          };
          summarize(given, plan, { samples, entries, lastError });
        }
      });
    } finally {
      stop.dispose();
    }
  },
};

function readPlan(given: Arguments): Plan {
  const duration = given.text("duration");
  const cost = given.text("cost-per-hour");
  const intervalMs = readDurationMs("interval", given.text("interval") ?? "1s");
  if (intervalMs < 100 || intervalMs > MAX_INTERVAL_MS) {
    throw new UsageError("--interval wants at least 100ms and at most 24d");
  }
  return {
    intervalMs,
    durationMs: duration === undefined ? Infinity : readDurationMs("duration", duration),
    clusterId: given.text("cluster-id") ?? "default",
    nodeId: given.text("node-id"),
    costPerHour: cost === undefined ? undefined : readAmount(cost),
    currency: given.text("currency") ?? "USD",
  };
}

function readAmount(text: string): Decimal {
  try {
    const amount = Decimal.from(text);
    if (amount.isStorable && !text.startsWith("-")) return amount;
  } catch {
    // said below
  }
  throw new UsageError(`--cost-per-hour wants a decimal number such as 2.50, not "${text}"`);
}

/** Aborts on Ctrl-C and when the system asks the process to end. */
function listenForStop(): { signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) Deno.addSignalListener(signal, abort);
  return {
    signal: controller.signal,
    dispose() {
      for (const signal of signals) Deno.removeSignalListener(signal, abort);
    },
  };
}

/** Samples on the beat of the interval until the duration is over; beats that a long sample missed are left out. */
async function sampleUntil(
  signal: AbortSignal,
  plan: Plan,
  { hub, costs, host }: { hub: ObservabilityHub; costs: CostObservatory; host: Host },
): Promise<void> {
  const nodeId = plan.nodeId ?? host.name;
  const meter = new Meter(costs, plan, nodeId);
  const start = performance.now();
  const end = start + plan.durationMs;
  for (let beat = start; !signal.aborted && beat < end;) {
    const sample = await host.sample();
    const timestamp = Date.now();
    await hub.collectSystemMetrics({ ...sample, timestamp, clusterId: plan.clusterId, nodeId });
    await meter.charge(timestamp, performance.now() - start);
    if (Deno.stderr.isTerminal()) redraw(liveLine(hub));
    const missed = Math.floor((performance.now() - beat) / plan.intervalMs);
    beat += (missed + 1) * plan.intervalMs;
    await wait(Math.min(beat, end) - performance.now(), signal);
  }
  await meter.charge(Date.now(), performance.now() - start); // what came after the last sample
  if (Deno.stderr.isTerminal()) redraw("");
}

/** Charges what the machine costs for the time that it runs. */
class Meter {
  readonly #costs: CostObservatory;
  readonly #plan: Plan;
  readonly #nodeId: string;
  #charged = Decimal.ZERO;

  constructor(costs: CostObservatory, plan: Plan, nodeId: string) {
    this.#costs = costs;
    this.#plan = plan;
    this.#nodeId = nodeId;
  }

  /** Adds the cost of all the time up to now, less what was charged before: so entries add up exactly. */
  async charge(timestamp: number, elapsedMs: number): Promise<void> {
    const { clusterId, costPerHour, currency } = this.#plan;
    if (!costPerHour) return;
    const due = costPerHour.timesFraction(BigInt(Math.round(elapsedMs)), HOUR_MS);
    await this.#costs.addCostEntry({
      entryId: `${clusterId}/${this.#nodeId}/${timestamp}`,
      timestamp,
      resourceId: this.#nodeId,
      category: "compute",
      amount: due.minus(this.#charged).toString(),
      currency,
      description: `${this.#nodeId} at ${costPerHour} ${currency} an hour`,
    });
    this.#charged = due;
  }
}

function liveLine(hub: ObservabilityHub): string {
  const { accepted, committed, lastError } = hub.stats().datasets.system_metrics!;
  if (lastError !== undefined) return `${accepted} samples, ${committed} committed  ${lastError}`;
  const cpu = hub.recentSystemMetrics().slice(-SPARKLINE_LENGTH).map(({ cpuUsage = 0 }) => cpuUsage);
  const now = cpu.at(-1)!.toFixed(0).padStart(3);
  return `${accepted} samples, ${committed} committed  CPU ${now} % ${sparkline(cpu)}`;
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.max(0, ms));
    signal.addEventListener("abort", done);
  });
}

/** How many records a dataset has stored and lost. */
interface Outcome {
  committed: number;
  lost: number;
}

function summarize(
  given: Arguments,
  plan: Plan,
  { samples, entries, lastError }: { samples: Outcome; entries: Outcome; lastError?: string },
): void {
  const name = databaseName(given);
  const stored = [formatThings(samples.committed, "sample", "samples")];
  if (plan.costPerHour) stored.push(formatThings(entries.committed, "cost entry", "cost entries"));
  print(`Stored ${stored.join(" and ")} in ${name}.`);
  const lost = samples.lost + entries.lost;
  if (lost > 0) {
    throw new BackendError(
      `Cannot store ${formatThings(lost, "record", "records")}, lost: ${lastError ?? "no time was left"}`,
      { operation: "close", kind: "operator" },
    );
  }
  if (name === "memory") return; // gone with this process
  const connection = `--connection-string ${
    /^[\w:/.-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`
  }`;
  print("");
  print(bold("Try next:"));
  const program = Deno.build.standalone ? "openfinops" : "deno run -q -A cli.ts";
  print(`  ${program} database query metrics --limit 5 ${connection}`);
  if (plan.costPerHour) print(`  ${program} database query costs --limit 5 ${connection}`);
  print(`  ${program} database stats ${connection}`);
}
