import { decodeFrame, encodeFrame, findMark, type Frame } from "./frame.ts";
import { syncFolder, writeAll } from "../pipeline/durable_file.ts";

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
}

/** What stands in a segment: a frame, or bytes that are none. */
export type Piece =
  | { readonly offset: number; readonly length: number; readonly frame: Frame }
  | { readonly offset: number; readonly length: number; readonly frame?: undefined };

const SUFFIX = ".journal";

/** An append-only sequence of frames in files of a bounded size, of which the oldest can be removed. */
export class Journal {
  /** The files, oldest first. The last is the one that is written, if {@linkcode Journal.active} is. */
  readonly segments: Segment[] = [];
  readonly #folder: string;
  readonly #segmentBytes: number;
  #file: Deno.FsFile | undefined;
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
    return this.#file && this.segments.at(-1);
  }

  /** Finds the segments that earlier processes have left. */
  find(): void {
    const names = [...Deno.readDirSync(this.#folder)]
      .filter(({ isFile, name }) => isFile && /^\d{12}\.journal$/.test(name))
      .map(({ name }) => name).sort();
    for (const name of names) {
      const path = `${this.#folder}/${name}`;
      const { size: bytes } = Deno.statSync(path);
      this.segments.push({ path, bytes, start: 0, end: 0, unread: 0, pins: 0 });
      this.#bytes += bytes;
      this.#number = Number(name.slice(0, -SUFFIX.length));
    }
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
      await writeAll(this.#file!, bytes);
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
    if (!this.#isDirty || !this.#file) return;
    this.#isDirty = false;
    try {
      await this.#file.syncData();
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
        if (read === null) break; // somebody has cut it: zeros are no frames
        length += read;
      }
    }
    for (let at = 0; at < bytes.length;) {
      const found = decodeFrame(bytes, at);
      const isFrame = typeof found === "object" && "frame" in found;
      const length = isFrame ? found.length : endOfDamage(bytes, at) - at;
      yield { offset: from + at, length, ...(isFrame ? { frame: found.frame } : {}) };
      at += length;
    }
  }

  /** Counts a segment no longer. */
  forget(segment: Segment): void {
    this.segments.splice(this.segments.indexOf(segment), 1);
    this.#bytes -= segment.bytes;
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
    this.#file?.close();
    this.#file = undefined;
  }

  async #writable(): Promise<Segment> {
    const active = this.active;
    if (active && active.bytes < this.#segmentBytes) return active;
    await this.sync();
    this.seal();
    const path = `${this.#folder}/${String(++this.#number).padStart(12, "0")}${SUFFIX}`;
    this.#file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
    const end = this.segments.at(-1)?.end ?? 0;
    const segment = { path, bytes: 0, start: end, end, unread: 0, pins: 0 };
    this.segments.push(segment);
    await syncFolder(this.#folder);
    return segment;
  }

  /** After a failure: nothing is added behind what may be half a frame. */
  async #giveUp(): Promise<void> {
    const { active } = this;
    await this.#file?.truncate(active?.bytes).catch(() => {});
    this.seal();
    if (active?.bytes === 0) await this.remove(active); // on a full disk there would be one for each attempt
  }
}

/** Where the next whole frame begins, or the end. */
function endOfDamage(bytes: Uint8Array, from: number): number {
  let at = from;
  do at = findMark(bytes, at + 1); while (at < bytes.length && !isWhole(bytes, at));
  return at;
}

function isWhole(bytes: Uint8Array, at: number): boolean {
  const found = decodeFrame(bytes, at);
  return typeof found === "object" && "frame" in found;
}
