import { BackendError } from "../../errors.ts";
import type { Batch, WriteResult } from "../../pipeline/sink.ts";
import type { Dataset, DatasetName } from "../../records/dataset.ts";
import type { ConflictPolicy } from "../backend.ts";
import { encodeRecords } from "./copy.ts";
import { asPostgresError } from "./errors.ts";
import type { TimeParts } from "./partitions.ts";
import type { PostgresPool, PostgresSession } from "./pool.ts";
import {
  columnList,
  expectedShape,
  insertStatement,
  jsonRow,
  keyOf,
  restateStatement,
  shapeQuery,
} from "./schema.ts";

/** Beyond what the server is given for a statement: the round trips of a transaction. */
const SLACK_MS = 10_000;

/** How a {@linkcode PostgresWriter} writes. */
export interface WriterOptions {
  /** What to do with a record whose key exists. */
  readonly onConflict: ConflictPolicy;
  /** The longest that a statement may take, in seconds. */
  readonly statementTimeoutSeconds: number;
  /** Further settings of the transaction that writes a batch. */
  readonly settingsFor?: (batch: Batch) => string;
}

/** Writes batches effectively once: the rows and the entry in the ledger in one transaction, confirmed. */
export class PostgresWriter {
  readonly #pool: PostgresPool;
  readonly #parts: TimeParts;
  readonly #onConflict: ConflictPolicy;
  readonly #statementTimeoutMs: number;
  readonly #settingsFor: (batch: Batch) => string;
  /** The datasets whose last batch held keys that existed: COPY would fail on them. */
  readonly #conflicting = new Set<DatasetName>();

  constructor(pool: PostgresPool, parts: TimeParts, options: WriterOptions) {
    this.#pool = pool;
    this.#parts = parts;
    this.#onConflict = options.onConflict;
    this.#statementTimeoutMs = 1_000 * options.statementTimeoutSeconds;
    this.#settingsFor = options.settingsFor ?? (() => "");
  }

