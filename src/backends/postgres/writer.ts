import { asFailedBefore, BackendError, messageOf } from "../../errors.ts";
import type { Batch, WriteResult } from "../../pipeline/sink.ts";
import { type Dataset, type DatasetName, keyOf, narrow } from "../../records/dataset.ts";
import type { ConflictPolicy, RawTransfer } from "../backend.ts";
import { encodeRecords } from "./copy.ts";
import type { PartitionManager } from "./partitions.ts";
import { type PostgresPool, type PostgresSession, SLACK_MS } from "./pool.ts";
import { addMembers } from "./requests.ts";
import {
  columnList,
  expectedShape,
  insertStatement,
  jsonRow,
  literal,
  presentQuery,
  restateStatement,
  shapeQuery,
  touchedQuery,
} from "./schema.ts";

/** A server that waits for COPY data probes the connection after 30 seconds, and closes it after three failures. */
const KEEP_ALIVE =
  "SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; SET LOCAL tcp_keepalives_count = 3; ";

type RawBatch = Parameters<RawTransfer["write"]>[0];

/** A batch, or encoded rows, whose records have only their times. */
interface StoredBatch extends Batch {
  readonly isRaw?: true;
}

const NOTHING: WriteResult = { committed: 0, duplicates: 0, restated: 0 };

/** Options of a {@linkcode PostgresWriter}. */
export interface WriterOptions {
  /** Policy for a record whose key exists. */
  readonly onConflict: ConflictPolicy;
  readonly statementTimeoutSeconds: number;
  /** Further settings of the transaction that writes a batch, by COPY or by INSERT. */
  readonly settingsFor?: (batch: Batch, isCopy: boolean) => string;
}

/** Writes batches effectively once: the rows and the ledger entry in one transaction, confirmed. */
export class PostgresWriter {
  readonly #pool: PostgresPool;
  readonly #parts: PartitionManager;
  readonly #onConflict: ConflictPolicy;
  readonly #statementTimeoutMs: number;
  readonly #settingsFor: (batch: Batch, isCopy: boolean) => string;
  /** Datasets whose last batch had existing keys, on which COPY fails. */
  readonly #conflicting = new Set<DatasetName>();

  constructor(pool: PostgresPool, parts: PartitionManager, options: WriterOptions) {
    this.#pool = pool;
    this.#parts = parts;
    this.#onConflict = options.onConflict;
    this.#statementTimeoutMs = 1_000 * options.statementTimeoutSeconds;
    this.#settingsFor = options.settingsFor ?? (() => "");
  }

