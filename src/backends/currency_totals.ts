import { acceptQuery, type RecordQuery } from "../records/query.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { Backend, CurrencyTotal } from "./backend.ts";

/** The exact total of each currency, in the order of their names. */
export async function currencyTotals(
  backend: Pick<Backend, "aggregate">,
  query: RecordQuery = acceptQuery(costEntries),
): Promise<CurrencyTotal[]> {
  const rows = await backend.aggregate(costEntries, query, {
    groupBy: [{ field: "currency" }],
    measures: [{ function: "sum", field: "amount" }, { function: "count" }],
  });
  return rows
    .map(({ group: [currency], values: [total, count] }) => ({
      currency: currency!,
      total: total as string,
      count: count as number,
    }))
    .sort((a, b) => a.currency < b.currency ? -1 : 1);
}
