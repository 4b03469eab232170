import { idsOf, type Range, StoredPositions } from "../../pipeline/members.ts";
import type { Batch, Member, WriteResult } from "../../pipeline/sink.ts";
import { columnOf, type Dataset, type DatasetName, defineDataset, narrow } from "../../records/dataset.ts";
import type { ConflictPolicy } from "../backend.ts";
import { literal } from "../sql/select.ts";
import { NOW, timeLiteral, TYPES } from "./schema.ts";
import type { DuckdbSession } from "./session.ts";

type Fields = Readonly<Record<string, unknown>>;

/** Options of {@linkcode writeBatch}. */
interface WriteOptions {
  readonly onConflict: ConflictPolicy;
  /** Is called when only the commit is left. */
  readonly onSent?: () => void;
}

/**
 * Writes a batch effectively once: the records and the entry in the ledger in one transaction. No other change may run
 * meanwhile, as keys are looked up first.
 */
export function writeBatch(
  session: DuckdbSession,
  { id, dataset, records: all, members }: Batch,
  { onConflict, onSent }: WriteOptions,
): Promise<WriteResult> {
  return session.transaction(async ([known]) => {
    if (known) {
      const [committed, duplicates, restated] = known as number[];
      return { committed, duplicates, restated, isReplay: true };
    }
    const stored = members && await addMembers(session, dataset.name, members);
    const records = stored?.size ? all.filter((_, i) => !stored.has(i)) : all;
    const { kept, committed, restated } = dataset.key.length === 0 || records.length === 0
      ? { kept: records, committed: records.length, restated: 0 }
      : await resolveKeys(session, { dataset, records, onConflict });
    await session.append(narrow(dataset, records), kept, dataset.name);
    const result = { committed, duplicates: all.length - committed, restated };
    const entry = session.execute(
      `INSERT INTO ledger VALUES (${
        literal(id)
      }, '${dataset.name}', ${committed}, ${result.duplicates}, ${restated}, ${NOW})`,
    );
    onSent?.();
    await entry;
    return result;
  }, `SELECT committed, duplicates, restated FROM ledger WHERE batch_id = ${literal(id)}`);
}

/**
 * Adds the members of a batch to what is stored of their requests, in the transaction of the batch.
 *
 * @returns The indexes of its records that are stored already.
 */
async function addMembers(
  session: DuckdbSession,
  dataset: DatasetName,
  members: readonly Member[],
): Promise<ReadonlySet<number>> {
  const where = (ids: readonly string[]) =>
    `WHERE dataset = '${dataset}' AND request_id IN (${ids.map(literal).join(", ")})`;
  // The table has no index: each statement scans it.
  const rows = await session.query(`SELECT request_id, ranges FROM requests ${where(idsOf(members))}`);
  const stored = new StoredPositions(
    (rows as string[][]).map(([id, ranges]): [string, Range[]] => [id, JSON.parse(ranges)]),
  );
  const indexes = stored.add(members);
  const { changed } = stored;
  if (changed.length > 0) {
    const values = changed.map(([id, ranges]) =>
      `(${literal(id)}, '${dataset}', ${literal(JSON.stringify(ranges))}, ${NOW})`
    );
    await session.execute(
      `DELETE FROM requests ${where(changed.map(([id]) => id))}; INSERT INTO requests VALUES ${
        values.join(", ")
      }`,
    );
  }
  return indexes;
}

/** Finds the records to insert, and deletes those that they replace. */
async function resolveKeys(
  session: DuckdbSession,
  { dataset, records, onConflict }: Omit<Batch, "id"> & { onConflict: ConflictPolicy },
): Promise<{ kept: readonly unknown[]; committed: number; restated: number }> {
  const isReplacing = onConflict === "replace";
  const distinct = distinctOf(dataset, records, isReplacing);
  const existing = await findExisting(session, dataset, distinct);
  if (isReplacing) {
    if (existing.size > 0) await session.execute(`DELETE FROM ${dataset.name} AS c USING ${join(dataset)}`);
    const restated = records.length - distinct.length + existing.size;
    return { kept: distinct, committed: records.length, restated };
  }
  const kept = existing.size > 0 ? distinct.filter((_, i) => !existing.has(i)) : distinct;
  return { kept, committed: kept.length, restated: 0 };
}

/** The records without those whose key another one has: the first of them stays, or the last. */
function distinctOf(
  { key }: Dataset<unknown>,
  records: readonly unknown[],
  isLast: boolean,
): readonly unknown[] {
  // Mostly all ids differ, which is found in half of the time.
  const ids = new Set<unknown>();
  for (const record of records) ids.add((record as Fields)[key.at(-1)!]);
  if (ids.size === records.length) return records;
  const byKey = new Map<string, unknown>();
  for (const record of records) {
    const text = key.map((field) => (record as Fields)[field]).join(" ");
    if (isLast || !byKey.has(text)) byKey.set(text, record);
  }
  return [...byKey.values()];
}

/** The positions of the records whose key is stored. */
async function findExisting(
  session: DuckdbSession,
  dataset: Dataset<unknown>,
  records: readonly unknown[],
): Promise<ReadonlySet<number>> {
  const [first, last] = rangeOf(records).map(timeLiteral);
  const range = `c.timestamp >= ${first} AND c.timestamp <= ${last}`;
  // Mostly there is nothing in a batch's span of time: this costs a fifth of looking up its keys.
  if ((await session.query(`SELECT 1 FROM ${dataset.name} AS c WHERE ${range} LIMIT 1`)).length === 0) {
    return new Set();
  }
  const columns = dataset.key.map((field) => columnOf(dataset, field));
  const table = `keys_of_${dataset.name}`;
  const definitions = columns.map(({ name, type }) => `${name} ${TYPES[type].sql}`);
  await session.execute(`CREATE OR REPLACE TEMP TABLE ${table} (position BIGINT, ${definitions.join(", ")})`);
  const position = { ...columns[0], field: "position", name: "position", type: "integer" as const };
  const keys = defineDataset({ ...dataset, columns: [position, ...columns] });
  await session.append(keys, records.map((record, position) => ({ ...record as object, position })), table);
  const found = await session.query(
    `SELECT DISTINCT position FROM ${dataset.name} AS c, ${join(dataset)} ` +
      `AND ${range}`,
  );
  return new Set(found.flat() as number[]);
}

/** The times of the first and the last record. */
function rangeOf(records: readonly unknown[]): [first: number, last: number] {
  let [first, last] = [Infinity, -Infinity];
  for (const { timestamp } of records as readonly { timestamp: number }[]) {
    if (timestamp < first) first = timestamp;
    if (timestamp > last) last = timestamp;
  }
  return [first, last];
}

/** The keys of the batch, joined with the table `c` of a dataset. */
function join(dataset: Dataset<unknown>): string {
  const equal = dataset.key.map((field) => columnOf(dataset, field).name).map((name) =>
    `c.${name} = k.${name}`
  );
  return `keys_of_${dataset.name} AS k WHERE ${equal.join(" AND ")}`;
}
