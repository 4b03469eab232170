import { BackendError, describe } from "../errors.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import type { Batch, WriteResult } from "../pipeline/sink.ts";
import { columnOf, type Dataset, type DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import type {
  Backend,
  BackendStats,
  ConflictPolicy,
  CurrencyTotal,
  DatasetStats,
  DeleteOptions,
  OpenMode,
  ProbeReport,
} from "./backend.ts";
import { encodeRecords, recordDecoder } from "./postgres_copy.ts";
import { asPostgresError } from "./postgres_errors.ts";
import { migrate } from "./postgres_migrate.ts";
import { becomeOwner, listPartitions, type Partition, Partitions } from "./postgres_partitions.ts";
import { PostgresPool, type PostgresSession } from "./postgres_pool.ts";
import {
  columnList,
  DIALECT,
  expectedShape,
  insertStatement,
  jsonRow,
  keyOf,
  literal,
  restateStatement,
  SCHEMA_VERSION,
  selectList,
  shapeQuery,
  timeLiteral,
} from "./postgres_schema.ts";
import { resolvePostgresTarget } from "./postgres_target.ts";
import { whereClause } from "./sql/select.ts";

const PAGE_RECORDS = 1_000;
/** Rows that cleanup deletes in one transaction. */
const STEP_ROWS = 10_000;
/** How long the ledger remembers a batch. */
const LEDGER_DAYS = 30;
/** How long dropping a partition waits for its lock, and has others wait behind it, before it tries again. */
const DROP_LOCK_MS = 500;
/** Beyond what the server is given for a statement: the round trips of a transaction. */
const SLACK_MS = 10_000;

/** How a {@linkcode PostgresBackend} is opened. */
export interface PostgresBackendOptions {
  /** The server, as in `postgresql://user@host:5432/database`. */
  connectionString: string;
  /** Whether to make the tables, to expect them, or only to read. */
  mode: OpenMode;
  /** What to do with a record whose key exists. */
  onConflict: ConflictPolicy;
  /** The most connections. */
  maxConnections: number;
  /** The longest that a statement which writes may take, in seconds. */
  statementTimeoutSeconds: number;
}

/** Records in a PostgreSQL database, in tables that are partitioned by time. */
export class PostgresBackend implements Backend {
  readonly name = "postgresql";
  readonly isDurable = true;
  readonly #pool: PostgresPool;
  readonly #partitions: Partitions;
  readonly #onConflict: ConflictPolicy;
  readonly #statementTimeoutMs: number;
  /** The datasets whose last batch held keys that existed: COPY would fail on them. */
  readonly #conflicting = new Set<DatasetName>();

  /**
   * Opens the database and sees to its schema.
   *
   * @throws {ConfigError} If the connection string cannot be read.
   * @throws {BackendError} If the server cannot be reached, or the schema is missing, newer or somebody else's.
   */
  static async open(options: PostgresBackendOptions): Promise<PostgresBackend> {
    const { connectionString, maxConnections, mode } = options;
    const pool = new PostgresPool(resolvePostgresTarget(connectionString), { maxConnections });
    try {
      await migrate(pool, mode);
      return new PostgresBackend(pool, options);
    } catch (error) {
      await pool.close();
      throw error;
    }
  }

  private constructor(pool: PostgresPool, options: PostgresBackendOptions) {
    this.#pool = pool;
    this.#partitions = new Partitions(pool);
    this.#onConflict = options.onConflict;
    this.#statementTimeoutMs = 1_000 * options.statementTimeoutSeconds;
  }

  async write(batch: Batch): Promise<WriteResult> {
    for (let attempt = 1;; attempt++) {
      await this.#partitions.ensure(batch.dataset, batch.records);
      try {
        return await this.#copyOrInsert(batch);
      } catch (error) {
        // Another process may have dropped an old partition since we saw it.
        if (attempt > 1 || !/no partition of relation/.test(String(error))) throw error;
        this.#partitions.forget();
      }
    }
  }

  async *read<T>(dataset: Dataset<T>, query: RecordQuery): AsyncGenerator<T[]> {
    const select = this.selectStatement(dataset, query);
    // One statement sees one state of the database, however long it takes.
    const session = await this.#pool.acquire("read", { isStream: true });
    let isOver = false;
    try {
      const decode = recordDecoder(dataset);
      let page: T[] = [];
      for await (const chunk of session.copyOut(`COPY (${select}) TO STDOUT (FORMAT binary)`)) {
        for (const record of decode(chunk)) page.push(record);
        if (page.length < PAGE_RECORDS) continue;
        yield page;
        page = [];
      }
      if (page.length > 0) yield page;
      isOver = true;
    } catch (error) {
      throw asPostgresError("read", this.#pool.name, error);
    } finally {
      if (isOver) this.#pool.release(session);
      else this.#pool.discard(session); // the server stops sending when the connection is cut
    }
  }

  /** The statement that reads the records that a query asks for. */
  selectStatement(dataset: Dataset<unknown>, query: RecordQuery): string {
    const order = (dataset.key.length > 0 ? dataset.key : ["timestamp"])
      .map((field) => `${columnOf(dataset, field).name} ${query.order}`);
    const limit = query.limit === undefined ? "" : ` LIMIT ${query.limit}`;
    return `SELECT ${selectList(dataset)} FROM ${dataset.name} ` +
      `${whereClause(dataset, query, DIALECT)} ORDER BY ${order.join(", ")}${limit}`;
  }

  async total(dataset: Dataset<unknown>, query: RecordQuery): Promise<CurrencyTotal[]> {
    const sql = `SELECT currency, trim_scale(sum(amount))::text, count(*)::text FROM ${dataset.name} ` +
      `${whereClause(dataset, query, DIALECT)} GROUP BY currency ORDER BY currency COLLATE "C"`;
    const rows = await this.#pool.use("read", (session) => session.query(sql));
    return rows.map(([currency, total, count]) => ({
      currency: currency!,
      total: total!,
      count: Number(count),
    }));
  }

  async deleteBefore(
    dataset: Dataset<unknown>,
    before: number,
    { dryRun, timeBudgetMs = Infinity }: DeleteOptions,
  ): Promise<number> {
    if (dryRun) {
      const where = `WHERE timestamp < ${timeLiteral(before)}`;
      return await this.#count("delete", `SELECT count(*)::text FROM ${dataset.name} ${where}`);
    }
    const end = performance.now() + timeBudgetMs;
    const partitions = await this.#pool.use("delete", (session) => listPartitions(session, dataset));
    let deleted = 0;
    for (const partition of partitions) {
      if (partition.start >= before || performance.now() >= end) break;
      if (partition.end <= before) deleted += await retryBriefly(() => this.#drop(dataset, partition));
      else deleted += await this.#deleteInSteps(partition, before, end);
    }
    // What is deleted is deleted: the next cleanup does what did not succeed of this.
    await this.#pruneLedger(end).catch(() => {});
    return deleted;
  }

  async stats(): Promise<BackendStats> {
    const datasets = {} as Record<DatasetName, DatasetStats>;
    for (const dataset of Object.values(DATASETS)) datasets[dataset.name] = await this.#datasetStats(dataset);
    return {
      datasets,
      totals: await this.total(DATASETS.cost_entries, acceptQuery(DATASETS.cost_entries)),
      storage: await this.#pool.use("read", async (session) => {
        const [[version, bytes]] = await session.query(
          "SELECT current_setting('server_version'), pg_database_size(current_database())::text",
        );
        return { server: this.#pool.name, serverVersion: version!, databaseSizeBytes: Number(bytes) };
      }),
    };
  }

  probe(): Promise<ProbeReport> {
    return this.#pool.use("probe", async (session) => {
      const tables = ["ledger", ...Object.keys(DATASETS)];
      const [[version, encoding, fsync, commit, isReadOnly, mayWrite, mayCreate, tls]] = await session.query(
        `SELECT current_setting('server_version'), current_setting('server_encoding'), current_setting('fsync'),
        current_setting('synchronous_commit'), current_setting('transaction_read_only'),
        (${tables.map((name) => `has_table_privilege('${name}', 'INSERT')`).join(" AND ")})::text,
        has_schema_privilege(current_schema(), 'CREATE')::text,
        (SELECT concat_ws(' ', version, cipher) FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)`,
      );
      const warnings: string[] = [];
      const writable = isReadOnly === "off" && mayWrite === "true";
      const warn = (isSo: boolean, warning: string) => isSo && warnings.push(warning);
      warn(
        encoding !== "UTF8",
        `the database is encoded in ${encoding}: texts it lacks characters for are refused`,
      );
      warn(fsync === "off", "fsync is off: a crash of the server's machine can destroy the database");
      warn(commit === "off", "synchronous_commit is off: a crash of the server can lose what was committed");
      warn(
        writable && mayCreate !== "true",
        "this user may not make tables, and so no partition for a new week",
      );
      return {
        writable,
        details: {
          server: this.#pool.name,
          serverVersion: version!,
          tls: tls ?? "none",
          schemaVersion: SCHEMA_VERSION,
        },
        warnings,
      };
    });
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  /** By COPY, which is fastest; what the server refuses of it, by INSERT. */
  async #copyOrInsert(batch: Batch): Promise<WriteResult> {
    const { name } = batch.dataset;
    if (!this.#conflicting.has(name)) {
      try {
        return await this.#transact(batch, async (session) => {
          const { dataset, records } = batch;
          const copy = `COPY ${name} (${columnList(dataset)}) FROM STDIN (FORMAT binary)`;
          await session.copyIn(copy, encodeRecords(dataset, records));
          return { committed: records.length, duplicates: 0, restated: 0 };
        });
      } catch (error) {
        if (!(error instanceof BackendError) || error.retryable || !error.sqlState) throw error;
        // The driver does not give the error of every failed COPY; INSERT meets the same, or knows what to do.
      }
    }
    try {
      const result = await this.#transact(batch, (session) => this.#insert(session, batch));
      if (result.duplicates + result.restated > 0) this.#conflicting.add(name);
      else this.#conflicting.delete(name);
      return result;
    } catch (error) {
      throw await this.#nameRecord(batch, error);
    }
  }

  /** Writes a batch in one transaction with its entry in the ledger, unless that is there already. */
  #transact(batch: Batch, write: (session: PostgresSession) => Promise<WriteResult>): Promise<WriteResult> {
    const { id, dataset, records } = batch;
    const operation = "write";
    const limits = `SET LOCAL statement_timeout = ${this.#statementTimeoutMs}`;
    return this.#pool.transaction(operation, async (session) => {
      // First of all, so that a second attempt waits for the outcome of the first, should that still go on.
      const isNew = await session.execute(
        "INSERT INTO ledger (batch_id, dataset, committed, duplicates, restated) " +
          `VALUES ($1, '${dataset.name}', ${records.length}, 0, 0) ON CONFLICT DO NOTHING`,
        [id],
      );
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
    }, { settings: limits, limitMs: 2 * this.#statementTimeoutMs + SLACK_MS });
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
    if (rest.length > 0) {
      const updated = await session.execute(restateStatement(dataset), [json(dataset, rest)]);
      if (updated !== rest.length) throw this.#vanishedError();
    }
    return { committed: records.length, duplicates: 0, restated: others };
  }

  /** Where values were refused, the same error with the first record that the server refuses by itself. */
  async #nameRecord(batch: Batch, error: unknown): Promise<unknown> {
    if (!(error instanceof BackendError) || !/^2[23]/.test(error.sqlState ?? "")) return error;
    const { dataset, records } = batch;
    let refusal: BackendError | undefined;
    const isRefused = async (from: number, to: number) => {
      try {
        await this.#pool.use("write", async (session) => {
          await session.query("BEGIN");
          await this.#insert(session, { ...batch, records: records.slice(from, to) });
          await session.query("ROLLBACK");
        });
        return false;
      } catch (cause) {
        if (!(cause instanceof BackendError) || !/^2[23]/.test(cause.sqlState ?? "")) throw cause;
        refusal = cause;
        return true;
      }
    };
    try {
      let from = 0;
      for (let to = records.length; to - from > 1;) {
        const middle = (from + to) >> 1;
        if (await isRefused(from, middle)) to = middle;
        else from = middle;
      }
      if (!await isRefused(from, from + 1)) return error;
      const fields = dataset.required.filter(({ type }) => type !== "decimal").map(({ field }) =>
        `${field} ${describe((records[from] as Record<string, unknown>)[field])}`
      );
      const { sqlState, cause, message } = refusal!;
      const which = `record ${from + 1} of ${records.length} (${fields.join(", ")})`;
      return new BackendError(message.replace("Cannot write ", `Cannot write ${which} to `), {
        operation: "write",
        retryable: false,
        sqlState,
        cause,
      });
    } catch {
      return error; // the search met with something else
    }
  }

  #alteredError(dataset: Dataset<unknown>, shape: string | null): BackendError {
    const wanted = expectedShape(dataset).split(", ");
    const found = (shape ?? "").split(", ");
    const differing = wanted.filter((part) => !found.includes(part)).map((part) => part.split(" ")[0]);
    return new BackendError(
      `Cannot write ${this.#pool.name}: the table ${dataset.name} as openfinops made it is wanted: ` +
        `somebody altered ${differing.join(", ")}; nothing was written`,
      { operation: "write", retryable: false },
    );
  }

  #vanishedError(): BackendError {
    return new BackendError(
      `Cannot write ${this.#pool.name}: entries that stay are wanted: some were deleted while they were restated`,
      { operation: "write", retryable: true },
    );
  }

  /** Drops a partition; gives how many records it had. */
  #drop(dataset: Dataset<unknown>, { name }: Partition): Promise<number> {
    return this.#pool.transaction("delete", async (session) => {
      await becomeOwner(session, dataset);
      await session.query(`LOCK TABLE ${name} IN SHARE MODE`); // nobody adds what would go uncounted
      const [[count]] = await session.query(`SELECT count(*)::text FROM ${name}`);
      await session.query(`DROP TABLE ${name}`);
      this.#partitions.forget();
      return Number(count);
    }, { settings: `SET LOCAL lock_timeout = ${DROP_LOCK_MS}` });
  }

  async #deleteInSteps({ name }: Partition, before: number, end: number): Promise<number> {
    const sql = `DELETE FROM ${name} WHERE ctid = ANY(ARRAY(` +
      `SELECT ctid FROM ${name} WHERE timestamp < ${timeLiteral(before)} LIMIT ${STEP_ROWS}))`;
    let deleted = 0;
    for (;;) {
      const rows = await retryBriefly(() => this.#pool.use("delete", (session) => session.execute(sql)));
      deleted += rows;
      if (rows < STEP_ROWS || performance.now() >= end) break;
    }
    // Room for the rows to come; the rest of the disk comes back when the whole partition goes.
    if (deleted > 0) {
      await this.#pool.use("vacuum", (session) => session.query(`VACUUM (SKIP_LOCKED) ${name}`)).catch(
        () => {},
      );
    }
    return deleted;
  }

  /** Forgets batches that nobody will send again. */
  async #pruneLedger(end: number): Promise<void> {
    const sql = "DELETE FROM ledger WHERE batch_id IN (SELECT batch_id FROM ledger " +
      `WHERE committed_at < now() - interval '${LEDGER_DAYS} days' LIMIT ${STEP_ROWS} FOR UPDATE SKIP LOCKED)`;
    for (;;) {
      const rows = await this.#pool.use("delete", (session) => session.execute(sql));
      if (rows < STEP_ROWS || performance.now() >= end) return;
    }
  }

  #count(operation: string, sql: string): Promise<number> {
    return this.#pool.use(operation, async (session) => Number((await session.query(sql))[0][0]));
  }

  #datasetStats({ name }: Dataset<unknown>): Promise<DatasetStats> {
    return this.#pool.use("read", async (session) => {
      const epochMs = (time: string) => `(extract(epoch FROM ${time}) * 1000)::bigint::text`;
      const [[rows, oldest, newest]] = await session.query(
        `SELECT count(*)::text, ${epochMs("min(timestamp)")}, ${epochMs("max(timestamp)")} FROM ${name}`,
      );
      const [[partitions, tableBytes, indexBytes]] = await session.query(
        "SELECT count(*) FILTER (WHERE isleaf)::text, coalesce(sum(pg_table_size(relid)), 0)::text, " +
          `coalesce(sum(pg_indexes_size(relid)), 0)::text FROM pg_partition_tree(${literal(name)})`,
      );
      return {
        rows: Number(rows),
        ...(oldest === null ? {} : { oldest: Number(oldest), newest: Number(newest) }),
        partitions: Number(partitions),
        tableBytes: Number(tableBytes),
        indexBytes: Number(indexBytes),
      };
    });
  }
}

async function lookUp(session: PostgresSession, batchId: string): Promise<WriteResult> {
  const [row] = await session.query(
    "SELECT committed::text, duplicates::text, restated::text FROM ledger WHERE batch_id = $1",
    [batchId],
  );
  const [committed, duplicates, restated] = row.map(Number);
  return { committed, duplicates, restated };
}

function json(dataset: Dataset<unknown>, records: readonly unknown[]): string {
  return JSON.stringify(records.map((record) => jsonRow(dataset, record)));
}
