import { readAll, replaceFile, writeAll } from "../pipeline/durable_file.ts";
import { concatenate } from "../records/bytes.ts";
import { encodeFrame, type Frame } from "./frame.ts";

/** Device and inode of a file; the same for all files where the system has no inodes (Windows). */
export function identityOf({ dev, ino }: Deno.FileInfo): string {
  return ino === null ? "" : `${dev}:${ino}`;
}

/**
 * A file of the journal, and what is known of its content. It stays as long as it holds records after the cursor, or tells
 * of a batch that a later process might take for unsettled. It is kept open, so that it can be restored when it is removed.
 */
export class Segment {
  readonly path: string;
  #file: Deno.FsFile | undefined;
  #identity: string;
  #bytes: number;
  /** The number of its first record, and the number after its last; equal if it has none. */
  #start: number;
  #end: number;
  /** Records that are nowhere else and were not taken. */
  #unread = 0;
  /** Batches that are not settled and of which it tells. */
  #pins = 0;

  /** Creates a file for records from a number on. */
  static async create(path: string, next: number): Promise<Segment> {
    const file = await Deno.open(path, { read: true, append: true, createNew: true, mode: 0o600 });
    return new Segment(path, { file, info: await file.stat(), next });
  }

  /** Finds a file of an earlier process. */
  static find(path: string, { isKeptOpen }: { isKeptOpen: boolean }): Segment {
    let file: Deno.FsFile | undefined;
    try {
      if (isKeptOpen) file = Deno.openSync(path);
    } catch {
      // reading it will fail with the reason
    }
    return new Segment(path, { file, info: Deno.statSync(path), next: 0 });
  }

  private constructor(
    path: string,
    { file, info, next }: { file: Deno.FsFile | undefined; info: Deno.FileInfo; next: number },
  ) {
    this.path = path;
    this.#file = file;
    this.#identity = identityOf(info);
    this.#bytes = info.size;
    this.#start = this.#end = next;
  }

  /** Bytes that were written whole. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The number after its last record. */
  get end(): number {
    return this.#end;
  }

  get isOpen(): boolean {
    return this.#file !== undefined;
  }

  /** True if a file is this one. */
  isSameFile(info: Deno.FileInfo): boolean {
    return identityOf(info) === this.#identity;
  }

  /** True if nothing in it is needed once all records before a number are settled. */
  isSettled(before: number): boolean {
    return this.#end <= before && this.#pins === 0;
  }

  /** True if it has records, none before a number, and no batch pins it. */
  isDroppable(from: number): boolean {
    return this.#pins === 0 && this.#start >= from && this.#end > this.#start;
  }

  /** Notes records that it holds. */
  addRecords(first: number, end: number): void {
    if (this.#end === this.#start) this.#start = first;
    this.#end = Math.max(this.#end, end);
  }

  /** Adds to the unread records, or subtracts. */
  addUnread(records: number): void {
    this.#unread += records;
  }

  /** Forgets the unread records; gives how many. */
  clearUnread(): number {
    const unread = this.#unread;
    this.#unread = 0;
    return unread;
  }

  /** Keeps the segment for a batch that is not settled. */
  pin(): void {
    this.#pins++;
  }

  /** Ends a {@linkcode Segment.pin}. */
  unpin(): void {
    this.#pins--;
  }

  /** Appends a frame; gives where it begins. */
  async append(frame: Uint8Array): Promise<number> {
    await writeAll(this.#file!, frame);
    const offset = this.#bytes;
    this.#bytes += frame.length;
    return offset;
  }

  /** Syncs what was appended. */
  async sync(): Promise<void> {
    await this.#file!.syncData();
  }

  /** Removes what may be half a frame after a failure. */
  async discardTail(): Promise<void> {
    await this.#file?.truncate(this.#bytes).catch(() => {});
  }

  /** Cuts off what follows after so many bytes. */
  cut(bytes: number): void {
    try {
      Deno.truncateSync(this.path, bytes);
    } catch {
      // then it is found to be damaged the next time as well
    }
    this.#bytes = bytes;
  }

  /** True if the path leads to the file that was written, with all of its bytes. */
  async isInPlace(): Promise<boolean> {
    try {
      const info = await Deno.stat(this.path);
      return info.isFile && info.size >= this.#bytes && this.isSameFile(info);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
      throw error;
    }
  }

  /** Writes the file again: from the open file, or else from what is still in memory. */
  async restore(framesInMemory: () => Iterable<Frame>): Promise<void> {
    const content = await this.#content() ?? concatenate([...framesInMemory()].map(encodeFrame));
    await replaceFile(this.path, content);
    const file = await Deno.open(this.path, { read: true, append: true });
    this.close();
    this.#file = file;
    this.#identity = identityOf(await file.stat());
    this.#bytes = content.length;
  }

  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  /** All that was written, from the open file; undefined if it is not there any more. */
  async #content(): Promise<Uint8Array | undefined> {
    try {
      await this.#file?.seek(0, Deno.SeekMode.Start);
      const content = this.#file && await readAll(this.#file);
      return content && content.length >= this.#bytes ? content.subarray(0, this.#bytes) : undefined;
    } catch {
      return undefined;
    }
  }
}
