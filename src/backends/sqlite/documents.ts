import type { DocumentStore, StoredDocument, WriteCondition } from "../backend.ts";
import { queryAll, runOnce, type SqliteDatabase } from "./driver.ts";

/** Runs an operation and turns its error into one of the backend. */
interface Access {
  read<T>(run: () => T): Promise<T>;
  /** Runs a change while nothing else changes the file. */
  change<T>(operation: string, run: () => T): Promise<T>;
}

/** Documents in a table of their own. */
export class SqliteDocuments implements DocumentStore {
  readonly #database: SqliteDatabase;
  readonly #access: Access;

  constructor(database: SqliteDatabase, access: Access) {
    this.#database = database;
    this.#access = access;
  }

  read(kind?: string): Promise<StoredDocument[]> {
    return this.#access.read(() => {
      // A file that an older release has made, and that was opened only to read.
      const made = "SELECT 1 FROM sqlite_schema WHERE name = 'live_documents'";
      if (queryAll(this.#database, made).length === 0) return [];
      const where = kind === undefined ? "" : "WHERE kind = ?";
      const sql = `SELECT kind, id, body FROM live_documents ${where} ORDER BY kind, id`;
      return queryAll(this.#database, sql, kind === undefined ? [] : [kind]).map((row) => {
        const [kind, id, body] = row as string[];
        return { kind, id, body: JSON.parse(body) };
      });
    });
  }

  write(document: StoredDocument, condition?: WriteCondition): Promise<boolean> {
    return this.#access.change("write", () => writeDocument(this.#database, document, condition));
  }

  delete(kind: string, id: string): Promise<boolean> {
    const sql = "DELETE FROM live_documents WHERE kind = ? AND id = ?";
    return this.#access.change("delete", () => runOnce(this.#database, sql, [kind, id]) > 0);
  }
}

/** Writes a document; returns true if it was written. */
export function writeDocument(
  database: SqliteDatabase,
  { kind, id, body }: StoredDocument,
  { ifAbsent = false, ifRevision }: WriteCondition = {},
): boolean {
  if (ifRevision !== undefined) {
    const sql = "UPDATE live_documents SET body = ?, updated_at = ? " +
      "WHERE kind = ? AND id = ? AND json_extract(body, '$.revision') = ?";
    return runOnce(database, sql, [JSON.stringify(body), Date.now(), kind, id, ifRevision]) > 0;
  }
  const conflict = ifAbsent
    ? "DO NOTHING"
    : "(kind, id) DO UPDATE SET body = excluded.body, updated_at = excluded.updated_at";
  const sql =
    `INSERT INTO live_documents (kind, id, body, updated_at) VALUES (?, ?, ?, ?) ON CONFLICT ${conflict}`;
  return runOnce(database, sql, [kind, id, JSON.stringify(body), Date.now()]) > 0;
}
