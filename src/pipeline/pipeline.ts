import { messageOf } from "../errors.ts";
import { byteLength, type Dataset } from "../records/dataset.ts";
import { BatchStream, MAX_TIMER_MS } from "./batch_stream.ts";
import { BatchWriter, type Progress } from "./batch_writer.ts";
import type { DeadLetters } from "./dead_letters.ts";
import type { EventListener } from "./events.ts";
import { FlushTracker } from "./flush_tracker.ts";
import { Intake, type OverflowPolicy } from "./intake.ts";
import { type CloseReport, Counters, Latencies, type PipelineStats } from "./pipeline_stats.ts";
import { MAX_BATCH_BYTES, MemoryQueue, type Queue, type QueueHooks } from "./queue.ts";
import { QueueSource } from "./queue_source.ts";
import { RetryPace } from "./retry.ts";
import type { Sink } from "./sink.ts";

export interface PipelineOptions<T> {
  dataset: Dataset<T>;
  sink: Sink;
  /** Records that make a batch due. */
  batchSize: number;
  /** The longest that a record waits for its batch, in milliseconds. */
  batchIntervalMs: number;
  /** Policy for a record when the buffer is full. */
  overflow: OverflowPolicy;
  /** Called with each record as it is accepted, and its size by `byteLength()`. */
  onAccepted?: (record: T, bytes: number) => void;
  /** Receives events. It must not throw. */
  onEvent?: EventListener;
  /** Creates the queue in which records wait; one in memory if absent. */
  queue?: (hooks: QueueHooks) => Queue<T>;
  /** Store of refused records; if absent, only their event reports them. */
  deadLetters?: DeadLetters;
}

/**
 * Moves the records of one dataset through {@linkcode Intake}, {@linkcode Queue}, {@linkcode BatchStream} and
 * {@linkcode BatchWriter} into the sink; flushes, closes and counts.
 *
 * While the sink writes, the stream is under backpressure and arrivals gather in the queue. The next batch takes them all,
 * and is made ready when no more would go in. So many records share the cost of a commit (group commit).
 *
 * @typeParam T The type of the records.
 */
export class Pipeline<T> {
  readonly #queue: Queue<T>;
  readonly #intake: Intake<T>;
  readonly #source: QueueSource<T>;
  readonly #writer: BatchWriter<T>;
  readonly #counters = new Counters();
  readonly #latencies = new Latencies();
  readonly #tracker: FlushTracker;
  readonly #pace = new RetryPace();
  readonly #done: Promise<void>;
  #state: "open" | "closing" | "closed" = "open";
  #closing: Promise<CloseReport> | undefined;

