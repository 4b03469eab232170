import { setTimeout } from "node:timers/promises";
import { CostObservatory } from "../observatory.ts";
import { BackendError, ValidationError } from "../errors.ts";
import { ObservabilityHub } from "../hub.ts";
import type { TelemetryEvent } from "../pipeline/events.ts";
import type { CloseReport } from "../pipeline/pipeline_stats.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { Dataset } from "../records/dataset.ts";
import { systemMetrics } from "../records/system_metrics.ts";
import { acceptValue } from "../records/validation.ts";
import type { StoreStats } from "../store.ts";
import type { Arguments } from "./arguments.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, listenForStop, withBackend } from "./command.ts";
import { Notifier, notify, readChannels } from "./notifications.ts";
import { endPrograms } from "./helper_programs.ts";
import { type Host, openHost } from "./host.ts";
import type { MetricField } from "../transfer/metric_names.ts";
import { addRecords, readMapping, readTarget, ScrapeTarget } from "./scrape.ts";
import { Meter, type SamplePlan } from "./meter.ts";
import { bold, formatThings, note, print, redraw, sparkline } from "./output.ts";
import { readAmount, readDurationMs, readPairs, UsageError } from "../query/option_values.ts";
import { asCalled, programName } from "./program_name.ts";
import { HOUR_MS } from "../records/calendar.ts";

const MAX_INTERVAL_MS = 24 * 24 * HOUR_MS;
/** Time between commits, in seconds: an agent has few records, and a crash loses those that are not committed. */
const COMMIT_SECONDS = 5;
const MINUTE_MS = 60_000;
const SPARKLINE_LENGTH = 30;
/** Failed attempts in a row that are reported as an outage. */
const MIN_FAILURES = 3;

/** Parsed options. */
interface Plan extends SamplePlan {
  /** Targets to scrape, and what becomes of their metrics. */
  scrape: { targets: readonly URL[]; fields: readonly MetricField[] };
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
    { name: "category", value: "NAME", summary: "category of the cost (default compute)" },
    { name: "region", value: "NAME", summary: "region of the cost" },
    {
      name: "tag",
      value: "KEY=VALUE",
      summary: "tag of the cost, as budgets filter by; repeatable",
      isRepeatable: true,
    },
    { name: "label", value: "KEY=VALUE", summary: "label of the samples; repeatable", isRepeatable: true },
    {
      name: "scrape",
      value: "URL",
      summary: "also read metrics of dcgm-exporter, node_exporter, vLLM or Triton here; repeatable",
      isRepeatable: true,
    },
    { name: "metric-map", value: "FILE", summary: "own mappings of scraped metrics, a JSON array" },
    {
      name: "spool-directory",
      value: "DIR",
      summary: "journal samples here first, to survive crashes and outages",
    },
  ],
  examples: [
    "openfinops collect --duration 10s --connection-string sqlite:///openfinops.db",
    "openfinops collect --interval 15s --cluster-id prod --cost-per-hour 2.50 --tag team=nlp",
    "openfinops collect --interval 15s --scrape localhost:9400 --scrape localhost:8000",
  ],
  async run(given) {
    const plan = readPlan(given);
    const stop = listenForStop();
    try {
      const host = await unlessAborted(openHost(note, plan.intervalMs), stop.signal);
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
  const channels = readChannels();
  await withBackend(given, "create", async (backend) => {
    const reporter = new OutageReporter();
    const notifier = new Notifier(backend, channels);
    const onEvent = (event: TelemetryEvent) => {
      reporter.report(event);
      if (/^(alert|budget|cost)-/.test(event.type)) notifier.notifySoon();
    };
    const config = { backend, batchIntervalSeconds: COMMIT_SECONDS, spoolDirectory, onEvent };
    const hub = await ObservabilityHub.open(config);
    const costs = await CostObservatory.open(config);
    try {
      const parts = { hub, costs, nodeId, reporter };
      await Promise.all([
        sampleUntil(signal, plan, { ...parts, host }),
        ...plan.scrape.targets.map((url) => scrapeUntil(signal, plan, { ...parts, url })),
      ]);
    } finally {
      if (Deno.stderr.isTerminal()) redraw("");
      reporter.reportStop();
      const [samples, entries] = await Promise.all([hub.close(), costs.close()]);
      await notifier.close();
      await notify(backend, channels);
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
    scrape: {
      targets: given.texts("scrape").map(readTarget),
      fields: readMapping(given.text("metric-map")),
    },
    costPerHour: cost === undefined ? undefined : readAmount("cost-per-hour", cost),
    cost: readCost(given),
    ...acceptFields(systemMetrics, { labels: readPairs(given, "label") }),
  };
}

/** Checks the fields of all costs before anything is opened, as they would be wrong in each. */
function readCost(given: Arguments): Plan["cost"] {
  const cost = {
    currency: given.text("currency") ?? "USD",
    category: given.text("category") ?? "compute",
    region: given.text("region"),
    tags: readPairs(given, "tag"),
  };
  return acceptFields(costEntries, cost) as Plan["cost"];
}

/** Checks the fields that are given, and leaves out the others. */
function acceptFields(dataset: Dataset<unknown>, fields: Record<string, unknown>): Record<string, unknown> {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([field, value]) => [field, acceptValue(dataset, field, value)]));
}

/** Checks an id before anything is opened: it would be wrong in every sample. */
function readId(field: "clusterId" | "nodeId", text: string | undefined): string | undefined {
  return text === undefined ? undefined : acceptValue(systemMetrics, field, text) as string;
}

/** Samples at each interval until the duration is over; intervals that a long sample missed are left out. */
export async function sampleUntil(
  signal: AbortSignal,
  plan: SamplePlan,
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
    const { devices = [], ...fields } = sample;
    const { clusterId, labels } = plan;
    const common = { timestamp: Date.now(), clusterId, nodeId, labels };
    await accept(hub.collectSystemMetrics({ ...fields, ...common }), { signal, reporter });
    for (const device of devices) {
      await accept(hub.deviceMetrics.add({ ...device, ...common }), { signal, reporter });
    }
    await charge();
    reporter.checkRecovery(hub.stats());
    if (Deno.stderr.isTerminal()) redraw(liveLine(hub));
    const missed = Math.floor((performance.now() - beat) / plan.intervalMs);
    beat += (missed + 1) * plan.intervalMs;
    const leftMs = () => Math.min(beat, end) - performance.now();
    while (leftMs() > MINUTE_MS && !signal.aborted) {
      await wait(MINUTE_MS, signal);
      await charge(); // a crash loses no more than a minute
    }
    await wait(leftMs(), signal);
  }
  await charge(); // the time since the last sample
}

/** Scrapes a target at each interval until the duration is over. */
async function scrapeUntil(
  signal: AbortSignal,
  plan: Plan,
  { url, hub, costs, nodeId, reporter }: {
    url: URL;
    hub: ObservabilityHub;
    costs: CostObservatory;
    nodeId: string;
    reporter: OutageReporter;
  },
): Promise<void> {
  const target = new ScrapeTarget(url, { clusterId: plan.clusterId, nodeId }, plan.scrape.fields);
  const end = performance.now() + plan.durationMs;
  const add = (accepted: Promise<void>) => accept(accepted, { signal, reporter });
  while (!signal.aborted && performance.now() < end) {
    const start = performance.now();
    await addRecords(await target.take(signal), { hub, costs, add });
    await wait(Math.min(start + plan.intervalMs, end) - performance.now(), signal);
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
