import { setTimeout } from "node:timers/promises";
import { BackendError, describe } from "../errors.ts";
import type { Batch, WriteRefusal, WriteResult } from "../pipeline/sink.ts";
import type { AggregateRow } from "../records/aggregation.ts";
import type { DatasetName } from "../records/dataset.ts";
import type { Backend, BackendStats, ProbeReport } from "./backend.ts";
import { MemoryDocuments } from "./memory/documents.ts";
import { type ConnectionOptions, reasonOf, RemoteConnection } from "./remote/connection.ts";
import { foreignAnswer, readObject, remoteFailure, signOf } from "./remote/failures.ts";

/** Paths of the datasets below `/api/v1/`. */
const DATASET_PATHS: Readonly<Record<DatasetName, string>> = {
  system_metrics: "system-metrics",
  service_metrics: "service-metrics",
  device_metrics: "devices",
  usage_records: "usage",
  cost_entries: "costs",
  metric_points: "points",
};

/** Options of a {@linkcode RemoteBackend}. */
export interface RemoteOptions extends ConnectionOptions {
  /**
   * Time limit of a request, in milliseconds.
   *
   * @default {60_000}
   */
  readonly timeoutMs?: number;
}

/** Longest `Retry-After` that is honored, in milliseconds. */
const MAX_RETRY_AFTER_MS = 300_000;

/** Answer of the server to records, or its error. */
interface IngestAnswer {
  readonly accepted?: unknown;
  /** Number of refused records. */
  readonly refused?: unknown;
  /** The refused records; the first of many. */
  readonly errors?: unknown;
  readonly error?: { readonly message?: unknown };
}

/**
 * Sends batches to an OpenFinOps server: `POST /api/v1/DATASET` as NDJSON, gzipped, under the id of the batch as
 * `Idempotency-Key`. The server knows the key, so that a repeated batch changes nothing. Records cannot be read through it.
 */
export class RemoteBackend implements Backend {
  readonly name = "server";
  readonly isDurable = true;
  /** State of monitors. It ends with the process: the server has its own monitors. */
  readonly documents: MemoryDocuments = new MemoryDocuments();
  readonly location: string;
  readonly #connection: RemoteConnection;
  readonly #timeoutMs: number;
  /** Batches of which an attempt ended without an answer: they may be stored. */
  readonly #uncertain = new Set<string>();
  #prepared: { id: string; body: Promise<Uint8Array<ArrayBuffer>> } | undefined;
  /** Time before which the server wants no request, by `performance.now()`. */
  #notBefore = 0;

  /** Opens no connection yet. */
  constructor(options: RemoteOptions) {
    this.#connection = new RemoteConnection(options);
    this.#timeoutMs = options.timeoutMs ?? 60_000;
    this.location = this.#connection.location;
  }

  prepare({ id, records }: Batch): void {
    const body = encode(records);
    body.catch(() => {}); // the write reports the same error
    this.#prepared = { id, body };
  }

  async write(batch: Batch): Promise<WriteResult> {
    const { id, records, dataset } = batch;
    const body = await (this.#prepared?.id === id ? this.#prepared.body : encode(records));
    this.#prepared = undefined;
    await this.#waitForServer();
    const { response, answer } = await this.#post(
      `/api/v1/${DATASET_PATHS[dataset.name]}?errors=${records.length}`,
      id,
      body,
    );
    if (response.status !== 422 && !response.ok) throw this.#refusal(response, answer, id);
    const result = this.#resultOf(response, answer, batch);
    this.#uncertain.delete(id);
    return result;
  }

  /** Does nothing: the server deduplicates a repeated batch by its idempotency key. */
  finishWrites(): Promise<void> {
    return Promise.resolve();
  }

  // deno-lint-ignore require-yield -- nothing can be read
  async *read<T>(): AsyncGenerator<T[]> {
    throw this.#unsupported("read");
  }

