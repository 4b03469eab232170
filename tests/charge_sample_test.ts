import { ChargeSample } from "../src/transfer/charge_sample.ts";
import { assert, assertEquals } from "./assert.ts";
import { Chance } from "./faults/chance.ts";

/** Hashes that differ, from one on. */
function hashes(count: number, seed: number): number[] {
  const chance = new Chance(seed);
  return [...new Set(Array.from({ length: count }, () => Math.floor(chance.next() * 2 ** 32)))];
}

function sampleOf(all: readonly number[]): ChargeSample {
  const sample = new ChargeSample();
  for (const hash of all) sample.add(hash);
  return sample;
}

Deno.test("a ChargeSample is the same in any order, with repetitions, and after it was written", () => {
  const all = hashes(2_000, 1);
  const sample = sampleOf(all);
  assertEquals(String(sampleOf([...all, ...all].reverse())), String(sample));
  assertEquals(String(ChargeSample.parse(String(sample))), String(sample));
  assertEquals(String(sample).length, 8 * 256);
  const few = sampleOf([7, 3, 7]);
  assertEquals(String(few), "0000000300000007");
});

Deno.test("a ChargeSample tells the share of its charges that another has, also of another size", () => {
  const all = hashes(60_000, 2);
  const part = all.slice(0, 3_000);
  assertEquals(sampleOf(part).shareIn(sampleOf(all)), 1);
  assertEquals(sampleOf(part).shareIn(sampleOf(hashes(60_000, 3))), 0);
  const half = sampleOf([...part.slice(0, 1_500), ...hashes(1_500, 4)]);
  const share = half.shareIn(sampleOf(part))!;
  assert(share > 0.35 && share < 0.65, `${share}`);
  assertEquals(sampleOf([1, 2, 3]).shareIn(sampleOf([1, 2, 3])), undefined);
});
