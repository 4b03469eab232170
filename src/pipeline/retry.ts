import timers from "node:timers/promises";
import { BackendError, type FailureKind, kindOf } from "../errors.ts";

/** Number of attempts of {@linkcode retryBriefly}. */
const MAX_BRIEF_ATTEMPTS = 20;

/**
 * The ceiling of the first wait after each kind of failure, in milliseconds; it doubles with each failure. Where
 * an operator must act first, frequent attempts gain nothing.
 */
const FIRST_WAIT_MS: Readonly<Record<FailureKind, number>> = {
  transient: 50,
  timeout: 50,
  data: 50,
  unknown: 50,
  "disk-full": 1_000,
  operator: 1_000,
};

/** Delay between attempts. */
export interface RetryOptions {
  /** Ends the waiting: the promise rejects with its reason. */
  signal: AbortSignal;
  /** Is told of each failure before the wait. What it throws ends the retries. */
  onFailure: (error: unknown) => void;
  /** Is handed, for each wait, what ends that wait at once. */
  onWait?: (tryNow: () => void) => void;
  /**
   * The ceiling of all waits, in milliseconds, asked for before each.
   *
   * @default {() => 30_000}
   */
  maxMs?: () => number;
}

/**
 * Repeats an operation until it succeeds or the signal ends it, with full-jitter backoff between attempts,
 * so that many writers that failed together do not come back together.
 *
 * @param operation What to do; gets called again after each rejection.
 * @param options The signal, the callback for failures, and the waits.
 * @returns What the operation gave in the end.
 */
export async function retry<T>(operation: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { signal, onFailure, onWait = () => {}, maxMs = () => 30_000 } = options;
  for (let attempt = 0;; attempt++) {
    signal.throwIfAborted();
    let ceilingMs: number;
    try {
      return await operation();
    } catch (error) {
      onFailure(error);
      ceilingMs = Math.min(maxMs(), FIRST_WAIT_MS[kindOf(error)] * 2 ** attempt);
    }
    await wait(Math.random() * ceilingMs, signal, onWait);
  }
}

/** The longest wait of a pipeline between attempts, and the same once it closes, in milliseconds. */
const MAX_WAIT_MS = 30_000;
const MAX_CLOSING_WAIT_MS = 250;

/** Paces all retries of a pipeline: a wait can be cut short, waits are short once it closes, and all can be ended. */
export class RetryPace {
  readonly #abort = new AbortController();
  #maxMs = MAX_WAIT_MS;
  #tryNow: () => void = () => {};

  /** Aborted when nothing is tried any more. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  options(onFailure: (error: unknown) => void): RetryOptions {
    const onWait = (tryNow: () => void) => this.#tryNow = tryNow;
    return { signal: this.signal, onFailure, onWait, maxMs: () => this.#maxMs };
  }

  /** Ends the present wait. */
  tryNow(): void {
    this.#tryNow();
  }

  /** Ends the present wait, and keeps those to come short. */
  shortenWaits(): void {
    this.#maxMs = MAX_CLOSING_WAIT_MS;
    this.#tryNow();
  }

  /** Ends all retries with a reason. */
  end(reason: Error): void {
    this.#abort.abort(reason);
  }
}

/** Repeats an operation that fails with what may pass by itself, some 20 times within 20 seconds. */
export function retryBriefly<T>(operation: () => Promise<T>): Promise<T> {
  let failures = 0;
  return retry(operation, {
    signal: new AbortController().signal,
    maxMs: () => 1_000,
    onFailure(error) {
      if (++failures === MAX_BRIEF_ATTEMPTS || !(error instanceof BackendError && error.retryable)) {
        throw error;
      }
    },
  });
}

/** Waits; rejects with the signal's reason as soon as that is aborted. */
async function wait(ms: number, signal: AbortSignal, onWait: (tryNow: () => void) => void): Promise<void> {
  const now = new AbortController();
  onWait(() => now.abort());
  await timers.setTimeout(ms, undefined, { signal: AbortSignal.any([signal, now.signal]) }).catch(() => {});
  signal.throwIfAborted();
}
