import { acceptQuery, type RecordQuery } from "../records/query.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { Backend, CurrencyTotal } from "./backend.ts";

/** The exact total of each currency, in the order of their names. */
export async function currencyTotals(
  backend: Pick<Backend, "aggregate">,
  query: RecordQuery = acceptQuery(costEntries),
): Promise<CurrencyTotal[]> {
  const rows = await backend.aggregate(costEntries, query, {
    groupBy: [{ field: "currency" }, { field: "basis" }],
    measures: [{ function: "sum", field: "amount" }, { function: "count" }],
  });
  return rows
    .map(({ group: [currency, basis], values: [total, count] }) => ({
      currency: currency!,
      ...(basis === "estimated" ? { basis } as const : {}),
      total: total as string,
      count: count as number,
    }))
    .sort((a, b) => nameOf(a) < nameOf(b) ? -1 : 1);
}

function nameOf({ currency, basis }: CurrencyTotal): string {
  return `${currency} ${basis ?? ""}`;
}
