import type { Backend, DeleteOptions, StorageBackend } from "./backends/backend.ts";
import { MemoryBackend } from "./backends/memory.ts";
import {
  deadLetterFolder,
  openBackend,
  type PersistenceConfig,
  resolveConfig,
  type ResolvedConfig,
} from "./config.ts";
import { BackendError, errorCodeOf, messageOf, ValidationError } from "./errors.ts";
import { MAX_TIMER_MS } from "./pipeline/batch_stream.ts";
import { forgetOld, startOfBudgets } from "./monitoring/retention.ts";
import { DeadLetters } from "./pipeline/dead_letters.ts";
import { type EventListener, safeListener } from "./pipeline/events.ts";
import { Pipeline } from "./pipeline/pipeline.ts";
import type { CloseReport, PipelineStats } from "./pipeline/pipeline_stats.ts";
import { MemoryQueue, type Queue, type QueueHooks } from "./pipeline/queue.ts";
import type { Batch, WriteResult } from "./pipeline/sink.ts";
import { Spool } from "./spool/spool.ts";
import { publish } from "./open_telemetry.ts";
import { copyRecord, type Dataset, type DatasetName } from "./records/dataset.ts";
import { acceptQuery } from "./records/query.ts";
import { maxBytesFor, RingBuffer } from "./records/ring_buffer.ts";
import { acceptRecord } from "./records/validation.ts";

/** What a hub or an observatory has taken in, and what became of it. */
export interface StoreStats {
  /** The backend. */
  backend: StorageBackend;
  /** The counters of each dataset. */
  datasets: Partial<Record<DatasetName, PipelineStats>>;
}

/** How records that cannot be accepted are dealt with in a stream. */
export interface SinkOptions {
  /**
   * Is told of each record that was refused. Without it, closing the stream rejects with the first error,
   * after all valid records were committed. What it throws errors the stream.
   */
  onInvalid?: (error: ValidationError, record: unknown) => void;
}

/** What cleanup deletes. */
export interface CleanupOptions {
  /**
   * Records older than this many days are deleted; where not given, as the configuration says. Costs that count in a
   * present period of a budget stay.
   */
  retentionDays?: number;
  /**
   * Only count.
   *
   * @default {false}
   */
  dryRun?: boolean;
  /**
   * After this time no further step is begun, in milliseconds; the next cleanup does the rest.
   *
   * @default {Infinity}
   */
  timeBudgetMs?: number;
}

/** When closing gives up. */
export interface CloseOptions {
  /**
   * How long to go on trying to commit, in milliseconds.
   *
   * @default {10_000}
   */
  deadlineMs?: number;
}

const NO_STREAM = { isStream: false };
const DAY_MS = 24 * 60 * 60 * 1_000;

/**
 * The time before which records are older than this many days.
 *
 * @throws {ValidationError} If it is no number of days from 0.
 */
export function retentionCutoff(retentionDays: number): number {
  if (retentionDays >= 0) {
    return Math.max(0, Math.floor(Date.now() - retentionDays * DAY_MS));
  }
  throw new ValidationError({
    subject: "a cleanup",
    field: "retentionDays",
    value: retentionDays,
    wanted: "a number of days from 0, or Infinity",
  });
}

/** How {@linkcode deleteBefore} deletes. */
interface DeleteBeforeOptions extends DeleteOptions {
  /** Which records are too old. */
  before: number;
  /**
   * Whether the costs stay that count in a present period of a budget.
   *
   * @default {true}
   */
  heedsBudgets?: boolean;
}

