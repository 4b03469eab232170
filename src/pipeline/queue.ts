import { byteLength, type Dataset } from "../records/dataset.ts";

/** The upper bounds of what a batch takes at once (group commit), beside the less that it may hold already. */
export const MAX_BATCH_RECORDS = 10_000;
/** The same in bytes. */
export const MAX_BATCH_BYTES = 8 * 2 ** 20;
/** The bounds of what waits in memory. */
export const MAX_BUFFERED_RECORDS = MAX_BATCH_RECORDS;
/** The same in bytes. */
export const MAX_BUFFERED_BYTES = 64 * 2 ** 20;

/** Calls of a {@linkcode Queue} into its pipeline. */
export interface QueueHooks {
  /** There is more to take. */
  onReady: () => void;
  /** There is room again. */
  onRoom: () => void;
  /** Records have left the queue just now; the oldest was accepted at this time. */
  onTaken: (records: number, time: number) => void;
  /** Records of the queue cannot be read back. */
  onMissing: (records: number) => void;
}

/**
 * Capacity of a queue for another record:
 *
 * - `memory`: it does.
 * - `disk`: it does, but the record then waits on disk only.
 * - `busy`: it does once the disk has kept up.
 * - `none`: it is full.
 */
export type QueueRoom = "memory" | "disk" | "busy" | "none";

/** Id and length of a batch. */
export interface BatchName {
  readonly id: string;
  readonly count: number;
}

export interface FrozenBatch<T> {
  readonly id: string;
  readonly records: readonly T[];
}

/**
 * Queue of accepted records that wait for their batch, oldest first. A queue on disk keeps what was taken until it is
 * acknowledged.
 *
 * @typeParam T The type of the records.
 */
export interface Queue<T> {
  /** True if its records outlive the process. */
  readonly isDurable: boolean;
  /** Room for another record. */
  readonly room: QueueRoom;
  /** True if there is nothing to take now. */
  readonly isEmpty: boolean;
  /** Records that wait in memory. */
  readonly buffered: number;
  /** Those of them that would be lost with the process. */
  readonly unwritten: number;
  /** Records that wait on disk only. */
  readonly spooled: number;
  /** Bytes on disk. */
  readonly bytes: number;
  /** Time at which the oldest record was accepted, in epoch milliseconds. */
  readonly oldestTime: number | undefined;
  /** Cause that blocks the queue until an operator acts, if any. */
  readonly alarm: string | undefined;

  /** Adds a record of a size by `byteLength()`. The promise resolves when the record is as safe as this queue makes it. */
  push(record: T, bytes: number): Promise<void>;
  /** Takes the oldest records, up to the bounds of a batch. */
  take(): readonly T[] | Promise<readonly T[]>;
  /** Drops the oldest records; gives how many, 0 where that cannot be done. */
  dropOldest(): number;

  /** The batches that an earlier process has frozen and may have written, oldest first. */
  frozen(): AsyncIterable<FrozenBatch<T>>;
  /** Makes the next `count` taken records a batch for good, or several. */
  freeze(count: number): BatchName[] | Promise<BatchName[]>;
  /** True if the halves of a batch have replaced it. */
  isSplit(batchId: string): boolean;
  /** Replaces a batch by its halves, for good. */
  split(batchId: string): void | Promise<void>;
  /** Forgets the oldest frozen batch: all of its records are settled. */
  acknowledge(): void | Promise<void>;
  close(): Promise<void>;
}

const DONE: Promise<void> = Promise.resolve();

/**
 * A {@linkcode Queue} in memory.
 *
 * @typeParam T The type of the records.
 */
export class MemoryQueue<T> implements Queue<T> {
  readonly isDurable = false;
  readonly spooled = 0;
  readonly bytes = 0;
  readonly alarm: string | undefined;
  readonly #dataset: Dataset<T>;
  readonly #hooks: QueueHooks;
  readonly #maxRecords: number;
  #records: T[] = [];
  #bytes = 0;
  #oldestTime: number | undefined;

  /**
   * Makes an empty queue.
   *
   * @param options Why there is no better queue, if there should be one; and how many records it holds: a batch takes
   * them all.
   */
  constructor(
    dataset: Dataset<T>,
    hooks: QueueHooks,
    { alarm, maxRecords = MAX_BUFFERED_RECORDS }: { alarm?: string; maxRecords?: number } = {},
  ) {
    this.#dataset = dataset;
    this.#hooks = hooks;
    this.alarm = alarm;
    this.#maxRecords = maxRecords;
  }

  get room(): QueueRoom {
    return this.#records.length < this.#maxRecords && this.#bytes < MAX_BUFFERED_BYTES ? "memory" : "none";
  }

  get isEmpty(): boolean {
    return this.#records.length === 0;
  }

  get buffered(): number {
    return this.#records.length;
  }

  get unwritten(): number {
    return this.#records.length;
  }

  get oldestTime(): number | undefined {
    return this.#oldestTime;
  }

  push(record: T, bytes: number): Promise<void> {
    if (this.#records.push(record) === 1) this.#oldestTime = Date.now();
    this.#bytes += bytes;
    this.#hooks.onReady();
    return DONE;
  }

  take(): readonly T[] {
    let taken = this.#records;
    const time = this.#oldestTime!;
    if (taken.length <= this.#maxRecords && this.#bytes <= MAX_BATCH_BYTES) {
      this.#records = [];
      this.#bytes = 0;
    } else {
      taken = taken.splice(0, this.#batchLength());
      for (const record of taken) this.#bytes -= byteLength(this.#dataset, record);
    }
    if (this.#records.length === 0) this.#oldestTime = undefined;
    this.#hooks.onTaken(taken.length, time);
    return taken;
  }

  dropOldest(): number {
    if (this.#records.length === 0) return 0;
    this.#bytes -= byteLength(this.#dataset, this.#records.shift()!);
    return 1;
  }

  async *frozen(): AsyncGenerator<FrozenBatch<T>> {}

  freeze(count: number): BatchName[] {
    return [{ id: crypto.randomUUID(), count }];
  }

  isSplit(): boolean {
    return false;
  }

  split(): void {}

  acknowledge(): void {}

  close(): Promise<void> {
    return DONE;
  }

  /** Returns the number of records that fit the bounds of a batch: at least one. */
  #batchLength(): number {
    let bytes = 0;
    const most = Math.min(this.#records.length, this.#maxRecords);
    for (let i = 0; i < most; i++) {
      bytes += byteLength(this.#dataset, this.#records[i]);
      if (bytes > MAX_BATCH_BYTES) return Math.max(i, 1);
    }
    return most;
  }
}
