import { costEntries } from "../../records/cost_entry.ts";
import { narrow } from "../../records/dataset.ts";
import type { ConflictPolicy } from "../backend.ts";
import { type PublishDialect, SqlPublishTarget } from "../sql/publish.ts";
import {
  type Publication,
  type PublishResult,
  publishSteps,
  runStepsLater,
  STAGED_COSTS,
  type Staging,
} from "../staging.ts";
import { exactSums, totalOf } from "./aggregate.ts";
import type { DuckdbFile } from "./file.ts";
import { createTable, DIALECT, DOCUMENTS } from "./schema.ts";
import type { DuckdbSession } from "./session.ts";

/** Staged costs in a temporary table of a connection of their own. It ends with the process. */
export class DuckdbStaging implements Staging {
  readonly #file: DuckdbFile;
  readonly #onConflict: ConflictPolicy;
  readonly #table: string;
  readonly #dialect: PublishDialect;
  /** Columns that a staged row may have a value in. */
  readonly #used = new Set<string>();
  #opening: Promise<DuckdbSession> | undefined;

  /** Opens nothing yet. */
  constructor(file: DuckdbFile, onConflict: ConflictPolicy) {
    this.#file = file;
    this.#onConflict = onConflict;
    this.#table = `staged_${crypto.randomUUID().replaceAll("-", "")}`;
    this.#dialect = {
      ...DIALECT,
      table: this.#table,
      columns: costEntries.columns.map(({ name }) => name),
      documents: DOCUMENTS,
      filledEntries: (map) => `nullif(list_filter(map_entries(${map}), lambda x: x.value <> ''), [])`,
      sums: exactSums("amount").join(", "),
      total: (sums) => totalOf(sums as string[]),
    };
  }

  async add(records: readonly unknown[]): Promise<void> {
    const session = await this.#open();
    const view = narrow(STAGED_COSTS, records);
    for (const { name } of view.columns) this.#used.add(name);
    await this.#file.guard("stage", () => session.append(view, records, this.#table));
  }

  async publish(publication: Publication): Promise<PublishResult> {
    const session = await this.#open();
    const target = new SqlPublishTarget(
      session,
      this.#dialect,
      {
        replaces: this.#onConflict === "replace",
        used: this.#dialect.columns.filter((name) => this.#used.has(name)), // the rows are sorted in memory
      },
    );
    return await this.#file.change(
      "publish",
      () => session.transaction(() => runStepsLater(publishSteps(target, publication))),
    );
  }

  async discard(): Promise<void> {
    const session = await this.#opening?.catch(() => undefined);
    this.#opening = undefined;
    await session?.close();
  }

  /** Opens the connection and creates the table. */
  #open(): Promise<DuckdbSession> {
    return this.#opening ??= this.#file.guard("stage", async () => {
      const session = await this.#file.connect();
      await session.execute(createTable(this.#table, STAGED_COSTS).replace("TABLE", "TEMP TABLE"));
      return session;
    });
  }
}
