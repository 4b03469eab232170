/**
 * Plans of fields: where the value of each comes from, and how it is read. A plan is made once for a file.
 *
 * @module
 */
import { describe, ValidationError } from "../errors.ts";
import { suggest } from "../nearest.ts";
import { columnOf, type Dataset } from "../records/dataset.ts";
import { type Decimal, ONE } from "../records/decimal.ts";
import type { Readers } from "./cell_readers.ts";
import type { Preset } from "./presets/preset.ts";
import { type Cell, hasValue, type Locate, type Row } from "./locate.ts";
import { columnSource, mergedSource, type Rule, ruleSource, type Source, toDecimal } from "./sources.ts";
import { TransferError } from "./transfer_error.ts";
import { Unreadable } from "./values.ts";

export type Read = (value: unknown) => unknown;

/** Source of the value of a field. */
export interface FieldPlan {
  readonly field: string;
  /** The key, where the plan is for one entry of a map field. */
  readonly key?: string;
  /** Sources of the value, each with its parser; the first that has a value applies. */
  readonly sources: readonly (readonly [source: Source, read: Read])[];
  /** True if the file must have one of the columns. */
  readonly isRequested?: boolean;
  /** True if each row must have a value in one of them. */
  readonly isMandatory?: boolean;
}

/** The plan of a file whose columns are called like fields. */
export function ownPlan(dataset: Dataset<unknown>, readers: Readers): FieldPlan[] {
  return dataset.columns.map(({ field, name, type }) => {
    const read = type === "map" ? memoize(readers.map) : readers[type];
    return {
      field,
      sources: [...new Set([field, name])].map((column) => [columnSource(column), read] as const),
    };
  });
}

/** The plan of a format of bills. */
export function presetPlan(
  dataset: Dataset<unknown>,
  { fields, tags }: Pick<Preset, "fields" | "tags">,
  { readers, columns }: { readers: Readers; columns?: readonly string[] },
): FieldPlan[] {
  const plans = Object.entries(fields).map(([target, rule]) =>
    planFor(dataset, target, { readers, source: ruleSource(rule as Rule) })
  );
  if (!tags) return plans;
  const source = mergedSource(tags, { columns, read: memoize(readers.map) });
  return [...plans, { field: "tags", sources: [[source, (value) => value]] }];
}

/** The plan for a field, or for an entry of a map field. */
export function planFor(
  dataset: Dataset<unknown>,
  target: string,
  { readers, source }: { readers: Readers; source: Source },
): FieldPlan {
  const [, start, key] = /^([^.]*)(?:\.(.+))?$/s.exec(target) ?? [];
  const column = dataset.columns.find(({ field }) => field === start);
  if (!column || (key !== undefined && column.type !== "map")) {
    const fields = dataset.columns.flatMap(({ field, type }) =>
      type === "map" ? [field, `${field}.KEY`] : field
    );
    throw new TransferError(
      `Cannot import ${dataset.name}: unknown field ${describe(target)}.${suggest(target, fields)}`,
      { code: "UNKNOWN_FIELD" },
    );
  }
  return { field: column.field, key, sources: [[source, readers[key === undefined ? column.type : "text"]]] };
}

/** A plan whose values are multiplied by a factor, exactly. */
export function scaled(dataset: Dataset<unknown>, plan: FieldPlan, factor: string): FieldPlan {
  const { type } = columnOf(dataset, plan.field);
  let by: Decimal;
  try {
    if (!["decimal", "real", "integer"].includes(type)) {
      throw new Unreadable("left without a factor, as it is no number");
    }
    by = toDecimal(factor);
  } catch (error) {
    throw asInvalidField(dataset, error, { field: plan.field, value: factor });
  }
  const scale = (value: unknown) => {
    if (!hasValue(value)) return value;
    const product = toDecimal(value).timesFraction(by.scaled, ONE).toString();
    // A product that is too small to keep stays a number, so that a note can distinguish it from 0.
    if (product === "0" && type === "decimal") return Number((Number(value) * Number(factor)).toPrecision(3));
    return type === "decimal" ? product : Number(product);
  };
  return { ...plan, sources: plan.sources.map(([source, read]) => [source, (value) => scale(read(value))]) };
}

/** A field, or entry of a map field, and the columns or the constant that it is taken from. */
export interface FieldMapping {
  /** The field, or `field.key`. */
  readonly field: string;
  /** The columns, or the constant. */
  readonly from: string;
}

/** Describes the plans whose columns a file has. */
export function describePlans(plans: readonly FieldPlan[], locate: Locate): FieldMapping[] {
  return plans.flatMap(({ field, key, sources }) => {
    const from = sources.flatMap(([{ names, constant }]) => [
      ...names.filter((name) => locate(name)),
      ...constant === undefined ? [] : [`=${constant}`],
    ]);
    if (from.length === 0) return [];
    return [{ field: key === undefined ? field : `${field}.${key}`, from: [...new Set(from)].join(", ") }];
  });
}

/** A plan that is bound to the columns of a file. */
interface BoundPlan {
  readonly field: string;
  readonly key?: string;
  readonly cells: readonly (readonly [cell: Cell, read: Read])[];
}

/** Binds plans to the columns of a file. Returns the function that reads a row into a record. */
export function bindPlans(
  dataset: Dataset<unknown>,
  plans: readonly FieldPlan[],
  { locate, skipsEmpty = false }: { locate: Locate; skipsEmpty?: boolean },
): (row: Row, record?: Record<string, unknown>) => Record<string, unknown> {
  const bound = plans.map(({ field, key, sources }): BoundPlan => ({
    field,
    key,
    cells: sources.flatMap(([source, read]) => {
      const cell = source.bind(locate);
      return cell ? [[cell, read] as const] : [];
    }),
  })).filter(({ cells }) => cells.length > 0);
  return (row, record = {}) => {
    let at = bound[0];
    let value: unknown;
    try {
      for (at of bound) {
        const { field, key, cells } = at;
        let kept: unknown;
        for (const [cell, read] of cells) {
          value = undefined;
          value = cell(row);
          if (value === null || value === undefined || (value === "" && skipsEmpty)) continue;
          kept = read(value) ?? kept;
          // A column with an empty text leaves the field to the next column.
          if (kept !== undefined && kept !== "") break;
        }
        if (kept === undefined) continue;
        if (key === undefined) record[field] = kept;
        else record[field] = { ...record[field] as object, [key]: kept };
      }
    } catch (error) {
      throw asInvalidField(dataset, error, { field: at.field, value });
    }
    return record;
  };
}

/** Turns the error of a reader into one that names the field. */
function asInvalidField(
  { noun }: Dataset<unknown>,
  error: unknown,
  { field, value }: { field: string; value: unknown },
): unknown {
  if (!(error instanceof Unreadable)) return error;
  return new ValidationError({ subject: noun, field, value: error.value ?? value, expected: error.expected });
}

const MAX_REMEMBERED = 1_000;

/** Remembers what texts were read as: the times and tags of a bill repeat. */
export function memoize(read: Read): Read {
  const known = new Map<unknown, unknown>();
  return (value) => {
    if (typeof value !== "string") return read(value);
    let found = known.get(value);
    if (found === undefined) {
      found = read(value);
      if (known.size >= MAX_REMEMBERED) known.clear();
      known.set(value, found);
    }
    return found;
  };
}
