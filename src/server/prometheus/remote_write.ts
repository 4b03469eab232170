/**
 * Requests of Prometheus remote write, versions 1.0 and 2.0.
 *
 * @module
 */
import { snappyUncompress } from "hyparquet/src/snappy.js";
import type { Sample } from "../../transfer/prometheus.ts";
import type { BodyAccount } from "../body.ts";
import { asBodyError, BodyError, Source } from "../protobuf.ts";

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

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

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
  if (length > maxBytes) {
    throw new BodyError(
      `The body has more than ${maxBytes} bytes as decompressed. Send it in smaller parts.`,
      "BODY_TOO_LARGE",
    );
  }
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

/** Reads a request, decompressed. */
export function readWriteRequest(bytes: Uint8Array, version: 1 | 2): WriteRequest {
  const request = new RequestReader(bytes);
  try {
    return version === 1 ? request.readFirst() : request.readSecond();
  } catch (error) {
    throw asBodyError(error);
  }
}

/** Bits of the stale marker, a NaN that ends a series. */
const STALE_HIGH = 0x7ff00000;
const STALE_LOW = 2;

/** Reads the messages of a request. */
class RequestReader {
  readonly #source: Source;
  readonly #end: number;
  readonly #samples: Sample[] = [];
  #stale = 0;
  #nameless = 0;
  readonly #histograms = new Map<string, number>();

  constructor(bytes: Uint8Array) {
    this.#source = new Source(bytes);
    this.#end = bytes.length;
  }

  /** Reads `prometheus.WriteRequest`. */
  readFirst(): WriteRequest {
    this.#source.readUntil(this.#end, (number, wire) => {
      if (number !== 1 || wire !== BYTES) return false;
      const labels: Record<string, string> = {};
      const end = this.#source.endOf(this.#end);
      const series = this.#readSeries(end, {
        histograms: 4,
        readLabel: (wire) => this.#readLabel(wire, end, labels),
      });
      this.#add(labels, series);
      return true;
    });
    return this.#result();
  }

  /** Reads `io.prometheus.write.v2.Request`, whose labels are numbers of texts that may come after them. */
  readSecond(): WriteRequest {
    const symbols: string[] = [];
    const all: { refs: number[]; series: Series }[] = [];
    this.#source.readUntil(this.#end, (number, wire) => {
      if (wire !== BYTES || (number !== 4 && number !== 5)) return false;
      if (number === 4) symbols.push(this.#source.readText(this.#end));
      else {
        const refs: number[] = [];
        const end = this.#source.endOf(this.#end);
        const series = this.#readSeries(end, {
          histograms: 3,
          readLabel: (wire) => this.#readRefs(wire, end, refs),
        });
        all.push({ refs, series });
      }
      return true;
    });
    for (const { refs, series } of all) this.#add(labelsOf(refs, symbols), series);
    return this.#result();
  }

  #result(): WriteRequest {
    return {
      samples: this.#samples,
      stale: this.#stale,
      nameless: this.#nameless,
      histograms: this.#histograms,
    };
  }

  /** Reads a series, of which field 1 has the labels and field 2 the samples. */
  #readSeries(
    end: number,
    { histograms, readLabel }: { histograms: number; readLabel: (wire: number) => boolean },
  ): Series {
    const series: Series = { points: [], histograms: 0 };
    this.#source.readUntil(end, (number, wire) => {
      if (number === 1) return readLabel(wire);
      if (number === histograms) series.histograms++;
      if (number !== 2 || wire !== BYTES) return false;
      const point = this.#readSample(end);
      if (point) series.points.push(point);
      return true;
    });
    return series;
  }

  #readLabel(wire: number, limit: number, labels: Record<string, string>): boolean {
    if (wire !== BYTES) return false;
    const source = this.#source;
    const end = source.endOf(limit);
    let name = "";
    let value = "";
    source.readUntil(end, (number, wire) => {
      if (wire !== BYTES || number > 2) return false;
      if (number === 1) name = source.readText(end);
      else value = source.readText(end);
      return true;
    });
    labels[name] = value;
    return true;
  }

  #readRefs(wire: number, limit: number, refs: number[]): boolean {
    if (wire === VARINT) refs.push(this.#source.readVarint());
    else if (wire === BYTES) {
      const end = this.#source.endOf(limit);
      while (this.#source.pos < end) refs.push(this.#source.readVarint());
    } else return false;
    return true;
  }

  /** Reads a sample; undefined for a stale marker. */
  #readSample(limit: number): Point | undefined {
    const source = this.#source;
    const end = source.endOf(limit);
    const point: Point = { value: 0, timestamp: 0 };
    let isStale = false;
    source.readUntil(end, (number, wire) => {
      if (number === 1 && wire === FIXED64) {
        isStale = source.dataView.getUint32(source.pos, true) === STALE_LOW &&
          source.dataView.getUint32(source.pos + 4, true) === STALE_HIGH;
        point.value = source.readDouble();
      } else if (number === 2 && wire === VARINT) point.timestamp = source.readVarint(true);
      else if (number === 3 && wire === VARINT) point.start = source.readVarint(true) || undefined;
      else return false;
      return true;
    });
    if (isStale) this.#stale++;
    return isStale ? undefined : point;
  }

  #add(labels: Record<string, string>, { points, histograms }: Series): void {
    const { __name__: name, ...rest } = labels;
    if (name === undefined) return void (this.#nameless += points.length + histograms);
    if (histograms > 0) this.#histograms.set(name, (this.#histograms.get(name) ?? 0) + histograms);
    for (const point of points) this.#samples.push({ name, labels: rest, ...point });
  }
}

/** A sample without its series. */
interface Point {
  value: number;
  timestamp: number;
  start?: number;
}

/** Samples of a series, and the number of its native histograms. */
interface Series {
  readonly points: Point[];
  histograms: number;
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
