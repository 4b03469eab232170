/** Runs functions one at a time, in the order of the calls. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs a function when all before it have ended, also if they failed. */
  run<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#last.then(run);
    this.#last = done.catch(() => {});
    return done;
  }

  /** Resolves when all calls until now have ended. */
  async idle(): Promise<void> {
    await this.#last;
  }
}
