import type { Preset } from "./preset.ts";

const WRITES = "cache_creation.ephemeral_5m_input_tokens + cache_creation.ephemeral_1h_input_tokens";

/** Messages usage report of the Anthropic Admin API. Its input tokens are those beside the cache. */
export const ANTHROPIC_USAGE: Preset = {
  name: "anthropic-usage",
  title: "Anthropic messages usage report (API pages as JSON)",
  dataset: "usage_records",
  documentation: ["https://platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages"],
  signs: [["uncached_input_tokens", "starting_at"]],
  lists: ["data", "results"],
  fields: {
    usageId:
      "hash(starting_at|ending_at|workspace_id|api_key_id|model|service_tier|context_window|inference_geo)",
    timestamp: "starting_at",
    provider: "=anthropic",
    model: "model",
    operation: "=chat",
    inputTokens: `uncached_input_tokens + cache_read_input_tokens + ${WRITES}`,
    outputTokens: "output_tokens",
    cacheReadTokens: "cache_read_input_tokens",
    cacheWriteTokens: WRITES,
    quantity: {
      by: "server_tool_use.web_search_requests",
      cases: { "|0": "", "*": "server_tool_use.web_search_requests" },
    },
    unit: { by: "server_tool_use.web_search_requests", cases: { "|0": "", "*": "=web_searches" } },
    "tags.workspace": "workspace_id",
    "tags.api_key": "api_key_id",
    "tags.service_tier": "service_tier",
    "tags.context_window": "context_window",
  },
};
