import { setTimeout } from "node:timers/promises";
import { CostObservatory } from "../observatory.ts";
import { BackendError, ValidationError } from "../errors.ts";
import { ObservabilityHub } from "../hub.ts";
import type { TelemetryEvent } from "../pipeline/events.ts";
import type { CloseReport } from "../pipeline/pipeline_stats.ts";
import { costEntries } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { systemMetrics } from "../records/system_metrics.ts";
import { acceptValue } from "../records/validation.ts";
import type { StoreStats } from "../store.ts";
import type { Arguments } from "./arguments.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, STOP_SIGNALS, withBackend } from "./command.ts";
import { endPrograms } from "./helper_programs.ts";
import { type Host, openHost } from "./host.ts";
import { bold, formatThings, note, print, redraw, sparkline } from "./output.ts";
import { invalidValue, readDurationMs, UsageError } from "./option_values.ts";
import { asCalled, programName } from "./program_name.ts";
import { HOUR_MS } from "../records/calendar.ts";

const MAX_INTERVAL_MS = 24 * 24 * HOUR_MS;
/** Time between commits, in seconds: an agent has few records, and a crash loses those that are not committed. */
const COMMIT_SECONDS = 5;
const SPARKLINE_LENGTH = 30;
/** Failed attempts in a row that are reported as an outage. */
const MIN_FAILURES = 3;

/** Parsed options. */
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
  options: [
    ...CONNECTION_OPTIONS,
    { name: "interval", value: "TIME", summary: "time between samples (default 1s)" },
    { name: "duration", value: "TIME", summary: "stop after this time (default: until Ctrl-C)" },
    { name: "cluster-id", value: "ID", summary: "cluster (default: default)" },
    { name: "node-id", value: "ID", summary: "node (default: the host name)" },
    { name: "cost-per-hour", value: "AMOUNT", summary: "also record the cost of this machine" },
    { name: "currency", value: "CODE", summary: "currency of the cost (default USD)" },
    {
      name: "spool-directory",
      value: "DIR",
      summary: "journal samples here first, to survive crashes and outages",
    },
  ],
  examples: [
    "openfinops collect --duration 10s --connection-string sqlite:///openfinops.db",
    "openfinops collect --interval 15s --cluster-id prod --cost-per-hour 2.50",
  ],
  async run(given) {
    const plan = readPlan(given);
    const stop = listenForStop();
    try {
      const host = await unlessAborted(openHost(note), stop.signal);
      if (host === STOPPED) return note("Stopped before the first sample.");
      await collectFrom(host, { given, plan, signal: stop.signal });
    } finally {
      endPrograms();
      stop.dispose();
    }
  },
};

/** Samples into the database until the end, and prints a summary. */
async function collectFrom(
  host: Host,
  { given, plan, signal }: { given: Arguments; plan: Plan; signal: AbortSignal },
): Promise<void> {
  const spoolDirectory = given.text("spool-directory");
  const nodeId = plan.nodeId ?? host.name;
  await withBackend(given, "create", async (backend) => {
    const reporter = new OutageReporter();
    const onEvent = (event: TelemetryEvent) => reporter.report(event);
    const config = { backend, batchIntervalSeconds: COMMIT_SECONDS, spoolDirectory, onEvent };
    const hub = await ObservabilityHub.open(config);
    const costs = await CostObservatory.open(config);
    try {
      await sampleUntil(signal, plan, { hub, costs, host, nodeId, reporter });
    } finally {
      if (Deno.stderr.isTerminal()) redraw("");
      reporter.reportStop();
      const [samples, entries] = await Promise.all([hub.close(), costs.close()]);
      const { turnedAway } = reporter;
      const { lastError } = {
        ...hub.stats().datasets.system_metrics,
        ...costs.stats().datasets.cost_entries,
      };
      summarize(given, plan, { samples, entries, turnedAway, lastError });
    }
  }, { spoolDirectory });
}

/** Prints what an operator should know: an outage once, its end once, each kind of refused record once. */
export class OutageReporter {
  /** Records that were still waiting when closing began, and were not accepted. */
  turnedAway = 0;
  /** Attempts that failed since the last success. */
  #failures = 0;
  readonly #refused = new Set<string>();

  report(event: TelemetryEvent): void {
    if (event.type === "retry") {
      // A single failure is not reported: the retry follows at once.
      if (++this.#failures === MIN_FAILURES) {
        note(`Cannot store records; retrying: ${event.message}`);
      }
      return;
    }
    note(`${event.type}: ${event.message}`);
    // Without a folder for refused records, this is its only copy.
    if (event.type === "dead-lettered" && !event.file) note(JSON.stringify(event.record));
  }