  aggregate(): Promise<AggregateRow[]> {
    return Promise.reject(this.#unsupported("read"));
  }

  deleteBefore(): Promise<number> {
    return Promise.reject(this.#unsupported("delete from"));
  }

  stats(): Promise<BackendStats> {
    return Promise.reject(this.#unsupported("read"));
  }

  /** Asks the server whether it is ready. */
  async probe(): Promise<ProbeReport> {
    const response = await this.#fetch("/readyz", { method: "GET" }, "reach");
    if (response.ok) await this.#connection.readAnswer(response, "status", "reach");
    else await response.body?.cancel();
    return {
      writable: response.ok,
      details: { url: this.location, status: response.status },
      warnings: response.ok ? [] : ["The server is not ready."],
    };
  }

  close(): Promise<void> {
    this.#connection.close("write to");
    return Promise.resolve();
  }

  async #post(
    path: string,
    id: string,
    body: Uint8Array<ArrayBuffer>,
  ): Promise<{ response: Response; answer: IngestAnswer }> {
    const headers = {
      "content-type": "application/x-ndjson",
      "content-encoding": "gzip",
      "idempotency-key": id,
    };
    try {
      const response = await this.#fetch(path, { method: "POST", headers, body }, "write to");
      const text = await response.text().catch((error) => {
        throw remoteFailure({ operation: "write to", name: this.location, ...signOf(error) });
      });
      return { response, answer: readObject(text) };
    } catch (error) {
      this.#uncertain.add(id);
      throw error;
    }
  }

  #fetch(path: string, request: RequestInit, operation: string): Promise<Response> {
    return this.#connection.send(path, request, { operation, timeoutMs: this.#timeoutMs });
  }

  /**
   * Reads what was stored. Only an answer that accounts for each record ends the batch: a proxy or a sign-in page answers
   * 200, too.
   */
  #resultOf(response: Response, answer: IngestAnswer, { id, records }: Batch): WriteResult {
    if (response.ok) {
      if (answer.accepted === records.length && (answer.refused ?? 0) === 0) {
        return { committed: records.length, duplicates: 0, restated: 0 };
      }
      this.#uncertain.add(id);
      if (answer.accepted === undefined) {
        throw foreignAnswer(response, { operation: "write to", name: this.location });
      }
      throw this.#unexpected(response, answer, `its answer is not about ${records.length} stored records`);
    }
    const refused = readRefused(answer, records.length);
    if (refused !== undefined) {
      return { committed: records.length - refused.length, duplicates: 0, restated: 0, refused };
    }
    // If none was stored, the batch is halved, and the answers to the halves name their refused records.
    const isSplittable = answer.accepted === 0 && records.length > 1 && !this.#uncertain.has(id);
    if (!isSplittable) {
      this.#uncertain.add(id);
      throw this.#unexpected(response, answer, "its answer does not name the refused records");
    }
    throw refusalOf({ message: answer.error?.message });
  }

  #refusal(response: Response, answer: IngestAnswer, id: string): BackendError {
    const { status, headers } = response;
    const wait = readRetryAfter(headers.get("retry-after"));
    if (wait !== undefined) this.#notBefore = performance.now() + wait;
    // An earlier attempt may have stored the whole: parts of it would be stored again under other keys.
    if (status === 413 && this.#uncertain.has(id)) {
      return this.#unexpected(response, answer, "the request is too large");
    }
    if (status >= 500) this.#uncertain.add(id);
    return this.#connection.refusal(response, "write to", answer.error?.message);
  }

  #unexpected({ status }: Response, { error }: IngestAnswer, problem: string): BackendError {
    const reason = reasonOf(status, error?.message);
    return new BackendError(
      `Cannot write to ${this.location}: ${problem} (${reason}). See the log of the server, or update it.`,
      { code: "SERVER_UNSUPPORTED", operation: "write to", kind: "operator" },
    );
  }

  #unsupported(operation: string): BackendError {
    return new BackendError(`Cannot ${operation} ${this.location}: this connection only sends records.`, {
      code: "SERVER_UNSUPPORTED",
      operation,
      kind: "operator",
    });
  }

  /** Waits until the server wants requests again, or the backend is closed. */
  async #waitForServer(): Promise<void> {
    const { signal } = this.#connection;
    signal.throwIfAborted();
    const ms = this.#notBefore - performance.now();
    if (ms <= 0) return;
    await setTimeout(ms, undefined, { signal }).catch(() => {});
    signal.throwIfAborted();
  }
}

/** Encodes records as gzipped NDJSON. */
async function encode(records: readonly unknown[]): Promise<Uint8Array<ArrayBuffer>> {
  const lines = records.map((record) => `${JSON.stringify(record)}\n`);
  const zipped = new Blob(lines).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(zipped).arrayBuffer());
}

/** Reads the refused records of an answer; undefined where they are not all named. */
function readRefused(
  { accepted, refused, errors }: IngestAnswer,
  records: number,
): WriteRefusal[] | undefined {
  if (!Array.isArray(errors)) return undefined;
  const found = new Map<number, WriteRefusal>();
  for (const { index, ...error } of errors) {
    if (!Number.isSafeInteger(index) || index < 0 || index >= records) return undefined;
    found.set(index, { index, error: refusalOf(error) });
  }
  const isWhole = found.size > 0 && found.size === refused && accepted === records - found.size;
  return isWhole ? [...found.values()] : undefined;
}

function refusalOf({ message, code }: { message?: unknown; code?: unknown }): BackendError {
  const reason = typeof message === "string" ? message : describe(code);
  return new BackendError(`The server refused the record: ${reason}`, {
    code: "DATA_REFUSED",
    operation: "write to",
    kind: "data",
  });
}

/** Reads a time to wait in seconds, or a date, in milliseconds. */
function readRetryAfter(text: string | null): number | undefined {
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS) : undefined;
}
