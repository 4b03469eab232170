/** Contract of a backend for batches whose records belong to requests. */
import type { Backend } from "../src/backends/backend.ts";
import type { Member, WriteResult } from "../src/pipeline/sink.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { assertEquals } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";

/** Registers the tests, each with an empty backend. */
export function membersContract(
  test: (title: string, run: (backend: Backend) => Promise<void>) => void,
): void {
  test("stores each position of a request once, however batches are cut", async (backend) => {
    assertEquals(await writeParts(backend, [["a", 0, 4]]), counts(4, 0));
    assertEquals(await writeParts(backend, [["a", 2, 3]]), counts(1, 2));
    assertEquals(await writeParts(backend, [["a", 7, 2]]), counts(2, 0));
    assertEquals(await writeParts(backend, [["a", 0, 10]]), counts(3, 7));
    assertEquals(await writeParts(backend, [["a", 0, 10]]), counts(0, 10));
    assertEquals(await stored(backend), positions("a", 10));
  });

  test("tells requests of one batch apart, and from records without one", async (backend) => {
    assertEquals(await writeParts(backend, [["b", 0, 2], [undefined, 0, 3], ["a", 5, 1]]), counts(6, 0));
    assertEquals(
      await writeParts(backend, [["a", 5, 2], [undefined, 0, 3], ["b", 1, 2], ["a", 6, 1]]),
      counts(5, 3), // the last repeats a position of its own batch
    );
    const expected = [...positions("b", 3), "a5", "a6", ...Array(2).fill(["-0", "-1", "-2"]).flat()];
    assertEquals(await stored(backend), expected.sort());
  });

  test("adds to each of many requests of a batch its new positions, for any ids", async (backend) => {
    const ids = Array.from({ length: 500 }, (_, i) => ["it's", "ü, ')", "\\x"][i % 3] + i);
    assertEquals(await writeParts(backend, ids.slice(0, 300).map((id) => [id, 0, 2])), counts(600, 0));
    assertEquals(await writeParts(backend, ids.map((id) => [id, 1, 2])), counts(300 + 400, 300));
    assertEquals(await writeParts(backend, ids.map((id) => [id, 1, 2])), counts(0, 1_000));
    const expected = ids.flatMap((id, i) => positions(id, 3).slice(i < 300 ? 0 : 1));
    assertEquals(await stored(backend), expected.sort());
  });

  test("returns the first result when a batch with members comes again", async (backend) => {
    await writeParts(backend, [["a", 0, 2]]);
    const id = crypto.randomUUID();
    const first = await writeParts(backend, [["a", 1, 3]], id);
    assertEquals(first, counts(2, 1));
    assertEquals(await writeParts(backend, [["a", 1, 3]], id), { ...first, isReplay: true });
    assertEquals(await stored(backend), positions("a", 4));
  });

  test("knows the requests of each dataset by themselves, and counts keys after positions", async (backend) => {
    await writeParts(backend, [["a", 0, 2]]);
    const cost = (entryId: string) => acceptRecord(costEntries, costEntry({ entryId }));
    const writeCosts = (...ids: string[]) =>
      backend.write({
        id: crypto.randomUUID(),
        dataset: costEntries,
        records: ids.map(cost),
        members: [{ requestId: "a", first: 0, count: ids.length, index: 0 }],
      });
    assertEquals(await writeCosts("x", "y"), counts(2, 0));
    assertEquals(await writeCosts("other", "y", "x", "z"), counts(1, 3)); // two by position, one by key
    assertEquals(await writeCosts("x", "y"), counts(0, 2)); // nothing is left to look up by key
    assertEquals((await read(backend, costEntries)).map(({ entryId }) => entryId).sort(), ["x", "y", "z"]);
  });

  test("stores each position once when processes write parts of requests at once", async (backend) => {
    const requests = Array.from({ length: 100 }, (_, i) => `${i}:`);
    const results = await Promise.all(Array.from({ length: 12 }, (_, writer) => {
      const order = writer % 2 === 0 ? requests : requests.toReversed();
      return writeParts(backend, order.map((id) => [id, writer % 4, 6 + writer % 3]));
    }));
    const committed = results.reduce((sum, { committed }) => sum + committed, 0);
    const duplicates = results.reduce((sum, { duplicates }) => sum + duplicates, 0);
    const all = requests.flatMap((id) => positions(id, 11)); // writer 11 has positions 3 to before 11
    assertEquals([committed, committed + duplicates], [100 * 11, 100 * 12 * 7]);
    assertEquals(await stored(backend), all.sort());
  });
}

/** Parts of a batch: the id of the request if any, the first position, and the number of records. */
type Part = readonly [requestId: string | undefined, first: number, count: number];

/** Writes a batch of records that say where they belong. */
export function writeParts(
  backend: Backend,
  parts: readonly Part[],
  id: string = crypto.randomUUID(),
): Promise<WriteResult> {
  const members: Member[] = [];
  const records = [];
  for (const [requestId, first, count] of parts) {
    if (requestId !== undefined) members.push({ requestId, first, count, index: records.length });
    for (let i = 0; i < count; i++) {
      const nodeId = `${requestId ?? "-"}${first + i}`;
      records.push(acceptRecord(systemMetrics, { timestamp: NEW_YEAR, nodeId }));
    }
  }
  return backend.write({ id, dataset: systemMetrics, records, members });
}

async function stored(backend: Backend): Promise<string[]> {
  return (await read(backend, systemMetrics)).map(({ nodeId }) => nodeId).sort();
}

function positions(requestId: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${requestId}${i}`);
}

function counts(committed: number, duplicates: number): WriteResult {
  return { committed, duplicates, restated: 0 };
}
