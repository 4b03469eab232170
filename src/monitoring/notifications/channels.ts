import { ConfigError, describePath } from "../../errors.ts";
import { type Check, isOneOf, isText, isTexts, takeFields } from "../field_checks.ts";

/** The forms in which a notification is sent. */
export const CHANNEL_TYPES = ["webhook", "slack", "teams", "email"] as const;
/** What notifications tell of. */
export const TOPICS = ["budget", "anomaly", "alert"] as const;

/** A place to which notifications are sent. Its URL and secrets stay in this process: they are never stored or printed. */
export interface Channel {
  /** Name, by which the outbox and messages refer to it. */
  readonly name: string;
  /** Form of the messages. */
  readonly type: typeof CHANNEL_TYPES[number];
  /** Address: `https://…`, or `smtp://user@host:587` and `smtps://…` for e-mail. */
  readonly url: string;
  /** Webhook: key of the signature. */
  readonly secret?: string;
  /** E-mail: password, where the URL has none. */
  readonly password?: string;
  /** E-mail: sender. */
  readonly from?: string;
  /** E-mail: recipients. */
  readonly to?: readonly string[];
  /** What it is told; all where absent. */
  readonly topics?: readonly typeof TOPICS[number][];
}

const SECRETS = ["url", "secret", "password"] as const;

/** A secret as the file has it: the text, or where it is. */
const isSecret: Check = {
  test(value) {
    if (typeof value === "string") return value !== "";
    const [[name, at] = [], ...more] = Object.entries(value ?? {});
    return more.length === 0 && (name === "env" || name === "file") && typeof at === "string" && at !== "";
  },
  expected: 'a text, { "env": "NAME" } or { "file": "PATH" }',
};

const FIELDS: Readonly<Record<keyof Channel, Check>> = {
  name: { test: (value) => /^[\w.-]{1,64}$/.test(String(value)), expected: "up to 64 of A-Z a-z 0-9 _ . -" },
  type: isOneOf(...CHANNEL_TYPES),
  url: isSecret,
  secret: isSecret,
  password: isSecret,
  from: isText,
  to: isTexts,
  topics: {
    test: (value) => Array.isArray(value) && value.every((topic) => TOPICS.includes(topic)),
    expected: `an array of ${TOPICS.join(", ")}`,
  },
};

/** Fields of one type of channel, beside those of all; all but the password are required. */
const FIELDS_OF: Readonly<Record<Channel["type"], readonly (keyof Channel)[]>> = {
  webhook: ["secret"],
  slack: [],
  teams: [],
  email: ["from", "to", "password"],
};

/** Where secrets are read. */
export interface SecretSources {
  /** Returns an environment variable. */
  env(name: string): string | undefined;
  /** Returns the text of a file. */
  file(path: string): string;
}

/**
 * Reads channels from a JSON array.
 *
 * @throws {ConfigError} If it is none, or a secret is missing. The message never holds a secret.
 * @throws {ValidationError} If a field is missing, unknown or wrong.
 */
export function parseChannels(json: string, sources: SecretSources): Channel[] {
  let given: unknown;
  try {
    given = JSON.parse(json);
  } catch {
    // reported below; the message of the parser quotes the text
  }
  if (!Array.isArray(given)) throw unusable("they must be a JSON array of channels", "INVALID_FILE");
  const channels = given.map((input) => acceptChannel(input, sources));
  const twice = channels.find(({ name }, i) => channels.findIndex((other) => other.name === name) < i);
  if (twice) throw unusable(`two of them are named ${twice.name}. Rename one`);
  return channels;
}

function acceptChannel(input: unknown, sources: SecretSources): Channel {
  const { type } = (input ?? {}) as Channel;
  const own = FIELDS_OF[type] ?? [];
  const names = ["name", "type", "url", "topics", ...own];
  const given = takeFields("a channel", input as object, {
    fields: Object.hasOwn(FIELDS_OF, type ?? "")
      ? Object.fromEntries(names.map((name) => [name, FIELDS[name as keyof Channel]]))
      : FIELDS,
    required: ["name", "type", "url", ...own.filter((name) => name !== "password")],
  });
  for (const field of SECRETS) {
    if (given[field] !== undefined) given[field] = readSecret(given[field], { given, field, sources });
  }
  const channel = given as unknown as Channel;
  const schemes = type === "email" ? ["smtp:", "smtps:"] : ["https:", "http:"];
  if (!URL.canParse(channel.url) || !schemes.includes(new URL(channel.url).protocol)) {
    throw unusable(
      `the url of ${channel.name} must begin with ${schemes.map((scheme) => `${scheme}//`).join(" or ")}`,
    );
  }
  return channel;
}

function readSecret(
  value: unknown,
  { given: { name: channel }, field, sources }: {
    given: Record<string, unknown>;
    field: string;
    sources: SecretSources;
  },
): string {
  if (typeof value === "string") return value;
  const { env: name, file: path } = value as { env?: string; file?: string };
  const found = name === undefined ? sources.file(path!).trim() : sources.env(name) ?? "";
  if (found !== "") return found;
  const place = name === undefined
    ? `the file ${describePath(path!)} is empty`
    : `the variable ${name} is not set`;
  throw unusable(`${place}, which is the ${field} of ${channel}. Set it`);
}

function unusable(problem: string, code: "INVALID_OPTION" | "INVALID_FILE" = "INVALID_OPTION"): ConfigError {
  return new ConfigError(`Cannot use the channels: ${problem}.`, { code });
}
