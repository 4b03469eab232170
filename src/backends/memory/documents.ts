import type { DocumentStore, StoredDocument, WriteCondition } from "../backend.ts";

/** Documents in process. Kept as JSON, so that callers cannot change them. */
export class MemoryDocuments implements DocumentStore {
  readonly #bodies = new Map<string, string>();

  read(kind?: string): Promise<StoredDocument[]> {
    return Promise.resolve(this.list(kind));
  }

  /** The same at once. */
  list(kind?: string): StoredDocument[] {
    const all = [...this.#bodies].toSorted(([a], [b]) => a < b ? -1 : 1).map(([key, body]) => {
      const [kind, id] = key.split("\0");
      return { kind, id, body: JSON.parse(body) };
    });
    return kind === undefined ? all : all.filter((document) => document.kind === kind);
  }

  write(
    { kind, id, body }: StoredDocument,
    { ifAbsent = false, ifRevision }: WriteCondition = {},
  ): Promise<boolean> {
    const key = `${kind}\0${id}`;
    const stored = this.#bodies.get(key);
    const isOther = ifRevision !== undefined && JSON.parse(stored ?? "{}")?.revision !== ifRevision;
    if (isOther || (ifAbsent && stored !== undefined)) return Promise.resolve(false);
    this.#bodies.set(key, JSON.stringify(body));
    return Promise.resolve(true);
  }

  delete(kind: string, id: string): Promise<boolean> {
    return Promise.resolve(this.#bodies.delete(`${kind}\0${id}`));
  }
}
