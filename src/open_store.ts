/**
 * Opens what a hub or an observatory is assembled from: a backend, its events and its spools.
 *
 * @module
 */
import type { Backend } from "./backends/backend.ts";
import { MemoryBackend } from "./backends/memory.ts";
import { type PersistenceConfig, resolveConfig, type ResolvedConfig } from "./config.ts";
import { ConfigError, errorCodeOf, messageOf } from "./errors.ts";
import { openBackend } from "./open_backend.ts";
import { type EventListener, safeListener } from "./pipeline/events.ts";
import { MemoryQueue, type Queue, type QueueHooks } from "./pipeline/queue.ts";
import type { PriceBook } from "./pricing/price_book.ts";
import type { Dataset, DatasetName } from "./records/dataset.ts";

/** Makes the queue in which accepted records of a dataset wait. */
export type QueueMaker = (hooks: QueueHooks) => Queue<unknown>;

/** An open backend with its configuration, from which a {@linkcode RecordStore} is assembled. */
export interface OpenedBackend {
  readonly backend: Backend;
  readonly config: ResolvedConfig;
  /** Reports events to the listener of the configuration, until it is muted. Never throws. */
  readonly emit: EventListener;
  /** Ends events: nothing that is closed reports any. */
  readonly mute: () => void;
  /** Reads the prices of usage, where its costs are stored with it. */
  readonly prices?: () => Promise<PriceBook>;
  /** Queues other than in memory. */
  readonly queues: ReadonlyMap<DatasetName, QueueMaker>;
}

/**
 * Refuses a configuration that was given to a constructor, which cannot open a backend.
 *
 * @throws {ConfigError} If it is no opened backend.
 */
export function assertOpened(given: unknown, name: string): void {
  if (given instanceof Object && "emit" in given && "config" in given) return;
  throw new ConfigError(
    `Cannot construct ${name} with a configuration. Use await ${name}.open(config); new ${name}() keeps records in memory.`,
    { code: "UNEXPECTED_ARGUMENT" },
  );
}

/** Opens a backend in memory, without a configuration. */
export function openInMemory(): OpenedBackend {
  const config = resolveConfig();
  return {
    backend: new MemoryBackend(config),
    config,
    ...listenerOf(config),
    queues: new Map(),
  };
}

/**
 * Opens the backend that a configuration names, and a spool for each dataset where it names a folder.
 *
 * @throws {ConfigError} If the configuration cannot be used.
 * @throws {BackendError} If the backend cannot be opened.
 */
export async function openStore(
  given: PersistenceConfig,
  datasets: readonly Dataset<unknown>[],
): Promise<OpenedBackend> {
  const config = resolveConfig(given);
  const backend = await openBackend(given, { retentionOf: datasets.map(({ name }) => name) });
  const queues = new Map<DatasetName, QueueMaker>();
  for (const dataset of config.spoolDirectory === undefined ? [] : datasets) {
    queues.set(dataset.name, await openSpool(dataset, config, backend));
  }
  return { backend, config, ...listenerOf(config), queues };
}

/** Returns the listener of a configuration, made safe, and a function that ends events. */
function listenerOf({ onEvent }: ResolvedConfig): Pick<OpenedBackend, "emit" | "mute"> {
  const listener = safeListener(onEvent);
  let isMuted = false;
  return {
    emit(event) {
      if (!isMuted) listener(event);
    },
    mute() {
      isMuted = true;
    },
  };
}

/** Opens the spool of a dataset. Where it cannot be used, an alarm is raised, and the program starts without it. */
async function openSpool(
  dataset: Dataset<unknown>,
  config: ResolvedConfig,
  backend: Backend,
): Promise<QueueMaker> {
  const onEvent: EventListener = safeListener(config.onEvent);
  const { spoolDirectory: directory, maxSpoolBytes: maxBytes, fsync } = config;
  const { location: database } = backend;
  try {
    const { Spool } = await import("./spool/spool.ts");
    const spool = await Spool.open(dataset, { directory: directory!, database, maxBytes, fsync, onEvent });
    return (hooks) => spool.attach(hooks);
  } catch (error) {
    const message = `${
      messageOf(error).replace(/\.$/, "")
    }. Records of ${dataset.name} are kept in memory only.`;
    onEvent({ type: "spool-unusable", dataset: dataset.name, code: errorCodeOf(error), message, error });
    return (hooks) =>
      new MemoryQueue(dataset, hooks, { alarm: message, maxRecords: backend.maxRecords?.(dataset) });
  }
}
