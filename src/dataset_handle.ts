import type { Backend, ReadOptions } from "./backends/backend.ts";
import { ValidationError } from "./errors.ts";
import type { Pipeline } from "./pipeline/pipeline.ts";
import { unlessAborted } from "./pipeline/unless_aborted.ts";
import { setOrigin } from "./pipeline/members.ts";
import { copyRecord, type Dataset } from "./records/dataset.ts";
import { acceptQuery, type TimeRangeQuery } from "./records/query.ts";
import type { RingBuffer } from "./records/ring_buffer.ts";
import { yieldToEventLoop } from "./records/slices.ts";
import { acceptRecord, acceptText } from "./records/validation.ts";

/** Options of a sink for records that validation refuses. */
export interface SinkOptions {
  /**
   * Gets each refused record and its error. Without it, closing the sink rejects with the first error, after all valid
   * records are committed. An exception from it errors the sink.
   */
  onInvalid?: (error: ValidationError, record: unknown) => void;
}

/** Records that are refused before other work gets a turn: each may take 0.1 ms, to find the name that was meant. */
const REFUSED_IN_TURN = 100;

/** Options of an append. */
export interface AppendOptions {
  /**
   * Idempotency key of the request that brings the records, up to 200 characters. The database stores each position of a
   * request once, however often and by whichever process it is sent, for at least 24 hours. Without it, records of a dataset
   * without a key are stored each time.
   */
  requestId?: string;
  /**
   * Position of the first record in the request, for a request that is appended in parts.
   *
   * @default {0}
   */
  position?: number;
  /**
   * Ends the wait. Some of the records may still be stored; the same request can be sent again.
   */
  signal?: AbortSignal;
}

/** Result of an append. */
export interface AppendReport {
  /** The number of records that are safe, those included that are stored already. */
  accepted: number;
  /** Records that validation refused, by their index. */
  refused: {
    /** Index among the records. */
    index: number;
    /** The fault. */
    error: ValidationError;
  }[];
}

/** Longest id of a request. */
const MAX_REQUEST_ID = 200;

/** The parts of a {@linkcode DatasetHandle}. */
export interface HandleParts<T, AggregateQuery, Aggregate> {
  readonly dataset: Dataset<T>;
  readonly backend: Backend;
  readonly pipeline: Pipeline<T>;
  /** The memory layer: the newest accepted records. */
  readonly newest: RingBuffer<T>;
  /** The time zone of queries that name none. */
  readonly timeZone: string;
  /** Answers an aggregate query from a backend. */
  readonly aggregate: (
    backend: Pick<Backend, "aggregate">,
    query: AggregateQuery | undefined,
  ) => Promise<Aggregate[]>;
  /** Resolves when reads of the backend see all that was accepted, where `add` promises that. */
  readonly ready: () => Promise<void>;
  /** Resolves when all that was accepted is committed and every monitor has looked at it. */
  readonly flush: () => Promise<void>;
}

const NO_STREAM = { isStream: false };

/**
 * Adds and reads the records of one dataset. {@linkcode ObservabilityHub} and {@linkcode CostObservatory} have one for
 * each of theirs.
 *
 * In memory, a record can be read as soon as `add` has resolved. With any other backend, flush first.
 *
 * @typeParam T A record as it is read.
 * @typeParam Input A record as it is added.
 * @typeParam Query The fields of a query.
 * @typeParam AggregateQuery The fields of an aggregate query.
 * @typeParam Aggregate A row of an aggregate.
 *
 * @example Add, read and aggregate
 * ```ts
 * import { ObservabilityHub } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * await using hub = new ObservabilityHub();
 * const { systemMetrics } = hub;
 * for (const cpuUsage of [40, 60]) {
 *   await systemMetrics.add({ timestamp: Date.now(), clusterId: "prod", cpuUsage });
 * }
 * const [newest] = await systemMetrics.query({ clusterId: "prod", order: "desc", limit: 1 });
 * assert.equal(newest.cpuUsage, 60);
 * const [all] = await systemMetrics.aggregate({ fields: { cpuUsage: ["avg"] } });
 * assert.deepEqual(all.fields.cpuUsage, { avg: 50 });
 * ```
 */
export class DatasetHandle<
  T,
  Input = T,
  Query extends object = TimeRangeQuery,
  AggregateQuery = unknown,
  Aggregate = unknown,
