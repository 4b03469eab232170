import { restoreOrigins } from "../pipeline/members.ts";
import type { Member } from "../pipeline/sink.ts";
import { FrameKind } from "./frame.ts";
import type { Journal, Piece } from "./journal.ts";
import { decodeMembers } from "./record_frames.ts";
import type { Segment } from "./segment.ts";

/** Records that were accepted together. */
export interface Group<T> {
  /** The number of the first of them. */
  readonly first: number;
  /** The records. */
  readonly records: readonly T[];
  /** The bytes that they took. */
  readonly bytes: number;
  /** Time at which they were accepted, in epoch milliseconds. */
  readonly time: number;
  /** Position on disk. */
  readonly segment: Segment;
}

/** Reads the records of a journal back, in their order, each once. */
export class SpoolReader<T> {
  readonly #journal: Journal;
  #segment: Segment | undefined;
  #offset = 0;
  #pieces: AsyncGenerator<Piece> | undefined;
  /** Number of the next record to read. */
  #nextSequence: number;
  #peeked: Group<T> | undefined;
  /** Members of the records whose frame begins at an offset. */
  #members:
    | { readonly of: readonly Member[]; readonly segment: Segment; readonly offset: number }
    | undefined;

  /** Makes a reader that begins with the first record from a number on. */
  constructor(journal: Journal, nextSequence: number) {
    this.#journal = journal;
    this.#nextSequence = nextSequence;
  }

  /** Goes on at another place, with a record from a number on. */
  jump({ segment, offset }: { segment: Segment | undefined; offset: number }, next: number): void {
    this.#segment = segment;
    this.#offset = offset;
    this.#pieces = undefined;
    this.#peeked = undefined;
    this.#nextSequence = next;
  }

  /** The next records, of those before a number; undefined where there are none. */
  async next(before = Infinity): Promise<Group<T> | undefined> {
    const group = this.#peeked ?? await this.#read();
    this.#peeked = undefined;
    if (!group) return undefined;
    const fitting = before - group.first;
    if (fitting >= group.records.length) return group;
    this.#peeked = fitting <= 0 ? group : { ...group, first: before, records: group.records.slice(fitting) };
    return fitting <= 0 ? undefined : { ...group, records: group.records.slice(0, fitting) };
  }

  async #read(): Promise<Group<T> | undefined> {
    for (;;) {
      this.#segment ??= this.#journal.segments[0];
      const segment = this.#segment;
      if (!segment) return undefined;
      const piece = await this.#nextPiece(segment);
      if (piece) {
        const group = this.#groupIn(segment, piece);
        if (group) return group;
        continue;
      }
      if (this.#offset < segment.bytes) continue; // more was written meanwhile
      const next = this.#journal.segments[this.#journal.segments.indexOf(segment) + 1];
      if (!next) return undefined;
      this.#segment = next;
      this.#offset = 0;
    }
  }

  async #nextPiece(segment: Segment): Promise<Piece | undefined> {
    if (this.#offset >= segment.bytes) return undefined;
    this.#pieces ??= this.#journal.read(segment, this.#offset);
    try {
      const { value } = await this.#pieces.next();
      if (value) this.#offset = value.offset + value.length;
      else this.#pieces = undefined;
      return value ?? undefined;
    } catch (error) {
      this.#pieces = undefined; // it may be read the next time: a file that is gone is written again
      throw error;
    }
  }

  #groupIn(segment: Segment, { frame, offset, length }: Piece): Group<T> | undefined {
    if (frame?.kind === FrameKind.MEMBERS) {
      this.#members = { of: decodeMembers(frame.payload), segment, offset: offset + length };
    }
    if (frame?.kind !== FrameKind.RECORDS) return undefined;
    const end = frame.sequence + frame.count;
    if (end <= this.#nextSequence) return undefined; // written twice, or settled
    const known = Math.max(0, this.#nextSequence - frame.sequence);
    this.#nextSequence = end;
    const records: T[] = JSON.parse(frame.payload);
    const members = this.#members;
    if (members?.segment === segment && members.offset === offset) restoreOrigins(records, members.of);
    return {
      first: frame.sequence + known,
      records: known > 0 ? records.slice(known) : records,
      bytes: length,
      time: frame.time,
      segment,
    };
  }
}
