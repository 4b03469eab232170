import { type Preset, table } from "./preset.ts";

/** Tokens of a row, unless LiteLLM answered from its own cache and no model was called. */
const unlessCached = (column: string) => ({ by: "cache_hit", cases: { "true": "", "*": column } });
const USAGE = "metadata.usage_object";

/** Spend logs of LiteLLM: rows of its table, or pages of its API. */
export const LITELLM: Preset = {
  name: "litellm",
  title: "Spend logs of LiteLLM (CSV of the table, or JSON of the API)",
  dataset: "usage_records",
  documentation: ["https://docs.litellm.ai/docs/proxy/cost_tracking"],
  signs: [["request_id", "call_type", "spend", "startTime"]],
  lists: ["data"],
  fields: {
    usageId: "request_id,hash(startTime|model|api_key|user|total_tokens|spend)",
    timestamp: "startTime",
    provider: "custom_llm_provider",
    model: "model",
    operation: table("call_type", {
      chat: "completion|acompletion",
      text_completion: "text_completion|atext_completion",
      embeddings: "embedding|aembedding",
    }, "call_type"),
    requests: "=1",
    inputTokens: unlessCached("prompt_tokens"),
    outputTokens: unlessCached("completion_tokens"),
    cacheReadTokens: unlessCached(
      `${USAGE}.prompt_tokens_details.cached_tokens,${USAGE}.cache_read_input_tokens`,
    ),
    cacheWriteTokens: unlessCached(`${USAGE}.cache_creation_input_tokens`),
    reasoningTokens: unlessCached(`${USAGE}.completion_tokens_details.reasoning_tokens`),
    // The total counts only where its parts are not known.
    quantity: { by: ["cache_hit", "prompt_tokens"], cases: { "true/*": "", "*/": "total_tokens" } },
    unit: {
      by: ["cache_hit", "prompt_tokens", "total_tokens"],
      cases: { "true/*": "", "*//?*": "=tokens" },
    },
    durationMs: "request_duration_ms",
    status: "status",
    cost: "spend",
    currency: { by: "spend", cases: { "": "", "*": "=USD" } },
    "tags.team": "metadata.user_api_key_team_alias,team_id",
    "tags.alias": "metadata.user_api_key_alias",
    "tags.user": "user",
    "tags.end_user": "end_user",
    "tags.request_tags": "joined(request_tags)",
    "tags.cache_hit": { by: "cache_hit", cases: { "true": "=true" } },
  },
};
