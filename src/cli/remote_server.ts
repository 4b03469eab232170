/**
 * The server that a command sends to or reads through: `--send`, `--server`, their token and certificates.
 *
 * @module
 */
import { RemoteBackend } from "../backends/remote.ts";
import type { ConnectionOptions } from "../backends/remote/connection.ts";
import { RemoteReader } from "../backends/remote/reader.ts";
import { BackendError, ConfigError } from "../errors.ts";
import { type Arguments, type Option, optionsOf } from "../query/arguments.ts";
import { CA_OPTION, env, readNamedFile } from "./environment.ts";
import { note } from "./output.ts";
import { conflict, readUrl } from "../query/option_values.ts";

/** Variable with the token. */
export const TOKEN = "OPENFINOPS_TOKEN";
/** Variable with the path of a file that has the token, as secrets of Kubernetes and systemd are. */
const TOKEN_FILE = "OPENFINOPS_TOKEN_FILE";

/** Options of commands that send to a server. */
export const SEND_OPTIONS: readonly Option[] = [
  ...optionsOf({
    "send URL": `send to this server in place of a database; its token is in ${TOKEN} or ${TOKEN_FILE}`,
  }),
  CA_OPTION,
];

/** A server to send to, and its connection. */
export interface Remote {
  readonly backend: RemoteBackend;
  /** Place of the token, in words. */
  readonly tokenFrom: string;
  /** True if the token can be read on the way. */
  readonly isExposed: boolean;
}

/**
 * Reads the server of `--send`; undefined where it is not given. Opens no connection.
 *
 * @throws {UsageError} If the URL is none, or a database is named, too.
 * @throws {ConfigError} If the token or the certificates cannot be read.
 */
export function readRemote(given: Arguments): Remote | undefined {
  const found = readConnection(given, "send");
  return found && { ...found, backend: new RemoteBackend(found.options) };
}

/**
 * Reads the server of `--server`, to read through.
 *
 * @throws {UsageError} If the URL is none, or a database is named, too.
 * @throws {ConfigError} If the token or the certificates cannot be read.
 */
export function openServer(given: Arguments): RemoteReader {
  const { options, isExposed } = readConnection(given, "server")!;
  if (isExposed) note("The token is sent without encryption. Use https.");
  return new RemoteReader(options);
}

function readConnection(
  given: Arguments,
  option: "send" | "server",
): Omit<Remote, "backend"> & { options: ConnectionOptions } | undefined {
  const text = given.text(option);
  const caFile = given.text(CA_OPTION.name);
  if (text === undefined) {
    if (caFile === undefined) return undefined;
    throw conflict(`--ca-file is for a server. Pass --${option} URL, too.`);
  }
  const other = ["connection-string", "backend", "sqlite-driver"].find((name) =>
    given.text(name) !== undefined
  );
  if (other !== undefined) throw conflict(`--${option} and --${other} name two places. Remove one.`);
  const url = readUrl(option, text);
  const { token, from } = readToken();
  const isLocal = /^(localhost|127\..*|\[::1\])$/.test(url.hostname);
  return {
    options: { url, token, caCerts: readCaCerts(given) },
    tokenFrom: from,
    isExposed: from !== "no token" && url.protocol === "http:" && !isLocal,
  };
}

/**
 * Reads the certificates of `--ca-file`; undefined where it is not given.
 *
 * @throws {ConfigError} If they cannot be read.
 */
export function readCaCerts(given: Arguments): string[] | undefined {
  const caFile = given.text(CA_OPTION.name);
  return caFile === undefined ? undefined : [readNamedFile(caFile, "the certificates")];
}

/** Returns a function that reads the token, and a name of its place. A file is read each time: it may be renewed. */
function readToken(): { token: () => string | undefined; from: string } {
  const secret = env(TOKEN);
  if (secret !== undefined) {
    const checked = checkToken(secret, TOKEN);
    return { token: () => checked, from: `the token of ${TOKEN}` };
  }
  const path = env(TOKEN_FILE);
  if (path === undefined) return { token: () => undefined, from: "no token" };
  const read = () => checkToken(readNamedFile(path, "the token"), TOKEN_FILE);
  read(); // an error at the start stops the command, one later does not
  const token = () => {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      throw new BackendError(error.message, { code: error.code, operation: "read", kind: "operator" });
    }
  };
  return { token, from: `the token of the file in ${TOKEN_FILE}` };
}

/** Checks a token: one that no header can hold would be shown by the error of the system. */
function checkToken(text: string, variable: string): string {
  const token = text.trim();
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new ConfigError(
    `Cannot use the token of ${variable}: it must be one line of visible characters. Copy it again.`,
    { code: "TOKEN_REFUSED" },
  );
}
