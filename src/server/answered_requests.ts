/**
 * Idempotency of requests: an id for each, and the answers to the last of them. The database knows the ids as well, so a
 * request that is sent to another server, or after a restart, is stored once, too.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { REQUEST_HOURS } from "../pipeline/members.ts";
import { HOUR_MS } from "../records/calendar.ts";
import { jsonResponse, RequestError } from "./problems.ts";
import type { RouteRequest, ServerResources } from "./route.ts";

/** The most answers that are kept, and the most characters of all of them. */
const MAX_ANSWERS = 50_000;
const MAX_LENGTH = 16 * 2 ** 20;
/** Longest value of `Idempotency-Key`. */
const MAX_KEY_LENGTH = 200;

/** An answer to a request that was stored. */
export interface StoredAnswer {
  readonly status: number;
  /** The body, JSON. */
  readonly body: string;
  /** True if nothing was stored: the same request may succeed later. */
  readonly isEmpty: boolean;
}

/** A request that is or was answered. */
interface Answered {
  /** Hash of its body. */
  readonly body: string;
  readonly answer: Promise<StoredAnswer>;
  readonly time: number;
  length: number;
}

const answers = new WeakMap<ServerResources, AnsweredRequests>();

/**
 * Answers a request by `store`, or as before where it was answered within 24 hours. Of requests with one id that arrive
 * together, one is stored and all get its answer. A failure is not kept.
 *
 * @param options `isRestating` is true if the records of a request replace stored ones. Without a key, each request is then
 * one of its own: an equal one before it may have been restated since.
 * @throws {RequestError} If the key of another request comes with this body.
 */
export async function answerOnce(
  asked: RouteRequest,
  resources: ServerResources,
  store: (requestId: string) => Promise<StoredAnswer>,
  { isRestating = false } = {},
): Promise<Response> {
  const kept = answers.getOrInsertComputed(resources, () => new AnsweredRequests());
  const { id, body } = await identify(asked, isRestating);
  // Another process does not know the body of a key: a request with another body is stored, not taken for a repetition.
  const requestId = hashOf([id, body]);
  const { answer, isRepeated } = kept.answer(id, body, () => store(requestId));
  const { status, body: text } = await answer;
  return jsonResponse(text, { status, headers: isRepeated ? { "idempotency-replayed": "true" } : {} });
}

/** The id of a request, from `Idempotency-Key` or its content. Tenants and paths do not share keys. */
async function identify(
  { request, url: { pathname }, tenant = "", body }: RouteRequest,
  isRestating: boolean,
): Promise<{ id: string; body: string }> {
  const key = request.headers.get("idempotency-key");
  if (key !== null && (key === "" || key.length > MAX_KEY_LENGTH)) {
    throw new RequestError(`Idempotency-Key must have 1 to ${MAX_KEY_LENGTH} characters. Send a UUID.`, {
      code: "INVALID_REQUEST",
    });
  }
  const hash = createHash("sha256").update(await body()).digest("base64url"); // 35 ms for the largest body
  const content = isRestating ? crypto.randomUUID() : hash;
  return { id: hashOf([tenant, pathname, key === null ? ["body", content] : ["key", key]]), body: hash };
}

function hashOf(parts: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64url");
}

/** The last answers, the oldest first. */
class AnsweredRequests {
  readonly #answers = new Map<string, Answered>();
  #length = 0;

  answer(
    id: string,
    body: string,
    store: () => Promise<StoredAnswer>,
  ): { answer: Promise<StoredAnswer>; isRepeated: boolean } {
    const known = this.#answers.get(id);
    if (known && Date.now() - known.time < REQUEST_HOURS * HOUR_MS) {
      if (known.body === body) return { answer: known.answer, isRepeated: true };
      throw new RequestError(
        "This Idempotency-Key was used before with another body, which was stored. Use a new key for each request.",
        { code: "IDEMPOTENCY_KEY_REUSED" },
      );
    }
    this.#forget(id);
    const answered: Answered = { body, answer: store(), time: Date.now(), length: id.length };
    this.#answers.set(id, answered);
    this.#length += answered.length;
    answered.answer.then(({ body, isEmpty }) => {
      if (this.#answers.get(id) !== answered) return;
      if (isEmpty) return this.#forget(id);
      answered.length += body.length;
      this.#length += body.length;
      for (const oldest of this.#answers.keys()) {
        if (this.#answers.size <= MAX_ANSWERS && this.#length <= MAX_LENGTH) break;
        this.#forget(oldest);
      }
    }, () => {
      if (this.#answers.get(id) === answered) this.#forget(id);
    });
    return { answer: answered.answer, isRepeated: false };
  }

  #forget(id: string): void {
    this.#length -= this.#answers.get(id)?.length ?? 0;
    this.#answers.delete(id);
  }
}
