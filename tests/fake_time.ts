interface Timer {
  readonly due: number;
  readonly run: () => void;
}

/** Stands in for `setTimeout` and `clearTimeout`, so that tests of timers take no time. */
export class FakeTime implements Disposable {
  readonly #setTimeout = globalThis.setTimeout;
  readonly #clearTimeout = globalThis.clearTimeout;
  readonly #timers = new Map<number, Timer>();
  #now = 0;
  #lastId = 0;

  constructor() {
    globalThis.setTimeout = ((run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
      this.#timers.set(++this.#lastId, { due: this.#now + ms, run: () => run(...args) });
      return this.#lastId;
    }) as unknown as typeof setTimeout;
    globalThis.clearTimeout = ((id?: number) => {
      this.#timers.delete(id ?? 0);
    }) as unknown as typeof clearTimeout;
  }

  /** The timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** The time until the next timer, in milliseconds. */
  get nextMs(): number {
    return Math.min(...[...this.#timers.values()].map(({ due }) => due)) - this.#now;
  }

  /** Lets time pass and runs the timers that are due, then all microtasks. */
  async pass(ms: number): Promise<void> {
    this.#now += ms;
    for (const [id, { due, run }] of [...this.#timers]) {
      if (due > this.#now) continue;
      this.#timers.delete(id);
      run();
    }
    await settle();
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#setTimeout;
    globalThis.clearTimeout = this.#clearTimeout;
  }
}

/** Gives streams the turns of the event loop that they need to come to rest. */
export async function settle(): Promise<void> {
  const { setImmediate } = await import("node:timers");
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}
