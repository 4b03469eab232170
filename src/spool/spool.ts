import type { Dataset } from "../records/dataset.ts";
import { ConfigError } from "../errors.ts";
import type { EventListener, EventOf } from "../pipeline/events.ts";
import { LEDGER_DAYS } from "../pipeline/sink.ts";
import { DAY_MS } from "../records/calendar.ts";
import { Journal } from "./journal.ts";
import {
  type BatchName,
  type FrozenBatch,
  MAX_BUFFERED_BYTES,
  MAX_BUFFERED_RECORDS,
  type Queue,
  type QueueHooks,
  type QueueRoom,
} from "../pipeline/queue.ts";
import { SpoolBacklog } from "./spool_backlog.ts";
import { SpoolBatches } from "./spool_batches.ts";
import { SpoolFolder } from "./spool_folder.ts";
import { SpoolGuard } from "./spool_guard.ts";
import { SpoolIntake } from "./spool_intake.ts";
import { type RecoveredBatch, type RecoveredState, recoverJournal } from "./spool_recovery.ts";
import { PeriodicCheck, SpoolWorker } from "./spool_worker.ts";
import { storageError } from "../pipeline/durable_file.ts";

/** Policy for syncing the spool to disk, against a crash of the machine. */
export type FsyncPolicy = "batch" | "interval" | "none";

export interface SpoolOptions {
  /** The folder of all datasets. */
  directory: string;
  /** Database of its records, if known. */
  database?: string;
  /** The most bytes that it may take. */
  maxBytes: number;
  /** Policy for syncing to disk. */
  fsync: FsyncPolicy;
  /** Is told of what happens. */
  onEvent: EventListener;
}

const MAX_SEGMENT_BYTES = 16 * 2 ** 20;
/** A segment is an eighth of the spool at the most: it is what can be removed at once. */
const MIN_SEGMENTS = 8;

interface SpoolParts {
  readonly folder: SpoolFolder;
  readonly journal: Journal;
  readonly options: SpoolOptions;
  readonly settled: number;
  readonly recovered: RecoveredState;
}

/**
 * A {@linkcode Queue} on disk: an append-only journal. Records are in it before they count as accepted; one sync
 * serves all who wait. They stay in memory as well, up to the bounds of a buffer, and are read back from disk
 * beyond that. A batch is frozen in the journal with its id before it is first written into the backend, so that
 * a later process writes it again under the same id, by which the backend's ledger knows it.
 *
 * @typeParam T The type of the records.
 */
export class Spool<T> implements Queue<T> {
  readonly #folder: SpoolFolder;
  readonly #journal: Journal;
  readonly #options: SpoolOptions;
  readonly #work: SpoolWorker;
  readonly #intake: SpoolIntake<T>;
  readonly #backlog: SpoolBacklog<T>;
  readonly #batches: SpoolBatches;
  readonly #check: PeriodicCheck;
  #hooks!: QueueHooks;

  /**
   * Opens the spool of a dataset, and finds what an earlier process has left in it.
   *
   * @throws {BackendError} If the folder cannot be used, or another process uses it.
   * @throws {ConfigError} If it holds records that are for another database.
   */
  static async open<T>(dataset: Dataset<T>, options: SpoolOptions): Promise<Spool<T>> {
    const { directory, onEvent } = options;
    const path = `${directory}/${dataset.name}`;
    let folder: SpoolFolder | undefined;
    let journal: Journal | undefined;
    try {
      folder = await SpoolFolder.open(path);
      const segmentBytes = Math.min(MAX_SEGMENT_BYTES, options.maxBytes / MIN_SEGMENTS);
      const written = journal = new Journal(path, segmentBytes);
      const settled = folder.readCursor();
      const recovered = await recoverJournal(journal, {
        settled,
        onDamage(segment, part) {
          const file = folder!.quarantineBytes(segment.path, part);
          const { offset, length } = part;
          onEvent(
            damageEvent(dataset, {
              what: `${length} bytes at ${offset} of ${segment.path}`,
              bytes: length,
              file,
            }),
          );
          const isTail = segment === written.segments.at(-1) && offset + length === segment.bytes;
          if (isTail && file) written.cut(segment, offset);
        },
        onUnreadable({ path, bytes }) {
          onEvent(damageEvent(dataset, { what: path, bytes, file: folder!.quarantineFile(path) }));
        },
      });
      await assertOwner(folder, options, recovered);
      const outdated = outdatedEvent(dataset, path, recovered);
      if (outdated) onEvent(outdated);
      const spool = new Spool<T>(dataset, { folder, journal, options, settled, recovered });
      await spool.#batches.removeSettled();
      await folder.keepReserve().catch(() => {}); // done again once there is space
      return spool;
    } catch (error) {
      journal?.close();
      folder?.close();
      throw error instanceof ConfigError ? error : storageError("open", path, error);
    }
  }

