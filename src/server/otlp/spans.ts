import { usageRecords } from "../../records/usage_record.ts";
import { makeReader } from "../../transfer/mapping.ts";
import type { MappedRecord } from "../../transfer/samples_to_records.ts";
import { ValidationError } from "../../errors.ts";
import { LabelLimit } from "../protobuf.ts";
import type { TracesRequest } from "./messages.ts";

/** Usage of the spans of a request, and the spans that could not be read. */
export interface SpanUsage {
  readonly records: readonly MappedRecord[];
  readonly invalid: readonly ValidationError[];
}

/** Reads calls of models by the same rules as an import of `otel-genai`, so that both give the same ids. */
const reader = makeReader(usageRecords, { format: "otel-genai" });

/** Makes usage records of the spans of a request that are calls of models. Other spans are none. */
export function usageOfSpans({ resourceSpans = [] }: TracesRequest): SpanUsage {
  const records: MappedRecord[] = [];
  const invalid: ValidationError[] = [];
  const labels = new LabelLimit();
  for (const { resource, scopeSpans = [] } of resourceSpans) {
    const common = Object.keys(resource?.attributes ?? {}).length;
    const spans = scopeSpans.flatMap(({ spans = [] }) => spans);
    labels.take(spans.length * (1 + common)); // before the first is copied
    for (const { attributes, ...times } of spans) {
      try {
        for (const record of reader.read({ ...resource?.attributes, ...attributes, ...times })) {
          if (record) {
            records.push({ dataset: "usage_records", record, samples: 1, position: records.length });
          }
        }
      } catch (error) {
        if (!(error instanceof ValidationError)) throw error;
        invalid.push(error);
      }
    }
  }
  return { records, invalid };
}
