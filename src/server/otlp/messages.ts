/**
 * Messages of OTLP 1.x, as far as they are used.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  BYTES,
  type Codec,
  type Decoded,
  DOUBLE,
  entries,
  FIXED,
  FIXED64,
  list,
  Message,
  numberFrom,
  one,
  SFIXED,
  TEXT,
  textFrom,
  UINT,
  VARINT,
} from "../protobuf.ts";

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
    return String(BigInt(source.readFixed32()) * 2n ** 32n + BigInt(low));
  },
  fromJson: (value) => typeof value === "string" ? value : String(numberFrom(value)),
};

/** An id, as hexadecimal digits in lower case. */
const ID: Codec<string> = {
  wire: BYTES,
  fromBytes: (source, limit) => Buffer.from(source.readSlice(limit)).toString("hex"),
  fromJson: (value) => textFrom(value).toLowerCase(),
};

/** An integer of 64 bits with all of its digits. */
const INTEGER: Codec<number | string> = {
  wire: VARINT,
  fromBytes(source) {
    const start = source.pos;
    const number = source.readVarint(true);
    if (Number.isSafeInteger(number)) return number;
    let value = 0n;
    for (let i = start; i < source.pos; i++) {
      value |= BigInt(source.buf[i] & 0x7f) << BigInt(7 * (i - start));
    }
    return String(BigInt.asIntN(64, value));
  },
  fromJson(value) {
    const number = numberFrom(value);
    return Number.isSafeInteger(number) || typeof value !== "string" ? number : value;
  },
};

/** Bytes in base64, as JSON has them. */
const BASE64: Codec<string> = {
  wire: BYTES,
  fromBytes: (source, limit) => Buffer.from(source.readSlice(limit)).toString("base64"),
  fromJson: textFrom,
};

/** A value of any type, without its type. */
const ANY: Codec<unknown> = {
  wire: BYTES,
  fromBytes: (source, limit) => valueOf(VALUE.fromBytes(source, limit)),
  fromJson: (value, source) => valueOf(VALUE.fromJson(value ?? {}, source)),
};

/** A value in the field of its type. */
const VALUE = new Message({
  1: one("stringValue", TEXT),
  2: one("boolValue", FLAG),
  3: one("intValue", INTEGER),
  4: one("doubleValue", DOUBLE),
  5: one("arrayValue", new Message({ 1: list("values", ANY) })),
  6: one("kvlistValue", new Message({ 1: entries("values", ANY) })),
  7: one("bytesValue", BASE64),
});

function valueOf(
  { stringValue, boolValue, intValue, doubleValue, arrayValue, kvlistValue, bytesValue }: Decoded<
    typeof VALUE
  >,
): unknown {
  return stringValue ?? boolValue ?? intValue ?? doubleValue ?? (arrayValue && (arrayValue.values ?? [])) ??
    (kvlistValue && (kvlistValue.values ?? {})) ?? bytesValue ?? "";
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

/** Attributes, all of them as text. */
export type Attributes = Readonly<Record<string, string>>;
const attributes = entries("attributes", ANY_TEXT);

const RESOURCE = new Message({ 1: attributes });

/** Times are epoch milliseconds; 0 where not known. */
const TIMES = { 2: one("startTimeUnixNano", TIME), 3: one("timeUnixNano", TIME) };
/** A point of a gauge or a sum. */
const NUMBER_POINT = new Message({
  ...TIMES,
  4: one("asDouble", DOUBLE),
  6: one("asInt", SFIXED),
  7: attributes,
  8: one("flags", UINT),
});
const MEASURES = { ...TIMES, 4: one("count", FIXED), 5: one("sum", DOUBLE) };
const HISTOGRAM_POINT = new Message({
  ...MEASURES,
  6: list("bucketCounts", FIXED),
  7: list("explicitBounds", DOUBLE),
  9: attributes,
  10: one("flags", UINT),
});
const EXPONENTIAL_POINT = new Message({
  ...MEASURES,
  1: attributes,
  10: one("flags", UINT),
});
const QUANTILE = new Message({ 1: one("quantile", DOUBLE), 2: one("value", DOUBLE) });
const SUMMARY_POINT = new Message({
  ...MEASURES,
  6: list("quantileValues", QUANTILE),
  7: attributes,
  8: one("flags", UINT),
});

/** Points of one kind; the temporality is 1 for deltas, 2 for cumulative values. */
function points<T>(point: Codec<T>) {
  return new Message({ 1: list("dataPoints", point), 2: one("aggregationTemporality", UINT) });
}

const METRIC = new Message({
  1: one("name", TEXT),
  5: one("gauge", points(NUMBER_POINT)),
  7: one("sum", points(NUMBER_POINT)),
  9: one("histogram", points(HISTOGRAM_POINT)),
  10: one("exponentialHistogram", points(EXPONENTIAL_POINT)),
  11: one("summary", points(SUMMARY_POINT)),
});

/** The message of `/v1/metrics`. */
export const METRICS_REQUEST = new Message({
  1: list(
    "resourceMetrics",
    new Message({
      1: one("resource", RESOURCE),
      2: list("scopeMetrics", new Message({ 2: list("metrics", METRIC) })),
    }),
  ),
});

/** Times are nanoseconds, as decimal digits. */
const SPAN = new Message({
  1: one("traceId", ID),
  2: one("spanId", ID),
  4: one("parentSpanId", ID),
  5: one("name", TEXT),
  7: one("startTimeUnixNano", NANOSECONDS),
  8: one("endTimeUnixNano", NANOSECONDS),
  9: attributes,
});

/** The message of `/v1/traces`. */
export const TRACES_REQUEST = new Message({
  1: list(
    "resourceSpans",
    new Message({
      1: one("resource", RESOURCE),
      2: list("scopeSpans", new Message({ 2: list("spans", SPAN) })),
    }),
  ),
});

export type MetricsRequest = Decoded<typeof METRICS_REQUEST>;
/** A metric with points of one kind. */
export type Metric = Decoded<typeof METRIC>;
/** A point of a gauge or a sum. */
export type NumberPoint = Decoded<typeof NUMBER_POINT>;
/** A point of a histogram of either kind, or of a summary. */
export type HistogramPoint = Decoded<typeof HISTOGRAM_POINT> & Decoded<typeof SUMMARY_POINT>;
/** A request of spans. */
export type TracesRequest = Decoded<typeof TRACES_REQUEST>;
