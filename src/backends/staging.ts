/**
 * Staging of a delivery of costs: rows that no reader sees until all of them are published in one transaction.
 *
 * @module
 */
import { costEntries } from "../records/cost_entry.ts";
import { column, type Dataset, defineDataset } from "../records/dataset.ts";
import type { StoredDocument } from "./stored_document.ts";

/** Kind of the documents that record deliveries. */
export const DELIVERY = "delivery";

/** Rows of one source and billing period that one delivery brought. */
export interface DeliveredPart {
  /** Delivery that brought them. */
  readonly deliveryId: string;
  /** Their `source`. */
  readonly source: string;
  /** Start of the billing period, epoch ms. Rows without BillingPeriodStart belong to the UTC month of their charge. */
  readonly period: number;
  /** Time of the first charge, epoch ms. */
  readonly first: number;
  /** Time of the last charge, epoch ms. */
  readonly last: number;
}

/** Rows of a part in the database. */
export interface PartState {
  /** Number of rows. */
  readonly rows: number;
  /** Exact total of each currency. */
  readonly totals: Readonly<Record<string, string>>;
}

/** Outcome of {@linkcode Publication.decide}. */
export interface PublicationPlan {
  /** Parts of earlier deliveries that are deleted. */
  readonly remove: readonly DeliveredPart[];
  /** Numbers of the parts of this delivery that are stored already. */
  readonly known?: readonly number[];
  /** Parts of this delivery that are inserted, by the numbers that their rows were staged with. */
  readonly insert: ReadonlyMap<number, DeliveredPart>;
  /** Documents to write, given the state of each inserted part afterwards; undefined where it is as it was staged. */
  documents(states: ReadonlyMap<number, PartState>): readonly StoredDocument[];
}

/**
 * Decides within the transaction, where no other delivery can be published: first which parts to measure, then what to do.
 * Neither function may throw.
 */
export interface Publication {
  /** Names the parts of earlier deliveries that may be replaced. */
  related(deliveries: readonly StoredDocument[]): readonly DeliveredPart[];
  /** Returns what to do, or undefined to change nothing. */
  decide(states: readonly PartState[]): PublicationPlan | undefined;
}

/**
 * Number of rows by outcome. `stored`, `known` and `different` add up to the rows that were to be inserted, and
 * `missing`.
 */
export interface PublishResult {
  /** Rows that were inserted or updated. */
  readonly stored: number;
  /** Those of `stored` that updated a row with their key. */
  readonly restated: number;
  /** Rows whose key exists with the same content. */
  readonly known: number;
  /** Rows whose key exists with other content, or has another row of the delivery. They were not stored. */
  readonly different: number;
  /** Those of `different` that are in known parts: an earlier import did not store them either. */
  readonly missing: number;
  /** Rows of earlier deliveries that were deleted. */
  readonly replaced: number;
  /** Key of one of the `different` rows. */
  readonly clash?: { readonly entryId: string; readonly timestamp: number };
}

/** Rows that are not stored because their key has other content. */
export type Clashes = Pick<PublishResult, "different" | "clash">;

/** Result where nothing was changed. */
export const NOTHING_PUBLISHED: PublishResult = {
  stored: 0,
  restated: 0,
  known: 0,
  different: 0,
  missing: 0,
  replaced: 0,
};

/** A cost with what staging has to know of it. */
export interface StagedCost {
  /** Number of its part; {@linkcode NO_PART} for a cost that belongs to no delivery. */
  stagedPart: number;
  /** Position in the delivery. */
  stagedAt: number;
  /** True if `entryId` is a hash of the content: rows with the same hash are told apart by a number. */
  isHashed: boolean;
}

/** Number of the part of rows that belong to no delivery. They are inserted in any case. */
export const NO_PART = -1;

/** A value now or later: SQLite in this thread and memory publish without yielding to other work. */
export type Eventual<T> = T | Promise<T>;

