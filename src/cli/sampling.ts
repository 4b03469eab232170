/**
 * Sampling of `collect`: at each interval, until the duration is over or a signal stops it.
 *
 * @module
 */
import { setTimeout } from "node:timers/promises";
import { ValidationError } from "../errors.ts";
import type { ObservabilityHub } from "../hub.ts";
import type { CostObservatory } from "../observatory.ts";
import type { MetricField } from "../transfer/metric_mapping.ts";
import type { Host } from "./host.ts";
import { Meter, type SamplePlan } from "./meter.ts";
import type { OutageReporter } from "./outage_reporter.ts";
import { hasLiveTerminal, redraw, sparkline } from "./output.ts";
import { addRecords, ScrapeTarget } from "./scrape.ts";
import { STOPPED, unlessStopped } from "./stop.ts";

const MINUTE_MS = 60_000;
const SPARKLINE_LENGTH = 30;

/** A plan that also scrapes. */
export interface CollectPlan extends SamplePlan {
  /** Targets to scrape, and the mapping of their metrics. */
  scrape: { targets: readonly URL[]; fields: readonly MetricField[] };
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
    const sample = await unlessStopped(host.sample(), signal);
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
    if (hasLiveTerminal()) redraw(liveLine(hub));
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
export async function scrapeUntil(
  signal: AbortSignal,
  plan: CollectPlan,
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

/** Waits for room in full buffers, or for a stop; closing then reports the waiting records. Ignores a refused record. */
async function accept(
  accepted: Promise<void>,
  { signal, reporter }: { signal: AbortSignal; reporter: OutageReporter },
): Promise<void> {
  accepted.catch((error) => {
    if (signal.aborted && !(error instanceof ValidationError)) reporter.turnedAway++;
  });
  try {
    await unlessStopped(accepted, signal);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    reporter.refuse(error);
  }
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(Math.max(0, ms), undefined, { signal }).catch(() => {});
}
