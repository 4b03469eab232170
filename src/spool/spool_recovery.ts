import { setTimeout } from "node:timers/promises";
import { type Frame, FrameKind } from "./frame.ts";
import type { Journal, Piece } from "./journal.ts";
import type { Segment } from "./segment.ts";

/**
 * Numbers that are left out after damage: what cannot be read may have had them, and may come back by hand. No later
 * record may have the number of an earlier one.
 */
const SKIPPED_NUMBERS = 2 ** 32;
/** Attempts to open a file: a process may briefly have too many open files. */
const READ_ATTEMPTS = 3;
const READ_WAIT_MS = 100;
/** The largest file that is read. A segment has 16 MiB and a frame; anything larger was not written by a spool. */
const MAX_READABLE_BYTES = 2 ** 28;

export interface Part {
  /** Start position. */
  readonly offset: number;
  /** Its bytes. */
  readonly length: number;
}

/** A batch of an earlier process: the records from `first` to before `end`. */
export interface RecoveredBatch {
  readonly id: string;
  /** The number of its first record. */
  readonly first: number;
  /** The number after its last record. */
  readonly end: number;
  /** Time at which it was frozen, in epoch milliseconds; it was not written before. */
  readonly time: number;
  /** The segments that tell of it; none where its frame was damaged. */
  readonly pinned: Segment[];
}

/** Content of a journal that earlier processes left. */
export interface RecoveredState {
  /** The batches that are not known to be settled, oldest first. */
  readonly batches: RecoveredBatch[];
  /** Those of them, and of their parts, that were split. */
  readonly splits: Set<string>;
  /** Number of records that are not settled. */
  records: number;
  /** Time at which the oldest of them was accepted, in epoch milliseconds. */
  oldestTime: number | undefined;
  /** The number of the next record. */
  next: number;
}

/**
 * Finds what earlier processes have left. Of the segments it notes what records they hold and which tell of batches.
 *
 * @param journal The journal, not looked at before.
 * @param options Before which record all are settled, and who is told of bytes that are no frame
 * and of files that cannot be read.
 * @returns What there is.
 */
export async function recoverJournal(
  journal: Journal,
  { settled, onDamage, onUnreadable }: {
    settled: number;
    onDamage: (segment: Segment, part: Part) => void;
    onUnreadable: (segment: Segment) => void;
  },
): Promise<RecoveredState> {
  const state: RecoveredState = {
    batches: [],
    splits: new Set(),
    records: 0,
    oldestTime: undefined,
    next: settled,
  };
  journal.find();
  let isDamaged = false;
  for (const segment of [...journal.segments]) {
    const pieces = await readPieces(journal, segment);
    isDamaged ||= !pieces || pieces.some(({ frame }) => !frame);
    if (!pieces) {
      journal.forget(segment);
      onUnreadable(segment);
      continue;
    }
    for (const piece of pieces) {
      if (piece.frame) applyFrame(state, { segment, frame: piece.frame, settled });
      else onDamage(segment, piece);
    }
  }
  if (isDamaged) state.next += SKIPPED_NUMBERS;
  const found = state.batches.sort((a, b) => a.first - b.first);
  return { ...state, batches: fillGaps(found, settled) };
}

/** Returns the layout of a segment without its records, or undefined if it cannot be read. */
async function readPieces(journal: Journal, segment: Segment): Promise<Piece[] | undefined> {
  if (segment.bytes > MAX_READABLE_BYTES) return undefined;
  for (let attempt = 1;; attempt++) {
    try {
      const pieces: Piece[] = [];
      for await (const piece of journal.read(segment)) {
        const { frame } = piece;
        const isLarge = frame?.kind === FrameKind.RECORDS || frame?.kind === FrameKind.MEMBERS;
        pieces.push(isLarge ? { ...piece, frame: { ...frame, payload: "" } } : piece);
      }
      return pieces;
    } catch {
      if (attempt === READ_ATTEMPTS) return undefined;
      await setTimeout(READ_WAIT_MS);
    }
  }
}

function applyFrame(
  state: RecoveredState,
  { segment, frame, settled }: { segment: Segment; frame: Frame; settled: number },
): void {
  const { kind, sequence, count, time, payload } = frame;
  const end = sequence + count;
  if (kind === FrameKind.RECORDS) {
    segment.addRecords(sequence, end);
    const added = Math.min(count, end - state.next); // the rest is settled, or was written twice
    if (added <= 0) return;
    state.oldestTime ??= time;
    state.records += added;
    segment.addUnread(added);
    state.next = end;
  } else if (kind === FrameKind.BATCH && end > settled) {
    segment.pin();
    state.batches.push({ id: payload, first: sequence, end, time, pinned: [segment] });
    state.next = Math.max(state.next, end); // its records may be damaged: no others may have their numbers
  } else if (kind === FrameKind.SPLIT) {
    const batch = state.batches.find(({ id }) => payload.startsWith(id));
    if (!batch) return;
    segment.pin();
    batch.pinned.push(segment);
    state.splits.add(payload);
  }
}

/** Records between batches were dropped, or the frame of their batch is damaged: they become a new batch. */
function fillGaps(batches: readonly RecoveredBatch[], settled: number): RecoveredBatch[] {
  const all: RecoveredBatch[] = [];
  let at = settled;
  for (const batch of batches) {
    if (batch.first > at) {
      all.push({ id: crypto.randomUUID(), first: at, end: batch.first, time: Date.now(), pinned: [] });
    }
    all.push(batch);
    at = batch.end;
  }
  return all;
}
