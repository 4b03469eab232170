import { PbfWriter } from "pbf";
import snappy from "snappyjs";
import { decompressSnappy, readWriteRequest } from "../src/server/prometheus/remote_write.ts";
import { assert, assertEquals } from "./assert.ts";
import { NEW_YEAR } from "./fixtures.ts";
import { type SeriesInput, writeRemote } from "./remote_writer.ts";

const MAX = 1_000_000;

function codeOf(run: () => unknown): string | undefined {
  try {
    run();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

const SERIES: readonly SeriesInput[] = [
  {
    labels: { __name__: "up", job: "node", instance: "h:9100" },
    samples: [[1, NEW_YEAR], [0.5, NEW_YEAR + 1]],
  },
  { labels: { __name__: "ended", job: "node" }, samples: [[2, NEW_YEAR], ["stale", NEW_YEAR + 1]] },
  { labels: { __name__: "native", job: "node" }, samples: [], histograms: 2 },
  { labels: { job: "node" }, samples: [[1, NEW_YEAR]] },
  { labels: { __name__: "nan" }, samples: [[NaN, NEW_YEAR]] },
];

Deno.test("Remote write 1.0 and 2.0 give the same samples, and drop stale markers", () => {
  for (const version of [1, 2] as const) {
    const { samples, stale, nameless, histograms } = readWriteRequest(writeRemote(version, SERIES), version);
    const labels = { job: "node", instance: "h:9100" };
    assertEquals(samples, [
      { name: "up", labels, value: 1, timestamp: NEW_YEAR },
      { name: "up", labels, value: 0.5, timestamp: NEW_YEAR + 1 },
      { name: "ended", labels: { job: "node" }, value: 2, timestamp: NEW_YEAR },
      { name: "nan", labels: {}, value: NaN, timestamp: NEW_YEAR },
    ]);
    assertEquals([stale, nameless, [...histograms]], [1, 1, [["native", 2]]]);
  }
});

Deno.test("Remote write 2.0 has start times, and symbols after their series", () => {
  const series = [{ labels: { __name__: "c_total" }, samples: [[5, NEW_YEAR + 9, NEW_YEAR]] as const }];
  for (const symbolsLast of [false, true]) {
    const { samples } = readWriteRequest(writeRemote(2, series, { symbolsLast }), 2);
    assertEquals(samples, [{
      name: "c_total",
      labels: {},
      value: 5,
      timestamp: NEW_YEAR + 9,
      start: NEW_YEAR,
    }]);
  }
});

Deno.test("A request of one version that is read as the other has no samples", () => {
  assertEquals(readWriteRequest(writeRemote(2, SERIES), 1).samples, []);
});

Deno.test("A sample that leaves out its zeros, as protobuf may, has them", () => {
  // Field 1 (series) with field 1 (label __name__=n) and field 2 (a sample without fields).
  const bytes = Uint8Array.of(
    0x0a,
    17,
    0x0a,
    13,
    0x0a,
    8,
    ...new TextEncoder().encode("__name__"),
    0x12,
    1,
    0x6e,
  );
  const { samples, stale } = readWriteRequest(Uint8Array.of(...bytes, 0x12, 0), 1);
  assertEquals([samples, stale], [[{ name: "n", labels: {}, value: 0, timestamp: 0 }], 0]);
});

Deno.test("A label without a symbol, or without a value, is refused", () => {
  // Field 5 (series) with field 1 (references 0 and 9, or one alone), field 4 with the empty symbol.
  const twoRefs = Uint8Array.of(0x22, 0, 0x2a, 4, 0x0a, 2, 0, 9);
  const oneRef = Uint8Array.of(0x22, 0, 0x2a, 3, 0x0a, 1, 0);
  assertEquals(codeOf(() => readWriteRequest(twoRefs, 2)), "INVALID_BODY");
  assertEquals(codeOf(() => readWriteRequest(oneRef, 2)), "INVALID_BODY");
});

Deno.test("Snappy blocks are decompressed, and refused before they take the memory they declare", () => {
  for (const text of ["", "a", "ab".repeat(50_000), crypto.randomUUID().repeat(3)]) {
    const bytes = new TextEncoder().encode(text);
    assertEquals(decompressSnappy(snappy.compress(bytes), MAX), bytes);
  }
  const packed = snappy.compress(new Uint8Array(1_000_001));
  assertEquals(codeOf(() => decompressSnappy(packed, MAX)), "BODY_TOO_LARGE");
  const before = Deno.memoryUsage().external;
  const declared = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0); // 4 GiB
  assertEquals(codeOf(() => decompressSnappy(declared, 2 ** 33)), "INVALID_BODY");
  assert(Deno.memoryUsage().external - before < 2 ** 20);
  for (
    const bytes of [[], [0x80], [5, 0], [4, 0xfc, 1], [3, 0x01, 1], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]]
  ) {
    assertEquals(codeOf(() => decompressSnappy(Uint8Array.from(bytes), MAX)), "INVALID_BODY", String(bytes));
  }
});

Deno.test("Small bodies of remote write that become many labels are refused", () => {
  // Field 5 (series) with field 1: references of a byte each.
  const refs = (count: number) => {
    const writer = new PbfWriter();
    writer.writeStringField(4, "");
    writer.writeMessage(5, (_, inner) => inner.writePackedVarint(1, Array(count).fill(0)), undefined);
    return writer.finish();
  };
  assertEquals(codeOf(() => readWriteRequest(refs(100_000), 2)), undefined);
  assertEquals(codeOf(() => readWriteRequest(refs(4_000_002), 2)), "BODY_TOO_LARGE");
  const labels = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`l${i}`, "v"]));
  const series = (samples: number): SeriesInput[] => [
    { labels: { __name__: "m", ...labels }, samples: Array(samples).fill([1, NEW_YEAR]) },
  ];
  for (const version of [1, 2] as const) {
    assertEquals(codeOf(() => readWriteRequest(writeRemote(version, series(4_900)), version)), undefined);
    assertEquals(
      codeOf(() => readWriteRequest(writeRemote(version, series(5_000)), version)),
      "BODY_TOO_LARGE",
    );
  }
});
