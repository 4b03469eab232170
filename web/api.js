// @ts-check
/** Requests to the API of the server. */

const TOKEN = "openfinops-token";
/** Most attempts of a read that a busy server refuses, and the longest pause between two, in seconds. */
const ATTEMPTS = 10;
const MAX_PAUSE = 10;

/** An error that the server or the network gave. */
export class ApiError extends Error {
  /** @param {string} message @param {{ code: string, status: number }} details */
  constructor(message, { code, status }) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/** Takes the secret of a run out of the address, so that it is not shared. New tabs know it, too. */
export function takeToken() {
  const match = /^#token=([\w.~-]+)$/.exec(location.hash);
  if (!match) return;
  localStorage.setItem(TOKEN, match[1]);
  sessionStorage.removeItem(TOKEN);
  history.replaceState(null, "", `${location.pathname}#/`);
}

/** Keeps a token that a person has typed, in this tab only. @param {string} token */
export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** @typedef {Record<string, string | number | readonly string[] | undefined>} Params */

/**
 * Fetches. A read that a busy server refuses is repeated, not before its `Retry-After`.
 * @param {string} address
 * @param {RequestInit} init
 */
async function fetchPatiently(address, init) {
  for (let attempt = 1;; attempt++) {
    const response = await fetch(address, init);
    const mayPass = init.method === "GET" && [429, 503].includes(response.status);
    if (!mayPass || attempt === ATTEMPTS) return response;
    await response.body?.cancel();
    const seconds = Math.min(MAX_PAUSE, Number(response.headers.get("retry-after")) || 1);
    await new Promise((resolve) => setTimeout(resolve, seconds * (1 + Math.random()) * 1_000));
    init.signal?.throwIfAborted();
  }
}

/**
 * Asks a route of the API.
 * @param {string} path Path under `/api/v1/`.
 * @param {Params} [params]
 * @param {{ signal?: AbortSignal, method?: string, onRead?: (time: number) => void }} [options]
 * @returns {Promise<any>}
 */
export async function ask(path, params = {}, { signal, method = "GET", onRead } = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== undefined && each !== "") query.append(name, String(each));
    }
  }
  const token = sessionStorage.getItem(TOKEN) ?? localStorage.getItem(TOKEN);
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json", "cache-control": "max-stale" }; // rather than wait for a read
  if (token) headers.authorization = `Bearer ${token}`;
  const address = `api/v1/${path}${query.size > 0 ? `?${query}` : ""}`;
  let response;
  try {
    response = await fetchPatiently(address, { method, headers, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    const details = { code: "CONNECTION_LOST", status: 0 };
    throw new ApiError("The server does not answer. Is it still running?", details);
  }
  const found = await response.json().catch(() => ({}));
  if (response.ok) onRead?.(Date.now() - 1_000 * Number(response.headers.get("age")));
  if (response.ok) return found;
  const { status } = response;
  const { code = "UNKNOWN", message = `The server answered with status ${status}.` } = found.error ?? {};
  throw new ApiError(message, { code, status });
}

/** Rows of an answer. @param {any} answer @returns {any[]} */
export function rowsOf(answer) {
  return Array.isArray(answer) ? answer : answer.rows ?? answer.records ?? answer.data ?? [];
}
