import { clearImmediate, setImmediate } from "node:timers";

/** Turns of the event loop, counted until they are disposed. */
export class Turns implements Disposable {
  count = 0;
  #next = setImmediate(() => this.#take());

  #take(): void {
    this.count++;
    this.#next = setImmediate(() => this.#take());
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#next);
  }
}
