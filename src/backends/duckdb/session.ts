import type { Dataset } from "../../records/dataset.ts";
import { recordBuilder } from "../../records/record_builder.ts";
import { asFailedBefore, BackendError } from "../../errors.ts";
import type { DuckdbDriver, Handle } from "./driver.ts";
import { asBackendError } from "./failures.ts";
import { literal } from "../sql/select.ts";
import { TYPES } from "./schema.ts";
import { CHUNK_ROWS, readVector, writeNulls, writeVector } from "./vectors.ts";

/** The columns of a table as records are appended to it. */
interface Layout {
  readonly columns: readonly (readonly [name: string, sqlType: string])[];
  readonly chunk: Handle;
}

/** A connection: one statement at a time. */
export class DuckdbSession {
  readonly #driver: DuckdbDriver;
  readonly #connection: Handle;
  readonly #path: string;
  readonly #onClose: () => void;
  readonly #layouts = new Map<string, Layout>();
  #pending: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /** Takes a connection, which it closes, to the database of this path. */
  constructor(driver: DuckdbDriver, connection: Handle, path = "", onClose = () => {}) {
    this.#driver = driver;
    this.#connection = connection;
    this.#path = path;
    this.#onClose = onClose;
  }

  /** Runs statements and gives the rows of the last one. */
  async query(sql: string): Promise<unknown[][]> {
    const columns = await this.#columns(sql);
    const rows: unknown[][] = [];
    for (const values of columns) {
      for (let i = 0; i < values[0].length; i++) rows.push(values.map((column) => column[i]));
    }
    return rows;
  }

  /** Runs a query; gives its rows as records of a dataset, whose columns come first, and the last row as it is. */
  async records<T>(sql: string, dataset: Dataset<T>): Promise<{ records: T[]; last: unknown[] | undefined }> {
    const build = recordBuilder(dataset);
    const records: T[] = [];
    let last: unknown[] | undefined;
    const row: unknown[] = new Array(dataset.columns.length);
    for (const values of await this.#columns(sql)) {
      const count = values[0].length;
      for (let i = 0; i < count; i++) {
        for (let at = 0; at < row.length; at++) row[at] = values[at][i] ?? undefined;
        records.push(build(row));
      }
      if (count > 0) last = values.map((column) => column[count - 1]);
    }
    return { records, last };
  }

  /** Runs a statement; gives the number of rows that it changed. */
  async execute(sql: string): Promise<number> {
    return this.#driver.rows_changed(await this.#run(sql));
  }

  /**
   * Appends records to a table, also within a transaction. Columns of the table that the dataset lacks become null.
   */
  async append(
    dataset: Dataset<unknown>,
    records: readonly unknown[],
    table: string = dataset.name,
  ): Promise<void> {
    const driver = this.#driver;
    const { columns: stored, chunk } = await this.#layoutOf(table);
    const columns = stored.map(([name, sql]) => {
      const column = dataset.columns.find((column) => column.name === name);
      return column && TYPES[column.type].sql !== sql ? alteredColumn(table, name, sql) : column;
    });
    const appender = driver.appender_create(this.#connection, null, table);
    try {
      for (let at = 0; at < records.length; at += CHUNK_ROWS) {
        const rows = records.slice(at, at + CHUNK_ROWS);
        driver.data_chunk_reset(chunk);
        columns.forEach((column, i) => {
          const vector = driver.data_chunk_get_vector(chunk, i);
          if (column) writeVector(driver, vector, column, rows);
          else writeNulls(driver, vector, rows.length);
        });
        driver.data_chunk_set_size(chunk, rows.length);
        driver.append_data_chunk(appender, chunk);
      }
    } finally {
      driver.appender_close_sync(appender);
    }
  }

  /** Ends the statement that runs. */
  interrupt(): void {
    this.#driver.interrupt(this.#connection);
  }

  /**
   * Runs statements in a transaction.
   *
   * @param first A query at its begin, whose rows are handed over: it saves a turn.
   */
  async transaction<T>(run: (rows: unknown[][]) => Promise<T>, first = "SELECT 1"): Promise<T> {
    try {
      const result = await run(await this.query(`BEGIN; ${first}`));
      await this.execute("COMMIT").catch((error) => {
        // The outcome is unknown: retry only the same batch. The ledger tells if it was stored.
        throw asFailedBefore(asBackendError("commit", this.#path, error));
      });
      return result;
    } catch (error) {
      await this.execute("ROLLBACK").catch(() => {}); // DuckDB has rolled back by itself
      throw error;
    }
  }

  /** Ends the statement that runs, and closes the connection. Safe to call again. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#onClose();
    this.interrupt();
    await this.#pending;
    this.#driver.disconnect_sync(this.#connection);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #run(sql: string): Promise<Handle> {
    const result = this.#driver.query(this.#connection, sql);
    this.#pending = result.catch(() => {});
    return result;
  }

  /** The columns of each chunk of a result. */
  async #columns(sql: string): Promise<unknown[][][]> {
    const driver = this.#driver;
    const result = await this.#run(sql);
    const types = Array.from(
      { length: driver.column_count(result) },
      (_, i) => driver.column_type(result, i),
    );
    return Array.from({ length: driver.result_chunk_count(result) }, (_, index) => {
      const chunk = driver.result_get_chunk(result, index);
      const count = driver.data_chunk_get_size(chunk);
      return types.map((type, i) => readVector(driver, driver.data_chunk_get_vector(chunk, i), type, count));
    });
  }

  /** The columns of a table, which may have others than a dataset. */
  async #layoutOf(table: string): Promise<Layout> {
    let layout = this.#layouts.get(table);
    if (!layout) {
      const columns = await this.query(
        `SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ${
          literal(table)
        } ORDER BY column_index`,
      ) as [string, string][];
      const driver = this.#driver;
      const text = driver.create_logical_type(TYPES.text.id);
      const types = columns.map(([name, sql]) => {
        const type = Object.values(TYPES).find((type) => type.sql === sql) ?? alteredColumn(table, name, sql);
        if (type === TYPES.decimal) return driver.create_decimal_type(38, 18);
        return type === TYPES.map ? driver.create_map_type(text, text) : driver.create_logical_type(type.id);
      });
      layout = { columns, chunk: driver.create_data_chunk(types) };
      this.#layouts.set(table, layout);
    }
    return layout;
  }
}

function alteredColumn(table: string, column: string, type: string): never {
  throw new BackendError(
    `Cannot write ${table}: its column ${column} has the type ${type}. Undo what was changed in the schema.`,
    { code: "TABLES_ALTERED", operation: "write", kind: "operator" },
  );
}
