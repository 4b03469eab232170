import { BackendError } from "../errors.ts";
import { byteLength, type Dataset } from "../records/dataset.ts";
import { AdmissionQueue } from "./admission_queue.ts";
import type { EventListener } from "./events.ts";
import type { FlushTracker } from "./flush_tracker.ts";
import type { Counters } from "./pipeline_stats.ts";
import type { Queue } from "./queue.ts";

/** Policy for a record when the buffer is full. */
export type OverflowPolicy = "block" | "drop-oldest" | "drop-newest";

export interface IntakeParts<T> {
  readonly dataset: Dataset<T>;
  readonly queue: Queue<T>;
  readonly overflow: OverflowPolicy;
  readonly counters: Counters;
  readonly tracker: FlushTracker;
  /** Called with each record as it is accepted, and its size by `byteLength()`. */
  readonly onAccepted: (record: T, bytes: number) => void;
  readonly emit: EventListener;
}

/**
 * - `open`: records are admitted while memory has room.
 * - `held`: callers wait although there is room, until the backend has all of the batch that is ready.
 * - `spilling`: records are admitted while the disk has room.
 * - `dropping`: the buffer is full, and a drop was reported.
 * - `closed`: records are refused.
 */
type IntakeState = "open" | "held" | "spilling" | "dropping" | "closed";

const ADMITTED: Promise<void> = Promise.resolve();

/**
 * Accepts records into a queue, and applies the overflow policy when it is full.
 *
 * With `block`, callers move up when the backend has all of the batch that made room, has failed, or after a second; not
 * when that batch is taken. Arrivals that come one after the other leave no turn to anything else, so the backend would
 * wait for the batch meanwhile (PostgreSQL took in 1.3 times as much, measured). What is on disk only is read back, and so
 * costs twice; yet a caller must not wait for a backend that is down.
 *
 * @typeParam T The type of the records.
 */
export class Intake<T> {
  readonly #parts: IntakeParts<T>;
  readonly #queue: Queue<T>;
  readonly #isBlocking: boolean;
  readonly #waiting = new AdmissionQueue<T>();
  #state: IntakeState = "open";

  constructor(parts: IntakeParts<T>) {
    this.#parts = parts;
    this.#queue = parts.queue;
    this.#isBlocking = parts.overflow === "block";
  }

  /** Records whose callers wait for room. */
  get waiting(): number {
    return this.#waiting.records;
  }

