/**
 * Usage records from the responses of model APIs, by tables of paths.
 *
 * @module
 */
import type { UsageRecord, UsageRecordInput } from "./usage_record.ts";

/** Fields that a caller adds or overrides, such as `tags`, `serviceName` and `durationMs`. */
export type UsageExtra = Partial<UsageRecordInput>;

/** Places of a field in a response: the first that has a value, or the sum of several. */
type Places = readonly (string | readonly string[])[];
type Count = "inputTokens" | "outputTokens" | "cacheReadTokens" | "cacheWriteTokens" | "reasoningTokens";

/** The places of all fields in the responses of an API. */
interface Adapter extends Readonly<Partial<Record<"usageId" | "model" | "timestamp" | Count, Places>>> {
  readonly provider?: string;
}

/** Chat Completions, Responses and Embeddings. Cached and reasoning tokens are parts of the totals. */
const OPENAI: Adapter = {
  provider: "openai",
  usageId: ["id"],
  model: ["model"],
  timestamp: ["created", "created_at"],
  inputTokens: ["usage.input_tokens", "usage.prompt_tokens"],
  outputTokens: ["usage.output_tokens", "usage.completion_tokens"],
  cacheReadTokens: ["usage.input_tokens_details.cached_tokens", "usage.prompt_tokens_details.cached_tokens"],
  reasoningTokens: [
    "usage.output_tokens_details.reasoning_tokens",
    "usage.completion_tokens_details.reasoning_tokens",
  ],
};

/** Messages. `input_tokens` are those beside the cache, so the three are added up. */
const ANTHROPIC: Adapter = {
  provider: "anthropic",
  usageId: ["id"],
  model: ["model"],
  inputTokens: [["usage.input_tokens", "usage.cache_read_input_tokens", "usage.cache_creation_input_tokens"]],
  outputTokens: ["usage.output_tokens"],
  cacheReadTokens: ["usage.cache_read_input_tokens"],
  cacheWriteTokens: ["usage.cache_creation_input_tokens"],
};

/** `generateText` and the resolved parts of `streamText`, versions 4 to 6. */
const AI_SDK: Adapter = {
  usageId: ["response.id"],
  model: ["response.modelId"],
  timestamp: ["response.timestamp"],
  inputTokens: ["usage.inputTokens", "usage.promptTokens"],
  outputTokens: ["usage.outputTokens", "usage.completionTokens"],
  cacheReadTokens: ["usage.inputTokenDetails.cacheReadTokens", "usage.cachedInputTokens"],
  cacheWriteTokens: ["usage.inputTokenDetails.cacheWriteTokens"],
  reasoningTokens: ["usage.outputTokenDetails.reasoningTokens", "usage.reasoningTokens"],
};

/**
 * Makes a usage record from a response of OpenAI, or of an API with its responses: Chat Completions, Responses,
 * Embeddings.
 *
 * @param response The response.
 * @param extra Fields to add or override.
 * @returns The record. Without an id in the response it gets a random one; without a time the present.
 *
 * @example
 * ```ts
 * import { CostObservatory, usageFromOpenAI } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * await using costs = new CostObservatory();
 * const response = { id: "chatcmpl-1", created: 1_700_000_000, model: "gpt-5", usage: { prompt_tokens: 9, completion_tokens: 2 } };
 * await costs.usage.add(usageFromOpenAI(response, { tags: { team: "nlp" } }));
 * const [use] = await costs.usage.query();
 * assert.deepEqual([use.inputTokens, use.outputTokens], [9, 2]);
 * ```
 */
export function usageFromOpenAI(response: object, extra?: UsageExtra): UsageRecordInput {
  return adapt(OPENAI, response, extra);
}

/**
 * Makes a usage record from a response of Anthropic's Messages API. Its input tokens include those of the cache.
 *
 * @param response The response.
 * @param extra Fields to add or override.
 * @returns The record, with the present as its time.
 */
export function usageFromAnthropic(response: object, extra?: UsageExtra): UsageRecordInput {
  return adapt(ANTHROPIC, response, extra);
}

/**
 * Makes a usage record from a result of the Vercel AI SDK: `generateText`, or `streamText` with its promises resolved.
 *
 * @param result The result.
 * @param extra Fields to add or override; the result does not name its `provider`.
 * @returns The record.
 */
export function usageFromAISDK(result: object, extra?: UsageExtra): UsageRecordInput {
  const { usage, totalUsage }: { usage?: object; totalUsage?: object } = result;
  // After several steps, `usage` is that of the last step, and `totalUsage` the sum.
  return adapt(AI_SDK, { ...result, usage: totalUsage ?? usage }, extra);
}

function adapt({ provider, ...places }: Adapter, response: object, extra: UsageExtra = {}): UsageRecordInput {
  const found: Record<string, unknown> = {};
  for (const [field, paths] of Object.entries(places)) {
    const value = firstOf(response, paths);
    if (value !== undefined) found[field] = value;
  }
  return {
    usageId: crypto.randomUUID(),
    ...(provider === undefined ? {} : { provider }),
    requests: 1,
    ...found as Partial<UsageRecord>,
    timestamp: timeOf(found.timestamp),
    ...extra,
  };
}

/** Epoch seconds as OpenAI has them, or a `Date`; the present where there is none. */
function timeOf(value: unknown): number | Date {
  if (value instanceof Date) return value;
  return typeof value === "number" ? Math.round(value * 1_000) : Date.now();
}

function firstOf(response: object, places: Places): unknown {
  for (const place of places) {
    if (typeof place === "string") {
      const value = at(response, place);
      if (value !== undefined && value !== null) return value;
      continue;
    }
    const parts = place.map((path) => at(response, path)).filter((value) => typeof value === "number");
    if (parts.length > 0) return parts.reduce((sum, part) => sum + part, 0);
  }
}

function at(value: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>(
    (inner, name) => (inner as Record<string, unknown> | undefined)?.[name],
    value,
  );
}
