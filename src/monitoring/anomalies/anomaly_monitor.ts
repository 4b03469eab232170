import type { Backend } from "../../backends/backend.ts";
import { Alarm, type EventListener } from "../../pipeline/events.ts";
import { recordFinding } from "../cost_findings.ts";
import { newAnomalies } from "./anomalies.ts";

/** Time between two searches, and the part of the time that searches may take: a twentieth. */
const SEARCH_MS = 5 * 60_000;
const WAIT_FACTOR = 20;

/** Searches for anomalies in the background while costs are committed, and once more at the end. */
export class AnomalyMonitor {
  readonly #backend: Backend;
  readonly #emit: EventListener;
  readonly #alarm: Alarm;
  #searching: Promise<void> | undefined;
  #isDue = false;
  #mayStartAt = -Infinity;

  constructor(backend: Backend, emit: EventListener) {
    this.#backend = backend;
    this.#emit = emit;
    this.#alarm = new Alarm("cost_entries", emit, { isMonitoring: true });
  }

  /** Notes that costs were committed. */
  note(): void {
    this.#isDue = true;
    if (performance.now() >= this.#mayStartAt) void this.#start();
  }

  /** Searches what is left to search. */
  async close(): Promise<void> {
    await this.#searching;
    if (this.#isDue) await this.#start();
  }

  #start(): Promise<void> {
    return this.#searching ??= this.#search().finally(() => this.#searching = undefined);
  }

  async #search(): Promise<void> {
    const start = performance.now();
    this.#isDue = false;
    try {
      for (const finding of await newAnomalies(this.#backend)) {
        await recordFinding(this.#backend, finding, this.#emit);
      }
      this.#alarm.clear();
    } catch (error) {
      this.#isDue = true;
      this.#alarm.raise(error);
    }
    const end = performance.now();
    this.#mayStartAt = end + Math.max(SEARCH_MS, WAIT_FACTOR * (end - start));
  }
}
