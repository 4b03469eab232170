import { setImmediate } from "node:timers";
import { byteLength, type Dataset } from "../records/dataset.ts";
import { Alarm, type EventListener, type SpoolDamagedEvent } from "./events.ts";
import { type Frame, FrameKind } from "./frame.ts";
import { Journal, type Segment } from "./journal.ts";
import {
  type BatchName,
  type FrozenBatch,
  MAX_BATCH_BYTES,
  MAX_BATCH_RECORDS,
  MAX_BUFFERED_BYTES,
  MAX_BUFFERED_RECORDS,
  type Queue,
  type QueueHooks,
} from "./queue.ts";
import { retry } from "./retry.ts";
import { SpoolFolder } from "./spool_folder.ts";
import { findRemains, type FoundBatch, type Remains } from "./spool_remains.ts";
import { type Group, SpoolReader } from "./spool_reader.ts";
import { storageError } from "./storage.ts";

/** When what is written into the spool is made safe against a crash of the machine. */
export type FsyncPolicy = "batch" | "interval" | "none";

/** How a {@linkcode Spool} works. */
export interface SpoolOptions {
  /** The folder of all datasets. */
  directory: string;
  /** The most bytes that it may take. */
  maxBytes: number;
  /** When it is made safe against a crash of the machine. */
  fsync: FsyncPolicy;
  /** Is told of what happens. */
  onEvent: EventListener;
}

/** The most that a frame holds. Smaller frames cost SQLite a tenth of its rate: each sync waits for its writes. */
const MAX_FRAME_RECORDS = 10_000;
const MAX_FRAME_BYTES = 2 ** 22;
const MAX_SEGMENT_BYTES = 16 * 2 ** 20;
/** A segment is an eighth of the spool at the most: it is what can be removed at once. */
const MIN_SEGMENTS = 8;
const SYNC_INTERVAL_MS = 1_000;
const MAX_RETRY_MS = 30_000;

/** Records that wait to be written together, and who waits for that. */
interface Round<T> {
  readonly records: T[];
  bytes: number;
  readonly time: number;
  readonly safe: PromiseWithResolvers<void>;
}

/** Records of a round in a frame, and where that is in its segment. */
interface Written<T> {
  readonly group: Group<T>;
  readonly offset: number;
}

/** What a {@linkcode Spool} is made of. */
interface SpoolParts {
  readonly folder: SpoolFolder;
  readonly journal: Journal;
  readonly options: SpoolOptions;
  readonly settled: number;
  readonly remains: Remains;
}

/** A batch that is not settled, and the segments that tell of it. */
interface Unsettled {
  readonly id: string;
  readonly end: number;
  readonly pinned: Segment[];
}

/**
 * A {@linkcode Queue} on disk: an append-only journal. Records are in it before they count as accepted; one sync
 * serves all who wait. They stay in memory as well, up to the bounds of a buffer, and are read back from disk
 * beyond that. A batch is frozen in the journal with its id before it is first written into the backend, so that
 * a later process writes it again under the same id, by which the backend's ledger knows it.
 *
 * @typeParam T The type of the records.
 */
