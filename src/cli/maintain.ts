import { setTimeout } from "node:timers/promises";
import type { Backend } from "../backends/backend.ts";
import { messageOf } from "../errors.ts";
import { watchSilentNodes } from "../monitoring/alerts/silent_nodes.ts";
import { evaluateCosts } from "../monitoring/cost_evaluation.ts";
import { withLease } from "../monitoring/lease.ts";
import type { Channel } from "../monitoring/notifications/channels.ts";
import { DAY_MS } from "../records/calendar.ts";
import { systemMetrics } from "../records/system_metrics.ts";
import { deleteOld, type Deletion, retentionCutoff } from "../monitoring/retention.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { sparingBudgets } from "./cleanup.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, withBackend } from "./command.ts";
import { Notifier, notify, readChannels } from "./notifications.ts";
import { readDurationMs, readNumber, readOption, readPairs, UsageError } from "../query/option_values.ts";
import { formatThings, note, print } from "./output.ts";
import { readDataset } from "../query/selection.ts";
import { withinLimit } from "../pipeline/time_limit.ts";
import { listenForStop, STOPPED, unlessStopped } from "./stop.ts";

/** Partitions are created for times up to this many days ahead. */
const DAYS_AHEAD = 35;
/** Time for a run that is under way at the end, in milliseconds. */
const STOP_MS = 10_000;

export const maintain: Command = {
  name: "database maintain",
  options: [
    ...CONNECTION_OPTIONS,
    ...optionsOf({
      "retention DATASET=DAYS ...":
        "delete records that are older, such as metrics=30; repeatable (default: none are deleted)",
      "every TIME": "do it again and again, at least 1m apart, until Ctrl-C",
    }),
  ],
  examples: [
    "openfinops database maintain --retention metrics=30 --retention costs=2555",
    "openfinops database maintain --every 1h",
  ],
  async run(given) {
    const retention = readRetention(given);
    const channels = readChannels();
    const everyMs = readEvery(given);
    const maintainOnce = (backend: Backend) =>
      runOnce(backend, { retention, channels, name: databaseName(given) });
    await withBackend(given, "existing", async (backend) => {
      if (everyMs === undefined) return await maintainOnce(backend);
      using stop = listenForStop();
      const notifier = new Notifier(backend, channels); // tries again between two runs
      while (!stop.signal.aborted) {
        const run = maintainOnce(backend).catch((error) => note(messageOf(error)));
        if (await unlessStopped(run, stop.signal) === STOPPED) await withinLimit(run, STOP_MS, () => {});
        await setTimeout(everyMs, undefined, { signal: stop.signal }).catch(() => {});
      }
      await withinLimit(notifier.close(), STOP_MS, () => {});
    });
  },
};

/** Days to keep, by dataset. */
type Retention = readonly (readonly [Deletion["dataset"], number])[];

function readRetention(given: Arguments): Retention {
  const pairs = Object.entries(readPairs(given, "retention") ?? {});
  return pairs.map(([name, days]) =>
    [readDataset(name), readNumber("retention", days.replace(/d$/, ""))] as const
  );
}

function readEvery(given: Arguments): number | undefined {
  const everyMs = readOption(given, "every", readDurationMs);
  if (everyMs === undefined || (everyMs >= 60_000 && everyMs <= 24 * DAY_MS)) return everyMs;
  throw new UsageError("--every must be at least 1m and at most 24d.", "INVALID_OPTION");
}

/** Does all of it, unless another process is at it. What fails keeps the rest from nothing, and is thrown at the end. */
async function runOnce(
  backend: Backend,
  { retention, channels, name }: { retention: Retention; channels: readonly Channel[]; name: string },
): Promise<void> {
  const failures: unknown[] = [];
  const attempt = async <T>(step: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await step();
    } catch (error) {
      failures.push(error);
    }
  };
  const done = await withLease(backend.documents, "maintenance", async () => {
    const deleted = await attempt(() => deleteByRetention(backend, retention));
    const now = Date.now();
    await attempt(async () =>
      await backend.createPartitions?.(Array.from({ length: DAYS_AHEAD }, (_, day) => now + day * DAY_MS))
    );
    const emit = ({ message }: { message: string }) => note(message);
    const found = await attempt(() => evaluateCosts(backend, { anomalies: true, emit }));
    await attempt(() => watchSilentNodes(backend));
    await notify(backend, channels);
    const findings = formatThings(found?.length ?? 0, "new finding", "new findings");
    print(`Maintained ${name}: deleted ${formatThings(deleted ?? 0, "record", "records")}, ${findings}.`);
    return true;
  });
  if (!done) note("Another process maintains this database now. Nothing was done.");
  if (failures.length > 0) throw failures[0];
}

/** Deletes old records, and old ids of the ledger in any case; returns the number of records. */
async function deleteByRetention(backend: Backend, retention: Retention): Promise<number> {
  const deletions = retention.map(([dataset, days]) => ({ dataset, before: retentionCutoff(days) }));
  const none = { dataset: systemMetrics, before: 0 };
  const spared = await sparingBudgets(backend, deletions.length > 0 ? deletions : [none], { isSilent: true });
  const deleted = await deleteOld(backend, spared, { dryRun: false });
  return Object.values(deleted).reduce((sum, rows) => sum + rows, 0);
}
