import { BackendError } from "../../errors.ts";
import type { Member, WriteResult } from "../../pipeline/sink.ts";
import { DATASETS } from "../../records/datasets.ts";
import { type Dataset, type DatasetName, narrowTo } from "../../records/dataset.ts";
import type { ConflictPolicy } from "../backend.ts";
import {
  queryAll,
  rollBack,
  runOnce,
  type SqliteDatabase,
  type SqliteStatement,
  type SqliteValue,
} from "./driver.ts";
import { asBackendError } from "./file.ts";
import { FileGuard, type OpenFile } from "./file_guard.ts";
import { addMembers } from "./requests.ts";
import { eachRow, type Rows } from "./rows.ts";
import { insertStatement, restateStatement } from "./schema.ts";

/** A batch as it goes to the writer. */
export interface EncodedBatch {
  readonly id: string;
  readonly dataset: DatasetName;
  /** The fields that the rows have columns for. */
  readonly fields: readonly string[];
  readonly rows: Rows;
  readonly members?: readonly Member[];
}

/** Options of a {@linkcode SqliteWriter}. */
export interface SqliteWriterOptions extends OpenFile {
  /** Policy for a record whose key exists. */
  readonly onConflict: ConflictPolicy;
}

/** Statements of datasets and their columns that are kept ready. */
const MAX_STATEMENTS = 32;

const TRIGGERS = "SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?";

/** Statement and encoders for inserting records of a dataset. */
interface Statements {
  readonly insert: SqliteStatement;
  readonly restate?: SqliteStatement;
}

/** Writes batches effectively once: the rows and the entry in the ledger in one transaction. */
export class SqliteWriter {
  readonly #database: SqliteDatabase;
  readonly #path: string;
  readonly #guard: FileGuard;
  readonly #onConflict: ConflictPolicy;
  readonly #statements = new Map<Dataset<unknown>, Statements>();
  readonly #totalChanges: SqliteStatement;

  /** Writes by a connection that its owner closes. */
  constructor(database: SqliteDatabase, { path, inode, onConflict }: SqliteWriterOptions) {
    this.#database = database;
    this.#path = path;
    this.#guard = new FileGuard(database, { path, inode });
    this.#onConflict = onConflict;
    this.#totalChanges = database.prepare("SELECT total_changes()");
  }

  /**
   * Writes a batch, without yielding to other work.
   *
   * @throws {BackendError} If it was not written.
   */
  write(batch: EncodedBatch): WriteResult {
    try {
      return this.#guard.around(() => this.#transact(batch));
    } catch (error) {
      throw asBackendError("write", this.#path, error);
    }
  }

  #transact(batch: EncodedBatch): WriteResult {
    this.#database.exec("BEGIN IMMEDIATE");
    try {
      const result = this.#lookUp(batch.id) ?? this.#insert(batch);
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      rollBack(this.#database);
      throw error;
    }
  }

  #lookUp(batchId: string): WriteResult | undefined {
    const sql = "SELECT committed, duplicates, restated FROM ledger WHERE batch_id = ?";
    const [row] = queryAll(this.#database, sql, [batchId]);
    if (!row) return undefined;
    const [committed, duplicates, restated] = row as number[];
    return { committed, duplicates, restated, isReplay: true };
  }

  #insert({ id, dataset: name, fields, rows, members }: EncodedBatch): WriteResult {
    const dataset = narrowTo<unknown>(DATASETS[name], fields);
    const { insert, restate } = this.#statementsOf(dataset);
    const hasTriggers = queryAll(this.#database, TRIGGERS, [name]).length > 0;
    const stored = members && addMembers(this.#database, name, members);
    const before = this.#changes();
    let inserted = 0;
    let restated = 0;
    let index = 0;
    for (const row of eachRow(dataset, rows)) {
      if (stored?.has(index++)) continue;
      // To ask after each row what has changed takes a sixth of the time.
      if (!restate && !hasTriggers) insert.put(row);
      else if (insert.run(row) > 0) inserted++;
      else if (restate?.run(row)) restated++;
      else if (hasTriggers) this.#assertDuplicate(dataset, row);
    }
    // The total has the changes that triggers make, too.
    const committed = hasTriggers ? inserted + restated : this.#changes() - before;
    const duplicates = rows.count - committed;
    runOnce(
      this.#database,
      "INSERT INTO ledger (batch_id, dataset, committed, duplicates, restated, committed_at) VALUES (?, ?, ?, ?, ?, ?)",
      [id, name, committed, duplicates, restated, Date.now()],
    );
    return { committed, duplicates, restated };
  }

  /** Refuses a row that was not inserted because a trigger skipped it, which SQLite does not report. */
  #assertDuplicate(dataset: Dataset<unknown>, row: SqliteValue[]): void {
    if (dataset.key.length > 0) {
      const strict = this.#database.prepare(insertStatement(dataset).replace(/ ON CONFLICT .*/, ""));
      try {
        strict.run(row);
      } catch {
        return; // its key exists
      } finally {
        strict.finalize();
      }
    }
    throw new BackendError(
      `Cannot write ${this.#path}: a trigger of ${dataset.name} skipped a record. Correct the record, or change the ` +
        "trigger. Nothing was written.",
      { code: "DATA_REFUSED", operation: "write", kind: "data" },
    );
  }

  /** Number of rows changed since the connection was opened. */
  #changes(): number {
    return this.#totalChanges.all([])[0][0] as number;
  }

  #statementsOf(dataset: Dataset<unknown>): Statements {
    let statements = this.#statements.get(dataset);
    if (!statements) {
      if (this.#statements.size >= MAX_STATEMENTS) this.#forgetStatements();
      const isReplacing = dataset.key.length > 0 && this.#onConflict === "replace";
      statements = {
        insert: this.#database.prepare(insertStatement(dataset)),
        ...(isReplacing ? { restate: this.#database.prepare(restateStatement(dataset)) } : {}),
      };
      this.#statements.set(dataset, statements);
    }
    return statements;
  }
  #forgetStatements(): void {
    for (const { insert, restate } of this.#statements.values()) {
      insert.finalize();
      restate?.finalize();
    }
    this.#statements.clear();
  }
}
