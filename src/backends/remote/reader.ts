/**
 * The reading half of a backend behind a server, through its routes under `/api/v1/backend`.
 *
 * @module
 */
import { BackendError, type ErrorCode, type FailureKind } from "../../errors.ts";
import type { AggregateRow, Aggregation } from "../../records/aggregation.ts";
import type { Dataset } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";
import type { BackendStats, DocumentStore, ReadOptions } from "../backend.ts";
import type { StoredDocument } from "../stored_document.ts";
import { toBackendQuery } from "./request.ts";

/** Sends a request to the server. Rejects where the answer is no success. */
export type Ask = (path: string, request?: RequestInit) => Promise<Response>;

/** A line of the answer to a read. */
interface ReadLine {
  readonly records?: unknown[];
  readonly error?: { readonly code: ErrorCode; readonly kind: FailureKind; readonly message: string };
  readonly end?: true;
}

/** Reads from a server what it reads from its database. */
export class RemoteReader {
  readonly #ask: Ask;
  readonly #name: string;
  /** Documents, which can only be read. */
  readonly documents: DocumentStore = {
    read: async (kind) => await this.#readDocuments(kind),
    write: () => Promise.reject(this.#readOnly()),
    delete: () => Promise.reject(this.#readOnly()),
  };

  /** Names the server in errors. */
  constructor(ask: Ask, name: string) {
    this.#ask = ask;
    this.#name = name;
  }

  /** Reads pages of records, as fast as they are taken. */
  async *read<T>(
    dataset: Dataset<T>,
    query: RecordQuery,
    { signal }: ReadOptions = {},
  ): AsyncGenerator<T[]> {
    const body = { dataset: dataset.name, query: toBackendQuery(dataset, query) };
    const response = await this.#ask("/api/v1/backend/read", { ...post(body), signal });
    for await (const line of linesOf(response.body!)) {
      const { records, error, end } = JSON.parse(line) as ReadLine;
      if (error) throw new BackendError(error.message, { ...error, operation: "read" });
      if (end) return;
      yield records as T[];
    }
    throw new BackendError(`Cannot read ${this.#name}: the answer ended early. Try again.`, {
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
    const response = await this.#ask("/api/v1/backend/aggregate", { ...post(body), signal });
    return (await response.json() as { rows: AggregateRow[] }).rows;
  }

  /** Reads the statistics of the storage. */
  async stats(): Promise<BackendStats> {
    return await (await this.#ask("/api/v1/backend/stats")).json();
  }

  async #readDocuments(kind: string | undefined): Promise<StoredDocument[]> {
    const query = kind === undefined ? "" : `?kind=${encodeURIComponent(kind)}`;
    const response = await this.#ask(`/api/v1/backend/documents${query}`);
    return (await response.json() as { documents: StoredDocument[] }).documents;
  }

  #readOnly(): BackendError {
    return new BackendError(`Cannot write to ${this.#name}: a command only reads through a server.`, {
      code: "READ_ONLY",
      operation: "write to",
      kind: "operator",
    });
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
