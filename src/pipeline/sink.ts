import type { Dataset } from "../records/dataset.ts";

/** Minimum days for which a ledger knows a batch. After that, a cleanup may delete its id, and a replay stores it again. */
export const LEDGER_DAYS = 30;

/** A run of records of a batch that have consecutive positions in one request. */
export interface Member {
  /** The id of the request. */
  readonly requestId: string;
  /** Position of its first record in the request. */
  readonly first: number;
  /** The number of records. */
  readonly count: number;
  /** Index of its first record in the batch. */
  readonly index: number;
}

/** Records of one dataset that are written in one transaction. Frozen together with its id. */
export interface Batch<T = unknown> {
  /** The id by which the ledger knows it. */
  readonly id: string;
  /** The dataset of all its records. */
  readonly dataset: Dataset<T>;
  /** The records, in the order in which they were accepted. */
  readonly records: readonly T[];
  /**
   * The requests that its records belong to; absent where none does. The transaction of the batch stores only records whose
   * position in their request is not stored yet, and counts the others as duplicates. A request may come in several batches,
   * also of several processes at once. Of a member that is not listed nothing is known.
   */
  readonly members?: readonly Member[];
}

/** A record of a batch that was refused for good, while the others were stored. */
export interface WriteRefusal {
  /** Index among the records of the batch. */
  readonly index: number;
  /** Reason of the refusal. */
  readonly error: unknown;
}

/** Result of a batch: `committed`, `duplicates` and the refused add up to its records. */
export interface WriteResult {
  /** Records that are now stored, restated ones included. */
  readonly committed: number;
  /** Records that were not stored because their key, or their position in a request, was there already. */
  readonly duplicates: number;
  /** Those of the committed that took the place of an older record with their key. */
  readonly restated: number;
  /** Set where the ledger knew the batch: nothing was written, and the numbers are those of the first time. */
  readonly isReplay?: true;
  /** Records that became dead letters; only of a sink that stores the others of a batch all the same. */
  readonly refused?: readonly WriteRefusal[];
}

/** The write side of a backend. */
export interface Sink {
  /** The most records of a dataset that should gather in memory for a batch; 10,000 where it does not say. */
  maxRecords?(dataset: Dataset<unknown>): number;
  /**
   * Makes a batch ready whose write comes next, as far as that can be done while another one is being written. It need not
   * do anything.
   *
   * @param batch What will be written.
   */
  prepare?(batch: Batch): void;
  /**
   * Writes a batch in one transaction together with its id and its members. To write the same batch again changes
   * nothing and gives the same result, marked as a replay.
   *
   * @throws {BackendError} If it was not written, or if that is unknown. Of kind `data`, `timeout` and `unknown` only where it
   * is known that neither this attempt nor an earlier one has stored or will store anything.
   *
   * @param batch What is written.
   * @param onSent Is called, where the database works by itself, when it has all of the batch and nothing is left but to
   * wait: a good time to make the next one ready. It says nothing of the outcome.
   */
  write(batch: Batch, onSent?: () => void): Promise<WriteResult>;
}
