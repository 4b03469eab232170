/**
 * Counters of a long-running command, as fields of its log.
 *
 * @module
 */
import type { PipelineStats } from "../pipeline/pipeline_stats.ts";
import type { StoreStats } from "../store.ts";
import type { Arguments } from "../query/arguments.ts";
import { LOG_FORMATS, type LogFields } from "./log.ts";
import { conflict, readDurationMs, readName, readOption, UsageError } from "../query/option_values.ts";
import { isLogging, note, printing } from "./output.ts";

/** Counters that a log shows, summed over datasets. */
const SUMS = [
  "accepted",
  "committed",
  "duplicates",
  "deadLettered",
  "dropped",
  "refused",
  "spooled",
  "buffered",
  "inFlight",
  "retries",
  "spoolBytes",
] as const satisfies readonly (keyof PipelineStats)[];

/**
 * Reads the options of logs, and has messages written by them from now on.
 *
 * @returns Time between heartbeats, in milliseconds.
 * @throws {UsageError} If one is wrong.
 */
export function readLog(given: Arguments): number {
  const format = readOption(given, "log-format", (_, text) => readName("log format", text, LOG_FORMATS));
  if (given.has("heartbeat") && format === undefined) {
    throw conflict("--heartbeat is for logs. Pass --log-format text or json.");
  }
  const everyMs = readDurationMs("heartbeat", given.text("heartbeat") ?? "1m");
  if (everyMs < 100 || everyMs > 2 ** 31 - 1) {
    throw new UsageError("--heartbeat must be at least 100ms and at most 24d.", "INVALID_OPTION");
  }
  printing.logFormat = format;
  printing.isQuiet = given.has("quiet");
  return everyMs;
}

/** Sums of all datasets, the age of the oldest record that is not settled, and the alarms. */
export function countersOf(stores: readonly StoreStats[]): LogFields {
  const pipelines = stores.flatMap(({ datasets }) => Object.values(datasets));
  const sums = SUMS.map((field) => [field, pipelines.reduce((sum, stats) => sum + stats[field], 0)]);
  const alarms = [...new Set(pipelines.flatMap(({ alarm }) => alarm ?? []))];
  return {
    ...Object.fromEntries(sums),
    oldestSeconds: Math.round(Math.max(0, ...pipelines.map((stats) => stats.oldestUnacknowledgedMs)) / 1_000),
    rssBytes: Deno.memoryUsage().rss,
    uptimeSeconds: Math.round(performance.now() / 1_000),
    ...(alarms.length > 0 ? { alarms } : {}),
  };
}

/** Logs the counters periodically until disposed; nothing if messages are for people. */
export function startHeartbeat(stores: () => readonly StoreStats[], everyMs: number): Disposable {
  return repeat(() => isLogging() && note("Running.", "info", countersOf(stores())), everyMs);
}

/** Runs a function periodically until disposed. */
export function repeat(work: () => void, everyMs: number): Disposable {
  const timer = setInterval(work, everyMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
