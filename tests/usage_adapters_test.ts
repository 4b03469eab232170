import { usageFromAISDK, usageFromAnthropic, usageFromOpenAI } from "../mod.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { assert, assertEquals } from "./assert.ts";

const TIME = 1_760_000_000;
const counts = (record: object) => {
  const { usageId: _, timestamp: __, ...rest } = acceptRecord<Record<string, unknown>>(
    usageRecords as never,
    record,
  );
  return rest;
};

// Forms of responses as the vendors document them.
Deno.test("usageFromOpenAI() reads Chat Completions, Responses and Embeddings", () => {
  const expected = {
    provider: "openai",
    model: "gpt-5",
    requests: 1,
    inputTokens: 100,
    cacheReadTokens: 64,
    outputTokens: 20,
    reasoningTokens: 8,
  };
  const chat = usageFromOpenAI({
    id: "chatcmpl-1",
    created: TIME,
    model: "gpt-5",
    usage: {
      prompt_tokens: 100,
      completion_tokens: 20,
      total_tokens: 120,
      prompt_tokens_details: { cached_tokens: 64, audio_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 8 },
    },
  });
  assertEquals([chat.usageId, chat.timestamp], ["chatcmpl-1", TIME * 1_000]);
  assertEquals(counts(chat), expected);
  const answer = usageFromOpenAI({
    id: "resp_1",
    created_at: TIME,
    model: "gpt-5",
    usage: {
      input_tokens: 100,
      input_tokens_details: { cached_tokens: 64 },
      output_tokens: 20,
      output_tokens_details: { reasoning_tokens: 8 },
    },
  });
  assertEquals(counts(answer), expected);
  const embedding = usageFromOpenAI({
    model: "text-embedding-3-small",
    usage: { prompt_tokens: 7, total_tokens: 7 },
  });
  assertEquals(counts(embedding), {
    provider: "openai",
    model: "text-embedding-3-small",
    requests: 1,
    inputTokens: 7,
  });
  assert(embedding.usageId.length > 20 && Math.abs(Number(embedding.timestamp) - Date.now()) < 60_000);
});

Deno.test("usageFromAnthropic() counts cache tokens as parts of the input", () => {
  const usage = {
    input_tokens: 10,
    cache_read_input_tokens: 2_000,
    cache_creation_input_tokens: 300,
    output_tokens: 50,
  };
  const record = usageFromAnthropic({ id: "msg_1", model: "claude-sonnet-4-5", usage }, {
    tags: { team: "nlp" },
  });
  assertEquals(counts(record), {
    provider: "anthropic",
    model: "claude-sonnet-4-5",
    requests: 1,
    inputTokens: 2_310,
    cacheReadTokens: 2_000,
    cacheWriteTokens: 300,
    outputTokens: 50,
    tags: { team: "nlp" },
  });
});

Deno.test("usageFromAISDK() reads versions 4 to 6, and the total of several steps", () => {
  const response = { id: "r", modelId: "gpt-5", timestamp: new Date(TIME * 1_000) };
  const base = { model: "gpt-5", requests: 1 };
  const four = usageFromAISDK({ response, usage: { promptTokens: 5, completionTokens: 3 } });
  assertEquals(counts(four), { ...base, inputTokens: 5, outputTokens: 3 });
  assertEquals(Number(four.timestamp), TIME * 1_000);
  const five = { inputTokens: 5, outputTokens: 3, reasoningTokens: 1, cachedInputTokens: 2 };
  assertEquals(counts(usageFromAISDK({ response, usage: five }, { provider: "openai" })), {
    ...base,
    provider: "openai",
    inputTokens: 5,
    outputTokens: 3,
    cacheReadTokens: 2,
    reasoningTokens: 1,
  });
  const six = {
    inputTokens: 50,
    inputTokenDetails: { noCacheTokens: 30, cacheReadTokens: 15, cacheWriteTokens: 5 },
    outputTokens: 9,
    outputTokenDetails: { textTokens: 5, reasoningTokens: 4 },
  };
  assertEquals(counts(usageFromAISDK({ response, usage: five, totalUsage: six })), {
    ...base,
    inputTokens: 50,
    outputTokens: 9,
    cacheReadTokens: 15,
    cacheWriteTokens: 5,
    reasoningTokens: 4,
  });
});
