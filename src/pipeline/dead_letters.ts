import { createHash } from "node:crypto";
import type { ErrorCode } from "../errors.ts";
import type { DatasetName } from "../records/dataset.ts";
import type { Member } from "./sink.ts";
import { readLines, storageError, syncFolder, writeAll } from "./durable_file.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** Letters after which a repetition is not recognized. A crash repeats one batch at most. */
const MAX_REMEMBERED = 100_000;

/** A record that the backend refused, and why. */
export interface DeadLetter {
  /** Time at which it was refused, as ISO 8601. */
  time: string;
  /** The kind of record. */
  dataset: DatasetName;
  /** The id of the batch that held this record alone. Writing it under this id again is idempotent. */
  batchId: string;
  /** Reason of the refusal, as a stable name. */
  code?: ErrorCode;
  /** The SQLSTATE of the refusal, where the server gave one. */
  sqlState?: string;
  /** The refusal in words. */
  message: string;
  record: unknown;
  /** Position in the request that contained it, if there was one. */
  member?: Member;
}

/** Part of a {@linkcode DeadLetter} that the pipeline provides. */
export type Refusal = Pick<DeadLetter, "batchId" | "code" | "sqlState" | "message" | "record" | "member">;

/** The file of the refused records of one dataset, one JSON document a line. */
export class DeadLetters {
  readonly path: string;
  readonly #folder: string;
  readonly #dataset: DatasetName;

  /** Names the file; it is made when it is needed. */
  constructor(folder: string, dataset: DatasetName) {
    this.#folder = folder;
    this.#dataset = dataset;
    this.path = `${folder}/${dataset}.ndjson`;
  }

  /**
   * Adds a record. It is on disk when this resolves.
   *
   * @throws {BackendError} If it could not be written.
   */
  async append({ batchId, code, sqlState, message, record, member }: Refusal): Promise<void> {
    const time = new Date().toISOString();
    const letter: DeadLetter = {
      time,
      dataset: this.#dataset,
      batchId,
      code,
      sqlState,
      message,
      record,
      member,
    };
    try {
      await Deno.mkdir(this.#folder, { recursive: true, mode: 0o700 });
      using file = await this.#open({ create: true });
      const before = await file.seek(0, Deno.SeekMode.End);
      try {
        // Starts a new line if a crash left half of one.
        await writeAll(file, encoder.encode(`${before > 0 ? "\n" : ""}${JSON.stringify(letter)}`));
        await file.sync();
        if (before === 0) await syncFolder(this.#folder); // the name of a new file
      } catch (error) {
        await file.truncate(before).catch(() => {}); // half a letter would spoil the next one
        throw error;
      }
    } catch (error) {
      throw storageError("write", this.path, error);
    }
  }

  /** Reads the letters from disk, oldest first. One that was written again after a crash comes once. */
  async *list(): AsyncGenerator<DeadLetter> {
    try {
      using file = await Deno.open(this.path);
      for await (const { letter } of this.#read(file)) if (letter) yield letter;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw storageError("read", this.path, error);
    }
  }

  /**
   * Removes the letters that are handled, in constant memory. Appends wait meanwhile; lines that are no letters are kept.
   *
   * @param handle Handles a letter; returns true to remove it.
   * @returns The number of letters removed, and the number left.
   */
  async drain(
    handle: (letter: DeadLetter) => boolean | Promise<boolean>,
  ): Promise<{ gone: number; left: number }> {
    const rest = `${this.path}.new`;
    try {
      using locked = await this.#open({ create: false });
      const counts = await this.#filter(locked, { rest, handle });
      if (counts.left > 0) await Deno.rename(rest, this.path);
      else for (const path of [this.path, rest]) await Deno.remove(path);
      await syncFolder(this.#folder);
      return counts;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return { gone: 0, left: 0 };
      await Deno.remove(rest).catch(() => {}); // the error that led here is the one to tell
      throw storageError("process", this.path, error);
    }
  }

  /** Writes the letters that are kept into another file. Reads by the handle that has the lock: on Windows no other may. */
  async #filter(
    locked: Deno.FsFile,
    { rest, handle }: { rest: string; handle: (letter: DeadLetter) => boolean | Promise<boolean> },
  ): Promise<{ gone: number; left: number }> {
    const counts = { gone: 0, left: 0 };
    using file = await Deno.open(rest, { write: true, create: true, truncate: true, mode: 0o600 });
    for await (const { line, letter } of this.#read(locked)) {
      if (letter && await handle(letter)) counts.gone++;
      else {
        if (counts.left++ > 0) await writeAll(file, encoder.encode("\n"));
        await writeAll(file, line);
      }
    }
    await file.sync();
    return counts;
  }

  /** Reads lines, without a letter where they are none: half a line of a process that ended, or a wrong edit. */
  async *#read(file: Deno.FsFile): AsyncGenerator<{ line: Uint8Array; letter?: DeadLetter }> {
    const seen = new Set<string>();
    for await (const line of readLines(file)) {
      const text = decoder.decode(line);
      if (text.trim() === "") continue;
      const letter = this.#parse(text);
      if (letter) {
        const content = `${letter.batchId} ${JSON.stringify(letter.record)}`;
        const id = createHash("sha256").update(content).digest("base64");
        if (seen.has(id)) continue;
        seen.add(id);
        if (seen.size > MAX_REMEMBERED) seen.delete(seen.values().next().value!);
      }
      yield { line, letter };
    }
  }

  #parse(text: string): DeadLetter | undefined {
    try {
      const letter: DeadLetter | null = JSON.parse(text);
      const isLetter = typeof letter?.batchId === "string" && letter.dataset === this.#dataset;
      return isLetter && "record" in letter ? letter : undefined;
    } catch {
      return undefined;
    }
  }

  /** Returns the file, locked for adding or retrying. Opens the current one if it was replaced. */
  async #open({ create }: { create: boolean }): Promise<Deno.FsFile> {
    for (;;) {
      const file = await Deno.open(this.path, { read: true, write: true, create, mode: 0o600 });
      await file.lock(true);
      const { ino } = await file.stat();
      const found = await Deno.stat(this.path).catch(() => undefined);
      if (found?.ino === ino) return file;
      file.close();
    }
  }
}
