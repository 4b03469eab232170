import type { ValidationError } from "../errors.ts";
import type { TelemetryEvent } from "../pipeline/events.ts";
import type { StoreStats } from "../store.ts";
import type { LogLevel } from "./log.ts";
import { isLogging, note } from "./output.ts";

/** Failed attempts in a row that are reported as an outage. */
const MIN_FAILURES = 3;

/** Severity of events in logs; of all others it is `warn`. */
const LEVELS: Partial<Record<TelemetryEvent["type"], LogLevel>> = {
  "paused": "error",
  "spool-unusable": "error",
  "spool-damaged": "error",
  "dead-lettered": "error",
  "dropped": "error",
  "watch-paused": "error",
  "resumed": "info",
  "watch-resumed": "info",
  "alert-resolved": "info",
};

/** Prints events for an operator: an outage, its end, and each kind of refused record, once each. */
export class OutageReporter {
  /** Records that were still waiting when closing began, and were not accepted. */
  turnedAway = 0;
  /** Attempts that failed since the last success. */
  #failures = 0;
  readonly #refused = new Set<string>();

  /** Reports an event; of retries the first that amount to an outage. */
  report(event: TelemetryEvent): void {
    const { type, dataset, message } = event;
    const fields = { event: type, dataset, ...("code" in event ? { code: event.code } : {}) };
    if (type === "retry") {
      // A single failure is not reported: the retry follows at once.
      if (++this.#failures === MIN_FAILURES) {
        note(`Cannot store records; retrying: ${message}`, "error", fields);
      }
      return;
    }
    // Without a folder for refused records, this is its only copy.
    const record = event.type === "dead-lettered" && !event.file ? event.record : undefined;
    const line = isLogging() ? message : `${type}: ${message}`;
    note(line, LEVELS[type] ?? "warn", record === undefined ? fields : { ...fields, record });
    if (record !== undefined && !isLogging()) note(JSON.stringify(record));
  }

  /** Prints the reason for a refused record, the first time for each field. */
  refuse(error: ValidationError): void {
    if (this.#refused.has(error.field)) return;
    this.#refused.add(error.field);
    note(`Left out: ${error.message}. Further records like it are left out without a message.`, "warn", {
      code: error.code,
    });
  }

  /** Reports the end of an outage. */
  checkRecovery(...stores: readonly StoreStats[]): void {
    const pipelines = stores.flatMap(({ datasets }) => Object.values(datasets));
    if (pipelines.some(({ lastError }) => lastError !== undefined)) return;
    if (this.#failures >= MIN_FAILURES) note("Records are stored again.", "info");
    this.#failures = 0;
  }

  /** Reports that the stop waits for an outage. */
  reportStop(): void {
    if (this.#failures >= MIN_FAILURES) note("Stopping; waiting up to 10 s to store the rest.", "info");
  }
}
