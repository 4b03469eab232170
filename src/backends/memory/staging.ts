import { costEntries } from "../../records/cost_entry.ts";
import { Sums } from "../../records/sums.ts";
import {
  type Clashes,
  type DeliveredPart,
  DELIVERY,
  monthAfter,
  NAMES_COLUMNS,
  NO_CONTENT,
  NOTHING_PUBLISHED,
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
      different: (parts) => step(this.#different(new Set(parts))),
      write: (document) => step(void documents.write(document)),
    };
    return Promise.resolve(runSteps(publishSteps(target, publication)));
  }

  discard(): Promise<void> {
    this.#staged = [];
    return Promise.resolve();
  }

  #insert(parts: ReadonlySet<number>): PublishResult {
    const result = { ...NOTHING_PUBLISHED, stored: 0, restated: 0 };
    /** Rows that another row with their key took the place of, or is there. */
    const lost: Fields[] = [];
    const stored = this.#byKey();
    const own = new Set<string>();
    const numbers = new Map<string, number>();
    for (const { stagedPart, stagedAt: _, isHashed, ...cost } of this.#staged) {
      if (!parts.has(stagedPart)) continue;
      const number = (numbers.get(keyOf(cost)) ?? 0) + 1;
      if (isHashed) numbers.set(keyOf(cost), number);
      const record: Fields = isHashed && number > 1
        ? { ...cost, entryId: `${cost.entryId}-${number}` }
        : cost;
      const outcome = this.#costs.put(record);
      const key = keyOf(record);
      if (outcome === "duplicate") lost.push(record);
      else if (outcome === "restated" && own.has(key)) lost.push(stored.get(key)!);
      else {
        result.stored++;
        if (outcome === "restated") result.restated++;
      }
      if (outcome === "duplicate") continue;
      own.add(key);
      stored.set(key, record);
    }
    const clashes = clashesOf(lost, stored);
    return { ...result, ...clashes, known: lost.length - clashes.different };
  }

  #different(parts: ReadonlySet<number>): Clashes {
    const rows = this.#staged.filter(({ stagedPart, isHashed }) => parts.has(stagedPart) && !isHashed);
    return clashesOf(rows, this.#byKey());
  }

  #byKey(): Map<string, Fields> {
    return new Map(this.#costs.values().map((record) => [keyOf(record), record]));
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

/** Counts rows whose key has other content. */
function clashesOf(rows: readonly Fields[], stored: ReadonlyMap<string, Fields>): Clashes {
  const [first, ...others] = rows.filter((row) => contentOf(stored.get(keyOf(row))) !== contentOf(row));
  if (first === undefined) return { different: 0 };
  const clash = { entryId: first.entryId as string, timestamp: first.timestamp };
  return { different: 1 + others.length, clash };
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
