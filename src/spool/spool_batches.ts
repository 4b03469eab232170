import { type Frame, FrameKind } from "./frame.ts";
import type { Journal } from "./journal.ts";
import type { Segment } from "./segment.ts";
import type { SpoolFolder } from "./spool_folder.ts";
import type { SpoolGuard } from "./spool_guard.ts";
import type { RecoveredBatch, RecoveredState } from "./spool_recovery.ts";
import type { SpoolWorker } from "./spool_worker.ts";

/** A batch that is not settled, and the segments that tell of it. */
interface Unsettled {
  readonly id: string;
  readonly first: number;
  readonly end: number;
  /** Time at which it was frozen, in epoch milliseconds. */
  readonly time: number;
  readonly pinned: Segment[];
}

/** Parts of {@linkcode SpoolBatches}. */
export interface BatchesParts {
  readonly folder: SpoolFolder;
  readonly journal: Journal;
  readonly guard: SpoolGuard;
  readonly work: SpoolWorker;
  /** True if notes of a batch are synced before they are used. */
  readonly isSynced: boolean;
  /** Before which record all are settled. */
  readonly settled: number;
  /** Batches of an earlier process. */
  readonly recovered: RecoveredState;
  /** There is room again. */
  readonly onRoom: () => void;
}

/**
 * The batches that are frozen in the journal, until they are settled and their records are removed. A segment stays
 * as long as it tells of a batch that a later process might take for unsettled.
 */
export class SpoolBatches {
  readonly #parts: BatchesParts;
  /** Batches of an earlier process that were not begun with. */
  readonly recovered: RecoveredBatch[];
  readonly #splits: Set<string>;
  readonly #unsettled: Unsettled[] = [];
  /** Batches that are settled, which a later process could not know yet. */
  readonly #settled: Unsettled[] = [];
  #settledTo: number;
  #savedTo: number;
  #saving: Promise<void> | undefined;

  /** Begins with what an earlier process has left. */
  constructor(parts: BatchesParts) {
    const { recovered: { batches, splits }, settled } = parts;
    this.#parts = parts;
    this.recovered = batches;
    this.#splits = splits;
    this.#settledTo = this.#savedTo = settled;
  }

  /** Before which record all are settled. */
  get settledTo(): number {
    return this.#settledTo;
  }

  /** Has a batch be in the journal, for good. */
  async freeze({ id, first, end }: { id: string; first: number; end: number }): Promise<void> {
    const frame = { kind: FrameKind.BATCH, sequence: first, count: end - first, payload: id };
    const time = Date.now();
    this.#unsettled.push({ id, first, end, time, pinned: [await this.#appendFrame(frame)] });
  }

  /** Goes on with a batch that an earlier process has frozen. */
  resume({ id, first, end, time, pinned }: RecoveredBatch): void {
    this.#unsettled.push({ id, first, end, time, pinned });
  }

  /** Returns true if a batch was replaced by its halves. */
  isSplit(batchId: string): boolean {
    return this.#splits.has(batchId);
  }

  /** Has the halves of a batch take its place, for good. */
  async split(batchId: string): Promise<void> {
    const sequence = this.#unsettled[0].end; // says nothing
    const segment = await this.#appendFrame({ kind: FrameKind.SPLIT, sequence, count: 0, payload: batchId });
    this.#splits.add(batchId);
    this.#unsettled[0].pinned.push(segment);
  }

  /** Forgets the oldest batch. */
  settle(): void {
    if (this.#parts.work.isEnded) return; // too late: the next process finds out by itself
    const batch = this.#unsettled.shift()!;
    const { id, end } = batch;
    this.#settled.push(batch);
    for (const split of this.#splits) if (split.startsWith(id)) this.#splits.delete(split);
    this.#settledTo = end;
    this.save();
  }

  /** The frames of a segment that tell of batches that are not settled. */
  *framesIn(segment: Segment): Generator<Frame> {
    for (const { id, first, end, time, pinned } of [...this.#unsettled, ...this.recovered]) {
      if (!pinned.includes(segment)) continue;
      yield { kind: FrameKind.BATCH, sequence: first, count: end - first, time, payload: id };
      for (const split of this.#splits) {
        if (split.startsWith(id)) {
          yield { kind: FrameKind.SPLIT, sequence: end, count: 0, time, payload: split };
        }
      }
    }
  }

  /** Saves up to where all is settled, unless that is done or under way. */
  save(): void {
    this.#saving ??= this.#saveProgress();
  }

  /** Resolves when nothing is being saved. */
  async end(): Promise<void> {
    await this.#saving;
  }

  /** Saves up to where all is settled once more, whether there is news or not. */
  async saveAgain(): Promise<void> {
    this.#savedTo = -1;
    await this.#saveProgress();
  }

  /** Removes the segments that are not needed any more. */
  async removeSettled(): Promise<void> {
    const { segments, active } = this.#parts.journal;
    const settled = segments.filter((segment) => segment !== active && segment.isSettled(this.#savedTo));
    await Promise.all(settled.map((segment) => this.#parts.journal.remove(segment)));
  }

  /** Writes down something about a batch; the segment stays until the caller releases it. */
  #appendFrame(frame: Omit<Frame, "time">): Promise<Segment> {
    const { work, journal, guard, isSynced } = this.#parts;
    return work.persist(async () => {
      const { segment } = await journal.append({ ...frame, time: Date.now() });
      await guard.confirm({ isSynced });
      segment.pin();
      return segment;
    }, { isIntake: false });
  }

  /** Saves up to where all is settled, and removes what is not needed any more, as often as there is news. */
  async #saveProgress(): Promise<void> {
    const { work, folder, onRoom } = this.#parts;
    while (this.#savedTo < this.#settledTo) {
      const settled = this.#settledTo;
      const isSaved = await work.attempt(() => this.#saveCursor(settled));
      if (!isSaved) break; // nothing is lost by that; it is done again with the next batch
      work.clear();
      this.#savedTo = settled;
      while (this.#settled[0]?.end <= settled) {
        for (const segment of this.#settled.shift()!.pinned) segment.unpin();
      }
      await this.removeSettled();
      await work.exclusive(() => folder.keepReserve()).catch(() => {});
      work.tryNow();
      onRoom();
    }
    this.#saving = undefined;
  }

  async #saveCursor(sequence: number): Promise<void> {
    const { folder } = this.#parts;
    try {
      await folder.saveCursor(sequence);
    } catch (error) {
      if (!folder.hasReserve) throw error;
      await folder.releaseReserve();
      await folder.saveCursor(sequence);
    }
  }
}