  /** Prints why a record was refused, the first time for each field. */
  refuse(error: ValidationError): void {
    if (this.#refused.has(error.field)) return;
    this.#refused.add(error.field);
    note(`Left out: ${error.message}. Further records like it are left out without a message.`);
  }

  /** Reports the end of an outage. */
  checkRecovery({ datasets: { system_metrics } }: StoreStats): void {
    if (system_metrics?.lastError !== undefined) return;
    if (this.#failures >= MIN_FAILURES) note("The database stores records again.");
    this.#failures = 0;
  }

  reportStop(): void {
    if (this.#failures >= MIN_FAILURES) note("Stopping; waiting up to 10 s to store the rest.");
  }
}

function readPlan(given: Arguments): Plan {
  const duration = given.text("duration");
  const cost = given.text("cost-per-hour");
  const intervalMs = readDurationMs("interval", given.text("interval") ?? "1s");
  if (intervalMs < 100 || intervalMs > MAX_INTERVAL_MS) {
    throw new UsageError("--interval must be at least 100ms and at most 24d.", { code: "INVALID_OPTION" });
  }
  return {
    intervalMs,
    durationMs: duration === undefined ? Infinity : readDurationMs("duration", duration),
    clusterId: readId("clusterId", given.text("cluster-id")) ?? "default",
    nodeId: readId("nodeId", given.text("node-id")),
    costPerHour: cost === undefined ? undefined : readAmount(cost),
    currency: acceptValue(costEntries, "currency", given.text("currency") ?? "USD") as string,
  };
}

/** Checks an id before anything is opened: it would be wrong in every sample. */
function readId(field: "clusterId" | "nodeId", text: string | undefined): string | undefined {
  return text === undefined ? undefined : acceptValue(systemMetrics, field, text) as string;
}

function readAmount(text: string): Decimal {
  try {
    const amount = Decimal.from(text);
    if (amount.isStorable && !text.startsWith("-")) return amount;
  } catch {
    // reported below
  }
  throw invalidValue("cost-per-hour", "a decimal number such as 2.50", text);
}

/** Returns a signal that aborts on Ctrl-C and on the signals by which the system ends a process. */
function listenForStop(): { signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  const abort = () => controller.abort();
  for (const signal of STOP_SIGNALS) Deno.addSignalListener(signal, abort);
  return {
    signal: controller.signal,
    dispose() {
      for (const signal of STOP_SIGNALS) Deno.removeSignalListener(signal, abort);
    },
  };
}

/** Samples at each interval until the duration is over; intervals that a long sample missed are left out. */
export async function sampleUntil(
  signal: AbortSignal,
  plan: Plan,
  { hub, costs, host, nodeId, reporter }: {
    hub: ObservabilityHub;
    costs: Pick<CostObservatory, "addCostEntry">;
    host: Host;
    nodeId: string;
    reporter: OutageReporter;
  },
): Promise<void> {
  const meter = new Meter(costs, plan, nodeId);
  const start = performance.now();
  const end = start + plan.durationMs;
  const charge = () => accept(meter.charge(Date.now(), performance.now() - start), { signal, reporter });
  for (let beat = start; !signal.aborted && beat < end;) {
    const sample = await unlessAborted(host.sample(), signal);
    if (sample === STOPPED) break;
    const record = { ...sample, timestamp: Date.now(), clusterId: plan.clusterId, nodeId };
    await accept(hub.collectSystemMetrics(record), { signal, reporter });
    await charge();
    reporter.checkRecovery(hub.stats());
    if (Deno.stderr.isTerminal()) redraw(liveLine(hub));
    const missed = Math.floor((performance.now() - beat) / plan.intervalMs);
    beat += (missed + 1) * plan.intervalMs;
    await wait(Math.min(beat, end) - performance.now(), signal);
  }
  await charge(); // the time since the last sample
}

/** Adds cost entries for the time that the machine runs. */
class Meter {
  readonly #costs: Pick<CostObservatory, "addCostEntry">;
  readonly #plan: Plan;
  readonly #nodeId: string;
  #charged = Decimal.ZERO;

  constructor(costs: Pick<CostObservatory, "addCostEntry">, plan: Plan, nodeId: string) {
    this.#costs = costs;
    this.#plan = plan;
    this.#nodeId = nodeId;
  }

  /** Adds the cost of the time up to now, less what was charged before, so that entries add up exactly. */
  async charge(timestamp: number, elapsedMs: number): Promise<void> {
    const { clusterId, costPerHour, currency } = this.#plan;
    if (!costPerHour) return;
    const due = costPerHour.timesFraction(BigInt(Math.round(elapsedMs)), BigInt(HOUR_MS));
    const charged = this.#charged;
    const amount = due.minus(charged).toString();
    this.#charged = due; // before the wait: a stop does not wait for it, and charges the rest
    const added = this.#costs.addCostEntry({
      entryId: `${clusterId}/${this.#nodeId}/${timestamp}`,
      timestamp,
      resourceId: this.#nodeId,
      category: "compute",
      amount,
      currency,
      basis: "estimated",
      source: "collect",
      description: `${this.#nodeId} at ${costPerHour} ${currency} an hour`,
    });
    try {
      await added;
    } catch (error) {
      if (error instanceof ValidationError) this.#charged = charged; // the next entry covers this time
      throw error;
    }
  }
}

function liveLine(hub: ObservabilityHub): string {
  const { accepted, committed, lastError } = hub.stats().datasets.system_metrics!;
  if (lastError !== undefined) return `${accepted} samples, ${committed} committed  ${lastError}`;
  const cpu = hub.recentSystemMetrics().slice(-SPARKLINE_LENGTH).map(({ cpuUsage = 0 }) => cpuUsage);
  const now = (cpu.at(-1) ?? 0).toFixed(0).padStart(3);
  return `${accepted} samples, ${committed} committed  CPU ${now} % ${sparkline(cpu)}`;
}

/** Waits for full buffers until a stop: closing reports what becomes of what waits. A refused record is left out. */
async function accept(
  accepted: Promise<void>,
  { signal, reporter }: { signal: AbortSignal; reporter: OutageReporter },
): Promise<void> {
  accepted.catch((error) => {
    if (signal.aborted && !(error instanceof ValidationError)) reporter.turnedAway++;
  });
  try {
    await unlessAborted(accepted, signal);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    reporter.refuse(error);
  }
}

const STOPPED = Symbol("stopped");

/** Waits for work until the signal is aborted. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | typeof STOPPED> {
  const { promise: stopped, resolve } = Promise.withResolvers<typeof STOPPED>();
  const stop = () => resolve(STOPPED);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop);
  work.catch(() => {}); // after a stop nothing waits for it
  try {
    return await Promise.race([work, stopped]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(Math.max(0, ms), undefined, { signal }).catch(() => {});
}

function summarize(
  given: Arguments,
  plan: Plan,
  { samples, entries, turnedAway, lastError }: {
    samples: CloseReport;
    entries: CloseReport;
    turnedAway: number;
    lastError?: string;
  },
): void {
  const name = databaseName(given);
  const spoolDirectory = given.text("spool-directory");
  const stored = [formatThings(samples.committed, "sample", "samples")];
  if (plan.costPerHour) stored.push(formatThings(entries.committed, "cost entry", "cost entries"));
  print(`Stored ${stored.join(" and ")} in ${name}.`);
  const spooled = samples.spooled + entries.spooled;
  if (spooled > 0) {
    print(`Kept ${formatThings(spooled, "record", "records")} in the spool for the next start.`);
    if (lastError !== undefined) note(lastError);
  }
  const refused = samples.deadLettered + entries.deadLettered;
  if (refused > 0) {
    const next = spoolDirectory === undefined
      ? ""
      : asCalled("; `openfinops database dead-letter list` shows them");
    print(`Set ${formatThings(refused, "record", "records")} aside that the database refused${next}.`);
  }
  const lost = samples.lost + entries.lost + turnedAway;
  if (lost > 0) {
    throw new BackendError(
      `Lost ${formatThings(lost, "record", "records")}: ${lastError ?? "no time was left to write them."}`,
      { code: "RECORDS_LOST", operation: "close", kind: "operator" },
    );
  }
  if (name !== "memory") printNextSteps(given, plan); // which is gone with this process
}

/** Prints commands to try next. They hold no password, which would stay in the history of the shell. */
function printNextSteps(given: Arguments, { costPerHour }: Plan): void {
  const text = given.text("connection-string");
  const isSecret = text !== undefined && text !== databaseName(given);
  const connection = text === undefined || isSecret ? "" : ` --connection-string ${quote(text)}`;
  print("");
  print(bold(isSecret ? "Try next, with OPENFINOPS_CONNECTION_STRING set to the same:" : "Try next:"));
  const program = programName();
  print(`  ${program} database query metrics --limit 5${connection}`);
  if (costPerHour) print(`  ${program} database query costs --limit 5${connection}`);
  print(`  ${program} database stats${connection}`);
}

/** Quotes a text for a shell. */
function quote(text: string): string {
  return /^[\w:/.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
