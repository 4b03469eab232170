/**
 * Pages of the rows that a server sends as binary COPY.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { PAGE_BYTES, type RawRows, type ReadOptions } from "../backend.ts";
import { END, HEADER, readTime, recordDecoder } from "./copy.ts";
import { asPostgresError } from "./errors.ts";
import type { PostgresPool } from "./pool.ts";

const PAGE_RECORDS = 1_000;
/** Size at which a block of rows is full, in bytes. One transaction writes a block. */
const BLOCK_BYTES = 4 * 2 ** 20;
/** Bytes that are handed to the socket at once. */
const CHUNK_BYTES = 256 * 1_024;

/** Collects the rows of chunks into pages. */
export interface Pages<T> {
  readonly isEmpty: boolean;
  readonly isFull: boolean;
  /** Adds a chunk of whole rows; the first one starts with the header. */
  add(chunk: Buffer): void;
  /** Takes the rows since the last call. */
  take(): T;
}

/** Reads the rows of a `SELECT` page by page. */
export async function* readPages<T>(
  pool: PostgresPool,
  select: string,
  pages: Pages<T>,
  { signal }: ReadOptions = {},
): AsyncGenerator<T> {
  const session = await pool.acquire("read", { isStream: true, signal });
  const stopListening = session.cancelOn(signal);
  let isOver = false;
  let failure: unknown;
  try {
    signal?.throwIfAborted();
    for await (const chunk of session.copyOut(`COPY (${select}) TO STDOUT (FORMAT binary)`)) {
      pages.add(chunk);
      if (pages.isFull) yield pages.take();
    }
    if (!pages.isEmpty) yield pages.take();
    isOver = true;
  } catch (error) {
    failure = error;
    throw asPostgresError("read", pool.name, error);
  } finally {
    stopListening();
    if (isOver) pool.release(session);
    else pool.discard(session, failure); // the server stops sending when the connection is cut
  }
}

/** Pages of records. */
export class RecordPages<T> implements Pages<T[]> {
  readonly #decode: (chunk: Buffer) => T[];
  #records: T[] = [];
  #bytes = 0;

  constructor(dataset: Dataset<T>) {
    this.#decode = recordDecoder(dataset);
  }

  get isEmpty(): boolean {
    return this.#records.length === 0;
  }

  get isFull(): boolean {
    return this.#records.length >= PAGE_RECORDS || this.#bytes >= PAGE_BYTES;
  }

  add(chunk: Buffer): void {
    this.#bytes += chunk.length;
    for (const record of this.#decode(chunk)) this.#records.push(record);
  }

  take(): T[] {
    const records = this.#records;
    this.#records = [];
    this.#bytes = 0;
    return records;
  }
}

/** Pages of encoded rows. Decodes only their times. */
export class RawPages implements Pages<RawRows> {
  readonly #timePosition: number;
  #isFirst = true;
  #times: number[] = [];
  #bytes = new Uint8Array(0);
  #length = 0;

  constructor(dataset: Dataset<unknown>) {
    this.#timePosition = dataset.columns.indexOf(columnOf(dataset, "timestamp"));
  }

  get isEmpty(): boolean {
    return this.#times.length === 0;
  }

  get isFull(): boolean {
    return this.#length >= BLOCK_BYTES;
  }

  add(chunk: Buffer): void {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const start = this.#isFirst ? HEADER.length : 0;
    this.#isFirst = false;
    let at = start;
    while (at < chunk.length) {
      const count = view.getInt16(at);
      if (count < 0) break; // the end of all rows
      at += 2;
      for (let i = 0; i < count; i++) {
        const length = view.getInt32(at);
        at += 4;
        if (i === this.#timePosition) this.#times.push(readTime(view, at));
        at += Math.max(0, length); // -1 for NULL
      }
    }
    this.#append(chunk.subarray(start, at));
  }

  take(): RawRows {
    const rows = { times: this.#times, chunks: chunksOf(this.#bytes.subarray(0, this.#length)) };
    this.#times = [];
    this.#bytes = new Uint8Array(0);
    this.#length = 0;
    return rows;
  }

  #append(rows: Uint8Array): void {
    const length = this.#length + rows.length;
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(CHUNK_BYTES, 2 * length));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(rows, this.#length);
    this.#length = length;
  }
}

/** Splits rows into chunks, and adds the header and the end of binary COPY. */
function chunksOf(rows: Uint8Array): Uint8Array[] {
  const chunks = [HEADER];
  for (let at = 0; at < rows.length; at += CHUNK_BYTES) chunks.push(rows.subarray(at, at + CHUNK_BYTES));
  return [...chunks, END];
}
