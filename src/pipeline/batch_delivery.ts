import { BackendError, errorCodeOf, type FailureKind, kindOf, messageOf } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import type { DeadLetters } from "./dead_letters.ts";
import { Alarm, type EventListener } from "./events.ts";
import type { FlushTracker } from "./flush_tracker.ts";
import { batchOf } from "./members.ts";
import type { Counters, Latencies } from "./pipeline_stats.ts";
import type { Queue } from "./queue.ts";
import { retry, type RetryPace } from "./retry.ts";
import type { Batch, Sink, WriteResult } from "./sink.ts";

export interface BatchDeliveryParts<T> {
  readonly dataset: Dataset<T>;
  readonly sink: Pick<Sink, "write">;
  /** Remembers which batches were split. */
  readonly queue: Pick<Queue<T>, "isSplit" | "split">;
  /** Store of refused records; if absent, only their event reports them. */
  readonly deadLetters: DeadLetters | undefined;
  readonly counters: Counters;
  readonly latencies: Latencies;
  readonly tracker: FlushTracker;
  /** Paces the attempts, and ends them. */
  readonly pace: RetryPace;
  readonly emit: EventListener;
  /** Called when the backend has all of a batch. The outcome is not known yet. */
  readonly onSent: () => void;
  /** Called when a write has failed. */
  readonly onFailed: () => void;
  /** Gives another batch that is ready, or asks for one. */
  readonly nextBatch: () => Batch<T> | undefined;
}

/** Failures after which a batch is split. A kind that is not named is retried without an end. */
const MAX_FAILURES: Partial<Record<FailureKind, number>> = { data: 1, timeout: 2 };
/** Time for which a failure of unknown cause counts as the server's, so the whole batch is retried, in milliseconds. */
const SERVER_FAULT_MS = 600_000;
/** Parts of a batch up to which all are halved while the backend stores none of them. */
const MAX_PROBES = 64;

/** A part of a batch that failed for an unknown cause. */
interface Suspect<T> {
  readonly batch: Batch<T>;
  readonly error: unknown;
}

/** A first failure of unknown cause: its time, and the commits before it. */
interface Failure {
  readonly since: number;
  readonly commits: number;
}

/** Remembers failures of unknown cause in one batch. */
interface Isolation {
  /** The first one of all. */
  first: Failure | undefined;
  /** The first one of each record that failed alone, by the id of its batch. */
  readonly alone: Map<string, Failure>;
}

/**
 * Writes batches until they are stored, and isolates records that are refused: a batch that cannot be stored as it is
 * gets split until the refused records stand alone. The id of a half follows from the id of the whole. A split is
 * remembered before a half is written: the ledger does not relate whole and halves, so the whole must never be written
 * again.
 *
 * A failure of unknown cause is the server's at first. After {@linkcode SERVER_FAULT_MS} the batch is halved in rounds. A
 * record that fails alone becomes a dead letter if it fails again after others were committed, or for as long again where
 * others were committed before. While nothing is committed, all are retried. A batch of one record has no others, so the
 * batch behind it is tried; its id keeps the ledger from storing it twice when its turn comes.
 *
 * @typeParam T The type of the records.
 */
export class BatchDelivery<T> {
  /** Raised while a write fails until someone acts. */
  readonly alarm: Alarm;
  /** The last failure, until a write succeeds. */
  lastError: unknown;
  readonly #parts: BatchDeliveryParts<T>;
  #commits = 0;

  /** Does nothing by itself. */
  constructor(parts: BatchDeliveryParts<T>) {
    this.#parts = parts;
    this.alarm = new Alarm(parts.dataset.name, parts.emit);
  }

