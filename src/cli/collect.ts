import project from "../../deno.json" with { type: "json" };
import type { Backend } from "../backends/backend.ts";
import { openBackend } from "../open_backend.ts";
import { ObservabilityHub } from "../hub.ts";
import { CostObservatory } from "../observatory.ts";
import type { TelemetryEvent } from "../pipeline/events.ts";
import { HOUR_MS } from "../records/calendar.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { Dataset } from "../records/dataset.ts";
import { systemMetrics } from "../records/system_metrics.ts";
import { acceptValue } from "../records/validation.ts";
import type { Listening } from "../server/serve.ts";
import { withinLimit } from "../pipeline/time_limit.ts";
import type { StoreStats } from "../store.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { summarize } from "./collect_summary.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, readConfig } from "./command.ts";
import { countersOf, readLog, startHeartbeat } from "./heartbeat.ts";
import { endPrograms } from "./helper_programs.ts";
import { type Host, openHost } from "./host.ts";
import { type ListenAddress, readListen } from "./listen.ts";
import { LOG_OPTIONS } from "./log.ts";
import { isFinding, Notifier, notify, readChannels } from "./notifications.ts";
import { readAmount, readDurationMs, readOption, readPairs, UsageError } from "../query/option_values.ts";
import { OutageReporter } from "./outage_reporter.ts";
import { hasLiveTerminal, isLogging, note, print, redraw } from "./output.ts";
import { readRemote, type Remote, SEND_OPTIONS } from "./remote_server.ts";
import { type CollectPlan, sampleUntil, scrapeUntil } from "./sampling.ts";
import { readMapping, readTarget } from "./scrape.ts";
import { listenForStop, openUnlessStopped, STOPPED, unlessStopped } from "./stop.ts";

const MAX_INTERVAL_MS = 24 * 24 * HOUR_MS;
/** Time between commits, in seconds: an agent has few records, and a crash loses those that are not committed. */
const COMMIT_SECONDS = 5;
/** Time for notifications at the end, in milliseconds: a database that does not answer must not keep the process. */
const NOTIFY_MS = 15_000;

export const collect: Command = {
  name: "collect",
  options: [
    ...CONNECTION_OPTIONS,
    ...optionsOf({
      "interval TIME": "time between samples (default 1s)",
      "duration TIME": "stop after this time (default: until Ctrl-C)",
      "cluster-id ID": "cluster (default: default)",
      "node-id ID": "node (default: the host name)",
      "cost-per-hour AMOUNT": "also record the cost of this machine",
      "currency CODE": "currency of the cost (default USD)",
      "category NAME": "category of the cost (default compute)",
      "region NAME": "region of the cost",
      "tag KEY=VALUE ...": "tag of the cost, as budgets filter by; repeatable",
      "label KEY=VALUE ...": "label of the samples; repeatable",
      "scrape URL ...": "also read metrics of dcgm-exporter, node_exporter, vLLM or Triton here; repeatable",
      "metric-map FILE": "own mappings of scraped metrics, a JSON array",
      "spool-directory DIR": "journal samples here first, to survive crashes and outages",
    }),
    ...SEND_OPTIONS,
    ...optionsOf({
      "listen HOST:PORT": "serve /metrics, /healthz and /readyz here; a port alone is on loopback",
    }),
    ...LOG_OPTIONS,
    { name: "dry-run", summary: "check the options, and say what would be sampled and where it goes" },
  ],
  examples: [
    "openfinops collect --duration 10s --connection-string sqlite:///openfinops.db",
    "openfinops collect --interval 15s --cluster-id prod --cost-per-hour 2.50 --tag team=nlp",
    "openfinops collect --interval 15s --scrape localhost:9400 --scrape localhost:8000",
    "openfinops collect --interval 15s --send https://finops.example:8430 --spool-directory spool",
  ],
  async run(given) {
    const heartbeatMs = readLog(given);
    const plan = readPlan(given);
    const remote = readRemote(given);
    const listen = readOption(given, "listen", (_, text) => readListen(text));
    const target = remote?.backend.location ?? databaseName(given);
    using stop = listenForStop();
    let status: Listening | undefined;
    try {
      const host = await unlessStopped(openHost(note, plan.intervalMs), stop.signal);
      if (host === STOPPED) return note("Stopped before the first sample.", "info");
      const nodeId = plan.nodeId ?? host.name;
      const stores: Stores = { stats: () => [] };
      const run = { given, plan, nodeId, remote, target, stores, heartbeatMs, signal: stop.signal };
      if (given.has("dry-run")) return print(`Would sample ${describeRun(run)}.`);
      status = listen && await serveStatus(stores, listen);
      reportStart(run);
      if (remote) await collectInto(remote.backend, host, run);
      else {
        const spoolDirectory = given.text("spool-directory");
        const config = { ...readConfig(given), spoolDirectory };
        const backend = await openUnlessStopped(openBackend(config, { mode: "create" }), stop.signal);
        try {
          await collectInto(backend, host, run);
        } finally {
          await backend.close();
        }
      }
    } finally {
      endPrograms();
      await remote?.backend.close();
      await status?.close({ deadlineMs: 0 });
    }
  },
};

