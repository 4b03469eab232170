import { originalOf } from "./override.ts";

/** Changes of a backend by this process, beside the batches that its pipelines count. */
const counts = new WeakMap<object, number>();

/** Counts a change: answers that were read before it are old. Also where it failed, as a part may be done. */
export async function countingChange<T>(backend: object, change: Promise<T>): Promise<T> {
  try {
    return await change;
  } finally {
    counts.set(originalOf(backend), changesOf(backend) + 1);
  }
}

export function changesOf(backend: object): number {
  return counts.get(originalOf(backend)) ?? 0;
}
