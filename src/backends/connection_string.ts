import { ConfigError } from "../errors.ts";
import type { StorageBackend } from "./backend.ts";

/** Backend and location that a connection string names. */
export interface ConnectionTarget {
  readonly backend: StorageBackend;
  /** The path of the SQLite or DuckDB file, empty in memory; or the connection string of the server. */
  readonly location: string;
}

/** The parts of a server's connection string, decoded; empty where it leaves them open. */
export interface ServerUrl {
  readonly host: string;
  readonly port: string;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** The parameters behind the `?`, in order. */
  readonly parameters: readonly (readonly [name: string, value: string])[];
}

/** Schemes of databases that are not supported. No other is shown. */
const OTHERS = ["mysql", "mariadb", "mssql", "oracle", "mongodb", "clickhouse"];
/** The parameters whose values are shown; others may be a part of a password. */
const SHOWN = /^(sslmode|connect_timeout)$/;
/** A path that begins with a user and a password, and not with the letter of a drive. */
const LOGIN_AS_PATH = /^\/+(?![A-Za-z]:[\\/])[^/:@]*:[^@]*@/;
const SERVER_SCHEME = /^(postgres(?:ql)?|timescaledb|citus)(\+\w+)?$/;

/**
 * Reads a connection string in the style of SQLAlchemy.
 *
 * @throws {ConfigError} If its scheme is unknown or its form is wrong. Nothing of the text is shown: any part of it may
 * be a password in the wrong place.
 */
export function parseConnectionString(text: string): ConnectionTarget {
  const [, scheme, rest] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text) ?? [];
  if (scheme === "sqlite" || scheme === "duckdb") {
    return { backend: scheme, location: filePath(scheme, rest) };
  }
  // SQLAlchemy also names a driver there, as in postgresql+psycopg2.
  const [, server] = SERVER_SCHEME.exec(scheme ?? "") ?? [];
  if (server === "timescaledb" || server === "citus") return { backend: server, location: text };
  if (server !== undefined) return { backend: "postgresql", location: text };
  throw refuseConnectionString(
    scheme === undefined
      ? "it has no scheme"
      : `unknown scheme${OTHERS.includes(scheme) ? ` "${scheme}"` : ""}`,
    "Use sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (in memory), duckdb:///relative.duckdb, " +
      "postgresql://user@host:5432/database, or timescaledb:// or citus:// in its place.",
  );
}

function filePath(scheme: string, rest: string): string {
  if (rest === "" || rest === "/:memory:") return "";
  if (!rest.startsWith("/")) {
    throw refuseConnectionString(
      "two slashes, then a name",
      `Use three slashes for a relative path (${scheme}:///a.db), four for an absolute one (${scheme}:////var/a.db).`,
    );
  }
  if (rest === "/") {
    throw refuseConnectionString(
      "the path is empty",
      `Name a file (${scheme}:///openfinops.db), or use ${scheme}:// for a database in memory.`,
    );
  }
  if (/[?\0]/.test(rest)) {
    throw refuseConnectionString("the path has parameters", "Remove the ? and all behind it.");
  }
  if (rest.includes("://")) {
    throw refuseConnectionString(
      "the path holds another connection string",
      `Remove ${scheme}:/// in front of it.`,
    );
  }
  if (LOGIN_AS_PATH.test(rest)) {
    throw refuseConnectionString(
      "the path begins like user:password@host",
      `Use postgresql:// for a server, or put ./ in front of the name of such a file (${scheme}:///./a:b@c.db).`,
    );
  }
  return rest.slice(1).replace(/^\w{2,}:/, "./$&"); // SQLite reads file: as a URI, and DuckDB md: as a service
}

/**
 * Splits the connection string of a server as libpq does. Unlike libpq it refuses what is most often a password that
 * was not percent-encoded and would end up in the host or the database.
 *
 * @throws {ConfigError} If it cannot be split. Nothing of the text is shown.
 */
