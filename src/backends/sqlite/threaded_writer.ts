import type { Batch, WriteResult } from "../../pipeline/sink.ts";
import { narrow } from "../../records/dataset.ts";
import { yieldToEventLoop } from "../../records/slices.ts";
import type { SqliteDatabase } from "./driver.ts";
import { encodeRows } from "./rows.ts";
import { SqliteThread, type ThreadData } from "./sqlite_thread.ts";
import { type EncodedBatch, SqliteWriter } from "./writer.ts";

/** Options of a {@linkcode ThreadedWriter}. */
export interface ThreadedWriterOptions extends ThreadData {
  /** Number of records in a batch from which a thread writes. */
  readonly threadRecords: number;
}

/** Writes batches: in a thread once there are large ones, else in this thread. One `write()` runs at a time. */
export class ThreadedWriter {
  readonly #options: ThreadedWriterOptions;
  readonly #writer: SqliteWriter;
  #thread: SqliteThread | undefined;
  #prepared: { batch: Batch; encoded: EncodedBatch } | undefined;

  /** Writes by a connection that its owner closes. */
  constructor(database: SqliteDatabase, options: ThreadedWriterOptions) {
    this.#options = options;
    this.#writer = new SqliteWriter(database, options);
  }

  /** Encodes a batch that is written next, if a thread will write it. */
  prepare(batch: Batch): void {
    if (batch.records.length < this.#options.threadRecords) return;
    this.#prepared = { batch, encoded: encodeBatch(batch) };
  }

  /**
   * Writes a batch; calls `onSent` once a thread has it.
   *
   * @throws {BackendError} If it was not written, or if that is unknown.
   */
  async write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    const thread = await this.#threadFor(batch.records.length);
    // SQLite writes without yielding to other work: what could not arrive before this write could not be
    // gathered for the next batch.
    if (!thread) await yieldToEventLoop();
    const encoded = this.#takePrepared(batch) ?? encodeBatch(batch);
    return thread ? await thread.write(encoded, onSent) : this.#writer.write(encoded);
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    await this.#thread?.close();
  }

  /** Returns the prepared form of this batch; used once, because a thread takes it. */
  #takePrepared(batch: Batch): EncodedBatch | undefined {
    if (this.#prepared?.batch !== batch) return undefined;
    const { encoded } = this.#prepared;
    this.#prepared = undefined;
    return encoded;
  }

  /** Returns the thread that writes, if there is one for so many records. */
  async #threadFor(records: number): Promise<SqliteThread | undefined> {
    if (this.#thread?.hasEnded) this.#thread = undefined;
    if (!this.#thread && records >= this.#options.threadRecords) {
      const { path, inode, onConflict, driver } = this.#options;
      this.#thread = await SqliteThread.start({ path, inode, onConflict, driver });
    }
    return this.#thread;
  }
}

function encodeBatch({ id, dataset, records, members }: Batch): EncodedBatch {
  const used = narrow(dataset, records);
  const fields = used.columns.map(({ field }) => field);
  return { id, dataset: dataset.name, fields, rows: encodeRows(used, records), members };
}
