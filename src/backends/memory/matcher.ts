import { columnOf, type Dataset } from "../../records/dataset.ts";
import { Decimal } from "../../records/decimal.ts";
import type { Condition } from "../../records/where.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Makes the function that tells whether a condition holds for a record. */
export function matcherOf(dataset: Dataset<unknown>, condition: Condition): (record: Fields) => boolean {
  const { operator, values } = condition;
  const read = readerOf(dataset, condition);
  if (operator === "missing") return (record) => read(record) === undefined;
  if (operator === "present") return (record) => read(record) !== undefined;
  const listed = new Set<unknown>(values);
  if (operator === "in") return (record) => listed.has(read(record));
  if (operator === "notIn") return (record) => !listed.has(read(record));
  const { type } = columnOf(dataset, condition.field);
  const limit = type === "decimal" ? Decimal.from(values[0] as string) : values[0] as number | string;
  return (record) => {
    const value = read(record) as typeof values[0] | undefined;
    if (value === undefined) return false;
    const order = limit instanceof Decimal
      ? Decimal.from(value as string).compare(limit)
      : Number(value > limit) - Number(value < limit);
    return operator === ">"
      ? order > 0
      : operator === ">="
      ? order >= 0
      : operator === "<"
      ? order < 0
      : order <= 0;
  };
}

/** Makes the function that reads the value of a field, or of a key of a map; an absent one is what it stands for. */
export function readerOf(
  dataset: Dataset<unknown>,
  { field, key }: { readonly field: string; readonly key?: string },
): (record: Fields) => unknown {
  const { absent } = columnOf(dataset, field);
  if (key === undefined) return (record) => record[field] ?? absent;
  return (record) => {
    const map = record[field] as Record<string, string> | undefined;
    return map !== undefined && Object.hasOwn(map, key) ? map[key] : undefined;
  };
}
