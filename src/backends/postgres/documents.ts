import { BackendError } from "../../errors.ts";
import { type DocumentDialect, SqlDocuments } from "../sql/documents.ts";
import type { PostgresPool } from "./pool.ts";

/** The SQLSTATE of a table that is not there. */
const UNDEFINED_TABLE = "42P01";

/** SQL of documents. */
export const DOCUMENTS: DocumentDialect = {
  parameter: "$",
  bodyType: "jsonb",
  now: () => "now()",
  hasRevision: (revision) => `body ->> 'revision' = '${revision}'`,
};

/** The documents of a database. */
export function postgresDocuments(pool: PostgresPool): SqlDocuments {
  return new SqlDocuments({
    query: (...statement) =>
      pool.useBriefly("read", (session) => session.query(...statement)).catch((error) => {
        // A database that an older release has made, and that was opened only to read.
        if (error instanceof BackendError && error.sqlState === UNDEFINED_TABLE) return [];
        throw error;
      }),
    execute: (operation, ...statement) =>
      pool.useBriefly(operation, (session) => session.execute(...statement)),
  }, DOCUMENTS);
}