/** Deletes the records of some datasets before a time; gives how many of each. */
export async function deleteBefore(
  backend: Backend,
  datasets: readonly Dataset<unknown>[],
  { before, dryRun, timeBudgetMs = Infinity, heedsBudgets = true }: DeleteBeforeOptions,
): Promise<Partial<Record<DatasetName, number>>> {
  const deleted: Partial<Record<DatasetName, number>> = {};
  const end = performance.now() + timeBudgetMs;
  const heeds = ({ name }: Dataset<unknown>) => heedsBudgets && name === "cost_entries";
  const ofBudgets = datasets.some(heeds) ? await startOfBudgets(backend.documents) : Infinity;
  for (const dataset of datasets) {
    const options = { dryRun, timeBudgetMs: end - performance.now() };
    const cutoff = heeds(dataset) ? Math.min(before, ofBudgets) : before;
    deleted[dataset.name] = await backend.deleteBefore(dataset, cutoff, options);
  }
  // Who may delete records and nothing else has done what was asked.
  if (!dryRun) await forgetOld(backend.documents, before).catch(() => {});
  return deleted;
}

/** Makes the queue in which the records of a dataset wait. */
type QueueMaker = (hooks: QueueHooks) => Queue<unknown>;

/** What a {@linkcode RecordStore} is made of. */
interface StoreParts {
  backend: Backend;
  datasets: readonly Dataset<unknown>[];
  /** Queues other than in memory. */
  queues?: ReadonlyMap<Dataset<unknown>, QueueMaker>;
}

/** Who looks on as the records of a dataset go by. None of it may throw. */
export interface Watcher {
  /** A record was accepted. */
  onAccepted?(record: unknown): void;
  /** Writes a batch by what is handed in, and learns what became of it. */
  write?(batch: Batch, write: () => Promise<WriteResult>): Promise<WriteResult>;
  /** Resolves when nothing of what was written is left to be looked at. */
  settle?(): Promise<void>;
  /** Looks on no longer, and stores what is not stored yet. */
  close?(): Promise<void>;
}

/** What a dataset has in a store: its way in, and its newest records. */
interface Room<T> {
  pipeline: Pipeline<T>;
  newest: RingBuffer<T>;
  watcher: Watcher;
}

/**
 * What the hub and the observatory have in common: a pipeline and a memory layer for each of their datasets,
 * in front of one backend.
 */
export class RecordStore {
  readonly backend: Backend;
  /** Tells the listener of the configuration, if there is one. */
  readonly emit: EventListener;
  /** How it was opened. */
  readonly config: ResolvedConfig;
  readonly #ownsBackend: boolean;
  readonly #rooms = new Map<Dataset<unknown>, Room<unknown>>();
  readonly #unpublish: () => void;

  /** Makes the pipelines; the backend is closed with the store only if it owns it. */
  constructor(
    config: ResolvedConfig,
    { backend, datasets, queues }: StoreParts,
  ) {
    this.backend = backend;
    this.config = config;
    this.#ownsBackend = backend !== config.backend;
    const letters = deadLetterFolder(config);
    this.emit = safeListener(config.onEvent);
    for (const dataset of datasets) {
      const { maxMemoryEntries: maxRecords } = config;
      const newest = new RingBuffer<unknown>({ maxRecords, maxBytes: maxBytesFor(maxRecords) });
      const room = { newest, watcher: {} } as Room<unknown>;
      room.pipeline = new Pipeline<unknown>({
        dataset,
        sink: {
          maxRecords: backend.maxRecords?.bind(backend),
          prepare: (batch) => backend.prepare?.(batch),
          write(batch, onSent) {
            const write = () => backend.write(batch, onSent);
            return room.watcher.write?.(batch, write) ?? write();
          },
        },
        batchSize: config.batchSize,
        // What does not outlive the process gains nothing by waiting for a batch.
        batchIntervalMs: backend.isDurable ? config.batchIntervalSeconds * 1_000 : 0,
        overflow: config.overflow,
        onAccepted: (record, bytes) => {
          newest.push(record, bytes);
          room.watcher.onAccepted?.(record);
        },
        onEvent: this.emit,
        queue: queues?.get(dataset),
        deadLetters: letters === undefined ? undefined : new DeadLetters(letters, dataset.name),
      });
      this.#rooms.set(dataset, room);
    }
    this.#unpublish = publish(() => this.stats());
  }

