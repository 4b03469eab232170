import { currencyFault } from "./currency.ts";
import { column, type Dataset, defineDataset } from "./dataset.ts";

/**
 * One metered use, first of all a call of a language model. Its identity is `(usageId, timestamp)`. A count that is not
 * known is absent, not 0.
 */
export interface UsageRecord {
  /** Identity of the use, together with its time. */
  usageId: string;
  /** Time of the use, epoch ms. */
  timestamp: number;
  /** Provider, such as `openai`, as OpenTelemetry names it. */
  provider?: string;
  /** Model that answered. */
  model?: string;
  /** Operation, such as `chat` or `embeddings`. */
  operation?: string;
  /** Service that caused the use. */
  serviceName?: string;
  /** Number of requests. */
  requests?: number;
  /** Tokens of the input, those of the cache included. */
  inputTokens?: number;
  /** Tokens of the output, those of reasoning included. */
  outputTokens?: number;
  /** Part of the input tokens that was read from a cache. */
  cacheReadTokens?: number;
  /** Part of the input tokens that was written to a cache. */
  cacheWriteTokens?: number;
  /** Part of the output tokens that is reasoning. */
  reasoningTokens?: number;
  /** Volume of all other uses, in `unit`: a canonical decimal string. */
  quantity?: string;
  /** Unit of the quantity, such as `tokens` where only their total is known. */
  unit?: string;
  /** Duration of the use, ms. */
  durationMs?: number;
  /** Time to the first token, ms. */
  timeToFirstTokenMs?: number;
  /** Outcome, such as `ok` or a kind of error. */
  status?: string;
  /** Cost as the provider or a gateway reports it: a canonical decimal string. It is never added to costs. */
  cost?: string;
  /** Currency of the reported cost. */
  currency?: string;
  /** Tags of your choice: user, team, tenant. */
  tags?: Record<string, string>;
}

/** Fields of a usage record that are exact decimals. */
export type UsageDecimalField = "quantity" | "cost";

/** Input form of {@linkcode UsageRecord}: accepts a `Date`, and numbers for decimals. */
export interface UsageRecordInput
  extends
    Omit<UsageRecord, "timestamp" | UsageDecimalField>,
    Partial<Record<UsageDecimalField, number | string>> {
  /** Time of the use: epoch milliseconds or a `Date`. */
  timestamp: number | Date;
}

const COUNTS = [
  "requests",
  "inputTokens",
  "outputTokens",
  "cacheReadTokens",
  "cacheWriteTokens",
  "reasoningTokens",
];
const SUMMARY_COUNTS = new Set(["inputTokens", "outputTokens"]);

/** The dataset of {@linkcode UsageRecord}. */
export const usageRecords: Dataset<UsageRecord> = defineDataset({
  name: "usage_records",
  noun: "a usage record",
  since: 4,
  columns: [
    // Bounded so that PostgreSQL can index it, and the ids of its costs, which have the unit too.
    column("text", "usageId", { required: true, maxLength: 700, summary: true }),
    column("timestamp", "timestamp", { required: true, summary: true }),
    column("text", "provider", { maxLength: 255, summary: true }),
    column("text", "model", { maxLength: 255, summary: true }),
    column("text", "operation", { maxLength: 255 }),
    column("text", "serviceName", { maxLength: 255, summary: true }),
    ...COUNTS.map((field) => column("integer", field, { summary: SUMMARY_COUNTS.has(field), min: 0 })),
    column("decimal", "quantity", { per: "unit", summary: true }),
    column("text", "unit", { maxLength: 255, summary: true }),
    column("real", "durationMs"),
    column("real", "timeToFirstTokenMs"),
    column("text", "status"),
    column("decimal", "cost", { per: "currency" }),
    column("text", "currency", { maxLength: 64, fault: currencyFault }),
    column("map", "tags"),
  ],
  // Time first: the index of the key then serves time ranges too, and one index less is written.
  key: ["timestamp", "usageId"],
  indexes: [["model", "timestamp"]],
  partitionBy: "month",
  retentionDays: Infinity,
  chunkDays: 7,
  sortBy: ["timestamp", "usageId"],
  rollUpBy: [],
  filters: ["provider", "model", "serviceName"],
  groups: ["provider"],
  mapFilter: "tags",
});