  /** Resolves when the whole batch is settled; rejects only when the signal ends it. */
  async deliver(batch: Batch<T>): Promise<void> {
    const isolation: Isolation = { first: undefined, alone: new Map() };
    let suspects = await this.#attempt(batch, isolation);
    if (suspects.length === 0) return;
    await retry(async () => {
      for (let before = -1; suspects.length > 0;) {
        if (before === this.#commits && !(batch.records.length === 1 && await this.#tryNext())) {
          throw suspects[0].error; // nothing was stored: wait before the next round
        }
        const isServing = before >= 0;
        before = this.#commits;
        const parts = await this.#halve(suspects, isServing);
        suspects = [];
        for (const part of parts) suspects.push(...await this.#attempt(part, isolation));
      }
    }, this.#parts.pace.options(() => {})); // each attempt has reported its failure
  }

  /** Writes a batch, or its parts where it was split; gives those that failed for an unknown cause. */
  async #attempt(batch: Batch<T>, isolation: Isolation): Promise<Suspect<T>[]> {
    const { queue, pace } = this.#parts;
    if (batch.records.length === 0) return [];
    if (!queue.isSplit(batch.id)) {
      try {
        await this.#write(batch, isolation);
        return [];
      } catch (error) {
        pace.signal.throwIfAborted();
        const isAlone = batch.records.length === 1;
        if (kindOf(error) === "unknown" && !(isAlone && this.#isAtFault(batch, isolation))) {
          return [{ batch, error }];
        }
        if (isAlone) {
          await this.#setAside(batch, error);
          return [];
        }
      }
      await queue.split(batch.id);
    }
    const [first, second] = halves(batch);
    return [...await this.#attempt(first, isolation), ...await this.#attempt(second, isolation)];
  }

  /** Writes the batch behind a record that fails alone, or its first part; returns true if the backend stored it. */
  async #tryNext(): Promise<boolean> {
    const { nextBatch, queue, sink } = this.#parts;
    let next = nextBatch();
    while (next && queue.isSplit(next.id)) [next] = halves(next); // the whole must never be written again
    if (!next) return false;
    try {
      await sink.write(next);
    } catch {
      return false; // its own delivery meets the same and reports it
    }
    this.#commits++;
    return true;
  }

  /** True if a record that failed alone again is at fault, and not the server. */
  #isAtFault({ id }: Batch<T>, { first, alone }: Isolation): boolean {
    const now = performance.now();
    const failure = alone.get(id);
    if (!failure) {
      alone.set(id, { since: now, commits: this.#commits });
      return false;
    }
    return this.#commits > failure.commits ||
      (this.#commits > first!.commits && now - failure.since >= SERVER_FAULT_MS);
  }

  /** Halves what can be halved. While nothing is stored, there are only so many parts, and then one more a round. */
  async #halve(suspects: readonly Suspect<T>[], isServing: boolean): Promise<Batch<T>[]> {
    const largest = Math.max(...suspects.map(({ batch: { records } }) => records.length));
    let allowed = isServing || suspects.length < MAX_PROBES ? Infinity : 1;
    const parts: Batch<T>[] = [];
    for (const { batch } of suspects) {
      const { length } = batch.records;
      if (length === 1 || allowed === 0 || (allowed === 1 && length < largest)) {
        parts.push(batch);
        continue;
      }
      allowed--;
      await this.#parts.queue.split(batch.id);
      parts.push(...halves(batch));
    }
    return parts;
  }

  async #write(batch: Batch<T>, isolation: Isolation): Promise<void> {
    const { sink, pace, onSent } = this.#parts;
    const failures = new Map<FailureKind, number>();
    let start = 0;
    const result = await retry(
      () => {
        start = performance.now();
        return sink.write(batch, onSent);
      },
      pace.options((error) => {
        const kind = kindOf(error);
        const count = (failures.get(kind) ?? 0) + 1;
        failures.set(kind, count);
        this.#onFailure(error, kind);
        if (kind === "unknown") {
          isolation.first ??= { since: start, commits: this.#commits };
          if (performance.now() - isolation.first.since >= SERVER_FAULT_MS) throw error;
        }
        if (count >= maxFailures(kind, batch.records.length === 1)) throw error;
      }),
    );
    this.#onCommitted(result, performance.now() - start);
    for (const { index, error } of result.refused ?? []) {
      await this.#setAside(
        { ...batch, id: `${batch.id}/refused/${index}`, records: [batch.records[index]] },
        error,
      );
    }
  }

  #onFailure(error: unknown, kind: FailureKind): void {
    const { dataset: { name: dataset }, counters, tracker, emit, onFailed } = this.#parts;
    onFailed();
    counters.retries++;
    this.lastError = error;
    if (kind === "operator" || kind === "disk-full" || kind === "unknown") this.alarm.raise(error);
    else emit({ type: "retry", dataset, code: errorCodeOf(error), message: messageOf(error), error });
    if (kind === "operator") tracker.rejectAll(error);
  }

  #onCommitted({ committed, duplicates, restated }: WriteResult, ms: number): void {
    const { counters, latencies } = this.#parts;
    this.#commits++;
    counters.committed += committed;
    counters.duplicates += duplicates;
    counters.restated += restated;
    latencies.add(ms);
    this.#onSettled(committed + duplicates);
  }

  #onSettled(records: number): void {
    const { counters, tracker } = this.#parts;
    this.lastError = undefined;
    this.alarm.clear();
    counters.inFlight -= records;
    tracker.settle(records);
  }

  /** Keeps the record of a batch of one that the backend refuses. Retries for as long as the file cannot be written. */
  async #setAside(
    { id: batchId, dataset, records: [record], members: [member] = [] }: Batch<T>,
    error: unknown,
  ): Promise<void> {
    const { deadLetters, counters, tracker, pace, emit } = this.#parts;
    const message = messageOf(error);
    const code = errorCodeOf(error);
    const sqlState = error instanceof BackendError ? error.sqlState : undefined;
    if (deadLetters) {
      const letter = { batchId, code, sqlState, message, record, member };
      await retry(
        () => deadLetters.append(letter),
        pace.options((failure) => {
          this.alarm.raise(failure);
          tracker.rejectAll(failure);
        }),
      );
    } else counters.lost++;
    counters.deadLettered++;
    this.#onSettled(1);
    const file = deadLetters && { file: deadLetters.path };
    emit({ type: "dead-lettered", dataset: dataset.name, code, message, error, record, ...file });
  }
}

function maxFailures(kind: FailureKind, isAlone: boolean): number {
  if (kind === "timeout" && isAlone) return Infinity; // it is not the record's fault
  return MAX_FAILURES[kind] ?? Infinity;
}

/** Cuts a batch in two, always the same two. */
function halves<T>({ id, dataset, records }: Batch<T>): Batch<T>[] {
  const middle = records.length >> 1;
  return [records.slice(0, middle), records.slice(middle)]
    .map((records, i) => batchOf(`${id}/${i}`, dataset, records));
}
