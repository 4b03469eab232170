/**
 * Listens for connections, with bounds that `Deno.serve` does not have: on headers, on idle connections, and TLS
 * certificates that change while it runs. Measured with Deno 2.9: `Deno.serve` keeps a connection without a request
 * for good.
 *
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { ConfigError, failureOf, NOT_GRANTED } from "../errors.ts";
import { isGranted } from "../permissions.ts";
import type { App } from "./app.ts";
import { OpenRequests } from "./open_requests.ts";
import { isWhole, problem, RequestError } from "./problems.ts";
import { withinLimit } from "../pipeline/time_limit.ts";
import type { Certificate } from "./tls.ts";

/** Options of {@linkcode serve}. */
export interface ServeOptions {
  /** Host name or IP address to listen on. */
  readonly hostname: string;
  /** Port; 0 for a free one. */
  readonly port: number;
  /** Certificate for TLS; none for plain HTTP. */
  readonly certificate?: Certificate;
  /** Limits of connections; the defaults of {@linkcode ConnectionLimits} where absent. */
  readonly connections?: Partial<ConnectionLimits>;
}

/** Limits of connections. Times are in milliseconds. */
export interface ConnectionLimits {
  /**
   * Time limit for the headers of a request to arrive, and for a TLS handshake.
   *
   * @default {10_000}
   */
  readonly headersTimeout: number;
  /**
   * Longest time that a connection may be idle between requests.
   *
   * @default {65_000}
   */
  readonly keepAliveTimeout: number;
  /**
   * Longest time that a client may take no part of its response.
   *
   * @default {30_000}
   */
  readonly sendTimeout: number;
  /**
   * Interval of checks of these limits.
   *
   * @default {1_000}
   */
  readonly connectionsCheckingInterval: number;
  /**
   * Most bytes of the headers of a request.
   *
   * @default {16_384}
   */
  readonly maxHeaderSize: number;
  /**
   * Most connections; further ones are closed at once. Beyond three quarters of them, each is closed after its answer.
   *
   * @default {1_024}
   */
  readonly maxConnections: number;
}

/** A server that listens. */
export interface Listening {
  /** URL at which the server is reached. */
  readonly url: URL;
  /** Uses another certificate for new connections. */
  useCertificate(certificate: Certificate): void;
  /** Stops listening. Resolves when all requests are answered, or after `deadlineMs` milliseconds. */
  close(options: { deadlineMs: number }): Promise<void>;
}

const CONNECTION_LIMITS: ConnectionLimits = {
  headersTimeout: 10_000,
  keepAliveTimeout: 65_000, // longer than that of common load balancers
  sendTimeout: 30_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 16_384,
  maxConnections: 1_024,
};

/**
 * Share of the connections from which on each is closed after its answer. Agents that send once a minute would else
 * keep all of them, and others would never get in.
 */
const BUSY = 0.75;

/** Most bytes that are written at once: a slow client takes these within the limit, though not a large answer. */
const PART_BYTES = 65_536;

/** Events after which there may be more of a body, or no more. */
const READ_EVENTS = ["readable", "end", "error", "close"] as const;

/** Interval of checks for idle connections while closing, in milliseconds. */
const IDLE_CHECK_MS = 50;

/** Time in which a client may send the rest of a body that is not read, in milliseconds. */
const LINGER_MS = 2_000;

/** Listens, and answers requests with an application. */
export async function serve(app: App, options: ServeOptions): Promise<Listening> {
  const { hostname, port, certificate } = options;
  assertGranted(`${hostname}:${port}`);
  const open = new OpenRequests();
  // Node's lists lack connections that sent nothing, or have not finished the handshake of TLS.
  const sockets = new Set<Socket>();
  let isClosing = false;
  // Bodies have a bound of their own, which differs by route.
  const limits = { ...CONNECTION_LIMITS, ...options.connections, requestTimeout: 0 };
  const listener = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { signal, turn } = open.add(incoming.socket, outgoing) ?? {};
    if (!signal) return;
    if (isClosing || sockets.size > BUSY * limits.maxConnections) outgoing.setHeader("connection", "close");
    answer(app, { incoming, outgoing, signal, turn, limits }).catch(() => outgoing.destroy());
  };
  const server = certificate
    ? createSecureServer(
      { ...limits, ...secure(certificate), handshakeTimeout: limits.headersTimeout },
      listener,
    )
    : createServer(limits, listener);
  server.maxConnections = limits.maxConnections;
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenFailure(`${hostname}:${port}`, error)));
    server.listen({ host: hostname, port }, resolve);
  });
  const address = server.address() as AddressInfo;
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return {
    url: new URL(`http${certificate ? "s" : ""}://${host}:${address.port}/`),
    useCertificate(certificate) {
      if ("setSecureContext" in server) server.setSecureContext(secure(certificate));
    },
    async close({ deadlineMs }) {
      isClosing = true;
      await closeServer(server, { open, sockets, deadlineMs });
    },
  };
}

