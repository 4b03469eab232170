import { byteLength, type Dataset } from "../records/dataset.ts";
import { contentOf } from "./values.ts";

/** The bounds of the records of one time that are held to be sorted. Beyond, they are sorted in parts. */
const MAX_TIES = 100_000;
const MAX_TIE_BYTES = 64 * 2 ** 20;

type Fields = Readonly<Record<string, unknown>>;

/**
 * Sorts the records of each time by key or content, because backends return those in an order of their own. Exports of
 * the same records are equal with that in any backend.
 */
export function tieOrder(dataset: Dataset<unknown>): TransformStream<unknown[], unknown[]> {
  let ties: Fields[] = [];
  let bytes = 0;
  const take = (): Fields[] => {
    const sorted = ties.length > 1 ? ties.sort((a, b) => compare(dataset, a, b)) : ties;
    ties = [];
    bytes = 0;
    return sorted;
  };
  return new TransformStream({
    transform(page, controller) {
      const ready: Fields[] = [];
      for (const record of page as Fields[]) {
        const isTie = ties.length > 0 && ties[0].timestamp === record.timestamp;
        if (!isTie || ties.length >= MAX_TIES || bytes >= MAX_TIE_BYTES) {
          for (const tie of take()) ready.push(tie);
        }
        ties.push(record);
        bytes += byteLength(dataset, record);
      }
      if (ready.length > 0) controller.enqueue(ready);
    },
    flush(controller) {
      if (ties.length > 0) controller.enqueue(take());
    },
  });
}

function compare(dataset: Dataset<unknown>, a: Fields, b: Fields): number {
  for (const field of [...dataset.key, ...dataset.sortBy]) {
    const [one, other] = [a[field] as string | number, b[field] as string | number];
    if (one !== other) return one < other ? -1 : 1;
  }
  const [one, other] = [contentOf(dataset.columns, a), contentOf(dataset.columns, b)];
  return one < other ? -1 : one > other ? 1 : 0;
}
