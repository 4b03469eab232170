import type { DocumentStore, StoredDocument } from "../backends/backend.ts";
import type { Alarm } from "../pipeline/events.ts";
import { retry } from "../pipeline/retry.ts";

/** Saves the newest state of each document in the background, with retries: callers do not wait. */
export class DocumentWriter {
  readonly #documents: DocumentStore;
  readonly #alarm: Alarm;
  readonly #pending = new Map<string, StoredDocument>();
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;

  /** Makes an idle saver. */
  constructor(documents: DocumentStore, alarm: Alarm) {
    this.#documents = documents;
    this.#alarm = alarm;
  }

  get pending(): StoredDocument[] {
    return [...this.#pending.values()];
  }

  save(document: StoredDocument): void {
    const name = `${document.kind} ${document.id}`;
    this.#pending.delete(name); // to the end of the line
    this.#pending.set(name, document);
    this.#running ??= this.#run();
  }

  /** Tries once more what is not stored yet, and ends. */
  async close(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    try {
      for (const document of this.pending) await this.#documents.write(document);
    } catch {
      // The backend is down; close() does not wait for it.
    }
  }

  async #run(): Promise<void> {
    try {
      for (const [name, document] of this.#pending) {
        await retry(() => this.#documents.write(document), {
          signal: this.#abort.signal,
          onFailure: (error) => this.#alarm.raise(error),
        });
        this.#alarm.clear();
        if (this.#pending.get(name) === document) this.#pending.delete(name);
      }
    } catch {
      // closed meanwhile
    }
    this.#running = undefined; // at once: what is saved in the next turn starts another run
  }
}
