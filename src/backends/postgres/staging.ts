import { costEntries } from "../../records/cost_entry.ts";
import { BackendError } from "../../errors.ts";
import { retryBriefly } from "../../pipeline/retry.ts";
import { type DatasetName, narrow } from "../../records/dataset.ts";
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
import { encodeRecords } from "./copy.ts";
import { DOCUMENTS } from "./documents.ts";
import type { PartitionManager } from "./partitions.ts";
import type { PostgresPool } from "./pool.ts";
import { columnList, DIALECT, insertStatement, jsonRow } from "./schema.ts";

/** Prefix of the names of staging tables; the time of their creation follows, in epoch seconds of the server. */
const PREFIX = "openfinops_staging_";
/** Age at which a staging table is taken for one that a killed import left behind. */
const LEFTOVER_SECONDS = 24 * 3_600;
/** SQLSTATE of a statement that follows a failed one. */
const IN_FAILED_TRANSACTION = "25P02";
/** Longest time of a publish. The server ends it by itself if this process vanishes. */
const PUBLISH_LIMIT =
  "SET LOCAL statement_timeout = '1h'; SET LOCAL idle_in_transaction_session_timeout = '60s'; ";

export interface PostgresStagingOptions {
  readonly pool: PostgresPool;
  readonly parts: PartitionManager;
  readonly onConflict: ConflictPolicy;
  /** Further settings of the transaction that publishes. */
  readonly settings: string;
  /** Statement that follows the creation of a staging table. */
  readonly afterTable?: (table: string) => string;
}

/**
 * Staged costs in an unlogged table. It is a table that all connections see, because a pooler may give each transaction
 * another one. What a killed import leaves behind is dropped by the next import, a day later.
 */
export class PostgresStaging implements Staging {
  readonly #options: PostgresStagingOptions;
  #table = "";
  #creating: Promise<void> | undefined;

  /** Creates nothing yet. */
  constructor(options: PostgresStagingOptions) {
    this.#options = options;
  }

  async add(records: readonly unknown[]): Promise<void> {
    const { pool, parts } = this.#options;
    await (this.#creating ??= this.#create());
    await parts.ensure(costEntries, records);
    const view = { ...narrow(STAGED_COSTS, records), name: this.#table as DatasetName, key: [] };
    const settings = { settings: "SET LOCAL synchronous_commit = off; " };
    try {
      await pool.transaction("stage", async (session) => {
        const copy = `COPY ${this.#table} (${columnList(view)}) FROM STDIN (FORMAT binary)`;
        await session.copyIn(copy, encodeRecords(view, records));
        await session.query("SELECT 1"); // after a COPY that failed unnoticed, the server refuses any statement
      }, settings);
    } catch (error) {
      if ((error as Partial<BackendError>).sqlState !== IN_FAILED_TRANSACTION) throw error;
      // The driver did not report why the server refused the COPY. INSERT reports the same error.
      const rows = JSON.stringify(records.map((record) => jsonRow(view, record)));
      await pool.transaction("stage", (session) => session.execute(insertStatement(view), [rows]), settings);
    }
  }

  async publish(publication: Publication): Promise<PublishResult> {
    const { pool, settings } = this.#options;
    if (this.#creating) await pool.use("stage", (session) => session.query(`ANALYZE ${this.#table}`));
    const replaces = this.#options.onConflict === "replace";
    return await pool.transaction("publish", async (session) => {
      await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops deliveries', 0))");
      const target = new SqlPublishTarget(session, dialectOf(this.#table), { replaces });
      return await runStepsLater(publishSteps(target, publication));
    }, { settings: PUBLISH_LIMIT + settings });
  }

  async discard(): Promise<void> {
    if (!this.#creating) return;
    const drop = `DROP TABLE IF EXISTS ${this.#table}`;
    // If the server is away, the next import drops it.
    await this.#options.pool.useBriefly("discard", (session) => session.query(drop)).catch(() => {});
  }

  /** Creates the table, and drops those that killed imports left behind. */
  async #create(): Promise<void> {
    await this.#assertPrivileges();
    await this.#dropLeftovers().catch(() => {});
    const extra = STAGED_COSTS.columns.slice(costEntries.columns.length)
      .map(({ name, type }) => `${name} ${type === "boolean" ? "boolean" : "bigint"}`);
    const { pool, afterTable } = this.#options;
    await retryBriefly(() =>
      pool.transaction("stage", async (session) => {
        // By the clock of the server, as its age is: else imports of others drop it where a clock is behind.
        const [[seconds]] = await session.query("SELECT floor(extract(epoch FROM now()))::bigint::text");
        this.#table = `${PREFIX}${seconds}_${crypto.randomUUID().replaceAll("-", "").slice(0, 16)}`;
        await session.query(
          `CREATE UNLOGGED TABLE ${this.#table} (LIKE ${costEntries.name}, ${extra.join(", ")})`,
        );
        if (afterTable) await session.query(afterTable(this.#table));
      })
    );
  }

  /** Throws before anything is staged where the user may not publish, with the privileges to grant. */
  async #assertPrivileges(): Promise<void> {
    const { pool, onConflict } = this.#options;
    const costs = ["SELECT", "INSERT", "DELETE", ...(onConflict === "replace" ? ["UPDATE"] : [])];
    const needed = [
      ["has_schema_privilege(current_schema(), 'CREATE')", "format('CREATE ON SCHEMA %I', current_schema())"],
      ...[
        ...costs.map((privilege) => [costEntries.name, privilege]),
        ...["SELECT", "INSERT", "UPDATE"].map((privilege) => ["live_documents", privilege]),
      ].map(([table, privilege]) => [
        `has_table_privilege('${table}', '${privilege}')`,
        `'${privilege} ON ${table}'`,
      ]),
    ].map((row) => `(${row.join(", ")})`);
    const missing = await retryBriefly(() =>
      pool.useBriefly("stage", (session) =>
        session.query(
          "SELECT concat('GRANT ', what, ' TO ', quote_ident(current_user), ';') " +
            `FROM (VALUES ${needed.join(", ")}) AS needed (has, what) WHERE NOT has`,
        ))
    );
    if (missing.length === 0) return;
    throw new BackendError(
      `Cannot import into ${pool.name}: privileges are missing. Have the owner of the tables run: ${
        missing.join(" ")
      } Nothing was stored.`,
      { code: "PRIVILEGE_MISSING", operation: "stage", kind: "operator" },
    );
  }

  async #dropLeftovers(): Promise<void> {
    await this.#options.pool.useBriefly("stage", async (session) => {
      const tables = await session.query(
        "SELECT relname::text FROM pg_catalog.pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) " +
          `AND relname ~ '^${PREFIX}[0-9]+_' AND split_part(relname, '_', 3)::bigint < ` +
          `extract(epoch FROM now()) - ${LEFTOVER_SECONDS}`,
      );
      for (const [name] of tables) await session.query(`DROP TABLE IF EXISTS ${name}`);
    });
  }
}

/** SQL of a publish from a staging table. */
function dialectOf(table: string): PublishDialect {
  return {
    ...DIALECT,
    table,
    columns: costEntries.columns.map(({ name }) => name),
    documents: DOCUMENTS,
    filledEntries: (map) =>
      `(SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(${map}) WHERE value <> '')`,
    sums: "trim_scale(sum(amount))::text",
    total: ([sum]) => sum as string,
  };
}
