import { TransferError } from "./transfer_error.ts";

/** A file that can be read at any place, such as a `Blob`. Zip and Parquet have their index at the end. */
export interface RandomAccess {
  /** Size in bytes. */
  readonly size: number;
  /** A part of the file. */
  slice(start: number, end: number): { arrayBuffer(): Promise<ArrayBuffer> };
  /** All bytes in order. */
  stream(): ReadableStream<Uint8Array>;
}

/** The most bytes of a zip or Parquet file that come as a stream. */
const MAX_HELD_BYTES = 256 * 2 ** 20;

/** Opens a file of the file system. Each part is read by itself, so that nothing stays open. */
export function fileAccess(path: string, size: number): RandomAccess {
  const read = async (start: number, end: number): Promise<ArrayBuffer> => {
    using file = await Deno.open(path);
    await file.seek(start, Deno.SeekMode.Start);
    const bytes = new Uint8Array(Math.max(0, Math.min(end, size) - start));
    for (let at = 0; at < bytes.length;) {
      const count = await file.read(bytes.subarray(at));
      if (count === null) {
        throw new TransferError("the file became shorter while it was read.", { code: "INVALID_FILE" });
      }
      at += count;
    }
    return bytes.buffer;
  };
  return {
    size,
    slice: (start, end) => ({ arrayBuffer: () => read(start, end) }),
    stream: () =>
      ReadableStream.from((async function* () {
        using file = await Deno.open(path);
        yield* file.readable;
      })()),
  };
}

/** Holds a stream in memory so that it can be read at any place. */
export async function holdStream(bytes: ReadableStream<Uint8Array>): Promise<RandomAccess> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const chunk of bytes) {
    size += chunk.length;
    chunks.push(chunk as Uint8Array<ArrayBuffer>);
    if (size > MAX_HELD_BYTES) {
      throw new TransferError(
        `a zip or Parquet file from a stream can have ${
          MAX_HELD_BYTES / 2 ** 20
        } MiB at most. Name the file itself.`,
        { code: "UNSUPPORTED_FORMAT" },
      );
    }
  }
  return new Blob(chunks);
}
