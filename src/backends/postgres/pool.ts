import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { setImmediate } from "node:timers";
import type { Sql } from "postgres";
import { closedBackend } from "../../errors.ts";
import { asPostgresError, sqlStateOf } from "./errors.ts";
import { openPostgresSocket } from "./socket.ts";
import { locationOfTarget, nameOfTarget, type PostgresTarget } from "./target.ts";

/** Values of a row as the server writes them, or null. */
export type Row = readonly (string | null)[];

/** Lifetime of an idle connection: thousands of agents share one server. */
const IDLE_MS = 60_000;
/** The code of a request to cancel, in the protocol of PostgreSQL. */
const CANCEL_REQUEST = 80_877_102;
/** Time that a server has to end a canceled statement, before the connection is cut: it may not hear the requests. */
const CANCEL_MS = 1_000;
/** Time between requests to cancel: one that arrives before the statement does nothing. */
const CANCEL_AGAIN_MS = 100;
/** Time for the round trips, beyond the timeout of a statement. */
export const SLACK_MS = 10_000;

/**
 * One connection. It never reconnects: a transaction or a COPY must not continue on another connection, as it would in
 * the driver's own pool. The driver's `begin` (3.4.9) is not used, because it throws out of reach of any handler when
 * the connection is lost.
 */
export class PostgresSession {
  readonly #sql: Sql;
  readonly #target: PostgresTarget;
  #socket: Socket | undefined;
  /** Ends an attempt to connect. */
  readonly #closing = new AbortController();
  /** The statement under way, or the last one. */
  #statement: { state?: BackendKey | null } = {};
  /** Rejects pending promises when the connection is lost. */
  readonly #waiting = new Set<(reason: Error) => void>();
  /** Requests to cancel that are under way. */
  readonly #requests = new Set<Promise<void>>();
  #isLost = false;
  #isCanceled = false;
  #end: Promise<void> | undefined;

  /** Creates the session; it connects with its first query. */
  static async open(target: PostgresTarget): Promise<PostgresSession> {
    const { default: postgres } = await import("postgres");
    return new PostgresSession(postgres, target);
  }

