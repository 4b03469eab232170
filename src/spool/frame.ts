/**
 * The frames of which the files of the spool are made:
 *
 * | bytes |                                                               |
 * | ----- | ------------------------------------------------------------- |
 * | 4     | mark, which cannot occur in UTF-8, so not in a payload either |
 * | 4     | CRC-32 of all that follows                                   |
 * | 4     | length of the payload                                         |
 * | 4     | kind                                                          |
 * | 8     | sequence: the number of its first record                      |
 * | 8     | count of records                                              |
 * | 8     | time, epoch milliseconds                                      |
 * | …     | payload, UTF-8                                                |
 *
 * Numbers are little-endian, those of 8 bytes are float64.
 *
 * @module
 */
import { crc32 } from "node:zlib";

/** Types of frames, with their payload in brackets. */
export const FrameKind = {
  /** Records, in the order of their acceptance (a JSON array). */
  RECORDS: 1,
  /** A batch is frozen: `count` records from `sequence`, less what was dropped or damaged (its id). */
  BATCH: 2,
  /** The halves of a batch have taken its place (its id). */
  SPLIT: 3,
  /** All records before `sequence` are settled (nothing). */
  CURSOR: 4,
  /**
   * Members of the records in the frame that follows directly (a JSON array of
   * `[requestId, first, count, index]`). A reader of an older release skips it and takes the records as they are.
   */
  MEMBERS: 5,
} as const;

export interface Frame {
  /** One of {@linkcode FrameKind}. */
  readonly kind: number;
  /** The number of its first record. */
  readonly sequence: number;
  /** Number of records that it holds or refers to. */
  readonly count: number;
  /** Time at which it was made, in epoch milliseconds. */
  readonly time: number;
  readonly payload: string;
}

const MARK = [0xf5, 0x4f, 0x46, 0x01];
const CRC_START = 8;
/** The bytes of a frame before its payload. */
export const HEADER_BYTES = 40;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeFrame({ kind, sequence, count, time, payload }: Frame): Uint8Array<ArrayBuffer> {
  const body = encoder.encode(payload);
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  bytes.set(MARK);
  bytes.set(body, HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(8, body.length, true);
  view.setUint32(12, kind, true);
  view.setFloat64(16, sequence, true);
  view.setFloat64(24, count, true);
  view.setFloat64(32, time, true);
  view.setUint32(4, crc32(bytes.subarray(CRC_START)), true);
  return bytes;
}

/** Decodes a position of a file: a frame with its bytes, `bad`, or the number of bytes that are missing. */
export type DecodeResult =
  | { readonly frame: Frame; readonly length: number }
  | { readonly needed: number }
  | "bad";

/** Reads the frame that begins at an offset. */
export function decodeFrame(bytes: Uint8Array, offset: number): DecodeResult {
  const left = bytes.length - offset;
  if (!MARK.every((byte, i) => i >= left || bytes[offset + i] === byte)) return "bad";
  if (left < HEADER_BYTES) return { needed: HEADER_BYTES };
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  const length = HEADER_BYTES + view.getUint32(8, true);
  if (left < length) return { needed: length };
  const end = offset + length;
  if (crc32(bytes.subarray(offset + CRC_START, end)) !== view.getUint32(4, true)) return "bad";
  return {
    length,
    frame: {
      kind: view.getUint32(12, true),
      sequence: view.getFloat64(16, true),
      count: view.getFloat64(24, true),
      time: view.getFloat64(32, true),
      payload: decoder.decode(bytes.subarray(offset + HEADER_BYTES, end)),
    },
  };
}

/** Length of the frame at an offset by its header, up to the end of the bytes; none of it may be true. */
export function claimedLength(bytes: Uint8Array, offset: number): number {
  const left = bytes.length - offset;
  if (left < HEADER_BYTES) return left;
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  return Math.min(left, HEADER_BYTES + view.getUint32(8, true));
}

/** Returns the position of the next possible frame at or after an offset, or the end. */
export function findMark(bytes: Uint8Array, offset: number): number {
  for (let at = bytes.indexOf(MARK[0], offset); at >= 0; at = bytes.indexOf(MARK[0], at + 1)) {
    if (MARK.every((byte, i) => at + i >= bytes.length || bytes[at + i] === byte)) return at;
  }
  return bytes.length;
}
