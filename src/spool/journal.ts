import { claimedLength, decodeFrame, encodeFrame, findMark, type Frame } from "./frame.ts";
import { readAll, replaceFile, syncFolder, writeAll } from "../pipeline/durable_file.ts";

/** A file of the journal. */
export interface Segment {
  /** Its path. */
  readonly path: string;
  /** The bytes that were written whole. */
  bytes: number;
  /** The number of its first record, and the number after its last; equal where it has none. */
  start: number;
  end: number;
  /** Records in it that are nowhere else and were not taken. */
  unread: number;
  /** Batches that are not settled and of which it tells. */
  pins: number;
  /** Keeps the content readable when the file is removed; undefined where too many files are open. */
  file: Deno.FsFile | undefined;
  /** Identifies the file. */
  identity: string;
}

/** Segments that are kept open at most. */
const MAX_OPEN_SEGMENTS = 256;

/** Device and inode of a file; the same for all files where the system has no inodes (Windows). */
export function identityOf({ dev, ino }: Deno.FileInfo): string {
  return ino === null ? "" : `${dev}:${ino}`;
}

/** Part of a segment: a frame, or bytes that are not one. */
export type Piece =
  | { readonly offset: number; readonly length: number; readonly frame: Frame }
  | { readonly offset: number; readonly length: number; readonly frame?: undefined };

const SUFFIX = ".journal";
const NUMBER_LENGTH = 12;
/** Checksums of damaged bytes, in sizes of the file: a file made for that would otherwise take minutes. */
const MAX_SCANS = 64;

/** An append-only sequence of frames in files of a bounded size, of which the oldest can be removed. */
export class Journal {
  /** The files, oldest first. The last is the one that is written, if {@linkcode Journal.active} is. */
  readonly segments: Segment[] = [];
  readonly #folder: string;
  readonly #segmentBytes: number;
  #isWriting = false;
  #number = 0;
  #bytes = 0;
  #isDirty = false;

  /** Names the folder, which must be there. What is in it is found by {@linkcode Journal.find}. */
  constructor(folder: string, segmentBytes: number) {
    this.#folder = folder;
    this.#segmentBytes = segmentBytes;
  }

  /** Bytes in all files. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The segment that is being written, if there is one. */
  get active(): Segment | undefined {
    return this.#isWriting ? this.segments.at(-1) : undefined;
  }

  /** Finds the segments that earlier processes have left. */
  find(): void {
    for (const path of this.files()) {
      const info = Deno.statSync(path);
      const bytes = info.size;
      const file = this.segments.length < MAX_OPEN_SEGMENTS ? openToRead(path) : undefined;
      this.segments.push({
        path,
        bytes,
        start: 0,
        end: 0,
        unread: 0,
        pins: 0,
        file,
        identity: identityOf(info),
      });
      this.#bytes += bytes;
      this.#number = Number(path.slice(-SUFFIX.length - NUMBER_LENGTH, -SUFFIX.length));
    }
  }