export class Spool<T> implements Queue<T> {
  readonly isDurable = true;
  readonly #dataset: Dataset<T>;
  readonly #folder: SpoolFolder;
  readonly #journal: Journal;
  readonly #options: SpoolOptions;
  /** Raised while records cannot be written, and while batches cannot be frozen. */
  readonly #intakeAlarm: Alarm;
  readonly #batchAlarm: Alarm;
  readonly #abort = new AbortController();
  readonly #syncTimer: ReturnType<typeof setInterval> | undefined;
  #hooks!: QueueHooks;
  /** The number of the next record that is written. */
  #next: number;
  /** What gathers while a round is being written. A round is one frame. */
  readonly #rounds: Round<T>[] = [];
  #unwritten = 0;
  #unwrittenBytes = 0;
  #oldestUnwritten: number | undefined;
  #writing: Promise<void> | undefined;
  /** Written records that are still in memory, oldest first. */
  #window: Group<T>[] = [];
  #windowRecords = 0;
  #windowBytes = 0;
  /** Written records that are on disk only; they come after those in the window. */
  #onDisk: number;
  #oldestOnDisk: number | undefined;
  readonly #reader: SpoolReader<T>;
  #isReading = false;
  /** The number after the last record that was kept: beyond, the reader may find what is only being written. */
  #keptTo!: number;
  /** What was taken and is in no batch yet, oldest first. */
  readonly #taken: { count: number; readonly end: number }[] = [];
  /** The number after the last record that was taken. */
  #takenTo: number;
  /** Batches of an earlier process. */
  readonly #found: FoundBatch[];
  readonly #splits: Set<string>;
  readonly #unsettled: Unsettled[] = [];
  /** Batches that are settled, which a later process could not know yet. */
  readonly #settled: Unsettled[] = [];
  #settledTo: number;
  #savedTo: number;
  #saving: Promise<void> | undefined;
  /** What the last one who writes into the journal waits for. */
  #turn: Promise<unknown> = Promise.resolve();
  /** Ends the wait before the next attempt to write, where there is one. */
  #tryNow: () => void = () => {};
  #isClosing = false;

  /**
   * Opens the spool of a dataset, and finds what an earlier process has left in it.
   *
   * @throws {BackendError} If the folder cannot be used, or another process uses it.
   */
  static async open<T>(dataset: Dataset<T>, options: SpoolOptions): Promise<Spool<T>> {
    const { directory, onEvent } = options;
    const path = `${directory}/${dataset.name}`;
    let folder: SpoolFolder | undefined;
    try {
      folder = await SpoolFolder.open(path);
      const segmentBytes = Math.min(MAX_SEGMENT_BYTES, options.maxBytes / MIN_SEGMENTS);
      const journal = new Journal(path, segmentBytes);
      const settled = folder.readCursor();
      const remains = await findRemains(journal, {
        settled,
        onDamage(segment, part) {
          const file = folder!.setAside(segment.path, part);
          const { offset, length } = part;
          onEvent(
            damageEvent(dataset, {
              what: `${length} bytes at ${offset} of ${segment.path}`,
              bytes: length,
              file,
            }),
          );
          const isTail = segment === journal.segments.at(-1) && offset + length === segment.bytes;
          if (isTail && file) journal.cut(segment, offset);
        },
        onUnreadable({ path, bytes }) {
          onEvent(damageEvent(dataset, { what: path, bytes, file: folder!.moveAside(path) }));
        },
      });
      const spool = new Spool<T>(dataset, { folder, journal, options, settled, remains });
      await spool.#removeSettled();
      await folder.keepReserve().catch(() => {}); // done again once there is space
      return spool;
    } catch (error) {
      folder?.close();
      throw storageError("open", path, error);
    }
  }

