/**
 * Staging of a delivery of costs: rows that no reader sees until all of them are published in one transaction.
 *
 * @module
 */
import { costEntries } from "../records/cost_entry.ts";
import { column, columnOf, type Dataset, defineDataset } from "../records/dataset.ts";
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

/** Number of rows by outcome. `stored`, `known` and `different` add up to the rows that were to be inserted. */
export interface PublishResult {
  /** Rows that were inserted or updated. */
  readonly stored: number;
  /** Those of `stored` that updated a row with their key. */
  readonly restated: number;
  /** Rows whose key exists with the same content. */
  readonly known: number;
  /** Rows whose key exists with other content. They were not stored. */
  readonly different: number;
  /** Rows of earlier deliveries that were deleted. */
  readonly replaced: number;
  /** Key of one of the `different` rows. */
  readonly clash?: { readonly entryId: string; readonly timestamp: number };
}

/** Result where nothing was changed. */
export const NOTHING_PUBLISHED: PublishResult = {
  stored: 0,
  restated: 0,
  known: 0,
  different: 0,
  replaced: 0,
};

/** Rows of a publish by their key: `total` staged, of which `inserted` had a new one. */
export interface InsertedRows {
  readonly total: number;
  readonly inserted: number;
}

/** Result where rows whose key exists took the place of the stored ones. */
export function replacingResult(total: number, distinct: number, existing: number): PublishResult {
  return { ...NOTHING_PUBLISHED, stored: total, restated: total - distinct + existing };
}

/**
 * Result where rows whose key exists were not stored.
 *
 * @param rows Counts of the rows.
 * @param clash Number of the rows that differ from the stored ones, and the entryId and timestamp of one of them.
 */
export function ignoringResult(
  { total, inserted }: InsertedRows,
  clash: readonly unknown[] = [],
): PublishResult {
  const [different = 0, entryId, timestamp] = clash;
  return {
    ...NOTHING_PUBLISHED,
    stored: inserted,
    known: total - inserted - Number(different),
    different: Number(different),
    ...(clash.length > 0 ? { clash: { entryId: entryId as string, timestamp: Number(timestamp) } } : {}),
  };
}

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

/** The dataset of staged costs. */
export const STAGED_COSTS: Dataset<unknown> = defineDataset({
  ...costEntries,
  columns: [
    ...costEntries.columns,
    column("integer", "stagedPart", { required: true }),
    column("integer", "stagedAt", { required: true }),
    column("boolean", "isHashed", { required: true }),
  ],
});

/**
 * Fields that do not count as content of a cost when an id exists: imports set `source` and `deliveryId`, and the first row
 * of a file names columns of the file in `focus`.
 */
export const NO_CONTENT: readonly string[] = ["source", "deliveryId", "focus"];
const UNCOMPARED = NO_CONTENT.map((field) => columnOf(costEntries, field).name);

/** SQL of a publish that differs between databases. */
export interface PublishDialect {
  /** The staging table. */
  readonly table: string;
  /** Columns of the table of costs. */
  readonly columns: readonly string[];
  /** Writes a text. */
  text(value: string): string;
  /** Writes a time. */
  time(ms: number): string;
  /** A comparison of two columns where null equals null. */
  isSame(a: string, b: string): string;
  /** A condition that a row of staging has a hashed id. */
  readonly isHashed: string;
  /** A number as a text. */
  numberText(expression: string): string;
}

/** Statements of a publish. */
export class PublishStatements {
  readonly #dialect: PublishDialect;
  readonly #replaces: boolean;

  constructor(dialect: PublishDialect, { replaces }: { replaces: boolean }) {
    this.#dialect = dialect;
    this.#replaces = replaces;
  }

  /** The condition of the rows of a part. The time comes first: the index of the key serves it. */
  where({ deliveryId, source, period, first, last }: DeliveredPart): string {
    const { text, time } = this.#dialect;
    return `WHERE timestamp >= ${time(first)} AND timestamp <= ${time(last)} AND delivery_id = ${
      text(deliveryId)
    } ` +
      `AND source = ${text(source)} AND (billing_period_start = ${
        time(period)
      } OR (billing_period_start IS NULL ` +
      `AND timestamp >= ${time(period)} AND timestamp < ${time(monthAfter(period))}))`;
  }

  /** Staged rows of some parts: of keys that were given, the first, or the last where the last one counts. */
  #rows(parts: readonly number[]): string {
    const { table, isHashed } = this.#dialect;
    const order = this.#replaces ? "DESC" : "ASC";
    return `(SELECT *, row_number() OVER (PARTITION BY timestamp, entry_id ORDER BY staged_at ${order}) AS n ` +
      `FROM ${table} WHERE staged_part IN (${parts.join(", ")})) AS s WHERE (${isHashed} OR n = 1)`;
  }

  /** Inserts the staged rows of some parts in the order of the key. */
  insert(parts: readonly number[]): string {
    const { columns, isHashed, numberText } = this.#dialect;
    const id = `CASE WHEN ${isHashed} AND n > 1 THEN entry_id || '-' || ${numberText("n")} ELSE entry_id END`;
    const values = columns.map((name) => name === "entry_id" ? id : name);
    const set = columns.filter((name) => name !== "entry_id" && name !== "timestamp")
      .map((name) => `${name} = excluded.${name}`);
    const conflict = this.#replaces ? `DO UPDATE SET ${set.join(", ")}` : "DO NOTHING";
    return `INSERT INTO cost_entries (${columns.join(", ")}) SELECT ${values.join(", ")} ` +
      `FROM ${this.#rows(parts)} ORDER BY timestamp, entry_id ON CONFLICT (timestamp, entry_id) ${conflict}`;
  }

  /** The number of staged rows of some parts. */
  count(parts: readonly number[]): string {
    const { table, numberText } = this.#dialect;
    return `SELECT ${numberText("count(*)")} FROM ${table} WHERE staged_part IN (${parts.join(", ")})`;
  }

  /** The number of rows to insert, and of those whose key exists. */
  existing(parts: readonly number[]): string {
    const { numberText } = this.#dialect;
    return `SELECT ${numberText("count(*)")}, ${numberText("count(c.entry_id)")} ` +
      `FROM (SELECT timestamp, entry_id FROM ${this.#rows(parts)}) AS r ` +
      "LEFT JOIN cost_entries AS c ON c.timestamp = r.timestamp AND c.entry_id = r.entry_id";
  }

  /** After an insert: the number of rows whose key has other content, and one such key. */
  different(parts: readonly number[], epochMs: (column: string) => string): string {
    const { table, columns, isHashed, isSame } = this.#dialect;
    const compared = columns.filter((name) => !UNCOMPARED.includes(name));
    const same = compared.map((name) => isSame(`s.${name}`, `c.${name}`)).join(" AND ");
    return `SELECT ${this.#dialect.numberText("count(*) OVER ()")}, s.entry_id, ${
      epochMs("s.timestamp")
    } FROM ${table} AS s ` +
      "JOIN cost_entries AS c ON c.timestamp = s.timestamp AND c.entry_id = s.entry_id " +
      `WHERE staged_part IN (${parts.join(", ")}) AND NOT (${isHashed}) AND NOT (${same}) LIMIT 1`;
  }
}

/** Start of the UTC month after a time. */
export function monthAfter(time: number): number {
  const date = new Date(time);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
}
