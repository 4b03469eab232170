/**
 * Messages of OTLP 1.x, as far as they are used.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { BodyError, type Codec, entries, list, Message, one, type Source } from "../protobuf.ts";

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const TWO_32 = 2 ** 32;

function numberFrom(value: unknown): number {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number === "number" && (number === number || value === "NaN")) return number;
  throw new BodyError("The JSON has a value of another type in place of a number. Correct it.");
}

function textFrom(value: unknown): string {
  if (typeof value === "string") return value;
  throw new BodyError("The JSON has a value of another type in place of a string. Correct it.");
}

const TEXT: Codec<string> = {
  wire: BYTES,
  fromBytes: (source, limit) => source.readText(limit),
  fromJson: textFrom,
};

const DOUBLE: Codec<number> = {
  wire: FIXED64,
  fromBytes: (source) => source.readDouble(),
  fromJson: numberFrom,
};

const COUNT: Codec<number> = {
  wire: FIXED64,
  fromBytes: (source) => source.readFixed64(),
  fromJson: numberFrom,
};

const SIGNED: Codec<number> = {
  wire: FIXED64,
  fromBytes: (source) => source.readSFixed64(),
  fromJson: numberFrom,
};

const SMALL: Codec<number> = {
  wire: VARINT,
  fromBytes: (source) => source.readVarint(),
  fromJson: numberFrom,
};

const FLAG: Codec<boolean> = {
  wire: VARINT,
  fromBytes: (source) => source.readVarint() !== 0,
  fromJson: (value) => value === true,
};

/** A time in nanoseconds as whole epoch milliseconds. */
const TIME: Codec<number> = {
  wire: FIXED64,
  fromBytes(source) {
    const low = source.readFixed32();
    const high = source.readFixed32();
    // 2 ** 32 is 4,294 times a million, and 967,296: no step exceeds 2 ** 53.
    return high * 4_294 + Math.floor((high * 967_296 + low) / 1e6);
  },
  fromJson(value) {
    if (typeof value === "string" && /^\d+$/.test(value)) return Number(value.slice(0, -6) || "0");
    return Math.floor(numberFrom(value) / 1e6);
  },
};

/** A time in nanoseconds, with all of its digits. */
const NANOSECONDS: Codec<string> = {
  wire: FIXED64,
  fromBytes(source) {
    const low = source.readFixed32();
    return String(BigInt(source.readFixed32()) * BigInt(TWO_32) + BigInt(low));
  },
  fromJson: (value) => typeof value === "string" ? value : String(numberFrom(value)),
};

/** An id, as hexadecimal digits in lower case. */
const ID: Codec<string> = {
  wire: BYTES,
  fromBytes(source, limit) {
    return Buffer.from(source.readSlice(limit)).toString("hex");
  },
  fromJson: (value) => textFrom(value).toLowerCase(),
};

/** An integer of 64 bits with all of its digits. */
function readInteger(source: Source): number | string {
  const start = source.pos;
  const number = source.readVarint(true);
  if (Number.isSafeInteger(number)) return number;
  let value = 0n;
  for (let i = start; i < source.pos; i++) value |= BigInt(source.buf[i] & 0x7f) << BigInt(7 * (i - start));
  return String(BigInt.asIntN(64, value));
}

/** A value of any type, without its type. */
const ANY: Codec<unknown> = {
  wire: BYTES,
  fromBytes(source, limit) {
    const end = source.endOf(limit);
    let value: unknown = "";
    source.readUntil(end, (number, wire) => {
      if (number === 1 && wire === BYTES) value = source.readText(end);
      else if (number === 2 && wire === VARINT) value = source.readVarint() !== 0;
      else if (number === 3 && wire === VARINT) value = readInteger(source);
      else if (number === 4 && wire === FIXED64) value = source.readDouble();
      else if (number === 5 && wire === BYTES) value = LIST.fromBytes(source, end).values ?? [];
      else if (number === 6 && wire === BYTES) value = MAP.fromBytes(source, end).values ?? {};
      else if (number === 7 && wire === BYTES) {
        value = Buffer.from(source.readSlice(end)).toString("base64");
      } else return false;
      return true;
    });
    return value;
  },
  fromJson(value, source) {
    const { stringValue, boolValue, intValue, doubleValue, arrayValue, kvlistValue, bytesValue } =
      (value ?? {}) as Record<string, unknown>;
    if (stringValue !== undefined) return textFrom(stringValue);
    if (boolValue !== undefined) return boolValue === true;
    if (intValue !== undefined) return integerFrom(intValue);
    if (doubleValue !== undefined) return numberFrom(doubleValue);
    if (arrayValue !== undefined) return LIST.fromJson(arrayValue, source).values ?? [];
    if (kvlistValue !== undefined) return MAP.fromJson(kvlistValue, source).values ?? {};
    return bytesValue === undefined ? "" : textFrom(bytesValue);
  },
};

function integerFrom(value: unknown): number | string {
  const number = numberFrom(value);
  return Number.isSafeInteger(number) || typeof value !== "string" ? number : value;
}

/** A value as text: itself where it is one, else as JSON has it. */
const ANY_TEXT: Codec<string> = {
  wire: BYTES,
  fromBytes: (source, limit) => asText(ANY.fromBytes(source, limit)),
  fromJson: (value, source) => asText(ANY.fromJson(value, source)),
};

function asText(value: unknown): string {
  return typeof value === "string"
    ? value
    : typeof value === "object"
    ? JSON.stringify(value)
    : String(value);
}

