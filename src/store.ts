import type { Backend } from "./backends/backend.ts";
import { deadLetterFolder, type ResolvedConfig } from "./config.ts";
import { DatasetHandle, type HandleParts } from "./dataset_handle.ts";
import { BackendError, ValidationError } from "./errors.ts";
import { type CleanupOptions, deleteOld, retentionCutoff } from "./monitoring/retention.ts";
import type { OpenedBackend, QueueMaker } from "./open_store.ts";
import { publish } from "./open_telemetry.ts";
import { MAX_TIMER_MS } from "./pipeline/batch_stream.ts";
import { DeadLetters } from "./pipeline/dead_letters.ts";
import type { EventListener } from "./pipeline/events.ts";
import { Pipeline } from "./pipeline/pipeline.ts";
import { addReports, type CloseReport, type PipelineStats } from "./pipeline/pipeline_stats.ts";
import type { Queue, QueueHooks } from "./pipeline/queue.ts";
import type { Sink } from "./pipeline/sink.ts";
import type { Dataset, DatasetName } from "./records/dataset.ts";
import { daysByDataset } from "./records/datasets.ts";
import { maxBytesFor, RingBuffer } from "./records/ring_buffer.ts";

/** Counters of a hub or an observatory. */
export interface StoreStats {
  /** The backend; `server` where records are sent to one. */
  backend: Backend["name"];
  /** The counters of each dataset. */
  datasets: Partial<Record<DatasetName, PipelineStats>>;
}

/** Options of closing. */
export interface CloseOptions {
  /**
   * Time to commit what is left, in milliseconds.
   *
   * @default {10_000}
   */
  deadlineMs?: number;
}

/** Work that a {@linkcode RecordStore} waits for beside its pipelines. */
export interface StoreHooks {
  /** Resolves when nothing that was committed is left to look at. */
  settle?(): Promise<void>;
  /** Ends monitors. The backend is still open. */
  close?(): Promise<void>;
}

/** Handling of a dataset beyond its description. */
export interface HandleOptions<T, AggregateQuery, Aggregate>
  extends Pick<HandleParts<T, AggregateQuery, Aggregate>, "aggregate"> {
  /** The sink of the batches; the backend where absent. A monitor decorates it. */
  readonly sink?: Sink;
  /** Gets each accepted record. It must not throw. */
  readonly onAccepted?: (record: T) => void;
  /** Returns the time from which records stay regardless of the retention. */
  readonly retentionFloor?: () => Promise<number>;
}

/** A dataset of a store: its way in, and how far back a cleanup may go. */
interface StoredDataset {
  readonly dataset: Dataset<unknown>;
  readonly pipeline: Pipeline<unknown>;
  readonly retentionFloor: () => Promise<number>;
}

/** Stores in front of backends that do not outlive the process: a read of one sees what all have accepted. */
const volatileStores = new WeakMap<Backend, Set<RecordStore>>();

/** Assembles a pipeline, a memory layer and a handle for each dataset, in front of one backend. */
export class RecordStore {
  readonly backend: Backend;
  readonly config: ResolvedConfig;
  readonly #emit: EventListener;
  readonly #mute: () => void;
  readonly #queues: ReadonlyMap<DatasetName, QueueMaker>;
  readonly #hooks: StoreHooks;
  readonly #ownsBackend: boolean;
  readonly #datasets: StoredDataset[] = [];
  readonly #unpublish: () => void;

  /** Creates a store without datasets. It closes the backend only if the configuration did not bring an open one. */
  constructor({ backend, config, emit, mute, queues }: OpenedBackend, hooks: StoreHooks = {}) {
    this.backend = backend;
    this.config = config;
    this.#emit = emit;
    this.#mute = mute;
    this.#queues = queues;
    this.#hooks = hooks;
    this.#ownsBackend = backend !== config.backend;
    this.#unpublish = publish(() => this.stats());
    if (!backend.isDurable) {
      const stores = volatileStores.get(backend) ?? new Set();
      volatileStores.set(backend, stores.add(this));
    }
  }

