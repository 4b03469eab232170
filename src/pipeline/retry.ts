import { BackendError } from "../errors.ts";

/** How often {@linkcode retryBriefly} tries. */
const MAX_BRIEF_ATTEMPTS = 20;

/** How long to wait between attempts. */
export interface RetryOptions {
  /** Ends the waiting: the promise rejects with its reason. */
  signal: AbortSignal;
  /** Is told of each failure before the wait. What it throws ends the retries. */
  onFailure: (error: unknown) => void;
  /** Is handed, for each wait, what ends that wait at once. */
  onWait?: (tryNow: () => void) => void;
  /**
   * The ceiling of the first wait, in milliseconds; it doubles with each failure.
   *
   * @default {50}
   */
  baseMs?: number;
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
 * @param options The signal, who is told of failures, and the waits.
 * @returns What the operation gave in the end.
 */
export async function retry<T>(operation: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { signal, onFailure, onWait = () => {}, baseMs = 50, maxMs = () => 30_000 } = options;
  for (let attempt = 0;; attempt++) {
    signal.throwIfAborted();
    try {
      return await operation();
    } catch (error) {
      onFailure(error);
    }
    await wait(Math.random() * Math.min(maxMs(), baseMs * 2 ** attempt), signal, onWait);
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
function wait(ms: number, signal: AbortSignal, onWait: (tryNow: () => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    onWait(end);
    if (signal.aborted) end();
  });
}
