/**
 * Counters of a pipeline.
 *
 * @module
 */

/**
 * Number of records of a dataset by state. At every moment `accepted = committed + duplicates + deadLettered +
 * dropped + spooled + buffered + inFlight`.
 */
export interface PipelineStats {
  /** Records taken in; what an earlier process has left in the spool is taken in at the start. */
  accepted: number;
  /** Records that the backend has stored. */
  committed: number;
  /** Records whose key the backend had already. */
  duplicates: number;
  /** Those of the committed that took the place of an older record with their key. */
  restated: number;
  /** Records that the backend refused. They are in the dead-letter file, except the `lost`. */
  deadLettered: number;
  /** Those of the dead-lettered that are in the `dead-lettered` event only: there is no dead-letter folder. */
  lost: number;
  /** Records given up because buffers were full, or because the spool could not be read back. */
  dropped: number;
  /** Records that wait on disk only. */
  spooled: number;
  /** Records in memory that wait for their batch; with a spool, they are on disk as well. */
  buffered: number;
  /** Records in the batch that is being written. */
  inFlight: number;
  /** Records refused as invalid. They were never accepted. */
  refused: number;
  /** Attempts to write that failed and were repeated. */
  retries: number;
  /** The bytes that the spool takes on disk. */
  spoolBytes: number;
  /** Age of the oldest record that is not settled, in milliseconds; 0 if there is none. */
  oldestUnacknowledgedMs: number;
  /** Latency of the last successful writes, in milliseconds; absent before the first. */
  commitMs?: CommitLatency;
  /** Error of the batch in flight, if any. */
  lastError?: string;
  /** Cause that an operator must fix before writing resumes, if any. */
  alarm?: string;
}

/** Latency of the last 100 successful writes, in milliseconds. */
export interface CommitLatency {
  /** The last one. */
  last: number;
  /** The median. */
  p50: number;
  /** The 95th percentile. */
  p95: number;
}

/** Result of {@linkcode Pipeline.close}. */
export interface CloseReport {
  /** Records stored since the start. */
  committed: number;
  /** Records that are kept on disk for the next start. */
  spooled: number;
  /** Records in the dead-letter file since the start because the backend refused them. */
  deadLettered: number;
  /**
   * Records that were accepted and are neither known to be committed at the deadline nor kept on disk. A refused record
   * counts here if there is no dead-letter folder.
   */
  lost: number;
}

/** Adds up what several pipelines report. */
export function addReports(reports: readonly CloseReport[]): CloseReport {
  const sum = (field: keyof CloseReport) => reports.reduce((total, report) => total + report[field], 0);
  return {
    committed: sum("committed"),
    spooled: sum("spooled"),
    deadLettered: sum("deadLettered"),
    lost: sum("lost"),
  };
}

/** Counters of one pipeline. Its stages add to them. */
export class Counters {
  /** See {@linkcode PipelineStats}, as for all others. */
  accepted = 0;
  committed = 0;
  duplicates = 0;
  restated = 0;
  deadLettered = 0;
  lost = 0;
  dropped = 0;
  inFlight = 0;
  refused = 0;
  retries = 0;
}

/** The writes whose time is remembered. */
const LATENCIES = 100;

/** Latencies of the last writes. */
export class Latencies {
  readonly #all: number[] = [];

  /** Remembers one, in milliseconds. */
  add(ms: number): void {
    if (this.#all.push(ms) > LATENCIES) this.#all.shift();
  }

  /** Summary; undefined before the first. */
  summary(): CommitLatency | undefined {
    if (this.#all.length === 0) return undefined;
    const sorted = this.#all.toSorted((a, b) => a - b);
    const at = (part: number) => sorted[Math.floor(part * (sorted.length - 1))];
    return { last: this.#all.at(-1)!, p50: at(0.5), p95: at(0.95) };
  }
}