  private constructor(
    dataset: Dataset<T>,
    { folder, journal, options, settled, recovered }: SpoolParts,
  ) {
    const { fsync, onEvent } = options;
    this.#folder = folder;
    this.#journal = journal;
    this.#options = options;
    const guard = new SpoolGuard({
      folder,
      journal,
      framesIn: (segment) => [...this.#backlog.framesIn(segment), ...this.#batches.framesIn(segment)],
      saveCursor: () => folder.saveCursor(this.#batches.settledTo),
      onForeign: (what, file) => onEvent(damageEvent(dataset, { what, bytes: 0, file })),
    });
    this.#work = new SpoolWorker({ folder, guard, dataset: dataset.name, onEvent });
    const parts = { folder, journal, guard, work: this.#work, settled, recovered };
    this.#intake = new SpoolIntake(dataset, {
      ...parts,
      isSynced: fsync === "batch",
      next: recovered.next,
      onWritten: (written) => {
        this.#backlog.add(written);
        this.#hooks.onRoom();
        this.#hooks.onReady();
      },
    });
    this.#backlog = new SpoolBacklog({
      ...parts,
      onTaken: (records, time) => this.#hooks.onTaken(records, time),
      onMissing: (records) => {
        this.#hooks.onMissing(records);
        onEvent(missingEvent(dataset, folder.path, records));
      },
    });
    this.#batches = new SpoolBatches({
      ...parts,
      isSynced: fsync !== "none",
      onRoom: () => this.#hooks.onRoom(),
    });
    this.#check = new PeriodicCheck(async () => {
      if (this.#work.isIntakeDown) return; // each of its attempts checks
      await this.#work.persist(async () => {
        if (fsync === "interval") await journal.sync();
        await guard.check({ all: true });
      }, { isIntake: true });
      if (this.#work.alarm !== undefined) this.#batches.save();
    });
  }

  get isDurable(): boolean {
    return !this.#work.isGone;
  }

  /** Says who takes records out of it. */
  attach(hooks: QueueHooks): this {
    this.#hooks = hooks;
    return this;
  }

  get room(): QueueRoom {
    const { hasRoom, records, bytes } = this.#intake;
    if (this.#journal.bytes + bytes >= this.#options.maxBytes) return "none";
    if (!hasRoom) return this.#work.isIntakeDown ? "none" : "busy";
    const { onDisk, inMemory, bytesInMemory } = this.#backlog;
    const fitsMemory = onDisk === 0 && inMemory + records < MAX_BUFFERED_RECORDS &&
      bytesInMemory + bytes < MAX_BUFFERED_BYTES;
    return fitsMemory ? "memory" : "disk";
  }

  get isEmpty(): boolean {
    return this.#backlog.isEmpty;
  }

  get buffered(): number {
    const { inMemory, onDisk } = this.#backlog;
    return inMemory + this.#intake.records + (this.#work.isGone ? onDisk : 0);
  }

  get unwritten(): number {
    return this.#intake.records;
  }

  get spooled(): number {
    return this.#work.isGone ? 0 : this.#backlog.onDisk;
  }

  get bytes(): number {
    return this.#journal.bytes;
  }

  get oldestTime(): number | undefined {
    return this.#backlog.oldestTime ?? this.#intake.oldestTime;
  }

  get alarm(): string | undefined {
    return this.#work.alarm;
  }

  push(record: T, bytes: number): Promise<void> {
    return this.#intake.push(record, bytes);
  }

  take(): readonly T[] | Promise<readonly T[]> {
    return this.#backlog.take();
  }

  dropOldest(): number {
    // Dropping does not help where records only wait for a sync.
    const isInTime = this.#intake.hasRoom || this.#work.isIntakeDown;
    return isInTime && this.#batches.recovered.length === 0 ? this.#backlog.dropOldest() : 0;
  }

  async *frozen(): AsyncGenerator<FrozenBatch<T>> {
    const { recovered } = this.#batches;
    while (recovered.length > 0) {
      const [batch] = recovered;
      const isFrozen = batch.pinned.length > 0; // else its frame is damaged, or there was none
      const records = await this.#backlog.takeBatch(batch.end);
      if (isFrozen) this.#batches.resume(batch);
      else if (records.length > 0) await this.#batches.freeze(batch);
      recovered.shift();
      if (isFrozen || records.length > 0) yield { id: batch.id, records };
    }
  }

  /** Several batches if records were dropped in between: dropped records must not come back in one. */
  async freeze(count: number): Promise<BatchName[]> {
    const batches = this.#backlog.cutTaken(count).map((run) => ({ id: crypto.randomUUID(), ...run }));
    for (const batch of batches) await this.#batches.freeze(batch);
    return batches.map(({ id, first, end }) => ({ id, count: end - first }));
  }

  isSplit(batchId: string): boolean {
    return this.#batches.isSplit(batchId);
  }

  split(batchId: string): Promise<void> {
    return this.#batches.split(batchId);
  }

  acknowledge(): void {
    this.#batches.settle();
    this.#backlog.forget(this.#batches.settledTo);
  }

  async close(): Promise<void> {
    this.#check.end();
    this.#work.beginClosing();
    if (!this.#work.isIntakeDown) await this.#intake.end();
    this.#work.end();
    await this.#intake.end();
    await this.#batches.end();
    await this.#work.verifyFiles();
    if (this.#batches.settledTo === this.#intake.next) this.#journal.seal(); // then all of it can go
    await this.#batches.saveAgain();
    await this.#work.exclusive(() => this.#journal.sync()).catch(() => {});
    this.#journal.close();
    this.#folder.close();
  }
}

/** Refuses records that were accepted for another database. An empty spool fits any database. */
async function assertOwner(
  folder: SpoolFolder,
  { database }: SpoolOptions,
  { records, batches }: RecoveredState,
): Promise<void> {
  const owner = folder.readOwner();
  if (database === undefined || owner === database) return;
  if (owner !== undefined && (records > 0 || batches.length > 0)) {
    throw new ConfigError(
      `Cannot use the spool ${folder.path}: its records were accepted for ${owner}, and this is ${database}. Use another ` +
        `folder; if the database has moved, remove ${folder.ownerPath}.`,
      { code: "SPOOL_OWNED" },
    );
  }
  await folder.saveOwner(database);
}

/** Event of batches that may have been stored so long ago that the ledger knows them no more. Keys replace the ledger. */
function outdatedEvent(
  { name: dataset, key }: Dataset<unknown>,
  path: string,
  { batches }: RecoveredState,
): EventOf<"spool-outdated"> | undefined {
  const isOutdated = ({ time }: RecoveredBatch) => Date.now() - time > LEDGER_DAYS * DAY_MS;
  const outdated = key.length > 0 ? [] : batches.filter(isOutdated);
  if (outdated.length === 0) return undefined;
  const records = outdated.reduce((sum, { first, end }) => sum + end - first, 0);
  const since = Math.min(...outdated.map(({ time }) => time));
  const message =
    `${path} replays ${records} records of ${new Date(since).toISOString()}. Ledgers keep batches for ` +
    `${LEDGER_DAYS} days: if these were stored, and a cleanup ran since, they are stored twice. Look for duplicates.`;
  return { type: "spool-outdated", dataset, message, records, since };
}

function damageEvent(
  { name: dataset }: Dataset<unknown>,
  { what, bytes, file }: { what: string; bytes: number; file: string | undefined },
): EventOf<"spool-damaged"> {
  const message = `Cannot read ${what}: it is damaged. ${
    file ? `It was moved to ${file}.` : "It is skipped."
  }`;
  return { type: "spool-damaged", dataset, message, bytes, ...(file ? { file } : {}) };
}

/** Creates the event of records that are on disk no more. */
function missingEvent(
  { name: dataset }: Dataset<unknown>,
  path: string,
  records: number,
): EventOf<"spool-damaged"> {
  const message = `Cannot read ${records} records back from ${path}: they are damaged or gone`;
  return { type: "spool-damaged", dataset, message, bytes: 0 };
}
