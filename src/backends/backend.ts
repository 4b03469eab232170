/**
 * The port: what a place where records rest has to do. Its write side is the pipeline's {@linkcode Sink}.
 *
 * @module
 */
import type { Sink } from "../pipeline/sink.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Dataset, DatasetName } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";

/** The names of the backends. */
export type StorageBackend = "memory" | "sqlite" | "postgresql" | "timescaledb";

/** The names of the backends as constants. */
export const StorageBackend: {
  readonly MEMORY: "memory";
  /** The same as `MEMORY`. */
  readonly IN_MEMORY: "memory";
  readonly SQLITE: "sqlite";
  readonly POSTGRESQL: "postgresql";
  readonly TIMESCALEDB: "timescaledb";
} = {
  MEMORY: "memory",
  IN_MEMORY: "memory",
  SQLITE: "sqlite",
  POSTGRESQL: "postgresql",
  TIMESCALEDB: "timescaledb",
};

/** What to do with a record whose key exists: count a duplicate, or restate it. */
export type ConflictPolicy = "ignore" | "replace";

/** How the database is opened: made and migrated where needed, only if it is there, or only to read. */
export type OpenMode = "create" | "existing" | "read";

/** What is kept of one dataset. */
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
  /** How many of the chunks are compressed. */
  compressedChunks?: number;
  /** What the compressed chunks took on disk before, where the server has measured that. */
  bytesBeforeCompression?: number;
  /** What the same chunks take now. */
  bytesAfterCompression?: number;
  /** What its tables take on disk, where the backend knows. */
  tableBytes?: number;
  /** What its indexes take on disk, where the backend knows. */
  indexBytes?: number;
}

/** The exact total of one currency. */
export interface CurrencyTotal {
  /** The currency. */
  currency: string;
  /** The exact sum, a canonical decimal string. */
  total: string;
  /** The number of entries in it. */
  count: number;
}

/** Something that the database does by itself, again and again. */
export interface PolicyStats {
  /** What it does, as in `retention`. */
  policy: string;
  /** The table or view that it is about. */
  table: string;
  /** How often, as an interval. */
  every: string;
  /** Its settings, as JSON. */
  settings: string;
  /** When it began to do so last, in epoch milliseconds. */
  lastRun?: number;
  /** How that ended. */
  lastStatus?: string;
  /** How often it has failed. */
  failures: number;
  /** The error message of the last run, where that failed. */
  lastError?: string;
}

/** What is kept, and where. */
export interface BackendStats {
  /** What is kept of each dataset. */
  datasets: Record<DatasetName, DatasetStats>;
  /** The exact total of each currency. */
  totals: CurrencyTotal[];
  /** What the database does by itself, where it does. */
  policies?: PolicyStats[];
  /** What else the backend knows of its storage, as in `fileSizeBytes`. */
  storage: Record<string, string | number>;
}

/** How records are deleted. */
export interface DeleteOptions {
  /** Only count. */
  dryRun: boolean;
  /**
   * After this time no further step is begun, in milliseconds; the next cleanup does the rest.
   *
   * @default {Infinity}
   */
  timeBudgetMs?: number;
}

/** Options of a read. */
export interface ReadOptions {
  /**
   * Ends the read when it aborts. The read rejects with the reason of the signal; the backend cancels what it can and
   * frees cursors and connections.
   */
  signal?: AbortSignal;
}

/** What a round trip to the backend found. */
export interface ProbeReport {
  /** Whether records could be written now. */
  writable: boolean;
  /** What the backend says of itself: driver, versions, file. */
  details: Record<string, string | number>;
  /** What an operator should know and mend. */
  warnings: string[];
}

/** Something that is kept beside the records: a budget, an alert. */
export interface StoredDocument {
  /** What it is, as in `budget`. */
  readonly kind: string;
  /** The id, unique within its kind. */
  readonly id: string;
  /** What it says; whatever JSON can hold. */
  readonly body: unknown;
}

/** Where the few documents are kept that there are beside the records. */
export interface DocumentStore {
  /**
   * Reads those of a kind, or all, by kind and id. A database that an older release has made has none.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  read(kind?: string): Promise<StoredDocument[]>;
  /**
   * Writes one, over the one that has its kind and id; or, with `ifAbsent`, only where there is none.
   *
   * @returns Whether it was written. Of several that write with `ifAbsent` at once, exactly one hears that it did.
   * @throws {BackendError} If the backend could not be written.
   */
  write(document: StoredDocument, options?: { ifAbsent?: boolean }): Promise<boolean>;
  /**
   * Deletes one.
   *
   * @returns Whether it was there.
   * @throws {BackendError} If the backend could not be written.
   */
  delete(kind: string, id: string): Promise<boolean>;
}

/** A place where records rest. */
export interface Backend extends Sink {
  /** Which backend it is. */
  readonly name: StorageBackend;
  /** Whether what is written outlives the process. If not, there is nothing to gain from batching. */
  readonly isDurable: boolean;
  /** What is kept beside the records. */
  readonly documents: DocumentStore;
  /** Where the database is, without user and password: what is spooled for it must not go into another. */
  readonly location?: string;
  /**
   * Reads records in the order of time, in pages, in flat memory. Ending the iteration early frees all.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  read<T>(dataset: Dataset<T>, query: RecordQuery, options?: ReadOptions): AsyncIterable<T[]>;
  /**
   * Counts and adds up the records that a query finds, whatever its limit and order, where they rest. Rows come in no
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
   * Waits for the writes to a dataset that are under way, of whatever process: one that was killed may have left
   * a write behind that is still to be committed.
   *
   * @throws {BackendError} If it may not be written; retryable where they take long.
   */
  settle(dataset: Dataset<unknown>): Promise<void>;
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
   * What is kept, and where.
   *
   * @throws {BackendError} If the backend could not be read.
   */
  stats(): Promise<BackendStats>;
  /**
   * Makes a round trip and tells what is there.
   *
   * @throws {BackendError} If there is no way through.
   */
  probe(): Promise<ProbeReport>;
  /** Frees all it holds. Safe to call again. */
  close(): Promise<void>;
}