/** A key and a value. */
function pair<T>(value: Codec<T>): Codec<readonly [string, T]> {
  const codec = new Message<{ key?: string; value?: T }>({ 1: one("key", TEXT), 2: one("value", value) });
  const toPair = ({ key = "", value = "" as T }: { key?: string; value?: T }) => [key, value] as const;
  return {
    wire: BYTES,
    fromBytes: (source, limit) => toPair(codec.fromBytes(source, limit)),
    fromJson: (value, source) => toPair(codec.fromJson(value, source)),
  };
}

const LIST = new Message<{ values?: unknown[] }>({ 1: list("values", ANY) });
const MAP = new Message<{ values?: Record<string, unknown> }>({ 1: entries("values", pair(ANY)) });

/** Attributes, all of them as text. */
export type Attributes = Readonly<Record<string, string>>;
const attributes = entries("attributes", pair(ANY_TEXT));

/** Attributes of a resource. */
export interface Resource {
  readonly attributes?: Attributes;
}
const RESOURCE = new Message<Resource>({ 1: attributes });

/** Fields of every point. */
export interface Point {
  readonly attributes?: Attributes;
  /** Epoch milliseconds; 0 where not known. */
  readonly startTimeUnixNano?: number;
  readonly timeUnixNano?: number;
  readonly flags?: number;
}

/** A point of a gauge or a sum. */
export interface NumberPoint extends Point {
  readonly asDouble?: number;
  readonly asInt?: number;
}

/** A point of a histogram of either kind, or of a summary. */
export interface HistogramPoint extends Point {
  readonly count?: number;
  readonly sum?: number;
  readonly bucketCounts?: readonly number[];
  readonly explicitBounds?: readonly number[];
  readonly quantileValues?: readonly { quantile?: number; value?: number }[];
}

const TIMES = { 2: one("startTimeUnixNano", TIME), 3: one("timeUnixNano", TIME) };
const NUMBER_POINT = new Message<NumberPoint>({
  ...TIMES,
  4: one("asDouble", DOUBLE),
  6: one("asInt", SIGNED),
  7: attributes,
  8: one("flags", SMALL),
});
const MEASURES = { ...TIMES, 4: one("count", COUNT), 5: one("sum", DOUBLE) };
const HISTOGRAM_POINT = new Message<HistogramPoint>({
  ...MEASURES,
  6: list("bucketCounts", COUNT),
  7: list("explicitBounds", DOUBLE),
  9: attributes,
  10: one("flags", SMALL),
});
const EXPONENTIAL_POINT = new Message<HistogramPoint>({
  ...MEASURES,
  1: attributes,
  10: one("flags", SMALL),
});
const QUANTILE = new Message({ 1: one("quantile", DOUBLE), 2: one("value", DOUBLE) });
const SUMMARY_POINT = new Message<HistogramPoint>({
  ...MEASURES,
  6: list("quantileValues", QUANTILE),
  7: attributes,
  8: one("flags", SMALL),
});

/** Points of one kind. */
export interface Points<P extends Point> {
  readonly dataPoints?: readonly P[];
  /** 1 for deltas, 2 for cumulative values. */
  readonly aggregationTemporality?: number;
  readonly isMonotonic?: boolean;
}

function points<P extends Point>(point: Message<P>): Message<Points<P>> {
  return new Message({
    1: list("dataPoints", point),
    2: one("aggregationTemporality", SMALL),
    3: one("isMonotonic", FLAG),
  });
}

/** A metric. */
export interface Metric {
  readonly name?: string;
  readonly gauge?: Points<NumberPoint>;
  readonly sum?: Points<NumberPoint>;
  readonly histogram?: Points<HistogramPoint>;
  readonly exponentialHistogram?: Points<HistogramPoint>;
  readonly summary?: Points<HistogramPoint>;
}
const METRIC = new Message<Metric>({
  1: one("name", TEXT),
  5: one("gauge", points(NUMBER_POINT)),
  7: one("sum", points(NUMBER_POINT)),
  9: one("histogram", points(HISTOGRAM_POINT)),
  10: one("exponentialHistogram", points(EXPONENTIAL_POINT)),
  11: one("summary", points(SUMMARY_POINT)),
});

/** A request of `/v1/metrics`. */
export interface MetricsRequest {
  readonly resourceMetrics?: readonly {
    readonly resource?: Resource;
    readonly scopeMetrics?: readonly { readonly metrics?: readonly Metric[] }[];
  }[];
}

/** The message of `/v1/metrics`. */
export const METRICS_REQUEST = new Message<MetricsRequest>({
  1: list(
    "resourceMetrics",
    new Message({
      1: one("resource", RESOURCE),
      2: list("scopeMetrics", new Message({ 2: list("metrics", METRIC) })),
    }),
  ),
});

/** A span. */
export interface Span {
  readonly traceId?: string;
  readonly spanId?: string;
  readonly parentSpanId?: string;
  readonly name?: string;
  /** Nanoseconds, as decimal digits. */
  readonly startTimeUnixNano?: string;
  readonly endTimeUnixNano?: string;
  readonly attributes?: Attributes;
}

/** A request of `/v1/traces`. */
export interface TracesRequest {
  readonly resourceSpans?: readonly {
    readonly resource?: Resource;
    readonly scopeSpans?: readonly { readonly spans?: readonly Span[] }[];
  }[];
}

/** The message of `/v1/traces`. */
export const TRACES_REQUEST = new Message<TracesRequest>({
  1: list(
    "resourceSpans",
    new Message({
      1: one("resource", RESOURCE),
      2: list(
        "scopeSpans",
        new Message({
          2: list(
            "spans",
            new Message<Span>({
              1: one("traceId", ID),
              2: one("spanId", ID),
              4: one("parentSpanId", ID),
              5: one("name", TEXT),
              7: one("startTimeUnixNano", NANOSECONDS),
              8: one("endTimeUnixNano", NANOSECONDS),
              9: attributes,
            }),
          ),
        }),
      ),
    }),
  ),
});
