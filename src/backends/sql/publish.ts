/**
 * Publishing staged costs by SQL.
 *
 * @module
 */
import { BackendError } from "../../errors.ts";
import { costEntries } from "../../records/cost_entry.ts";
import { columnOf } from "../../records/dataset.ts";
import type { StoredDocument } from "../stored_document.ts";
import {
  type Clashes,
  type DeliveredPart,
  DELIVERY,
  type Eventual,
  monthAfter,
  NAMES_COLUMNS,
  NO_CONTENT,
  NOTHING_PUBLISHED,
  type PartState,
  type PublishResult,
  type PublishTarget,
  step,
  type Steps,
} from "../staging.ts";
import type { SqlDialect } from "./select.ts";
import { type DocumentDialect, documentsOf, readStatement, writeStatement } from "./documents.ts";

const KEY = "timestamp, entry_id";
/** A join with the stored cost of this id. */
const STORED = (id: string) => `JOIN cost_entries AS c ON c.timestamp = s.timestamp AND c.entry_id = ${id}`;
/** Condition of numbered rows that have a place of their own. */
const KEPT = "(is_hashed OR n = 1)";
/** Condition of numbered rows whose id has their number: rows of equal content. */
const NUMBERED = "is_hashed AND n > 1";
/** Columns that are no content of a cost. */
const UNCOMPARED = [...NO_CONTENT].map((field) => columnOf(costEntries, field).name);

/** A row of a result. */
type Row = readonly unknown[];

/** The transaction of a publish. */
export interface PublishSession {
  /** Runs a query; gives its rows. */
  query(sql: string, parameters?: readonly string[]): Eventual<readonly Row[]>;
  /** Runs a change; gives the number of rows that it affected. */
  execute(sql: string, parameters?: readonly string[]): Eventual<number>;
}

/** SQL of a publish that differs between databases. */
export interface PublishDialect extends Pick<SqlDialect, "value" | "epochMs" | "asText"> {
  /** The staging table. */
  readonly table: string;
  /** Columns of the table of costs. */
  readonly columns: readonly string[];
  /** Documents. Where they have no unique key, costs have none: rows are looked up first, while no other change runs. */
  readonly documents: DocumentDialect;
  /** The entries of a map that are not empty, in an order that does not vary; null where there are none. */
  filledEntries(map: string): string;
  /** Columns that add up the amounts. */
  readonly sums: string;
  /** The exact total that these columns have. */
  total(sums: Row): string;
}

/** Options of {@linkcode SqlPublishTarget}. */
export interface SqlPublishOptions {
  /** True if a row whose key exists takes the place of the stored one. */
  readonly replaces: boolean;
  /** True if the rows were staged in the order of time. */
  readonly isOrdered?: boolean;
  /** Columns that a staged row has a value in; all where not given. */
  readonly used?: readonly string[];
}

/** Condition of the staged rows of parts. */
function ofParts(parts: readonly number[]): string {
  return `staged_part IN (${parts.join(", ")})`;
}

/** The costs of a database within the transaction of a publish. */
export class SqlPublishTarget implements PublishTarget {
  readonly #session: PublishSession;
  readonly #dialect: PublishDialect;
  readonly #options: SqlPublishOptions;

  constructor(session: PublishSession, dialect: PublishDialect, options: SqlPublishOptions) {
    this.#session = session;
    this.#dialect = dialect;
    this.#options = options;
  }

  *deliveries(): Steps<StoredDocument[]> {
    return documentsOf(yield* this.#query(...readStatement(this.#dialect.documents, DELIVERY)));
  }

  *measure(part: DeliveredPart): Steps<PartState> {
    const { asText, sums, total } = this.#dialect;
    const found = yield* this.#query(
      `SELECT currency, ${asText("count(*)")}, ${sums} FROM cost_entries ${this.#where(part)} GROUP BY 1`,
    );
    return {
      rows: found.reduce((sum, [, count]) => sum + Number(count), 0),
      totals: Object.fromEntries(found.map(([currency, , ...sums]) => [currency, total(sums)])),
    };
  }

  remove(part: DeliveredPart): Steps<number> {
    return this.#execute(`DELETE FROM cost_entries ${this.#where(part)}`);
  }

  write(document: StoredDocument): Steps<unknown> {
    return this.#execute(...writeStatement(this.#dialect.documents, document));
  }

