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
import { encodeRecords } from "./copy.ts";
import { writeDocument } from "./documents.ts";
import type { PartitionManager } from "./partitions.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import { columnList, epochMs, literal, timeLiteral } from "./schema.ts";

/** Prefix of the names of staging tables; the time of their creation follows, in epoch seconds. */
const PREFIX = "openfinops_staging_";
/** Age at which a staging table is taken for one that a killed import left behind. */
const LEFTOVER_SECONDS = 24 * 3_600;
/** Longest time of a publish. The server ends it by itself if this process vanishes. */
const PUBLISH_LIMIT =
  "SET LOCAL statement_timeout = '1h'; SET LOCAL idle_in_transaction_session_timeout = '60s'; ";

/** Options of a {@linkcode PostgresStaging}. */
export interface PostgresStagingOptions {
  readonly pool: PostgresPool;
  readonly parts: PartitionManager;
  readonly onConflict: ConflictPolicy;
  /** Further settings of the transaction that publishes. */
  readonly settings: string;
}

/**
 * Staged costs in an unlogged table. It is a table that all connections see, because a pooler may give each transaction
 * another one. What a killed import leaves behind is dropped by the next import, a day later.
 */
export class PostgresStaging implements Staging {
  readonly #options: PostgresStagingOptions;
  readonly #table: string;
  readonly #statements: PublishStatements;

  /** Creates the table, and drops those that killed imports left behind. */
  static async open(options: PostgresStagingOptions): Promise<PostgresStaging> {
    const staging = new PostgresStaging(options);
    await staging.#dropLeftovers().catch(() => {});
    const extra = STAGED_COSTS.columns.slice(costEntries.columns.length)
      .map(({ name, type }) => `${name} ${type === "boolean" ? "boolean" : "bigint"}`);
    await options.pool.useBriefly("stage", async (session) => {
      await session.query(
        `CREATE UNLOGGED TABLE ${staging.#table} (LIKE ${costEntries.name}, ${extra.join(", ")})`,
      );
    });
    return staging;
  }

  private constructor(options: PostgresStagingOptions) {
    this.#options = options;
    const random = crypto.randomUUID().replaceAll("-", "").slice(0, 16);
    this.#table = `${PREFIX}${Math.floor(Date.now() / 1_000)}_${random}`;
    this.#statements = new PublishStatements({
      table: this.#table,
      columns: costEntries.columns.map(({ name }) => name),
      text: (value) => `${literal(value)}::text`,
      time: timeLiteral,
      isSame: (a, b) => `${a} IS NOT DISTINCT FROM ${b}`,
      isHashed: "is_hashed",
      numberText: (expression) => `(${expression})::text`,
    }, { replaces: options.onConflict === "replace" });
  }

  async add(records: readonly unknown[]): Promise<void> {
    const { pool, parts } = this.#options;
    await parts.ensure(costEntries, records);
    const view = narrow(STAGED_COSTS, records);
    await pool.transaction("stage", async (session) => {
      const copy = `COPY ${this.#table} (${columnList(view)}) FROM STDIN (FORMAT binary)`;
      await session.copyIn(copy, encodeRecords(view, records));
      await session.query("SELECT 1"); // confirms: after a COPY that failed unseen the server refuses any statement
    }, { settings: "SET LOCAL synchronous_commit = off; " });
  }

  async publish(publication: Publication): Promise<PublishResult> {
    const { pool, settings } = this.#options;
    await pool.use("stage", (session) => session.query(`ANALYZE ${this.#table}`));
    return await pool.transaction("publish", (session) => this.#transact(session, publication), {
      settings: PUBLISH_LIMIT + settings,
    });
  }

  async discard(): Promise<void> {
    const drop = `DROP TABLE IF EXISTS ${this.#table}`;
    // If the server is away, the next import drops it.
    await this.#options.pool.useBriefly("discard", (session) => session.query(drop)).catch(() => {});
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

  async #transact(session: PostgresSession, publication: Publication): Promise<PublishResult> {
    await session.query("SELECT pg_advisory_xact_lock(hashtextextended('openfinops deliveries', 0))");
    const found = await session.query(
      `SELECT id, body::text FROM live_documents WHERE kind = ${literal(DELIVERY)} ORDER BY id COLLATE "C"`,
    );
    const documents = found.map(([id, body]): StoredDocument => ({
      kind: DELIVERY,
      id: id!,
      body: JSON.parse(body!),
    }));
    const states: PartState[] = [];
    for (const part of publication.related(documents)) {
      states.push(await stateOf(session, this.#statements.where(part)));
    }
    const plan = publication.decide(states);
    if (!plan) return NOTHING_PUBLISHED;
    let replaced = 0;
    for (const part of plan.remove) {
      replaced += await session.execute(`DELETE FROM cost_entries ${this.#statements.where(part)}`);
    }
    const result = await this.#insert(session, [...plan.insert.keys()]);
    const after = await this.#statesAfter(session, plan, result);
    for (const document of plan.documents(after)) await writeDocument(session, document);
    return { ...result, replaced };
  }

  async #insert(session: PostgresSession, parts: readonly number[]): Promise<PublishResult> {
    if (parts.length === 0) return NOTHING_PUBLISHED;
    const isReplacing = this.#options.onConflict === "replace";
    const total = Number((await session.query(this.#statements.count(parts)))[0][0]);
    const [distinct, existing] = isReplacing
      ? (await session.query(this.#statements.existing(parts)))[0].map(Number)
      : [0, 0];
    const inserted = await session.execute(this.#statements.insert(parts));
    if (isReplacing) return replacingResult(total, distinct, existing);
    if (inserted === total) return ignoringResult({ total, inserted });
    const [clash] = await session.query(this.#statements.different(parts, epochMs));
    return ignoringResult({ total, inserted }, clash);
  }

  /** The states of parts of which not every staged row was inserted. */
  async #statesAfter(
    session: PostgresSession,
    { insert }: PublicationPlan,
    { restated, known, different }: PublishResult,
  ): Promise<Map<number, PartState>> {
    const states = new Map<number, PartState>();
    if (restated + known + different === 0) return states;
    for (const [number, part] of insert) {
      if (number >= 0) states.set(number, await stateOf(session, this.#statements.where(part)));
    }
    return states;
  }
}

async function stateOf(session: PostgresSession, where: string): Promise<PartState> {
  const found = await session.query(
    `SELECT currency, count(*)::text, trim_scale(sum(amount))::text FROM cost_entries ${where} GROUP BY 1`,
  );
  const rows = found.reduce((sum, [, count]) => sum + Number(count), 0);
  return { rows, totals: Object.fromEntries(found.map(([currency, , total]) => [currency, total!])) };
}