  private constructor(postgres: typeof import("postgres"), target: PostgresTarget) {
    this.#target = target;
    // The types of the driver do not know that `socket` may give a promise, nor all of these options.
    const options = {
      host: target.host,
      port: target.port,
      user: target.user,
      pass: target.password,
      database: target.database,
      max: 1,
      ssl: false, // the socket comes with TLS
      socket: async () => {
        if (this.#socket || this.#isLost) throw closedError();
        const socket = await openPostgresSocket(target, this.#closing.signal);
        if (this.#isLost) socket.destroy(); // the session was closed while this one connected
        const { host, port } = target;
        return this.#socket = Object.assign(socket, { host, port }); // which the driver names in errors
      },
      connect_timeout: target.connectTimeoutMs / 1_000,
      idle_timeout: 0,
      max_lifetime: 0,
      fetch_types: false,
      prepare: false, // PgBouncer may give each transaction another connection
      no_subscribe: true,
      connection: {
        application_name: target.applicationName,
        ...(target.options ? { options: target.options } : {}),
      },
      onnotice: () => {},
      onclose: () => {
        this.#isLost = true;
        for (const reject of this.#waiting) reject(closedError());
      },
    };
    this.#sql = postgres(options as unknown as Parameters<typeof postgres>[0]);
  }

  /** True if the connection is closed, or to be closed: a request to cancel its last statement may arrive late. */
  get isLost(): boolean {
    return this.#isLost || this.#isCanceled;
  }

  /** Runs a statement, or several where there are no parameters; returns the rows of the last. */
  async query(sql: string, parameters: readonly string[] = []): Promise<Row[]> {
    return (await this.#run(sql, parameters)).rows;
  }

  /** Runs a statement; returns the number of rows that it affected. */
  async execute(sql: string, parameters: readonly string[] = []): Promise<number> {
    return (await this.#run(sql, parameters)).count;
  }

  async #run(sql: string, parameters: readonly string[]): Promise<{ rows: Row[]; count: number }> {
    if (this.#isCanceled) throw closedError(); // the request to cancel may have arrived before this statement
    const query = this.#sql.unsafe(sql, [...parameters]).values();
    this.#statement = query as { state?: BackendKey };
    const results = await this.#unlessLost(query) as unknown as Result | Result[];
    const last = Array.isArray(results[0]) && "command" in results[0]
      ? (results as Result[]).at(-1)!
      : results as Result;
    return { rows: [...last] as Row[], count: last.count ?? 0 };
  }

  /**
   * Streams bytes into `COPY … FROM STDIN`. Resolves when all bytes are sent. Only the next statement of the transaction
   * shows if the server accepted them.
   */
  async copyIn(sql: string, chunks: Iterable<Uint8Array>): Promise<void> {
    const stream: Writable = await this.#unlessLost(this.#sql.unsafe(sql).writable());
    let failure: Error | undefined;
    stream.on("error", (error) => failure ??= error); // else it would be an uncaught exception
    for (const chunk of chunks) {
      if (failure) throw failure;
      await this.#unlessLost(written(stream, chunk));
    }
    if (failure) throw failure;
    stream.end();
    // The driver accepts no statement before it has sent the end, which it does in the next turn. It reports the end only
    // if the server accepted the data, so that cannot be awaited.
    await new Promise((resolve) => setImmediate(resolve));
  }

  /** Rows of `COPY … TO STDOUT`: each chunk holds whole rows. Ending early requires destroying the session. */
  async *copyOut(sql: string): AsyncGenerator<Buffer> {
    const query = this.#sql.unsafe(sql);
    this.#statement = query as { state?: BackendKey };
    const stream: Readable = await this.#unlessLost(query.readable());
    yield* stream;
    // The driver pauses the socket when the stream is full, and forgets to go on where that was the end.
    this.#socket?.resume();
    if (this.#isLost) throw closedError();
  }

  /**
   * Has the server cancel the statement under way when the signal aborts, and cuts the connection if it does not. Later
   * statements fail.
   *
   * @returns A function that ignores the signal from then on.
   */
  cancelOn(signal: AbortSignal | undefined): () => void {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let requests = CANCEL_MS / CANCEL_AGAIN_MS;
    const cancel = () => {
      this.#isCanceled = true;
      if (requests-- === 0) return void this.destroy();
      timer = setTimeout(cancel, CANCEL_AGAIN_MS);
      const request = this.#cancel().catch(() => {}).finally(() => this.#requests.delete(request));
      this.#requests.add(request);
    };
    signal?.addEventListener("abort", cancel);
    return () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
    };
  }

  /** Runs statements until the signal aborts; then the one under way is canceled, and the reason thrown. */
  async until<T>(signal: AbortSignal | undefined, run: () => Promise<T>): Promise<T> {
    if (!signal) return await run();
    signal.throwIfAborted();
    const stopListening = this.cancelOn(signal);
    try {
      return await run();
    } finally {
      stopListening();
      signal.throwIfAborted();
    }
  }

  /** Asks the server, on a connection of its own, to cancel the statement under way. */
  async #cancel(): Promise<void> {
    const key = this.#statement.state;
    if (!key) return void this.destroy(); // still connecting: the statement would be sent later
    const request = Buffer.alloc(16);
    [16, CANCEL_REQUEST, key.pid, key.secret].forEach((part, i) => request.writeUInt32BE(part >>> 0, 4 * i));
    const target = { ...this.#target, connectTimeoutMs: CANCEL_MS };
    const socket = await openPostgresSocket(target, this.#closing.signal);
    socket.on("error", () => {}).setTimeout(CANCEL_MS, () => socket.destroy()); // the server is to close it
    socket.resume().end(request);
    await new Promise((resolve) => socket.once("close", resolve));
  }

  /** Closes the connection at once, even during a statement. Resolves when it is closed, and requests to cancel are. */
  destroy(): Promise<void> {
    this.#isLost = true;
    this.#closing.abort();
    this.#socket?.destroy();
    const end = () => Promise.all([this.#sql.end({ timeout: 0 }).catch(() => {}), ...this.#requests]);
    return this.#end ??= end().then(() => {});
  }

  /** Closes the connection in order. */
  async close(): Promise<void> {
    await this.#sql.end({ timeout: 1 });
    this.#socket?.destroy();
  }

  /** Rejects when the connection is lost. A shared promise of the loss would retain every promise raced with it. */
  async #unlessLost<T>(promise: PromiseLike<T>): Promise<T> {
    const { promise: lost, reject } = Promise.withResolvers<never>();
    this.#waiting.add(reject);
    try {
      return await Promise.race([promise, lost]);
    } finally {
      this.#waiting.delete(reject);
    }
  }
}

function closedError(): Error {
  return Object.assign(new Error("the connection was closed"), { code: "CONNECTION_CLOSED" });
}

/** Identity of a connection for a cancel request. */
interface BackendKey {
  readonly pid: number;
  readonly secret: number;
}

/** Result of a statement. */
interface Result extends Array<(string | null)[]> {
  count: number | null;
  command: string;
}

/** Resolves when the chunk is sent, or the stream has failed. */
function written(stream: Writable, chunk: Uint8Array): Promise<void> {
  return new Promise((resolve) => stream.write(chunk, () => resolve()));
}

/** The connections of a backend: opened on demand, closed when idle. */
export class PostgresPool {
  /** The major version of the server, once the database is open. */
  serverVersion = 0;
  readonly #target: PostgresTarget;
  readonly #maxConnections: number;
  readonly #briefTimeoutMs: number;
  readonly #settings: string;
  readonly #idle: { session: PostgresSession; timer: ReturnType<typeof setTimeout> }[] = [];
  readonly #inUse = new Set<PostgresSession>();
  /** Sessions in use that logged in before settings of the server may have changed. */
  readonly #stale = new WeakSet<PostgresSession>();
  readonly #waiting = new Set<() => void>();
  /** Ends of sessions that are being closed. */
  readonly #ends = new Set<Promise<void>>();
  #opening = 0;
  #isClosed = false;

  constructor(
    target: PostgresTarget,
    options: { maxConnections: number; statementTimeoutSeconds: number; transactionSettings?: string },
  ) {
    this.#target = target;
    this.#maxConnections = options.maxConnections;
    this.#briefTimeoutMs = 1_000 * options.statementTimeoutSeconds + SLACK_MS;
    this.#settings = options.transactionSettings ?? "";
  }

  /** Statements that begin a transaction. */
  get begin(): string {
    return `BEGIN; ${this.#settings}`;
  }

  /** The server as messages call it. */
  get name(): string {
    return nameOfTarget(this.#target);
  }

  /** Location of the database, independent of the user. */
  get location(): string {
    return locationOfTarget(this.#target);
  }

  /**
   * Runs a function on a connection of its own, and converts errors into a {@linkcode BackendError}.
   *
   * @param operation Name of the operation, as in "write".
   * @param run Receives the connection; no transaction may be open when it settles.
   * @param options `limitMs`: time after which the connection is cut, in case the server is silent. `signal`: ends the
   * wait for a connection, and what runs on it.
   */
  async use<T>(
    operation: string,
    run: (session: PostgresSession) => Promise<T>,
    { limitMs = Infinity, signal }: { limitMs?: number; signal?: AbortSignal } = {},
  ): Promise<T> {
    const session = await this.acquire(operation, { signal });
    const timer = limitMs < Infinity ? setTimeout(() => session.destroy(), limitMs) : undefined;
    try {
      const result = await session.until(signal, () => run(session));
      this.release(session);
      return result;
    } catch (error) {
      await this.#recover(session, error);
      throw asPostgresError(operation, this.name, error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs a function that takes a moment, such as a lookup, within a fixed time. */
  useBriefly<T>(operation: string, run: (session: PostgresSession) => Promise<T>): Promise<T> {
    return this.use(operation, run, { limitMs: this.#briefTimeoutMs });
  }

  /** Runs a function in a transaction. */
  transaction<T>(
    operation: string,
    run: (session: PostgresSession) => Promise<T>,
    options: { limitMs?: number; signal?: AbortSignal; settings?: string } = {},
  ): Promise<T> {
    return this.use(operation, async (session) => {
      await session.query(`${this.begin}${options.settings ?? ""}`);
      const result = await run(session);
      await session.query("COMMIT");
      return result;
    }, options);
  }

  /** Takes a connection, to be released or discarded. Rejects with the reason of the signal if it aborts meanwhile. */
  async acquire(
    operation: string,
    { isStream = false, signal }: { isStream?: boolean; signal?: AbortSignal } = {},
  ): Promise<PostgresSession> {
    // Streams leave one connection free, so that a reader can write what it reads.
    const most = isStream ? this.#maxConnections - 1 : this.#maxConnections;
    for (;;) {
      signal?.throwIfAborted();
      if (this.#isClosed) throw closedBackend(operation, this.name);
      const inUse = this.#inUse.size + this.#opening;
      const found = inUse < most ? this.#idle.pop() : undefined;
      if (found) {
        clearTimeout(found.timer);
        if (found.session.isLost) {
          this.#destroy(found.session);
          continue;
        }
        this.#inUse.add(found.session);
        return found.session;
      }
      if (inUse < most) break;
      await this.#wait(signal);
    }
    this.#opening++;
    try {
      const session = await PostgresSession.open(this.#target);
      this.#inUse.add(session);
      return session;
    } finally {
      this.#opening--;
    }
  }

  /** Returns a connection to the pool; closes it if it is lost or outdated. */
  release(session: PostgresSession): void {
    this.#inUse.delete(session);
    if (session.isLost || this.#isClosed || this.#stale.has(session)) this.#destroy(session);
    else {
      const timer = setTimeout(() => {
        this.#idle.splice(this.#idle.findIndex((idle) => idle.session === session), 1);
        void session.close();
      }, IDLE_MS);
      Deno.unrefTimer(timer);
      this.#idle.push({ session, timer });
    }
    this.#wake();
  }

  /** Closes a connection on which an operation is in progress, or has failed with an error. */
  discard(session: PostgresSession, error?: unknown): void {
    this.#inUse.delete(session);
    this.#destroy(session);
    if (mayBeLoginFailure(error)) this.#expireSessions();
    this.#wake();
  }

  /** Has all sessions log in again before their next use. */
  #expireSessions(): void {
    for (const session of this.#inUse) this.#stale.add(session);
    for (const { session, timer } of this.#idle.splice(0)) {
      clearTimeout(timer);
      this.#destroy(session);
    }
  }

  #destroy(session: PostgresSession): void {
    const end = session.destroy().finally(() => this.#ends.delete(end));
    this.#ends.add(end);
  }

  /** Waits until a connection may be free, or the signal aborts. */
  async #wait(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#waiting.add(wake);
    signal?.addEventListener("abort", wake);
    await promise;
    signal?.removeEventListener("abort", wake);
    this.#waiting.delete(wake);
  }

  /** Has all waiters check for a connection: streams may not take the last one. */
  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  /** Closes all connections. Operations in progress fail. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const session of this.#inUse) this.#destroy(session);
    this.#inUse.clear();
    this.#wake();
    await Promise.all(
      this.#idle.splice(0).map(({ session, timer }) => {
        clearTimeout(timer);
        return session.close();
      }),
    );
    await Promise.all(this.#ends);
  }

  /** Keeps the connection after the server refused a record; closes it after any other failure. */
  async #recover(session: PostgresSession, error: unknown): Promise<void> {
    if (sqlStateOf(error) !== undefined && !mayBeLoginFailure(error) && !session.isLost) {
      try {
        await session.query("ROLLBACK");
        return this.release(session);
      } catch {
        // closed below
      }
    }
    this.discard(session, error);
  }
}

/**
 * True if a failure may come from a setting that a session takes over when it logs in, such as
 * `default_transaction_read_only`, `search_path`, `role` or a timeout of `ALTER ROLE … SET`: only a new session sees
 * that it was changed. False for values, constraints, triggers, conflicts, and memory.
 */
function mayBeLoginFailure(error: unknown): boolean {
  return /^(?!22|23|40|44|P0|53200)/.test(sqlStateOf(error) ?? "22");
}
