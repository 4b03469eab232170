/**
 * Where a PostgreSQL server is and how to get in: from a connection string, the `PG*` variables and the password
 * file, in the way of libpq.
 *
 * @module
 */
import { userInfo } from "node:os";
import { ConfigError } from "../../errors.ts";

/** How TLS is used, in the words of libpq. */
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
  /** Files in PEM: whom to trust, and who we are. */
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

type Parameter = keyof typeof PARAMETERS;

const DEFAULT_CONNECT_SECONDS = 10;

/**
 * Reads a connection string, and from the environment what it leaves open.
 *
 * @throws {ConfigError} If it is no URL, or a parameter is unknown or wrong. No value of it is shown.
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
  if (host.includes(",")) throw refuse("one host", "it names several");
  if (!SSL_MODES.includes(sslMode)) throw refuse(`an sslmode of ${SSL_MODES.join(", ")}`, "it is another");
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

/** How messages call it: without a password. */
export function nameOfTarget(target: PostgresTarget): string {
  return `postgresql://${target.user}@${placeOf(target)}`;
}

/** Which database it is, whoever the user is. */
export function locationOfTarget(target: PostgresTarget): string {
  return `postgresql://${placeOf(target)}`;
}

function placeOf({ host, port, database }: PostgresTarget): string {
  const at = host.startsWith("/") || host.includes(":") ? `[${host}]` : host;
  return `${at}:${port}/${database}`;
}

/** The parameters that a connection string gives. */
function readUrl(text: string): Partial<Record<Parameter, string>> {
  let url: URL;
  try {
    // libpq allows a user without a host, and URLs do not: a dot stands in for it.
    const [, rest] = /^[^:]+:\/\/(.*)$/s.exec(text)!;
    url = new URL(`postgresql://${rest.replace(/^([^/?#]*@)?(?=[:/?]|$)/, "$1.")}`);
    const given: Record<string, string> = {
      host: decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, "$1").replace(/^\.$/, ""),
      port: url.port,
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password),
      dbname: decodeURIComponent(url.pathname.slice(1)),
    };
    for (const [name, value] of url.searchParams) {
      if (!Object.hasOwn(PARAMETERS, name)) {
        throw refuse(`one of the parameters ${Object.keys(PARAMETERS).join(", ")}`, `it has ${name}`);
      }
      given[name] = value;
    }
    return given;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw refuse(
      "postgresql://user:password@host:5432/database",
      "it is no URL (a password with / ? # % or @ in it must be percent-encoded)",
    );
  }
}

function readWhole(name: string, text: string, most: number): number {
  const number = /^\d{1,6}$/.test(text) ? Number(text) : NaN;
  if (number >= 1 && number <= most) return number;
  throw refuse(`a ${name} from 1 to ${most}`, "it is another");
}

function refuse(wanted: string, state: string): ConfigError {
  return new ConfigError(`Cannot read the connection string: ${wanted} is wanted: ${state}`, {
    code: "INVALID_CONNECTION_STRING",
  });
}

function operatingSystemUser(): string {
  try {
    return userInfo().username;
  } catch {
    throw refuse("a user", "it names none, and there is no PGUSER");
  }
}

/** Looks the password up in libpq's password file; as there, a file that others may read is not used. */
function findPassword(file: string, wanted: readonly string[]): string | undefined {
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
    const fields = (line.match(/(?:\\.|[^:\\])*(?::|$)/g) ?? [])
      .map((field) => field.replace(/:$/, "").replace(/\\(.)/g, "$1"));
    const matches = wanted.every((value, i) => fields[i] === "*" || fields[i] === value);
    if (matches) return fields[wanted.length];
  }
  return undefined;
}
