import { decompress } from "../transfer/decompress.ts";
import { RequestError } from "./problems.ts";
import { withinLimit } from "../pipeline/time_limit.ts";

/** Limits of a body. */
export interface BodyLimits {
  /**
   * Most bytes of a body, as sent and after decompression.
   *
   * @default {67_108_864}
   */
  readonly maxBodyBytes: number;
  /**
   * Time limit for a whole body to arrive, in milliseconds.
   *
   * @default {30_000}
   */
  readonly bodyTimeoutMs: number;
}

/** Account of the bytes that a request holds. Disposal releases them. */
export interface BodyAccount extends Disposable {
  /**
   * Counts bytes that were read.
   *
   * @throws {RequestError} If the server holds too many.
   */
  take(bytes: number): void;
}

/** Encodings that every route takes. */
const ENCODINGS = ["gzip", "deflate", "zstd"] as const;
type Encoding = typeof ENCODINGS[number];

/** Reads a body within its limits and decompresses it. Encodings that the route decodes itself are left as they are. */
export async function readBody(
  chunks: AsyncIterable<Uint8Array>,
  headers: Headers,
  limits: BodyLimits,
  { own = [], account }: { own?: readonly string[]; account: BodyAccount },
): Promise<Uint8Array<ArrayBuffer>> {
  const held: Uint8Array[] = [];
  for await (const chunk of streamBody(chunks, headers, limits, own)) {
    account.take(chunk.length);
    held.push(chunk);
  }
  const whole = new Uint8Array(held.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of held) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** Reads a body as it arrives, as {@linkcode readBody} does. */
export function streamBody(
  chunks: AsyncIterable<Uint8Array>,
  headers: Headers,
  { maxBodyBytes, bodyTimeoutMs }: BodyLimits,
  own: readonly string[] = [],
): AsyncGenerator<Uint8Array> {
  const encoding = readEncoding(headers, own);
  const declared = Number(headers.get("content-length") ?? 0);
  if (declared > maxBodyBytes) throw tooLarge(maxBodyBytes, "sent");
  const sent = receive(chunks, { maxBodyBytes, bodyTimeoutMs });
  return encoding === undefined ? sent : bounded(decoded(sent, encoding), maxBodyBytes);
}

async function* decoded(sent: AsyncIterable<Uint8Array>, encoding: Encoding): AsyncGenerator<Uint8Array> {
  let failure: unknown;
  const source = ReadableStream.from((async function* () {
    try {
      yield* sent;
    } catch (error) {
      failure = error; // the decompressor throws another error
      throw error;
    }
  })());
  try {
    yield* decompress(source, encoding);
  } catch {
    throw failure ?? notValid(encoding);
  }
}

/** Reads a body within its limits of bytes and time. */
async function* receive(
  chunks: AsyncIterable<Uint8Array>,
  { maxBodyBytes, bodyTimeoutMs }: BodyLimits,
): AsyncGenerator<Uint8Array> {
  const end = performance.now() + bodyTimeoutMs;
  const iterator = chunks[Symbol.asyncIterator]();
  let length = 0;
  try {
    for (;;) {
      const left = Math.max(0, end - performance.now());
      const { done, value } = await withinLimit(iterator.next().catch(endedEarly), left, () => {
        throw tooSlow(bodyTimeoutMs);
      });
      if (done) return;
      length += value.length;
      if (length > maxBodyBytes) throw tooLarge(maxBodyBytes, "sent");
      yield value;
    }
  } finally {
    iterator.return?.().catch(() => {}); // it may wait for chunks that never arrive
  }
}

async function* bounded(chunks: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const chunk of chunks) {
    length += chunk.length;
    if (length > limit) throw tooLarge(limit, "decompressed");
    yield chunk;
  }
}

function tooSlow(ms: number): RequestError {
  return new RequestError(`The body did not arrive within ${ms} ms. Send it again.`, {
    code: "BODY_TIMEOUT",
  });
}

function notValid(encoding: Encoding): RequestError {
  return new RequestError(`The body is not valid ${encoding}. Compress it again.`, { code: "INVALID_BODY" });
}

function readEncoding(headers: Headers, own: readonly string[]): Encoding | undefined {
  const name = headers.get("content-encoding")?.trim().toLowerCase() ?? "identity";
  if (name === "identity" || own.includes(name)) return undefined;
  const found = ENCODINGS.find((encoding) => encoding === name.replace(/^x-/, ""));
  if (found) return found;
  throw new RequestError(
    `Cannot read a body with this Content-Encoding. Use ${ENCODINGS.join(", ")}, or none.`,
    { code: "UNSUPPORTED_ENCODING", headers: { "accept-encoding": [...ENCODINGS, ...own].join(", ") } },
  );
}

/** Converts an error of the connection: the client caused it, not the server. */
function endedEarly(error: unknown): never {
  if (error instanceof RequestError) throw error;
  throw new RequestError("The body ended early. Send it again.", { code: "INVALID_BODY" });
}

/** Creates the error of a body that passes its limit. */
export function tooLarge(limit: number, how: "sent" | "decompressed"): RequestError {
  return new RequestError(
    `The body has more than ${limit} bytes as ${how}. Send it in smaller parts.`,
    { code: "BODY_TOO_LARGE" },
  );
}

/** Limits of a route that takes one JSON object, as V8 takes up to 17 µs for each distinct field name. */
export const OBJECT_LIMITS: Partial<BodyLimits> = { maxBodyBytes: 2 ** 20 };

/**
 * Reads a JSON object. An empty body reads as an empty object.
 *
 * @throws {RequestError} If the body is not a JSON object.
 */
export async function readJson({ body }: { body(): Promise<Uint8Array> }): Promise<object> {
  const text = new TextDecoder().decode(await body());
  const parsed = text.trim() === "" ? {} : parseJson(text);
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return parsed;
  throw new RequestError("The body must be a JSON object.", { code: "INVALID_BODY" });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
