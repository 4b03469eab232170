import { aggregateCosts } from "../../aggregation/aggregate.ts";
import type { Backend } from "../../backends/backend.ts";
import type { Budget } from "../../records/budget.ts";
import { costEntries } from "../../records/cost_entry.ts";
import { acceptQuery } from "../../records/query.ts";
import type { WhereCondition } from "../../records/where.ts";

/** A value of a filter that no cost has. */
export interface UnmatchedFilter {
  /** The field or tag. */
  readonly name: string;
  readonly value: string;
  /** Values that costs have; empty for resources, of which there may be millions. */
  readonly known: readonly string[];
}

/** Finds the values in the filters of a budget that no cost has; none where there are no costs at all. */
export async function unmatchedFilters(backend: Backend, budget: Budget): Promise<UnmatchedFilter[]> {
  if (!await hasCosts(backend, [])) return [];
  const found: UnmatchedFilter[] = [];
  for (const { name, value } of filtersOf(budget)) {
    if (await hasCosts(backend, [{ field: name, eq: value }])) continue;
    const groups = name === "resourceId" ? [] : await aggregateCosts(backend, { groupBy: [name] });
    const known = new Set(groups.map(({ group }) => group![name]).filter((known) => known !== null));
    found.push({ name, value, known: [...known] });
  }
  return found;
}

function filtersOf({ categories = [], resourceId, region, tags = {}, where = [] }: Budget) {
  const pairs: [string, unknown][] = [
    ...categories.map((category): [string, unknown] => ["category", category]),
    ["resourceId", resourceId],
    ["region", region],
    ...Object.entries(tags).map(([key, value]): [string, unknown] => [`tags.${key}`, value]),
    ...where.flatMap(({ field, eq, in: list = [] }) =>
      [eq, ...list].map((value): [string, unknown] => [field, value])
    ),
  ];
  return pairs.filter((pair): pair is [string, string] => typeof pair[1] === "string" && isText(pair[0]))
    .map(([name, value]) => ({ name, value }));
}

/** Returns true for a field that costs can be grouped by. */
function isText(name: string): boolean {
  const [field] = name.split(".");
  return costEntries.columns.some((column) =>
    column.field === field && ["text", "map"].includes(column.type) && !costEntries.key.includes(field)
  );
}

async function hasCosts(backend: Backend, where: WhereCondition[]): Promise<boolean> {
  for await (const page of backend.read(costEntries, acceptQuery(costEntries, { where, limit: 1 }))) {
    if (page.length > 0) return true;
  }
  return false;
}