  private constructor(
    dataset: Dataset<T>,
    { folder, journal, options, settled, remains }: SpoolParts,
  ) {
    this.#dataset = dataset;
    this.#folder = folder;
    this.#journal = journal;
    this.#options = options;
    this.#intakeAlarm = new Alarm(dataset.name, options.onEvent);
    this.#batchAlarm = new Alarm(dataset.name, options.onEvent);
    this.#takenTo = this.#settledTo = this.#savedTo = settled;
    this.#next = this.#keptTo = remains.next;
    this.#onDisk = remains.records;
    this.#oldestOnDisk = remains.oldestTime;
    this.#found = remains.batches;
    this.#splits = remains.splits;
    this.#reader = new SpoolReader(journal, settled);
    if (options.fsync === "interval") {
      const sync = () =>
        void this.#exclusive(() => journal.sync()).catch((error) =>
          this.#batchAlarm.raise(storageError("write", folder.path, error))
        );
      this.#syncTimer = setInterval(sync, SYNC_INTERVAL_MS);
    }
  }

  /** Says who takes records out of it. */
  attach(hooks: QueueHooks): this {
    this.#hooks = hooks;
    return this;
  }

  get hasRoom(): boolean {
    return this.#canGather && this.#journal.bytes + this.#unwrittenBytes < this.#options.maxBytes;
  }

  get isBusy(): boolean {
    const hasDisk = this.#journal.bytes + this.#unwrittenBytes < this.#options.maxBytes;
    return !this.#canGather && hasDisk && this.#intakeAlarm.message === undefined;
  }

  get hasMemoryRoom(): boolean {
    return this.#onDisk === 0 && this.#windowRecords + this.#unwritten < MAX_BUFFERED_RECORDS &&
      this.#windowBytes + this.#unwrittenBytes < MAX_BUFFERED_BYTES;
  }

  get #canGather(): boolean {
    return this.#unwritten < MAX_BUFFERED_RECORDS && this.#unwrittenBytes < MAX_BUFFERED_BYTES;
  }

  get isEmpty(): boolean {
    return this.#window.length === 0 && this.#onDisk === 0;
  }

  get isDrained(): boolean {
    return this.isEmpty && this.#unwritten === 0;
  }

  get buffered(): number {
    return this.#windowRecords + this.#unwritten;
  }

  get unsafe(): number {
    return this.#unwritten;
  }

  get spooled(): number {
    return this.#onDisk;
  }

  get bytes(): number {
    return this.#journal.bytes;
  }

  get oldestTime(): number | undefined {
    return this.#window[0]?.time ?? this.#oldestOnDisk ?? this.#oldestUnwritten;
  }

  get alarm(): string | undefined {
    return this.#intakeAlarm.message ?? this.#batchAlarm.message;
  }

  push(record: T): Promise<void> {
    const round = this.#openRound();
    const bytes = byteLength(this.#dataset, record);
    round.records.push(record);
    round.bytes += bytes;
    this.#unwritten++;
    this.#unwrittenBytes += bytes;
    this.#writing ??= this.#writeRounds();
    return round.safe.promise;
  }

  /** The last round while it has room, else a new one. */
  #openRound(): Round<T> {
    const last = this.#rounds.at(-1);
    if (last && last.records.length < MAX_FRAME_RECORDS && last.bytes < MAX_FRAME_BYTES) return last;
    const time = Date.now();
    this.#oldestUnwritten ??= time;
    const round = { records: [], bytes: 0, time, safe: Promise.withResolvers<void>() };
    round.safe.promise.catch(() => {}); // not everybody waits for it
    this.#rounds.push(round);
    return round;
  }

  take(): readonly T[] | Promise<readonly T[]> {
    if (this.#window.length === 0) return this.#readBack();
    const groups: Group<T>[] = [];
    for (let records = 0, bytes = 0; this.#window.length > 0;) {
      const [group] = this.#window;
      records += group.records.length;
      bytes += group.bytes;
      if (groups.length > 0 && (records > MAX_BATCH_RECORDS || bytes > MAX_BATCH_BYTES)) break;
      groups.push(this.#window.shift()!);
      this.#windowRecords -= group.records.length;
      this.#windowBytes -= group.bytes;
    }
    return this.#handOut(groups, { areOnDisk: false });
  }

  /**
   * Gives up whole segments, since only that gives disk back: all that waits up to the end of the oldest segment
   * that holds nothing of a batch on its way.
   */
  dropOldest(): number {
    const { segments, active } = this.#journal;
    const mayGo = (segment: Segment) =>
      segment !== active && segment.pins === 0 && segment.start >= this.#takenTo &&
      segment.end > segment.start;
    const last = segments.findIndex(mayGo);
    // What only waits for the disk to keep up gains nothing by that.
    const isInTime = this.#canGather || this.#intakeAlarm.message !== undefined;
    if (last < 0 || !isInTime || this.#isReading || this.#found.length > 0) return 0;
    const { end } = segments[last];
    let dropped = 0;
    for (; this.#window.length > 0 && this.#window[0].first < end; this.#window.shift()) {
      const { records, bytes } = this.#window[0];
      dropped += records.length;
      this.#windowRecords -= records.length;
      this.#windowBytes -= bytes;
    }
    for (const segment of segments.slice(0, last + 1)) {
      dropped += segment.unread;
      this.#onDisk -= segment.unread;
      segment.unread = 0;
    }
    this.#takenTo = end;
    if (this.#window.length === 0) this.#reader.jump({ segment: segments[last + 1], offset: 0 }, end);
    const removal = this.#journal.remove(segments[last]);
    void this.#exclusive(() => removal).then(() => this.#tryNow());
    return dropped;
  }

  async *frozen(): AsyncGenerator<FrozenBatch<T>> {
    while (this.#found.length > 0) {
      const { id, first, end, pinned } = this.#found[0];
      this.#isReading = true;
      const groups = await this.#readGroups(end);
      if (pinned.length > 0) this.#unsettled.push({ id, end, pinned });
      else if (groups.length > 0) await this.#freezeAs({ id, first, end });
      this.#isReading = false;
      this.#found.shift();
      if (groups.length === 0) {
        if (pinned.length > 0) this.settle();
        continue;
      }
      const records = this.#handOut(groups, { areOnDisk: true });
      this.#taken.length = 0; // it is a batch already
      yield { id, records };
    }
  }

  /** Where records were dropped in between, there are several batches: what was dropped must not come back in one. */
  async freeze(count: number): Promise<BatchName[]> {
    const batches: { id: string; first: number; end: number }[] = [];
    for (let left = count; left > 0;) {
      const [oldest] = this.#taken;
      const first = oldest.end - oldest.count;
      const used = Math.min(left, oldest.count);
      left -= used;
      oldest.count -= used;
      const last = batches.at(-1);
      if (last?.end === first) last.end += used;
      else batches.push({ id: crypto.randomUUID(), first, end: first + used });
      if (oldest.count === 0) this.#taken.shift();
    }
    for (const batch of batches) await this.#freezeAs(batch);
    return batches.map(({ id, first, end }) => ({ id, count: end - first }));
  }

  isSplit(batchId: string): boolean {
    return this.#splits.has(batchId);
  }

  async split(batchId: string): Promise<void> {
    const segment = await this.#note({
      kind: FrameKind.SPLIT,
      sequence: this.#next,
      count: 0,
      payload: batchId,
    });
    this.#splits.add(batchId);
    this.#unsettled[0].pinned.push(segment);
  }

  settle(): void {
    if (this.#abort.signal.aborted) return; // too late: the next process finds out by itself
    const batch = this.#unsettled.shift()!;
    const { id, end } = batch;
    this.#settled.push(batch);
    for (const split of this.#splits) if (split.startsWith(id)) this.#splits.delete(split);
    this.#settledTo = end;
    this.#saving ??= this.#saveProgress();
  }

  async close(): Promise<void> {
    clearInterval(this.#syncTimer);
    this.#isClosing = true;
    if (this.#intakeAlarm.message === undefined) await this.#writing;
    this.#abort.abort(storageError("write", this.#folder.path, new Error("it was closed")));
    await this.#writing;
    await this.#saving;
    if (this.#settledTo === this.#next) this.#journal.seal(); // then all of it can go
    this.#savedTo = -1;
    await this.#saveProgress();
    await this.#exclusive(() => this.#journal.sync()).catch(() => {});
    this.#journal.seal();
    this.#folder.close();
  }

  // --- Writing

  /** Writes round after round, until nobody waits. */
  async #writeRounds(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve)); // those who come in the same turn come along
    while (this.#rounds.length > 0) {
      const round = this.#rounds.shift()!;
      try {
        const written = await this.#persist(() => this.#writeRound(round), { isIntake: true });
        this.#unwritten -= round.records.length;
        this.#unwrittenBytes -= round.bytes;
        this.#oldestUnwritten = this.#rounds[0]?.time;
        this.#keep(written);
        round.safe.resolve();
      } catch (error) {
        this.#giveUp(round, error); // it was closed
        return;
      }
      this.#hooks.onRoom();
      this.#hooks.onReady();
    }
    this.#writing = undefined;
  }

  #giveUp(round: Round<T>, error: unknown): void {
    for (const { safe } of [round, ...this.#rounds.splice(0)]) safe.reject(error);
  }

  async #writeRound({ records, time }: Round<T>): Promise<Written<T>> {
    const first = this.#next;
    const payload = JSON.stringify(records);
    const frame = { kind: FrameKind.RECORDS, sequence: first, count: records.length, time, payload };
    const { segment, offset } = await this.#journal.append(frame);
    await this.#sync();
    this.#next += records.length;
    return { group: { first, records, bytes: payload.length, time, segment }, offset };
  }

  /** Keeps what was written in memory as long as all older records are there as well, and there is room. */
  #keep({ group, offset }: Written<T>): void {
    const { segment, first, records, bytes, time } = group;
    if (segment.end === segment.start) segment.start = first;
    segment.end = this.#keptTo = first + records.length;
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
    segment.unread += records.length;
  }

  async #freezeAs({ id, first, end }: { id: string; first: number; end: number }): Promise<void> {
    const segment = await this.#note({
      kind: FrameKind.BATCH,
      sequence: first,
      count: end - first,
      payload: id,
    });
    this.#unsettled.push({ id, end, pinned: [segment] });
  }

  /** Writes down something about a batch; the segment stays until whoever asked for it lets go of it. */
  #note(frame: Omit<Frame, "time">): Promise<Segment> {
    return this.#persist(async () => {
      const { segment } = await this.#journal.append({ ...frame, time: Date.now() });
      if (this.#options.fsync !== "none") await this.#journal.sync();
      segment.pins++;
      return segment;
    }, { isIntake: false });
  }

  async #sync(): Promise<void> {
    if (this.#options.fsync === "batch") await this.#journal.sync();
  }

  /**
   * Writes until it succeeds, and raises an alarm meanwhile. On a full disk, what is kept back is for batches: only
   * they can make room.
   */
  async #persist<R>(write: () => Promise<R>, { isIntake }: { isIntake: boolean }): Promise<R> {
    const folder = this.#folder;
    const alarm = isIntake ? this.#intakeAlarm : this.#batchAlarm;
    const attempt = async () => {
      try {
        if (isIntake) await folder.keepReserve();
        return await write();
      } catch (cause) {
        const error = storageError("write", folder.path, cause);
        if (isIntake || error.kind !== "disk-full" || !folder.hasReserve) throw error;
        await folder.useReserve();
        return await write();
      }
    };
    const result = await retry(() => this.#exclusive(attempt), {
      signal: this.#abort.signal,
      onFailure: (error) => {
        alarm.raise(error);
        if (this.#isClosing) throw error;
      },
      onWait: (tryNow) => {
        if (isIntake) this.#tryNow = tryNow;
      },
      maxMs: () => MAX_RETRY_MS,
    });
    alarm.clear();
    return result;
  }

  /** Runs something when nobody else works on the files. */
  #exclusive<R>(run: () => Promise<R>): Promise<R> {
    const done = this.#turn.then(run);
    this.#turn = done.catch(() => {});
    return done;
  }

  /** Saves up to where all is settled, and removes what is not needed any more, as often as there is news. */
  async #saveProgress(): Promise<void> {
    while (this.#savedTo < this.#settledTo) {
      const settled = this.#settledTo;
      try {
        await this.#exclusive(() => this.#saveCursor(settled));
      } catch (error) {
        this.#batchAlarm.raise(storageError("write", this.#folder.path, error));
        break; // nothing is lost by that; it is done again with the next batch
      }
      this.#batchAlarm.clear();
      this.#savedTo = settled;
      while (this.#settled[0]?.end <= settled) {
        for (const segment of this.#settled.shift()!.pinned) segment.pins--;
      }
      await this.#removeSettled();
      await this.#exclusive(() => this.#folder.keepReserve()).catch(() => {});
      this.#tryNow();
      this.#hooks.onRoom();
    }
    this.#saving = undefined;
  }

  async #saveCursor(sequence: number): Promise<void> {
    try {
      await this.#folder.saveCursor(sequence);
    } catch (error) {
      if (!this.#folder.hasReserve) throw error;
      await this.#folder.useReserve();
      await this.#folder.saveCursor(sequence);
    }
  }

  async #removeSettled(): Promise<void> {
    const { segments, active } = this.#journal;
    const isSettled = ({ end, pins }: Segment) => end <= this.#savedTo && pins === 0;
    const settled = segments.filter((segment) => segment !== active && isSettled(segment));
    await Promise.all(settled.map((segment) => this.#journal.remove(segment)));
  }

  // --- Reading back

  async #readBack(): Promise<readonly T[]> {
    this.#isReading = true;
    const groups = await this.#readGroups();
    this.#isReading = false;
    return this.#handOut(groups, { areOnDisk: true });
  }

  /** Records from disk: all before a number, or as many as a batch takes. */
  async #readGroups(before = Infinity): Promise<Group<T>[]> {
    const groups: Group<T>[] = [];
    const isEnough = (records: number, bytes: number) =>
      before === Infinity && (records >= MAX_BATCH_RECORDS || bytes >= MAX_BATCH_BYTES);
    for (let records = 0, bytes = 0; records < this.#onDisk && !isEnough(records, bytes);) {
      const group = await this.#read(Math.min(before, this.#keptTo));
      if (!group) {
        if (before === Infinity) this.#giveUpUnread(groups);
        break;
      }
      groups.push(group);
      records += group.records.length;
      bytes += group.bytes;
    }
    return groups;
  }

  #read(before: number): Promise<Group<T> | undefined> {
    return retry(async () => {
      try {
        const group = await this.#reader.next(before);
        this.#batchAlarm.clear();
        return group;
      } catch (cause) {
        throw storageError("read", this.#folder.path, cause);
      }
    }, {
      signal: this.#abort.signal,
      onFailure: (error) => this.#batchAlarm.raise(error),
      maxMs: () => MAX_RETRY_MS,
    });
  }

  /** What should be on disk and is not in these groups is nowhere. */
  #giveUpUnread(groups: readonly Group<T>[]): void {
    const missing = groups.reduce((left, { records }) => left - records.length, this.#onDisk);
    for (const segment of this.#journal.segments) segment.unread = 0;
    for (const { records, segment } of groups) segment.unread += records.length;
    this.#onDisk -= missing;
    this.#hooks.onMissing(missing);
    const message = `Cannot read ${missing} records back from ${this.#folder.path}: they are damaged or gone`;
    this.#options.onEvent({ type: "spool-damaged", dataset: this.#dataset.name, message, bytes: 0 });
  }

  /** At this moment, records leave the queue. */
  #handOut(groups: readonly Group<T>[], { areOnDisk }: { areOnDisk: boolean }): readonly T[] {
    if (groups.length === 0) return [];
    for (const { first, records, segment } of groups) {
      this.#takenTo = first + records.length;
      this.#taken.push({ count: records.length, end: this.#takenTo });
      if (!areOnDisk) continue;
      segment.unread -= records.length;
      this.#onDisk -= records.length;
    }
    if (this.#onDisk === 0) this.#oldestOnDisk = undefined;
    else if (areOnDisk) this.#oldestOnDisk = groups.at(-1)!.time;
    const all = groups.length === 1 ? groups[0].records : groups.flatMap(({ records }) => records);
    this.#hooks.onTaken(all.length, groups[0].time);
    return all;
  }
}

/** What is told of bytes that are no frame. */
function damageEvent(
  { name: dataset }: Dataset<unknown>,
  { what, bytes, file }: { what: string; bytes: number; file: string | undefined },
): SpoolDamagedEvent {
  const message = `Cannot read ${what}: whole frames are wanted; ` +
    (file ? `it is set aside in ${file}` : "it is skipped");
  return { type: "spool-damaged", dataset, message, bytes, ...(file ? { file } : {}) };
}