/** Steps of a publish: yields what a step gives, and is resumed with its value. */
export type Steps<T> = Generator<Eventual<unknown>, T, unknown>;

/** Operations on stored costs within the transaction of a publish. */
export interface PublishTarget {
  deliveries(): Steps<StoredDocument[]>;
  /** Counts and adds up the rows of a part. */
  measure(part: DeliveredPart): Steps<PartState>;
  /** Deletes the rows of a part; returns their number. */
  remove(part: DeliveredPart): Steps<number>;
  /** Inserts the staged rows of these parts. */
  insert(parts: readonly number[]): Steps<PublishResult>;
  /** Counts the staged rows of these parts whose key has other content. */
  different(parts: readonly number[]): Steps<Clashes>;
  write(document: StoredDocument): Steps<unknown>;
}

export function* step<T>(value: Eventual<T>): Steps<T> {
  return (yield value) as T;
}

/** Publishes what was staged: the same steps for every backend. */
export function* publishSteps(target: PublishTarget, publication: Publication): Steps<PublishResult> {
  const documents = yield* target.deliveries();
  const states: PartState[] = [];
  for (const part of publication.related(documents)) states.push(yield* target.measure(part));
  const plan = publication.decide(states);
  if (!plan) return NOTHING_PUBLISHED;
  let replaced = 0;
  for (const part of plan.remove) replaced += yield* target.remove(part);
  const result = plan.insert.size === 0 ? NOTHING_PUBLISHED : yield* target.insert([...plan.insert.keys()]);
  // If every staged row was inserted, the parts are as they were staged.
  const after = new Map<number, PartState>();
  if (result.restated + result.known + result.different > 0) {
    for (const [number, part] of plan.insert) {
      if (number !== NO_PART) after.set(number, yield* target.measure(part));
    }
  }
  const missing = plan.known?.length ? yield* target.different(plan.known) : NOTHING_PUBLISHED;
  for (const document of plan.documents(after)) yield* target.write(document);
  return {
    ...result,
    replaced,
    different: result.different + missing.different,
    missing: missing.different,
    ...(missing.clash ? { clash: missing.clash } : {}),
  };
}

/** Runs steps to their end, without yielding to other work. No step may give a promise. */
export function runSteps<T>(steps: Steps<T>): T {
  for (let next = steps.next();; next = steps.next(next.value)) {
    if (next.done) return next.value;
  }
}

/** Runs steps to their end, one after the other. */
export async function runStepsLater<T>(steps: Steps<T>): Promise<T> {
  let next = steps.next();
  while (!next.done) {
    let value: unknown;
    try {
      value = await next.value;
    } catch (error) {
      next = steps.throw(error);
      continue;
    }
    next = steps.next(value);
  }
  return next.value;
}

/** A place for rows that are not published yet. It goes with the process. */
export interface Staging {
  /** Adds costs, each with the fields of {@linkcode StagedCost}. */
  add(records: readonly unknown[]): Promise<void>;
  /**
   * Publishes what was added, in one transaction with its documents. Can be tried again after a transient failure.
   *
   * @throws {BackendError} If nothing was published, or if that is unknown.
   */
  publish(publication: Publication): Promise<PublishResult>;
  /** Frees what is left. Call it in any case. */
  discard(): Promise<void>;
}

export const STAGED_COSTS: Dataset<unknown> = defineDataset({
  ...costEntries,
  columns: [
    ...costEntries.columns,
    column("integer", "stagedPart", { required: true }),
    column("integer", "stagedAt", { required: true }),
    column("boolean", "isHashed", { required: true }),
  ],
});

/** Fields that are no content of a cost when its id exists: imports set them. */
export const NO_CONTENT: ReadonlySet<string> = new Set(["source", "deliveryId"]);
/** The field whose empty entries are no content: the first row of a file names the columns that are null in it. */
export const NAMES_COLUMNS = "focus";

/** Start of the UTC month after a time. */
export function monthAfter(time: number): number {
  const date = new Date(time);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
}
