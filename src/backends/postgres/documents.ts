import { BackendError } from "../../errors.ts";
import type { DocumentStore, StoredDocument, WriteCondition } from "../backend.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";

/** The SQLSTATE of a table that is not there. */
const UNDEFINED_TABLE = "42P01";

/** Documents in a table of their own. */
export class PostgresDocuments implements DocumentStore {
  readonly #pool: PostgresPool;

  constructor(pool: PostgresPool) {
    this.#pool = pool;
  }

  async read(kind?: string): Promise<StoredDocument[]> {
    const where = kind === undefined ? "" : "WHERE kind = $1";
    const sql =
      `SELECT kind, id, body::text FROM live_documents ${where} ORDER BY kind COLLATE "C", id COLLATE "C"`;
    const parameters = kind === undefined ? [] : [kind];
    try {
      const rows = await this.#pool.useBriefly("read", (session) => session.query(sql, parameters));
      return rows.map(([kind, id, body]) => ({ kind: kind!, id: id!, body: JSON.parse(body!) }));
    } catch (error) {
      // A database that an older release has made, and that was opened only to read.
      if (error instanceof BackendError && error.sqlState === UNDEFINED_TABLE) return [];
      throw error;
    }
  }

  async write(document: StoredDocument, condition?: WriteCondition): Promise<boolean> {
    return await this.#pool.useBriefly("write", (session) => writeDocument(session, document, condition));
  }

  async delete(kind: string, id: string): Promise<boolean> {
    const sql = "DELETE FROM live_documents WHERE kind = $1 AND id = $2";
    return await this.#pool.useBriefly("delete", (session) => session.execute(sql, [kind, id])) > 0;
  }
}

/** Writes a document; returns true if it was written. */
export async function writeDocument(
  session: PostgresSession,
  { kind, id, body }: StoredDocument,
  { ifAbsent = false, ifRevision }: WriteCondition = {},
): Promise<boolean> {
  if (ifRevision !== undefined) {
    const sql = "UPDATE live_documents SET body = $3::text::jsonb, updated_at = now() " +
      "WHERE kind = $1 AND id = $2 AND body ->> 'revision' = $4";
    return await session.execute(sql, [kind, id, JSON.stringify(body), String(ifRevision)]) > 0;
  }
  const conflict = ifAbsent
    ? "DO NOTHING"
    : "(kind, id) DO UPDATE SET body = excluded.body, updated_at = now()";
  const sql =
    `INSERT INTO live_documents (kind, id, body) VALUES ($1, $2, $3::text::jsonb) ON CONFLICT ${conflict}`;
  return await session.execute(sql, [kind, id, JSON.stringify(body)]) > 0;
}
