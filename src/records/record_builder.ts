import type { Dataset } from "./dataset.ts";

/**
 * Makes records from values in the order of the dataset's columns; what is undefined is absent. The array may be used
 * again for the next record.
 */
export type RecordBuilder<T> = (values: readonly unknown[]) => T;

/**
 * Makes the function that makes records. One that has the same fields as the one before is a copy of a model, written
 * over: 0.5 µs for system metrics, where to add 28 fields one by one takes 1.4 µs.
 */
export function recordBuilder<T>({ columns }: Dataset<T>): RecordBuilder<T> {
  const isPresent = columns.map(() => false);
  // Not shared with callers, who may change their records.
  let model: Record<string, unknown> = {};
  return (values) => {
    const isLikeModel = hasSameFields(isPresent, values);
    const record: Record<string, unknown> = isLikeModel ? { ...model } : {};
    for (let i = 0; i < columns.length; i++) {
      if (values[i] !== undefined) record[columns[i].field] = values[i];
    }
    if (!isLikeModel) model = { ...record };
    return record as T;
  };
}

/** Returns true if the same fields are present as in the previous record, and remembers them. */
function hasSameFields(isPresent: boolean[], values: readonly unknown[]): boolean {
  let isSame = true;
  for (let i = 0; i < isPresent.length; i++) {
    const isSet = values[i] !== undefined;
    if (isSet === isPresent[i]) continue;
    isPresent[i] = isSet;
    isSame = false;
  }
  return isSame;
}
