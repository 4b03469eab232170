import { RingBuffer } from "../src/records/ring_buffer.ts";
import { assertEquals } from "./assert.ts";

Deno.test("RingBuffer keeps the newest records, oldest first", () => {
  const ring = new RingBuffer<number>({ maxRecords: 3 });
  assertEquals([1, 2, 3, 4, 5].map((value) => ring.push(value)), [0, 0, 0, 1, 1]);
  assertEquals(ring.values(), [3, 4, 5]);
  assertEquals(ring.length, 3);
});

Deno.test("RingBuffer removes the key of an evicted record", () => {
  const ring = new RingBuffer<string>({ maxRecords: 2, keyOf: (text) => text[0] });
  for (const value of ["a1", "b1", "c1"]) ring.push(value);
  assertEquals([ring.has("a2"), ring.has("b2"), ring.has("c2")], [false, true, true]);
  ring.replace("b2");
  assertEquals(ring.values(), ["b2", "c1"]);
});

Deno.test("RingBuffer.remove() keeps the order of the rest", () => {
  const ring = new RingBuffer<number>({ maxRecords: 4, keyOf: String });
  for (const value of [1, 2, 3, 4, 5, 6]) ring.push(value);
  assertEquals(ring.remove((value) => value % 2 === 1), 2);
  for (const value of [7, 8, 9]) ring.push(value);
  assertEquals(ring.values(), [6, 7, 8, 9]);
  assertEquals([ring.has(4), ring.has(6)], [false, true]);
});

Deno.test("RingBuffer evicts the oldest records when their size exceeds its bound", () => {
  const ring = new RingBuffer<string>({ maxRecords: 4, maxBytes: 20, keyOf: (text) => text[0] });
  assertEquals(["a", "b", "c"].map((text) => ring.push(text, 3)), [0, 0, 0]);
  assertEquals(ring.push("d", 7), 2);
  assertEquals([ring.values(), ring.has("b"), ring.has("c")], [["c", "d"], false, true]);
  assertEquals(ring.push("e", 100), 2); // one record is always kept
  assertEquals(ring.push("f", 1), 1);
  for (const text of ["g", "h", "i", "j"]) ring.push(text, 1);
  assertEquals(ring.values(), ["g", "h", "i", "j"]);
});

Deno.test("RingBuffer evicts the oldest records when a replacement is larger", () => {
  const ring = new RingBuffer<string>({ maxRecords: 4, maxBytes: 20, keyOf: (text) => text[0] });
  for (const text of ["a", "b", "c"]) ring.push(text, 3);
  assertEquals(ring.replace("c2", 5), 1);
  assertEquals(ring.replace("c3", 1), 0);
  assertEquals(ring.push("d", 6), 0);
  assertEquals(ring.values(), ["b", "c3", "d"]);
  assertEquals(ring.remove((text) => text === "b"), 1);
  assertEquals(ring.push("e", 3), 0);
  assertEquals(ring.push("f", 1), 1);
});
