import { openBackend } from "../src/open_backend.ts";
import type { Backend } from "../src/backends/backend.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { deviceMetrics } from "../src/records/device_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { allocateCosts, type AllocationQuery, divide } from "../src/views/allocation.ts";
import { assertEquals } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";
import { Chance } from "./faults/chance.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

Deno.test("divide() gives parts that add up, by largest remainder", () => {
  assertEquals(divide(10n, [1n, 1n, 1n]), [4n, 3n, 3n]);
  assertEquals(divide(-10n, [1n, 1n, 1n]), [-4n, -3n, -3n]);
  assertEquals(divide(11n, [1n, 2n, 4n]), [2n, 3n, 6n]); // 1.57, 3.14, 6.28
  assertEquals(divide(7n, [0n, 0n]), [7n, 0n]);
  assertEquals(divide(5n, []), []);
  const chance = new Chance(3);
  for (let round = 0; round < 500; round++) {
    const weights = Array.from({ length: chance.between(1, 9) }, () => BigInt(chance.between(0, 1_000)));
    const amount = BigInt(chance.between(-1e9, 1e9)) * 10n ** 9n + BigInt(chance.between(0, 1e9));
    const parts = divide(amount, weights);
    assertEquals(parts.reduce((sum, part) => sum + part, 0n), amount);
    const total = weights.reduce((sum, weight) => sum + weight, 0n);
    if (total === 0n) continue;
    for (const [i, part] of parts.entries()) {
      const off = part * total - amount * weights[i];
      assertEquals(off < total && off > -total, true);
    }
  }
});

/** An hour of samples of a device, one each minute. */
const samples = (nodeId: string, deviceId: string, of: (minute: number) => object) =>
  Array.from({ length: 60 }, (_, minute) => ({
    clusterId: "prod",
    nodeId,
    deviceId,
    timestamp: NEW_YEAR + minute * 60_000,
    ...of(minute),
  }));

async function fill(backend: Backend): Promise<void> {
  await write(backend, deviceMetrics, [
    // gpu-0: half the time at 80 % for nlp, half at 20 % for vision
    ...samples(
      "n1",
      "gpu-0",
      (minute) =>
        minute < 30
          ? { utilization: 80, labels: { team: "nlp" } }
          : { utilization: 20, labels: { team: "vision" } },
    ),
    // gpu-1: never used
    ...samples("n1", "gpu-1", () => ({ utilization: 0 })),
  ]);
  await write(backend, costEntries, [
    costEntry({ entryId: "a", resourceId: "n1", amount: "10", basis: "estimated" }),
    costEntry({ entryId: "b", resourceId: "n1", amount: "1", currency: "EUR", basis: "estimated" }),
    costEntry({ entryId: "c", resourceId: "gpu-0", amount: "0.000000000000000001", basis: "estimated" }),
    costEntry({ entryId: "d", resourceId: "storage", amount: "3", basis: "estimated" }),
    costEntry({ entryId: "e", resourceId: "n1", amount: "99", basis: "billed" }),
  ]);
  await write(backend, usageRecords, [
    {
      usageId: "u1",
      timestamp: NEW_YEAR,
      inputTokens: 900_000,
      outputTokens: 100_000,
      tags: { team: "nlp" },
    },
    { usageId: "u2", timestamp: NEW_YEAR, inputTokens: 3, tags: { team: "vision" } },
  ]);
}

const RANGE = { startTime: NEW_YEAR, endTime: NEW_YEAR + DAY, by: "team" };
const costs = async (backend: Backend, query: Partial<AllocationQuery> = {}, currency = "USD") =>
  Object.fromEntries(
    (await allocateCosts(backend, { ...RANGE, ...query })).rows.filter((row) => row.currency === currency)
      .map(({ group, isIdle, cost }) => [isIdle ? "idle" : String(group), cost]),
  );

async function answers(backend: Backend): Promise<void> {
  await fill(backend);
  // Each GPU costs 5; of gpu-0 40 % are used by nlp, 10 % by vision. The 10⁻¹⁸ of gpu-0 goes to the greatest rest: idle.
  assertEquals(await costs(backend), { nlp: "2", vision: "0.5", idle: "7.500000000000000001" });
  assertEquals(await costs(backend, { method: "time" }), {
    nlp: "2.500000000000000001",
    vision: "2.5",
    idle: "5",
  });
  assertEquals(await costs(backend, { method: "even" }), {
    nlp: "2.500000000000000001",
    vision: "2.5",
    idle: "5",
  });
  assertEquals(await costs(backend, { basis: "billed" }), { nlp: "19.8", vision: "4.95", idle: "74.25" });
  assertEquals(await costs(backend, {}, "EUR"), { nlp: "0.2", vision: "0.05", idle: "0.75" });
  const { totals, unallocated, rows } = await allocateCosts(backend, RANGE);
  assertEquals(totals, { EUR: "1", USD: "10.000000000000000001" });
  assertEquals(unallocated, { USD: "3" });
  assertEquals(rows.filter(({ currency }) => currency === "USD").map((row) => row.costPerMillionTokens), [
    "2",
    "166666.666666666666666667",
    undefined,
  ]);
}

Deno.test("allocateCosts() divides by use, time or evenly, idle apart, exactly", async (t) => {
  for (const connectionString of ["memory://", "sqlite://"]) {
    await t.step(connectionString, async () => {
      const backend = await openBackend(
        connectionString === "memory://" ? { backend: "memory" } : { connectionString },
      );
      await answers(backend);
      await backend.close();
    });
  }
});

Deno.test("allocateCosts() gives the same from PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  const backend = await openBackend({ connectionString: database.url });
  await answers(backend);
  await backend.close();
});
