import timers from "node:timers/promises";

interface Timer {
  readonly due: number;
  readonly run: () => void;
}

/** Stands in for timers, those of `node:timers/promises` as well, and `performance.now`, so that tests of timers take no time. */
export class FakeTime implements Disposable {
  readonly #setTimeout = globalThis.setTimeout;
  readonly #clearTimeout = globalThis.clearTimeout;
  readonly #wait = timers.setTimeout;
  readonly #performanceNow = performance.now;
  readonly #timers = new Map<number, Timer>();
  #now = 0;
  #lastId = 0;

  constructor() {
    globalThis.setTimeout = ((run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
      this.#timers.set(++this.#lastId, { due: this.#now + ms, run: () => run(...args) });
      return this.#lastId;
    }) as unknown as typeof setTimeout;
    performance.now = () => this.#now;
    timers.setTimeout =
      ((ms: number, value: unknown, { signal }: { signal?: AbortSignal } = {}) =>
        new Promise((resolve, reject) => {
          const timer = setTimeout(() => resolve(value), ms);
          const end = () => {
            clearTimeout(timer);
            reject(signal?.reason);
          };
          signal?.addEventListener("abort", end);
          if (signal?.aborted) end();
        })) as unknown as typeof timers.setTimeout;
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

  /** Lets time pass until a promise is settled; gives what it resolves to. */
  async passUntil<T>(promise: Promise<T>, stepMs = 30_000): Promise<T> {
    let isOver = false;
    const end = () => isOver = true;
    promise.then(end, end);
    while (!isOver) await this.pass(stepMs);
    return await promise;
  }

  [Symbol.dispose](): void {
    globalThis.setTimeout = this.#setTimeout;
    globalThis.clearTimeout = this.#clearTimeout;
    performance.now = this.#performanceNow;
    timers.setTimeout = this.#wait;
  }
}

/** Gives streams the turns of the event loop that they need to come to rest. */
export async function settle(): Promise<void> {
  const { setImmediate } = await import("node:timers");
  for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve));
}
