import { setTimeout } from "node:timers/promises";
import type { DocumentStore } from "../../backends/backend.ts";
import type { BudgetCrossing } from "../../records/budget.ts";
import { DAY_MS, HOUR_MS } from "../../records/calendar.ts";
import { EXISTENCE, NOTIFICATION } from "../document_kinds.ts";
import type { Channel } from "./channels.ts";
import { type Occurrence, occurrencesIn, readExistence, RECENT_MS } from "./events.ts";
import { ATTEMPT_MS, digest, type Notification, send, SendError } from "./send.ts";

/** Time for which an attempt keeps other processes away. After a crash in an attempt, another one begins then. */
const LEASE_MS = 2 * ATTEMPT_MS;
/** Ceiling of the wait after the first failed attempt; it doubles with each, up to an hour. */
const FIRST_WAIT_MS = 30_000;
/** Pause between looks at entries that another process has leased, in milliseconds. */
const POLL_MS = 500;

/** The states of an entry. */
export const STATES = ["pending", "sent", "dead", "covered"] as const;

/** One notification for one channel. */
export interface OutboxEntry {
  /** Raised by each write: who raises it holds the lease. */
  readonly revision: number;
  /** Name of the channel. */
  readonly channel: string;
  /** Id of the occurrence that it reports. */
  readonly source: string;
  readonly notification: Notification;
  /** `dead` after a day of failed attempts; `covered` by the notification of a higher threshold. */
  readonly state: typeof STATES[number];
  readonly enqueuedAt: number;
  readonly attempts: number;
  /** Time of the first attempt. */
  readonly firstAt?: number;
  /** No attempt is due before this time. */
  readonly nextAt: number;
  /** End of the lease of the process that tries it. */
  readonly leasedUntil?: number;
  readonly sentAt?: number;
  /** Why the last attempt failed. */
  readonly lastError?: string;
}

/** An entry with its id. */
export interface Outgoing {
  readonly id: string;
  readonly body: OutboxEntry;
}

/** Outcome of deliveries. */
export interface DeliveryReport {
  sent: number;
  /** Attempts that failed. */
  readonly failures: { readonly channel: string; readonly reason: string; readonly isDead: boolean }[];
}

/** Returns the entries of the outbox, the oldest first. */
export async function readOutbox(documents: DocumentStore): Promise<Outgoing[]> {
  const found = await documents.read(NOTIFICATION);
  return found.map(({ id, body }) => ({ id, body: body as OutboxEntry }))
    .sort((a, b) => a.body.enqueuedAt - b.body.enqueuedAt);
}

/**
 * Puts what is to be told to each channel into the outbox, once over all processes, and removes what was sent, or is dead,
 * and need not be told any more.
 *
 * @throws {BackendError} If the documents could not be read or written. Calling it again does the rest.
 */
export async function fillOutbox(
  documents: DocumentStore,
  channels: readonly Channel[],
  now = Date.now(),
): Promise<void> {
  const occurrences = await occurrencesIn(documents, now);
  const known = await readOutbox(documents);
  const ids = new Set(known.map(({ id }) => id));
  const existence = await readExistence(documents);
  for (const { name, topics } of channels) {
    const channel = `channel/${name}`;
    const since = existence.get(channel) ?? now;
    if (!existence.has(channel)) {
      await documents.write({ kind: EXISTENCE, id: channel, body: { since } }, { ifAbsent: true });
    }
    const fresh = occurrences.filter(({ id, topic, period }) =>
      !ids.has(`${id}/${name}`) && (topics?.includes(topic) ?? true) &&
      (!period || period.end > since - RECENT_MS)
    );
    const told = highestOf(fresh);
    for (const occurrence of fresh) {
      const { id: source, topic: _, period: __, ...event } = occurrence;
      const id = `${source}/${name}`;
      const notification = { key: digest(id), ...event };
      const state = told.has(occurrence) ? "pending" : "covered";
      const isNew = { revision: 0, state, attempts: 0, enqueuedAt: now, nextAt: now } as const;
      const body: OutboxEntry = { ...isNew, channel: name, source, notification };
      await documents.write({ kind: NOTIFICATION, id, body }, { ifAbsent: true });
    }
  }
  const sources = new Set(occurrences.map(({ id }) => id));
  for (const { id, body: { state, source } } of known) {
    if (state !== "pending" && !sources.has(source)) await documents.delete(NOTIFICATION, id);
  }
}

