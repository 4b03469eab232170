import { linkTarget, syncFolder, writeAll } from "../pipeline/durable_file.ts";
import { basename, dirname, join } from "node:path";
import { describePath } from "../errors.ts";
import { asFileError, TransferError } from "./transfer_error.ts";

/**
 * Writes a file all at once: until every byte is on the disk it has another name in the same folder, so that no reader
 * finds half of it. Writes into a device or a pipe; replaces the target of a link, also of one that is not there yet.
 *
 * @param onPart Is given the path of the unfinished file, to remove it should the process be stopped.
 */
export async function writeWholeFile(
  path: string,
  bytes: ReadableStream<Uint8Array>,
  onPart: (part: string) => void = () => {},
): Promise<void> {
  try {
    const found = await Deno.stat(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    if (!found || found.isFile) await replace(linkTarget(path), { bytes, onPart });
    else await writeInto(path, bytes);
  } catch (error) {
    throw asFileError("write", path, error);
  }
}

interface FileOfFolder {
  /** Its path below the folder. */
  readonly path: string;
  readonly bytes: ReadableStream<Uint8Array>;
}

/**
 * Writes a new folder atomically: it has a temporary name until every byte of every file is on disk.
 *
 * @param onPart Is given the path of the unfinished folder, to remove it should the process be stopped.
 * @throws {TransferError} If the name exists, or if it cannot be written.
 */
export async function writeWholeFolder(
  path: string,
  files: AsyncIterable<FileOfFolder>,
  onPart: (part: string) => void,
): Promise<void> {
  const target = path.replace(/(?<=.)[\\/]+$/, "");
  try {
    await Deno.lstat(target);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return await writeFolder(target, files, onPart);
    throw asFileError("write", path, error);
  }
  throw new TransferError(`${describePath(path)} exists and stays as it is. Name a new folder.`, {
    code: "ALREADY_EXISTS",
  });
}

async function writeFolder(
  path: string,
  files: AsyncIterable<FileOfFolder>,
  onPart: (part: string) => void,
): Promise<void> {
  const part = join(dirname(path), `.${basename(path)}.${crypto.randomUUID().slice(0, 8)}.part`);
  onPart(part);
  try {
    await Deno.mkdir(part, { mode: 0o700 });
    for await (const file of files) {
      const at = join(part, file.path);
      await Deno.mkdir(dirname(at), { mode: 0o700, recursive: true });
      await writeSynced(at, file.bytes);
      await syncFolder(dirname(at));
    }
    await syncFolder(part);
    await Deno.rename(part, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await Deno.remove(part, { recursive: true }).catch(() => {}); // report the first error
    throw asFileError("write", path, error);
  }
}

async function replace(
  path: string,
  { bytes, onPart }: { bytes: ReadableStream<Uint8Array>; onPart: (part: string) => void },
): Promise<void> {
  const part = join(dirname(path), `.${basename(path)}.${crypto.randomUUID().slice(0, 8)}.part`);
  onPart(part);
  try {
    await writeSynced(part, bytes);
    await Deno.rename(part, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await Deno.remove(part).catch(() => {}); // report the first error
    throw error;
  }
}

async function writeInto(path: string, bytes: ReadableStream<Uint8Array>): Promise<void> {
  using file = await Deno.open(path, { write: true });
  await writeBytes(file, bytes);
}

async function writeSynced(path: string, bytes: ReadableStream<Uint8Array>): Promise<void> {
  // Readable by the owner only, like the database.
  using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
  await writeBytes(file, bytes);
  await file.sync();
}

/**
 * Writes bytes to a file, or to stdout, and leaves it open. Not by `pipeTo(…, { preventClose: true })`: in Deno 2.9 that
 * resolves before the last chunk is written.
 */
export async function writeBytes(
  file: { write(bytes: Uint8Array): Promise<number> },
  bytes: ReadableStream<Uint8Array>,
): Promise<void> {
  for await (const chunk of bytes) await writeAll(file, chunk);
}
