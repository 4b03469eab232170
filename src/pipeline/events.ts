import { BackendError, type ErrorCode, errorCodeOf, messageOf } from "../errors.ts";
import type { Alert } from "../records/alert.ts";
import type { CostAnomaly } from "../records/anomaly.ts";
import type { Budget, BudgetCrossing } from "../records/budget.ts";
import type { DatasetName } from "../records/dataset.ts";

/** Fields of every {@linkcode TelemetryEvent}. */
export interface EventOf<Type extends string> {
  /** Type. */
  type: Type;
  /** To records of which dataset. */
  dataset: DatasetName;
  /** The same in words. */
  message: string;
}

/** An attempt to write failed; it is made again by itself. */
export interface RetryEvent extends EventOf<"retry"> {
  /** Why, as a stable name. */
  code: ErrorCode;
  /** Why it failed. */
  error: unknown;
}

/**
 * An alarm: nothing goes on until somebody mends something; with `watch-paused` only what is watched does not, and records
 * go on. Told once, whatever the number of attempts.
 */
export interface PausedEvent extends EventOf<"paused" | "watch-paused"> {
  /** Why, as a stable name. */
  code: ErrorCode;
  /** Cause. */
  error: unknown;
}

/** The cause of a {@linkcode PausedEvent} is gone. */
export type ResumedEvent = EventOf<"resumed" | "watch-resumed">;

/** A record that the backend refuses was set aside. */
export interface DeadLetteredEvent extends EventOf<"dead-lettered"> {
  /** Why, as a stable name. */
  code: ErrorCode;
  /** Why it is refused. */
  error: unknown;
  /** The record. */
  record: unknown;
  /** The file that it went into; none where no folder is configured: then it is nowhere but here. */
  file?: string;
}

/** Records are being dropped as the overflow policy says. Told once for each time that buffers are full. */
export interface DroppedEvent extends EventOf<"dropped"> {
  /** Records dropped so far. */
  dropped: number;
}

/** A part of the spool could not be read back. */
export interface SpoolDamagedEvent extends EventOf<"spool-damaged"> {
  /** The bytes that could not be read. */
  bytes: number;
  /** File of the dead letters, if they could be stored. */
  file?: string;
}

/** An alarm: the folder of the spool cannot be used, and records are kept in memory only. */
export interface SpoolUnusableEvent extends EventOf<"spool-unusable"> {
  /** Why, as a stable name. */
  code: ErrorCode;
  /** Cause. */
  error: unknown;
}

/** A node or a service has broken a rule for as long as the rule allows, or does so no longer. */
export interface AlertEvent extends EventOf<"alert-fired" | "alert-resolved"> {
  /** The alert. */
  alert: Alert;
}

/** Spending has reached a threshold of a budget. Reported once in each period by one process. */
export interface BudgetEvent extends EventOf<"budget-threshold"> {
  /** The budget. */
  budget: Budget;
  /** The threshold, and what was spent. */
  crossing: BudgetCrossing;
}

/** A day costs far more or far less than the like days before. */
export interface AnomalyEvent extends EventOf<"cost-anomaly"> {
  /** The day, and what it costs. */
  anomaly: CostAnomaly;
}

/** Events of the pipeline and of monitoring, for logs and alarms. */
export type TelemetryEvent =
  | RetryEvent
  | PausedEvent
  | ResumedEvent
  | DeadLetteredEvent
  | DroppedEvent
  | SpoolDamagedEvent
  | SpoolUnusableEvent
  | AlertEvent
  | BudgetEvent
  | AnomalyEvent;

/** Is told of events. What it throws is nobody's business. */
export type EventListener = (event: TelemetryEvent) => void;

/** The listener made safe: whatever it does, records go on. */
export function safeListener(listener: EventListener | undefined): EventListener {
  if (!listener) return () => {};
  return (event) => {
    try {
      const result: unknown = listener(event);
      if (result instanceof Promise) result.catch(() => {});
    } catch {
      // as promised
    }
  };
}

/** An alarm that is raised once and cleared once, however often its cause is met with. */
export class Alarm {
  readonly #dataset: DatasetName;
  readonly #emit: EventListener;
  readonly #of: "" | "watch-";
  #message: string | undefined;
  #cause: string | undefined;

  /** Makes a silent alarm. */
  constructor(dataset: DatasetName, emit: EventListener, { isOfWatch = false } = {}) {
    this.#dataset = dataset;
    this.#emit = emit;
    this.#of = isOfWatch ? "watch-" : "";
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
      type: `${this.#of}paused`,
      dataset: this.#dataset,
      code: errorCodeOf(error),
      message,
      error,
    });
  }

  /** Clears it, if it is raised. */
  clear(): void {
    if (this.#message === undefined) return;
    const message = `goes on: ${this.#message}`;
    this.#message = undefined;
    this.#emit({ type: `${this.#of}resumed`, dataset: this.#dataset, message });
  }
}
