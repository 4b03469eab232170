import type { Backend } from "../backends/backend.ts";
import { countingChange } from "../backends/change_count.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import { DAY_MS } from "../records/calendar.ts";
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { TransferError } from "./transfer_error.ts";

/**
 * Deletes the records that a query finds, oldest first, a day in each transaction, so that other writers get their turn.
 *
 * @throws {BackendError} If a step failed; what was deleted before it stays deleted.
 */
export async function deleteRecords(
  backend: Pick<Backend, "aggregate" | "deleteMatching">,
  dataset: Dataset<unknown>,
  query: RecordQuery,
): Promise<number> {
  if (!backend.deleteMatching) {
    throw new TransferError("Cannot delete: the backend has no such deletion.", {
      code: "UNSUPPORTED_FORMAT",
    });
  }
  let deleted = 0;
  let rest: RecordQuery = { ...query, limit: undefined };
  for (;;) {
    const [{ values: [oldest] }] = await backend.aggregate(dataset, rest, {
      groupBy: [],
      measures: [{ function: "min", field: "timestamp" }],
    });
    if (oldest === null) return deleted;
    const startTime = oldest as number;
    const endTime = Math.min(startTime + DAY_MS, query.endTime ?? Infinity);
    const step: RecordQuery = { ...rest, startTime, endTime };
    deleted += await countingChange(backend, retryBriefly(() => backend.deleteMatching!(dataset, step)));
    rest = { ...rest, startTime: endTime };
    if (query.endTime !== undefined && endTime >= query.endTime) return deleted;
  }
}
