import { RingBuffer } from "../src/records/ring_buffer.ts";
import { assertEquals } from "./assert.ts";

Deno.test("RingBuffer keeps the newest records, oldest first", () => {
  const ring = new RingBuffer<number>(3);
  assertEquals([1, 2, 3, 4, 5].map((value) => ring.push(value)), [0, 0, 0, 1, 1]);
  assertEquals(ring.values(), [3, 4, 5]);
  assertEquals(ring.length, 3);
});

Deno.test("RingBuffer forgets the key of a record that made way", () => {
  const ring = new RingBuffer<string>(2, (text) => text[0]);
  for (const value of ["a1", "b1", "c1"]) ring.push(value);
  assertEquals([ring.has("a2"), ring.has("b2"), ring.has("c2")], [false, true, true]);
  ring.replace("b2");
  assertEquals(ring.values(), ["b2", "c1"]);
});

Deno.test("RingBuffer.remove() keeps the rest in order and goes on filling", () => {
  const ring = new RingBuffer<number>(4, String);
  for (const value of [1, 2, 3, 4, 5, 6]) ring.push(value);
  assertEquals(ring.remove((value) => value % 2 === 1), 2);
  for (const value of [7, 8, 9]) ring.push(value);
  assertEquals(ring.values(), [6, 7, 8, 9]);
  assertEquals([ring.has(4), ring.has(6)], [false, true]);
});
