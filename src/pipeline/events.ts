import { BackendError, type ErrorCode, errorCodeOf, messageOf } from "../errors.ts";
import type { Alert } from "../records/alert.ts";
import type { CostAnomaly } from "../records/anomaly.ts";
import type { Budget, BudgetCrossing } from "../records/budget.ts";
import type { DatasetName } from "../records/dataset.ts";

// All makers share one map: a public type must not refer to private ones, so a map of one interface a maker would export
// five more names, and packages on JSR may not augment modules. Payloads are types of records/ and errors.ts.
/** Fields of each type of {@linkcode TelemetryEvent} beside `type`, `dataset` and `message`. */
export interface EventDetails {
  /** An attempt to write failed, and will be repeated. */
  "retry": { code: ErrorCode; error: unknown };
  /** An alarm, once for each cause: nothing is written until an operator acts. Attempts go on. */
  "paused": { code: ErrorCode; error: unknown };
  /** The cause of the last `paused` is gone. */
  "resumed": object;
  /** An alarm, once for each cause: alerts, budgets or anomalies are not evaluated. Records are written. */
  "watch-paused": { code: ErrorCode; error: unknown };
  /** The cause of the last `watch-paused` is gone. */
  "watch-resumed": object;
  /** The backend refused a record. Without a `file` it is in this event only. */
  "dead-lettered": { code: ErrorCode; error: unknown; record: unknown; file?: string };
  /** Records are dropped as `overflow` says; `dropped` counts them so far. Once for each time that buffers are full. */
  "dropped": { dropped: number };
  /** A part of the spool could not be read: its size in bytes, and the file it was moved to. */
  "spool-damaged": { bytes: number; file?: string };
  /** The spool replays records of batches that the ledger may have forgotten since this time; they may be stored twice. */
  "spool-outdated": { records: number; since: number };
  /** An alarm: the folder of the spool cannot be used, and records are kept in memory only. */
  "spool-unusable": { code: ErrorCode; error: unknown };
  /** A node or a service has broken a rule for as long as the rule says. */
  "alert-fired": { alert: Alert };
  /** The first metrics arrived that do not break the rule, or the alert was resolved by hand. */
  "alert-resolved": { alert: Alert };
  /** Spend has reached a threshold of a budget. Once in each period, over all processes. */
  "budget-threshold": { budget: Budget; crossing: BudgetCrossing };
  /** A day costs far more or far less than comparable days before. */
  "cost-anomaly": { anomaly: CostAnomaly };
}

/** Something that happened to records, or that was seen in them. Which details it has follows from `type`. */
export type TelemetryEvent = {
  [Type in keyof EventDetails]: {
    /** The type of the event. */
    type: Type;
    /** The dataset of the records. */
    dataset: DatasetName;
    /** A sentence for people. */
    message: string;
  } & EventDetails[Type];
}[keyof EventDetails];

/** Events of one type. */
export type EventOf<Type extends keyof EventDetails> = Extract<TelemetryEvent, { type: Type }>;

/** Receives events. Exceptions are ignored. */
export type EventListener = (event: TelemetryEvent) => void;

/** Wraps a listener so that it never throws. */
export function safeListener(listener: EventListener | undefined): EventListener {
  if (!listener) return () => {};
  return (event) => {
    try {
      const result: unknown = listener(event);
      if (result instanceof Promise) result.catch(() => {});
    } catch {
      // ignored, as documented
    }
  };
}

/** An alarm that is raised once and cleared once, however often its cause is met with. */
export class Alarm {
  readonly #dataset: DatasetName;
  readonly #emit: EventListener;
  readonly #prefix: "" | "watch-";
  #message: string | undefined;
  #cause: string | undefined;

  constructor(dataset: DatasetName, emit: EventListener, { isMonitoring = false } = {}) {
    this.#dataset = dataset;
    this.#emit = emit;
    this.#prefix = isMonitoring ? "watch-" : "";
  }

  /** Cause, if the alarm is raised. */
  get message(): string | undefined {
    return this.#message;
  }

  /** Raises it, unless it is raised for the same. */
  raise(error: unknown): void {
    const message = messageOf(error);
    // A message may tell of other files, or of another moment, each time.
    const cause = error instanceof BackendError
      ? `${error.operation} ${error.kind} ${error.sqlState}`
      : message;
    if (this.#message !== undefined && this.#cause === cause) return;
    this.#cause = cause;
    this.#message = message;
    this.#emit({
      type: `${this.#prefix}paused`,
      dataset: this.#dataset,
      code: errorCodeOf(error),
      message,
      error,
    });
  }

  /** Clears it, if it is raised. */
  clear(): void {
    if (this.#message === undefined) return;
    this.#message = undefined;
    const what = this.#prefix === "" ? "Writing" : "Watching";
    const message = `${what} ${this.#dataset} again.`;
    this.#emit({ type: `${this.#prefix}resumed`, dataset: this.#dataset, message });
  }
}
