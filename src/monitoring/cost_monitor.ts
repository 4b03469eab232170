import type { Backend } from "../backends/backend.ts";
import { Alarm, type EventListener } from "../pipeline/events.ts";
import type { Batch, Sink, WriteResult } from "../pipeline/sink.ts";
import { Mutex } from "../pipeline/mutex.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import { AnomalyMonitor } from "./anomalies/anomaly_monitor.ts";
import { BudgetMonitor } from "./budgets/budget_monitor.ts";

/** Interval at which changes of other processes are read. */
const REFRESH_MS = 5 * 60_000;
/** Repeated recounts take at most a twentieth of the time. */
const MIN_WAIT_MS = 1_000;
const WAIT_FACTOR = 20;
/** Delay before a retry if no batch arrives earlier. */
const RETRY_MS = 30_000;

/**
 * Counts committed costs, each once: if a batch held duplicates, or it is unknown whether it was counted,
 * recounts all costs from the backend, between two batches.
 */
export class CostMonitor {
  readonly #budgets: BudgetMonitor;
  readonly #anomalies: AnomalyMonitor | undefined;
  readonly #alarm: Alarm;
  readonly #turns = new Mutex();
  #isStale = true;
  #refreshedAt = -Infinity;
  #mayRefreshAt = -Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** True if nothing may be deferred. */
  #isClosing = false;
  #isClosed = false;

  /** Makes a watch, which first learns what there is when a batch is written. */
  constructor(backend: Backend, { emit, anomalies }: { emit: EventListener; anomalies: boolean }) {
    this.#alarm = new Alarm("cost_entries", emit, { isMonitoring: true });
    this.#budgets = new BudgetMonitor(backend, emit);
    this.#anomalies = anomalies ? new AnomalyMonitor(backend, emit) : undefined;
  }

  /** Decorates a sink: each batch is counted once it is written. A refresh holds up the next batch only. */
  decorate(sink: Sink): Sink {
    return {
      maxRecords: sink.maxRecords?.bind(sink),
      prepare: (batch) => sink.prepare?.(batch),
      write: (batch, onSent) => this.#write(batch, () => sink.write(batch, onSent)),
    };
  }

  #write({ records }: Batch, write: () => Promise<WriteResult>): Promise<WriteResult> {
    const written = this.#turns.run(async () => {
      try {
        const result = await write();
        this.#count(records as readonly CostEntry[], result);
        return result;
      } catch (error) {
        this.#isStale = true; // it may be stored or not
        this.#budgets.note(records as readonly CostEntry[]);
        throw error;
      }
    });
    void this.#turns.run(() => this.#catchUp());
    return written;
  }

  /** Resolves when all events that follow from earlier writes are emitted. */
  async settle(): Promise<void> {
    await this.#turns.idle();
  }

  /** True once it has ended: a threshold that is crossed later is for another process to report. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** A budget was made, changed or deleted. */
  changed(): void {
    this.#isStale = true;
    this.#mayRefreshAt = -Infinity;
  }

  /** Tells of what is left to tell, and ends. */
  async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#timer !== undefined) void this.#turns.run(() => this.#catchUp()); // what was to be done later is done now
    clearTimeout(this.#timer);
    await this.#turns.idle();
    await this.#anomalies?.close();
    this.#isClosed = true;
  }

  #count(entries: readonly CostEntry[], { isReplay, duplicates, restated }: WriteResult): void {
    const isPlain = !isReplay && duplicates === 0 && restated === 0;
    const isDue = this.#budgets.isOver || performance.now() > this.#refreshedAt + REFRESH_MS;
    if (!isPlain || isDue) this.#isStale = true;
    this.#anomalies?.note();
    if (this.#isStale) this.#budgets.note(entries);
    else if (this.#budgets.count(entries)) this.#isStale = true;
  }

  /** Refreshes stale totals, now or later, and emits crossed thresholds. The next refresh retries a failure. */
  async #catchUp(): Promise<void> {
    if (this.#isClosed) return;
    try {
      if (this.#isStale) {
        const wait = this.#mayRefreshAt - performance.now();
        if (wait > 0 && !this.#isClosing) return this.#refreshLater(wait);
        await this.#refresh();
      }
      await this.#budgets.report();
      this.#alarm.clear();
    } catch (error) {
      this.#alarm.raise(error);
      this.#isStale = true;
      this.#refreshLater(RETRY_MS); // there may be no further batch
    }
  }

  async #refresh(): Promise<void> {
    const start = performance.now();
    this.#isStale = false; // unless a budget is changed meanwhile
    try {
      await this.#budgets.refresh();
      this.#refreshedAt = performance.now();
    } finally {
      const elapsedMs = performance.now() - start;
      this.#mayRefreshAt = performance.now() + Math.max(MIN_WAIT_MS, WAIT_FACTOR * elapsedMs);
    }
  }

  #refreshLater(ms: number): void {
    if (this.#timer !== undefined || this.#isClosing) return;
    const timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#turns.run(() => this.#catchUp());
    }, ms);
    Deno.unrefTimer(timer);
    this.#timer = timer;
  }
}