export function splitServerUrl(text: string): ServerUrl {
  const rest = text.trim().replace(/^[^:]*:\/\//, "");
  // User and password go up to the last @ in front of the path; the host is an address in brackets or a plain name.
  const [matched, user = "", password = "", host, port = "", database = "", query] =
    /^(?:([^/?@:]*)(?::([^/@]*(?:@[^/?@]*)*))?@)?(\[[^\]]*\]|[^/?@:[\]]*)(?::([^/?@:]*))?(?:\/([^?#]*))?(?:\?(.*))?$/s
      .exec(rest) ?? [];
  if (/^[^/?]*,/.test(rest.slice(rest.lastIndexOf("@") + 1))) {
    throw refuseConnectionString(
      "it names several hosts",
      "Name one; a proxy such as HAProxy can choose among several.",
    );
  }
  if (matched === undefined || password.includes("?")) throw notEncoded();
  const parameters = query === undefined || query === "" ? [] : query.split("&").map((part) => {
    const [, name, value] = /^([^=@:/?]+)=(.*)$/s.exec(part) ?? [];
    // A # begins a fragment in other URLs; here it is most often a part of a password.
    if (name === undefined || (value.includes("#") && name !== "password")) throw notEncoded();
    return [decode(name), decode(value)] as const;
  });
  return {
    ...checkNames({
      host: decode(host).replace(/^\[(.*)\]$/s, "$1"),
      user: decode(user),
      database: decode(database),
    }),
    port: decode(port),
    password: decode(password),
    parameters,
  };
}

/**
 * Checks names that messages show. Those with an @, a colon or = are refused, in any form: they are
 * most often a part of a password or a whole connection string.
 */
export function checkNames<T extends { host?: string; user?: string; database?: string }>(names: T): T {
  const { host = "", user = "", database = "" } = names;
  // A name, a folder or an address of IPv6.
  const isPlain = /^[\p{L}\p{N}_.,-]*$/u.test(host) || /^\/[^@:]*$/.test(host) ||
    /^[\da-f:.]+(%\w+)?$/i.test(host);
  if (!isPlain || user.includes(":") || /[@:=]/.test(database)) throw notEncoded();
  return names;
}

function decode(text: string): string {
  try {
    const decoded = decodeURIComponent(text);
    if (!decoded.includes("\0")) return decoded;
  } catch {
    // refused below
  }
  throw notEncoded();
}

function notEncoded(): ConfigError {
  return refuseConnectionString(
    "it is not of the form postgresql://user:password@host:5432/database?name=value",
    "Percent-encode a password with special characters: % as %25, @ as %40, / as %2F, ? as %3F, # as %23, & as %26.",
  );
}

/** Creates the error for a connection string, which shows nothing of it. */
export function refuseConnectionString(problem: string, remedy: string): ConfigError {
  return new ConfigError(`Cannot read the connection string: ${problem}. ${remedy}`, {
    code: "INVALID_CONNECTION_STRING",
  });
}

/** Returns a connection string without its passwords; only the scheme of one that cannot be read. */
export function hidePassword(text: string): string {
  const [, scheme] = /^([a-z]+)(?:\+\w+)?:\/\//.exec(text) ?? [];
  if (
    /^(sqlite|duckdb)$/.test(scheme) && !text.slice(9).includes("://") && !LOGIN_AS_PATH.test(text.slice(9))
  ) {
    return text;
  }
  if (/^https?:\/\/[^@]*$/.test(text)) return text;
  if (!SERVER_SCHEME.test(scheme ?? "")) return "***";
  try {
    const { host, port, user, password, database, parameters } = splitServerUrl(text);
    const shown = parameters.map(([name, value]) => SHOWN.test(name) ? `${name}=${value}` : `${name}=***`);
    if (password === "" && shown.every((parameter) => !parameter.endsWith("=***"))) return text;
    const login = user + (password && ":***");
    return `${scheme}://${login && `${login}@`}${/[/:]/.test(host) ? `[${host}]` : host}${
      port && `:${port}`
    }` +
      `${database && `/${database}`}${shown.length > 0 ? `?${shown.join("&")}` : ""}`;
  } catch {
    return `${scheme}://***`;
  }
}
