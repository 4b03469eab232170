/**
 * Waits for work, but not longer than a limit. What the work does after that is ignored.
 *
 * @param onLimit Gives the result, or throws, when the limit is over.
 */
export function withinLimit<T>(
  work: Promise<T>,
  limitMs: number,
  onLimit: () => T | Promise<T>,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => resolve(Promise.try(onLimit)), limitMs);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/**
 * Runs work with a signal that aborts when a limit is over.
 *
 * @param onLimit Gives the result of work that failed after the limit, or throws.
 */
export async function withTimeout<T>(
  limitMs: number,
  run: (signal: AbortSignal) => Promise<T>,
  onLimit: (error: unknown) => T,
): Promise<T> {
  // Not `AbortSignal.timeout()`: each would stay in memory until its time is over.
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), limitMs);
  try {
    return await run(timeout.signal);
  } catch (error) {
    if (timeout.signal.aborted) return onLimit(error);
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
