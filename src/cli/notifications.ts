import { setTimeout } from "node:timers/promises";
import type { Backend } from "../backends/backend.ts";
import { describePath, messageOf } from "../errors.ts";
import { evaluateCosts, type EvaluationOptions } from "../monitoring/cost_evaluation.ts";
import { type Channel, parseChannels } from "../monitoring/notifications/channels.ts";
import {
  deliver,
  type DeliverOptions,
  type DeliveryReport,
  fillOutbox,
} from "../monitoring/notifications/outbox.ts";
import type { TelemetryEvent } from "../pipeline/events.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import { isGranted } from "../permissions.ts";
import { env, readNamedFile } from "./environment.ts";
import { formatThings, note } from "./output.ts";
import { asCalled } from "./program_name.ts";

/** Variable with the channels: a JSON array, or the path of a file that has one. */
export const CHANNELS = "OPENFINOPS_CHANNELS";
/** Time for deliveries before a command ends, in milliseconds. */
const BRIEF_MS = 5_000;
/** Interval at which a command that goes on tries what is due. */
const RETRY_MS = 60_000;
/** Time after an event in which others are awaited, in milliseconds. */
const SOON_MS = 1_000;
/** The last failure that was printed: an outage is reported once. */
let lastFailure: string | undefined;

/**
 * Reads the channels of this process; none where the variable is not set, or may not be read. Notes those that cannot be
 * used, and returns the others: a wrong channel does not stop the work of a command.
 *
 * @param wrong Gets the error of each that cannot be used, by its name.
 */
export function readChannels(wrong = new Map<string | undefined, unknown>()): Channel[] {
  if (!isGranted({ name: "env", variable: CHANNELS })) return [];
  const given = env(CHANNELS);
  if (given === undefined) return [];
  const isJson = given.trimStart().startsWith("[");
  const onWrong = (error: unknown, name?: string) => {
    wrong.set(name, error);
    note(`Not notified, by ${isJson ? CHANNELS : describePath(given)}: ${messageOf(error)}`);
  };
  try {
    const json = isJson ? given : readNamedFile(given, "the channels");
    return parseChannels(
      json,
      { env, file: (path) => readNamedFile(path, "a secret of a channel") },
      onWrong,
    );
  } catch (error) {
    onWrong(error);
    return [];
  }
}

/** Evaluates what was committed, prints the findings, and notifies. The next evaluation makes up for what fails here. */
export async function evaluateAndNotify(
  backend: Backend,
  channels: readonly Channel[],
  { spans, ...options }: Pick<EvaluationOptions, "spans"> & Partial<DeliverOptions> = {},
): Promise<DeliveryReport | undefined> {
  try {
    // Another import may hold the lock of a file for a while.
    await retryBriefly(() => evaluateCosts(backend, { spans, emit: ({ message }) => note(message) }));
  } catch (error) {
    const reason = messageOf(error).replace("It is retried;", "It was retried;");
    note(asCalled(
      `Costs are stored, but budgets could not be evaluated: ${reason} The next import evaluates them, or ` +
        "`openfinops notify flush`.",
    ));
  }
  return await notify(backend, channels, options);
}

/** Enqueues what is to be told and sends what is due. Prints what happened; a failure is no failure of the command. */
export async function notify(
  { documents }: Backend,
  channels: readonly Channel[],
  options: Partial<DeliverOptions> = {},
): Promise<DeliveryReport | undefined> {
  if (channels.length === 0) return undefined;
  try {
    await fillOutbox(documents, channels);
    const report = await deliver(documents, channels, { timeBudgetMs: BRIEF_MS, ...options });
    lastFailure = undefined;
    printDelivery(report);
    return report;
  } catch (error) {
    const failure = messageOf(error);
    if (failure !== lastFailure) {
      note(asCalled(`Cannot notify: ${failure} \`openfinops notify flush\` tries again.`));
    }
    lastFailure = failure;
  }
}

function printDelivery({ sent, failures }: DeliveryReport): void {
  if (sent > 0) note(`Sent ${formatThings(sent, "notification", "notifications")}.`);
  const groups = Map.groupBy(
    failures,
    ({ channel, reason, isDead }) => `${channel}: ${reason}. ${isDead ? DEAD : KEPT}`,
  );
  for (const [message, { length }] of groups) {
    note(asCalled(`Not sent: ${formatThings(length, "notification", "notifications")} to ${message}`));
  }
}

const KEPT = "The outbox keeps it; `openfinops notify flush` tries again.";
const DEAD = "Given up after a day; `openfinops notify flush --dead` tries again.";

/** Returns true if channels are notified of an event. */
export function isFinding({ type }: TelemetryEvent): boolean {
  return /^(alert|budget|cost)-/.test(type);
}

/** Notifies while a command runs: soon after an event, and each minute what is due. */
export class Notifier {
  readonly #backend: Backend;
  readonly #channels: readonly Channel[];
  readonly #stop = new AbortController();
  readonly #interval: ReturnType<typeof setInterval>;
  #isDue = false;
  #running: Promise<void> | undefined;

  constructor(backend: Backend, channels: readonly Channel[]) {
    this.#backend = backend;
    this.#channels = channels;
    this.#interval = setInterval(() => this.notifySoon(), RETRY_MS);
    Deno.unrefTimer(this.#interval);
  }

  /** Notifies after a moment, in which the documents of an event are stored. */
  notifySoon(): void {
    this.#isDue = true;
    this.#running ??= this.#run().finally(() => this.#running = undefined);
  }

  /** Ends, after the attempt that is under way. */
  async close(): Promise<void> {
    clearInterval(this.#interval);
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (this.#isDue && !signal.aborted) {
      this.#isDue = false;
      await setTimeout(SOON_MS, undefined, { signal }).catch(() => {});
      if (!signal.aborted) await notify(this.#backend, this.#channels);
    }
  }
}