  /** Adds a dataset, and starts its pipeline. */
  handle<T, Input, Query extends object, AggregateQuery, Aggregate>(
    dataset: Dataset<T>,
    { aggregate, sink, onAccepted, retentionFloor }: HandleOptions<T, AggregateQuery, Aggregate>,
  ): DatasetHandle<T, Input, Query, AggregateQuery, Aggregate> {
    const { backend, config } = this;
    const { maxMemoryEntries: maxRecords } = config;
    const letters = deadLetterFolder(config);
    const newest = new RingBuffer<T>({ maxRecords, maxBytes: maxBytesFor(maxRecords) });
    const pipeline = new Pipeline<T>({
      dataset,
      sink: sink ?? backend,
      batchSize: config.batchSize,
      // Records that do not outlive the process gain nothing by waiting for a batch.
      batchIntervalMs: backend.isDurable ? config.batchIntervalSeconds * 1_000 : 0,
      overflow: config.overflow,
      onAccepted: onAccepted
        ? (record, bytes) => {
          newest.push(record, bytes);
          onAccepted(record);
        }
        : (record, bytes) => void newest.push(record, bytes),
      onEvent: this.#emit,
      queue: this.#queues.get(dataset.name) as ((hooks: QueueHooks) => Queue<T>) | undefined,
      deadLetters: letters === undefined ? undefined : new DeadLetters(letters, dataset.name),
    });
    this.#datasets.push({
      dataset,
      pipeline: pipeline as unknown as Pipeline<unknown>,
      retentionFloor: retentionFloor ?? (() => Promise.resolve(Infinity)),
    });
    return new DatasetHandle({
      dataset,
      backend,
      pipeline,
      newest,
      timeZone: config.timeZone,
      aggregate,
      ready: () => this.ready(),
      flush: async () => {
        await pipeline.flush();
        await this.#hooks.settle?.();
      },
    });
  }

  /** Resolves when a read of a backend in memory sees all that was accepted. Other backends are not waited for. */
  async ready(): Promise<void> {
    const stores = volatileStores.get(this.backend);
    if (!stores) return;
    // Reads show what is stored, even if a flush failed.
    await Promise.all([...stores].map((store) => store.#commit().catch(() => {})));
  }

  /** Deletes old records of all datasets; returns how many of each. */
  async cleanup(options: CleanupOptions = {}): Promise<Partial<Record<DatasetName, number>>> {
    const { retentionDays = {}, dryRun = false, timeBudgetMs } = options;
    const days = { ...this.config.retentionDays, ...daysByDataset(retentionDays) };
    const deletions = await Promise.all(this.#datasets.map(async ({ dataset, retentionFloor }) => {
      const before = retentionCutoff(days[dataset.name]);
      return { dataset, before: Math.min(before, await retentionFloor()) };
    }));
    await this.ready();
    return await deleteOld(this.backend, deletions, { dryRun, timeBudgetMs });
  }

  /** Waits until all that was accepted before is committed, and monitors have looked at it. */
  async flush(): Promise<void> {
    await this.#commit();
    await this.#hooks.settle?.();
  }

  /** Returns the counters. */
  stats(): StoreStats {
    const datasets: Partial<Record<DatasetName, PipelineStats>> = {};
    for (const { dataset, pipeline } of this.#datasets) datasets[dataset.name] = pipeline.stats();
    return { backend: this.backend.name, datasets };
  }

  /** Ends the intake, commits what is left until the deadline, and closes the backend if the store owns it. */
  async close({ deadlineMs = 10_000 }: CloseOptions = {}): Promise<CloseReport> {
    if (!(deadlineMs >= 0)) {
      throw new ValidationError({
        subject: "a close",
        field: "deadlineMs",
        value: deadlineMs,
        expected: "a number of milliseconds from 0",
      });
    }
    const deadline = performance.now() + deadlineMs;
    const reports = await Promise.all(this.#datasets.map(({ pipeline }) => pipeline.close({ deadlineMs })));
    await endBefore(deadline, this.#hooks.close?.());
    volatileStores.get(this.backend)?.delete(this);
    this.#unpublish();
    if (this.#ownsBackend) await this.backend.close();
    this.#mute();
    return addReports(reports);
  }

  /** Closes for `await using`, where no caller reads the report: a loss throws. */
  async dispose(): Promise<void> {
    const { lost } = await this.close();
    if (lost === 0) return;
    throw new BackendError(
      `Closed with ${lost} ${
        lost === 1 ? "record" : "records"
      } lost: the backend did not take them in time. Flush first, or use a spool.`,
      { code: "RECORDS_LOST", operation: "close", kind: "operator" },
    );
  }

  async #commit(): Promise<void> {
    await Promise.all(this.#datasets.map(({ pipeline }) => pipeline.flush()));
  }
}

/** Waits for work, but not beyond a deadline: a backend that gives no answer must not keep a program from closing. */
async function endBefore(deadline: number, work: Promise<unknown> | undefined): Promise<void> {
  const over = Promise.withResolvers<void>();
  const ms = Math.min(Math.max(deadline - performance.now(), 0), MAX_TIMER_MS);
  const timer = setTimeout(over.resolve, ms);
  await Promise.race([work, over.promise]);
  clearTimeout(timer);
}
