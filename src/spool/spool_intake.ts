import { setImmediate } from "node:timers";
import type { Dataset } from "../records/dataset.ts";
import { recordFrames } from "./record_frames.ts";
import type { Journal } from "./journal.ts";
import { MAX_BUFFERED_BYTES, MAX_BUFFERED_RECORDS } from "../pipeline/queue.ts";
import type { SpoolGuard } from "./spool_guard.ts";
import type { Group } from "./spool_reader.ts";
import type { SpoolWorker } from "./spool_worker.ts";

/** The most that a frame holds. Smaller frames cost SQLite a tenth of its rate: each sync waits for its writes. */
const MAX_FRAME_RECORDS = 10_000;
const MAX_FRAME_BYTES = 2 ** 22;

/** Records that one frame and one sync will write, and the promise of their callers. */
interface CommitGroup<T> {
  readonly records: T[];
  bytes: number;
  readonly time: number;
  readonly written: PromiseWithResolvers<void>;
}

/** Records of a group in a frame, and where that is in its segment. */
export interface WrittenGroup<T> {
  readonly group: Group<T>;
  /** Start of their frame. */
  readonly offset: number;
}

/** Parts of a {@linkcode SpoolIntake}. */
export interface IntakeParts<T> {
  readonly journal: Journal;
  readonly guard: SpoolGuard;
  readonly work: SpoolWorker;
  /** True if each frame is synced before its records count as written. */
  readonly isSynced: boolean;
  readonly next: number;
  /** Is handed what was written. */
  readonly onWritten: (written: WrittenGroup<T>) => void;
}

/** Group commit: records that arrive while a group is written form the next one, with one frame and one sync. */
export class SpoolIntake<T> {
  readonly #dataset: Dataset<T>;
  readonly #parts: IntakeParts<T>;
  readonly #groups: CommitGroup<T>[] = [];
  #next: number;
  #records = 0;
  #bytes = 0;
  #oldestTime: number | undefined;
  #writing: Promise<void> | undefined;

  constructor(dataset: Dataset<T>, parts: IntakeParts<T>) {
    this.#dataset = dataset;
    this.#parts = parts;
    this.#next = parts.next;
  }

  /** The number of the next record that is written. */
  get next(): number {
    return this.#next;
  }

  /** Records that are not written yet. */
  get records(): number {
    return this.#records;
  }

  /** The same in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Time at which the oldest of them came, in epoch milliseconds. */
  get oldestTime(): number | undefined {
    return this.#oldestTime;
  }

  /** True if more records may gather. */
  get hasRoom(): boolean {
    return this.#records < MAX_BUFFERED_RECORDS && this.#bytes < MAX_BUFFERED_BYTES;
  }

  /** Takes a record in. The promise resolves when it is written. */
  push(record: T, bytes: number): Promise<void> {
    const group = this.#openGroup();
    group.records.push(record);
    group.bytes += bytes;
    this.#records++;
    this.#bytes += bytes;
    this.#writing ??= this.#writeGroups();
    return group.written.promise;
  }

  /** Resolves when no caller waits any more: all records are written or given up. */
  async end(): Promise<void> {
    await this.#writing;
  }

  /** The last group while it has room, else a new one. */
  #openGroup(): CommitGroup<T> {
    const last = this.#groups.at(-1);
    if (last && last.records.length < MAX_FRAME_RECORDS && last.bytes < MAX_FRAME_BYTES) return last;
    const time = Date.now();
    this.#oldestTime ??= time;
    const group = { records: [], bytes: 0, time, written: Promise.withResolvers<void>() };
    group.written.promise.catch(() => {}); // a caller may ignore it
    this.#groups.push(group);
    return group;
  }

  /** Writes groups one after the other until no caller waits. */
  async #writeGroups(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve)); // records of the same turn join the group
    while (this.#groups.length > 0) {
      const group = this.#groups.shift()!;
      let written: WrittenGroup<T>;
      try {
        written = await this.#parts.work.persist(() => this.#write(group), { isIntake: true });
      } catch (error) {
        for (const { written } of [group, ...this.#groups.splice(0)]) written.reject(error); // it was closed
        return;
      }
      this.#records -= group.records.length;
      this.#bytes -= group.bytes;
      this.#oldestTime = this.#groups[0]?.time;
      group.written.resolve();
      this.#parts.onWritten(written);
    }
    this.#writing = undefined;
  }

  async #write({ records, time }: CommitGroup<T>): Promise<WrittenGroup<T>> {
    const { journal, guard, isSynced } = this.#parts;
    const first = this.#next;
    const frames = recordFrames({ first, records, time });
    const { segment, offset } = await journal.append(...frames);
    await guard.confirm({ isSynced });
    this.#next += records.length;
    return { group: { first, records, bytes: frames.at(-1)!.payload.length, time, segment }, offset };
  }
}
