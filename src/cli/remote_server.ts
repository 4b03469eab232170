/**
 * The server that a command sends to: `--send`, its token and its certificates.
 *
 * @module
 */
import { RemoteBackend } from "../backends/remote.ts";
import { BackendError, ConfigError } from "../errors.ts";
import type { Arguments, Option } from "./arguments.ts";
import { env, readSecretFile } from "./command.ts";
import { readUrl, UsageError } from "../query/option_values.ts";

/** Variable with the token. */
export const TOKEN = "OPENFINOPS_TOKEN";
/** Variable with the path of a file that has the token, as secrets of Kubernetes and systemd are. */
export const TOKEN_FILE = "OPENFINOPS_TOKEN_FILE";

/** Options of commands that send to a server. */
export const SEND_OPTIONS: readonly Option[] = [
  {
    name: "send",
    value: "URL",
    summary: `send to this server in place of a database; its token is in ${TOKEN} or ${TOKEN_FILE}`,
  },
  { name: "ca-file", value: "FILE", summary: "certificates in PEM to trust beside those of the system" },
];

/** A server to send to, and how it is reached. */
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
  const text = given.text("send");
  const caFile = given.text("ca-file");
  if (text === undefined) {
    if (caFile === undefined) return undefined;
    throw conflict("--ca-file is for a server. Pass --send URL, too.");
  }
  const other = ["connection-string", "backend", "sqlite-driver"].find((name) =>
    given.text(name) !== undefined
  );
  if (other !== undefined) throw conflict(`--send and --${other} name two places. Remove one.`);
  const url = readUrl("send", text);
  const { token, from } = readToken();
  const isLocal = /^(localhost|127\..*|\[::1\])$/.test(url.hostname);
  return {
    backend: new RemoteBackend({
      url,
      token,
      caCerts: caFile === undefined ? undefined : [readSecretFile(caFile, "the certificates")],
    }),
    tokenFrom: from,
    isExposed: from !== "no token" && url.protocol === "http:" && !isLocal,
  };
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
  const read = () => checkToken(readSecretFile(path, "the token"), TOKEN_FILE);
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

function conflict(message: string): UsageError {
  return new UsageError(message, { code: "CONFLICTING_OPTIONS" });
}
