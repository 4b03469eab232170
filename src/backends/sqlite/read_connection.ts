import { queryAll, rollBack, type SqliteDatabase, type SqliteValue } from "./driver.ts";
import { type Condition, stepThrough } from "./pages.ts";

/** Statements that see one state of the file, and the parameters of each. */
export interface Question {
  readonly statements: readonly string[];
  readonly parameters: readonly SqliteValue[];
}

/** Returns the rows of each statement. All statements see one state of the file. */
export function queryTogether(
  database: SqliteDatabase,
  { statements, parameters }: Question,
): SqliteValue[][][] {
  database.exec("BEGIN");
  try {
    return statements.map((sql) => queryAll(database, sql, parameters));
  } finally {
    rollBack(database);
  }
}

/** Operations of a thread that reads. */
export class ReadConnection {
  readonly #database: SqliteDatabase;
  readonly #open: () => SqliteDatabase;
  readonly #reads = new Map<number, { database: SqliteDatabase; pages: Generator<SqliteValue[][]> }>();

  /** Uses a connection that its owner closes for queries, and opens another one for each read. */
  constructor(database: SqliteDatabase, open: () => SqliteDatabase) {
    this.#database = database;
    this.#open = open;
  }

  /** Returns the number of rows of each statement, then all these rows: one list, which can be sent in parts. */
  query(question: Question): SqliteValue[][] {
    const found = queryTogether(this.#database, question);
    return [found.map(({ length }) => length), ...found.flat()];
  }

  /** Returns the next page of a read, undefined after the last one. The first call has the statement. */
  page(id: number, first?: Condition): SqliteValue[][] | undefined {
    if (first) {
      const database = this.#open();
      this.#reads.set(id, { database, pages: stepThrough(database, first) });
    }
    const { done, value } = this.#reads.get(id)!.pages.next();
    return done ? undefined : value;
  }

  /** Ends a read, also one that is not at its end or that failed. */
  end(id: number): void {
    const read = this.#reads.get(id);
    this.#reads.delete(id);
    read?.pages.return(undefined);
    read?.database.close();
  }
}
