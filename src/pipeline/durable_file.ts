/**
 * Files that have to be safe when the machine stops.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { dirname, resolve } from "node:path";
import { BackendError, failureOf, type FailureRow, failureRows, messageOf, NOT_GRANTED } from "../errors.ts";

/** Writes all of it, however many calls that takes. */
export async function writeAll(
  file: { write(bytes: Uint8Array): Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await file.write(bytes.subarray(written));
}

/** Reads a file from where it stands to its end. */
export async function readAll(file: Deno.FsFile): Promise<Uint8Array> {
  const bytes = new Uint8Array((await file.stat()).size);
  let length = 0;
  for (let read: number | null = 0; read !== null && length < bytes.length; length += read ?? 0) {
    read = await file.read(bytes.subarray(length));
  }
  return bytes.subarray(0, length);
}

/** Reads a file from where it stands, line by line and without line ends. */
export async function* readLines(file: Deno.FsFile): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(65_536);
  let held: Uint8Array[] = [];
  for (let length; (length = await file.read(buffer)) !== null;) {
    const bytes = buffer.subarray(0, length);
    let start = 0;
    for (let end; (end = bytes.indexOf(10, start)) >= 0; start = end + 1) {
      yield Buffer.concat([...held, bytes.subarray(start, end)]);
      held = [];
    }
    held.push(bytes.slice(start));
  }
  yield Buffer.concat(held);
}

/** Replaces a file as a whole: after a crash there is the old one or the new one. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.new`;
  {
    using file = await Deno.open(temporary, { write: true, create: true, truncate: true, mode: 0o600 });
    await writeAll(file, bytes);
    await file.sync();
  }
  await Deno.rename(temporary, path);
  await syncFolder(path.slice(0, path.lastIndexOf("/")));
}

/** Sees to it that files that were made, renamed or removed in a folder stay so. */
export async function syncFolder(path: string): Promise<void> {
  if (Deno.build.os === "windows") return; // has no such thing
  using folder = await Deno.open(path);
  await folder.sync();
}

/** Follows links to the path that opening creates or changes, also where nothing is there yet. */
export function linkTarget(path: string): string {
  let target = path;
  for (let links = 0; links < 40; links++) { // more are a loop, which opening reports
    try {
      target = resolve(dirname(target), Deno.readLinkSync(target));
    } catch {
      break; // it is no link, or not there
    }
  }
  return target;
}

/** Returns the size of a file in bytes; 0 if there is none. */
export function fileBytes(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

/** The numbers that systems give to a disk or a quota that is full, and to a refusal. */
const OS_ERRORS: Readonly<Record<string, { full: RegExp; refused: RegExp }>> = {
  windows: { full: /os error (39|112)\)/, refused: /os error (5|19)\)/ },
  darwin: { full: /os error (28|69|27)\)/, refused: /os error (13|1|30)\)/ },
};
const { full, refused } = OS_ERRORS[Deno.build.os] ??
  { full: /os error (28|122|27)\)/, refused: /os error (13|1|30)\)/ };

/** Kinds of failures of the file system. */
// deno-fmt-ignore: a failure is two lines, one for programs and one for people
export const FILE_FAILURES: readonly FailureRow[] = failureRows([
  [full, "DISK_FULL", "disk-full",
    "no space left on the disk, or the quota is used up", "Free some space; writing resumes by itself."],
  NOT_GRANTED,
  [refused, "ACCESS_DENIED", "operator",
    "access denied", "Give the user of this process permission to read and write the folder and its files."],
  [/another hub of this one, uses it$/, "FILE_IN_USE", "operator",
    "the folder is in use",
    "Stop the other process, or name another folder by --spool-directory or spoolDirectory."],
  [/changed while in use$/, "FILE_REPLACED", "operator",
    "a file was removed, moved or changed while in use",
    "Leave the files of a spool alone while it is in use. It is written again from what is still open or in memory."],
  [/./s, "FILE_FAILED", "operator",
    "the file or its folder cannot be used", "Check that the path names a folder that can be written."],
]);

/** Converts anything thrown while working on a file into a {@linkcode BackendError}. */
export function storageError(operation: string, path: string, cause: unknown): BackendError {
  if (cause instanceof BackendError) return cause;
  const reason = messageOf(cause).split("\n", 1)[0];
  const row = FILE_FAILURES.find(({ match }) => match.test(reason));
  return failureOf(row, { operation, name: path, reason, cause, otherwise: "operator" });
}
