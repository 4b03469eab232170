/**
 * Answers of views and aggregates, kept until newer data is committed: ten viewers cost as much as one.
 *
 * @module
 */
import { changesOf } from "../backends/change_count.ts";
import { unlessAborted } from "../pipeline/unless_aborted.ts";
import type { Route, RouteRequest, ServerResources } from "./route.ts";

/** Time after which an answer is read again: other processes may have committed. */
const MAX_AGE_MS = 10_000;
/** Most bytes of all answers that are kept, and of one. */
const [MAX_BYTES, MAX_ANSWER_BYTES] = [16 << 20, 2 << 20];
/** Bytes of an answer beside its body and key, about. */
const ANSWER_OVERHEAD = 500;

interface Answer {
  /** Number of commits and other changes of this process when it was read. */
  readonly version: number;
  readonly at: number;
  /** Time that the read took, in milliseconds. */
  readonly tookMs: number;
  readonly status: number;
  readonly headers: [string, string][];
  readonly body: Uint8Array<ArrayBuffer>;
}

/** A read that several requests wait for. */
interface Running {
  readonly version: number;
  readonly answer: Promise<Answer>;
  readonly controller: AbortController;
  waiting: number;
  isSettled: boolean;
}

const caches = new WeakMap<ServerResources, AnswerCache>();

/** Returns a route that keeps its answers. The read ends when no request waits for it any more. */
export function cached(route: Route): Route {
  return {
    ...route,
    handle: (asked, resources) =>
      caches.getOrInsertComputed(resources, () => new AnswerCache()).answer(route, asked, resources),
  };
}

/** Returns a route that changes something: answers are read again after it. */
export function forgetting(route: Route): Route {
  return {
    ...route,
    async handle(asked, resources) {
      try {
        return await route.handle(asked, resources);
      } finally {
        caches.delete(resources);
      }
    },
  };
}

class AnswerCache {
  /** The oldest first. */
  readonly #answers = new Map<string, Answer>();
  readonly #running = new Map<string, Running>();
  #bytes = 0;

  async answer(route: Route, asked: RouteRequest, resources: ServerResources): Promise<Response> {
    const { request, url, tenant } = asked;
    const key = JSON.stringify([tenant ?? null, request.headers.get("accept"), url.pathname, url.search]);
    const version = versionOf(resources);
    const kept = this.#answers.get(key);
    const mayBeStale = /\bmax-stale\b/i.test(request.headers.get("cache-control") ?? "");
    if (kept && isFresh(kept, { version, mayBeStale })) return respond(kept);
    const found = await this.#join(key, version, {
      mayBeStale,
      signal: asked.signal,
      read: (signal) => read(route, { ...asked, signal }, { resources, version }),
    });
    if (found.status === 200 && found.body.byteLength <= MAX_ANSWER_BYTES) this.#keep(key, found);
    return respond(found);
  }

  /** Waits for a read that is on its way, or starts one. */
  async #join(
    key: string,
    version: number,
    { mayBeStale, signal, read }: {
      mayBeStale: boolean;
      signal: AbortSignal;
      read: (signal: AbortSignal) => Promise<Answer>;
    },
  ): Promise<Answer> {
    let running = this.#running.get(key);
    const isOlder = running?.version !== version && !mayBeStale;
    if (!running || isOlder || running.controller.signal.aborted) {
      const controller = new AbortController();
      const started: Running = {
        version,
        controller,
        answer: read(controller.signal),
        waiting: 0,
        isSettled: false,
      };
      running = started;
      this.#running.set(key, started);
      const forget = () => {
        started.isSettled = true;
        if (this.#running.get(key) === started) this.#running.delete(key);
      };
      started.answer.then(forget, forget);
    }
    running.waiting++;
    try {
      return await unlessAborted(running.answer, signal);
    } finally {
      if (--running.waiting === 0 && !running.isSettled) running.controller.abort(signal.reason);
    }
  }

  #keep(key: string, answer: Answer): void {
    this.#forget(key);
    this.#answers.set(key, answer);
    this.#bytes += sizeOf(key, answer);
    const now = Date.now();
    for (const [oldest, { at }] of this.#answers) {
      if (this.#bytes <= MAX_BYTES && now - at < MAX_AGE_MS) break;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    const answer = this.#answers.get(key);
    if (answer === undefined) return;
    this.#answers.delete(key);
    this.#bytes -= sizeOf(key, answer);
  }
}

/**
 * Returns true if an answer is fresh. A client that accepts stale answers gets one for as long as its read took. Otherwise a
 * server whose records are committed all the time would read without a pause.
 */
function isFresh(
  { version, at, tookMs }: Answer,
  now: { version: number; mayBeStale: boolean },
): boolean {
  const age = Date.now() - at;
  if (version === now.version && age < MAX_AGE_MS) return true;
  return now.mayBeStale && age - tookMs < Math.min(tookMs, MAX_AGE_MS);
}

/** Bytes that an answer takes in memory, about. A key has the whole query of a request. */
function sizeOf(key: string, { body }: Answer): number {
  return body.byteLength + 2 * key.length + ANSWER_OVERHEAD;
}

/** Returns a version that increases with each commit, import and deletion of this process. */
function versionOf({ hub, costs, backend }: ServerResources): number {
  const stats = [hub.stats(), costs.stats()].flatMap(({ datasets }) => Object.values(datasets));
  return stats.reduce((sum, { committed, restated }) => sum + committed + restated, changesOf(backend));
}

async function read(
  route: Route,
  asked: RouteRequest,
  { resources, version }: { resources: ServerResources; version: number },
): Promise<Answer> {
  const at = Date.now();
  const { status, headers, body } = await route.handle(asked, resources);
  const bytes = new Uint8Array(await new Response(body).arrayBuffer());
  return { version, at, tookMs: Date.now() - at, status, headers: [...headers], body: bytes };
}

/** Responds with an answer, and with the seconds since it was read, as HTTP caches do. */
function respond({ status, headers, body, at }: Answer): Response {
  const age = String(Math.max(0, Math.floor((Date.now() - at) / 1_000)));
  return new Response(body, { status, headers: [...headers, ["age", age]] });
}
