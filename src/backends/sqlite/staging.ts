import { costEntries } from "../../records/cost_entry.ts";
import { narrow } from "../../records/dataset.ts";
import type { ConflictPolicy, StoredDocument } from "../backend.ts";
import {
  DELIVERY,
  ignoringResult,
  NOTHING_PUBLISHED,
  type PartState,
  type Publication,
  type PublicationPlan,
  type PublishResult,
  PublishStatements,
  replacingResult,
  STAGED_COSTS,
  type Staging,
} from "../staging.ts";
import { amountSums, literal, sumOf } from "./aggregate.ts";
import { writeDocument } from "./documents.ts";
import { queryAll, rollBack, runOnce, type SqliteDatabase, type SqliteValue } from "./driver.ts";
import type { FileGuard } from "./file_guard.ts";
import { eachRow, encodeRows } from "./rows.ts";
import { storedColumns, storedNames } from "./schema.ts";

/** Connection of a staging and its turns. */
export interface StagingAccess {
  readonly database: SqliteDatabase;
  readonly guard: FileGuard;
  readonly onConflict: ConflictPolicy;
  /** Runs a change while nothing else changes the file. */
  change<T>(operation: string, run: () => T): Promise<T>;
  /** Closes the connection if it is for this staging alone. */
  close(): void;
}

/**
 * Staged costs in a temporary table: SQLite keeps it in a file that it has deleted already, without an index, a log or a
 * sync. So a killed process leaves nothing behind.
 */
export class SqliteStaging implements Staging {
  readonly #access: StagingAccess;
  readonly #table = `temp.staged_${crypto.randomUUID().replaceAll("-", "")}`;
  readonly #statements: PublishStatements;
  #isDiscarded = false;

  /** Creates the table. */
  constructor(access: StagingAccess) {
    this.#access = access;
    const replaces = access.onConflict === "replace";
    this.#statements = new PublishStatements({
      table: this.#table,
      columns: storedNames(costEntries),
      text: literal,
      time: String,
      isSame: (a, b) => `${a} IS ${b}`,
      isHashed: "is_hashed = 1",
      numberText: (expression) => expression,
    }, { replaces });
    const columns = STAGED_COSTS.columns.flatMap(({ name }, i) =>
      storedColumns(STAGED_COSTS)[i].map(({ suffix, type }) => `${name}${suffix} ${type}`)
    );
    access.database.exec(`PRAGMA temp_store = FILE; CREATE TABLE ${this.#table} (${columns.join(", ")})`);
  }

  add(records: readonly unknown[]): Promise<void> {
    const { database } = this.#access;
    const view = narrow(STAGED_COSTS, records);
    const names = storedNames(view);
    const rows = encodeRows(view, records);
    return this.#access.change("stage", () => {
      const insert = database.prepare(
        `INSERT INTO ${this.#table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`,
      );
      database.exec("BEGIN");
      try {
        for (const row of eachRow(view, rows)) insert.put(row);
        database.exec("COMMIT");
      } catch (error) {
        rollBack(database);
        throw error;
      } finally {
        insert.finalize();
      }
    });
  }

  publish(publication: Publication): Promise<PublishResult> {
    const { database, guard } = this.#access;
    return this.#access.change("publish", () =>
      guard.around(() => {
        database.exec("BEGIN IMMEDIATE");
        try {
          const result = this.#transact(publication);
          database.exec("COMMIT");
          return result;
        } catch (error) {
          rollBack(database);
          throw error;
        }
      }));
  }

  async discard(): Promise<void> {
    if (this.#isDiscarded) return;
    this.#isDiscarded = true;
    const { database } = this.#access;
    await this.#access.change("discard", () => {
      database.exec(`DROP TABLE IF EXISTS ${this.#table}`);
      this.#access.close();
    });
  }

  #transact(publication: Publication): PublishResult {
    const { database } = this.#access;
    const documents = this.#all("SELECT kind, id, body FROM live_documents WHERE kind = ? ORDER BY id", [
      DELIVERY,
    ]).map(([kind, id, body]) => ({ kind, id, body: JSON.parse(body as string) }) as StoredDocument);
    const states = publication.related(documents).map((part) => this.#stateOf(this.#statements.where(part)));
    const plan = publication.decide(states);
    if (!plan) return NOTHING_PUBLISHED;
    let replaced = 0;
    for (const part of plan.remove) {
      replaced += runOnce(database, `DELETE FROM cost_entries ${this.#statements.where(part)}`, []);
    }
    const result = this.#insert([...plan.insert.keys()]);
    for (const document of plan.documents(this.#statesAfter(plan, result))) writeDocument(database, document);
    return { ...result, replaced };
  }

  #insert(parts: readonly number[]): PublishResult {
    if (parts.length === 0) return NOTHING_PUBLISHED;
    const { database, onConflict } = this.#access;
    const total = this.#all(this.#statements.count(parts))[0][0] as number;
    const [distinct, existing] = onConflict === "replace"
      ? this.#all(this.#statements.existing(parts))[0] as number[]
      : [0, 0];
    const inserted = runOnce(database, this.#statements.insert(parts), []);
    if (onConflict === "replace") return replacingResult(total, distinct, existing);
    if (inserted === total) return ignoringResult({ total, inserted });
    const [clash] = this.#all(this.#statements.different(parts, (column) => column));
    return ignoringResult({ total, inserted }, clash);
  }

  /** The states of parts of which not every staged row was inserted. */
  #statesAfter({ insert }: PublicationPlan, { restated, known, different }: PublishResult) {
    const states = new Map<number, PartState>();
    if (restated + known + different === 0) return states;
    for (const [number, part] of insert) {
      if (number >= 0) states.set(number, this.#stateOf(this.#statements.where(part)));
    }
    return states;
  }

  #stateOf(where: string): PartState {
    const sql = `SELECT currency, count(*), ${
      amountSums("amount").join(", ")
    } FROM cost_entries ${where} GROUP BY 1`;
    const totals: Record<string, string> = {};
    let rows = 0;
    for (const [currency, count, ...sums] of this.#all(sql)) {
      rows += count as number;
      totals[currency as string] = sumOf(sums)!;
    }
    return { rows, totals };
  }

  #all(sql: string, values: readonly SqliteValue[] = []): SqliteValue[][] {
    return queryAll(this.#access.database, sql, values);
  }
}
