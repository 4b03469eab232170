/**
 * The port: what a place where records rest has to do. Its write side is the pipeline's {@linkcode Sink}.
 *
 * @module
 */
import type { Batch, Sink, WriteResult } from "../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import type { Staging } from "./staging.ts";
import type { StoredDocument } from "./stored_document.ts";

export type { StoredDocument };

/** UTF-16 code units of text, or bytes from a server, that make a page of a read full before it has all its records. */
export const PAGE_BYTES = 8 * 2 ** 20;

/** The names of the backends. */
export type StorageBackend = "memory" | "sqlite" | "duckdb" | "postgresql" | "timescaledb" | "citus";

/** The names of the backends as constants. */
export const StorageBackend: {
  readonly MEMORY: "memory";
  /** The same as `MEMORY`. */
  readonly IN_MEMORY: "memory";
  readonly SQLITE: "sqlite";
  readonly DUCKDB: "duckdb";
  readonly POSTGRESQL: "postgresql";
  readonly TIMESCALEDB: "timescaledb";
  readonly CITUS: "citus";
} = {
  MEMORY: "memory",
  IN_MEMORY: "memory",
  SQLITE: "sqlite",
  DUCKDB: "duckdb",
  POSTGRESQL: "postgresql",
  TIMESCALEDB: "timescaledb",
  CITUS: "citus",
};

/** Policy for a record whose key exists: count a duplicate, or update it. */
export type ConflictPolicy = "ignore" | "replace";

/** Open mode: create and upgrade, open only if it exists, or read only. */
export type OpenMode = "create" | "existing" | "read";

/** Statistics of one dataset. */
export interface DatasetStats {
  /** The number of records. */
  rows: number;
  /** The time of the oldest record, in epoch milliseconds. */
  oldest?: number;
  /** The time of the newest record, in epoch milliseconds. */
  newest?: number;
  /** The number of partitions, where the backend has them. */
  partitions?: number;
  /** The number of chunks, where the backend has them. */
  chunks?: number;
  /** Number of compressed chunks. */
  compressedChunks?: number;
  /** Size of the compressed chunks before compression, if the server measured it. */
  bytesBeforeCompression?: number;
  /** Size of the same chunks now. */
  bytesAfterCompression?: number;
  /** Size of the tables on disk, if known. */
  tableBytes?: number;
  /** Size of the indexes on disk, if known. */
  indexBytes?: number;
}

/** The exact total of one currency. */
export interface CurrencyTotal {
  /** The currency. */
  currency: string;
  /** Set for estimated costs, which are never added to billed ones. */
  basis?: "estimated";
  /** The exact sum, a canonical decimal string. */
  total: string;
  /** The number of entries in it. */
  count: number;
}

/** Something that the database does by itself, again and again. */
export interface PolicyStats {
  /** Kind of policy, such as `retention`. */
  policy: string;
  /** The table or view that it is about. */
  table: string;
  /** Interval between runs. */
  every: string;
  /** Its settings, as JSON. */
  settings: string;
  /** Time at which it began to do so last, in epoch milliseconds. */
  lastRun?: number;
  /** Status of the last run: `Success`, `Failed` or `Running`. */
  lastStatus?: string;
  /** Number of failed runs. */
  failures: number;
  /** The error message of the last run, where that failed. */
  lastError?: string;
}

/** Statistics of the storage. */
export interface BackendStats {
  /** Statistics of each dataset. */
  datasets: Record<DatasetName, DatasetStats>;
  /** The exact total of each currency. */
  totals: CurrencyTotal[];
  /** Policies that the server runs by itself, if any. */
  policies?: PolicyStats[];
  /** Further facts about the storage, such as `fileSizeBytes`. */
  storage: Record<string, string | number>;
}

/** Options of a deletion. */
export interface DeleteOptions {
  /** Only count. */
  dryRun: boolean;
  /**
   * After this time no further step is begun, in milliseconds; the next cleanup does the rest.
   *
   * @default {Infinity}
   */
  timeBudgetMs?: number;
  /**
   * Is called for each partition that was skipped as other sessions hold it. Without it the call rejects, after all others
   * were deleted.
   */
  onHeld?: (partition: string) => void;
}

/** Options of a read. */
export interface ReadOptions {
  /**
   * Ends the read when it aborts. The read rejects with the reason of the signal; the backend cancels what it can and
   * frees cursors and connections.
   */
  signal?: AbortSignal;
}

/** Result of a round trip to the backend. */
export interface ProbeReport {
  /** True if records can be written now. */
  writable: boolean;
  /** Facts about the backend: driver, versions, file. */
  details: Record<string, string | number>;
  /** Warnings for the operator. */
  warnings: string[];
}

/** Condition under which a document is written; always where it is empty. */
export interface WriteCondition {
  /** Only where there is none of its kind and id. */
  ifAbsent?: boolean;
  /** Only over a document whose body has this `revision`: compare and set. */
  ifRevision?: number;
}