> {
  readonly #parts: HandleParts<T, AggregateQuery, Aggregate>;

  /**
   * @internal
   * @param parts The pipeline, the memory layer and the backend.
   */
  constructor(parts: HandleParts<T, AggregateQuery, Aggregate>) {
    this.#parts = parts;
  }

  /**
   * Adds a record. Waits only while buffers are full and `overflow` is `block`.
   *
   * @param record The record.
   * @returns A promise that resolves when the record is accepted: journaled where there is a spool, else buffered.
   * @throws {ValidationError} If a field is missing, unknown or wrong. Nothing was queued.
   * @throws {BackendError} If the handle's hub or observatory is closed.
   */
  add(record: Input): Promise<void> {
    try {
      return this.#accept(record);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Adds the records of a request, each once: the same request may be sent again, to this process or to another one before
   * the same database. Valid records are stored, refused ones are reported. Waits while buffers are full, and drops nothing,
   * whichever `overflow` is.
   *
   * @param records The records, at the same positions each time that the request is sent.
   * @param options The id of the request, and a signal that ends the wait.
   * @returns A promise that resolves when all valid records are safe: journaled where there is a spool, else committed.
   * @throws {ValidationError} If an option is wrong. Nothing was queued.
   * @throws {BackendError} If the handle's hub or observatory is closed, or if the backend fails until someone acts and
   * there is no spool. Send the request again.
   *
   * @example Send a request again
   * ```ts
   * import { ObservabilityHub } from "@openfinops/telemetry";
   * import { strict as assert } from "node:assert";
   *
   * await using hub = new ObservabilityHub();
   * const records = [{ timestamp: Date.now(), cpuUsage: 41.2 }, { timestamp: Date.now(), cpuUsage: 41.3 }];
   * for (let attempt = 0; attempt < 2; attempt++) {
   *   await hub.systemMetrics.append(records, { requestId: "2026-11-30/agent-7/42" });
   * }
   * assert.equal((await hub.systemMetrics.query()).length, 2);
   * ```
   */
  async append(
    records: readonly Input[],
    { requestId, position = 0, signal }: AppendOptions = {},
  ): Promise<AppendReport> {
    const { dataset, pipeline } = this.#parts;
    assertRequest(dataset, requestId, position);
    const valid: T[] = [];
    const refused: AppendReport["refused"] = [];
    for (let index = 0; index < records.length; index++) {
      try {
        const record = acceptRecord(dataset, records[index]);
        if (requestId !== undefined) setOrigin(record, requestId, position + index);
        valid.push(record);
      } catch (error) {
        if (!(error instanceof ValidationError)) throw error;
        pipeline.countRefused();
        refused.push({ index, error });
        if (refused.length % REFUSED_IN_TURN === 0) await yieldToEventLoop();
      }
    }
    await unlessAborted(pipeline.append(valid, signal), signal);
    return { accepted: valid.length, refused };
  }

  /**
   * Opens a stream that adds records. Closing it commits them.
   *
   * @param options What happens to records that validation refuses.
   * @returns The stream.
   *
   * @example Pipe records in
   * ```ts
   * import { ObservabilityHub } from "@openfinops/telemetry";
   *
   * await using hub = new ObservabilityHub();
   * await ReadableStream.from([{ timestamp: Date.now(), cpuUsage: 12.5 }]).pipeTo(hub.systemMetrics.sink());
   * ```
   */
  sink(options: SinkOptions = {}): WritableStream<Input> {
    let firstError: ValidationError | undefined;
    // A longer queue than the default of 1 made writes take twice as long (measured).
    return new WritableStream<Input>({
      write: (input) => {
        try {
          return this.#accept(input, { isStream: true });
        } catch (error) {
          // A stream that throws loses what is queued behind: one bad record must not cost its neighbors.
          if (!(error instanceof ValidationError)) throw error;
          if (options.onInvalid) options.onInvalid(error, input);
          else firstError ??= error;
        }
      },
      close: async () => {
        await this.#parts.flush();
        if (firstError) throw firstError;
      },
    });
  }

  /**
   * Reads committed records into an array. For many records, use {@linkcode DatasetHandle.stream}.
   *
   * @param query Which records, in which order and how many; all by time where absent.
   * @param options A signal that ends the read.
   * @returns The records.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  async query(query?: Query, options?: ReadOptions): Promise<T[]> {
    const found: T[] = [];
    for await (const page of this.#pages(query, options)) {
      for (const record of page) found.push(record);
    }
    return found;
  }

  /**
   * Streams committed records in flat memory. To stop early, leave the loop, cancel the stream, or abort the signal.
   *
   * @param query Which records, in which order and how many; all by time where absent.
   * @param options A signal that ends the read.
   * @returns The records. A {@linkcode BackendError}, or the reason of the signal, errors the stream.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   */
  stream(query?: Query, options?: ReadOptions): ReadableStream<T> {
    const pages = this.#pages(query, options);
    return new ReadableStream<T>({
      async pull(controller) {
        const { done, value } = await pages.next();
        if (done) return controller.close();
        for (const record of value) controller.enqueue(record);
      },
      async cancel() {
        await pages.return(undefined);
      },
    }, { highWaterMark: 0 });
  }

  /**
   * Counts and sums committed records in the backend, by time bucket, by group, or both.
   *
   * @param query Which records, the buckets, the groups and the measures; all records in one row where absent.
   * @param options A signal that ends the read.
   * @returns A row for each bucket and group, by time and then by group.
   * @throws {ValidationError} If the query has an unknown field or a wrong value.
   * @throws {BackendError} If the backend cannot be read.
   */
  async aggregate(query?: AggregateQuery, { signal }: ReadOptions = {}): Promise<Aggregate[]> {
    const { aggregate, backend, ready, timeZone } = this.#parts;
    const reader: Pick<Backend, "aggregate"> = {
      aggregate: (...[dataset, asked, parts]) => backend.aggregate(dataset, asked, parts, { signal }),
    };
    return await unlessAborted(
      ready().then(() => aggregate(reader, withZone(query, timeZone))),
      signal,
    );
  }

  /**
   * Returns the newest records that this process has accepted, committed or not, without a read of the backend. Up to
   * `maxMemoryEntries`, and up to 64 MiB.
   *
   * @returns The records, in the order of acceptance.
   */
  recent(): T[] {
    const { dataset, newest } = this.#parts;
    return newest.values().map((record) => copyRecord(dataset, record));
  }

  /** Checks the query at once; reads when it is asked for the first page. */
  #pages(query: object | undefined, { signal }: ReadOptions = {}): AsyncGenerator<T[]> {
    const { dataset, backend, ready, timeZone } = this.#parts;
    const accepted = acceptQuery(dataset, withZone(query, timeZone));
    async function* read() {
      await ready();
      yield* backend.read(dataset, accepted, { signal });
    }
    return signal ? untilAborted(read(), signal) : read();
  }

  /** Not async, so that a record costs no promise of its own unless it has to wait. */
  #accept(input: unknown, { isStream } = NO_STREAM): Promise<void> {
    const { dataset, pipeline } = this.#parts;
    let record: T;
    try {
      record = acceptRecord(dataset, input);
    } catch (error) {
      pipeline.countRefused();
      throw error;
    }
    return isStream ? pipeline.offer(record) : pipeline.accept(record);
  }
}

