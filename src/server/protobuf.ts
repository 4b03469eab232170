/**
 * Bounded reader of protobuf, and of its JSON form by the same description. Both give equal messages.
 *
 * @module
 */
import { PbfReader } from "pbf";
import { JsonParts, MAX_NAMES, MAX_UNCOUNTED_LENGTH } from "./json_parts.ts";
import { RequestError } from "./problems.ts";

/** Messages in one body. A point of a metric with ten attributes is 21. */
const MAX_MESSAGES = 1_000_000;
/** Items of lists in one body, which may take a byte each. */
const MAX_ITEMS = 4_000_000;
/** Labels of all samples or spans of one body. Each has those of its resource or series. */
const MAX_LABELS = 5_000_000;
const MAX_DEPTH = 32;
/** Wire types. */
export const [VARINT, FIXED64, BYTES] = [0, 1, 2] as const;

/** A body that cannot be read. */
export class BodyError extends RequestError {
  constructor(message: string, code: "INVALID_BODY" | "BODY_TOO_LARGE" = "INVALID_BODY") {
    super(message, { code });
  }
}

function tooMany(most: number, what: string): BodyError {
  return new BodyError(
    `The body has more than ${most} ${what}. Send it in smaller requests.`,
    "BODY_TOO_LARGE",
  );
}

/** Bounds the labels of all samples or spans of a body: those of a resource or a series count for each of its own. */
export class LabelLimit {
  #left = MAX_LABELS;

