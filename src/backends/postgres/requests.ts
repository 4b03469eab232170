import { idsOf, type Range, StoredPositions } from "../../pipeline/members.ts";
import type { Member } from "../../pipeline/sink.ts";
import type { DatasetName } from "../../records/dataset.ts";
import type { PostgresSession } from "./pool.ts";

/** The requests of a JSON array, the first parameter of the statement, as rows named `r`. */
const REQUESTS = "json_to_recordset($1::text::json) AS r (request_id text, ranges text)";

/**
 * Adds the members of a batch to what is stored of their requests, in the transaction of the batch. Locks the requests in
 * the order of their ids, so that two processes that store parts of the same requests wait for each other in turn.
 *
 * @returns The indexes of its records that are stored already.
 */
export async function addMembers(
  session: PostgresSession,
  dataset: DatasetName,
  members: readonly Member[],
): Promise<ReadonlySet<number>> {
  const fresh = new StoredPositions(idsOf(members).map((id) => [id, []]));
  fresh.add(members);
  const rows = await session.query(
    `INSERT INTO requests (request_id, dataset, ranges) SELECT request_id, '${dataset}', ranges FROM ${REQUESTS} ` +
      "ON CONFLICT (request_id, dataset) DO UPDATE SET ranges = requests.ranges " + // locks it
      "RETURNING request_id, CASE WHEN xmax = 0 THEN '[]' ELSE ranges END", // 0 in a row that was inserted
    [json(fresh)],
  );
  const stored = new StoredPositions(rows.map(([id, ranges]) => [id!, JSON.parse(ranges!) as Range[]]));
  const known = stored.add(members);
  const isLocked = new Set(rows.filter(([, ranges]) => ranges !== "[]").map(([id]) => id));
  const extended = stored.changed.filter(([id]) => isLocked.has(id));
  if (extended.length > 0) {
    await session.query(
      `UPDATE requests SET ranges = r.ranges FROM ${REQUESTS} ` +
        `WHERE requests.request_id = r.request_id AND dataset = '${dataset}'`,
      [json({ changed: extended })],
    );
  }
  return known;
}

/** Requests as rows, in the order of their ids. */
function json({ changed }: Pick<StoredPositions, "changed">): string {
  return JSON.stringify(
    changed.map(([request_id, ranges]) => ({ request_id, ranges: JSON.stringify(ranges) })),
  );
}