  /** True if the queue takes another record now. */
  get hasRoom(): boolean {
    const { room } = this.#queue;
    return room === "memory" || (room === "disk" && (!this.#isBlocking || this.#state === "spilling"));
  }

  /** True if callers wait for the batch that is ready. */
  get isHeld(): boolean {
    return this.#state === "held";
  }

  /**
   * Accepts a record, or waits until there is room, as the overflow policy says.
   *
   * @param record A record that has been checked. It must not be changed afterwards.
   * @returns A promise that resolves when the record is accepted: in memory, or on disk where there is a spool. It
   * rejects only once closed.
   */
  accept(record: T): Promise<void> {
    if (this.#state === "closed") return Promise.reject(this.closedError());
    return this.#canAdmit ? this.#admit(record) : this.#overflow(record);
  }

  /** Accepts a record, but waits only for room: for streams, whose records are stored once they are closed. */
  offer(record: T): Promise<void> {
    if (this.#state === "closed" || !this.#canAdmit) return this.accept(record);
    this.#admit(record);
    return ADMITTED;
  }

  /**
   * Accepts records together, and drops none: without room it waits, regardless of the overflow policy. They may exceed
   * the bounds of the queue, so that one sync stores them all.
   *
   * @param records Records that have been checked.
   * @param signal Ends the wait for room. None of the records is accepted then.
   * @returns A promise that resolves when all are accepted.
   */
  acceptAll(records: readonly T[], signal?: AbortSignal): Promise<void> {
    if (this.#state === "closed") return Promise.reject(this.closedError());
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#canAdmit && this.#waiting.length === 0) {
      if (this.#state === "dropping") this.#state = "open";
      return this.#pushAll(records);
    }
    const accepted = this.#waiting.enqueue(records);
    this.startTimeout();
    if (!signal) return accepted;
    const withdraw = () => {
      const before = this.#waiting.withdraw(records, signal.reason);
      if (before !== undefined) this.#parts.tracker.withdraw(before, records.length);
    };
    signal.addEventListener("abort", withdraw);
    return accepted.finally(() => signal.removeEventListener("abort", withdraw));
  }

  /** Holds callers back: a batch is ready and no more would go into it. */
  hold(): void {
    if (this.#isBlocking && this.#state === "open") this.#state = "held";
  }

  /** Admits callers that wait, as many as there is room for. */
  release(): void {
    const { room } = this.#queue;
    if (this.#state === "held" || (this.#state === "spilling" && room === "memory")) this.#state = "open";
    this.#waiting.admit(() => this.hasRoom, (records) => this.#pushAll(records));
    this.startTimeout();
  }

  /** Bounds the wait of callers while there is room on disk, or will be in memory. */
  startTimeout(): void {
    const { room } = this.#queue;
    if (this.#state === "spilling" || (room !== "memory" && room !== "disk")) return;
    this.#waiting.startTimeout(() => {
      if (this.#isBlocking) this.#state = this.#queue.room === "memory" ? "open" : "spilling";
      this.release();
    });
  }

  /** Counts records at the head of the queue that are gone. */
  drop(records: number): void {
    const { counters, tracker } = this.#parts;
    counters.dropped += records;
    tracker.drop(records);
  }

  /** Refuses records from now on, and those of callers that wait. */
  close(): void {
    this.#state = "closed";
    this.#waiting.close(this.closedError());
  }

  /** Creates the error of a record that comes too late. */
  closedError(): BackendError {
    return new BackendError(
      `Cannot accept ${this.#parts.dataset.noun}: the hub or observatory is closed. Open another one.`,
      { code: "CLOSED", operation: "accept", kind: "operator" },
    );
  }

  /** True if there is room and no earlier record waits. */
  get #canAdmit(): boolean {
    if (this.#isBlocking && (this.#state === "held" || this.#waiting.length > 0)) return false;
    return this.hasRoom;
  }

  #admit(record: T): Promise<void> {
    if (this.#state === "dropping") this.#state = "open";
    return this.#push(record);
  }

  #push(record: T): Promise<void> {
    const { counters, tracker, dataset, onAccepted } = this.#parts;
    counters.accepted++;
    tracker.admit();
    const bytes = byteLength(dataset, record);
    const stored = this.#queue.push(record, bytes);
    onAccepted(record, bytes);
    return stored;
  }

  /** A queue may give one promise to all records that it stores together. */
  #pushAll(records: readonly T[]): Promise<void> {
    if (records.length === 1) return this.#push(records[0]);
    const stored = new Set<Promise<void>>();
    for (const record of records) stored.add(this.#push(record));
    return Promise.all(stored).then(() => {});
  }

  #overflow(record: T): Promise<void> {
    const { overflow, counters } = this.#parts;
    if (this.#isBlocking || this.#queue.room === "busy") {
      const accepted = this.#waiting.enqueue([record]);
      this.startTimeout();
      return accepted;
    }
    const dropped = overflow === "drop-oldest" ? this.#queue.dropOldest() : 0;
    if (dropped > 0) {
      this.drop(dropped);
      this.#reportDrop();
      return this.#push(record);
    }
    counters.accepted++;
    counters.dropped++;
    this.#reportDrop();
    return ADMITTED;
  }

  /** Reports drops once for each time that the buffer is full. */
  #reportDrop(): void {
    if (this.#state === "dropping") return;
    this.#state = "dropping";
    const { dataset: { name: dataset, noun }, counters: { dropped }, emit } = this.#parts;
    const message = `Dropping ${noun}: the buffer is full, ${dropped} dropped so far.`;
    emit({ type: "dropped", dataset, message, dropped });
  }
}