  take(labels: number): void {
    if ((this.#left -= labels) < 0) throw tooMany(MAX_LABELS, "labels in its samples or spans");
  }
}

function cutShort(): BodyError {
  return new BodyError("The body is no valid protobuf: a value ends after its message.");
}

/** Reads bytes, and bounds the number and depth of messages. */
export class Source extends PbfReader {
  #messages = MAX_MESSAGES;
  #items = MAX_ITEMS;
  #depth = 0;

  /** Counts a message while it is read. */
  enter(): void {
    if (--this.#messages < 0) throw tooMany(MAX_MESSAGES, "parts");
    if (++this.#depth > MAX_DEPTH) throw new BodyError(`The body is nested more than ${MAX_DEPTH} deep.`);
  }

  /** Counts an item of a list. */
  countItem(): void {
    if (--this.#items < 0) throw tooMany(MAX_ITEMS, "items in lists");
  }

  /** Ends a message. */
  leave(): void {
    this.#depth--;
  }

  /** Reads a length. Returns the position after the bytes that have it. */
  endOf(limit: number): number {
    const end = this.readVarint() + this.pos;
    if (!(end <= limit)) throw cutShort();
    return end;
  }

  /** Reads bytes without a copy. */
  readSlice(limit: number): Uint8Array {
    const end = this.endOf(limit);
    const slice = this.buf.subarray(this.pos, end);
    this.pos = end;
    return slice;
  }

  /** Reads a text. Those of labels repeat: most are found by their bytes, which is faster than to decode them. */
  readText(limit: number): string {
    const end = this.endOf(limit);
    const { buf, pos } = this;
    this.pos = end;
    const length = end - pos;
    if (length > MAX_KNOWN_BYTES) return decoder.decode(buf.subarray(pos, end));
    let hash = length;
    for (let i = pos; i < end; i++) hash = Math.imul(hash ^ buf[i], 0x01000193);
    const slot = (hash ^ hash >>> 15) & KNOWN_SLOTS - 1;
    const known = knownTexts[slot];
    if (known?.bytes.length === length && isAt(known.bytes, buf, pos)) return known.text;
    const bytes = buf.slice(pos, end);
    const text = decoder.decode(bytes);
    knownTexts[slot] = { bytes, text };
    return text;
  }
}

const decoder = new TextDecoder();
const MAX_KNOWN_BYTES = 128;
const KNOWN_SLOTS = 8_192;
/** Texts by a hash of their bytes; a later one takes the place of an earlier one. */
const knownTexts: ({ bytes: Uint8Array; text: string } | undefined)[] = Array(KNOWN_SLOTS).fill(undefined);

function isAt(bytes: Uint8Array, buffer: Uint8Array, position: number): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== buffer[position + i]) return false;
  return true;
}

/** Kind of a value: its form in bytes and in JSON. */
export interface Codec<T> {
  readonly wire: number;
  /** Reads it from bytes; `limit` is the end of the message around it. */
  fromBytes(source: Source, limit: number): T;
  fromJson(value: unknown, source: Source): T;
}

/** A field of a message: one value, all of a list, or keys and values that become an object. */
export interface Field<Name extends string = string, Value = unknown> {
  readonly name: Name;
  readonly codec: Codec<unknown>;
  readonly arity: "one" | "list" | "entries";
  /** Only for types: the value that it becomes. */
  readonly becomes?: Value;
}

/** Fields of a message by their numbers. */
type Fields = Readonly<Record<number, Field>>;

/** The object that a message becomes. */
type ObjectOf<F extends Fields> = {
  readonly [K in keyof F as F[K] extends Field<infer Name> ? Name : never]?: F[K] extends
    Field<string, infer Value> ? Value : never;
};

/** The object that messages of a description become. */
export type Decoded<M> = M extends Codec<infer T> ? T : never;

/** Describes a field that a message has once. */
export const one = <Name extends string, T>(name: Name, codec: Codec<T>): Field<Name, T> => ({
  name,
  codec,
  arity: "one",
});
/** Describes a field with several values. */
export const list = <Name extends string, T>(name: Name, codec: Codec<T>): Field<Name, readonly T[]> => ({
  name,
  codec,
  arity: "list",
});
/** Describes a field of keys and values. */
export const entries = <Name extends string, T>(
  name: Name,
  value: Codec<T>,
): Field<Name, Readonly<Record<string, T>>> => ({
  name,
  codec: new Message({ 1: one("key", TEXT), 2: one("value", value) }),
  arity: "entries",
});

/** A message by the numbers of its fields. Others are ignored. */
export class Message<F extends Fields> implements Codec<ObjectOf<F>> {
  readonly wire = BYTES;
  readonly #byNumber: (Field | undefined)[] = [];
  readonly #fields: readonly Field[];

  constructor(fields: F) {
    this.#fields = Object.values(fields);
    for (const [number, field] of Object.entries(fields)) this.#byNumber[Number(number)] = field;
  }

  /** Reads a whole body. */
  decode(bytes: Uint8Array, isJson: boolean): ObjectOf<F> {
    const source = new Source(bytes);
    try {
      return isJson ? this.fromJson(parseJson(bytes), source) : this.read(source, bytes.length);
    } catch (error) {
      throw asBodyError(error, isJson);
    }
  }

  fromBytes(source: Source, limit: number): ObjectOf<F> {
    return this.read(source, source.endOf(limit));
  }

  /** Reads the fields up to a position. */
  read(source: Source, end: number): ObjectOf<F> {
    const result: Record<string, unknown> = {};
    source.enter();
    while (source.pos < end) {
      const tag = source.readVarint();
      const field = this.#byNumber[tag >>> 3];
      const wire = tag & 7;
      if (field?.codec.wire === wire) put(result, field, field.codec.fromBytes(source, end), source);
      else if (field?.arity === "list" && wire === BYTES) { // packed
        const last = source.endOf(end);
        while (source.pos < last) put(result, field, field.codec.fromBytes(source, last), source);
      } else source.skip(tag);
    }
    if (source.pos !== end) throw cutShort();
    source.leave();
    return result as ObjectOf<F>;
  }

  fromJson(value: unknown, source: Source): ObjectOf<F> {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw otherType("an object");
    }
    source.enter();
    const result: Record<string, unknown> = {};
    for (const field of this.#fields) {
      const given = (value as Record<string, unknown>)[field.name];
      if (given === undefined || given === null) continue;
      if (field.arity === "one") put(result, field, field.codec.fromJson(given, source), source);
      else for (const item of asList(given)) put(result, field, field.codec.fromJson(item, source), source);
    }
    source.leave();
    return result as ObjectOf<F>;
  }
}

export const TEXT: Codec<string> = {
  wire: BYTES,
  fromBytes: (source, limit) => source.readText(limit),
  fromJson: textFrom,
};

export const DOUBLE: Codec<number> = number(FIXED64, (source) => source.readDouble());
export const FIXED: Codec<number> = number(FIXED64, (source) => source.readFixed64());
/** A signed `fixed64`. */
export const SFIXED: Codec<number> = number(FIXED64, (source) => source.readSFixed64());
/** A `uint32` or `uint64`. */
export const UINT: Codec<number> = number(VARINT, (source) => source.readVarint());
export const INT: Codec<number> = number(VARINT, (source) => source.readVarint(true));

function number(wire: number, fromBytes: (source: Source) => number): Codec<number> {
  return { wire, fromBytes, fromJson: numberFrom };
}

/** Reads a number of JSON, which may be in a string. */
export function numberFrom(value: unknown): number {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number === "number" && (number === number || value === "NaN")) return number;
  throw otherType("a number");
}

/** Reads a string of JSON. */
export function textFrom(value: unknown): string {
  if (typeof value === "string") return value;
  throw otherType("a string");
}

function otherType(expected: string): BodyError {
  return new BodyError(`The JSON has a value of another type in place of ${expected}. Correct it.`);
}

function put(result: Record<string, unknown>, { name, arity }: Field, value: unknown, source: Source): void {
  if (arity === "one") result[name] = value;
  else if (arity === "list") {
    source.countItem();
    ((result[name] ??= []) as unknown[]).push(value);
  } else {
    const { key = "", value: entry = "" } = value as { key?: string; value?: unknown };
    ((result[name] ??= {}) as Record<string, unknown>)[key] = entry;
  }
}

function asList(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw otherType("an array");
}

/** Parses JSON, unless it would become many more objects than its bytes are, or has too many names. */
function parseJson(bytes: Uint8Array): unknown {
  const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  if (text.length > MAX_UNCOUNTED_LENGTH) {
    const parts = new JsonParts();
    parts.count(text);
    if (parts.hasManyNames) throw tooMany(MAX_NAMES, "distinct field names");
    // A message is an object, and often in an array of its own.
    if (parts.opened > 2 * MAX_MESSAGES) throw tooMany(MAX_MESSAGES, "parts");
  }
  return JSON.parse(text);
}

/** Converts an error of a reader to a {@linkcode BodyError}. Leaves programming errors as they are. */
function asBodyError(error: unknown, isJson = false): unknown {
  if (isJson && (error instanceof SyntaxError || error instanceof TypeError)) {
    return new BodyError(`The body is not JSON: ${error.message.slice(0, 200)}.`);
  }
  if (
    error instanceof RangeError || (error instanceof Error && /varint|Unimplemented type/.test(error.message))
  ) {
    return cutShort();
  }
  return error;
}
