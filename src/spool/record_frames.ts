import { membersOf } from "../pipeline/members.ts";
import type { Member } from "../pipeline/sink.ts";
import { type Frame, FrameKind } from "./frame.ts";

/**
 * Makes the frame of records that were accepted together, and before it that of their members, if they have any. Both are
 * written at once. The members belong to the frame directly behind theirs only: after a crash between the two, other records
 * get the same numbers.
 */
export function recordFrames(
  { first: sequence, records, time }: { first: number; records: readonly unknown[]; time: number },
): Frame[] {
  const header = { sequence, count: records.length, time };
  const frame = { kind: FrameKind.RECORDS, ...header, payload: JSON.stringify(records) };
  const members = membersOf(records);
  return members ? [{ kind: FrameKind.MEMBERS, ...header, payload: encode(members) }, frame] : [frame];
}

/** Reads the payload of a frame of members. */
export function decodeMembers(payload: string): Member[] {
  return (JSON.parse(payload) as [string, number, number, number][])
    .map(([requestId, first, count, index]) => ({ requestId, first, count, index }));
}

function encode(members: readonly Member[]): string {
  return JSON.stringify(
    members.map(({ requestId, first, count, index }) => [requestId, first, count, index]),
  );
}
