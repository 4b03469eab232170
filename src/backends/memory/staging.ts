import { costEntries } from "../../records/cost_entry.ts";
import { Sums } from "../../records/sums.ts";
import {
  type DeliveredPart,
  DELIVERY,
  monthAfter,
  NAMES_COLUMNS,
  NO_CONTENT,
  type PartState,
  type Publication,
  type PublishResult,
  publishSteps,
  type PublishTarget,
  runSteps,
  type StagedCost,
  type Staging,
  step,
} from "../staging.ts";
import type { MemoryDocuments } from "./documents.ts";

type Fields = { readonly timestamp: number } & Readonly<Record<string, unknown>>;

/** Outcome of a record that is put into memory. */
export type PutOutcome = "stored" | "restated" | "duplicate";

/** Costs in memory. */
export interface CostsInMemory {
  readonly documents: MemoryDocuments;
  values(): readonly Fields[];
  remove(isGone: (record: Fields) => boolean): number;
  put(record: Fields): PutOutcome;
}

/** Staged costs in memory. */
export class MemoryStaging implements Staging {
  readonly #costs: CostsInMemory;
  #staged: (Fields & StagedCost)[] = [];

  constructor(costs: CostsInMemory) {
    this.#costs = costs;
  }

  add(records: readonly unknown[]): Promise<void> {
    for (const record of records) this.#staged.push(record as Fields & StagedCost);
    return Promise.resolve();
  }

  publish(publication: Publication): Promise<PublishResult> {
    const { documents, remove } = this.#costs;
    const target: PublishTarget = {
      deliveries: () => step(documents.list(DELIVERY)),
      measure: (part) => step(this.#stateOf(part)),
      remove: (part) => step(remove(belongsTo(part))),
      insert: (parts) => step(this.#insert(new Set(parts))),
      write: (document) => step(void documents.write(document)),
    };
    return Promise.resolve(runSteps(publishSteps(target, publication)));
  }

  discard(): Promise<void> {
    this.#staged = [];
    return Promise.resolve();
  }

  #insert(parts: ReadonlySet<number>): PublishResult {
    const result = { stored: 0, restated: 0, known: 0, different: 0 };
    let clash: PublishResult["clash"];
    const numbers = new Map<string, number>();
    const existing = new Map<string, Fields>();
    for (const record of this.#costs.values()) existing.set(keyOf(record), record);
    for (const { stagedPart, stagedAt: _, isHashed, ...cost } of this.#staged) {
      if (!parts.has(stagedPart)) continue;
      const number = (numbers.get(keyOf(cost)) ?? 0) + 1;
      if (isHashed) numbers.set(keyOf(cost), number);
      const record: Fields = isHashed && number > 1
        ? { ...cost, entryId: `${cost.entryId}-${number}` }
        : cost;
      const outcome = this.#costs.put(record);
      if (outcome === "duplicate") {
        if (contentOf(existing.get(keyOf(record))) === contentOf(record)) result.known++;
        else {
          result.different++;
          clash ??= { entryId: record.entryId as string, timestamp: record.timestamp };
        }
        continue;
      }
      existing.set(keyOf(record), record);
      result.stored++;
      if (outcome === "restated") result.restated++;
    }
    return { ...result, replaced: 0, ...(clash ? { clash } : {}) };
  }

  #stateOf(part: DeliveredPart): PartState {
    const found = this.#costs.values().filter(belongsTo(part));
    const totals = new Sums();
    for (const { currency, amount } of found as (Fields & { currency: string; amount: string })[]) {
      totals.add(currency, amount);
    }
    return { rows: found.length, totals: totals.toRecord() };
  }
}

function belongsTo({ deliveryId, source, period }: DeliveredPart): (record: Fields) => boolean {
  const end = monthAfter(period);
  return (record) =>
    record.deliveryId === deliveryId && record.source === source &&
    (record.billingPeriodStart === undefined
      ? record.timestamp >= period && record.timestamp < end
      : record.billingPeriodStart === period);
}

function keyOf({ entryId, timestamp }: Fields): string {
  return `${timestamp} ${entryId}`;
}

/** Content of a cost, as `SqlPublishTarget` compares it. */
function contentOf(record: Fields | undefined): string {
  const values = costEntries.columns.filter(({ field }) => !NO_CONTENT.has(field)).map(({ field }) => {
    const value = record?.[field];
    if (field !== NAMES_COLUMNS) return value;
    const entries = Object.entries(value ?? {}).filter(([, text]) => text !== "");
    return entries.length === 0 ? undefined : Object.fromEntries(entries);
  });
  return JSON.stringify(values);
}