  /** The paths of all segments in the folder, oldest first. */
  files(): string[] {
    return [...Deno.readDirSync(this.#folder)]
      .filter(({ isFile, name }) => isFile && /^\d{12}\.journal$/.test(name))
      .map(({ name }) => `${this.#folder}/${name}`).sort();
  }

  /**
   * Adds a frame.
   *
   * @returns Where it stands.
   */
  async append(frame: Frame): Promise<{ segment: Segment; offset: number }> {
    const bytes = encodeFrame(frame);
    const segment = await this.#writable();
    try {
      await writeAll(segment.file!, bytes);
    } catch (error) {
      await this.#giveUp();
      throw error;
    }
    const offset = segment.bytes;
    segment.bytes += bytes.length;
    this.#bytes += bytes.length;
    this.#isDirty = true;
    return { segment, offset };
  }

  /** Has the disk keep what was added. */
  async sync(): Promise<void> {
    const { active } = this;
    if (!this.#isDirty || !active) return;
    this.#isDirty = false;
    try {
      await active.file!.syncData();
    } catch (error) {
      await this.#giveUp(); // whether it is on disk is not known: what was added must be added again
      throw error;
    }
  }

  /** The pieces of a segment from an offset on. */
  async *read(segment: Segment, from = 0): AsyncGenerator<Piece> {
    const bytes = new Uint8Array(segment.bytes - from);
    {
      using file = await Deno.open(segment.path);
      await file.seek(from, Deno.SeekMode.Start);
      for (let length = 0; length < bytes.length;) {
        const read = await file.read(bytes.subarray(length));
        if (read === null) break; // the file was truncated: zeros are not frames
        length += read;
      }
    }
    const scan = { left: MAX_SCANS * bytes.length };
    for (let at = 0; at < bytes.length;) {
      const found = decode(bytes, at, scan);
      const length = found ? found.length : endOfDamage(bytes, at, scan) - at;
      yield { offset: from + at, length, ...(found ? { frame: found.frame } : {}) };
      at += length;
    }
  }

  /** Counts a segment no longer. */
  forget(segment: Segment): void {
    this.segments.splice(this.segments.indexOf(segment), 1);
    this.#bytes -= segment.bytes;
    segment.file?.close();
    segment.file = undefined;
  }

  /** Removes a segment. It is no longer counted from now on, and its file is gone when this resolves. */
  async remove(segment: Segment): Promise<void> {
    this.forget(segment);
    await Deno.remove(segment.path).catch(() => {}); // what stays is found by the next start, and is settled
  }

  /** Cuts a segment of an earlier process off. */
  cut(segment: Segment, bytes: number): void {
    try {
      Deno.truncateSync(segment.path, bytes);
    } catch {
      // then it is found to be damaged the next time as well
    }
    this.#bytes -= segment.bytes - bytes;
    segment.bytes = bytes;
  }

  /** Ends the segment that is being written: only then can it be removed. */
  seal(): void {
    this.#isWriting = false;
  }

  /** Closes all files. */
  close(): void {
    this.seal();
    for (const segment of this.segments) {
      segment.file?.close();
      segment.file = undefined;
    }
  }

  /** True if the path of a segment leads to the file that was written, with all of its bytes. */
  async isInPlace({ path, bytes, identity }: Segment): Promise<boolean> {
    try {
      const info = await Deno.stat(path);
      return info.isFile && info.size >= bytes && identityOf(info) === identity;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
      throw error;
    }
  }

  /**
   * Writes the file of a segment again after it was removed, moved, replaced or cut: from the open file, or else from
   * what is still in memory.
   */
  async restore(segment: Segment, remake: () => Iterable<Frame>): Promise<void> {
    const content = await contentOf(segment) ?? concatenate([...remake()].map(encodeFrame));
    await replaceFile(segment.path, content);
    const file = await Deno.open(segment.path, { read: true, append: true });
    segment.file?.close();
    segment.file = file;
    segment.identity = identityOf(await file.stat());
    this.#bytes += content.length - segment.bytes;
    segment.bytes = content.length;
  }

  async #writable(): Promise<Segment> {
    const active = this.active;
    if (active && active.bytes < this.#segmentBytes) return active;
    await this.sync();
    this.seal();
    const path = `${this.#folder}/${String(++this.#number).padStart(NUMBER_LENGTH, "0")}${SUFFIX}`;
    const file = await Deno.open(path, { read: true, append: true, createNew: true, mode: 0o600 });
    const identity = identityOf(await file.stat());
    const end = this.segments.at(-1)?.end ?? 0;
    const segment = { path, bytes: 0, start: end, end, unread: 0, pins: 0, file, identity };
    this.#closeBeyondLimit();
    this.segments.push(segment);
    this.#isWriting = true;
    await syncFolder(this.#folder);
    return segment;
  }

  #closeBeyondLimit(): void {
    if (this.segments.length < MAX_OPEN_SEGMENTS) return;
    const oldest = this.segments.find(({ file }) => file);
    if (!oldest) return;
    oldest.file?.close();
    oldest.file = undefined;
  }

  /** After a failure: nothing is added behind what may be half a frame. */
  async #giveUp(): Promise<void> {
    const { active } = this;
    await active?.file?.truncate(active.bytes).catch(() => {});
    this.seal();
    if (active?.bytes === 0) await this.remove(active); // on a full disk there would be one for each attempt
  }
}

function openToRead(path: string): Deno.FsFile | undefined {
  try {
    return Deno.openSync(path);
  } catch {
    return undefined; // reading it will fail with the reason
  }
}

/** Reads all that was written into a segment, from its open file; undefined where it is not there any more. */
async function contentOf({ file, bytes }: Segment): Promise<Uint8Array | undefined> {
  if (!file) return undefined;
  try {
    await file.seek(0, Deno.SeekMode.Start);
    const content = await readAll(file);
    return content.length < bytes ? undefined : content.subarray(0, bytes);
  } catch {
    return undefined;
  }
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Decodes the whole frame at an offset, if there is one. What was read in vain counts against the scan. */
function decode(
  bytes: Uint8Array,
  at: number,
  scan: { left: number },
): { readonly frame: Frame; readonly length: number } | undefined {
  const found = decodeFrame(bytes, at);
  if (typeof found === "object" && "frame" in found) return found;
  if (found === "bad") scan.left -= claimedLength(bytes, at);
  return undefined;
}

/** Finds where the next whole frame begins, or the end of the file. */
function endOfDamage(bytes: Uint8Array, from: number, scan: { left: number }): number {
  let at = from;
  do at = findMark(bytes, at + 1); while (at < bytes.length && scan.left > 0 && !decode(bytes, at, scan));
  return scan.left > 0 ? at : bytes.length;
}