  *insert(parts: readonly number[]): Steps<PublishResult> {
    const { asText } = this.#dialect;
    const staged = ofParts(parts);
    const [[count]] = yield* this.#query(`SELECT ${asText("count(*)")} FROM ${this.#from(staged)}`);
    const total = Number(count);
    if (this.#options.replaces) return yield* this.#replace(parts, total);
    let inserted = yield* this.#insertFirst(staged);
    if (inserted < total) inserted += yield* this.#insertNumbered(staged);
    if (inserted === total) return { ...NOTHING_PUBLISHED, stored: total };
    yield* this.#assertPresent(staged);
    const clashes = yield* this.different(parts);
    const known = total - inserted - clashes.different;
    return { ...NOTHING_PUBLISHED, stored: inserted, known, ...clashes };
  }

  *different(parts: readonly number[]): Steps<Clashes> {
    const [[count, entryId, timestamp] = [0]] = yield* this.#query(this.#different(ofParts(parts)));
    const different = Number(count);
    return different === 0
      ? { different }
      : { different, clash: { entryId: entryId as string, timestamp: Number(timestamp) } };
  }

  /** Inserts rows, also over those with their key: of several rows with one key the last. */
  *#replace(parts: readonly number[], total: number): Steps<PublishResult> {
    const { asText } = this.#dialect;
    const staged = ofParts(parts);
    const [[distinct, existing]] = yield* this.#query(
      `SELECT ${asText("count(*)")}, ${asText("count(c.entry_id)")} FROM ` +
        this.#numbered(staged, KEPT, `LEFT ${STORED("s.entry_id")}`),
    );
    yield* this.#insertNumbered(staged);
    yield* this.#assertPresent(staged);
    const stored = Number(distinct);
    const clashes = stored < total ? yield* this.different(parts) : NOTHING_PUBLISHED;
    const known = total - stored - clashes.different;
    return { ...NOTHING_PUBLISHED, ...clashes, stored, restated: Number(existing), known };
  }

  #query(...statement: Parameters<PublishSession["query"]>): Steps<readonly Row[]> {
    return step(this.#session.query(...statement));
  }

  #execute(...statement: Parameters<PublishSession["execute"]>): Steps<number> {
    return step(this.#session.execute(...statement));
  }

  /** The condition of the rows of a part. The time comes first: the index of the key serves it. */
  #where({ deliveryId, source, period, first, last }: DeliveredPart): string {
    const { value } = this.#dialect;
    const [start, end] = [value(period), value(monthAfter(period))];
    return `WHERE timestamp >= ${value(first)} AND timestamp <= ${value(last)} ` +
      `AND delivery_id = ${value(deliveryId)} AND source = ${value(source)} ` +
      `AND (billing_period_start = ${start} OR (billing_period_start IS NULL ` +
      `AND timestamp >= ${start} AND timestamp < ${end}))`;
  }

  /** Staged rows, named `s`. */
  #from(condition: string, join = ""): string {
    return `${this.#dialect.table} AS s ${join} WHERE ${condition}`;
  }

  /** The same with their number `n` among those with their key: from the first, or from the last where that one counts. */
  #numbered(staged: string, condition: string, join = ""): string {
    const order = this.#options.replaces ? "DESC" : "ASC";
    const numbers =
      `SELECT staged_at AS place, entry_id AS id, row_number() OVER (PARTITION BY ${KEY} ORDER BY staged_at ${order}) ` +
      `AS n FROM ${this.#from(staged)}`;
    // By the id as well, by which tables are distributed.
    return this.#from(
      condition,
      `JOIN (${numbers}) AS numbers ON s.staged_at = place AND s.entry_id = id ${join}`,
    );
  }

  /** The id of a numbered row: rows of equal content are told apart by a number. */
  get #id(): string {
    const { asText } = this.#dialect;
    return `CASE WHEN ${NUMBERED} THEN s.entry_id || '-' || ${asText("n")} ELSE s.entry_id END`;
  }

  /** Columns to insert: those that no row has a value in take a tenth of the time. */
  get #used(): readonly string[] {
    return this.#options.used ?? this.#dialect.columns;
  }

  /** Inserts rows in an order; of those whose key exists none, or all in place of the stored ones. */
  *#insert({ id, from, order }: { id: string; from: string; order: string }): Steps<number> {
    const { columns, documents: { isUnkeyed } } = this.#dialect;
    const { replaces } = this.#options;
    const values = this.#used.map((name) => name === "entry_id" ? id : `s.${name}`);
    const insert = `INSERT INTO cost_entries (${this.#used.join(", ")}) SELECT ${
      values.join(", ")
    } FROM ${from}`;
    if (isUnkeyed) {
      const isStored = `c.timestamp = s.timestamp AND c.entry_id = ${id}`;
      const rows = `SELECT s.timestamp, ${id} FROM ${from}`;
      if (replaces) yield* this.#execute(`DELETE FROM cost_entries WHERE (${KEY}) IN (${rows})`);
      const isNew = replaces ? "" : `AND NOT EXISTS (SELECT 1 FROM cost_entries AS c WHERE ${isStored})`;
      return yield* this.#execute(`${insert} ${isNew} ORDER BY ${order}`);
    }
    const set = columns.filter((name) => !KEY.split(", ").includes(name))
      .map((name) => `${name} = excluded.${name}`);
    const conflict = replaces ? `DO UPDATE SET ${set.join(", ")}` : "DO NOTHING";
    return yield* this.#execute(`${insert} ORDER BY ${order} ON CONFLICT (${KEY}) ${conflict}`);
  }

  /** Inserts the first row of each key, in an order that the indexes take fast. Sorting takes a third of the time. */
  #insertFirst(staged: string): Steps<number> {
    const order = this.#options.isOrdered ? "s.staged_at" : "s.timestamp, s.entry_id, s.staged_at";
    const from = this.#dialect.documents.isUnkeyed ? this.#numbered(staged, "n = 1") : this.#from(staged);
    return this.#insert({ id: "s.entry_id", from, order });
  }

  /** Inserts the rows that {@linkcode #insertFirst} left out for their number, or all where the last one counts. */
  #insertNumbered(staged: string): Steps<number> {
    const where = this.#options.replaces ? KEPT : NUMBERED;
    return this.#insert({
      id: this.#id,
      from: this.#numbered(staged, where),
      order: "s.timestamp, s.entry_id",
    });
  }

  /** The number of rows whose key has other content, and one such key. */
  #different(staged: string): string {
    const { columns, asText, epochMs, filledEntries } = this.#dialect;
    const content = (column: string, name: string) => name === NAMES_COLUMNS ? filledEntries(column) : column;
    const same = columns.filter((name) => !UNCOMPARED.includes(name))
      .map((name) => `${content(`s.${name}`, name)} IS NOT DISTINCT FROM ${content(`c.${name}`, name)}`)
      .join(" AND ");
    const differs = `${staged} AND NOT is_hashed AND NOT (${same})`;
    return `SELECT ${asText("count(*) OVER ()")}, s.entry_id, ${epochMs("s.timestamp")} FROM ${
      this.#from(differs, STORED("s.entry_id"))
    } LIMIT 1`;
  }

  /** Throws if a row is neither inserted nor there: a trigger may skip rows, which no database reports. */
  *#assertPresent(staged: string): Steps<void> {
    const [missing] = yield* this.#query(
      `SELECT s.entry_id FROM ${
        this.#numbered(staged, "n = 1 AND c.entry_id IS NULL", `LEFT ${STORED("s.entry_id")}`)
      } LIMIT 1`,
    );
    if (!missing && (yield* this.#areNumberedPresent(staged))) return;
    throw new BackendError(
      "Cannot import: a trigger of cost_entries skipped a record. Correct the record, or change the trigger. " +
        "Nothing was stored.",
      { code: "DATA_REFUSED", operation: "publish", kind: "data" },
    );
  }

  /** True if all rows with a number in their id are there. Such an id has its row in another shard than staging. */
  *#areNumberedPresent(staged: string): Steps<boolean> {
    const { asText } = this.#dialect;
    const rows = `SELECT s.timestamp, ${this.#id} AS entry_id FROM ${this.#numbered(staged, NUMBERED)}`;
    const count = `SELECT ${asText("count(*)")} FROM`;
    const [[expected]] = yield* this.#query(`${count} (${rows}) AS s`);
    if (Number(expected) === 0) return true;
    const [[found]] = yield* this.#query(
      `WITH s AS MATERIALIZED (${rows}) ${count} s ${STORED("s.entry_id")}`,
    );
    return found === expected;
  }
}
