/**
 * Files that requests send, on disk for as long as they are read.
 *
 * @module
 */
import type { PersistenceConfig } from "../config.ts";
import { asFileError } from "../transfer/transfer_error.ts";

/** Folder in the spool, which one process at a time uses. */
const FOLDER = "uploads";

/** A file that was received; disposing of it deletes it. */
export interface Upload extends AsyncDisposable {
  readonly path: string;
  readonly size: number;
}

/**
 * Writes the chunks of a body into a file that only this user may read: in the spool, else in the folder of the system for
 * temporary files.
 *
 * @throws {TransferError} If the file cannot be written.
 * @throws {RequestError} If the body is too large or too slow.
 */
export async function receiveFile(
  chunks: AsyncIterable<Uint8Array>,
  { spoolDirectory }: Pick<PersistenceConfig, "spoolDirectory">,
): Promise<Upload> {
  const path = await makeFile(spoolDirectory && `${spoolDirectory}/${FOLDER}`);
  const remove = () => Deno.remove(path);
  try {
    let size = 0;
    using file = await Deno.open(path, { write: true });
    for await (const chunk of chunks) {
      size += chunk.length;
      for (let rest = chunk; rest.length > 0;) {
        rest = rest.subarray(await file.write(rest).catch((error) => fail(path, error)));
      }
    }
    return { path, size, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Preparation of upload folders, once for each in this process. */
const folders = new Map<string, Promise<void>>();

async function prepareFolder(dir: string): Promise<void> {
  try {
    // A process that was killed left its files.
    await Deno.remove(dir, { recursive: true }).catch(() => {});
    await Deno.mkdir(dir, { recursive: true, mode: 0o700 });
  } catch (error) {
    folders.delete(dir);
    throw error;
  }
}

async function makeFile(dir: string | undefined): Promise<string> {
  try {
    if (dir !== undefined) await folders.getOrInsertComputed(dir, prepareFolder);
    return await Deno.makeTempFile({ dir, prefix: "openfinops-" });
  } catch (error) {
    return fail(dir ?? "a temporary file", error);
  }
}

function fail(path: string, error: unknown): never {
  throw asFileError("write", path, error);
}
