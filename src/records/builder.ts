import type { Dataset } from "./dataset.ts";

/**
 * Makes records from values in the order of the dataset's columns; what is undefined is absent. The array may be used
 * again for the next record.
 */
export type RecordBuilder<T> = (values: readonly unknown[]) => T;

/**
 * Makes the function that makes the records of a page. A record that has the same fields as the one before is a copy
 * of that, written over: 0.5 µs for system metrics, where to add 28 fields one by one takes 1.4 µs.
 *
 * It is for one page only: once records are given away, whoever has them may change them.
 */
export function recordBuilder<T>({ columns }: Dataset<T>): RecordBuilder<T> {
  const isPresent = columns.map(() => false);
  let last: Record<string, unknown> = {};
  return (values) => {
    const record: Record<string, unknown> = haveSame(isPresent, values) ? { ...last } : {};
    for (let i = 0; i < columns.length; i++) {
      if (values[i] !== undefined) record[columns[i].field] = values[i];
    }
    last = record;
    return record as T;
  };
}

/** Whether the same values are present as in the record before; notes which are. */
function haveSame(isPresent: boolean[], values: readonly unknown[]): boolean {
  let isSame = true;
  for (let i = 0; i < isPresent.length; i++) {
    const isHere = values[i] !== undefined;
    if (isHere === isPresent[i]) continue;
    isPresent[i] = isHere;
    isSame = false;
  }
  return isSame;
}
