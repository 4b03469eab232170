/**
 * Cursors of pages as opaque text: the place of the last record, and a fingerprint of the query, as a place says nothing
 * in another one.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { describe } from "../errors.ts";
import type { RecordPlace } from "../query/record_page.ts";
import { conflict, UsageError } from "../query/usage_error.ts";
import type { Dataset } from "../records/dataset.ts";
import { acceptText } from "../records/validation.ts";

/** Parameters outside of the fingerprint. A relative time such as `7d` differs with each request. */
const FREE = [
  "cursor",
  "limit",
  "format",
  "spreadsheet-safe",
  "since",
  "until",
  "during",
  "days",
  "time-zone",
];

export function encodeCursor({ time, count, names }: RecordPlace, url: URL): string {
  return Buffer.from(JSON.stringify([fingerprint(url), time, count, ...names])).toString("base64url");
}

/**
 * Decodes a cursor.
 *
 * @throws {UsageError} If the text is not a cursor, or a cursor of another query.
 */
export function decodeCursor(text: string, url: URL, dataset: Dataset<unknown>): RecordPlace {
  let parts: unknown[];
  try {
    parts = JSON.parse(Buffer.from(text, "base64url").toString());
    const [, time, count, ...names] = parts;
    const expected = dataset.key.length > 0 ? 1 : dataset.sortBy.length; // a hash in place of the time
    const isPlace = Number.isSafeInteger(time) && Number.isSafeInteger(count) && names.length === expected;
    if (!isPlace) throw new TypeError("it is no place");
    const place = {
      time: time as number,
      count: count as number,
      names: names.map((name) => acceptText("a cursor", "name", name)),
    };
    if (parts[0] === fingerprint(url)) return place;
  } catch {
    throw new UsageError(`--cursor must be the "next" of a page, not ${describe(text)}.`, "INVALID_OPTION");
  }
  throw conflict("--cursor is from another query. Keep all parameters, or leave out the cursor.");
}

function fingerprint({ pathname, searchParams }: URL): string {
  const words = [...searchParams].filter(([name]) => !FREE.includes(name)).map((word) => word.join("="));
  const hash = createHash("sha256").update(JSON.stringify([pathname, words.toSorted()]));
  return hash.digest("base64url").slice(0, 11);
}
