import { REQUEST_HOURS } from "../../pipeline/members.ts";
import { LEDGER_DAYS } from "../../pipeline/sink.ts";
import { DAY_MS, HOUR_MS } from "../../records/calendar.ts";
import type { Dataset } from "../../records/dataset.ts";
import type { DuckdbFile } from "./file.ts";
import { findSlices } from "./pages.ts";
import { timeLiteral } from "./schema.ts";
import type { DuckdbSession } from "./session.ts";

/** Rows that one transaction deletes, about, so that other writers get their turn. */
const STEP_ROWS = 500_000;
/** Free space of a file, in bytes, from which a cleanup rewrites its tables. */
const MIN_FREE_BYTES = 2 ** 22;

/**
 * Deletes the rows of a dataset before a time and gives their disk back.
 *
 * @param end No step starts after this time, by `performance.now()`.
 * @returns The number of deleted rows.
 */
export async function deleteBefore(
  file: DuckdbFile,
  { dataset, before, end }: { dataset: Dataset<unknown>; before: number; end: number },
): Promise<number> {
  const where = (time: number) => `WHERE timestamp < ${timeLiteral(time)}`;
  const slices = await file.use(
    "delete",
    (session) => findSlices(session, dataset, { where: where(before), maxRows: STEP_ROWS }),
  );
  let deleted = 0;
  for (const slice of slices) {
    const sql = `DELETE FROM ${dataset.name} ${where(slice === slices.at(-1) ? before : slice.end)}`;
    deleted += await file.change("delete", (session) => session.execute(sql));
    if (performance.now() >= end) break;
  }
  await file.change("delete", (session) => {
    const before = (age: number) => timeLiteral(Date.now() - age);
    return session.execute(
      `DELETE FROM ledger WHERE committed_at < ${before(LEDGER_DAYS * DAY_MS)}; ` +
        `DELETE FROM requests WHERE stored_at < ${before(REQUEST_HOURS * HOUR_MS)}`,
    );
  });
  // The rows are gone even if a reader holds up the rest: the next cleanup does it.
  if (file.path !== "") await file.change("vacuum", compact).catch(() => {});
  return deleted;
}

/**
 * Frees disk space. DuckDB reuses free space, but truncates only the end of the file. If more than half is free, rewrites
 * the tables into it, one after the other, so that the end becomes free. Rewrites empty tables too, as their metadata may
 * be at the end.
 */
async function compact(session: DuckdbSession): Promise<void> {
  await session.execute("CHECKPOINT");
  const { bytes, free } = await sizeOf(session);

  if (free < MIN_FREE_BYTES || free < bytes / 2) return;
  const tables = await session.query(
    "SELECT table_name, sql FROM duckdb_tables() WHERE NOT temporary AND index_count = 0",
  ) as [string, string][];

  for (const [name, sql] of tables) {
    await session.transaction(async () => {
      await session.execute(sql.replace(`CREATE TABLE ${name}`, `CREATE TABLE compact_${name}`));
      await session.execute(`INSERT INTO compact_${name} SELECT * FROM ${name}`);
      await session.execute(`DROP TABLE ${name}`);
      await session.execute(`ALTER TABLE compact_${name} RENAME TO ${name}`);
    });
  }
  await session.execute("CHECKPOINT");
}

/** The bytes of a file, and those of them that are free. */
export async function sizeOf(session: DuckdbSession): Promise<{ bytes: number; free: number }> {
  const [[blocks, size, free]] = await session.query(
    "SELECT total_blocks, block_size, free_blocks FROM pragma_database_size() WHERE database_name = current_database()",
  ) as number[][];
  return { bytes: blocks * size, free: free * size };
}
