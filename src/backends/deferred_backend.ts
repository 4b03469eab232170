import { asFailedBefore, closedBackend } from "../errors.ts";
import type { Batch, WriteResult } from "../pipeline/sink.ts";
import { unlessAborted } from "../pipeline/unless_aborted.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import type {
  Backend,
  BackendStats,
  DeleteOptions,
  DocumentStore,
  ProbeReport,
  ReadOptions,
  StorageBackend,
  StorageFault,
} from "./backend.ts";
import type { Staging } from "./staging.ts";

/**
 * A backend that could not be opened yet. Each call tries again until it is open, so that a program with a spool
 * can start, and take records in, while its database is away.
 */
export class DeferredBackend implements Backend {
  readonly name: StorageBackend;
  readonly isDurable = true;
  readonly documents: DocumentStore = {
    read: async (...query) => await (await this.#open()).documents.read(...query),
    write: async (...document) => await (await this.#open()).documents.write(...document),
    delete: async (...name) => await (await this.#open()).documents.delete(...name),
  };
  readonly location: string | undefined;
  readonly #openNow: (signal: AbortSignal) => Promise<Backend>;
  readonly #closing: AbortController;
  #opening: Promise<Backend> | undefined;
  #backend: Backend | undefined;

  /**
   * Takes the name and place of the backend, a function that opens it, and an attempt in progress, if there is one.
   * `close()` aborts the signals of both.
   */
  constructor(
    name: StorageBackend,
    { location, openNow, opening, closing = new AbortController() }: {
      location: string | undefined;
      openNow: (signal: AbortSignal) => Promise<Backend>;
      opening?: Promise<Backend>;
      closing?: AbortController;
    },
  ) {
    this.name = name;
    this.location = location;
    this.#openNow = openNow;
    this.#closing = closing;
    if (opening) this.#follow(opening).catch(() => {}); // the next call tries again
  }

  get isAway(): boolean {
    return this.#backend === undefined;
  }

  prepare(batch: Batch): void {
    this.#backend?.prepare?.(batch);
  }

  async write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    return await (await this.#open()).write(batch, onSent);
  }

  async stage(): Promise<Staging> {
    const backend = await this.#open();
    return await backend.stage!();
  }

  async *read<T>(dataset: Dataset<T>, query: RecordQuery, options?: ReadOptions): AsyncGenerator<T[]> {
    yield* (await unlessAborted(this.#open(), options?.signal)).read(dataset, query, options);
  }

  async aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    options?: ReadOptions,
  ): Promise<AggregateRow[]> {
    const backend = await unlessAborted(this.#open(), options?.signal);
    return await backend.aggregate(dataset, query, aggregation, options);
  }

  async finishWrites(dataset: Dataset<unknown>): Promise<void> {
    await (await this.#open()).finishWrites(dataset);
  }

  async deleteBefore(dataset: Dataset<unknown>, before: number, options: DeleteOptions): Promise<number> {
    return await (await this.#open()).deleteBefore(dataset, before, options);
  }

  async deleteMatching(dataset: Dataset<unknown>, query: RecordQuery): Promise<number> {
    const backend = await this.#open();
    return await backend.deleteMatching!(dataset, query);
  }

  async verify(): Promise<StorageFault[]> {
    return await (await this.#open()).verify?.() ?? [];
  }

  async stats(): Promise<BackendStats> {
    return await (await this.#open()).stats();
  }

  async probe(): Promise<ProbeReport> {
    return await (await this.#open()).probe();
  }

  async close(): Promise<void> {
    this.#closing.abort(closedBackend("open", this.location ?? this.name));
    await (await this.#opening?.catch(() => undefined))?.close();
  }

  /** The opened backend; what is tried together is tried once. */
  #open(): Promise<Backend> {
    if (!this.#opening && this.#closing.signal.aborted) return Promise.reject(this.#closing.signal.reason);
    return this.#opening ?? this.#follow(this.#openNow(this.#closing.signal));
  }

  #follow(opening: Promise<Backend>): Promise<Backend> {
    return this.#opening = opening.then(
      (backend) => this.#backend = backend,
      (error) => {
        if (!this.#closing.signal.aborted) this.#opening = undefined;
        throw asFailedBefore(error);
      },
    );
  }
}
