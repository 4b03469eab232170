import { type Duplex, pipeline, Readable } from "node:stream";
import { createGunzip, createInflate, createZstdDecompress } from "node:zlib";
import { TransferError } from "./transfer_error.ts";

/** Unpacked bytes from which a file that becomes this many times larger is refused: no bill is packed so well. */
const MAX_UNPACKED_BYTES = 2 ** 30;
const MAX_RATIO = 1_000;
const LF = 10;

/** Bytes without which no kind of file is known. */
const LEAST_BYTES = 4;

/** Reads the first bytes of a stream, up to the end of a line, and gives it back whole. */
export async function takeHead(
  input: ReadableStream<Uint8Array>,
  length: number,
): Promise<{ head: Uint8Array; whole: ReadableStream<Uint8Array> }> {
  const reader = input.getReader();
  const first: Uint8Array[] = [];
  // A pipe may give a line and wait for more: it is enough.
  for (let held = 0, hasLine = false; held < LEAST_BYTES || (held < length && !hasLine);) {
    const { done, value } = await reader.read();
    if (done) break;
    first.push(value);
    held += value.length;
    hasLine ||= value.includes(LF);
  }
  const head = new Uint8Array(first.flatMap((chunk) => [...chunk.subarray(0, length)])).subarray(0, length);
  const whole = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const chunk = first.shift();
      if (chunk) return controller.enqueue(chunk);
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
  return { head, whole };
}

/** Unpacks the bytes of gzip, zlib (`deflate` of HTTP) or zstd. */
export function decompress(
  input: ReadableStream<Uint8Array>,
  format: "gzip" | "deflate" | "zstd",
): ReadableStream<Uint8Array> {
  const limit = new RatioLimit();
  const packed = (async function* () {
    for await (const chunk of input) {
      limit.packed += chunk.length;
      yield chunk;
    }
  })();
  // Not DecompressionStream: it refuses a file of several members, as `cat a.gz b.gz` makes them.
  const unpacked = format === "zstd"
    ? unpackZstd(packed)
    : unpack(packed, format === "gzip" ? createGunzip() : createInflate());
  return ReadableStream.from((async function* () {
    try {
      for await (const chunk of unpacked) {
        limit.add(chunk.length);
        yield chunk;
      }
    } catch (error) {
      const { message, code } = error as Error & { code?: string };
      throw code?.startsWith("Z_") || /^zstd/i.test(message) ? damaged(format, message) : error;
    }
  })());
}

function unpack(packed: AsyncIterable<Uint8Array>, unpacker: Duplex): AsyncIterable<Uint8Array> {
  pipeline(Readable.from(packed), unpacker, () => {}); // an error comes out where the bytes are read
  return unpacker;
}

/** More bytes than a block of zstd can become. */
const ZSTD_CHUNK_BYTES = 2 ** 18;

/**
 * Unpacks zstd frame by frame and block by block: the decompressor of `node:zlib` in Deno 2.9 drops what follows a frame
 * in the same chunk, takes the end of the bytes for the end of the file, also within a frame, and throws out of reach of
 * any handler where a chunk becomes more than it can give at once.
 */
async function* unpackZstd(packed: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  const frames = new ZstdFrames();
  let { value: rest, done } = await packed.next();
  async function* frame(): AsyncGenerator<Uint8Array> {
    while (!done) {
      const end = frames.scan(rest);
      yield rest.subarray(0, end);
      rest = rest.subarray(end);
      if (rest.length === 0) ({ value: rest, done } = await packed.next());
      if (frames.isComplete) return;
    }
  }
  while (!done) yield* unpack(frame(), createZstdDecompress({ chunkSize: ZSTD_CHUNK_BYTES }));
  if (!frames.isComplete) throw damaged("zstd", "unexpected end of file");
}

/** The error for a packed file whose content cannot be read. */
export function damaged(format: string, message: string): TransferError {
  const reason = message.charAt(0).toLowerCase() + message.slice(1).replace(/\.$/, "");
  return new TransferError(`the ${format} file is damaged or cut short (${reason}). Fetch it again.`, {
    code: "INVALID_FILE",
  });
}

/** Bounds the bytes that come out of a packed file by those that went in. */
export class RatioLimit {
  packed = 0;
  #unpacked = 0;

  /** @throws {TransferError} If more come out than a bill can have. */
  add(bytes: number): void {
    this.#unpacked += bytes;
    if (this.#unpacked <= Math.max(MAX_UNPACKED_BYTES, MAX_RATIO * this.packed)) return;
    throw new TransferError(
      `the file becomes more than ${MAX_RATIO} times larger as it is unpacked. Unpack it yourself if it is what you expect.`,
      { code: "INVALID_FILE" },
    );
  }
}

/** Part of a zstd file that the next header belongs to; `size` is that of a frame to skip. */
type FrameState = "magic" | "frame" | "block" | "size";

/** Follows the frames and blocks of zstd. */
class ZstdFrames {
  /** Bytes of the next header, and bytes to skip before it. */
  #header: number[] = [];
  #skipped = 0;
  #state: FrameState = "magic";
  #hasChecksum = false;

  /** True between two frames. */
  get isComplete(): boolean {
    return this.#state === "magic" && this.#header.length === 0 && this.#skipped === 0;
  }

  /** Follows a chunk up to the end of a header or a block. Returns the position after it. */
  scan(chunk: Uint8Array): number {
    let at = 0;
    while (at < chunk.length) {
      const skipped = Math.min(this.#skipped, chunk.length - at);
      this.#skipped -= skipped;
      at += skipped;
      const isEnd = this.#skipped === 0 && this.#header.length === 0 && at > 0;
      if (isEnd || at === chunk.length) break;
      this.#header.push(chunk[at++]);
      this.#advance();
    }
    return at;
  }

  #advance(): void {
    const [first, second, third, last] = this.#header;
    if (this.#state === "frame") {
      this.#hasChecksum = (first & 4) !== 0;
      const isSingle = (first & 32) !== 0;
      const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][first >> 6];
      return this.#next("block", (isSingle ? 0 : 1) + [0, 1, 2, 4][first & 3] + sizeBytes);
    }
    if (this.#state === "block" && this.#header.length === 3) {
      const header = first | second << 8 | third << 16;
      const isRepeated = (header >> 1 & 3) === 1;
      const size = isRepeated ? 1 : header >> 3;
      const isLast = (header & 1) === 1;
      return this.#next(isLast ? "magic" : "block", size + (isLast && this.#hasChecksum ? 4 : 0));
    }
    if (this.#header.length < 4) return;
    // Any other bytes are left to the decompressor to refuse.
    if (this.#state === "size") this.#next("magic", (first | second << 8 | third << 16 | last << 24) >>> 0);
    else if (this.#state === "magic") {
      this.#next((first & 0xf0) === 0x50 && last === 0x18 ? "size" : "frame", 0);
    }
  }

  #next(state: FrameState, skipped: number): void {
    this.#state = state;
    this.#header = [];
    this.#skipped = skipped;
  }
}
