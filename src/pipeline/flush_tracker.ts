/** A caller that waits until no record admitted before the one at `target` is left. */
interface Flushing {
  target: number;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/** Records that were taken out of the queue together and are not all settled. */
interface Taken {
  /** Number of records left. */
  count: number;
  /** The position after the last of them, in the order of admission. */
  readonly end: number;
  /** Time at which the oldest of them was accepted, in epoch milliseconds. */
  readonly time: number;
}

/**
 * Progress of records by their positions: a record's position is the number of those that were admitted before
 * it. Tells those who wait (flush) when all before a position have left the pipeline.
 */
export class FlushTracker {
  /** The position of the next record that is admitted. */
  #admitted: number;
  /** The position of the next record to be taken out of the queue. */
  #head = 0;
  /** Positions of records that left the queue for the stream, oldest first. Dropped ones are not in it. */
  readonly #taken: Taken[] = [];
  readonly #flushing: Flushing[] = [];

  /** Begins with so many records that were admitted before. */
  constructor(admitted: number) {
    this.#admitted = admitted;
  }

  /** The position of the next record that is admitted. */
  get admitted(): number {
    return this.#admitted;
  }

  /** Records that were taken and are not settled. */
  get taken(): number {
    return this.#taken.reduce((sum, { count }) => sum + count, 0);
  }

  /** Time at which the oldest of them was accepted, in epoch milliseconds. */
  get oldestTime(): number | undefined {
    return this.#taken[0]?.time;
  }

  /** Before which position every record has left the pipeline. Batches settle in order, drops do not. */
  get settled(): number {
    const oldest = this.#taken[0];
    return oldest ? oldest.end - oldest.count : this.#head;
  }

  /** One more was admitted. */
  admit(): void {
    this.#admitted++;
  }

  /** Records that were to be admitted after so many others are not: those who wait for them wait for fewer. */
  withdraw(before: number, records: number): void {
    const position = this.#admitted + before;
    for (const flushing of this.#flushing) {
      if (flushing.target > position) flushing.target -= records;
    }
    this.#endFlushes();
  }

  /** Notes that a number of records left the queue, of which the oldest was accepted at a time. */
  take(count: number, time: number): void {
    this.#head += count;
    this.#taken.push({ count, end: this.#head, time });
  }

  /** Notes that a number of records at the head of the queue were dropped. */
  drop(count: number): void {
    this.#head += count;
    this.#endFlushes();
  }

  /** The oldest that were taken are settled. */
  settle(records: number): void {
    for (let left = records; left > 0;) {
      const oldest = this.#taken[0];
      const settled = Math.min(left, oldest.count);
      oldest.count -= settled;
      left -= settled;
      if (oldest.count === 0) this.#taken.shift();
    }
    this.#endFlushes();
  }

  /** Resolves when all before a position are settled; rejects when that is refused. */
  wait(target: number): Promise<void> {
    const index = this.#flushing.findLastIndex((flushing) => flushing.target <= target) + 1;
    return new Promise((resolve, reject) => this.#flushing.splice(index, 0, { target, resolve, reject }));
  }

  rejectAll(error: unknown): void {
    for (const { reject } of this.#flushing.splice(0)) reject(error);
  }

  #endFlushes(): void {
    const { settled } = this;
    while (this.#flushing.length > 0 && this.#flushing[0].target <= settled) {
      this.#flushing.shift()!.resolve();
    }
  }
}
