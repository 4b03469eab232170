import { type Frame, FrameKind } from "./frame.ts";
import type { Journal, Segment } from "./journal.ts";

/** A part of a file. */
export interface Part {
  /** Where it begins. */
  readonly offset: number;
  /** Its bytes. */
  readonly length: number;
}

/** A batch of an earlier process: the records from `first` to before `end`. */
export interface FoundBatch {
  /** Its id. */
  readonly id: string;
  /** The number of its first record. */
  readonly first: number;
  /** The number after its last record. */
  readonly end: number;
  /** The segments that tell of it; none where its frame was damaged. */
  readonly pinned: Segment[];
}

/** What earlier processes have left in a journal. */
export interface Remains {
  /** The batches that are not known to be settled, oldest first. */
  readonly batches: FoundBatch[];
  /** Those of them, and of their parts, that were split. */
  readonly splits: Set<string>;
  /** How many records are not settled. */
  records: number;
  /** When the oldest of them was accepted, in epoch milliseconds. */
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
export async function findRemains(
  journal: Journal,
  { settled, onDamage, onUnreadable }: {
    settled: number;
    onDamage: (segment: Segment, part: Part) => void;
    onUnreadable: (segment: Segment) => void;
  },
): Promise<Remains> {
  const remains: Remains = {
    batches: [],
    splits: new Set(),
    records: 0,
    oldestTime: undefined,
    next: settled,
  };
  journal.find();
  for (const segment of [...journal.segments]) {
    try {
      for await (const piece of journal.read(segment)) {
        if (piece.frame) note(remains, { segment, frame: piece.frame, settled });
        else onDamage(segment, piece);
      }
    } catch {
      // It cannot even be opened. Its numbers will be given to others, so it must not come back by itself.
      journal.forget(segment);
      onUnreadable(segment);
    }
  }
  const found = remains.batches.sort((a, b) => a.first - b.first);
  return { ...remains, batches: withGaps(found, settled) };
}

function note(
  remains: Remains,
  { segment, frame, settled }: { segment: Segment; frame: Frame; settled: number },
): void {
  const { kind, sequence, count, time, payload } = frame;
  const end = sequence + count;
  if (kind === FrameKind.RECORDS) {
    if (segment.end === segment.start) segment.start = sequence;
    segment.end = Math.max(segment.end, end);
    const fresh = Math.min(count, end - remains.next); // the rest is settled, or was written twice
    if (fresh <= 0) return;
    remains.oldestTime ??= time;
    remains.records += fresh;
    segment.unread += fresh;
    remains.next = end;
  } else if (kind === FrameKind.BATCH && end > settled) {
    segment.pins++;
    remains.batches.push({ id: payload, first: sequence, end, pinned: [segment] });
  } else if (kind === FrameKind.SPLIT) {
    const batch = remains.batches.find(({ id }) => payload.startsWith(id));
    if (!batch) return;
    segment.pins++;
    batch.pinned.push(segment);
    remains.splits.add(payload);
  }
}

/** What lies between batches was dropped, or the frame of its batch is damaged: then it comes as a new one. */
function withGaps(batches: readonly FoundBatch[], settled: number): FoundBatch[] {
  const all: FoundBatch[] = [];
  let at = settled;
  for (const batch of batches) {
    if (batch.first > at) all.push({ id: crypto.randomUUID(), first: at, end: batch.first, pinned: [] });
    all.push(batch);
    at = batch.end;
  }
  return all;
}
