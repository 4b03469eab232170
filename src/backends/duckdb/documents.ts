import type { DocumentStore, StoredDocument, WriteCondition } from "../backend.ts";
import type { DuckdbFile } from "./file.ts";
import { literal } from "../sql/select.ts";
import { NOW } from "./schema.ts";
import type { DuckdbSession } from "./session.ts";

/** Documents in a table of their own. */
export class DuckdbDocuments implements DocumentStore {
  readonly #file: DuckdbFile;

  constructor(file: DuckdbFile) {
    this.#file = file;
  }

  read(kind?: string): Promise<StoredDocument[]> {
    return this.#file.use("read", async (session) => {
      const where = kind === undefined ? "" : `WHERE kind = ${literal(kind)}`;
      const rows = await session.query(
        `SELECT kind, id, body FROM live_documents ${where} ORDER BY kind, id`,
      );
      return (rows as string[][]).map(([kind, id, body]) => ({ kind, id, body: JSON.parse(body) }));
    });
  }

  write(document: StoredDocument, condition?: WriteCondition): Promise<boolean> {
    return this.#file.change("write", (session) => writeDocument(session, document, condition));
  }

  delete(kind: string, id: string): Promise<boolean> {
    const sql = `DELETE FROM live_documents WHERE kind = ${literal(kind)} AND id = ${literal(id)}`;
    return this.#file.change("delete", async (session) => await session.execute(sql) > 0);
  }
}

/** Writes a document while no other change runs; returns true if it was written. */
export async function writeDocument(
  session: DuckdbSession,
  { kind, id, body }: StoredDocument,
  { ifAbsent = false, ifRevision }: WriteCondition = {},
): Promise<boolean> {
  const [where, text] = [
    `WHERE kind = ${literal(kind)} AND id = ${literal(id)}`,
    literal(JSON.stringify(body)),
  ];
  const isOf = ifRevision === undefined ? "" : ` AND (body ->> '$.revision') = '${ifRevision}'`;
  if (!ifAbsent) {
    const update = `UPDATE live_documents SET body = ${text}, updated_at = ${NOW} ${where}${isOf}`;
    if (await session.execute(update) > 0) return true;
    if (ifRevision !== undefined) return false;
  }
  const insert = `INSERT INTO live_documents SELECT ${literal(kind)}, ${literal(id)}, ${text}, ${NOW} ` +
    `WHERE NOT EXISTS (SELECT 1 FROM live_documents ${where})`;
  return await session.execute(insert) > 0;
}
