/**
 * Checks the fields of a configuration, and of budgets, rules and clusters.
 *
 * @module
 */
import { ValidationError } from "../errors.ts";

/** Rule for a field. */
export interface Check {
  /** Returns true if a value is valid. */
  test(value: unknown): boolean;
  /** The same in words. */
  readonly expected: string;
}

/** A text that every backend can store. */
export function isTextUpTo(length: number): Check {
  return {
    test: (value) =>
      typeof value === "string" && value !== "" && value.length <= length && !value.includes("\0") &&
      value.isWellFormed(),
    expected: `a non-empty string of at most ${length} characters, without NUL characters or lone surrogates`,
  };
}

/** A name, as short as those of clusters and services: three of them together are an id that can be indexed. */
export const isText: Check = isTextUpTo(255);

/** Several such texts. */
export const isTexts: Check = {
  test: (value) => Array.isArray(value) && value.every(isText.test),
  expected: "an array of non-empty strings",
};

/** True or false. */
export const isFlag: Check = { test: (value) => typeof value === "boolean", expected: "true or false" };

/** Accepts any value: another check follows. */
export const isAnything: Check = { test: () => true, expected: "" };

/** One of some names. */
export function isOneOf(...names: readonly string[]): Check {
  return { test: (value) => names.includes(value as string), expected: `one of ${names.join(", ")}` };
}

/**
 * The fields that are given, checked; absent and null ones left out.
 *
 * @throws {ValidationError} If one is missing, unknown or wrong.
 */
export function takeFields(
  subject: string,
  input: object,
  { fields, required = [] }: { fields: Readonly<Record<string, Check>>; required?: readonly string[] },
): Record<string, unknown> {
  if (typeof input !== "object" || input === null || Array.isArray(input)) {
    throw new ValidationError({
      subject,
      field: "value",
      value: input,
      expected: "an object",
      code: "INVALID_RECORD",
    });
  }
  const taken: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(input)) {
    if (value === undefined || value === null) continue;
    const check = Object.hasOwn(fields, field) ? fields[field] : undefined;
    if (!check) throw new ValidationError({ subject, field, value, known: Object.keys(fields) });
    if (!check.test(value)) throw new ValidationError({ subject, field, value, expected: check.expected });
    taken[field] = value;
  }
  for (const field of required) {
    if (taken[field] !== undefined) continue;
    throw new ValidationError({ subject, field, value: undefined, expected: "given", code: "MISSING_FIELD" });
  }
  return taken;
}