/** Something that `database verify` found. */
export interface StorageFault {
  /** Check that found it. */
  readonly check: "delivery" | "key" | "ledger" | "file";
  /** Record, batch or delivery that it is about. */
  readonly subject: string;
  /** Expected state. */
  readonly expected: string;
  /** Found state. */
  readonly found: string;
}

/** Store of the few documents beside the records. */
export interface DocumentStore {
  /**
   * Reads those of a kind, or all, by kind and id. A database that an older release has made has none.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  read(kind?: string): Promise<StoredDocument[]>;
  /**
   * Writes one, over the one that has its kind and id; or, with a condition, only where that holds.
   *
   * @returns True if it was written. Of several that write under the same condition at once, exactly one gets true.
   * @throws {BackendError} If the backend could not be written.
   */
  write(document: StoredDocument, condition?: WriteCondition): Promise<boolean>;
  /**
   * Deletes one.
   *
   * @returns Whether it was there.
   * @throws {BackendError} If the backend could not be written.
   */
  delete(kind: string, id: string): Promise<boolean>;
}

/** Rows in the wire format of a server. */
export interface RawRows {
  /** The time of each row, in epoch milliseconds. */
  readonly times: readonly number[];
  /** The rows. */
  readonly chunks: readonly Uint8Array[];
}

/** Copies rows between two databases without decoding them. */
export interface RawTransfer {
  /** Name of the wire format. Rows can be copied between backends with the same format. */
  readonly format: string;
  /**
   * Reads rows in order of time, in blocks. Memory does not grow with the number of rows.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  read(dataset: Dataset<unknown>, query: RecordQuery): AsyncIterable<RawRows>;
  /**
   * Writes a block as a batch, like the `write()` of a sink. Stores all rows or none; none if a key exists.
   *
   * @throws {BackendError} If it was not written, or if that is unknown.
   */
  write(batch: Pick<Batch, "id" | "dataset"> & { rows: RawRows }, onSent?: () => void): Promise<WriteResult>;
}

/** Storage for records. */
export interface Backend extends Sink {
  /** Name of the backend; `server` where records are sent to one. */
  readonly name: StorageBackend | "server";
  /** True if records survive the process. If not, batching has no use. */
  readonly isDurable: boolean;
  /** True until the database is opened for the first time. Until then, calls wait or fail. */
  readonly isAway?: boolean;
  /** Documents beside the records. */
  readonly documents: DocumentStore;
  /** Location of the database without user and password: spooled records must not go into another database. */
  readonly location?: string;
  /** Copies rows without decoding them. Absent where the backend has no such format. */
  readonly raw?: RawTransfer;
  /**
   * Opens a place for the costs of a delivery, which become visible all at once. Absent where a backend of your own has
   * none: costs cannot be imported into it.
   *
   * @throws {BackendError} If there is no room for it, or a privilege is missing.
   */
  stage?(): Promise<Staging>;
  /**
   * Reads records in the order of time, in pages, in flat memory. Ending the iteration early frees all.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  read<T>(dataset: Dataset<T>, query: RecordQuery, options?: ReadOptions): AsyncIterable<T[]>;
  /**
   * Counts and adds up the records that a query finds, in the database; limit and order are ignored. Rows come in no
   * order; without spans and groups there is one, also where no record is found.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
    options?: ReadOptions,
  ): Promise<AggregateRow[]>;
  /**
   * Waits for the writes to a dataset that are in flight, of any process: one that was killed may have left
   * a write behind that is still to be committed.
   *
   * @throws {BackendError} If it may not be written; retryable where they take long.
   */
  finishWrites(dataset: Dataset<unknown>): Promise<void>;
  /**
   * Deletes the records before a time, in bounded steps, and gives their space back.
   *
   * @returns How many records were deleted, or would be in a dry run.
   * @throws {BackendError} If it failed; what was deleted up to then stays deleted.
   */
  deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    options: DeleteOptions,
  ): Promise<number>;
  /**
   * Deletes the records that a query finds, in one transaction; limit and order are ignored. `deleteRecords()` calls it in
   * bounded steps. Absent where a backend of your own has no such deletion.
   *
   * @returns The number of records that were deleted.
   * @throws {BackendError} If nothing was deleted, or if that is unknown.
   */
  deleteMatching?(dataset: Dataset<unknown>, query: RecordQuery): Promise<number>;
  /**
   * Creates the partitions for records of coming times ahead, so that no write waits for it. Absent where there are none.
   *
   * @throws {BackendError} If they could not be created.
   */
  createPartitions?(times: readonly number[]): Promise<void>;
  /**
   * Checks keys and the ledger, and the file where there is one. Absent where nothing outlives the process.
   *
   * @returns The faults; of each check the first hundred.
   * @throws {BackendError} If the backend could not be read.
   */
  verify?(): Promise<StorageFault[]>;
  /**
   * Statistics of the storage.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  stats(): Promise<BackendStats>;
  /**
   * Makes a round trip, and describes the storage.
   *
   * @throws {BackendError} If there is no way through.
   */
  probe(): Promise<ProbeReport>;
  /** Frees all it holds. Safe to call again. */
  close(): Promise<void>;
}
