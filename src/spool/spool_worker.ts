import type { DatasetName } from "../records/dataset.ts";
import { Alarm, type EventListener } from "../pipeline/events.ts";
import { retry } from "../pipeline/retry.ts";
import type { SpoolFolder } from "./spool_folder.ts";
import type { SpoolGuard } from "./spool_guard.ts";
import { storageError } from "../pipeline/durable_file.ts";
import { Mutex } from "../pipeline/mutex.ts";

const MAX_RETRY_MS = 30_000;

/**
 * Work on the files of a spool: one thing at a time, again and again until it succeeds, with an alarm meanwhile. On a
 * full disk, what is kept back is for batches: only they can make room.
 */
export class SpoolWorker {
  readonly #folder: SpoolFolder;
  readonly #guard: SpoolGuard;
  /** Raised while records cannot be written, and while batches cannot be frozen or read. */
  readonly #intakeAlarm: Alarm;
  readonly #batchAlarm: Alarm;
  readonly #abort = new AbortController();
  /** Shared state of the workers on the files. */
  readonly #mutex = new Mutex();
  /** Ends the wait before the next attempt to write records, where there is one. */
  #tryNow: () => void = () => {};
  #isClosing = false;
  #isLost = false;

  /** Does nothing by itself. */
  constructor(
    { folder, guard, dataset, onEvent }: {
      folder: SpoolFolder;
      guard: SpoolGuard;
      dataset: DatasetName;
      onEvent: EventListener;
    },
  ) {
    this.#folder = folder;
    this.#guard = guard;
    this.#intakeAlarm = new Alarm(dataset, onEvent);
    this.#batchAlarm = new Alarm(dataset, onEvent);
  }

  /** Alarm for the operator, if any. */
  get alarm(): string | undefined {
    return this.#intakeAlarm.message ?? this.#batchAlarm.message;
  }

  /** True if records cannot be written now. */
  get isIntakeDown(): boolean {
    return this.#intakeAlarm.message !== undefined;
  }

  /** True if no attempt is made any more. */
  get isEnded(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Writes until it succeeds. */
  async persist<R>(write: () => Promise<R>, { isIntake }: { isIntake: boolean }): Promise<R> {
    const alarm = isIntake ? this.#intakeAlarm : this.#batchAlarm;
    let hasFailed = false;
    // Another write that succeeded meanwhile may have cleared the alarm.
    const report = (error: unknown) => {
      if (alarm.message === undefined) alarm.raise(storageError("write", this.#folder.path, error));
    };
    const attempt = async () => {
      // A path that leads nowhere also fails in other ways than by a check.
      if (hasFailed) await this.#guard.check({ all: true }).catch(report);
      return await this.#attempt(write, isIntake);
    };
    const result = await retry(() => this.exclusive(attempt), {
      signal: this.#abort.signal,
      onFailure: (error) => {
        hasFailed = true;
        alarm.raise(error);
        if (this.#isClosing) throw error;
      },
      onWait: (tryNow) => {
        if (isIntake) this.#tryNow = tryNow;
      },
      maxMs: () => MAX_RETRY_MS,
    });
    alarm.clear();
    return result;
  }

  async #attempt<R>(write: () => Promise<R>, isIntake: boolean): Promise<R> {
    const folder = this.#folder;
    try {
      await this.#guard.restore();
      if (isIntake) await folder.keepReserve();
      return await write();
    } catch (cause) {
      const error = storageError("write", folder.path, cause);
      if (isIntake || error.kind !== "disk-full" || !folder.hasReserve) throw error;
      await folder.releaseReserve();
      return await write();
    }
  }

  /** Checks all files a last time, and writes again what is missing. */
  async verifyFiles(): Promise<void> {
    const guard = this.#guard;
    await this.exclusive(() => guard.check({ all: true }).catch(() => guard.restore())).catch(() => {});
    this.#isLost = guard.isDisplaced;
  }

  /** True if what was acknowledged could not be left on disk at the end. */
  get isGone(): boolean {
    return this.#isLost;
  }

  /** Reads until it succeeds. */
  read<R>(read: () => Promise<R>): Promise<R> {
    return retry(async () => {
      try {
        const found = await read();
        this.#batchAlarm.clear();
        return found;
      } catch (cause) {
        throw storageError("read", this.#folder.path, cause);
      }
    }, {
      signal: this.#abort.signal,
      onFailure: (error) => this.#batchAlarm.raise(error),
      maxMs: () => MAX_RETRY_MS,
    });
  }

  /** Does once what comes again by itself; gives whether it succeeded. */
  async attempt(run: () => Promise<void>): Promise<boolean> {
    try {
      await this.exclusive(run);
    } catch (error) {
      this.#batchAlarm.raise(storageError("write", this.#folder.path, error));
      return false;
    }
    return true;
  }

  /** Clears the alarm of batches. */
  clear(): void {
    this.#batchAlarm.clear();
  }

  /** Runs something while no other work on the files is in progress. */
  exclusive<R>(run: () => Promise<R>): Promise<R> {
    return this.#mutex.run(run);
  }

  /** There is room: waiting writers retry at once. */
  tryNow(): void {
    this.#tryNow();
  }

  /** Stops retries of failures. */
  beginClosing(): void {
    this.#isClosing = true;
  }

  /** Ends what is being tried. */
  end(): void {
    this.#abort.abort(storageError("write", this.#folder.path, new Error("it was closed")));
  }
}

/** Interval at which all files are checked; with fsync "interval", also synced. */
const CHECK_INTERVAL_MS = 1_000;

/** Runs a check each second, one at a time. It does not keep the program running. */
export class PeriodicCheck {
  readonly #timer: ReturnType<typeof setInterval>;
  #isRunning = false;

  /** Starts it. A check that rejects is over. */
  constructor(check: () => Promise<void>) {
    this.#timer = setInterval(async () => {
      if (this.#isRunning) return;
      this.#isRunning = true;
      await check().catch(() => {});
      this.#isRunning = false;
    }, CHECK_INTERVAL_MS);
    Deno.unrefTimer(this.#timer);
  }

  end(): void {
    clearInterval(this.#timer);
  }
}
