/**
 * Waits for work, but not longer than a limit. What the work does after that is ignored.
 *
 * @param work The work.
 * @param limitMs The limit, in milliseconds.
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
