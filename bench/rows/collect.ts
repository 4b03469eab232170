import { Subject } from "../processes.ts";
import type { Family, Row } from "../row.ts";
import type { Order } from "../subject.ts";

const RECORDS = 1_000_000;
const WARM_UP = 0.1;

/** In a process of its own, which is warm. */
async function run(order: (records: number) => Order, records: number): Promise<number> {
  await using subject = Subject.deno();
  await subject.do(order(Math.ceil(records * WARM_UP)));
  return (await subject.do(order(records))).seconds;
}

function row(description: Pick<Row, "name" | "work" | "reach">, ours: (records: number) => Order): Row {
  return {
    ...description,
    against: "an array push of a copied object in a bare loop",
    quantity: "rate",
    records: RECORDS,
    open: () =>
      Promise.resolve({
        ours: (records) => run(ours, records),
        theirs: (records) => run((records) => ({ what: "push", records }), records),
      }),
  };
}

/** Rates of accepting records into memory. */
export const collectRows: Family = {
  name: "collect",
  rows: [
    row(
      { name: "collect-memory", work: "collect into memory, one call a record", reach: { atLeast: 0.25 } },
      (records) => ({ what: "collect", records }),
    ),
    row(
      { name: "sink-memory", work: "the same by `systemMetricsSink()`" },
      (records) => ({ what: "ingest", dataset: "system_metrics", records, config: {} }),
    ),
  ],
};
