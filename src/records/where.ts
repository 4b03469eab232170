/**
 * Conditions of a query on any field, as data.
 *
 * @module
 */
import { ValidationError } from "../errors.ts";
import { nearest } from "../nearest.ts";
import type { Column, Dataset } from "./dataset.ts";
import { acceptText, acceptTimeText, acceptValue } from "./validation.ts";

/** A value that a field is compared with. */
export type WhereValue = string | number | boolean | Date;

/**
 * A condition on a field or on a key of a map, as in `{ field: "tags.team", in: ["nlp", "cv"] }`. All that it names has
 * to hold. A record without the field is unequal to every value, and neither below nor above one.
 */
export interface WhereCondition {
  /** The field, or a map and a key of it, as in `tags.team` or `focus.CommitmentDiscountId`. */
  field: string;
  /** The value that it has. */
  eq?: WhereValue;
  /** A value that it does not have. */
  ne?: WhereValue;
  /** Values of which it has one. */
  in?: readonly WhereValue[];
  /** Values of which it has none. */
  notIn?: readonly WhereValue[];
  /** A number or time that it is above. */
  gt?: WhereValue;
  /** A number or time that it reaches. */
  gte?: WhereValue;
  /** A number or time that it is below. */
  lt?: WhereValue;
  /** A number or time that it does not exceed. */
  lte?: WhereValue;
  /** True to match records without it. */
  missing?: boolean;
}

/** The comparison of a {@linkcode Condition}. */
export type Operator = "in" | "notIn" | ">" | ">=" | "<" | "<=" | "missing" | "present";

/** A condition that has been checked. */
export interface Condition {
  /** The field. */
  readonly field: string;
  /** The key, where the field is a map. */
  readonly key?: string;
  /** The comparison. */
  readonly operator: Operator;
  /** The values as records have them. */
  readonly values: readonly (string | number | boolean)[];
}

const ORDERED: Readonly<Record<string, Operator>> = { gt: ">", gte: ">=", lt: "<", lte: "<=" };
const OPERATORS = ["eq", "ne", "in", "notIn", ...Object.keys(ORDERED), "missing"];

/** Reads the name of a field, or of a key of a map such as `tags.team`; nothing if the dataset has none. */
export function findField(
  dataset: Dataset<unknown>,
  name: unknown,
): { column: Column; key?: string } | undefined {
  if (typeof name !== "string" || name.includes("\0") || !name.isWellFormed()) return undefined;
  const [, field, key] = /^([^.]+)(?:\.(.*))?$/s.exec(name) ?? [];
  const column = dataset.columns.find((column) => column.field === field);
  if (!column || (column.type === "map") !== (key !== undefined)) return undefined;
  return { column, ...(key === undefined ? {} : { key }) };
}

/**
 * Says what a name must be, with the nearest one as the example. A map such as `tags.…` takes any key: a name that is
 * close to none is most often a tag.
 */
export function expectedName(name: unknown, names: readonly string[]): string {
  const [written, key] = String(name).split(/\.(.*)/s);
  const hint = nearest(written, names.map((known) => known.replace(/\.…$/, "")));
  if (hint === "" && key === undefined && names.includes("tags.…") && /^[a-z]\w*$/i.test(written)) {
    return `a name such as tags.${written}`;
  }
  const withKey = `${hint}.${key}`;
  const suggestion = !names.includes(`${hint}.…`) ? hint : key && withKey !== name ? withKey : `${hint}.…`;
  return `a name such as ${
    suggestion === "" || suggestion === name ? names.slice(0, 3).join(", ") : suggestion
  }`;
}

/**
 * Checks conditions against the dataset.
 *
 * @throws {ValidationError} If a field or operator is unknown, or a value is wrong.
 */
export function acceptWhere(dataset: Dataset<unknown>, input: unknown, timeZone = "UTC"): Condition[] {
  const subject = `a query of ${dataset.name}`;
  if (!Array.isArray(input)) {
    const expected = 'an array such as [{ field: "region", eq: "eu" }]';
    throw new ValidationError({ subject, field: "where", value: input, expected });
  }
  return input.flatMap((condition) => {
    const { field: name, ...asked } = condition as Record<string, unknown> & { field: unknown };
    const found = findField(dataset, name);
    if (!found) {
      const names = dataset.columns.map(({ field, type }) => type === "map" ? `${field}.…` : field);
      const expected = expectedName(name, names);
      throw new ValidationError({ subject, field: "where", value: name, expected, code: "UNKNOWN_FIELD" });
    }
    const { column, key } = found;
    const given = Object.entries(asked).filter(([, value]) => value !== undefined);
    const wrong = given.length === 0
      ? "nothing"
      : given.find(([operator]) => !OPERATORS.includes(operator))?.[0];
    if (wrong !== undefined) {
      const expected = `with one of ${OPERATORS.join(", ")}`;
      throw new ValidationError({ subject, field: `where.${name}`, value: wrong, expected });
    }
    return given.map(([operator, value]): Condition => ({
      field: column.field,
      ...(key === undefined ? {} : { key }),
      ...acceptOperator(dataset, { column, key, name: name as string, timeZone }, [operator, value]),
    }));
  });
}

function acceptOperator(
  dataset: Dataset<unknown>,
  { column, key, name, timeZone }: { column: Column; key?: string; name: string; timeZone: string },
  [operator, value]: [operator: string, value: unknown],
): Pick<Condition, "operator" | "values"> {
  const subject = `a query of ${dataset.name}`;
  const refuse = (expected: string): never => {
    throw new ValidationError({ subject, field: `where.${name}.${operator}`, value, expected });
  };
  if (operator === "missing") {
    if (typeof value !== "boolean") refuse("true or false");
    return { operator: value ? "missing" : "present", values: [] };
  }
  const isText = key !== undefined || column.type === "text";
  const accept = (item: unknown) =>
    isText
      ? acceptText(subject, `where.${name}`, item)
      : column.type === "timestamp"
      ? acceptTimeText(subject, `where.${name}`, item, timeZone)
      : acceptValue(dataset, column.field, readNumber(column, item)) as string | number | boolean;
  if (operator in ORDERED) {
    if (isText || column.type === "boolean") refuse("of a field that is a number or a time");
    return { operator: ORDERED[operator], values: [accept(value)] };
  }
  const isList = operator === "in" || operator === "notIn";
  if (isList && (!Array.isArray(value) || value.length === 0)) refuse("an array with a value");
  const values = (isList ? value as unknown[] : [value]).map(accept);
  return { operator: operator === "in" || operator === "eq" ? "in" : "notIn", values };
}

/** A number or truth value may come as a text, as from the command line. */
function readNumber({ type }: Column, value: unknown): unknown {
  if (typeof value !== "string") return value;
  if (type === "boolean" && (value === "true" || value === "false")) return value === "true";
  return (type === "real" || type === "integer") && value.trim() !== "" ? Number(value) : value;
}
