/**
 * Checks of stored records by SQL.
 *
 * @module
 */
import { LEDGER_DAYS } from "../../pipeline/sink.ts";
import { DAY_MS } from "../../records/calendar.ts";
import { columnOf, type Dataset } from "../../records/dataset.ts";
import { DATASETS } from "../../records/datasets.ts";
import type { StorageFault } from "../backend.ts";
import type { SqlDialect } from "./select.ts";

/** Most faults that one check names. */
const MAX_FAULTS = 100;

/** A database that is checked. */
interface VerifiedDatabase extends Pick<SqlDialect, "epochMs" | "asText"> {
  /** Runs a query; gives its rows. */
  query(sql: string): Promise<readonly (readonly unknown[])[]>;
  /** The present in epoch milliseconds, by the clock that dates the ledger, as an expression. */
  readonly now: string;
}

/** Finds keys that several records have, and batches of the ledger that cannot be or that records contradict. */
export async function findStorageFaults(database: VerifiedDatabase): Promise<StorageFault[]> {
  const faults: StorageFault[] = [];
  for (const dataset of Object.values(DATASETS)) {
    if (dataset.key.length > 0) faults.push(...await findSharedKeys(database, dataset));
  }
  return [...faults, ...await findBadBatches(database), ...await findUnknownRecords(database)];
}

async function findSharedKeys(
  { query, epochMs, asText }: VerifiedDatabase,
  dataset: Dataset<unknown>,
): Promise<StorageFault[]> {
  const columns = dataset.key.map((field) => columnOf(dataset, field));
  const names = columns.map(({ name }) => name).join(", ");
  const shown = columns.map(({ name, type }) => type === "timestamp" ? epochMs(name) : name).join(", ");
  const rows = await query(
    `SELECT ${asText("count(*)")}, ${shown} FROM ${dataset.name} GROUP BY ${names} HAVING count(*) > 1 ` +
      `LIMIT ${MAX_FAULTS}`,
  );
  return rows.map(([count, ...key]) => {
    const values = key.map((value, i) =>
      columns[i].type === "timestamp" ? new Date(Number(value)).toISOString() : value
    );
    return {
      check: "key",
      subject: `${dataset.name} ${values.join(" ")}`,
      expected: "1 record",
      found: `${count} records`,
    };
  });
}

/** Batches whose numbers cannot be. */
async function findBadBatches({ query, asText }: VerifiedDatabase): Promise<StorageFault[]> {
  const numbers = ["committed", "duplicates", "restated"];
  const unkeyed = Object.values(DATASETS).filter(({ key }) => key.length === 0).map(({ name }) =>
    `'${name}'`
  );
  const rows = await query(
    `SELECT batch_id, dataset, ${numbers.map(asText).join(", ")} FROM ledger ` +
      `WHERE ${numbers.map((name) => `${name} < 0`).join(" OR ")} OR restated > committed ` +
      `OR committed + duplicates = 0 OR (dataset IN (${unkeyed.join(", ")}) AND restated > 0) ` +
      `LIMIT ${MAX_FAULTS}`,
  );
  return rows.map(([id, dataset, ...counts]) => ({
    check: "ledger",
    subject: `batch ${id} of ${dataset}`,
    expected: "counts of a batch",
    found: numbers.map((name, i) => `${name} ${counts[i]}`).join(", "),
  }));
}

/**
 * Records that no batch brought: stored twice, or by another program. The ledger knows all batches of a database that is
 * younger than its oldest entries may be. Imports of costs are no batches.
 */
async function findUnknownRecords(
  { query, epochMs, now, asText }: VerifiedDatabase,
): Promise<StorageFault[]> {
  const [[createdAt, at]] = await query(`SELECT ${epochMs("min(applied_at)")}, ${now} FROM schema_version`);
  if (Number(at) - Number(createdAt) > LEDGER_DAYS * DAY_MS) return [];
  const faults: StorageFault[] = [];
  for (const { name } of Object.values(DATASETS).filter(({ name }) => name !== "cost_entries")) {
    // First the records: a batch that is committed meanwhile is in the ledger then.
    const [[found]] = await query(`SELECT ${asText("count(*)")} FROM ${name}`);
    const [[known]] = await query(
      `SELECT ${asText("coalesce(sum(committed - restated), 0)")} FROM ledger WHERE dataset = '${name}'`,
    );
    if (Number(found) <= Number(known)) continue;
    faults.push({
      check: "ledger",
      subject: name,
      expected: `at most ${known} records, which batches brought`,
      found: `${found} records`,
    });
  }
  return faults;
}
