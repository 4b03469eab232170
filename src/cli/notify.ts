import { optionsOf } from "../query/arguments.ts";
import { BackendError } from "../errors.ts";
import { type Outgoing, readOutbox, STATES } from "../monitoring/notifications/outbox.ts";
import { send, SendError } from "../monitoring/notifications/send.ts";
import { type Command, CONNECTION_OPTIONS, FORMAT_OPTIONS, readFormat, withBackend } from "./command.ts";
import { CHANNELS, evaluateAndNotify, readChannels } from "./notifications.ts";
import { missing, readDurationMs, readName, readOption } from "../query/option_values.ts";
import { formatThings, isoTime, note, print, printFound } from "./output.ts";

export const notifyFlush: Command = {
  name: "notify flush",
  options: [
    ...CONNECTION_OPTIONS,
    ...optionsOf({
      "time-budget TIME": "begin no attempt after this time (default 30s)",
      dead: "also try those that were given up after a day",
    }),
  ],
  examples: ["openfinops notify flush", "openfinops notify flush --dead --time-budget 2m"],
  async run(given) {
    const channels = requireChannels();
    const timeBudgetMs = readDurationMs("time-budget", given.text("time-budget") ?? "30s");
    await withBackend(given, "existing", async (backend) => {
      const withDead = given.has("dead");
      // Evaluated again, as a process may have ended after its commit.
      const report = await evaluateAndNotify(backend, channels, { timeBudgetMs, isForced: true, withDead });
      const outbox = await readOutbox(backend.documents);
      const left = outbox.filter(({ body }) => body.state === "pending").length;
      if (!report || left > 0 || report.failures.length > 0) {
        throw notSent(`${formatThings(left, "notification waits", "notifications wait")} in the outbox`);
      }
      if (report.sent === 0) note("Nothing to send.");
    });
  },
};

export const notifyTest: Command = {
  name: "notify test",
  positionals: "<channel>",
  missing: "Name a channel.",
  options: [],
  examples: ["openfinops notify test ops"],
  async run({ positionals: [name] }) {
    const channels = requireChannels(name);
    readName("channel", name, channels.map(({ name }) => name));
    const at = Date.now();
    const test = {
      type: "alert-fired",
      severity: "info",
      message: "Test of OpenFinOps: no action is needed",
    } as const;
    try {
      await send(channels.find((channel) => channel.name === name)!, {
        ...test,
        key: crypto.randomUUID(),
        at,
        details: { isTest: true },
      });
    } catch (error) {
      throw error instanceof SendError ? notSent(`${name}: ${error.message}`) : error;
    }
    print(`Sent to ${name}.`);
  },
};

export const notifyList: Command = {
  name: "notify list",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    { name: "state", value: "NAME", summary: "only pending, sent, dead or covered ones" },
  ],
  examples: ["openfinops notify list --state dead"],
  async run(given) {
    const format = readFormat(given);
    const state = readOption(given, "state", (name, text) => readName(name, text, STATES));
    const found = (await withBackend(given, "read", ({ documents }) => readOutbox(documents)))
      .filter(({ body }) => state === undefined || body.state === state);
    printFound(format, found.map(rowOf), { header: HEADER, none: "No notifications." });
  },
};

const HEADER = ["id", "channel", "state", "at", "attempts", "nextAt", "lastError", "message"];

function rowOf({ id, body: { channel, state, attempts, nextAt, lastError = "", notification } }: Outgoing) {
  const { at, message } = notification;
  const next = state === "pending" ? isoTime(nextAt) : "";
  return { id, channel, state, at, attempts, nextAt: next, lastError, message };
}

/** Reads the channels, at least one; fails if the named one cannot be used. */
function requireChannels(name?: string) {
  const wrong = new Map<string | undefined, unknown>();
  const channels = readChannels(wrong);
  if (name !== undefined && wrong.has(name) && !channels.some((channel) => channel.name === name)) {
    throw wrong.get(name);
  }
  if (channels.length > 0) return channels;
  for (const error of wrong.values()) throw error;
  throw missing(`No channels. Set ${CHANNELS} to a JSON file of channels (see docs/notifications.md).`);
}

function notSent(problem: string): BackendError {
  return new BackendError(`Cannot notify: ${problem}.`, {
    code: "NOTIFICATION_FAILED",
    operation: "notify",
    kind: "transient",
  });
}
