import type { Backend, ReadOptions } from "../../src/backends/backend.ts";
import { COUNTED } from "../../src/backends/postgres.ts";
import type { Aggregation } from "../../src/records/aggregation.ts";
import { costEntries } from "../../src/records/cost_entry.ts";
import { acceptQuery } from "../../src/records/query.ts";
import { systemMetrics } from "../../src/records/system_metrics.ts";
import { assertRejects } from "../assert.ts";
import { write } from "../backend_contract.ts";
import { costEntry, NEW_YEAR } from "../fixtures.ts";
import { Proxy } from "./proxy.ts";

/** More than the buffers of the sockets between a server and a reader hold. */
const ROWS = 60_000;
/** A question that roll-ups answer. */
const TOTALS: Aggregation = {
  groupBy: [{ field: "category" }, { field: "currency" }],
  measures: [{ function: "sum", field: "amount" }],
  mayUseRollUps: true,
};

/**
 * Checks that each read ends with its signal although the server has become silent, wherever it waits.
 *
 * @param backend A backend in which to write records.
 * @param database URL of its database.
 * @param open Opens the database by way of another URL.
 */
export async function assertSilentReadsEnd(
  backend: Backend,
  database: string,
  open: (url: string) => Promise<Backend>,
): Promise<void> {
  const metric = (i: number) => ({
    timestamp: NEW_YEAR + i,
    clusterId: "c",
    nodeId: "n",
    labels: { i: `${i}` },
  });
  await write(backend, systemMetrics, Array.from({ length: ROWS }, (_, i) => metric(i)));
  await write(backend, costEntries, [costEntry()]);
  await using proxy = await Proxy.start(Number(new URL(database).port));
  const url = new URL(proxy.url(database));
  url.searchParams.set("sslmode", "disable"); // else a request to cancel waits for an answer
  const through = await open(url.href);
  const read = (options: ReadOptions) =>
    through.read(systemMetrics, acceptQuery(systemMetrics, {}), options)[Symbol.asyncIterator]();
  const readOne = (options: ReadOptions) => read(options).next();
  const count = (options: ReadOptions) =>
    through.aggregate(systemMetrics, acceptQuery(systemMetrics, {}), COUNTED, options);
  const total = (options: ReadOptions) =>
    through.aggregate(costEntries, acceptQuery(costEntries, {}), TOTALS, options);
  for (const start of [readOne, readOne, count, total]) { // the first waits for the list of partitions
    proxy.stall();
    const gone = new AbortController();
    const reading = assertRejects(() => Promise.resolve(start({ signal: gone.signal })));
    await new Promise((resolve) => setTimeout(resolve, 20)); // the statement is on its way
    gone.abort();
    await reading;
    proxy.resume();
    await start({});
  }
  const gone = new AbortController();
  const pages = read({ signal: gone.signal });
  await pages.next();
  proxy.stall();
  gone.abort();
  await assertRejects(async () => {
    while (!(await pages.next()).done);
  });
  await through.close();
}
