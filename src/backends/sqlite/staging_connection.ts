import { narrowTo } from "../../records/dataset.ts";
import { STAGED_COSTS } from "../staging.ts";
import { queryAll, rollBack, runOnce, type SqliteDatabase, type SqliteValue } from "./driver.ts";
import { FileGuard, type OpenFile } from "./file_guard.ts";
import { eachRow, type Rows } from "./rows.ts";
import { storedNames } from "./schema.ts";

/** Rows of staged costs and the fields that they have. */
export interface StagedRows {
  readonly table: string;
  readonly fields: readonly string[];
  readonly rows: Rows;
}

/** Operations of a staging on its connection. */
export class StagingConnection {
  readonly #database: SqliteDatabase;
  readonly #guard: FileGuard;

  /** Works on a connection that its owner closes. */
  constructor(database: SqliteDatabase, file: OpenFile) {
    this.#database = database;
    this.#guard = new FileGuard(database, file);
  }

  begin(): void {
    this.#guard.around(() => this.#database.exec("BEGIN IMMEDIATE"));
  }

  commit(): void {
    this.#guard.around(() => this.#database.exec("COMMIT"));
  }

  rollBack(): void {
    rollBack(this.#database);
  }

  exec(sql: string): void {
    this.#database.exec(sql);
  }

  query(sql: string, parameters: readonly string[] = []): SqliteValue[][] {
    return queryAll(this.#database, sql, parameters);
  }

  execute(sql: string, parameters: readonly string[] = []): number {
    return runOnce(this.#database, sql, parameters);
  }

  /** Inserts rows into the table of the staging. */
  insert({ table, fields, rows }: StagedRows): void {
    const view = narrowTo(STAGED_COSTS, fields);
    const names = storedNames(view);
    const insert = this.#database.prepare(
      `INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`,
    );
    this.#database.exec("BEGIN");
    try {
      for (const row of eachRow(view, rows)) insert.put(row);
      this.#database.exec("COMMIT");
    } catch (error) {
      this.rollBack();
      throw error;
    } finally {
      insert.finalize();
    }
  }
}
