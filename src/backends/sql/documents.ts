import type { DocumentStore, StoredDocument, WriteCondition } from "../backend.ts";
import { literal } from "./select.ts";

/** SQL of documents that differs between databases. */
export interface DocumentDialect {
  /** Sign of a parameter, which its number follows; none where texts are part of the statement. */
  readonly parameter?: "?" | "$";
  /**
   * Type of the column `body`.
   *
   * @default {"text"}
   */
  readonly bodyType?: "jsonb";
  /** True if the table has no unique key. */
  readonly isUnkeyed?: true;
  /** Returns the current time. */
  now(): string;
  /** Returns a condition that the body has this revision. */
  hasRevision(revision: number): string;
}

/** A statement and the values of its parameters. */
type Statement = readonly [sql: string, parameters: readonly string[]];

/** Access to the table. */
export interface DocumentTable {
  /** Runs a query; gives its rows, none where there is no such table. */
  query(...statement: Statement): Promise<readonly (readonly unknown[])[]>;
  /** Runs a change while no other change runs; gives the number of rows that it affected. */
  execute(operation: string, ...statement: Statement): Promise<number>;
}

/** Documents in a table of their own. */
export class SqlDocuments implements DocumentStore {
  readonly #table: DocumentTable;
  readonly #dialect: DocumentDialect;

  constructor(table: DocumentTable, dialect: DocumentDialect) {
    this.#table = table;
    this.#dialect = dialect;
  }

  async read(kind?: string): Promise<StoredDocument[]> {
    return documentsOf(await this.#table.query(...readStatement(this.#dialect, kind)));
  }

  async write(document: StoredDocument, condition?: WriteCondition): Promise<boolean> {
    return await this.#table.execute("write", ...writeStatement(this.#dialect, document, condition)) > 0;
  }

  async delete(kind: string, id: string): Promise<boolean> {
    const statement = build(
      this.#dialect,
      (text) => `DELETE FROM live_documents WHERE kind = ${text(kind)} AND id = ${text(id)}`,
    );
    return await this.#table.execute("delete", ...statement) > 0;
  }
}

/** The statement that reads the documents of a kind, or all. */
export function readStatement(dialect: DocumentDialect, kind?: string): Statement {
  const body = dialect.bodyType ? "body::text" : "body";
  return build(
    dialect,
    (text) =>
      `SELECT kind, id, ${body} FROM live_documents ${
        kind === undefined ? "" : `WHERE kind = ${text(kind)}`
      }`,
  );
}

/** The documents of {@linkcode readStatement}, by kind and id. */
export function documentsOf(rows: readonly (readonly unknown[])[]): StoredDocument[] {
  return (rows as readonly (readonly string[])[])
    .map(([kind, id, body]) => ({ kind, id, body: JSON.parse(body) }))
    .sort((a, b) => a.kind < b.kind || (a.kind === b.kind && a.id < b.id) ? -1 : 1);
}

/** The statement that writes a document; it affects no row where the condition does not hold. */
export function writeStatement(
  dialect: DocumentDialect,
  document: StoredDocument,
  { ifAbsent = false, ifRevision }: WriteCondition = {},
): Statement {
  return build(dialect, (text) => {
    const [kind, id] = [text(document.kind), text(document.id)];
    const body = text(JSON.stringify(document.body)) +
      (dialect.bodyType ? `::text::${dialect.bodyType}` : "");
    if (ifRevision !== undefined) {
      return `UPDATE live_documents SET body = ${body}, updated_at = ${dialect.now()} ` +
        `WHERE kind = ${kind} AND id = ${id} AND ${dialect.hasRevision(ifRevision)}`;
    }
    const values = `${kind}, ${id}, ${body}, ${dialect.now()}`;
    const update = "UPDATE SET body = excluded.body, updated_at = excluded.updated_at";
    if (dialect.isUnkeyed) {
      return `MERGE INTO live_documents AS d USING (VALUES (${values})) AS excluded (kind, id, body, updated_at) ` +
        `ON d.kind = excluded.kind AND d.id = excluded.id ${ifAbsent ? "" : `WHEN MATCHED THEN ${update} `}` +
        "WHEN NOT MATCHED THEN INSERT VALUES (excluded.kind, excluded.id, excluded.body, excluded.updated_at)";
    }
    return `INSERT INTO live_documents (kind, id, body, updated_at) VALUES (${values}) ` +
      `ON CONFLICT (kind, id) DO ${ifAbsent ? "NOTHING" : update}`;
  });
}

function build(
  { parameter }: DocumentDialect,
  sqlOf: (text: (value: string) => string) => string,
): Statement {
  const parameters: string[] = [];
  const sql = sqlOf((value) => parameter ? `${parameter}${parameters.push(value)}` : literal(value));
  return [sql, parameters];
}
