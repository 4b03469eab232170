/**
 * Messages of OTLP 1.x, as far as they are used.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  BYTES,
  type Codec,
  DOUBLE,
  entries,
  FIXED64,
  list,
  Message,
  numberFrom,
  one,
  TEXT,
  textFrom,
  VARINT,
} from "../protobuf.ts";

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
interface Value {
  readonly stringValue?: string;
  readonly boolValue?: boolean;
  readonly intValue?: number | string;
  readonly doubleValue?: number;
  readonly arrayValue?: { readonly values?: readonly unknown[] };
  readonly kvlistValue?: { readonly values?: Readonly<Record<string, unknown>> };
  readonly bytesValue?: string;
}
const VALUE = new Message<Value>({
  1: one("stringValue", TEXT),
  2: one("boolValue", FLAG),
  3: one("intValue", INTEGER),
  4: one("doubleValue", DOUBLE),
  5: one("arrayValue", new Message({ 1: list("values", ANY) })),
  6: one("kvlistValue", new Message({ 1: entries("values", ANY) })),
  7: one("bytesValue", BASE64),
});

function valueOf(
  { stringValue, boolValue, intValue, doubleValue, arrayValue, kvlistValue, bytesValue }: Value,
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
