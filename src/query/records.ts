import type { Dataset } from "../records/dataset.ts";
import { acceptQuery, type RecordQuery } from "../records/query.ts";
import { type Arguments, type Option, optionsOf } from "./arguments.ts";
import { readCount, readName } from "./option_values.ts";
import { readSelection, selectionOptions } from "./selection.ts";

/** The most records of an answer that names no limit. */
export const DEFAULT_LIMIT = 100;

const LIMIT_OPTIONS: readonly Option[] = optionsOf({
  "limit N": `at most N records (default ${DEFAULT_LIMIT}; 0 for all), or groups (default all)`,
  "order ORDER":
    "records: newest (desc, default) or oldest first (asc); groups: largest first (desc), asc, or name",
});

/** Options that ask for records of any dataset. */
export const RECORD_OPTIONS: readonly Option[] = recordOptions();

/** Options that ask for records: of any dataset, or of one. */
export function recordOptions(dataset?: Dataset<unknown>): Option[] {
  return [...selectionOptions(dataset), ...LIMIT_OPTIONS];
}

/**
 * Reads a query for records.
 *
 * @throws {UsageError} If an option is wrong.
 * @throws {ValidationError} If a condition is wrong.
 */
export function readRecordQuery(
  given: Arguments,
  dataset: Dataset<unknown>,
  defaultLimit: number = DEFAULT_LIMIT,
): RecordQuery {
  const asked = readSelection(given, dataset);
  asked.order = readName("order", given.text("order") ?? "desc", ["asc", "desc"]);
  const limit = readCount("limit", given.text("limit") ?? String(defaultLimit), 0);
  if (limit > 0) asked.limit = limit;
  return acceptQuery(dataset, asked);
}
