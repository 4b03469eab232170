import type { Frame } from "./frame.ts";
import type { Journal } from "./journal.ts";
import type { Segment } from "./segment.ts";
import type { SpoolFolder } from "./spool_folder.ts";

/** Parts of a {@linkcode SpoolGuard}. */
export interface GuardParts {
  readonly folder: SpoolFolder;
  readonly journal: Journal;
  /** Frames of what is still in memory and was written into a segment. */
  readonly framesIn: (segment: Segment) => Iterable<Frame>;
  /** Saves before which record all are settled. */
  readonly saveCursor: () => Promise<void>;
  /** A file of another spool stood in the folder and was set aside. */
  readonly onForeign: (path: string, file: string | undefined) => void;
}

/**
 * Detects files of the spool that were removed, moved, replaced or cut while in use, and writes them again. Nothing is
 * acknowledged unless {@linkcode SpoolGuard.check} has passed after the write. Call its methods one at a time.
 */
export class SpoolGuard {
  readonly #parts: GuardParts;
  #isDisplaced = false;

  /** Guards a folder and its journal. */
  constructor(parts: GuardParts) {
    this.#parts = parts;
  }

  /** True from a check that has missed a file until all is written again. */
  get isDisplaced(): boolean {
    return this.#isDisplaced;
  }

  /**
   * Checks that the paths of the lock and of the segment that is being written lead to these files.
   *
   * @param options With `all`, all segments are checked.
   * @throws {Error} If a path leads nowhere or elsewhere: {@linkcode SpoolGuard.restore} comes next.
   */
  async check({ all = false } = {}): Promise<void> {
    const { folder, journal } = this.#parts;
    const { active } = journal;
    const checked = all ? journal.segments : active ? [active] : [];
    const [isLocked, ...arePlaced] = await Promise.all([
      folder.isLocked(),
      ...checked.map((segment) => segment.isInPlace()),
    ]);
    const lost = isLocked ? checked[arePlaced.indexOf(false)]?.path : `${folder.path}/lock`;
    if (lost === undefined) return;
    this.#isDisplaced = true;
    throw new Error(`${lost} was removed, moved or changed while in use`);
  }

  /**
   * Makes sure that the disk has what was written, where it was written. Syncs and checks at the same time; both have ended
   * when this rejects, so that nothing works on the files any more.
   *
   * @throws {Error} If either has failed.
   */
  async confirm({ isSynced }: { isSynced: boolean }): Promise<void> {
    const ends = await Promise.allSettled([
      isSynced ? this.#parts.journal.sync() : undefined,
      this.check(),
    ]);
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  }

  /** Writes again what a check has missed, if anything. */
  async restore(): Promise<void> {
    if (!this.#isDisplaced) return;
    const { folder, journal, framesIn, saveCursor } = this.#parts;
    // In another folder, a later process would take what stands there for segments of this spool.
    if (await folder.reopen()) { for (const path of journal.files()) this.#quarantine(path); }
    await saveCursor(); // before any segment: what is settled must not be read again
    for (const segment of [...journal.segments]) {
      if (await segment.isInPlace()) continue;
      const found = await Deno.lstat(segment.path).catch(() => undefined);
      if (found && !segment.isSameFile(found)) this.#quarantine(segment.path);
      await journal.restore(segment, () => framesIn(segment));
    }
    this.#isDisplaced = false;
  }

  #quarantine(path: string): void {
    const { folder, onForeign } = this.#parts;
    onForeign(path, folder.quarantineFile(path));
  }
}
