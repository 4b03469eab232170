import type { Frame } from "./frame.ts";
import type { Journal } from "./journal.ts";
import type { Segment } from "./segment.ts";
import {
  MAX_BATCH_BYTES,
  MAX_BATCH_RECORDS,
  MAX_BUFFERED_BYTES,
  MAX_BUFFERED_RECORDS,
  type QueueHooks,
} from "../pipeline/queue.ts";
import { recordFrames } from "./record_frames.ts";
import type { WrittenGroup } from "./spool_intake.ts";
import { type Group, SpoolReader } from "./spool_reader.ts";
import type { RecoveredState } from "./spool_recovery.ts";
import type { SpoolWorker } from "./spool_worker.ts";

/** Parts of a {@linkcode SpoolBacklog}. */
export interface BacklogParts extends Pick<QueueHooks, "onTaken" | "onMissing"> {
  readonly journal: Journal;
  readonly work: SpoolWorker;
  /** Before which record all are settled. */
  readonly settled: number;
  /** Records of an earlier process. */
  readonly recovered: RecoveredState;
}

/** A run of records by their numbers: from `first` to before `end`. */
export interface Run {
  readonly first: number;
  end: number;
}

/**
 * Written records that wait for their batch, oldest first: in memory up to the bounds of a buffer, and on disk only
 * beyond that.
 */
export class SpoolBacklog<T> {
  readonly #parts: BacklogParts;
  readonly #reader: SpoolReader<T>;
  /** Records in memory; all are older than those on disk only. */
  readonly #window: Group<T>[] = [];
  #windowRecords = 0;
  #windowBytes = 0;
  #onDisk: number;
  #oldestOnDisk: number | undefined;
  #isReading = false;
  /** The number after the last record that was kept: beyond, the reader may find what is only being written. */
  #writtenTo: number;
  /** The number after the last record that was taken. */
  #takenTo: number;
  /** Records that were taken and are not settled, oldest first. */
  readonly #unsettled: Group<T>[] = [];
  /** Records that were taken and are in no batch yet, oldest first. */
  readonly #taken: { count: number; readonly end: number }[] = [];

  /** Begins with what an earlier process has left. */
  constructor(parts: BacklogParts) {
    const { journal, settled, recovered } = parts;
    this.#parts = parts;
    this.#reader = new SpoolReader(journal, settled);
    this.#onDisk = recovered.records;
    this.#oldestOnDisk = recovered.oldestTime;
    this.#writtenTo = recovered.next;
    this.#takenTo = settled;
  }

  /** Records in memory. */
  get inMemory(): number {
    return this.#windowRecords;
  }

  /** The same in bytes. */
  get bytesInMemory(): number {
    return this.#windowBytes;
  }

  /** Records on disk only. */
  get onDisk(): number {
    return this.#onDisk;
  }

  /** True if there is nothing to take. */
  get isEmpty(): boolean {
    return this.#window.length === 0 && this.#onDisk === 0;
  }

  /** Time at which the oldest record was accepted, in epoch milliseconds. */
  get oldestTime(): number | undefined {
    return this.#window[0]?.time ?? this.#oldestOnDisk;
  }

