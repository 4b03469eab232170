/** A record whose caller waits for room. */
interface Waiting<T> {
  readonly record: T;
  readonly admitted: (stored: Promise<void>) => void;
  readonly refused: (error: Error) => void;
}

/** The longest that callers wait while there is room or will be, in milliseconds. */
const ADMISSION_TIMEOUT_MS = 1_000;

/**
 * Callers that wait for room, in order of arrival.
 *
 * @typeParam T The type of the records.
 */
export class AdmissionQueue<T> {
  readonly #waiting: Waiting<T>[] = [];
  /** Entries at the front that were admitted. Removing each by itself would move all that follow. */
  #admitted = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Callers that wait. */
  get length(): number {
    return this.#waiting.length - this.#admitted;
  }

  /** Waits. The promise resolves when the record was admitted and stored. */
  enqueue(record: T): Promise<void> {
    return new Promise((admitted, refused) => this.#waiting.push({ record, admitted, refused }));
  }

  /** Admits as many as there is room for. */
  admit(hasRoom: () => boolean, push: (record: T) => Promise<void>): void {
    while (this.length > 0 && hasRoom()) {
      const { record, admitted } = this.#waiting[this.#admitted++];
      admitted(push(record));
    }
    if (this.#admitted * 2 >= this.#waiting.length) this.#removeAdmitted();
    if (this.length === 0) this.#stopTimeout();
  }

  /** Starts the admission timeout, unless it runs or no caller waits. */
  startTimeout(onTimeout: () => void): void {
    if (this.length === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      onTimeout();
    }, ADMISSION_TIMEOUT_MS);
  }

  /** Refuses all that wait. */
  close(error: Error): void {
    this.#removeAdmitted();
    for (const { refused } of this.#waiting.splice(0)) refused(error);
    this.#stopTimeout();
  }

  #removeAdmitted(): void {
    this.#waiting.splice(0, this.#admitted);
    this.#admitted = 0;
  }

  #stopTimeout(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
