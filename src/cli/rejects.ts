import { resolve } from "node:path";
import { describePath } from "../errors.ts";
import { isGranted } from "../permissions.ts";
import type { Reject } from "../transfer/record_stream.ts";
import { asFileError, TransferError } from "../transfer/transfer_error.ts";
import { formatThings, note } from "./output.ts";

/** Rejected lines that are printed one by one. */
const SHOWN_REJECTS = 10;

/** Rejected lines: prints the first, counts all, and writes them to a file if there is one. */
export class Rejects implements Disposable {
  readonly #file: Deno.FsFile | undefined;
  readonly #path: string | undefined;
  #count = 0;

  /** Opens the file for them, which must be none of those that are in use. What it holds stays for now. */
  constructor(path: string | undefined, inUse: readonly string[]) {
    this.#path = path;
    if (path === undefined) return;
    if (inUse.some((other) => resolve(other) === resolve(path))) throw inUseError(path);
    try {
      this.#file = Deno.openSync(path, { write: true, create: true, mode: 0o600 });
    } catch (error) {
      throw asFileError("write", path, error);
    }
    const opened = this.#file.statSync();
    if (!inUse.some((other) => isSameFile(opened, other))) return;
    this.#file.close();
    throw inUseError(path);
  }

  get count(): number {
    return this.#count;
  }

  /** Forgets the bad lines of an earlier import. */
  empty(): void {
    if (this.#file?.statSync().isFile) this.#file.truncateSync();
  }

  add(path: string, reject: Reject): void {
    if (++this.#count <= SHOWN_REJECTS) note(`${placeOf(path, reject)}:${reject.line}: ${reject.reason}`);
    if (!this.#file) return;
    let bytes = new TextEncoder().encode(`${JSON.stringify({ file: path, ...reject })}\n`);
    try {
      while (bytes.length > 0) bytes = bytes.subarray(this.#file.writeSync(bytes));
    } catch (error) {
      throw asFileError("write", this.#path!, error);
    }
  }

  /** Says how many there were, where another error ends the import. */
  note(): void {
    if (this.#count > 0) note(`${formatThings(this.#count, "line is", "lines are")} bad.`);
  }

  /** A file with bad lines is not done. */
  summarize(): void {
    if (this.#count === 0) return;
    const hint = this.#path === undefined ? "; --rejects FILE keeps them" : `; ${this.#path} has them`;
    const more = this.#count > SHOWN_REJECTS ? ` (the first ${SHOWN_REJECTS} are named above)` : "";
    throw new TransferError(
      `Cannot import all: ${formatThings(this.#count, "line is", "lines are")} bad${more}${hint}.`,
      { code: "LINES_REJECTED" },
    );
  }

  [Symbol.dispose](): void {
    this.#file?.close();
  }
}

/** Name of a file, and of the member of a zip file, that a bad line is in. */
function placeOf(path: string, { member }: Reject): string {
  return member === undefined ? path : `${path}/${describePath(member)}`;
}

/** Returns true if an open file is the one at a path, by device and inode. */
function isSameFile({ isFile, dev, ino }: Deno.FileInfo, path: string): boolean {
  if (!isFile || !isGranted({ name: "read", path })) return false;
  try {
    const other = Deno.statSync(path);
    return ino !== null && ino === other.ino && dev === other.dev;
  } catch {
    return false; // it is not there yet
  }
}

function inUseError(path: string): TransferError {
  return new TransferError(
    `Cannot write ${
      describePath(path)
    }: it is an input or the database. Name another file for rejected lines.`,
    { code: "FILE_IN_USE" },
  );
}
