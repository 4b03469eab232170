/**
 * Requests of Prometheus remote write, versions 1.0 and 2.0.
 *
 * @module
 */
import { snappyUncompress } from "hyparquet/src/snappy.js";
import type { Sample } from "../../transfer/prometheus.ts";
import { type BodyAccount, tooLarge } from "../body.ts";
import {
  BodyError,
  BYTES,
  type Codec,
  type Decoded,
  entries,
  FIXED64,
  INT,
  LabelLimit,
  list,
  Message,
  numberFrom,
  one,
  TEXT,
  UINT,
} from "../protobuf.ts";

/** Samples of a request, and counts of its other parts. */
export interface WriteRequest {
  readonly samples: readonly Sample[];
  /** Number of samples that are stale markers, which end a series. */
  readonly stale: number;
  /** Number of samples of series without a name. */
  readonly nameless: number;
  /** Number of native histograms, which are not read, by name. */
  readonly histograms: ReadonlyMap<string, number>;
}

/** Decompresses a snappy block. Checks and counts the declared size before it allocates memory. */
export function decompressSnappy(
  bytes: Uint8Array,
  maxBytes: number,
  account?: Pick<BodyAccount, "take">,
): Uint8Array {
  let length = 0;
  let at = 0;
  for (let factor = 1;; factor *= 128) {
    if (at === bytes.length || at === 5) throw notSnappy();
    const byte = bytes[at++];
    length += (byte & 127) * factor;
    if (byte < 128) break;
  }
  if (length > maxBytes) throw tooLarge(maxBytes, "decompressed");
  // Three bytes decompress to 64 at most: a larger declared size is false, and would only take memory.
  if (length > 22 * bytes.length) throw notSnappy();
  account?.take(length);
  const output = new Uint8Array(length);
  try {
    if (length > 0) snappyUncompress(bytes, output);
  } catch {
    throw notSnappy();
  }
  return output;
}

function notSnappy(): BodyError {
  return new BodyError(
    "The body is not a valid snappy block. Compress it with the block format of snappy.",
  );
}

/** Bits of the stale marker, a NaN that ends a series. */
const [STALE_HIGH, STALE_LOW] = [0x7ff00000, 2];

/** A value; null for a stale marker. */
const VALUE: Codec<number | null> = {
  wire: FIXED64,
  fromBytes(source) {
    const isStale = source.dataView.getUint32(source.pos, true) === STALE_LOW &&
      source.dataView.getUint32(source.pos + 4, true) === STALE_HIGH;
    const value = source.readDouble();
    return isStale ? null : value;
  },
  fromJson: numberFrom,
};
/** A message that is only counted. */
const SKIPPED: Codec<undefined> = {
  wire: BYTES,
  fromBytes: (source, limit) => void source.readSlice(limit),
  fromJson: () => undefined,
};

const samples = list(
  "samples",
  new Message({ 1: one("value", VALUE), 2: one("timestamp", INT), 3: one("start", INT) }),
);

/** `prometheus.WriteRequest`. */
const FIRST = new Message({
  1: list(
    "series",
    new Message({ 1: entries("labels", TEXT), 2: samples, 4: list("histograms", SKIPPED) }),
  ),
});

/** `io.prometheus.write.v2.Request`, whose labels are numbers of texts that may come after them. */
const SECOND = new Message({
  4: list("symbols", TEXT),
  5: list("series", new Message({ 1: list("refs", UINT), 2: samples, 3: list("histograms", SKIPPED) })),
});

/** A series without its labels. */
type Series = Omit<NonNullable<Decoded<typeof FIRST>["series"]>[number], "labels">;

/** Reads a request, decompressed. */
export function readWriteRequest(bytes: Uint8Array, version: 1 | 2): WriteRequest {
  const request = { samples: [], stale: 0, nameless: 0, histograms: new Map(), labels: new LabelLimit() };
  if (version === 1) {
    for (const one of FIRST.decode(bytes, false).series ?? []) add(request, one.labels ?? {}, one);
  } else {
    const { symbols = [], series = [] } = SECOND.decode(bytes, false);
    for (const one of series) add(request, labelsOf(one.refs ?? [], symbols), one);
  }
  return request;
}

function add(
  request: {
    samples: Sample[];
    stale: number;
    nameless: number;
    histograms: Map<string, number>;
    labels: LabelLimit;
  },
  { __name__: name, ...labels }: Readonly<Record<string, string>>,
  { samples = [], histograms = [] }: Series,
): void {
  if (name !== undefined && histograms.length > 0) {
    request.histograms.set(name, (request.histograms.get(name) ?? 0) + histograms.length);
  }
  if (name === undefined) request.nameless += histograms.length;
  request.labels.take(samples.length * (1 + Object.keys(labels).length));
  for (const { value = 0, timestamp = 0, start } of samples) {
    if (value === null) request.stale++;
    else if (name === undefined) request.nameless++;
    else request.samples.push({ name, labels, value, timestamp, ...(start ? { start } : {}) });
  }
}

function labelsOf(refs: readonly number[], symbols: readonly string[]): Record<string, string> {
  if (refs.length % 2 !== 0) throw new BodyError("A series has a label without a value. Update the sender.");
  const labels: Record<string, string> = {};
  for (let i = 0; i < refs.length; i += 2) {
    const [name, value] = [symbols[refs[i]], symbols[refs[i + 1]]];
    if (name === undefined || value === undefined) {
      throw new BodyError("A label refers to a missing symbol. Update the sender.");
    }
    labels[name] = value;
  }
  return labels;
}