  write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    const narrowed = { ...batch, dataset: narrow(batch.dataset, batch.records) };
    return this.#withPartitions(narrowed, () => this.#copyOrInsert(narrowed, onSent));
  }

  /** Writes encoded rows by COPY. Fails if a key exists. */
  writeRaw({ rows: { times, chunks }, ...batch }: RawBatch, onSent?: () => void): Promise<WriteResult> {
    const timed: StoredBatch = { ...batch, records: times.map((timestamp) => ({ timestamp })), isRaw: true };
    return this.#withPartitions(timed, () => this.#copy(timed, () => chunks, onSent));
  }

  /** Creates the partitions of a batch and writes it. Retries if a partition is dropped meanwhile. */
  async #withPartitions(
    { dataset, records }: Batch,
    write: () => Promise<WriteResult>,
  ): Promise<WriteResult> {
    for (let attempt = 1;; attempt++) {
      await this.#parts.ensure(dataset, records).catch((error) => {
        throw asFailedBefore(error);
      });
      try {
        return await write();
      } catch (error) {
        // Another process may have dropped an old partition since we saw it.
        const isMissing = isWithoutPartition(error);
        if (!isMissing && !mayBeWithoutPartition(error)) throw error;
        this.#parts.clearCache();
        if (attempt > 1) throw isMissing ? asFailedBefore(error) : error;
      }
    }
  }

  /** Writes by COPY, which is fastest, and by INSERT where the server refuses that. */
  async #copyOrInsert(batch: Batch, onSent?: () => void): Promise<WriteResult> {
    const { name } = batch.dataset;
    if (!this.#conflicting.has(name)) {
      try {
        return await this.#copy(batch, encodeRecords, onSent);
      } catch (error) {
        if (!(error instanceof BackendError) || error.retryable || !error.sqlState) throw error;
        // The driver does not report the error of every failed COPY. INSERT meets the same error, or resolves it.
      }
    }
    let isConflicting = false;
    const result = await this.#transact(batch, async (session, batch) => {
      const result = await this.#insert(session, batch);
      isConflicting = result.duplicates + result.restated > 0;
      return result;
    });
    if (isConflicting) this.#conflicting.add(name);
    else this.#conflicting.delete(name);
    return result;
  }

  #copy(
    batch: StoredBatch,
    encode: (dataset: Dataset<unknown>, records: readonly unknown[]) => Iterable<Uint8Array>,
    onSent?: () => void,
  ): Promise<WriteResult> {
    return this.#transact(batch, async (session, { dataset, records }) => {
      const copy = `COPY ${dataset.name} (${columnList(dataset)}) FROM STDIN (FORMAT binary)`;
      await session.copyIn(copy, encode(dataset, records));
      onSent?.();
      return { committed: records.length, duplicates: 0, restated: 0 };
    }, true);
  }

  /** Writes the new records of a batch and its ledger entry in one transaction; nothing if the entry exists. */
  #transact(
    batch: StoredBatch,
    write: (session: PostgresSession, batch: Batch) => Promise<WriteResult>,
    isCopy = false,
  ): Promise<WriteResult> {
    const { id, dataset, records, members } = batch;
    const operation = "write";
    const limitMs = 2 * this.#statementTimeoutMs + SLACK_MS;
    // If this process vanishes, the server ends the transaction by itself: later attempts wait for its ledger entry.
    const settings = `SET LOCAL statement_timeout = ${this.#statementTimeoutMs}; ` +
      `SET LOCAL idle_in_transaction_session_timeout = ${limitMs}; ${KEEP_ALIVE}` +
      this.#settingsFor(batch, isCopy);
    let isEntered = false;
    return this.#pool.transaction(operation, async (session) => {
      // Comes first, so that a second attempt waits for the outcome of the first.
      const isNew = await session.execute(
        "INSERT INTO ledger (batch_id, dataset, committed, duplicates, restated) " +
          // The key by name: without it the server refuses the statement, where it would store a replayed batch twice.
          `VALUES ($1, '${dataset.name}', ${records.length}, 0, 0) ON CONFLICT (batch_id) DO NOTHING`,
        [id],
      );
      if (isNew === 0) return await lookUp(session, id);
      const stored = members && await addMembers(session, dataset.name, members);
      isEntered = true;
      const fresh = stored?.size ? { ...batch, records: records.filter((_, i) => !stored.has(i)) } : batch;
      const written = fresh.records.length > 0 ? await write(session, fresh) : NOTHING;
      const result = { ...written, duplicates: written.duplicates + (stored?.size ?? 0) };
      // It also confirms: after a COPY that failed unseen the server refuses any statement.
      const [[shape, triggers]] = await session.query(shapeQuery(dataset));
      if (shape !== expectedShape(dataset)) throw this.#alteredError(dataset, shape);
      if (triggers !== "0") await this.#assertStored(session, fresh);
      if (result.duplicates + result.restated > 0) {
        const { committed, duplicates, restated } = result;
        await session.query(
          `UPDATE ledger SET committed = $1::bigint, duplicates = $2::bigint, restated = $3::bigint WHERE batch_id = $4`,
          [...[committed, duplicates, restated].map(String), id],
        );
      }
      return result;
    }, { settings, limitMs }).catch(async (error) => {
      throw isEntered ? await this.#blame(dataset, error) : asFailedBefore(error);
    });
  }

  /**
   * Attributes the violation of an added constraint to the operator if it concerns a column or a table that openfinops
   * does not know: no record can satisfy it.
   */
  async #blame({ columns }: Dataset<unknown>, error: unknown): Promise<unknown> {
    if (!(error instanceof BackendError) || !error.sqlState?.startsWith("23")) return error;
    const fields = error.cause as ConstraintFields;
    const what = fields.constraint_name ?? fields.column_name;
    if (what === undefined) return error;
    const names = fields.column_name === undefined
      ? await this.#pool.useBriefly("write", (session) => session.query(constraintQuery(fields)))
        .then((rows) => rows.map(([name]) => name), () => undefined)
      : [fields.column_name];
    if (names === undefined) return error;
    const isForeign = error.sqlState === "23503" || names.length === 0 ||
      names.some((name) => columns.every((column) => column.name !== name));
    if (!isForeign) return error;
    return new BackendError(
      `Cannot write ${this.#pool.name}: a constraint on ${fields.table_name} that openfinops does not know refuses ` +
        `its records (${
          messageOf(fields)
        }; SQLSTATE ${error.sqlState}). Remove ${what}, or have it let them pass.`,
      {
        code: "TABLES_ALTERED",
        operation: "write",
        kind: "operator",
        sqlState: error.sqlState,
        cause: fields,
      },
    );
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

  /** Checks that no trigger has skipped a row, which the server does not report. */
  async #assertStored(session: PostgresSession, { dataset, records, isRaw }: StoredBatch): Promise<void> {
    const isByKey = dataset.key.length > 0 && !isRaw;
    const keyed = isByKey
      ? [...new Map(records.map((record) => [keyOf(dataset, record), record])).values()]
      : records;
    const [[found]] = isByKey && this.#onConflict === "ignore"
      ? await session.query(presentQuery(dataset), [json(dataset, keyed)])
      : await session.query(touchedQuery(dataset));
    if (found === null || Number(found) >= keyed.length) return;
    throw new BackendError(
      `Cannot write ${this.#pool.name}: a trigger of ${dataset.name} skipped ${
        keyed.length - Number(found)
      } of ` +
        `${keyed.length} records. Correct them, or change the trigger. Nothing was written.`,
      { code: "DATA_REFUSED", operation: "write", kind: "data" },
    );
  }

  #alteredError(dataset: Dataset<unknown>, shape: string | null): BackendError {
    const expected = expectedShape(dataset).split(", ");
    const found = (shape ?? "").split(", ");
    const differing = expected.filter((part) => !found.includes(part)).map((part) => part.split(" ")[0]);
    return new BackendError(
      `Cannot write ${this.#pool.name}: the table ${dataset.name} was altered (${differing.join(", ")}). ` +
        "Undo the change. Nothing was written.",
      { code: "TABLES_ALTERED", operation: "write", kind: "operator" },
    );
  }
}