/** Returns the highest threshold of each budget and period, and all other occurrences. */
function highestOf(occurrences: readonly Occurrence[]): Set<Occurrence> {
  const periods = Map.groupBy(
    occurrences,
    ({ id, period }) => period ? `${period.budgetId}/${period.end}` : id,
  );
  const height = ({ details }: Occurrence) => (details as Partial<BudgetCrossing>).threshold ?? 0;
  return new Set(
    [...periods.values()].map((each) =>
      each.reduce((a, b) => (height(b) - height(a) || b.at - a.at) > 0 ? b : a)
    ),
  );
}

export interface DeliverOptions {
  /** No attempt begins after this time, or lasts longer, in milliseconds. */
  readonly timeBudgetMs: number;
  /** Also tries what is not due yet, and waits for what another process tries. */
  readonly isForced?: boolean;
  /** Also tries what is dead. */
  readonly withDead?: boolean;
  /** Clock of due times and leases. */
  readonly now?: () => number;
}

/**
 * Sends what is due: each entry at least once over all processes, always with the same idempotency key. Channels are served
 * at the same time.
 *
 * @throws {BackendError} If the outbox could not be read or written.
 */
export async function deliver(
  documents: DocumentStore,
  channels: readonly Channel[],
  { timeBudgetMs, isForced = false, withDead = false, now = Date.now }: DeliverOptions,
): Promise<DeliveryReport> {
  const end = performance.now() + timeBudgetMs;
  const report: DeliveryReport = { sent: 0, failures: [] };
  const tried = new Set<string>();
  while (performance.now() < end) {
    const open = (await readOutbox(documents)).filter(({ id, body: { state, nextAt } }) =>
      !tried.has(id) && (state === "pending" ? isForced || nextAt <= now() : withDead && state === "dead")
    );
    const ready = open.filter(({ body }) => (body.leasedUntil ?? 0) <= now());
    if (ready.length === 0 && (open.length === 0 || !isForced)) break;
    if (ready.length === 0) await setTimeout(POLL_MS);
    for (const { id } of ready) tried.add(id);
    const queues = Map.groupBy(ready, ({ body }) => body.channel);
    await Promise.all([...queues].map(async ([name, queue]) => {
      const channel = channels.find((channel) => channel.name === name);
      for (const entry of queue) {
        const leftMs = end - performance.now();
        if (leftMs <= 0) break;
        await attempt(documents, entry, { channel, leftMs, report, now });
      }
    }));
  }
  return report;
}

/** Takes an entry by its revision, tries to send it, and records the outcome. */
async function attempt(
  documents: DocumentStore,
  { id, body }: Outgoing,
  { channel, leftMs, report, now }: {
    channel: Channel | undefined;
    leftMs: number;
    report: DeliveryReport;
    now: () => number;
  },
): Promise<void> {
  const write = (body: OutboxEntry, ifRevision: number) =>
    documents.write({ kind: NOTIFICATION, id, body }, { ifRevision });
  const { enqueuedAt, leasedUntil: _, ...rest } = body;
  // Another process may have the channel; where none has, the entry dies like one that cannot be sent.
  if (!channel && now() - enqueuedAt < DAY_MS) return;
  const taken = {
    ...rest,
    enqueuedAt,
    revision: body.revision + 1,
    attempts: body.attempts + 1,
    firstAt: body.firstAt ?? (channel ? now() : enqueuedAt),
  };
  if (!await write({ ...taken, leasedUntil: now() + LEASE_MS }, body.revision)) return;
  const revision = taken.revision + 1;
  try {
    if (!channel) throw new SendError("no channel of this name is configured");
    await send(channel, body.notification, Math.min(leftMs, ATTEMPT_MS));
    const { lastError: _, ...sent } = taken;
    report.sent++;
    await write({ ...sent, revision, state: "sent", sentAt: now() }, taken.revision);
  } catch (error) {
    if (!(error instanceof SendError)) throw error;
    const isDead = now() - taken.firstAt >= DAY_MS;
    report.failures.push({ channel: body.channel, reason: error.message, isDead });
    const waitMs = Math.min(HOUR_MS, FIRST_WAIT_MS * 2 ** Math.min(body.attempts, 20)) *
      (0.5 + Math.random() / 2);
    const nextAt = Math.round(now() + waitMs);
    const failed = { ...taken, revision, nextAt, lastError: error.message };
    await write({ ...failed, state: isDead ? "dead" : "pending" }, taken.revision);
  }
}