/** Refuses an id or a position that no backend can keep. */
function assertRequest({ noun }: Dataset<unknown>, requestId: unknown, position: unknown): void {
  const subject = `a request of ${noun}`;
  if (requestId !== undefined) {
    const id = acceptText(subject, "requestId", requestId);
    if (id === "" || id.length > MAX_REQUEST_ID) {
      const expected = `1 to ${MAX_REQUEST_ID} characters`;
      throw new ValidationError({ subject, field: "requestId", value: id, expected });
    }
  }
  if (!Number.isSafeInteger(position) || position as number < 0) {
    throw new ValidationError({
      subject,
      field: "position",
      value: position,
      expected: "a whole number from 0",
    });
  }
}

/** A query with a time zone: its own, or the default. */
function withZone<Query>(query: Query | undefined, timeZone: string): Query {
  return { ...query, timeZone: (query as TimeRangeQuery | undefined)?.timeZone ?? timeZone } as Query;
}

/** Iterates until the signal aborts. The source frees what it holds at once, or when its page under way is there. */
async function* untilAborted<T>(pages: AsyncGenerator<T>, signal: AbortSignal): AsyncGenerator<T> {
  const free = () => void pages.return(undefined).catch(() => {});
  signal.addEventListener("abort", free);
  try {
    for (;;) {
      const { done, value } = await unlessAborted(pages.next(), signal);
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", free);
    if (!signal.aborted) await pages.return(undefined);
  }
}