/** The fields of the server's error that say which constraint was violated. */
interface ConstraintFields extends Error {
  readonly schema_name?: string;
  readonly table_name?: string;
  readonly column_name?: string;
  readonly constraint_name?: string;
}

/** A query for the columns of a constraint, or of a unique index. */
function constraintQuery(
  { schema_name = "", table_name = "", constraint_name = "" }: ConstraintFields,
): string {
  const table = `to_regclass(format('%I.%I', ${literal(schema_name)}, ${literal(table_name)}))`;
  const name = literal(constraint_name);
  return `SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = ${table} AND attnum = ANY(coalesce(` +
    `(SELECT conkey FROM pg_catalog.pg_constraint WHERE conrelid = ${table} AND conname = ${name}), ` +
    `(SELECT indkey::int2[] FROM pg_catalog.pg_index JOIN pg_catalog.pg_class ON oid = indexrelid ` +
    `WHERE indrelid = ${table} AND relname = ${name})))`;
}

/** Returns true if a record has no partition. Ignores the message, which is in the language of the server. */
function isWithoutPartition(error: unknown): boolean {
  return routineOfCheck(error) === "ExecFindPartition";
}

/** Returns true if a worker of Citus refused a record: its error comes without the routine that raised it. */
function mayBeWithoutPartition(error: unknown): boolean {
  return /^Report(Copy|Result)Error$/.test(routineOfCheck(error) ?? "");
}

/** The function of the server that found a check violated. */
function routineOfCheck(error: unknown): string | undefined {
  if (!(error instanceof BackendError) || error.sqlState !== "23514") return undefined;
  return (error.cause as { routine?: string } | undefined)?.routine;
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
