/**
 * The reading half of a backend behind a server, through its routes under `/api/v1/backend`.
 *
 * @module
 */
import { BackendError, type ErrorCode, type FailureKind } from "../../errors.ts";
import type { WriteResult } from "../../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../../records/aggregation.ts";
import type { Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";
import type { Backend, BackendStats, DocumentStore, ProbeReport, ReadOptions } from "../backend.ts";
import type { StoredDocument } from "../stored_document.ts";
import { type ConnectionOptions, RemoteConnection } from "./connection.ts";
import { foreignAnswer, readObject } from "./failures.ts";
import { toBackendQuery } from "./request.ts";

/** A line of the answer to a read. */
interface ReadLine {
  readonly records?: unknown[];
  readonly error?: { readonly code: ErrorCode; readonly kind: FailureKind; readonly message: string };
  readonly end?: true;
}

/** Reads through a server what it reads from its database. Commands then answer as from the database. */
export class RemoteReader implements Backend {
  readonly name = "server";
  readonly isDurable = true;
  /** Documents, which can only be read. */
  readonly documents: DocumentStore = {
    read: async (kind) => await this.#readDocuments(kind),
    write: () => this.#refuse(),
    delete: () => this.#refuse(),
  };
  readonly location: string;
  readonly #connection: RemoteConnection;

  /** Opens no connection yet. */
  constructor(options: ConnectionOptions) {
    this.#connection = new RemoteConnection(options);
    this.location = this.#connection.location;
  }

  /** Reads pages of records, as fast as they are taken. */
  async *read<T>(
    dataset: Dataset<T>,
    query: RecordQuery,
    { signal }: ReadOptions = {},
  ): AsyncGenerator<T[]> {
    const body = { dataset: dataset.name, query: toBackendQuery(dataset, query) };
    using watch = this.#connection.watch("read");
    const response = await this.#ask("/api/v1/backend/read", post(body), [watch.signal, signal]);
    if (!response.headers.get("content-type")?.startsWith("application/x-ndjson")) {
      await response.body?.cancel();
      throw foreignAnswer(response, { operation: "read", name: this.location });
    }
    for await (const line of linesOf(response.body!)) {
      const { records, error, end } = JSON.parse(line) as ReadLine;
      if (error) throw new BackendError(error.message, { ...error, operation: "read" });
      if (end) return;
      yield records as T[];
    }
    throw new BackendError(`Cannot read ${this.location}: the answer ended early. Try again.`, {
      code: "CONNECTION_LOST",
      operation: "read",
      kind: "transient",
    });
  }

  /** Aggregates in the database of the server. */
  async aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    { signal }: ReadOptions = {},
  ): Promise<AggregateRow[]> {
    const body = { dataset: dataset.name, query: toBackendQuery(dataset, query), aggregation };
    const path = "/api/v1/backend/aggregate";
    return (await this.#read<{ rows: AggregateRow[] }>(path, "rows", post(body), signal)).rows;
  }

  /** Reads the statistics of the storage. */
  async stats(): Promise<BackendStats> {
    return await this.#read<BackendStats>("/api/v1/backend/stats", "datasets");
  }

  /** Asks the server whether it is ready. */
  async probe(): Promise<ProbeReport> {
    await this.#read("/readyz", "status");
    return { writable: false, details: { url: this.location }, warnings: [] };
  }

  write(): Promise<WriteResult> {
    return this.#refuse();
  }

  finishWrites(): Promise<void> {
    return this.#refuse();
  }

  deleteBefore(): Promise<number> {
    return this.#refuse();
  }

  close(): Promise<void> {
    this.#connection.close("read");
    return Promise.resolve();
  }

  async #readDocuments(kind: string | undefined): Promise<StoredDocument[]> {
    const query = kind === undefined ? "" : `?kind=${encodeURIComponent(kind)}`;
    const path = `/api/v1/backend/documents${query}`;
    return (await this.#read<{ documents: StoredDocument[] }>(path, "documents")).documents;
  }

  /** Reads the JSON of an answer that has a field. */
  async #read<T>(path: string, field: string, request: RequestInit = {}, asked?: AbortSignal): Promise<T> {
    using watch = this.#connection.watch("read");
    const response = await this.#ask(path, request, [watch.signal, asked]);
    return await this.#connection.readAnswer(response, field, "read") as T;
  }

  /** Sends a request. An aggregate may take long, so it has no time limit. */
  async #ask(
    path: string,
    request: RequestInit,
    signals: readonly (AbortSignal | undefined)[],
  ): Promise<Response> {
    const signal = AbortSignal.any(signals.filter((signal) => signal !== undefined));
    const response = await this.#connection.send(path, { ...request, signal }, { operation: "read" });
    if (response.ok) return response;
    const { error } = readObject(await response.text().catch(() => "")) as { error?: { message?: unknown } };
    throw this.#connection.refusal(response, "read", error?.message);
  }

  #refuse(): Promise<never> {
    return Promise.reject(
      new BackendError(`Cannot write to ${this.location}: a command only reads through a server.`, {
        code: "READ_ONLY",
        operation: "write to",
        kind: "operator",
      }),
    );
  }
}

function post(body: object): RequestInit {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

/** The lines of a text as it arrives. Ending the iteration early cancels it. */
async function* linesOf(bytes: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let parts: string[] = [];
  for await (
    const text of bytes.pipeThrough(new TextDecoderStream() as unknown as TransformStream<Uint8Array, string>)
  ) {
    const [first, ...more] = text.split("\n");
    parts.push(first);
    for (const line of more) {
      yield parts.join("");
      parts = [line];
    }
  }
}
