import { ConfigError } from "../../errors.ts";
import { type Check, isAnything, isOneOf, isText, isTexts, takeFields } from "../../records/field_checks.ts";

/** The forms in which a notification is sent. */
export const CHANNEL_TYPES = ["webhook", "slack", "teams", "email"] as const;
/** Topics of notifications. */
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
  /** Topics that it gets; all if absent. */
  readonly topics?: readonly typeof TOPICS[number][];
}

const SECRETS = ["url", "secret", "password"] as const;

const FIELDS: Readonly<Record<keyof Channel, Check>> = {
  name: { test: (value) => /^[\w.-]{1,64}$/.test(String(value)), expected: "up to 64 of A-Z a-z 0-9 _ . -" },
  type: isOneOf(...CHANNEL_TYPES),
  // Checked where no message shows the value.
  url: isAnything,
  secret: isAnything,
  password: isAnything,
  from: isText,
  to: isTexts,
  topics: {
    test: (value) => Array.isArray(value) && value.every((topic) => TOPICS.includes(topic)),
    expected: `an array of ${TOPICS.join(", ")}`,
  },
};
const REQUIRED: Readonly<Partial<Record<Channel["type"], string[]>>> = {
  webhook: ["secret"],
  email: ["from", "to"],
};

export interface SecretSources {
  /** Returns an environment variable. */
  env(name: string): string | undefined;
  /** Returns the text of a file. */
  file(path: string): string;
}

/**
 * Reads channels from a JSON array.
 *
 * @param onWrong Gets the error of a channel that cannot be used, and its name if it has one. The others are returned.
 * @throws {ConfigError} If it is none. No message holds a secret.
 */
export function parseChannels(
  json: string,
  sources: SecretSources,
  onWrong: (error: unknown, name: string | undefined) => void,
): Channel[] {
  let given: unknown;
  try {
    given = JSON.parse(json);
  } catch {
    // reported below; the message of the parser quotes the text
  }
  if (!Array.isArray(given)) throw unusable("they must be a JSON array of channels");
  const channels = new Map<string, Channel>();
  for (const [i, input] of given.entries()) {
    const name = typeof input?.name === "string" && FIELDS.name.test(input.name) ? input.name : undefined;
    try {
      const channel = acceptChannel(`channel ${name ?? i + 1}`, input, sources);
      if (channels.has(channel.name)) throw unusable(`two of them are named ${name}. Rename one`);
      channels.set(channel.name, channel);
    } catch (error) {
      onWrong(error, name);
    }
  }
  return [...channels.values()];
}

function acceptChannel(subject: string, input: Channel, sources: SecretSources): Channel {
  const required = ["name", "type", "url", ...REQUIRED[input?.type] ?? []];
  const given = takeFields(subject, input, { fields: FIELDS, required });
  for (const field of SECRETS) {
    if (given[field] !== undefined) {
      given[field] = readSecret(given[field], `the ${field} of ${given.name}`, sources);
    }
  }
  const channel = given as unknown as Channel;
  const protocol = URL.canParse(channel.url) ? new URL(channel.url).protocol : "";
  const schemes = channel.type === "email" ? ["smtp:", "smtps:"] : ["https:", "http:"];
  if (schemes.includes(protocol)) return channel;
  throw unusable(`the url of ${channel.name} must begin with ${schemes.join("// or ")}//`);
}

/** Reads a secret: the text itself, or where it is. */
function readSecret(value: unknown, what: string, { env, file }: SecretSources): string {
  const found = typeof value === "string"
    ? { text: value }
    : value as { text?: string; env?: string; file?: string };
  const text = typeof found.env === "string"
    ? env(found.env)
    : typeof found.file === "string"
    ? file(found.file)
    : found.text;
  if (text?.trim()) return text.trim();
  if (found.env !== undefined) {
    throw unusable(`the variable ${found.env} is not set, which is ${what}. Set it`);
  }
  throw unusable(
    `${what} must be a text, { "env": "NAME" }, or { "file": "PATH" } of a file that is not empty`,
  );
}

function unusable(problem: string): ConfigError {
  return new ConfigError(`Cannot use the channels: ${problem}.`, { code: "INVALID_OPTION" });
}
