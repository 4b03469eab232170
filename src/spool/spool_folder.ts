import { dirname } from "node:path";
import { setTimeout } from "node:timers/promises";
import { decodeFrame, encodeFrame, FrameKind } from "./frame.ts";
import { identityOf } from "./segment.ts";
import { replaceFile, syncFolder } from "../pipeline/durable_file.ts";

/** Time to wait for a process that is ending. */
const LOCK_ATTEMPTS = 20;
const LOCK_WAIT_MS = 50;
/** Space that is kept back: on a full disk no batch could be frozen else, and so none be written and removed. */
const RESERVE_BYTES = 64 * 1_024;

/** Makes a folder where it is not there, and gives its lock. */
async function openLocked(path: string): Promise<Deno.FsFile> {
  await Deno.mkdir(path, { recursive: true, mode: 0o700 });
  await syncFolder(dirname(path)).catch(() => {}); // may be a folder that this user cannot read
  const lock = await Deno.open(`${path}/lock`, { write: true, create: true, mode: 0o600 });
  for (let attempt = 1; !await lock.tryLock(true); attempt++) {
    if (attempt === LOCK_ATTEMPTS) {
      lock.close();
      throw new Error("another process, or another hub of this one, uses it");
    }
    await setTimeout(LOCK_WAIT_MS);
  }
  return lock;
}

/** The folder of a spool, and the small files in it beside the journal. */
export class SpoolFolder {
  readonly path: string;
  #lock: Deno.FsFile;
  #lockIdentity: string;
  #identity = "";
  #hasReserve = false;

  /**
   * Makes the folder where it is not there, and locks it.
   *
   * @throws If it cannot be used, or another process uses it.
   */
  static async open(path: string): Promise<SpoolFolder> {
    const folder = new SpoolFolder(path, await openLocked(path));
    folder.#identity = identityOf(await Deno.stat(path));
    for (const name of ["cursor", "cursor.new", "database", "database.new", "reserve"]) {
      folder.#clearPath(name);
    }
    return folder;
  }

  /** True if the path of the folder leads to the lock that this process holds. */
  async isLocked(): Promise<boolean> {
    const found = await Deno.stat(`${this.path}/lock`).catch(() => undefined);
    return found !== undefined && identityOf(found) === this.#lockIdentity;
  }

  /**
   * Makes the folder again and locks it, after it was removed or replaced.
   *
   * @returns True if it is another folder than before.
   * @throws If it cannot be made, or another process uses it.
   */
  async reopen(): Promise<boolean> {
    if (!await this.isLocked()) {
      const lock = await openLocked(this.path);
      this.#lock.close();
      this.#lock = lock;
      this.#lockIdentity = identityOf(lock.statSync());
    }
    this.#hasReserve = false;
    const identity = identityOf(await Deno.stat(this.path));
    const isReplaced = identity !== this.#identity;
    this.#identity = identity;
    return isReplaced;
  }

  private constructor(path: string, lock: Deno.FsFile) {
    this.path = path;
    this.#lock = lock;
    this.#lockIdentity = identityOf(lock.statSync());
  }

  /** Moves a foreign entry aside that is in place of a file. */
  #clearPath(name: string): void {
    const path = `${this.path}/${name}`;
    try {
      if (!Deno.lstatSync(path).isFile) this.quarantineFile(path);
    } catch {
      // nothing is there
    }
  }

  /** First record that is not settled; 0 where it cannot be read: settled records are then written again, as duplicates. */
  readCursor(): number {
    try {
      const found = decodeFrame(Deno.readFileSync(`${this.path}/cursor`), 0);
      return typeof found === "object" && "frame" in found ? found.frame.sequence : 0;
    } catch {
      return 0;
    }
  }

  /** Remembers before which record all are settled. */
  async saveCursor(sequence: number): Promise<void> {
    const frame = { kind: FrameKind.CURSOR, sequence, count: 0, time: Date.now(), payload: "" };
    await replaceFile(`${this.path}/cursor`, encodeFrame(frame));
  }

  /** The path of the file that says which database the records are for. */
  get ownerPath(): string {
    return `${this.path}/database`;
  }

  /** Database of the records, if known. */
  readOwner(): string | undefined {
    try {
      return Deno.readTextFileSync(this.ownerPath).trim() || undefined;
    } catch {
      return undefined;
    }
  }

  /** Remembers which database the records are for. Where that cannot be written, it is not known. */
  async saveOwner(database: string): Promise<void> {
    await Deno.remove(this.ownerPath).catch(() => {});
    await replaceFile(this.ownerPath, new TextEncoder().encode(`${database}\n`)).catch(() => {});
  }

  /** True if space is reserved. */
  get hasReserve(): boolean {
    return this.#hasReserve;
  }

  /** Keeps space back, unless that is done. */
  async keepReserve(): Promise<void> {
    if (this.#hasReserve) return;
    try {
      await Deno.writeFile(`${this.path}/reserve`, new Uint8Array(RESERVE_BYTES), { mode: 0o600 });
    } catch (error) {
      await this.releaseReserve(); // a part of it would only take the space that batches want
      throw error;
    }
    this.#hasReserve = true;
  }

  /** Frees the reserved space. */
  async releaseReserve(): Promise<void> {
    this.#hasReserve = false;
    await Deno.remove(`${this.path}/reserve`).catch(() => {});
  }

  /** Sets a part of a file aside that cannot be read; gives the path where that could be done. */
  quarantineBytes(
    source: string,
    { offset, length }: { offset: number; length: number },
  ): string | undefined {
    const name = `${source.slice(source.lastIndexOf("/") + 1)}-${offset}`;
    const path = `${this.path}/damaged/${crypto.randomUUID()}-${name}`; // numbers of segments start over
    try {
      const bytes = new Uint8Array(length);
      {
        using file = Deno.openSync(source);
        file.seekSync(offset, Deno.SeekMode.Start);
        for (let read = 0, got; read < bytes.length && (got = file.readSync(bytes.subarray(read)));) {
          read += got;
        }
      }
      Deno.mkdirSync(`${this.path}/damaged`, { recursive: true, mode: 0o700 });
      Deno.writeFileSync(path, bytes, { mode: 0o600 });
      return path;
    } catch {
      return undefined;
    }
  }

  /** Sets a whole file aside; gives the path where that could be done. */
  quarantineFile(path: string): string | undefined {
    const target = `${this.path}/damaged/${crypto.randomUUID()}-${path.slice(path.lastIndexOf("/") + 1)}`;
    try {
      Deno.mkdirSync(`${this.path}/damaged`, { recursive: true, mode: 0o700 });
      Deno.renameSync(path, target);
      return target;
    } catch {
      return undefined;
    }
  }

  /** Lets go of it. */
  close(): void {
    this.#lock.close();
  }
}
