import { BackendError } from "../../errors.ts";
import { queryAll, type SqliteDatabase } from "./driver.ts";

/** Identity of the opened file. */
export interface OpenFile {
  /** Its path; empty for a database in memory. */
  readonly path: string;
  /** The inode of the file that was opened. */
  readonly inode: number | null;
}

/** Bytes that a frame of the write-ahead log takes beside its page. */
const FRAME_HEADER = 24;
/** Largest file that is checked page by page after it became smaller: that takes some 0.2 s. */
const MAX_FULL_CHECK = 2 ** 26;

/**
 * Detects that a database file or its write-ahead log was deleted, replaced or truncated while it is open: SQLite goes on
 * writing and reports success. Not by opening the file: closing it would release the locks of the process on it.
 */
export class FileGuard {
  readonly #file: OpenFile;
  readonly #database: SqliteDatabase;
  #logInode: number | null | undefined;
  #size = 0;

  /** Guards the writes of one connection. */
  constructor(database: SqliteDatabase, file: OpenFile) {
    this.#database = database;
    this.#file = file;
  }

  /**
   * Runs a change between two checks, so that it is never acknowledged if it went into a file that is gone.
   *
   * @throws {BackendError} If the files are not those that were opened.
   */
  around<T>(change: () => T): T {
    if (this.#file.path === "") return change();
    this.#check();
    const result = change();
    this.#check();
    return result;
  }

  #check(): void {
    assertInPlace(this.#file);
    this.#checkLog();
    this.#checkSize();
  }

  /** SQLite keeps the log from the first statement until the last connection of any process is closed. */
  #checkLog(): void {
    const { path } = this.#file;
    const found = statOf(`${path}-wal`);
    if (this.#logInode === undefined) {
      if (found) this.#logInode = found.ino;
      return;
    }
    if (found?.ino === this.#logInode) return;
    // This connection still has the deleted log open: what it holds goes into the file.
    if (!found) queryAll(this.#database, "PRAGMA wal_checkpoint(FULL)");
    throw refuse(
      path,
      `its write-ahead log ${path}-wal was deleted or replaced. Stop all programs that use the file, then start them again`,
    );
  }

  /** A cleanup makes the file smaller, too, and then all pages are in the file or in the log. */
  #checkSize(): void {
    const { path } = this.#file;
    const { size } = Deno.statSync(path);
    if (size < this.#size && !this.#isWhole(size)) {
      throw refuse(
        path,
        "the file was truncated. Stop all programs that use it, and restore it from a backup",
      );
    }
    this.#size = size;
  }

  #isWhole(size: number): boolean {
    if (size === 0) return false;
    const [[pages]] = queryAll(this.#database, "PRAGMA page_count") as number[][];
    const [[pageBytes]] = queryAll(this.#database, "PRAGMA page_size") as number[][];
    const logged = (statOf(`${this.#file.path}-wal`)?.size ?? 0) / (pageBytes + FRAME_HEADER);
    if (pages - size / pageBytes > logged) return false;
    if (size > MAX_FULL_CHECK) return true;
    this.#database.exec("PRAGMA shrink_memory"); // else cached pages would be checked
    return queryAll(this.#database, "PRAGMA quick_check(1)")[0][0] === "ok";
  }
}

/**
 * Checks that the file that was opened is still at its path.
 *
 * @throws {BackendError} If it was deleted or replaced.
 */
export function assertInPlace({ path, inode }: OpenFile): void {
  if (path === "" || inodeOf(path) === inode) return;
  throw refuse(path, "the file was deleted or replaced. Put it back, or close and open again");
}

/** Returns the inode of the file at a path, undefined where there is none. */
export function inodeOf(path: string): number | null | undefined {
  return statOf(path)?.ino;
}

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function refuse(path: string, reason: string): BackendError {
  return new BackendError(`Cannot write ${path}: ${reason}`, {
    code: "FILE_REPLACED",
    operation: "write",
    kind: "operator",
  });
}
