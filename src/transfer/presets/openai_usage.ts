import { type Preset, table } from "./preset.ts";

/** Usage of the OpenAI API by organization. Cached tokens are part of the input tokens. */
export const OPENAI_USAGE: Preset = {
  name: "openai-usage",
  title: "OpenAI organization usage (API pages as JSON)",
  dataset: "usage_records",
  documentation: ["https://platform.openai.com/docs/api-reference/usage"],
  signs: [
    ["num_model_requests", "start_time"],
    ["usage_bytes", "start_time"],
    ["num_sessions", "start_time"],
  ],
  lists: ["data", "results"],
  fields: {
    usageId:
      "hash(object|start_time|end_time|project_id|user_id|api_key_id|model|batch|service_tier|size|source)",
    timestamp: "start_time",
    provider: "=openai",
    model: "model",
    operation: table("object", {
      chat: "*.completions.result",
      embeddings: "*.embeddings.result",
      moderations: "*.moderations.result",
      images: "*.images.result",
      audio_speeches: "*.audio_speeches.result",
      audio_transcriptions: "*.audio_transcriptions.result",
    }),
    requests: "num_model_requests",
    inputTokens: "input_tokens",
    outputTokens: "output_tokens",
    cacheReadTokens: "input_cached_tokens",
    quantity: "images,characters,seconds,num_sessions,usage_bytes",
    unit: table("object", {
      images: "*.images.result",
      characters: "*.audio_speeches.result",
      seconds: "*.audio_transcriptions.result",
      sessions: "*.code_interpreter_sessions.result",
      bytes: "*.vector_stores.result",
    }),
    "tags.project": "project_id",
    "tags.user": "user_id",
    "tags.api_key": "api_key_id",
    "tags.service_tier": "service_tier",
    "tags.batch": { by: "batch", cases: { "true": "=true" } },
  },
};
