/**
 * Sends one notification in the form of its channel. No error holds the URL or a secret of the channel.
 *
 * @module
 */
import { createHash, createHmac } from "node:crypto";
import { messageOf } from "../../errors.ts";
import { isGranted } from "../../permissions.ts";
import type { Channel } from "./channels.ts";

/** A notification as it is stored and sent. */
export interface Notification {
  /** Idempotency key: the same at every attempt, and for nothing else. */
  readonly key: string;
  /** Event, as in {@linkcode TelemetryEvent}. */
  readonly type: "budget-threshold" | "cost-anomaly" | "alert-fired" | "alert-resolved";
  /** Time of the event, in epoch milliseconds. */
  readonly at: number;
  readonly severity: string;
  /** A sentence for people. */
  readonly message: string;
  /** The crossed threshold, the anomaly or the alert. */
  readonly details: unknown;
}

/** The longest that one attempt takes, in milliseconds. */
export const ATTEMPT_MS = 10_000;

/** Causes of failures in plain words: the messages of `fetch` and of the mail library may hold the URL. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/NotCapable|Requires net access/, "Deno did not grant net access to its host: add --allow-net"],
  [/EAUTH|\b535\b/, "user name or password refused"],
  [/Abort|Timeout|timed out|ETIMEDOUT/i, "no answer in time"],
  [/refused/i, "connection refused"],
  [/dns|lookup|ENOTFOUND|EDNS/i, "host not found"],
  [/certificate|tls|ssl/i, "TLS failed"],
  [/base64/i, "its secret is not Base64 after whsec_"],
];

/** Says why a notification was not sent. */
export class SendError extends Error {}

/**
 * Sends a notification.
 *
 * @throws {SendError} If it was not sent, or if that is unknown.
 */
export async function send(
  channel: Channel,
  notification: Notification,
  timeoutMs = ATTEMPT_MS,
): Promise<void> {
  try {
    const { host } = new URL(channel.url);
    // Deno would ask on a terminal.
    if (!isGranted({ name: "net", host })) throw new Error("Requires net access");
    if (channel.type === "email") await sendMail(channel, notification, timeoutMs);
    else await post(channel, notification, AbortSignal.timeout(timeoutMs));
  } catch (error) {
    if (error instanceof SendError) throw error;
    const { name, message, cause, code, responseCode } = error as Error & {
      code?: string;
      responseCode?: number;
    };
    const text = `${name} ${code} ${responseCode} ${message} ${cause && messageOf(cause)}`.replace(
      /\(\w+:.*?\)/,
      "",
    );
    const [, reason] = REASONS.find(([sign]) => sign.test(text)) ?? [];
    throw new SendError(
      reason ?? (responseCode === undefined ? "it was not sent" : `the server answered ${responseCode}`),
    );
  }
}

async function post(channel: Channel, notification: Notification, signal: AbortSignal): Promise<void> {
  const body = JSON.stringify(FORMS[channel.type as keyof typeof FORMS](notification));
  const headers = {
    "Content-Type": "application/json",
    "Idempotency-Key": notification.key,
    ...(channel.secret === undefined ? {} : signatureOf(notification.key, body, channel.secret)),
  };
  // A redirect would carry the notification elsewhere.
  const response = await fetch(channel.url, { method: "POST", redirect: "manual", headers, body, signal });
  await response.body?.cancel();
  if (!response.ok) throw new SendError(`the server answered ${response.status}`);
}

/** Bodies of the messages. */
const FORMS = {
  webhook: ({ at, ...notification }: Notification) => ({ ...notification, at: new Date(at).toISOString() }),
  // Without the escapes a name such as <!channel> would be a command.
  slack: ({ severity, message }: Notification) => ({
    text: `*${severity}*: ${
      message.replace(/[&<>]/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" }[char]!))
    }`,
  }),
  teams: ({ severity, message }: Notification) => ({
    type: "message",
    attachments: [{
      contentType: "application/vnd.microsoft.card.adaptive",
      content: {
        type: "AdaptiveCard",
        version: "1.4",
        // Not a TextBlock, which would read Markdown in names.
        body: [{ type: "RichTextBlock", inlines: [{ type: "TextRun", text: `${severity}: ${message}` }] }],
      },
    }],
  }),
};

/** Headers of the Standard Webhooks: the signature covers id, time and body. */
function signatureOf(id: string, body: string, secret: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1_000));
  const signature = sign(`${id}.${timestamp}.${body}`, secret);
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature };
}

/** Signs a text by HMAC-SHA256. A key `whsec_…` is Base64, any other is taken as it is. */
export function sign(text: string, secret: string): string {
  const [, base64] = /^whsec_(.+)$/.exec(secret) ?? [];
  const key = base64 === undefined ? secret : Uint8Array.fromBase64(base64);
  return `v1,${createHmac("sha256", key).update(text).digest("base64")}`;
}

async function sendMail(
  { url, password, from, to }: Channel,
  { key, severity, message, at, details }: Notification,
  timeoutMs: number,
): Promise<void> {
  const { createTransport } = (await import("nodemailer")).default;
  const address = new URL(url);
  if (password !== undefined) address.password = password;
  const isLocal = /^(localhost|127\..*|\[::1\])$/.test(address.hostname);
  const timeouts = { connectionTimeout: timeoutMs, greetingTimeout: timeoutMs, socketTimeout: timeoutMs };
  const transport = createTransport({
    url: address.href,
    ...timeouts,
    name: "openfinops",
    requireTLS: !isLocal && address.password !== "", // else a server without TLS would get the password in the clear
  });
  const limit = Promise.withResolvers<never>();
  const timer = setTimeout(() => limit.reject(new Error("timed out")), timeoutMs);
  try {
    const sent = transport.sendMail({
      from,
      to: [...to!],
      subject: `[OpenFinOps] ${severity}: ${message}`.slice(0, 200),
      text: `${message}\n\n${new Date(at).toISOString()}\n\n${JSON.stringify(details, null, 2)}\n`,
      messageId: `<${digest(key)}@openfinops>`, // mail programs show a message that comes twice once
      headers: { "Idempotency-Key": key },
    });
    sent.catch(() => {}); // after the limit nothing waits for it
    await Promise.race([sent, limit.promise]);
  } finally {
    clearTimeout(timer);
    transport.close();
  }
}

/** Returns the SHA-256 of a text, in hexadecimal. */
export function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
