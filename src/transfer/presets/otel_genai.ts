import type { Preset } from "./preset.ts";

/** Tokens of a call. An agent or a workflow reports those of its calls once more. */
const ofCall = (names: string) => ({
  by: "gen_ai.operation.name",
  cases: { "create_agent|invoke_agent|invoke_workflow|execute_tool": "", "*": names },
});

/** Calls of models as OpenTelemetry describes them: current names first, then earlier ones. */
export const OTEL_GENAI: Preset = {
  name: "otel-genai",
  title: "OpenTelemetry GenAI attributes (OTLP JSON, spans as NDJSON, or columns)",
  dataset: "usage_records",
  documentation: ["https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/"],
  signs: [["traceId", "spanId", "startTimeUnixNano"], ["TraceId", "SpanId", "SpanAttributes"]],
  lists: ["resourceSpans", "scopeSpans", "spans"],
  spread: ["resource.attributes", "attributes", "SpanAttributes"],
  fields: {
    usageId:
      "gen_ai.response.id,spanId,SpanId,span_id,context.span_id,hash(startTimeUnixNano|start_time|timestamp|time|" +
      "gen_ai.response.model|gen_ai.request.model|gen_ai.usage.input_tokens|gen_ai.usage.prompt_tokens|" +
      "gen_ai.usage.output_tokens|gen_ai.usage.completion_tokens|service.name|user.id)",
    timestamp: "startTimeUnixNano,start_time_unix_nano,start_time,startTime,Timestamp,timestamp,time",
    provider: "gen_ai.provider.name,gen_ai.system",
    model: "gen_ai.response.model,gen_ai.request.model",
    operation: "gen_ai.operation.name",
    serviceName: "service.name,ServiceName",
    requests: "=1",
    inputTokens: ofCall("gen_ai.usage.input_tokens,gen_ai.usage.prompt_tokens"),
    outputTokens: ofCall("gen_ai.usage.output_tokens,gen_ai.usage.completion_tokens"),
    cacheReadTokens: ofCall(
      "gen_ai.usage.cache_read.input_tokens,gen_ai.usage.cache_read_input_tokens,gen_ai.usage.input_tokens.cached",
    ),
    cacheWriteTokens: ofCall(
      "gen_ai.usage.cache_creation.input_tokens,gen_ai.usage.cache_creation_input_tokens," +
        "gen_ai.usage.cache_write_input_tokens,gen_ai.usage.input_tokens.cache_write",
    ),
    reasoningTokens: ofCall(
      "gen_ai.usage.reasoning.output_tokens,gen_ai.usage.reasoning_tokens,gen_ai.usage.output_tokens.reasoning",
    ),
    durationMs: "endTimeUnixNano - startTimeUnixNano",
    status: "error.type",
    "tags.user": "user.id,enduser.id",
    "tags.agent": "gen_ai.agent.name",
  },
  scale: { durationMs: "0.000001" },
  skipsWithout: ["inputTokens", "outputTokens"],
};
