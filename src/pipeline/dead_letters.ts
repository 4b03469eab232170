import type { ErrorCode } from "../errors.ts";
import type { DatasetName } from "../records/dataset.ts";
import { readAll, replaceFile, storageError, writeAll } from "./durable_file.ts";

const encoder = new TextEncoder();

/** A record that the backend refused, and why. */
export interface DeadLetter {
  /** When it was set aside, as ISO 8601. */
  time: string;
  /** The kind of record. */
  dataset: DatasetName;
  /** The id of the batch that held nothing but this record. To write it under this id again is harmless. */
  batchId: string;
  /** Why it was refused, as a stable name. */
  code?: ErrorCode;
  /** The SQLSTATE of the refusal, where the server gave one. */
  sqlState?: string;
  /** The refusal in words. */
  message: string;
  /** The record. */
  record: unknown;
}

/** Part of a {@linkcode DeadLetter} that the pipeline provides. */
export type Refusal = Pick<DeadLetter, "batchId" | "code" | "sqlState" | "message" | "record">;

/** The file of the refused records of one dataset, one JSON document a line. */
export class DeadLetters {
  /** The path of the file. */
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
  async append({ batchId, code, sqlState, message, record }: Refusal): Promise<void> {
    const time = new Date().toISOString();
    const letter: DeadLetter = { time, dataset: this.#dataset, batchId, code, sqlState, message, record };
    try {
      await Deno.mkdir(this.#folder, { recursive: true, mode: 0o700 });
      using file = await this.#open({ create: true });
      const before = await file.seek(0, Deno.SeekMode.End);
      try {
        // Starts a new line if a crash left half of one.
        await writeAll(file, encoder.encode(`${before > 0 ? "\n" : ""}${JSON.stringify(letter)}`));
        await file.sync();
      } catch (error) {
        await file.truncate(before).catch(() => {}); // half a letter would spoil the next one
        throw error;
      }
    } catch (error) {
      throw storageError("write", this.path, error);
    }
  }

  /** All letters, oldest first; one that was written twice after a crash comes once. */
  async list(): Promise<DeadLetter[]> {
    try {
      return readLetters(await Deno.readTextFile(this.path)).letters;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw storageError("read", this.path, error);
    }
  }

  /**
   * Works the letters off. What comes in meanwhile waits; lines that are no letters stay as they are.
   *
   * @param settle Is given each letter; gives whether it can go.
   * @returns How many went, and how many are left.
   */
  async workOff(
    settle: (letter: DeadLetter) => boolean | Promise<boolean>,
  ): Promise<{ gone: number; left: number }> {
    try {
      using locked = await this.#open({ create: false });
      // By the handle that has the lock: on Windows no other handle may read now.
      const { letters, others } = readLetters(new TextDecoder().decode(await readAll(locked)));
      const left = [...others];
      for (const letter of letters) if (!await settle(letter)) left.push(JSON.stringify(letter));
      const text = left.join("\n");
      if (text === "") await Deno.remove(this.path);
      else await replaceFile(this.path, encoder.encode(text));
      return { gone: letters.length + others.length - left.length, left: left.length };
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return { gone: 0, left: 0 };
      throw storageError("work off", this.path, error);
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

/** The letters; and the lines that are none: half a line of a process that ended, or a wrong edit. */
function readLetters(text: string): { letters: DeadLetter[]; others: string[] } {
  const byId = new Map<string, DeadLetter>();
  const others: string[] = [];
  for (const line of text.split("\n").filter((line) => line.trim() !== "")) {
    try {
      const letter: DeadLetter = JSON.parse(line);
      byId.set(letter.batchId, letter);
    } catch {
      others.push(line);
    }
  }
  return { letters: [...byId.values()], others };
}
