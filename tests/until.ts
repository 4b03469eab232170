/** The one way in which tests wait: with a limit, and with an error that says what did not come. */

/** Less than the time limit of a test, whose error names only the test. */
const LIMIT_MS = 150_000;

/** What a test waits for, such as "the batch is written". */
export type Awaited = string | (() => string);

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Result of a promise, or an error that says what it waited for. */
export async function inTime<T>(promise: Promise<T>, what: Awaited): Promise<T> {
  const { promise: limit, reject } = Promise.withResolvers<never>();
  const end = () => {
    const said = typeof what === "string" ? what : what();
    reject(new Error(`Waited ${LIMIT_MS / 1_000} s in vain: ${said}`));
  };
  const timer = setTimeout(end, LIMIT_MS);
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

type Found<T> = Exclude<T, false | undefined | 0>;

/** Looks again and again until there is something other than `false`, `undefined` or 0; returns that. */
export async function until<T>(
  look: () => T | Promise<T>,
  what: Awaited,
  everyMs = 5,
): Promise<Found<T>> {
  let isOver = false;
  const looking = async () => {
    for (;;) {
      const found = await look();
      if (found || isOver) return found as Found<T>;
      await sleep(everyMs);
    }
  };
  try {
    return await inTime(looking(), what);
  } finally {
    isOver = true;
  }
}
