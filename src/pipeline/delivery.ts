import { type FailureKind, kindOf } from "../errors.ts";
import type { Queue } from "./queue.ts";
import { retry, type RetryOptions } from "./retry.ts";
import type { Batch, Sink, WriteResult } from "./sink.ts";

/** What goes with a {@linkcode Delivery}. */
export interface DeliveryOptions<T> extends RetryOptions {
  /** Where batches are written. */
  sink: Sink;
  /** Remembers which batches were split. */
  queue: Pick<Queue<T>, "isSplit" | "split">;
  /** The backend has all of a batch; what becomes of it is not known yet. */
  onSent: () => void;
  /** Records of a batch were written. */
  onCommitted: (result: WriteResult, ms: number) => void;
  /** A batch of one record that nobody will ever take; whoever resolves this has seen to it that it is not lost. */
  setAside: (batch: Batch<T>, error: unknown) => Promise<void>;
}

/**
 * How often a batch may fail before it is split, or set aside where it is a single record. What is not named is
 * tried again without an end.
 */
const MOST_FAILURES: Partial<Record<FailureKind, number>> = { data: 1, timeout: 2, unknown: 5 };

/**
 * Writes batches until they are stored, and isolates records that are refused: a batch that cannot be stored as
 * it is gets split, until the bad records stand alone. The id of a half follows from that of the whole, and that
 * it was split is remembered before a half is written: whole and halves know nothing of each other in the ledger,
 * so nobody may ever write the whole again.
 *
 * @typeParam T The type of the records.
 */
export class Delivery<T> {
  readonly #options: DeliveryOptions<T>;

  /** Makes it; it does nothing by itself. */
  constructor(options: DeliveryOptions<T>) {
    this.#options = options;
  }

  /** Resolves when nothing of the batch is left to do; rejects only when the signal ends it. */
  async deliver(batch: Batch<T>, isHalf = false): Promise<void> {
    const { queue, setAside, signal } = this.#options;
    if (batch.records.length === 0) return;
    if (!queue.isSplit(batch.id)) {
      try {
        return await this.#write(batch, isHalf);
      } catch (error) {
        signal.throwIfAborted();
        if (batch.records.length === 1) return await setAside(batch, error);
      }
      await queue.split(batch.id);
    }
    for (const half of halves(batch)) await this.deliver(half, true);
  }

  async #write(batch: Batch<T>, isHalf: boolean): Promise<void> {
    const { sink, onSent, onCommitted, ...retries } = this.#options;
    const failures = new Map<FailureKind, number>();
    let start = 0;
    const result = await retry(() => {
      start = performance.now();
      return sink.write(batch, onSent);
    }, {
      ...retries,
      onFailure(error) {
        const kind = kindOf(error);
        const count = (failures.get(kind) ?? 0) + 1;
        failures.set(kind, count);
        retries.onFailure(error);
        if (count >= mostFailures(kind, { isAlone: batch.records.length === 1, isHalf })) throw error;
      },
    });
    onCommitted(result, performance.now() - start);
  }
}

function mostFailures(kind: FailureKind, { isAlone, isHalf }: { isAlone: boolean; isHalf: boolean }): number {
  if (kind === "timeout" && isAlone) return Infinity; // it is not the record's fault
  if (kind === "unknown" && isHalf) return 1; // the whole was tried often enough
  return MOST_FAILURES[kind] ?? Infinity;
}

/** A batch as two, always the same two. */
function halves<T>({ id, dataset, records }: Batch<T>): Batch<T>[] {
  const middle = records.length >> 1;
  return [records.slice(0, middle), records.slice(middle)].map((records, i) => ({
    id: `${id}/${i}`,
    dataset,
    records,
  }));
}
