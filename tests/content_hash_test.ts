import { costEntries } from "../src/records/cost_entry.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { addHash, ContentHash, hashOf, hexOf } from "../src/transfer/content_hash.ts";
import { assertEquals } from "./assert.ts";
import { costEntry, FULL_COST_ENTRY } from "./fixtures.ts";

const hash = new ContentHash();
const of = (cost: object, source = "csv") => hexOf(hash.update(acceptRecord(costEntries, cost), source));

Deno.test("ContentHash is the same for the same content in any order", () => {
  const { source: _, deliveryId: __, ...cost } = FULL_COST_ENTRY;
  const fields = Object.entries(cost);
  const reversed = Object.fromEntries(
    fields.toReversed().map(([field, value]) => [
      field,
      typeof value === "object" ? Object.fromEntries(Object.entries(value).toReversed()) : value,
    ]),
  );
  assertEquals(of(reversed), of(cost));
  assertEquals(of({ ...cost, source: "a", deliveryId: "b" }), of(cost));
});

Deno.test("ContentHash differs when any field or the source differs", () => {
  const hashes = new Set([of(costEntry()), of(costEntry(), "other")]);
  let count = 2;
  for (const [field, value] of Object.entries(FULL_COST_ENTRY)) {
    if (field === "source" || field === "deliveryId" || field in costEntry()) continue;
    hashes.add(of({ ...costEntry(), [field]: value }));
    count++;
  }
  for (
    const cost of [{ entryId: "e2" }, { resourceId: "a", category: "bc" }, {
      resourceId: "ab",
      category: "c",
    }]
  ) {
    hashes.add(of(costEntry(cost)));
    count++;
  }
  for (const tags of [{ a: "b", c: "d" }, { a: "bc", d: "" }, { ab: "", c: "d" }, { a: "b" }]) {
    hashes.add(of(costEntry({ tags: tags as unknown as Record<string, string> })));
    count++;
  }
  assertEquals(hashes.size, count);
});

Deno.test("ContentHash tells similar rows apart, and their sum has no order", () => {
  const seen = new Set<string>();
  const [sum, reversed] = [new Uint32Array(4), new Uint32Array(4)];
  const count = 200_000;
  const cost = acceptRecord(costEntries, costEntry());
  for (let i = 0; i < count; i++) {
    cost.resourceId = `i-${i}`;
    addHash(sum, hash.update(cost, "csv"));
    seen.add(hexOf(hash.value));
    cost.resourceId = `i-${count - 1 - i}`;
    addHash(reversed, hash.update(cost, "csv"));
  }
  assertEquals(seen.size, count);
  assertEquals(hexOf(sum), hexOf(reversed));
  assertEquals(hexOf(hashOf(hexOf(sum))), hexOf(sum));
  const total = [...seen].reduce((total, text) => (total + BigInt(`0x${text}`)) % (1n << 128n), 0n);
  assertEquals(hexOf(sum), total.toString(16).padStart(32, "0"));
});
