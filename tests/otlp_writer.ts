/**
 * Writes requests of OTLP as protobuf from their JSON form, by the numbers of the fields in the protocol's own files. It
 * shares nothing with the readers.
 *
 * @module
 */
import { PbfWriter } from "pbf";

type Fields = Readonly<Record<string, [number: number, kind: Kind]>>;
type Kind = "text" | "double" | "fixed" | "signed" | "small" | "hex" | "int" | "counts" | "doubles" | Fields;

const value: Record<string, [number, Kind]> = {
  stringValue: [1, "text"],
  boolValue: [2, "small"],
  intValue: [3, "int"],
  doubleValue: [4, "double"],
};
value.arrayValue = [5, { values: [1, value] }];
const attributes: [number, Kind][] = [1, 7, 9].map((
  number,
) => [number, { key: [1, "text"], value: [2, value] }]);
const [resourceAttributes, pointAttributes, histogramAttributes] = attributes;
value.kvlistValue = [6, { values: resourceAttributes }];

const times: Fields = { startTimeUnixNano: [2, "fixed"], timeUnixNano: [3, "fixed"] };
const numberPoint: Fields = {
  ...times,
  asDouble: [4, "double"],
  asInt: [6, "signed"],
  attributes: pointAttributes,
  flags: [8, "small"],
};
const measures: Fields = { ...times, count: [4, "fixed"], sum: [5, "double"] };
const histogramPoint: Fields = {
  ...measures,
  bucketCounts: [6, "counts"],
  explicitBounds: [7, "doubles"],
  attributes: histogramAttributes,
  min: [11, "double"],
  max: [12, "double"],
};
const buckets: Fields = { offset: [1, "small"] };
const exponentialPoint: Fields = {
  ...measures,
  attributes: resourceAttributes,
  scale: [6, "small"],
  zeroCount: [7, "fixed"],
  positive: [8, buckets],
  min: [12, "double"],
  max: [13, "double"],
};
const summaryPoint: Fields = {
  ...measures,
  quantileValues: [6, { quantile: [1, "double"], value: [2, "double"] }],
  attributes: pointAttributes,
};
const points = (point: Fields): Fields => ({
  dataPoints: [1, point],
  aggregationTemporality: [2, "small"],
  isMonotonic: [3, "small"],
});
const scope: [number, Kind] = [1, { name: [1, "text"], version: [2, "text"] }];
const resource: [number, Kind] = [1, { attributes: resourceAttributes }];

const METRICS: Fields = {
  resourceMetrics: [1, {
    resource,
    scopeMetrics: [2, {
      scope,
      metrics: [2, {
        name: [1, "text"],
        description: [2, "text"],
        unit: [3, "text"],
        gauge: [5, points(numberPoint)],
        sum: [7, points(numberPoint)],
        histogram: [9, points(histogramPoint)],
        exponentialHistogram: [10, points(exponentialPoint)],
        summary: [11, points(summaryPoint)],
      }],
    }],
  }],
};

const TRACES: Fields = {
  resourceSpans: [1, {
    resource,
    scopeSpans: [2, {
      scope,
      spans: [2, {
        traceId: [1, "hex"],
        spanId: [2, "hex"],
        parentSpanId: [4, "hex"],
        name: [5, "text"],
        kind: [6, "small"],
        startTimeUnixNano: [7, "fixed"],
        endTimeUnixNano: [8, "fixed"],
        attributes: histogramAttributes,
      }],
    }],
  }],
};

/** Writes a request from its JSON form. */
export function writeOtlp(signal: "metrics" | "traces", request: object): Uint8Array<ArrayBuffer> {
  const writer = new PbfWriter();
  writeFields(signal === "metrics" ? METRICS : TRACES, request, writer);
  return writer.finish().slice() as Uint8Array<ArrayBuffer>;
}

function writeFields(fields: Fields, from: object, writer: PbfWriter): void {
  for (const [name, found] of Object.entries(from)) {
    if (!fields[name]) continue;
    const [number, kind] = fields[name];
    if (kind === "counts" || kind === "doubles") writePacked(number, kind, found, writer);
    else for (const item of Array.isArray(found) ? found : [found]) writeValue(number, kind, item, writer);
  }
}

function writePacked(number: number, kind: "counts" | "doubles", items: unknown[], writer: PbfWriter): void {
  writer.writeMessage(number, (_, inner) => {
    for (const item of items) {
      if (kind === "counts") writeFixed(inner, BigInt(item as string));
      else inner.writeDouble(Number(item));
    }
  }, undefined);
}

// deno-lint-ignore no-explicit-any
function writeValue(number: number, kind: Kind, item: any, writer: PbfWriter): void {
  if (typeof kind === "object") {
    writer.writeMessage(number, (_, inner) => writeFields(kind, item, inner), undefined);
  } else if (kind === "text") writer.writeStringField(number, item);
  else if (kind === "double") writer.writeDoubleField(number, Number(item));
  else if (kind === "small") writer.writeVarintField(number, Number(item));
  else if (kind === "hex") {
    writer.writeBytesField(
      number,
      Uint8Array.from((item as string).match(/../g)!, (two: string) => parseInt(two, 16)),
    );
  } else if (kind === "int") {
    writer.writeTag(number, 0);
    writeVarint(writer, BigInt.asUintN(64, BigInt(item)));
  } else {
    writer.writeTag(number, 1);
    writeFixed(writer, BigInt.asUintN(64, BigInt(item)));
  }
}

function writeFixed(writer: PbfWriter, value: bigint): void {
  writer.writeFixed32(Number(value & 0xffffffffn));
  writer.writeFixed32(Number(value >> 32n));
}

function writeVarint(writer: PbfWriter, value: bigint): void {
  for (; value > 127n; value >>= 7n) {
    writer.realloc(1);
    writer.buf[writer.pos++] = Number(value & 127n) | 128;
  }
  writer.writeVarint(Number(value));
}
