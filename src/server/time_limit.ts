const OVER = Symbol("over");

/**
 * Waits for work, but not longer than a limit. What the work does after that is ignored.
 *
 * @param work The work.
 * @param limitMs The limit, in milliseconds.
 * @param onLimit Gives the result, or throws, when the limit is over.
 */
export async function withinLimit<T>(
  work: Promise<T>,
  limitMs: number,
  onLimit: () => T | Promise<T>,
): Promise<T> {
  const over = Promise.withResolvers<typeof OVER>();
  const timer = setTimeout(() => over.resolve(OVER), limitMs);
  work.catch(() => {});
  try {
    const result = await Promise.race([work, over.promise]);
    return result === OVER ? onLimit() : result;
  } finally {
    clearTimeout(timer);
  }
}
