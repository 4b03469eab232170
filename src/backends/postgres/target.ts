/**
 * Address and credentials of a PostgreSQL server: from a connection string, the `PG*` variables and the password
 * file, in the way of libpq.
 *
 * @module
 */
import { userInfo } from "node:os";
import { nearest } from "../../nearest.ts";
import { checkNames, refuseConnectionString, splitServerUrl } from "../connection_string.ts";

/** TLS mode, in the words of libpq. */
export type SslMode = "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";

/** A server, a database on it, and how to get in. */
export interface PostgresTarget {
  /** The host, or the folder of the Unix socket. */
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  readonly sslMode: SslMode;
  /** PEM files: trusted roots, and the certificate and key of the client. */
  readonly sslRootCert?: string;
  readonly sslCert?: string;
  readonly sslKey?: string;
  readonly applicationName: string;
  /** Settings for the session, as in `-c search_path=telemetry`. */
  readonly options?: string;
  readonly connectTimeoutMs: number;
}

const SSL_MODES: readonly string[] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/** The parameters of a connection string, and the variables that stand in for them. */
const PARAMETERS = {
  host: "PGHOST",
  port: "PGPORT",
  user: "PGUSER",
  password: "PGPASSWORD",
  dbname: "PGDATABASE",
  sslmode: "PGSSLMODE",
  sslrootcert: "PGSSLROOTCERT",
  sslcert: "PGSSLCERT",
  sslkey: "PGSSLKEY",
  application_name: "PGAPPNAME",
  options: "PGOPTIONS",
  connect_timeout: "PGCONNECT_TIMEOUT",
  passfile: "PGPASSFILE",
} as const;

/** Parameters of libpq and of other clients that change nothing here. */
const IGNORED =
  /^(channel_binding|target_session_attrs|load_balance_hosts|keepalives\w*|tcp_user_timeout|client_encoding|gss\w+|krbsrvname|sslcompression|sslsni|ssl_m\w+_protocol_version|require_auth|fallback_application_name|pgbouncer|connection_limit|pool_timeout|statement_cache_size|socket_timeout)$/;

type Parameter = keyof typeof PARAMETERS;

const DEFAULT_CONNECT_SECONDS = 10;

/**
 * Reads a connection string, and from the environment what it leaves open.
 *
 * @throws {ConfigError} If it cannot be split, or a parameter is unknown or wrong. Nothing of it is shown.
 */
export function resolvePostgresTarget(
  connectionString: string,
  env: (name: string) => string | undefined = (name) => Deno.env.get(name),
): PostgresTarget {
  const given = readUrl(connectionString);
  const value = (name: Parameter) => given[name] || env(PARAMETERS[name]) || undefined;
  const host = value("host") ?? "localhost";
  const port = readWhole("port", value("port") ?? "5432", 65_535);
  const user = value("user") ?? operatingSystemUser();
  const database = value("dbname") ?? user;
  const sslMode = value("sslmode") ?? "prefer";
  checkNames({ host, user, database });
  if (host.includes(",")) throw refuseConnectionString("it names several hosts", "Name one.");
  if (!SSL_MODES.includes(sslMode)) {
    throw refuseConnectionString("unknown sslmode", `Use one of ${SSL_MODES.join(", ")}.`);
  }
  const passwordFile = () => {
    const file = value("passfile") ??
      (Deno.build.os === "windows" ? `${env("APPDATA")}/postgresql/pgpass.conf` : `${env("HOME")}/.pgpass`);
    return findPassword(file, [host, String(port), database, user]);
  };
  return {
    host,
    port,
    user,
    password: value("password") ?? passwordFile() ?? "",
    database,
    sslMode: sslMode as SslMode,
    sslRootCert: value("sslrootcert"),
    sslCert: value("sslcert"),
    sslKey: value("sslkey"),
    applicationName: value("application_name") ?? "openfinops",
    options: value("options"),
    connectTimeoutMs: 1_000 * readWhole(
      "connect_timeout",
      value("connect_timeout") ?? String(DEFAULT_CONNECT_SECONDS),
      86_400,
    ),
  };
}

/** Name in messages, without a password. */
export function nameOfTarget(target: PostgresTarget): string {
  return `postgresql://${target.user}@${placeOf(target)}`;
}

/** Location of the database, independent of the user. */
export function locationOfTarget(target: PostgresTarget): string {
  return `postgresql://${placeOf(target)}`;
}

function placeOf({ host, port, database }: PostgresTarget): string {
  const at = host.startsWith("/") || host.includes(":") ? `[${host}]` : host;
  return `${at}:${port}/${database}`;
}

/** The parameters that a connection string gives. */
function readUrl(text: string): Partial<Record<Parameter, string>> {
  const { parameters, database, ...parts } = splitServerUrl(text);
  const given: Partial<Record<Parameter, string>> = { ...parts, dbname: database };
  for (const [i, [name, value]] of parameters.entries()) {
    if (IGNORED.test(name)) continue;
    if (name === "hostaddr") {
      given.host ||= value; // libpq connects to it and checks the certificate of the host
      continue;
    }
    if (name === "schema" && /^\w+$/.test(value)) { // of Prisma, whose default is that of the server
      if (value !== "public") given.options ??= `-c search_path=${value}`;
      continue;
    }
    // The name is not shown: it may be the rest of a password.
    if (!Object.hasOwn(PARAMETERS, name)) {
      const hint = nearest(name, Object.keys(PARAMETERS));
      throw refuseConnectionString(
        `parameter ${i + 1} after the ? is unknown`,
        hint ? `Did you mean "${hint}"?` : "Remove it; or percent-encode & in a password as %26.",
      );
    }
    given[name as Parameter] = value;
  }
  return given;
}

function readWhole(name: string, text: string, most: number): number {
  const number = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (number >= 1 && number <= most) return number;
  throw refuseConnectionString(`the ${name} is no number`, `Use a whole number from 1 to ${most}.`);
}

function operatingSystemUser(): string {
  try {
    return userInfo().username;
  } catch {
    throw refuseConnectionString(
      "it names no user",
      "Add one (postgresql://user@host/database), set PGUSER, or let Deno read it with --allow-sys=userInfo.",
    );
  }
}

/** Looks the password up in libpq's password file; as there, a file that others may read is not used. */
function findPassword(file: string, login: readonly string[]): string | undefined {
  let text: string;
  try {
    const { mode, isFile } = Deno.statSync(file);
    if (!isFile || ((mode ?? 0) & 0o077) !== 0) return undefined;
    text = Deno.readTextFileSync(file);
  } catch {
    return undefined; // most have none, or may not read it
  }
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("#")) continue;
    const fields = (line.match(/(?:\\.|[^:\\])*(?::|$)/g) ?? []).map((field) => field.replace(/:$/, ""));
    const plain = fields.map((field) => field.replace(/\\(.)/g, "$1"));
    // As in libpq, an escaped star is a star.
    if (login.every((value, i) => fields[i] === "*" || plain[i] === value)) return plain[login.length];
  }
  return undefined;
}
