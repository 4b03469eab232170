/** Somebody who waits to be let in. */
interface Waiting<T> {
  readonly record: T;
  readonly admitted: (safe: Promise<void>) => void;
  readonly refused: (error: Error) => void;
}

/** What a {@linkcode AdmissionQueue} asks and tells. */
export interface Door<T> {
  /** Whether there is room for another record. */
  hasRoom: () => boolean;
  /** Takes a record in; the promise resolves when it is safe. */
  admit: (record: T) => Promise<void>;
  /** Somebody has waited for too long. */
  onImpatient: () => void;
}

/** How long somebody waits at the most while there could be room, in milliseconds. */
const PATIENCE_MS = 1_000;

/**
 * Where those wait whose records have no room, in the order in which they came.
 *
 * @typeParam T The type of the records.
 */
export class AdmissionQueue<T> {
  readonly #door: Door<T>;
  readonly #waiting: Waiting<T>[] = [];
  /** How many of them have been let in: to take each out of the array by itself would move all that follow. */
  #admitted = 0;
  #patience: ReturnType<typeof setTimeout> | undefined;

  /** Makes it; nobody is in it. */
  constructor(door: Door<T>) {
    this.#door = door;
  }

  /** How many wait. */
  get length(): number {
    return this.#waiting.length - this.#admitted;
  }

  /** Waits; the promise resolves when the record was let in and is safe. */
  enter(record: T): Promise<void> {
    return new Promise((admitted, refused) => this.#waiting.push({ record, admitted, refused }));
  }

  /** Lets in as many as there is room for. */
  letIn(): void {
    const { hasRoom, admit } = this.#door;
    while (this.length > 0 && hasRoom()) {
      const { record, admitted } = this.#waiting[this.#admitted++];
      admitted(admit(record));
    }
    if (this.#admitted * 2 >= this.#waiting.length) this.#forgetAdmitted();
    if (this.length === 0) this.#calmDown();
  }

  /** From now on whoever waits does so for a second at the most. */
  beImpatient(): void {
    if (this.length === 0) return;
    this.#patience ??= setTimeout(() => {
      this.#patience = undefined;
      this.#door.onImpatient();
    }, PATIENCE_MS);
  }

  /** Mutex all away. */
  close(error: Error): void {
    this.#forgetAdmitted();
    for (const { refused } of this.#waiting.splice(0)) refused(error);
    this.#calmDown();
  }

  #forgetAdmitted(): void {
    this.#waiting.splice(0, this.#admitted);
    this.#admitted = 0;
  }

  #calmDown(): void {
    clearTimeout(this.#patience);
    this.#patience = undefined;
  }
}