  /** Keeps what was written in memory as long as all older records are there as well, and there is room. */
  add({ group, offset }: WrittenGroup<T>): void {
    const { segment, first, records, bytes, time } = group;
    this.#writtenTo = first + records.length;
    segment.addRecords(first, this.#writtenTo);
    const fits = this.#windowRecords + records.length <= MAX_BUFFERED_RECORDS &&
      this.#windowBytes + bytes <= MAX_BUFFERED_BYTES;
    if (this.#onDisk === 0 && fits) {
      this.#window.push(group);
      this.#windowRecords += records.length;
      this.#windowBytes += bytes;
      return;
    }
    if (this.#onDisk === 0) {
      this.#reader.jump({ segment, offset }, first);
      this.#oldestOnDisk = time;
    }
    this.#onDisk += records.length;
    segment.addUnread(records.length);
  }

  /** Gives the oldest records, up to the bounds of a batch. */
  take(): readonly T[] | Promise<readonly T[]> {
    if (this.#window.length === 0) return this.#readBack();
    const groups: Group<T>[] = [];
    for (let records = 0, bytes = 0; this.#window.length > 0;) {
      const [group] = this.#window;
      records += group.records.length;
      bytes += group.bytes;
      if (groups.length > 0 && (records > MAX_BATCH_RECORDS || bytes > MAX_BATCH_BYTES)) break;
      groups.push(this.#shiftWindow());
    }
    return this.#dequeue(groups, { areOnDisk: false });
  }

  /** The records before a number that an earlier process has made a batch. */
  async takeBatch(end: number): Promise<readonly T[]> {
    const records = await this.#readBack(end);
    this.#taken.length = 0; // they are in their batch already
    return records;
  }

  /** Forgets what is settled: all before a number. */
  forget(settledTo: number): void {
    const kept = this.#unsettled.findIndex(({ first, records }) => first + records.length > settledTo);
    this.#unsettled.splice(0, kept < 0 ? Infinity : kept);
  }

  /** The frames of a segment whose records are still in memory. */
  *framesIn(target: Segment): Generator<Frame> {
    for (const group of [...this.#unsettled, ...this.#window]) {
      if (group.segment === target) yield* recordFrames(group);
    }
  }

  /** The next so many of the records that were taken. Where some were dropped in between, there are several runs. */
  cutTaken(count: number): Run[] {
    const runs: Run[] = [];
    for (let left = count; left > 0;) {
      const [oldest] = this.#taken;
      const first = oldest.end - oldest.count;
      const used = Math.min(left, oldest.count);
      left -= used;
      oldest.count -= used;
      const last = runs.at(-1);
      if (last?.end === first) last.end += used;
      else runs.push({ first, end: first + used });
      if (oldest.count === 0) this.#taken.shift();
    }
    return runs;
  }

  /**
   * Gives up whole segments, since only that gives disk back: all that waits up to the end of the oldest segment
   * that holds nothing of a batch on its way. Gives how many records that were.
   */
  dropOldest(): number {
    const { segments, active } = this.#parts.journal;
    const last = segments.findIndex((segment) => segment !== active && segment.isDroppable(this.#takenTo));
    if (last < 0 || this.#isReading) return 0;
    const { end } = segments[last];
    let dropped = 0;
    while (this.#window.length > 0 && this.#window[0].first < end) {
      dropped += this.#shiftWindow().records.length;
    }
    for (const segment of segments.slice(0, last + 1)) {
      const unread = segment.clearUnread();
      dropped += unread;
      this.#onDisk -= unread;
    }
    this.#takenTo = end;
    if (this.#window.length === 0) this.#reader.jump({ segment: segments[last + 1], offset: 0 }, end);
    this.#remove(segments[last]);
    return dropped;
  }

  #remove(segment: Segment): void {
    const { journal, work } = this.#parts;
    const removal = journal.remove(segment);
    void work.exclusive(() => removal).then(() => work.tryNow());
  }

  #shiftWindow(): Group<T> {
    const group = this.#window.shift()!;
    this.#windowRecords -= group.records.length;
    this.#windowBytes -= group.bytes;
    return group;
  }

  /** Records from disk: all before a number, or as many as a batch takes. */
  async #readBack(before = Infinity): Promise<readonly T[]> {
    this.#isReading = true;
    const groups: Group<T>[] = [];
    const isEnough = (records: number, bytes: number) =>
      before === Infinity && (records >= MAX_BATCH_RECORDS || bytes >= MAX_BATCH_BYTES);
    for (let records = 0, bytes = 0; records < this.#onDisk && !isEnough(records, bytes);) {
      const group = await this.#parts.work.read(() => this.#reader.next(Math.min(before, this.#writtenTo)));
      if (!group) {
        if (before === Infinity) this.#discardUnread(groups);
        break;
      }
      groups.push(group);
      records += group.records.length;
      bytes += group.bytes;
    }
    this.#isReading = false;
    return this.#dequeue(groups, { areOnDisk: true });
  }

  /** Records that should be on disk and are in none of these groups are lost. */
  #discardUnread(groups: readonly Group<T>[]): void {
    const missing = groups.reduce((left, { records }) => left - records.length, this.#onDisk);
    for (const segment of this.#parts.journal.segments) segment.clearUnread();
    for (const { records, segment } of groups) segment.addUnread(records.length);
    this.#onDisk -= missing;
    this.#parts.onMissing(missing);
  }

  /** Notes that records leave the queue now. */
  #dequeue(groups: readonly Group<T>[], { areOnDisk }: { areOnDisk: boolean }): readonly T[] {
    if (groups.length === 0) return [];
    for (const group of groups) {
      const { first, records, segment } = group;
      this.#takenTo = first + records.length;
      this.#taken.push({ count: records.length, end: this.#takenTo });
      this.#unsettled.push(group);
      if (!areOnDisk) continue;
      segment.addUnread(-records.length);
      this.#onDisk -= records.length;
    }
    if (this.#onDisk === 0) this.#oldestOnDisk = undefined;
    else if (areOnDisk) this.#oldestOnDisk = groups.at(-1)!.time;
    const all = groups.length === 1 ? groups[0].records : groups.flatMap(({ records }) => records);
    this.#parts.onTaken(all.length, groups[0].time);
    return all;
  }
}
