import { BackendError, closedBackend } from "../../errors.ts";
import { foreignAnswer, readObject, remoteFailure, signOf } from "./failures.ts";

/** Options of a connection to a server. */
export interface ConnectionOptions {
  /** URL of the server, without the path of a route. */
  readonly url: URL;
  /** Returns the token for a request, so that a renewed one needs no restart; none where the server asks for none. */
  readonly token?: () => string | undefined;
  /** Certificates in PEM of authorities to trust, beside those of the system. */
  readonly caCerts?: readonly string[];
  /**
   * Time in which a server must answer a probe, and between two probes while a request waits, in milliseconds.
   *
   * @default {10_000}
   */
  readonly probeMs?: number;
}

/** Most characters of an answer in an error message. */
const MAX_REASON = 300;

/** Status of an answer, and the message of its error where it has one. */
export function reasonOf(status: number, message: unknown): string {
  return `status ${status}${typeof message === "string" ? `: ${message.slice(0, MAX_REASON)}` : ""}`;
}

/** Requests to a server. */
export class RemoteConnection {
  /** URL without user, password and query, for messages. */
  readonly location: string;
  readonly #token: ConnectionOptions["token"];
  readonly #client: Deno.HttpClient | undefined;
  readonly #probeMs: number;
  readonly #closing = new AbortController();

  /** Opens no connection yet. */
  constructor({ url, token, caCerts, probeMs = 10_000 }: ConnectionOptions) {
    this.#probeMs = probeMs;
    this.location = `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
    this.#token = token;
    this.#client = caCerts && Deno.createHttpClient({ caCerts: [...caCerts] });
  }

  /** Aborts when the connection is closed. */
  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * Sends a request with the token. Any answer is a result.
   *
   * @throws {BackendError} If there is no answer, or the connection is closed.
   */
  async send(
    path: string,
    request: RequestInit,
    { operation, timeoutMs }: { operation: string; timeoutMs?: number },
  ): Promise<Response> {
    const { signal } = this;
    signal.throwIfAborted();
    const secret = this.#token?.();
    const headers = new Headers(request.headers);
    if (secret !== undefined) headers.set("authorization", `Bearer ${secret}`);
    const timeout = timeoutMs === undefined ? [] : [AbortSignal.timeout(timeoutMs)];
    try {
      return await fetch(`${this.location}${path}`, {
        ...request,
        headers,
        redirect: "manual", // another server must not get the token
        client: this.#client,
        signal: AbortSignal.any([signal, ...timeout, ...(request.signal ? [request.signal] : [])]),
      });
    } catch (error) {
      signal.throwIfAborted();
      request.signal?.throwIfAborted();
      throw remoteFailure({ operation, name: this.location, ...signOf(error) });
    }
  }

  /**
   * Reads the JSON of an answer that reports success.
   *
   * @throws {BackendError} If it breaks off, or lacks a field that an answer of OpenFinOps has.
   */
  async readAnswer(response: Response, field: string, operation: string): Promise<unknown> {
    const text = await response.text().catch((error) => {
      this.signal.throwIfAborted();
      throw error instanceof BackendError
        ? error
        : remoteFailure({ operation, name: this.location, ...signOf(error) });
    });
    const answer = readObject(text);
    if (answer[field] === undefined) throw foreignAnswer(response, { operation, name: this.location });
    return answer;
  }

  /**
   * Probes the server until disposed. The signal aborts, with the error, when it gives no sign of life: an answer has no time
   * limit, and a server that vanished never closes the connection.
   */
  watch(operation: string): Disposable & { readonly signal: AbortSignal } {
    const vanished = new AbortController();
    const probe = async () => {
      const response = await this.send("/healthz", {}, { operation, timeoutMs: this.#probeMs });
      await response.body?.cancel();
    };
    const timer = setInterval(() => probe().catch((error) => vanished.abort(error)), this.#probeMs);
    return { signal: vanished.signal, [Symbol.dispose]: () => clearInterval(timer) };
  }

  /** Creates the error for an answer of another status, with what the server said. */
  refusal({ status }: Response, operation: string, message: unknown): BackendError {
    return remoteFailure({
      operation,
      name: this.location,
      sign: `${status} `,
      reason: reasonOf(status, message),
    });
  }

  /** Ends requests that are under way. */
  close(operation: string): void {
    this.#closing.abort(closedBackend(operation, this.location));
    this.#client?.close();
  }
}