/** Counters for probes, once there are some. */
interface Stores {
  stats(): StoreStats[];
}

interface Run {
  readonly given: Arguments;
  readonly plan: CollectPlan;
  readonly nodeId: string;
  /** The server to send to, if any. */
  readonly remote: Remote | undefined;
  /** Name of the database or the server. */
  readonly target: string;
  readonly stores: Stores;
  readonly heartbeatMs: number;
  readonly signal: AbortSignal;
}

/** Describes the measures and the target, without secrets. */
function describeRun({ plan, nodeId, remote, target }: Run): string {
  const { clusterId, intervalMs, scrape: { targets } } = plan;
  const scraped = targets.map(({ host }) => ` and ${host}`).join("");
  const place = remote ? `send to ${target} with ${remote.tokenFrom}` : `store in ${target}`;
  return `node ${nodeId} of cluster ${clusterId}${scraped} every ${intervalMs / 1_000} s and ${place}`;
}

/** Reports the start in a log, and before records leave the machine. */
function reportStart(run: Run): void {
  const { remote, target } = run;
  const version = project.version;
  if (isLogging()) note(`Started to sample ${describeRun(run)}.`, "info", { version });
  else if (remote) note(`Sending to ${target} with ${remote.tokenFrom}.`, "info");
  if (remote?.isExposed) note("The token is sent without encryption. Use https.");
}

/** Samples into a backend until the end, and prints a summary. */
async function collectInto(backend: Backend, host: Host, run: Run): Promise<void> {
  const { given, plan, nodeId, remote, stores, heartbeatMs, signal } = run;
  const spoolDirectory = given.text("spool-directory");
  // A server has the rules, the budgets and the channels.
  const channels = remote ? [] : readChannels();
  const reporter = new OutageReporter();
  const notifier = new Notifier(backend, channels);
  const onEvent = (event: TelemetryEvent) => {
    if (remote && isFinding(event)) return;
    reporter.report(event);
    if (isFinding(event)) notifier.notifySoon();
  };
  const config = { backend, batchIntervalSeconds: COMMIT_SECONDS, spoolDirectory, onEvent };
  const hub = await ObservabilityHub.open(config);
  const costs = await CostObservatory.open(config);
  const stats = stores.stats = () => [hub.stats(), costs.stats()];
  const heartbeat = startHeartbeat(stats, heartbeatMs);
  try {
    const parts = { hub, costs, nodeId, reporter };
    await Promise.all([
      sampleUntil(signal, plan, { ...parts, host }),
      ...plan.scrape.targets.map((url) => scrapeUntil(signal, plan, { ...parts, url })),
    ]);
  } finally {
    if (hasLiveTerminal()) redraw("");
    reporter.reportStop();
    const [samples, entries] = await Promise.all([hub.close(), costs.close()]);
    heartbeat[Symbol.dispose]();
    const told = notifier.close().then(() => notify(backend, channels));
    await withinLimit<unknown>(told, NOTIFY_MS, () => {}); // the outbox keeps what is left
    if (isLogging()) note("Stopped.", "info", countersOf(stats()));
    const { turnedAway } = reporter;
    const { lastError } = {
      ...hub.stats().datasets.system_metrics,
      ...costs.stats().datasets.cost_entries,
    };
    summarize(run, { samples, entries, turnedAway, lastError });
  }
}

/** Serves probes and metrics. */
async function serveStatus(stores: Stores, address: ListenAddress): Promise<Listening> {
  const { serveAgentStatus } = await import("../server/agent_status.ts");
  const status = await serveAgentStatus(() => stores.stats(), address);
  note(`Serving /metrics on ${status.url}`, "info");
  return status;
}

function readPlan(given: Arguments): CollectPlan {
  const intervalMs = readDurationMs("interval", given.text("interval") ?? "1s");
  if (intervalMs < 100 || intervalMs > MAX_INTERVAL_MS) {
    throw new UsageError("--interval must be at least 100ms and at most 24d.", "INVALID_OPTION");
  }
  return {
    intervalMs,
    durationMs: readOption(given, "duration", readDurationMs) ?? Infinity,
    ...acceptFields(systemMetrics, {
      clusterId: given.text("cluster-id") ?? "default",
      nodeId: given.text("node-id"),
      labels: readPairs(given, "label"),
    }) as Pick<CollectPlan, "clusterId" | "nodeId" | "labels">,
    scrape: {
      targets: given.texts("scrape").map(readTarget),
      fields: readMapping(given.text("metric-map")),
    },
    costPerHour: readOption(given, "cost-per-hour", readAmount),
    cost: readCost(given),
  };
}

function readCost(given: Arguments): CollectPlan["cost"] {
  const cost = {
    currency: given.text("currency") ?? "USD",
    category: given.text("category") ?? "compute",
    region: given.text("region"),
    tags: readPairs(given, "tag"),
  };
  return acceptFields(costEntries, cost) as CollectPlan["cost"];
}

/** Checks the fields that are given before anything is opened: they would be wrong in every record. */
function acceptFields(dataset: Dataset<unknown>, fields: Record<string, unknown>): Record<string, unknown> {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([field, value]) => [field, acceptValue(dataset, field, value)]));
}
