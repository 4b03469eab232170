/**
 * Records in the body of a request: an array of JSON, one object, or an object a line.
 *
 * @module
 */
import { describe, type ErrorCode, ValidationError } from "../errors.ts";
import type { ColumnType, Dataset } from "../records/dataset.ts";
import { parseTime } from "../records/time_text.ts";
import { yieldToEventLoop } from "../records/slices.ts";
import { JsonScanner } from "../transfer/json_stream.ts";
import { type Line, LineScanner } from "../transfer/line_stream.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import { keepDigits } from "../transfer/values.ts";
import { JsonParts, MAX_NAMES, MAX_UNCOUNTED_LENGTH } from "./json_parts.ts";
import { RequestError } from "./problems.ts";

/** A record that was refused. */
export interface Refusal {
  /** Line at which it begins, from 1. */
  readonly line: number;
  /** Index among the records of the request, from 0. */
  readonly index: number;
  /** The field at fault, where one is. */
  readonly field?: string;
  /** Stable name of the fault. */
  readonly code: ErrorCode;
  /** The fault, and what to do. */
  readonly message: string;
}

/** Records that follow each other in a body. */
export interface PostedRecords {
  /** Index of the first record. */
  readonly first: number;
  /** Records as they are given to validation; undefined where `faults` has the reason. */
  readonly inputs: unknown[];
  readonly lines: number[];
  /** Faults by index among these. */
  readonly faults: Map<number, Omit<Refusal, "line" | "index">>;
}

/** Media types of bodies of records, the default first. */
export const RECORD_TYPES: readonly string[] = ["application/json", "application/x-ndjson"];
const LINE_TYPES = new Set([
  "application/x-ndjson",
  "application/ndjson",
  "application/jsonl",
  "application/x-jsonlines",
]);
/** Types of programs that set none: the body tells. */
const OTHER_TYPES = new Set([
  "",
  "text/json",
  "text/plain",
  "application/octet-stream",
  "application/x-www-form-urlencoded",
]);

/** Records, and bytes, that are parsed before they are stored: together they share one sync. */
const PART_RECORDS = 5_000;
const PART_BYTES = 8 * 2 ** 20;
/** Bytes that are parsed before other requests get a turn: distinct field names in all of them take 0.1 s. */
const TURN_BYTES = 2 ** 16;
/** Body up to which the field names of all records are not counted: it takes 1 µs a record, and they are few. */
const UNCOUNTED_BYTES = 2 ** 20;
/** Maximum number of distinct field names in the records of a body. */
const MAX_NAMES_OF_ALL = 100_000;
const CHUNK_BYTES = 64 * 1_024;
type Scanner = Pick<LineScanner, "scan" | "finish">;
/** The start of a body in which its form is looked for. */
const HEAD_BYTES = 2_000;
/** A number that a float may not hold. Only amounts need more digits. */
const LONG_NUMBER = /[\d.]{16}/;

/**
 * Reads records in parts, so that memory is that of the body and one part.
 *
 * @throws {RequestError} If the body has another type.
 */
export async function* readRecords(
  dataset: Dataset<unknown>,
  body: Uint8Array,
  contentType: string | null,
): AsyncGenerator<PostedRecords> {
  const convert = converter(dataset);
  const names = body.length > UNCOUNTED_BYTES ? new JsonParts(MAX_NAMES_OF_ALL) : undefined;
  let part = emptyPart(0);
  let [inTurn, inPart] = [0, 0];
  try {
    for (const page of scan(body, scannerOf(body, contentType))) {
      for (const line of page) {
        if (line.fault === undefined && line.text.trim() === "") continue;
        const fault = line.fault ?? faultOfNames(line.text, names);
        take(part, fault === undefined ? line : { ...line, fault }, convert);
        inTurn += line.text.length;
        inPart += line.text.length;
        if (inTurn > TURN_BYTES) {
          inTurn = 0;
          await yieldToEventLoop();
        }
        if (part.inputs.length < PART_RECORDS && inPart < PART_BYTES) continue;
        yield part;
        inPart = 0;
        part = emptyPart(part.first + part.inputs.length);
      }
    }
  } catch (error) {
    if (!(error instanceof TransferError)) throw error;
    const message = "The array or object that begins here is not closed. Send all of it.";
    addFault(part, error.line ?? 1, { code: "INVALID_LINE", message });
  }
  if (part.inputs.length > 0) yield part;
}

