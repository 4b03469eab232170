/**
 * A database of OpenFinOps in Python as the source of a migration.
 *
 * @module
 */
import type { Backend, StoredDocument } from "../backends/backend.ts";
import { aggregate } from "../backends/memory/aggregate.ts";
import { mergeAggregates } from "../backends/sql/merge_aggregates.ts";
import { ValidationError } from "../errors.ts";
import { type Alert, ALERT_SEVERITIES, type AlertSeverity } from "../records/alert.ts";
import type { AggregateRow, Aggregation } from "../records/aggregation.ts";
import type { Column, Dataset, DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { Decimal } from "../records/decimal.ts";
import type { RecordQuery } from "../records/query.ts";
import { acceptRecord } from "../records/validation.ts";
import { openOriginalReader, type OriginalReader, type OriginalValue } from "./original_reader.ts";
import { type DatasetMigration, migrate, type MigrateOptions, type MigrationSource } from "./migrate.ts";
import { READERS, Unreadable } from "./values.ts";

/** Kinds of the documents of alerts, as monitoring stores them. */
const ALERT = "alert", ACKNOWLEDGEMENT = "alert_acknowledgement";
/** Tables of the original with records. */
const TABLES: readonly DatasetName[] = ["system_metrics", "service_metrics", "cost_entries"];
const ALERTS = "alerts";
/** Columns of the datasets by field, and by name. */
const COLUMNS = new Map(TABLES.map((name) => {
  const { columns }: Dataset<unknown> = DATASETS[name];
  return [name, new Map(columns.flatMap((column) => [[column.name, column], [column.field, column]]))];
}));
/** Columns that all tables of the original have, and none of this program. */
const SIGNS = ["id", "timestamp", "created_at"];
/** Columns with what is told by the insertion, and not by the record. */
const LEFT_OUT: ReadonlySet<string> = new Set(["id", "created_at"]);
const MAX_NAMED = 10;

/** A row of the original that cannot be taken. */
export interface OriginalReject {
  readonly table: string;
  readonly id: OriginalValue;
  readonly reason: string;
}

export interface OriginalContent {
  readonly rows: ReadonlyMap<string, number>;
  /** Number of rows that cannot be taken, and the first of them. */
  readonly rejected: number;
  readonly rejects: readonly OriginalReject[];
  /** Keys of metadata that no field holds. */
  readonly unknown: readonly string[];
}

type Input = Record<string, unknown>;

/**
 * Opens a database of the original; nothing where it holds no such tables.
 *
 * @throws {Error} If it cannot be opened or read.
 */
export async function openOriginal(connectionString: string): Promise<OriginalSource | undefined> {
  const reader = await openOriginalReader(connectionString);
  const columns = new Map<string, string[]>();
  for (const table of [...TABLES, ALERTS]) {
    const found = await reader.columnsOf(table);
    if (SIGNS.every((name) => found.includes(name))) columns.set(table, found);
  }
  if (columns.size > 0) return new OriginalSource(reader, columns);
  await reader.close();
}

/**
 * Migrates a database of the original. Alerts come along where neither datasets nor times are named, and are compared, too.
 *
 * @throws {BackendError} If the source cannot be read or the target cannot be written. What is copied stays.
 */
export async function migrateOriginal(
  from: OriginalSource,
  to: Backend,
  options: MigrateOptions = {},
): Promise<DatasetMigration[]> {
  const alerts = await from.documents.read(ALERT);
  const present = async () => {
    const found = new Set((await to.documents.read(ALERT)).map(({ id }) => id));
    return alerts.filter(({ id }) => found.has(id)).length;
  };
  const before = await present();
  const done = (await migrate(from, to, options)).filter(({ dataset }) =>
    TABLES.includes(dataset as DatasetName)
  );
  const { datasets, startTime, endTime, dryRun } = options;
  if (datasets !== undefined || startTime !== undefined || endTime !== undefined) return done;
  const after = await present();
  const missing = alerts.length - before;
  return [...done, {
    dataset: ALERTS,
    copied: dryRun ? missing : after - before,
    bytes: dryRun
      ? alerts.filter((_, i) => i < missing).reduce((sum, { body }) => sum + JSON.stringify(body).length, 0)
      : 0,
    source: { rows: alerts.length, totals: [] },
    target: { rows: after, totals: [] },
    targetHasMore: (await to.documents.read(ALERT)).length > after,
    isSame: after === alerts.length,
  }];
}

/** Reads the records and alerts of the original. */
export class OriginalSource implements MigrationSource {
  readonly #reader: OriginalReader;
  readonly #columns: ReadonlyMap<string, readonly string[]>;
  readonly #unknown = new Set<string>();

  constructor(reader: OriginalReader, columns: ReadonlyMap<string, readonly string[]>) {
    this.#reader = reader;
    this.#columns = columns;
  }

  /** Alerts and acknowledgements. */
  readonly documents = { read: (kind?: string) => this.#readDocuments(kind) };

  /** Reads all tables once: counts their rows, and names those that cannot be taken. */
  async inspect(): Promise<OriginalContent> {
    const rows = new Map<string, number>();
    const rejects: OriginalReject[] = [];
    let rejected = 0;
    for (const table of this.#columns.keys()) {
      rows.set(table, 0);
      for await (const page of this.#rows(table, {})) {
        rows.set(table, rows.get(table)! + page.length);
        for (const row of page) {
          const found = this.#take(table, row);
          if (!("reason" in found)) continue;
          if (++rejected <= MAX_NAMED) rejects.push({ table, id: row.id, reason: found.reason });
        }
      }
    }
    return { rows, rejected, rejects, unknown: [...this.#unknown].sort() };
  }

  async *read<T>(dataset: Dataset<T>, query: RecordQuery): AsyncGenerator<T[]> {
    if (!this.#columns.has(dataset.name)) return;
    const { startTime = -Infinity, endTime = Infinity, limit = Infinity, equals } = query;
    let left = limit;
    for await (const page of this.#rows(dataset.name, query)) {
      const records: T[] = [];
      for (const row of page) {
        const found = this.#take(dataset.name, row);
        if ("reason" in found) continue; // inspect() names it
        const record = found.record as { timestamp: number } & Input;
        const isWanted = record.timestamp >= startTime && record.timestamp < endTime &&
          Object.entries(equals).every(([field, value]) => record[field] === value);
        if (isWanted && records.length < left) records.push(record as T);
      }
      left -= records.length;
      if (records.length > 0) yield records;
      if (left === 0) return;
    }
  }

  async aggregate(
    dataset: Dataset<unknown>,
    query: RecordQuery,
    aggregation: Aggregation,
  ): Promise<AggregateRow[]> {
    const read = () => this.read(dataset, query);
    return await mergeAggregates(dataset, aggregation, async function* (part) {
      yield aggregate(dataset, part, []); // without groups there is a row, also of no records
      for await (const page of read()) yield aggregate(dataset, part, page as never[]);
    });
  }

  /** Frees the connection. */
  close(): Promise<void> {
    return this.#reader.close();
  }

  /** Rows of a table in the order of time, those near a time range. */
  async *#rows(
    table: string,
    { startTime, endTime, order = "asc" }: Partial<RecordQuery>,
  ): AsyncGenerator<Record<string, OriginalValue>[]> {
    const columns = this.#columns.get(table)!;
    // Seconds at least as far as the time range; read() compares to the millisecond.
    const near = [
      ...(startTime === undefined ? [] : [`"timestamp" >= ${Math.floor(startTime / 1_000) - 1}`]),
      ...(endTime === undefined ? [] : [`"timestamp" < ${Math.ceil(endTime / 1_000) + 1}`]),
    ];
    const where = near.length > 0 ? ` WHERE ${near.join(" AND ")}` : "";
    const sql =
      `SELECT ${columns.map((name) => `"${name}"${this.#reader.cast}`).join(", ")} FROM ${table}${where} ` +
      `ORDER BY ${table}."timestamp" ${order}, ${table}.id ${order}`;
    for await (const page of this.#reader.select(sql)) {
      yield page.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
    }
  }

  /** Makes the record of a row, or says why not. */
  #take(table: string, row: Record<string, OriginalValue>): { record: unknown } | { reason: string } {
    try {
      if (table === ALERTS) return { record: toAlert(row) };
      const dataset: Dataset<unknown> = DATASETS[table as DatasetName];
      return { record: acceptRecord(dataset, this.#toInput(dataset, row)) };
    } catch (error) {
      if (!(error instanceof ValidationError)) throw error;
      return { reason: error.message };
    }
  }

  #toInput(dataset: Dataset<unknown>, row: Record<string, OriginalValue>): Input {
    const input: Input = {};
    const columns = COLUMNS.get(dataset.name)!;
    const labels: Record<string, string> = {};
    const put = (column: Column, value: unknown) => {
      const isOdd = column.oneOf !== undefined && !column.oneOf.includes(value as string);
      if (isOdd) labels[column.field] = String(value);
      else input[column.field] = read(dataset, column, value);
    };
    for (const [name, value] of Object.entries(row)) {
      const column = columns.get(name);
      if (value === null || LEFT_OUT.has(name) || name === "metadata") continue;
      if (name === "timestamp") input.timestamp = toEpoch(value);
      else if (name === "network_io") Object.assign(labels, toTraffic(value, input));
      else if (column) put(column, value);
      else labels[name] = String(value);
    }
    for (const [key, value] of Object.entries(objectOf(dataset, "metadata", row.metadata))) {
      const column = columns.get(key);
      if (value === null) continue;
      if (column && input[column.field] === undefined) put(column, value);
      else labels[key] = textOf(value);
    }
    if (dataset.name === "cost_entries") {
      input.currency = String(row.currency ?? "USD").replace(/^[a-z]{3}$/, (code) => code.toUpperCase());
    }
    return this.#withLabels(dataset, input, labels);
  }

  /** Keeps in the labels what no field holds; of datasets without labels, names it. */
  #withLabels(dataset: Dataset<unknown>, input: Input, labels: Record<string, string>): Input {
    const entries = Object.entries(labels);
    if (entries.length === 0) return input;
    if (dataset.columns.some(({ field }) => field === "labels")) {
      return { ...input, labels: { ...labels, ...input.labels as object } };
    }
    for (const [key] of entries) this.#unknown.add(`${dataset.name}.${key}`);
    return input;
  }

  async #readDocuments(kind?: string): Promise<StoredDocument[]> {
    const documents: StoredDocument[] = [];
    if (!this.#columns.has(ALERTS)) return documents;
    for await (const page of this.#rows(ALERTS, {})) {
      for (const row of page) {
        const found = this.#take(ALERTS, row);
        if ("reason" in found) continue;
        const alert = found.record as Alert;
        documents.push({ kind: ALERT, id: alert.alertId, body: alert });
        if (!isTrue(row.acknowledged)) continue;
        const { alertId, firedAt } = alert;
        documents.push({ kind: ACKNOWLEDGEMENT, id: alertId, body: { alertId, firedAt, at: firedAt } });
      }
    }
    return kind === undefined ? documents : documents.filter((document) => document.kind === kind);
  }
}

/** Reads a value; SQLite has 0 and 1 for false and true, and JSON as text. */
function read(dataset: Dataset<unknown>, { field, type }: Column, value: unknown): unknown {
  try {
    if (type === "decimal") return Decimal.from(String(value)).toString();
    if (type === "boolean" && typeof value === "number") return value !== 0;
    if (type === "text") return textOf(value);
    return READERS[type](typeof value === "bigint" ? Number(value) : value);
  } catch (error) {
    if (!(error instanceof Unreadable) && !(error instanceof RangeError)) throw error;
    const expected = error instanceof Unreadable ? error.expected : "a decimal";
    throw new ValidationError({ subject: dataset.noun, field, value, expected });
  }
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Epoch milliseconds of epoch seconds, by their shortest decimal form; digits beyond milliseconds are cut. */
function toEpoch(value: OriginalValue): unknown {
  const [, whole, fraction = ""] = /^(\d+)(?:\.(\d+))?$/.exec(String(value)) ?? [];
  return whole === undefined ? value : Number(whole + fraction.padEnd(3, "0").slice(0, 3));
}

/** Traffic in and out: the field is their sum, and the labels keep both. */
function toTraffic(value: OriginalValue, input: Input): Record<string, string> {
  const io = typeof value === "string" ? JSON.parse(value) : value;
  if (typeof io === "number") {
    input.networkIo = io;
    return {};
  }
  const entries = Object.entries(io ?? {});
  if (entries.length > 0 && entries.every(([, item]) => typeof item === "number")) {
    const sum = entries.reduce((sum, [, item]) => sum.plus(Decimal.from(item as number)), Decimal.ZERO);
    input.networkIo = Number(sum.toString());
  }
  return Object.fromEntries(entries.map(([name, item]) => [`networkIo.${name}`, textOf(item)]));
}

/** A column of JSON as an object. */
function objectOf(dataset: { noun: string }, field: string, value: OriginalValue | undefined): Input {
  if (value === null || value === undefined || value === "") return {};
  try {
    const found = JSON.parse(String(value));
    if (typeof found === "object" && found !== null && !Array.isArray(found)) return found;
  } catch {
    // refused below
  }
  throw new ValidationError({ subject: dataset.noun, field, value, expected: "a JSON object" });
}

function isTrue(value: OriginalValue | undefined): boolean {
  return value !== null && value !== undefined && !["0", "f", "false"].includes(String(value));
}

function toAlert(row: Record<string, OriginalValue>): Alert & { metadata?: Input } {
  const firedAt = toEpoch(row.timestamp) as number;
  if (!Number.isSafeInteger(firedAt)) {
    throw new ValidationError({
      subject: "an alert",
      field: "timestamp",
      value: firedAt,
      expected: "epoch seconds",
    });
  }
  const severity = String(row.severity).toLowerCase() as AlertSeverity;
  const metadata = objectOf({ noun: "an alert" }, "metadata", row.metadata);
  const value = Number(row.value ?? 0);
  return {
    alertId: `openfinops-python:${row.id}`,
    rule: String(row.alert_type),
    severity: ALERT_SEVERITIES.includes(severity) ? severity : "warning",
    description: String(row.description ?? row.alert_type),
    field: String(row.alert_type),
    value: Number.isFinite(value) ? value : 0,
    since: firedAt,
    firedAt,
    ...(row.cluster_id === null ? {} : { clusterId: String(row.cluster_id) }),
    ...(row.resource_id === null ? {} : { nodeId: String(row.resource_id) }),
    // The original does not say when an alert ended.
    ...(isTrue(row.resolved) ? { resolvedAt: firedAt } : {}),
    ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
  };
}
