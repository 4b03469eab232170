/**
 * Answers in the formats that a client asks for.
 *
 * @module
 */
import { parseAccept } from "hono/utils/accept";
import { type Arguments, type Option, SPREADSHEET_OPTION } from "../query/arguments.ts";
import { conflict, readName } from "../query/option_values.ts";
import { yieldToEventLoop } from "../records/slices.ts";

/** Formats of answers and their media types. */
export const MEDIA_TYPES = {
  json: "application/json",
  ndjson: "application/x-ndjson",
  csv: "text/csv",
} as const;
export type AnswerFormat = keyof typeof MEDIA_TYPES;

const FORMATS = Object.keys(MEDIA_TYPES) as AnswerFormat[];
/** Characters of text that are sent at once. */
const CHUNK_LENGTH = 65_536;

/** Options of a route that answers in several formats. */
export const ANSWER_OPTIONS: readonly Option[] = [
  { name: "format", value: "F", summary: `${FORMATS.join(", ")} (default: by Accept, else json)` },
  SPREADSHEET_OPTION,
];

/** Reads the format: the parameter, else what the client accepts. */
export function readAnswerFormat(
  given: Arguments,
  { headers }: Request,
): { format: AnswerFormat; isSpreadsheetSafe: boolean } {
  const text = given.text("format");
  const format = text === undefined
    ? acceptedFormat(headers.get("accept"))
    : readName("format", text, FORMATS);
  const isSpreadsheetSafe = given.has(SPREADSHEET_OPTION.name);
  if (isSpreadsheetSafe && format !== "csv") {
    throw conflict("--spreadsheet-safe is for CSV. Add format=csv.");
  }
  return { format, isSpreadsheetSafe };
}

/** Returns the preferred format of an `Accept` header; JSON if it names none of them. */
function acceptedFormat(accept: string | null): AnswerFormat {
  const found = parseAccept((accept ?? "").toLowerCase()).map(({ type }) =>
    FORMATS.find((format) => MEDIA_TYPES[format] === type)
  );
  return found.find((format) => format !== undefined) ?? "json";
}

export function answer(
  body: BodyInit,
  format: AnswerFormat,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const charset = format === "csv" ? "; charset=utf-8" : "";
  return new Response(body, { headers: { "content-type": `${MEDIA_TYPES[format]}${charset}`, ...headers } });
}

/** Writes rows as the texts of one JSON object. */
export function* jsonRows(rows: Iterable<object>): Generator<string> {
  let separator = '{"rows":[';
  for (const row of rows) {
    yield `${separator}${JSON.stringify(row)}`;
    separator = ",";
  }
  yield separator === "," ? "]}" : `${separator}]}`;
}

/** Encodes texts, several at once. */
export function streamTexts(texts: Iterable<string>): ReadableStream<Uint8Array> {
  const utf8 = new TextEncoder();
  return ReadableStream.from((async function* () {
    let chunk = "";
    for (const text of texts) {
      chunk += text;
      if (chunk.length < CHUNK_LENGTH) continue;
      yield utf8.encode(chunk);
      chunk = "";
      await yieldToEventLoop(); // a client that reads fast would hold up all others
    }
    yield utf8.encode(chunk);
  })());
}

/** Waits for the first part, so that a read that fails at once gives an error, not a broken answer. */
export async function begun<T>(parts: AsyncIterable<T>): Promise<AsyncGenerator<T>> {
  const iterator = parts[Symbol.asyncIterator]();
  const first = await iterator.next();
  const rest = (async function* () {
    try {
      yield first.value; // to the call below: a generator that has not begun would not end the parts
      for (let next = first; !next.done; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  })();
  await rest.next();
  return rest;
}