/** The fault of a record with too many field names, of its own or with those of the records before it. */
function faultOfNames(text: string, ofAll: JsonParts | undefined): string | undefined {
  if (text.length > MAX_UNCOUNTED_LENGTH) {
    const own = new JsonParts();
    own.count(text);
    if (own.hasManyNames) return `The record has more than ${MAX_NAMES} distinct field names.`;
  }
  ofAll?.count(text);
  if (!ofAll?.hasManyNames) return undefined;
  return `The request has more than ${MAX_NAMES_OF_ALL} distinct field names. Send this record in another one.`;
}

function emptyPart(first: number): PostedRecords {
  return { first, inputs: [], lines: [], faults: new Map() };
}

function take(part: PostedRecords, { line, text, fault }: Line, convert: (text: string) => unknown): void {
  if (fault !== undefined) return addFault(part, line, { code: "INVALID_LINE", message: fault });
  try {
    part.inputs.push(convert(text));
    part.lines.push(line);
  } catch (error) {
    if (error instanceof ValidationError) {
      const { field, code, message } = error;
      return addFault(part, line, { field, code, message });
    }
    if (!(error instanceof SyntaxError)) throw error;
    addFault(part, line, { code: "INVALID_LINE", message: `The line is not JSON (${error.message}).` });
  }
}

function addFault(part: PostedRecords, line: number, fault: Omit<Refusal, "line" | "index">): void {
  part.faults.set(part.inputs.length, fault);
  part.inputs.push(undefined);
  part.lines.push(line);
}

/** Makes the function that reads a record: times may be texts, and amounts keep all their digits. */
function converter(dataset: Dataset<unknown>): (text: string) => unknown {
  const fieldsOf = (wanted: ColumnType) =>
    dataset.columns.filter(({ type }) => type === wanted).map(({ field }) => field);
  const times = fieldsOf("timestamp");
  const amounts = fieldsOf("decimal");
  return (text) => {
    const input = JSON.parse(text);
    if (typeof input !== "object" || input === null || Array.isArray(input)) return input;
    if (amounts.length > 0 && LONG_NUMBER.test(text)) {
      const digits = JSON.parse(text, keepDigits);
      for (const field of amounts) if (typeof input[field] === "number") input[field] = digits[field];
    }
    for (const field of times) {
      const value = input[field];
      if (typeof value === "string") input[field] = parseTime(value) ?? refuseTime(dataset, field, value);
    }
    return input;
  };
}

function refuseTime({ noun }: Dataset<unknown>, field: string, value: string): never {
  const expected = "a time as in 2026-01-31T12:00:00Z, or in epoch milliseconds";
  throw new ValidationError({ subject: noun, field, value, expected });
}

/** Creates what finds the records of a body. Parses lines separately if it can, so a bad one loses no other. */
function scannerOf(body: Uint8Array, contentType: string | null): Scanner {
  const [type] = (contentType ?? "").split(";").map((part) => part.trim().toLowerCase());
  const isLines = LINE_TYPES.has(type);
  if (!isLines && !OTHER_TYPES.has(type) && !/^application\/([\w.-]+\+)?json$/.test(type)) {
    throw new RequestError(
      `Cannot read a body of the type ${describe(type)}. Send ${RECORD_TYPES.join(" or ")}.`,
      {
        code: "UNSUPPORTED_FORMAT",
      },
    );
  }
  const head = new TextDecoder().decode(body.subarray(0, HEAD_BYTES)).replace(/^\uFEFF/, "").trimStart();
  const [start] = head.split("\n", 1);
  const isSpread = start.startsWith("[") || /[{,:[]/.test(start.trimEnd().slice(-1));
  return !isLines && isSpread ? new JsonScanner() : new LineScanner({ isQuoted: false });
}

function* scan(body: Uint8Array, scanner: Scanner): Generator<Line[]> {
  for (let at = 0; at < body.length; at += CHUNK_BYTES) {
    yield scanner.scan(body.subarray(at, at + CHUNK_BYTES));
  }
  yield scanner.finish();
}