  /** Starts the pipeline; it opens nothing by itself. */
  constructor(options: PipelineOptions<T>) {
    const {
      dataset,
      sink,
      batchSize,
      overflow,
      deadLetters,
      onAccepted = () => {},
      onEvent: emit = () => {},
    } = options;
    const hooks: QueueHooks = {
      onReady: () => this.#source.wakeSoon(),
      onRoom: () => this.#intake.release(),
      onTaken: (records, time) => {
        this.#tracker.take(records, time);
        this.#intake.startTimeout();
      },
      onMissing: (records) => this.#intake.drop(records),
    };
    const queue = this.#queue = options.queue?.(hooks) ??
      new MemoryQueue(dataset, hooks, { maxRecords: sink.maxRecords?.(dataset) });
    const counters = this.#counters;
    counters.accepted = queue.spooled;
    const tracker = this.#tracker = new FlushTracker(queue.spooled);
    this.#intake = new Intake({ dataset, queue, overflow, counters, tracker, onAccepted, emit });
    this.#writer = new BatchWriter({
      dataset,
      sink,
      queue,
      deadLetters,
      counters,
      latencies: this.#latencies,
      tracker,
      pace: this.#pace,
      emit,
      onProgress: (progress) => this.#onProgress(progress),
    });
    this.#source = new QueueSource({ queue, batchSize, canTake: () => this.#canTake });
    this.#done = this.#run(options);
    this.#done.catch(() => {}); // only an abort at the deadline of close() ends it this way
  }

  /**
   * Accepts a record, or waits until there is room, as the overflow policy says.
   *
   * @param record A record that has been checked. It must not be changed afterwards.
   * @returns A promise that resolves when the record is accepted: in memory, or on disk where there is a spool. It
   * rejects only once closed.
   */
  accept(record: T): Promise<void> {
    return this.#intake.accept(record);
  }

  /** Accepts a record, but waits only for room: for streams, whose records are stored once they are closed. */
  offer(record: T): Promise<void> {
    return this.#intake.offer(record);
  }

  /**
   * Accepts records together, and drops none: waits while there is no room.
   *
   * @param records Records that have been checked.
   * @param signal Ends the wait for room; none of them is accepted then.
   * @returns A promise that resolves when all are safe: on disk where there is a spool, else settled by the backend.
   * @throws {BackendError} If the pipeline is closed, or as {@linkcode Pipeline.flush}.
   */
  async append(records: readonly T[], signal?: AbortSignal): Promise<void> {
    if (records.length === 0) return;
    await this.#intake.acceptAll(records, signal);
    if (!this.#queue.isDurable) await this.#settle(this.#tracker.admitted);
  }

  /** Counts a record that was refused as invalid. */
  countRefused(): void {
    this.#counters.refused++;
  }

  /**
   * Waits until all that was accepted before is settled, without waiting for size or interval. Waits also while a spool
   * cannot be written or read, with an alarm.
   *
   * @throws {BackendError} If the backend fails until someone acts. Nothing is lost: the records stay, and are written as
   * soon as it works again.
   */
  flush(): Promise<void> {
    return this.#settle(this.#tracker.admitted + this.#intake.waiting);
  }

  #settle(target: number): Promise<void> {
    if (this.#tracker.settled >= target) return Promise.resolve();
    if (this.#state === "closed") return Promise.reject(this.#closeReason);
    this.#source.flush();
    this.#pace.tryNow();
    return this.#tracker.wait(target);
  }

  /**
   * Ends the intake and commits what is left, until the deadline. Another call gives the same report.
   *
   * @param options The deadline, in milliseconds from now.
   * @returns Counts of what was committed and what was not.
   */
  close({ deadlineMs }: { deadlineMs: number }): Promise<CloseReport> {
    this.#closing ??= this.#close(deadlineMs);
    return this.#closing;
  }

  /** The counters and gauges as they stand. */
  stats(): PipelineStats {
    const queue = this.#queue;
    const { inFlight } = this.#counters;
    const waits = {
      buffered: queue.buffered + this.#tracker.taken - inFlight,
      spooled: queue.spooled,
      inFlight,
    };
    if (this.#state === "closed" && queue.isDurable) { // all is left to the next start
      waits.spooled += waits.buffered + inFlight - queue.unwritten;
      waits.buffered = queue.unwritten;
      waits.inFlight = 0;
    }
    const oldest = this.#tracker.oldestTime ?? queue.oldestTime;
    const { lastError } = this.#writer;
    const alarm = this.#writer.alarm ?? queue.alarm;
    const commitMs = this.#latencies.summary();
    return {
      ...this.#counters,
      ...waits,
      spoolBytes: queue.bytes,
      oldestUnacknowledgedMs: oldest === undefined ? 0 : Math.max(0, Date.now() - oldest),
      ...(commitMs === undefined ? {} : { commitMs }),
      ...(lastError === undefined ? {} : { lastError: messageOf(lastError) }),
      ...(alarm === undefined ? {} : { alarm }),
    };
  }

  /** Batches that an earlier process froze go first, as they were. */
  async #run({ dataset, batchSize: size, batchIntervalMs: intervalMs }: PipelineOptions<T>): Promise<void> {
    const { signal } = this.#pace;
    const stream = new BatchStream<T>({
      size,
      intervalMs,
      maxBytes: MAX_BATCH_BYTES,
      byteLength: (record) => byteLength(dataset, record),
    });
    await this.#writer.writeFrozen();
    await this.#source.stream().pipeThrough(stream, { signal }).pipeTo(this.#writer.stream(), { signal });
  }

  /** Lifts or applies backpressure. */
  #onProgress(progress: Progress): void {
    if (progress === "ready") return this.#intake.hold();
    if (progress !== "start") {
      const isNextReady = progress === "delivered" && this.#writer.state === "ahead";
      if (!(isNextReady && this.#intake.isHeld)) this.#intake.release();
    }
    if (progress === "sent" || progress === "suspect" || progress === "start") this.#source.wake();
  }

  /**
   * True if the next batch may be taken. What arrives while one is being written all goes into the next. So that is taken
   * early only when no more would go in, and the backend has all of the present one; or to see if it stores any.
   */
  get #canTake(): boolean {
    const { state } = this.#writer;
    return state === "idle" || state === "suspect" || (state === "sent" && !this.#intake.hasRoom);
  }

  async #close(deadlineMs: number): Promise<CloseReport> {
    this.#state = "closing";
    this.#intake.close();
    this.#source.end();
    this.#pace.shortenWaits();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, Math.min(deadlineMs, MAX_TIMER_MS));
    });
    await Promise.race([this.#done, deadline]);
    clearTimeout(timer);
    this.#pace.end(this.#intake.closedError());
    await this.#queue.close();
    this.#state = "closed";
    const { committed, spooled, deadLettered, lost, buffered, inFlight } = this.stats();
    this.#tracker.rejectAll(this.#closeReason);
    return { committed, spooled, deadLettered: deadLettered - lost, lost: lost + buffered + inFlight };
  }

  get #closeReason(): unknown {
    return this.#writer.lastError ?? this.#intake.closedError();
  }
}
