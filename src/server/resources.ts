import { openBackend } from "../open_backend.ts";
import type { PersistenceConfig } from "../config.ts";
import { ObservabilityHub } from "../hub.ts";
import { CostObservatory } from "../observatory.ts";
import type { EventOf } from "../pipeline/events.ts";
import { addReports, type CloseReport } from "../pipeline/pipeline_stats.ts";
import { MetricIntake, type MetricIntakeOptions } from "./metric_intake.ts";
import type { ServerResources } from "./route.ts";
import { withinLimit } from "../pipeline/time_limit.ts";

/** Time between commits, in seconds: answers show a record about this long after it arrived. */
const COMMIT_SECONDS = 1;
/**
 * Records that are committed earlier. A commit and its cursor in the spool take several syncs, for which requests wait: with
 * the default of pipelines, one post of a single record in a hundred met them.
 */
const COMMIT_RECORDS = 5_000;

/** Time between two deletions of ids of batches and requests that will not be sent again. */
const PRUNE_MS = 3_600_000;
/** Retention with which a cleanup deletes such ids, and no record. */
const ALL_DAYS = 36_500;

/** Open resources of a server. */
export interface OpenedResources extends ServerResources {
  /** Commits accepted records for up to `deadlineMs` milliseconds, and closes all. */
  close(options: { deadlineMs: number }): Promise<CloseReport>;
}

/**
 * Opens hub and observatory over one backend.
 *
 * @throws {ConfigError} If the configuration cannot be used.
 * @throws {BackendError} If the backend or the spool cannot be opened: a server must keep what it acknowledges.
 */
export function openResources(given: PersistenceConfig): Promise<OpenedResources>;
/**
 * @internal
 * @param given The configuration.
 * @param options Mapping of metrics of other programs.
 */
export function openResources(
  given: PersistenceConfig,
  options?: MetricIntakeOptions,
): Promise<OpenedResources>;
export async function openResources(
  given: PersistenceConfig,
  options: MetricIntakeOptions = {},
): Promise<OpenedResources> {
  const unusable: EventOf<"spool-unusable">[] = [];
  const config: PersistenceConfig = {
    batchSize: COMMIT_RECORDS,
    batchIntervalSeconds: COMMIT_SECONDS,
    ...given,
    onEvent(event) {
      if (event.type === "spool-unusable") unusable.push(event); // thrown below
      else given.onEvent?.(event);
    },
  };
  await using opened = new AsyncDisposableStack(); // what stays open keeps the process from ending
  const backend = opened.adopt(await openBackend(config), (backend) => backend.close());
  const { connectionString: _opened, ...shared } = { ...config, backend };
  const end = async (store: ObservabilityHub | CostObservatory) => void await store.close({ deadlineMs: 0 });
  const hub = opened.adopt(await ObservabilityHub.open(shared), end);
  const costs = opened.adopt(await CostObservatory.open(shared), end);
  if (unusable.length > 0) throw unusable[0].error;
  opened.move(); // to the caller
  const intake = new MetricIntake({ hub, costs, backend }, options);
  const prune = setInterval(() => {
    // The next interval retries a failure.
    hub.cleanupOldData({ retentionDays: ALL_DAYS, timeBudgetMs: PRUNE_MS / 60 }).catch(() => {});
  }, PRUNE_MS);
  Deno.unrefTimer(prune);
  const close = async (options: { deadlineMs: number }) => {
    clearInterval(prune);
    const saved = withinLimit(intake.close(), options.deadlineMs, () => {});
    const [metrics, spend] = await Promise.all([hub.close(options), costs.close(options), saved]);
    await backend.close();
    return addReports([metrics, spend]);
  };
  return { hub, costs, backend, config: shared, intake, close };
}
