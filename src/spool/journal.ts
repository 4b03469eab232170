import { claimedLength, decodeFrame, encodeFrame, findMark, type Frame } from "./frame.ts";
import { syncFolder } from "../pipeline/durable_file.ts";
import { concatenate } from "../records/bytes.ts";
import { Segment } from "./segment.ts";

/** Segments that are kept open at most. */
const MAX_OPEN_SEGMENTS = 256;

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
      const segment = Segment.find(path, { isKeptOpen: this.segments.length < MAX_OPEN_SEGMENTS });
      this.segments.push(segment);
      this.#bytes += segment.bytes;
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
   * Adds frames, one directly behind the other.
   *
   * @returns Where the first stands.
   */
  async append(...frames: readonly Frame[]): Promise<{ segment: Segment; offset: number }> {
    const bytes = frames.length === 1 ? encodeFrame(frames[0]) : concatenate(frames.map(encodeFrame));
    const segment = await this.#writable();
    try {
      const offset = await segment.append(bytes);
      this.#bytes += bytes.length;
      this.#isDirty = true;
      return { segment, offset };
    } catch (error) {
      await this.#giveUp();
      throw error;
    }
  }

  /** Has the disk keep what was added. */
  async sync(): Promise<void> {
    const { active } = this;
    if (!this.#isDirty || !active) return;
    this.#isDirty = false;
    try {
      await active.sync();
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
    segment.close();
  }

  /** Removes a segment. It is no longer counted from now on, and its file is gone when this resolves. */
  async remove(segment: Segment): Promise<void> {
    this.forget(segment);
    await Deno.remove(segment.path).catch(() => {}); // what stays is found by the next start, and is settled
  }

  /** Cuts a segment of an earlier process off. */
  cut(segment: Segment, bytes: number): void {
    this.#bytes -= segment.bytes - bytes;
    segment.cut(bytes);
  }

  /** Ends the segment that is being written: only then can it be removed. */
  seal(): void {
    this.#isWriting = false;
  }

  close(): void {
    this.seal();
    for (const segment of this.segments) segment.close();
  }

  /** Writes the file of a segment again: from the open file, or else from what is still in memory. */
  async restore(segment: Segment, framesInMemory: () => Iterable<Frame>): Promise<void> {
    const before = segment.bytes;
    await segment.restore(framesInMemory);
    this.#bytes += segment.bytes - before;
  }

  async #writable(): Promise<Segment> {
    const active = this.active;
    if (active && active.bytes < this.#segmentBytes) return active;
    await this.sync();
    this.seal();
    const path = `${this.#folder}/${String(++this.#number).padStart(NUMBER_LENGTH, "0")}${SUFFIX}`;
    const segment = await Segment.create(path, this.segments.at(-1)?.end ?? 0);
    this.#closeBeyondLimit();
    this.segments.push(segment);
    this.#isWriting = true;
    await syncFolder(this.#folder);
    return segment;
  }

  #closeBeyondLimit(): void {
    if (this.segments.length < MAX_OPEN_SEGMENTS) return;
    this.segments.find(({ isOpen }) => isOpen)?.close();
  }

  /** After a failure: nothing is added behind what may be half a frame. */
  async #giveUp(): Promise<void> {
    const { active } = this;
    await active?.discardTail();
    this.seal();
    if (active?.bytes === 0) await this.remove(active); // on a full disk there would be one for each attempt
  }
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
