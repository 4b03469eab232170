import type { BodyAccount, BodyLimits } from "./body.ts";
import { RequestError } from "./problems.ts";

/** Limits of requests. */
export interface Limits extends BodyLimits {
  /**
   * Most requests that are answered at once; others get 503. Probes do not count.
   *
   * @default {256}
   */
  readonly maxRequests: number;
  /**
   * Most bytes of all bodies in memory, decompressed; further requests get 503.
   *
   * @default {268_435_456}
   */
  readonly maxHeldBytes: number;
  /**
   * Requests a second of each token, with bursts of the same number; others get 429.
   *
   * @default {Infinity}
   */
  readonly maxRatePerToken: number;
}

export const DEFAULT_LIMITS: Limits = {
  maxBodyBytes: 64 * 2 ** 20,
  bodyTimeoutMs: 30_000,
  maxRequests: 256,
  maxHeldBytes: 256 * 2 ** 20,
  maxRatePerToken: Infinity,
};

/** Bounds what requests hold together: their number, or their bytes. */
export class Capacity {
  readonly #most: number;
  readonly #refusal: string;
  #held = 0;

  /** Creates a capacity of which nothing is held. The refusal is the message of its error. */
  constructor(most: number, refusal = "The server is busy. Try again.") {
    this.#most = most;
    this.#refusal = refusal;
  }

  /**
   * Opens the account of a request. What it takes is given back when it is disposed.
   *
   * @throws {RequestError} If the limit is reached.
   */
  hold(amount = 0): BodyAccount {
    let own = 0;
    const take = (amount: number) => {
      if (this.#held + amount > this.#most) throw new RequestError(this.#refusal, { code: "SERVER_BUSY" });
      own += amount;
      this.#held += amount;
    };
    take(amount);
    return { take, [Symbol.dispose]: () => void (this.#held -= own) };
  }
}

/** A bucket of a token: requests that it may send at a time, in milliseconds. */
interface Bucket {
  room: number;
  at: number;
}

/** Bounds the requests of each token by a token bucket that holds those of one second. */
export class RateLimiter {
  readonly #perSecond: number;
  readonly #buckets = new Map<string, Bucket>();

  /** Creates the limit. Each bucket starts full. */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /**
   * Counts a request. Names are those of tokens, so that there are few buckets.
   *
   * @throws {RequestError} If the token has sent too many.
   */
  take(name: string, now = performance.now()): void {
    if (this.#perSecond === Infinity) return;
    const most = Math.max(1, this.#perSecond);
    const bucket = this.#buckets.get(name) ?? { room: most, at: now };
    bucket.room = Math.min(most, bucket.room + (now - bucket.at) * this.#perSecond / 1_000);
    bucket.at = now;
    this.#buckets.set(name, bucket);
    if (bucket.room < 1) {
      const seconds = Math.ceil((1 - bucket.room) / this.#perSecond);
      throw new RequestError(`The token sends more than ${this.#perSecond} requests a second. Slow down.`, {
        code: "RATE_LIMITED",
        headers: { "retry-after": String(seconds) },
      });
    }
    bucket.room--;
  }
}
