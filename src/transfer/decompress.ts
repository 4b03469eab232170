import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";

/** The bytes of a file, unpacked where it begins as gzip does. */
export async function decompress(input: ReadableStream<Uint8Array>): Promise<ReadableStream<Uint8Array>> {
  const reader = input.getReader();
  const first: Uint8Array[] = [];
  let isOver = false;
  for (let length = 0; length < 2 && !isOver;) {
    const { done, value } = await reader.read();
    if (done) isOver = true;
    else {
      first.push(value);
      length += value.length;
    }
  }
  const start = first.flatMap((chunk) => [...chunk.subarray(0, 2)]);
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
  if (start[0] !== 0x1f || start[1] !== 0x8b) return whole;
  // Not DecompressionStream: it refuses a file of several members, as `cat a.gz b.gz` makes them.
  const gunzip = createGunzip();
  pipeline(Readable.from(whole), gunzip, () => {}); // an error comes out where the bytes are read
  return ReadableStream.from(gunzip as AsyncIterable<Uint8Array>);
}
