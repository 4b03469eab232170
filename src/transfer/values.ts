/**
 * Values as files have them: texts, or JSON values.
 *
 * @module
 */
import type { Column, ColumnType } from "../records/dataset.ts";
import { parseTime } from "../records/time_text.ts";

export { parseTime };

/** A value does not fit a field. Becomes a `ValidationError` that names the field. */
export class Unreadable extends Error {
  /** States the requirement, and the value where it is only a part of what the field is read from. */
  constructor(readonly expected: string, readonly value?: unknown) {
    super(expected);
  }
}

/** A `TransformStream` of pages of records into bytes of a file. */
export type Encoder = TransformStream<readonly unknown[], Uint8Array>;

/** Epoch milliseconds as ISO 8601 in UTC. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}

function readTime(value: unknown): unknown {
  if (typeof value !== "string") return value;
  // From 2001 to 2286: 12 or 14 digits are rather a date without its hyphens.
  if (/^\d{13}$/.test(value)) return Number(value);
  return parseTime(value) ?? refuse("a time as in 2026-01-31T12:00:00Z, or in epoch milliseconds");
}

function readNumber(value: unknown): unknown {
  if (typeof value !== "string") return value;
  const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value);
  return isNumber ? Number(value) : refuse("a number as in 41.2");
}

function readBoolean(value: unknown): unknown {
  if (typeof value !== "string") return value;
  const text = value.toLowerCase();
  return text === "true" || text === "false" ? text === "true" : refuse("true or false");
}

/**
 * Reads a map: a JSON object, one without its braces as in Azure, or a list of keys and values. Values other than texts
 * (a number, `true`, `null`) keep their spelling.
 */
function readMap(value: unknown): unknown {
  const read = typeof value === "string" ? parseMap(value) : value;
  const map = Array.isArray(read) ? readPairs(read) : read;
  if (typeof map !== "object" || map === null || isRawJSON(map)) return refuseMap();
  if (isMapOfTexts(map)) return map;
  return Object.fromEntries(
    Object.entries(map).map((
      [key, value],
    ) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}

function isMapOfTexts(map: unknown): boolean {
  if (typeof map !== "object" || map === null || Array.isArray(map)) return false;
  for (const key in map) {
    if (typeof (map as Record<string, unknown>)[key] !== "string") return false;
  }
  return true;
}

function refuseMap(): never {
  refuse('a JSON object as in {"team": "nlp"}');
}

function parseMap(text: string): unknown {
  const json = /^\s*"/.test(text) ? `{${text}}` : text;
  try {
    const map = JSON.parse(json);
    return isMapOfTexts(map) ? map : JSON.parse(json, keepWritten); // a reviver takes ten times as long
  } catch {
    return refuseMap();
  }
}

/** The map in a list of pairs, as in `[{"key": "team", "value": "nlp"}]`. */
function readPairs(list: readonly unknown[]): Record<string, unknown> {
  return Object.fromEntries(list.map((entry) => {
    const { key, Key = key, value = "", Value = value } = (entry ?? {}) as Record<string, unknown>;
    return typeof Key === "string" ? [Key, Value ?? ""] : refuseMap();
  }));
}

/** Types that TypeScript does not have yet. */
const { rawJSON, isRawJSON } = JSON as unknown as {
  rawJSON(text: string): object;
  isRawJSON(value: unknown): boolean;
};

/** A number stays as it is written: its meaning, such as an account, is not known. */
function keepWritten(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source;
  return typeof value === "number" && source !== undefined ? rawJSON(source) : value;
}

/** A number with more digits than a float can hold stays the text that it is in the file. */
export function keepDigits(_key: string, value: unknown, context?: { source?: string }): unknown {
  const source = context?.source;
  return typeof value === "number" && source !== undefined && source.length > 15 ? source : value;
}

/** A text may have come as a number. */
function readText(value: unknown): unknown {
  return typeof value === "number" || typeof value === "boolean" ? String(value) : value;
}

/** Parsers by type. Values that are neither text nor of that type are left to validation. */
export const READERS: Readonly<Record<ColumnType, (value: unknown) => unknown>> = {
  timestamp: readTime,
  text: readText,
  real: readNumber,
  integer: readNumber,
  boolean: readBoolean,
  decimal: (value) => value,
  map: readMap,
};

/** Refuses a value: says what a value of the field looks like. */
export function refuse(expected: string): never {
  throw new Unreadable(expected);
}

/** A record as JSON has it: times as ISO 8601, all else as it is. */
export function toJsonRecord(columns: readonly Column[], record: unknown): Record<string, unknown> {
  const json = { ...record as Record<string, unknown> };
  for (const { field, type } of columns) {
    if (type === "timestamp" && json[field] !== undefined) json[field] = isoTime(json[field] as number);
  }
  return json;
}

/** The cells of a record, for a table or for CSV; `undefined` where it has no value. */
export function toCells(columns: readonly Column[], record: unknown): (string | undefined)[] {
  const json = toJsonRecord(columns, record);
  return columns.map(({ field, type }) => {
    const value = json[field];
    if (value === undefined) return undefined;
    return type === "map" ? JSON.stringify(value) : String(value);
  });
}

/** All values of a record, independent of the order of fields and of keys in maps. */
export function contentOf(columns: readonly Column[], record: unknown): string {
  const values = record as Record<string, unknown>;
  return JSON.stringify(columns.map(({ field, type }) => {
    const value = values[field];
    return type === "map" && value !== undefined ? sortedEntries(value as Record<string, string>) : value;
  }));
}

function sortedEntries(map: Record<string, string>): [key: string, value: string][] {
  return Object.entries(map).sort(([a], [b]) => a < b ? -1 : 1);
}
