import { describe } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptWhere, findField, type WhereCondition } from "../records/where.ts";
import { parseSpan } from "../records/time_text.ts";
import type { Arguments, Option } from "./arguments.ts";
import { UsageError } from "./usage_error.ts";

/** Option that filters by any field. */
export const WHERE_OPTION: Option = {
  name: "where",
  value: "CONDITION",
  summary: "filter by any field: 'tags.env in prod,stage', 'amount>100', 'tags.team missing'; repeatable",
  isRepeatable: true,
};

/** A name: a field, or a map and a key, in quotes where it has spaces or signs in it. */
const NAME = /^\s*([A-Za-z_]\w*)(?:\.(?:"((?:[^"\\]|\\.)*)"|([^\s=!<>"]*)))?\s*/;
const SIGNS: Readonly<Record<string, keyof WhereCondition>> = {
  "!=": "ne",
  ">=": "gte",
  "<=": "lte",
  "=": "eq",
  ">": "gt",
  "<": "lt",
};
/** An item of a list: in quotes, or up to the next comma. */
const ITEM = /\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*?))\s*(?:,|$)/gy;

/**
 * Reads the conditions of `--where`.
 *
 * @throws {UsageError} If one cannot be read.
 * @throws {ValidationError} If the dataset has no such field, or the value is wrong.
 */
export function readWhere(
  given: Arguments,
  { dataset, timeZone }: { dataset: Dataset<unknown>; timeZone: string },
): WhereCondition[] {
  const conditions = given.texts("where").map((text) => parseCondition(text, { dataset, timeZone }));
  acceptWhere(dataset, conditions);
  return conditions;
}

/** A group without a value, in tables and conditions. */
export const NONE = "(none)";

/** Splits a list of names at commas outside of quotes, as in `region,tags."a,b"`. */
export function splitNames(text = ""): string[] {
  const names = text.match(/(?:"(?:[^"\\]|\\.)*"|[^,"])+/g) ?? [];
  if (names.length === 0 && text !== "") {
    const message = `The list ${describe(text)} has no names. Write NAME or NAME,NAME.`;
    throw new UsageError(message, "INVALID_OPTION");
  }
  return names.map((name) => {
    const [, field, quoted] = /^([^.]+)\."((?:[^"\\]|\\.)*)"$/s.exec(name) ?? [];
    return field === undefined ? name : `${field}.${unescape(quoted)}`;
  });
}

function parseCondition(
  text: string,
  { dataset, timeZone }: { dataset: Dataset<unknown>; timeZone: string },
): WhereCondition {
  const [start, field, quoted, plain] = NAME.exec(text) ?? [];
  const key = quoted === undefined ? plain : unescape(quoted);
  const name = key === undefined ? field : `${field}.${key}`;
  const rest = text.slice(start?.length ?? 0);
  const [, sign, value] = /^(!=|>=|<=|=|>|<)(.*)$/s.exec(rest) ?? [];
  const [, word, list] = /^(in|not in)\s+(.+)$/s.exec(rest) ?? [];
  const isMissing = /^(missing|present)\s*$/.exec(rest)?.[1];
  if (name === undefined || (sign ?? word ?? isMissing) === undefined) {
    throw new UsageError(
      `Cannot read the condition ${
        describe(text)
      }. Write FIELD=VALUE, != < <= > >=, "FIELD in A,B", "FIELD not in A,B", ` +
        '"FIELD missing" or "FIELD present"; put a key with other signs in quotes, as in tags."a=b".',
      "INVALID_OPTION",
    );
  }
  // As tables print groups without a value; a value that is written so goes in quotes.
  if ((sign === "=" || sign === "!=") && value.trim() === NONE) return { field: name, missing: sign === "=" };
  if (list?.split(",").some((item) => item.trim() === NONE)) {
    throw new UsageError(
      `Cannot read "${NONE}" in a list. Write ${describe(`${name}=${NONE}`)}, or the value in quotes.`,
      "INVALID_OPTION",
    );
  }
  if (isMissing !== undefined) return { field: name, missing: isMissing === "missing" };
  const isTime = findField(dataset, name)?.column.type === "timestamp";
  const read = (text: string) => isTime ? parseSpan(text, { timeZone })?.start ?? text : text;
  if (word !== undefined) return { field: name, [word === "in" ? "in" : "notIn"]: itemsOf(list).map(read) };
  return { field: name, [SIGNS[sign]]: read(unquote(value.trim())) };
}

function itemsOf(list: string): string[] {
  const items = [...list.matchAll(ITEM)].map(([, quoted, plain]) =>
    quoted === undefined ? plain : unescape(quoted)
  );
  return items.filter((item, i) => item !== "" || i < items.length - 1);
}

function unquote(text: string): string {
  const [, quoted] = /^"((?:[^"\\]|\\.)*)"$/s.exec(text) ?? [];
  return quoted === undefined ? text : unescape(quoted);
}

function unescape(text: string): string {
  return text.replace(/\\(.)/gs, "$1");
}