  /** Has somebody look on as records go by. */
  watch(dataset: Dataset<unknown>, watcher: Watcher): void {
    this.#room(dataset).watcher = watcher;
  }

  /** Checks a record and takes it in. */
  add(dataset: Dataset<unknown>, input: unknown): Promise<void> {
    try {
      return this.#accept(dataset, input);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** A stream into the dataset. Closing it flushes. */
  sink<T, Input>(dataset: Dataset<T>, options: SinkOptions = {}): WritableStream<Input> {
    let firstRefusal: ValidationError | undefined;
    return new WritableStream<Input>({
      write: (input) => {
        try {
          return this.#accept(dataset, input, { isStream: true });
        } catch (error) {
          // A stream that throws loses what is queued behind: one bad record must not cost its neighbors.
          if (!(error instanceof ValidationError)) throw error;
          if (options.onInvalid) options.onInvalid(error, input);
          else firstRefusal ??= error;
        }
      },
      close: async () => {
        const { pipeline, watcher } = this.#room(dataset);
        await pipeline.flush();
        await watcher.settle?.();
        if (firstRefusal) throw firstRefusal;
      },
    }); // with a longer queue than the default of 1, writes took twice as long (measured)
  }

  /** The newest records that were accepted by this process, newest last. */
  newest<T>(dataset: Dataset<T>): T[] {
    return this.#room(dataset).newest.values().map((record) => copyRecord(dataset, record));
  }

  /** The records that a query finds. */
  async query<T>(dataset: Dataset<T>, query: object | undefined): Promise<T[]> {
    const found: T[] = [];
    for await (const page of this.backend.read(dataset, acceptQuery(dataset, query))) {
      for (const record of page) found.push(record);
    }
    return found;
  }

  /** The records that a query finds, as a stream. */
  stream<T>(dataset: Dataset<T>, query: object | undefined): ReadableStream<T> {
    const pages = this.backend.read(dataset, acceptQuery(dataset, query))[Symbol.asyncIterator]();
    return new ReadableStream<T>({
      async pull(controller) {
        const { done, value } = await pages.next();
        if (done) return controller.close();
        for (const record of value) controller.enqueue(record);
      },
      async cancel() {
        await pages.return?.();
      },
    }, { highWaterMark: 0 });
  }

  /** Deletes old records of all datasets; gives how many of each. */
  async cleanup(options: CleanupOptions = {}): Promise<Partial<Record<DatasetName, number>>> {
    const { retentionDays = this.config.retentionDays, dryRun = false, timeBudgetMs } = options;
    const before = retentionCutoff(retentionDays);
    return await deleteBefore(this.backend, [...this.#rooms.keys()], { before, dryRun, timeBudgetMs });
  }

  /** Waits until all that was accepted before is committed. */
  async flush(): Promise<void> {
    await Promise.all([...this.#rooms.values()].map(async ({ pipeline, watcher }) => {
      await pipeline.flush();
      await watcher.settle?.();
    }));
  }

  /** What was taken in, and what became of it. */
  stats(): StoreStats {
    const datasets: Partial<Record<DatasetName, PipelineStats>> = {};
    for (const [dataset, { pipeline }] of this.#rooms) datasets[dataset.name] = pipeline.stats();
    return { backend: this.backend.name, datasets };
  }

  /** Ends the intake, commits what is left until the deadline, and closes the backend if it is its own. */
  async close({ deadlineMs = 10_000 }: CloseOptions = {}): Promise<CloseReport> {
    if (!(deadlineMs >= 0)) {
      throw new ValidationError({
        subject: "a close",
        field: "deadlineMs",
        value: deadlineMs,
        wanted: "a number of milliseconds from 0",
      });
    }
    const deadline = performance.now() + deadlineMs;
    const rooms = [...this.#rooms.values()];
    const reports = await Promise.all(rooms.map(({ pipeline }) => pipeline.close({ deadlineMs })));
    await endBefore(deadline, Promise.all(rooms.map(({ watcher }) => watcher.close?.())));
    this.#unpublish();
    if (this.#ownsBackend) await this.backend.close();
    const sum = (field: keyof CloseReport) => reports.reduce((total, report) => total + report[field], 0);
    return {
      committed: sum("committed"),
      spooled: sum("spooled"),
      deadLettered: sum("deadLettered"),
      lost: sum("lost"),
    };
  }

  /** As {@linkcode RecordStore.close}, for `await using`: nobody reads a report there, so a loss throws. */
  async dispose(): Promise<void> {
    const { lost } = await this.close();
    if (lost === 0) return;
    throw new BackendError(
      `Cannot close cleanly: a backend that takes all records, or a spool, is wanted: ${lost} were lost`,
      { code: "RECORDS_LOST", operation: "close", kind: "operator" },
    );
  }

  /** Not async, so that a record costs no promise of its own unless it has to wait. */
  #accept(dataset: Dataset<unknown>, input: unknown, { isStream } = NO_STREAM): Promise<void> {
    const { pipeline } = this.#room(dataset);
    let record: unknown;
    try {
      record = acceptRecord(dataset, input);
    } catch (error) {
      pipeline.countRefused();
      throw error;
    }
    return isStream ? pipeline.offer(record) : pipeline.accept(record);
  }

  #room<T>(dataset: Dataset<T>): Room<T> {
    return this.#rooms.get(dataset) as unknown as Room<T>;
  }
}

/** Waits, but not beyond a deadline: a backend that gives no answer keeps nobody from closing. */
async function endBefore(deadline: number, work: Promise<unknown>): Promise<void> {
  const over = Promise.withResolvers<void>();
  const ms = Math.min(Math.max(deadline - performance.now(), 0), MAX_TIMER_MS);
  const timer = setTimeout(over.resolve, ms);
  await Promise.race([work, over.promise]);
  clearTimeout(timer);
}

/** A store in memory, which needs no opening. */
export function memoryStore(datasets: readonly Dataset<unknown>[]): RecordStore {
  const config = resolveConfig();
  return new RecordStore(config, { backend: new MemoryBackend(config), datasets });
}

/**
 * A store in front of the backend that the configuration names.
 *
 * @throws {ConfigError} If the configuration cannot be used.
 * @throws {BackendError} If the backend cannot be opened.
 */
export async function openStore(
  config: PersistenceConfig,
  datasets: readonly Dataset<unknown>[],
): Promise<RecordStore> {
  const resolved = resolveConfig(config);
  const backend = await openBackend(config, { retentionOf: datasets.map(({ name }) => name) });
  const queues = new Map<Dataset<unknown>, QueueMaker>();
  for (const dataset of datasets) {
    if (resolved.spoolDirectory !== undefined) {
      queues.set(dataset, await openSpool(dataset, resolved, backend));
    }
  }
  return new RecordStore(resolved, { backend, datasets, queues });
}

/** The spool of a dataset. Where it cannot be used, an alarm is raised, and the program starts without it. */
async function openSpool(
  dataset: Dataset<unknown>,
  config: ResolvedConfig,
  backend: Backend,
): Promise<QueueMaker> {
  const onEvent: EventListener = safeListener(config.onEvent);
  const { spoolDirectory: directory, maxSpoolBytes: maxBytes, fsync } = config;
  const { location: database } = backend;
  try {
    const spool = await Spool.open(dataset, { directory: directory!, database, maxBytes, fsync, onEvent });
    return (hooks) => spool.attach(hooks);
  } catch (error) {
    const message = `${messageOf(error)}; records of ${dataset.name} are kept in memory only`;
    onEvent({ type: "spool-unusable", dataset: dataset.name, code: errorCodeOf(error), message, error });
    return (hooks) =>
      new MemoryQueue(dataset, hooks, { alarm: message, maxRecords: backend.maxRecords?.(dataset) });
  }
}