/** Takes no new connections, and waits for requests until the deadline. */
async function closeServer(
  server: Server,
  { open, sockets, deadlineMs }: {
    open: OpenRequests;
    sockets: ReadonlySet<Socket>;
    deadlineMs: number;
  },
): Promise<void> {
  const timer = setTimeout(() => {
    open.abort();
    for (const socket of sockets) socket.destroy();
  }, deadlineMs);
  const closed = new Promise((resolve) => server.close(resolve));
  // A connection becomes idle when its last request is answered.
  const idle = setInterval(() => {
    server.closeIdleConnections();
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
  }, IDLE_CHECK_MS);
  server.closeIdleConnections();
  await closed;
  clearTimeout(timer);
  clearInterval(idle);
}

function secure({ cert, key }: Certificate) {
  return { cert, key, minVersion: "TLSv1.2" } as const;
}

/** Refuses an address without network permission: Node would throw where no caller can catch it. */
function assertGranted(host: string): void {
  if (isGranted({ name: "net", host })) return;
  const reason = `Requires net access to "${host}", run again with the --allow-net flag`;
  throw failureOf(NOT_GRANTED, {
    operation: "listen on",
    name: host,
    reason,
    cause: undefined,
    otherwise: "operator",
  });
}

function listenFailure(host: string, error: Error & { code?: string }): ConfigError {
  const reason = error.code === "EADDRINUSE" ? "another program listens there" : error.message;
  return new ConfigError(`Cannot listen on ${host}: ${reason}. Choose another address.`, {
    code: "LISTEN_FAILED",
  });
}

/** Answers one request of Node by the application. */
async function answer(
  app: App,
  { incoming, outgoing, signal, turn, limits: { sendTimeout } }: {
    incoming: IncomingMessage;
    outgoing: ServerResponse;
    signal: AbortSignal;
    turn?: Promise<void>;
    limits: ConnectionLimits;
  },
): Promise<void> {
  if (turn) await turn;
  if (signal.aborted) return;
  const request = asRequest(incoming, signal);
  const response = request ? await app.fetch(request, chunksOf(incoming)) : problem(
    new RequestError("The request line or a header is not valid. Correct it.", { code: "INVALID_REQUEST" }),
  );
  response.headers.forEach((value, name) => outgoing.appendHeader(name, value));
  // The rest of a body that is not read would be taken for the next request.
  if (!incoming.complete) outgoing.setHeader("connection", "close");
  outgoing.writeHead(response.status);
  if (isWhole(response)) outgoing.write(await response.bytes());
  else if (response.body) {
    for await (const chunk of response.body) {
      for (let at = 0; at < chunk.length && !signal.aborted; at += PART_BYTES) {
        const isFull = !outgoing.write(chunk.subarray(at, at + PART_BYTES));
        if (isFull) await taken("drain", { outgoing, signal, sendTimeout });
      }
      if (signal.aborted) break; // cancels the stream
    }
  }
  if (!incoming.complete && !signal.aborted) await discardRest(incoming, signal);
  outgoing.end();
  if (!outgoing.writableFinished) await taken("finish", { outgoing, signal, sendTimeout });
}

/** Reads a body. Keeps the connection, which the answer needs, where that ends early. */
async function* chunksOf(incoming: IncomingMessage): AsyncGenerator<Uint8Array> {
  let wake = () => {};
  const onChange = () => wake();
  for (const event of READ_EVENTS) incoming.on(event, onChange);
  try {
    for (;;) {
      const chunk: Uint8Array | null = incoming.read();
      if (chunk) yield chunk;
      else if (incoming.readableEnded) return;
      else if (incoming.destroyed) throw incoming.errored ?? new Error("the connection was closed");
      else await new Promise<void>((resolve) => wake = resolve);
    }
  } finally {
    for (const event of READ_EVENTS) incoming.off(event, onChange);
  }
}

/** Discards what a client still sends, for a while: most read no answer before they have sent all, or are reset. */
async function discardRest(incoming: IncomingMessage, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = () => resolve();
  incoming.once("end", end).once("error", end);
  signal.addEventListener("abort", end, { once: true });
  incoming.resume();
  await withinLimit(promise, LINGER_MS, () => {});
}

/** Waits until the client has taken what was written, or the connection closes. Closes it if the client takes too long. */
async function taken(
  event: "drain" | "finish",
  { outgoing, signal, sendTimeout }: { outgoing: ServerResponse; signal: AbortSignal; sendTimeout: number },
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = () => resolve();
  outgoing.once(event, end);
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  await withinLimit(promise, sendTimeout, () => {
    outgoing.destroy();
    return promise; // the signal aborts when it is closed
  });
  outgoing.off(event, end);
  signal.removeEventListener("abort", end);
}

/** Creates a request without its body; undefined if URL or headers are invalid. */
function asRequest(incoming: IncomingMessage, signal: AbortSignal): Request | undefined {
  try {
    const { rawHeaders } = incoming;
    const headers: [string, string][] = [];
    for (let i = 0; i < rawHeaders.length; i += 2) headers.push([rawHeaders[i], rawHeaders[i + 1]]);
    // A target such as `//host` must not become another host.
    const hosts = headers.filter(([name]) => name.toLowerCase() === "host").map(([, host]) => host);
    const url = new URL(`http://${hosts.join(" ") || "localhost"}`); // two are not valid
    const target = incoming.url ?? "/";
    if (!target.startsWith("/")) return undefined;
    return new Request(`${url.origin}${target}`, { method: incoming.method, headers, signal });
  } catch {
    return undefined;
  }
}
