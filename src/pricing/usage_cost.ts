import type { CostEntry } from "../records/cost_entry.ts";
import { Decimal, ONE } from "../records/decimal.ts";
import type { UsageRecord } from "../records/usage_record.ts";
import { isTokenUnit, type Price, unitsPer, WHOLES } from "./price.ts";
import type { PriceBook, UnitPrices } from "./price_book.ts";

/** The source of costs that are computed from usage. */
export const PRICES_SOURCE = "prices";
/** FOCUS ServiceCategory of language models. */
const CATEGORY = "AI and Machine Learning";

/** Part of a use that has a price of its own. */
export interface UsedPart {
  /** Unit: `input`, `output`, `cacheRead`, `cacheWrite`, `reasoning`, `request`, or the unit of a quantity. */
  readonly unit: string;
  /** Volume: a canonical decimal string. */
  readonly quantity: string;
}

/** A part of a use and its cost. */
export interface PricedPart extends UsedPart {
  readonly price: Price;
  readonly priceSource: string;
  /** Cost: a canonical decimal string, rounded half to even at the 18th digit. */
  readonly cost: string;
}

/** Result of pricing a use. The costs of the parts are its cost, to the last digit. */
export interface PricedUsage {
  readonly parts: readonly PricedPart[];
  /** Parts without a price. They cost something, so they are named, never counted as 0. */
  readonly unpriced: readonly UsedPart[];
}

/**
 * Prices a use. Tokens of the cache are part of the input and those of reasoning part of the output, so each token is
 * priced once: by the price of its part where there is one, else by that of the whole.
 */
export function priceUsage(usage: UsageRecord, book: Pick<PriceBook, "of">): PricedUsage {
  const prices = book.of(usage);
  const parts: PricedPart[] = [];
  const unpriced: UsedPart[] = [];
  for (const part of partsOf(usage, prices)) {
    const applied = prices.get(part.unit) ?? prices.get(WHOLES[part.unit]);
    if (!applied) unpriced.push(part);
    else {
      const { price, source } = applied;
      parts.push({ ...part, price, priceSource: source, cost: costOf(part.quantity, price) });
    }
  }
  return { parts, unpriced };
}

/** The parts of a use. Requests are a part only where they have a price: most models charge for tokens alone. */
function partsOf(usage: UsageRecord, prices: UnitPrices): UsedPart[] {
  const {
    inputTokens = 0,
    outputTokens = 0,
    cacheReadTokens = 0,
    cacheWriteTokens = 0,
    reasoningTokens = 0,
  } = usage;
  const counts: [unit: string, count: number][] = [
    // Some gateways report cache tokens beside the input in place of within it: none is priced below zero.
    ["input", Math.max(0, inputTokens - cacheReadTokens - cacheWriteTokens)],
    ["cacheRead", cacheReadTokens],
    ["cacheWrite", cacheWriteTokens],
    ["output", Math.max(0, outputTokens - reasoningTokens)],
    ["reasoning", reasoningTokens],
    ["request", prices.has("request") ? usage.requests ?? 1 : 0],
  ];
  const parts = counts.filter(([, count]) => count > 0).map(([unit, count]) => ({
    unit,
    quantity: String(count),
  }));
  const { quantity, unit } = usage;
  if (quantity !== undefined && quantity !== "0" && unit !== undefined) parts.push({ unit, quantity });
  return parts;
}

function costOf(quantity: string, price: Price): string {
  const { scaled } = Decimal.from(quantity);
  return Decimal.from(price.amount).timesFraction(scaled, ONE * BigInt(unitsPer(price))).toString();
}

/** The cost entries of a priced use: one for each part, whose ids follow from the use. */
export function costEntriesOf(usage: UsageRecord, { parts }: PricedUsage): CostEntry[] {
  const { usageId, timestamp, provider, model, serviceName, tags } = usage;
  return parts.map(({ unit, quantity, price, priceSource, cost }) => ({
    entryId: `usage:${usageId}:${unit}`,
    timestamp,
    resourceId: model ?? serviceName ?? provider ?? "unknown",
    category: CATEGORY,
    amount: cost,
    currency: price.currency,
    ...(tags === undefined && serviceName === undefined
      ? {}
      : { tags: { ...(serviceName === undefined ? {} : { service: serviceName }), ...tags } }),
    chargeCategory: "Usage",
    ...(provider === undefined ? {} : { serviceProviderName: provider }),
    skuId: [provider, model, unit].filter((name) => name !== undefined).join("/"),
    consumedQuantity: quantity,
    consumedUnit: isTokenUnit(unit) ? "Tokens" : unit === "request" ? "Requests" : unit,
    basis: "estimated",
    source: PRICES_SOURCE,
    focus: { x_PriceSource: priceSource, x_UnitPrice: `${price.amount} per ${unitsPer(price)}` },
  }));
}
