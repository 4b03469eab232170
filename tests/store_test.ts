import { BackendError } from "../src/errors.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import type { Dataset } from "../src/records/dataset.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { deleteOld } from "../src/monitoring/retention.ts";
import { assertEquals, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { FakeTime } from "./fake_time.ts";
import { NEW_YEAR } from "./fixtures.ts";

const BOTH: readonly Dataset<unknown>[] = [systemMetrics, serviceMetrics];
const DELETIONS = BOTH.map((dataset) => ({ dataset, before: NEW_YEAR + 1 }));

async function filled(): Promise<MemoryBackend> {
  const backend = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  await write(backend, systemMetrics, [{ timestamp: NEW_YEAR }]);
  await write(backend, serviceMetrics, [{ timestamp: NEW_YEAR, serviceName: "api" }]);
  return backend;
}

const failure = (message: string) =>
  new BackendError(message, { code: "LOCKED", operation: "delete", kind: "transient" });

Deno.test("deleteOld() deletes the other datasets when one fails, and rejects with the first failure", async () => {
  for (
    const [failing, left] of [[BOTH.slice(0, 1), [1, 0]], [BOTH.slice(1), [0, 1]], [BOTH, [1, 1]]] as const
  ) {
    const backend = await filled();
    const deleteBefore = backend.deleteBefore.bind(backend);
    backend.deleteBefore = (dataset, ...rest) =>
      failing.includes(dataset) ? Promise.reject(failure(dataset.name)) : deleteBefore(dataset, ...rest);
    const deleting = () => deleteOld(backend, DELETIONS, { dryRun: false });
    await assertRejects(deleting, BackendError, failing[0].name);
    assertEquals(
      [(await read(backend, systemMetrics)).length, (await read(backend, serviceMetrics)).length],
      left,
    );
  }
});

Deno.test("deleteOld() gives each dataset the time that the ones before it have left", async () => {
  using time = new FakeTime();
  const backend = await filled();
  const budgets: (number | undefined)[] = [];
  backend.deleteBefore = async (_dataset, _before, { timeBudgetMs }) => {
    budgets.push(timeBudgetMs);
    await time.pass(600);
    return 0;
  };
  await deleteOld(backend, [...DELETIONS, ...DELETIONS.slice(0, 1)], { dryRun: false, timeBudgetMs: 1_000 });
  assertEquals(budgets, [1_000, 400, -200]); // a step that has begun is ended
  budgets.length = 0;
  await deleteOld(backend, DELETIONS, { dryRun: false });
  assertEquals(budgets, [Infinity, Infinity]);
});

Deno.test("deleteOld() has done its work when old alerts cannot be deleted", async () => {
  const backend = await filled();
  backend.documents.read = () => Promise.reject(failure("no privilege"));
  assertEquals(await deleteOld(backend, DELETIONS, { dryRun: false }), {
    system_metrics: 1,
    service_metrics: 1,
  });
});
