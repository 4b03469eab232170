import { formatThings, note } from "./output.ts";

/** Prints notes on files. One that repeats is printed once; disposing says how many files have it. */
export class FileNotes implements Disposable {
  /** Notes, and the first file of each. */
  readonly #printed = new Map<string, string | undefined>();
  readonly #repeating = new Set<string>();

  /** Prints a note, on a file if it names one. */
  add(text: string, file?: string): void {
    if (!this.#printed.has(text)) {
      this.#printed.set(text, file);
      note(file === undefined ? text : `${file}: ${text}`);
    } else if (file !== undefined && file !== this.#printed.get(text)) this.#repeating.add(file);
  }

  [Symbol.dispose](): void {
    const files = this.#repeating.size;
    if (files > 0) note(`${formatThings(files, "more file has", "more files have")} notes as above.`);
  }
}
