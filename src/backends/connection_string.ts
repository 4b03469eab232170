import { ConfigError } from "../errors.ts";
import type { StorageBackend } from "./backend.ts";

/** Where a backend keeps its records. */
export interface ConnectionTarget {
  /** Which backend the connection string names. */
  readonly backend: StorageBackend;
  /** The path of the SQLite file, empty in memory; or the connection string of the server. */
  readonly location: string;
}

const FORMS = "sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (in memory), " +
  "postgresql://user@host:5432/database or timescaledb://user@host:5432/database";

/**
 * Reads a connection string in the style of SQLAlchemy.
 *
 * @throws {ConfigError} If its scheme is unknown or its form is wrong.
 */
export function parseConnectionString(text: string): ConnectionTarget {
  const [, scheme, rest] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text) ?? [];
  if (scheme === "sqlite") return { backend: "sqlite", location: sqlitePath(rest) };
  // SQLAlchemy also names a driver there, as in postgresql+psycopg2.
  if (/^postgres(ql)?(\+\w+)?$/.test(scheme ?? "")) return { backend: "postgresql", location: text };
  if (/^timescaledb(\+\w+)?$/.test(scheme ?? "")) return { backend: "timescaledb", location: text };
  // The text may hold a password, so no more of it is shown than its scheme.
  const found = scheme === undefined ? "no scheme" : `scheme "${scheme}"`;
  throw new ConfigError(
    `Cannot read the connection string: ${FORMS} is wanted: it has ${found}`,
    { code: "INVALID_CONNECTION_STRING" },
  );
}

function sqlitePath(rest: string): string {
  if (rest === "" || rest === "/" || rest === "/:memory:") return "";
  if (!rest.startsWith("/")) {
    throw new ConfigError(
      `Cannot read the connection string: ${FORMS} is wanted: it has two slashes and then a name`,
      { code: "INVALID_CONNECTION_STRING" },
    );
  }
  if (rest.includes("?") || rest.includes("\0")) {
    throw new ConfigError(
      "Cannot read the connection string: a plain file path is wanted: it has parameters after a ?",
      { code: "INVALID_CONNECTION_STRING" },
    );
  }
  return rest.slice(1);
}

/** A connection string as it may be shown: without passwords. */
export function hidePassword(text: string): string {
  return text.replace(/\/\/([^/@:]*):.*@/s, "//$1:***@").replace(/([?&]password=)[^&]*/gi, "$1***");
}
