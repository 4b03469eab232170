import { idsOf, type Range, StoredPositions } from "../../pipeline/members.ts";
import type { Member } from "../../pipeline/sink.ts";
import type { DatasetName } from "../../records/dataset.ts";
import type { SqliteDatabase } from "./driver.ts";

/**
 * Adds the members of a batch to what is stored of their requests, in the transaction of the batch.
 *
 * @returns The indexes of its records that are stored already.
 */
export function addMembers(
  database: SqliteDatabase,
  dataset: DatasetName,
  members: readonly Member[],
): ReadonlySet<number> {
  const select = database.prepare("SELECT ranges FROM requests WHERE request_id = ? AND dataset = ?");
  const upsert = database.prepare(
    "INSERT INTO requests (request_id, dataset, ranges, stored_at) VALUES (?, ?, ?, ?) " +
      "ON CONFLICT (request_id, dataset) DO UPDATE SET ranges = excluded.ranges",
  );
  try {
    const stored = new StoredPositions(
      idsOf(members).map((id) => {
        const [found] = select.all([id, dataset]);
        return [id, found ? JSON.parse(found[0] as string) as Range[] : []];
      }),
    );
    const known = stored.add(members);
    const now = Date.now();
    for (const [id, ranges] of stored.changed) upsert.put([id, dataset, JSON.stringify(ranges), now]);
    return known;
  } finally {
    select.finalize();
    upsert.finalize();
  }
}
