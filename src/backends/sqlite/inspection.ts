/**
 * Size, contents and condition of a database, for `stats` and `test-connection`.
 *
 * @module
 */
import { fileBytes, linkTarget } from "../../pipeline/durable_file.ts";
import type { Dataset } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import type { DatasetStats, StorageFault } from "../backend.ts";
import { describeLedger, triggerWarning } from "../condition.ts";
import { queryAll, type SqliteDatabase } from "./driver.ts";
import { WRITE_NOTHING } from "./file.ts";
import type { SqliteReader } from "./sqlite_reader.ts";

/** SQLite before this can corrupt a database when a write-ahead log is reset. */
const SOUND_SQLITE_VERSION = "3.51.3";

/** Returns the number of records of a dataset, and the times of the oldest and the newest. */
export async function datasetStats(
  reader: SqliteReader,
  { source }: Dataset<unknown>,
): Promise<DatasetStats> {
  // Each in a query of its own: SQLite takes one time from the end of the index, not both at once.
  const statements = ["count(*)", "min(timestamp)", "max(timestamp)"].map((value) =>
    `SELECT ${value} FROM ${source}`
  );
  const found = await reader.query({ statements, parameters: [] });
  const [rows, oldest, newest] = found.map(([[value]]) => value as number);
  return rows === 0 ? { rows } : { rows, oldest, newest };
}

/** Returns the file, the driver and the version of SQLite; `path` is empty for a database in memory. */
export function describeFile(database: SqliteDatabase, path: string, driver: string) {
  return { file: path || "(in memory)", driver, sqliteVersion: sqliteVersion(database) };
}

/** Returns the size of a database in bytes with its write-ahead log; `path` is empty for one in memory. */
export function fileSize(database: SqliteDatabase, path: string): number {
  if (path !== "") return fileBytes(path) + fileBytes(`${linkTarget(path)}-wal`);
  const [[pages]] = queryAll(database, "PRAGMA page_count");
  const [[size]] = queryAll(database, "PRAGMA page_size");
  return (pages as number) * (size as number);
}

/** Returns the version of the schema. */
export function schemaVersionOf(database: SqliteDatabase): number {
  return queryAll(database, "SELECT max(version) FROM schema_version")[0][0] as number;
}

/** Describes the ledger. */
export function ledgerFacts(database: SqliteDatabase): Record<string, string | number> {
  const [[batches]] = queryAll(database, "SELECT count(*) FROM ledger");
  const [[oldest]] = queryAll(database, "SELECT min(committed_at) FROM ledger");
  return describeLedger(batches as number, oldest as number | null);
}

/** Returns the version of SQLite that the driver contains. */
function sqliteVersion(database: SqliteDatabase): string {
  return queryAll(database, "SELECT sqlite_version()")[0][0] as string;
}

/** Returns true if the database accepts changes. */
export function isWritable(database: SqliteDatabase): boolean {
  try {
    database.exec(WRITE_NOTHING);
    return true;
  } catch (error) {
    if (/readonly/.test(String(error))) return false;
    throw error;
  }
}

/** Returns warnings about the version of SQLite and the settings of the file. */
export function findWarnings(database: SqliteDatabase): string[] {
  const version = sqliteVersion(database);
  const warnings = version.localeCompare(SOUND_SQLITE_VERSION, "en", { numeric: true }) >= 0 ? [] : [
    `SQLite ${version} can corrupt a file that several connections write while its ` +
    `write-ahead log is reset; fixed in ${SOUND_SQLITE_VERSION}`,
  ];
  if (queryAll(database, "PRAGMA auto_vacuum")[0][0] !== 2) {
    warnings.push(
      "cleanup cannot give disk back, because this file was made without incremental auto-vacuum; " +
        "`PRAGMA auto_vacuum = 2; VACUUM` fixes that",
    );
  }
  const triggers =
    "SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = 'trigger' AND sql LIKE '%BEFORE%INSERT%'";
  for (const [table] of queryAll(database, triggers)) warnings.push(triggerWarning(table as string));
  return warnings;
}

/** Finds what SQLite itself finds wrong: pages, indexes that do not agree with their tables, and constraints. */
export function findFileFaults(database: SqliteDatabase): StorageFault[] {
  const found = queryAll(database, "PRAGMA integrity_check").map(([problem]) => problem as string);
  const faults = found.filter((problem) => problem !== "ok").map((problem) => ({
    check: "file",
    subject: "integrity_check",
    expected: "ok",
    found: problem,
  } as const));
  return [...faults, ...Object.values(DATASETS).flatMap((dataset) => findBadAmounts(database, dataset))];
}

/** Amounts whose halves do not belong together: their sum would be wrong. */
function findBadAmounts(database: SqliteDatabase, dataset: Dataset<unknown>): StorageFault[] {
  return dataset.columns.filter(({ type }) => type === "decimal").flatMap(({ name, field }) => {
    const [units, parts] = [`${name}_units`, `${name}_parts`];
    const rows = queryAll(
      database,
      `SELECT rowid, CAST(${units} AS TEXT), CAST(${parts} AS TEXT) FROM ${dataset.name} WHERE typeof(${units}) <> typeof(${parts}) ` +
        `OR typeof(${units}) NOT IN ('integer', 'null') OR abs(${parts}) >= 1000000000000000000 ` +
        `OR (${units} > 0 AND ${parts} < 0) OR (${units} < 0 AND ${parts} > 0) LIMIT 100`,
    );
    return rows.map(([row, units, parts]) => ({
      check: "file",
      subject: `${field} of row ${row} of ${dataset.name}`,
      expected: "units and parts of one amount",
      found: `${units} and ${parts}`,
    } as const));
  });
}
