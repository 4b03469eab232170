import type { BodyLimits } from "./body.ts";
import { RequestError } from "./problems.ts";

/** Bounds of requests. */
export interface Limits extends BodyLimits {
  /** The most requests that are answered at once; others get 503. Probes do not count. */
  readonly maxRequests: number;
}

/** Bounds where none are given. */
export const DEFAULT_LIMITS: Limits = {
  maxBodyBytes: 64 * 2 ** 20,
  bodyTimeoutMs: 30_000,
  maxRequests: 256,
};

/** Counts the requests that are being answered. */
export class Occupancy {
  readonly #most: number;
  #count = 0;

  /** Makes an empty one. */
  constructor(most: number) {
    this.#most = most;
  }

  /**
   * Takes a place until it is disposed.
   *
   * @throws {RequestError} If there is none.
   */
  enter(): Disposable {
    if (this.#count >= this.#most) {
      throw new RequestError("The server is busy. Try again.", { code: "SERVER_BUSY" });
    }
    this.#count++;
    return { [Symbol.dispose]: () => void this.#count-- };
  }
}