  async write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    for (let attempt = 1;; attempt++) {
      await this.#parts.ensure(batch.dataset, batch.records);
      try {
        return await this.#copyOrInsert(batch, onSent);
      } catch (error) {
        // Another process may have dropped an old partition since we saw it.
        if (!/no partition of relation/.test(String(error))) throw error;
        this.#parts.forget();
        if (attempt > 1) throw asTransient(error);
      }
    }
  }

  /** By COPY, which is fastest; what the server refuses of it, by INSERT. */
  async #copyOrInsert(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    const { name } = batch.dataset;
    if (!this.#conflicting.has(name)) {
      try {
        return await this.#transact(batch, async (session) => {
          const { dataset, records } = batch;
          const copy = `COPY ${name} (${columnList(dataset)}) FROM STDIN (FORMAT binary)`;
          await session.copyIn(copy, encodeRecords(dataset, records));
          onSent?.();
          return { committed: records.length, duplicates: 0, restated: 0 };
        });
      } catch (error) {
        if (!(error instanceof BackendError) || error.retryable || !error.sqlState) throw error;
        // The driver does not give the error of every failed COPY; INSERT meets the same, or knows what to do.
      }
    }
    const result = await this.#transact(batch, (session) => this.#insert(session, batch));
    if (result.duplicates + result.restated > 0) this.#conflicting.add(name);
    else this.#conflicting.delete(name);
    return result;
  }

  /** Writes a batch in one transaction with its entry in the ledger, unless that is there already. */
  #transact(batch: Batch, write: (session: PostgresSession) => Promise<WriteResult>): Promise<WriteResult> {
    const { id, dataset, records } = batch;
    const operation = "write";
    const settings = `SET LOCAL statement_timeout = ${this.#statementTimeoutMs}; ` +
      this.#settingsFor(batch);
    return this.#pool.transaction(operation, async (session) => {
      // First of all, so that a second attempt waits for the outcome of the first, should that still go on.
      const isNew = await session.execute(
        "INSERT INTO ledger (batch_id, dataset, committed, duplicates, restated) " +
          `VALUES ($1, '${dataset.name}', ${records.length}, 0, 0) ON CONFLICT DO NOTHING`,
        [id],
      ).catch((cause) => {
        // It says nothing of the records, nor of an earlier attempt, whose outcome is not known.
        const error = asPostgresError("write", this.#pool.name, cause);
        throw ["timeout", "data", "unknown"].includes(error.kind) ? asTransient(error) : error;
      });
      if (isNew === 0) return await lookUp(session, id);
      const result = await write(session);
      // It also confirms: after a COPY that failed unseen the server refuses any statement.
      const [[shape]] = await session.query(shapeQuery(dataset));
      if (shape !== expectedShape(dataset)) throw this.#alteredError(dataset, shape);
      if (result.duplicates + result.restated > 0) {
        const { committed, duplicates, restated } = result;
        await session.query(
          `UPDATE ledger SET committed = $1::bigint, duplicates = $2::bigint, restated = $3::bigint WHERE batch_id = $4`,
          [...[committed, duplicates, restated].map(String), id],
        );
      }
      return result;
    }, { settings, limitMs: 2 * this.#statementTimeoutMs + SLACK_MS });
  }

  async #insert(session: PostgresSession, { dataset, records }: Batch): Promise<WriteResult> {
    if (dataset.key.length === 0) {
      await session.execute(insertStatement(dataset), [json(dataset, records)]);
      return { committed: records.length, duplicates: 0, restated: 0 };
    }
    const isReplacing = this.#onConflict === "replace";
    // In the order of keys, so that two writers cannot wait for each other.
    const byKey = new Map<string, unknown>();
    for (const record of records) {
      const key = keyOf(dataset, record);
      if (isReplacing || !byKey.has(key)) byKey.set(key, record);
    }
    const sorted = [...byKey].sort(([a], [b]) => a < b ? -1 : 1);
    const inserted = await session.query(insertStatement(dataset), [json(dataset, sorted.map(([, r]) => r))]);
    const others = records.length - inserted.length;
    if (!isReplacing) return { committed: inserted.length, duplicates: others, restated: 0 };
    for (const [key] of inserted) byKey.delete(key!);
    const rest = sorted.filter(([key]) => byKey.has(key)).map(([, record]) => record);
    if (rest.length > 0) await session.execute(restateStatement(dataset), [json(dataset, rest)]);
    return { committed: records.length, duplicates: 0, restated: others };
  }

  #alteredError(dataset: Dataset<unknown>, shape: string | null): BackendError {
    const wanted = expectedShape(dataset).split(", ");
    const found = (shape ?? "").split(", ");
    const differing = wanted.filter((part) => !found.includes(part)).map((part) => part.split(" ")[0]);
    return new BackendError(
      `Cannot write ${this.#pool.name}: the table ${dataset.name} as openfinops made it is wanted: ` +
        `somebody altered ${differing.join(", ")}; nothing was written`,
      { operation: "write", kind: "operator" },
    );
  }
}

/** The same failure as one that passes by itself. */
function asTransient(error: unknown): unknown {
  if (!(error instanceof BackendError)) return error;
  const { operation, sqlState, cause, message } = error;
  return new BackendError(message, { operation, kind: "transient", sqlState, cause });
}

async function lookUp(session: PostgresSession, batchId: string): Promise<WriteResult> {
  const [row] = await session.query(
    "SELECT committed::text, duplicates::text, restated::text FROM ledger WHERE batch_id = $1",
    [batchId],
  );
  const [committed, duplicates, restated] = row.map(Number);
  return { committed, duplicates, restated, isReplay: true };
}

function json(dataset: Dataset<unknown>, records: readonly unknown[]): string {
  return JSON.stringify(records.map((record) => jsonRow(dataset, record)));
}
