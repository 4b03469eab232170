import { mapSlices, sortSlices } from "../src/records/slices.ts";
import { assertEquals } from "./assert.ts";
import { Chance } from "./faults/chance.ts";

Deno.test("sortSlices() sorts as Array.sort() does, and keeps the order of equal items", async () => {
  const chance = new Chance(5);
  for (const length of [0, 1, 512, 513, 1_024, 5_000]) {
    const items = Array.from({ length }, (_, i) => ({ key: chance.between(0, 60), i }));
    const compare = (a: { key: number }, b: { key: number }) => a.key - b.key;
    assertEquals(await sortSlices(items, compare), items.toSorted(compare));
  }
});

Deno.test("mapSlices() keeps the order of items", async () => {
  const items = Array.from({ length: 1_300 }, (_, i) => i);
  assertEquals(await mapSlices(items, (item) => 2 * item), items.map((item) => 2 * item));
  assertEquals(await mapSlices([], String), []);
});
