import { basename, dirname, join } from "node:path";

/**
 * Writes a file all at once: until every byte of it is on the disk it has another name, in the same folder, so that
 * nobody ever finds half of it.
 */
export async function writeWholeFile(path: string, bytes: ReadableStream<Uint8Array>): Promise<void> {
  const part = join(dirname(path), `.${basename(path)}.${crypto.randomUUID().slice(0, 8)}.part`);
  // What is kept in the database is nobody else's business here either.
  const file = await Deno.open(part, { write: true, createNew: true, mode: 0o600 });
  try {
    await writeBytes(file, bytes);
    await file.sync();
    file.close();
    await Deno.rename(part, path);
  } catch (error) {
    try {
      file.close();
    } catch {
      // it is closed
    }
    await Deno.remove(part).catch(() => {}); // the error that led here is the one to tell
    throw error;
  }
  await syncFolder(dirname(path));
}

/**
 * Writes bytes to a file, or to stdout, and leaves it open. Not by `pipeTo(…, { preventClose: true })`: in Deno 2.9 that
 * resolves before the last chunk is written.
 */
export async function writeBytes(
  file: { write(bytes: Uint8Array): Promise<number> },
  bytes: ReadableStream<Uint8Array>,
): Promise<void> {
  for await (const chunk of bytes) {
    for (let rest = chunk; rest.length > 0;) rest = rest.subarray(await file.write(rest));
  }
}

/** Lets the new name outlive a loss of power as well. */
async function syncFolder(path: string): Promise<void> {
  if (Deno.build.os === "windows") return; // has no such thing
  using folder = await Deno.open(path);
  await folder.sync();
}
