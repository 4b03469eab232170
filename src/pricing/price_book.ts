import type { DocumentStore } from "../backends/backend.ts";
import { Decimal } from "../records/decimal.ts";
import type { UsageRecord } from "../records/usage_record.ts";
import { BUILT_IN_PRICES, BuiltInPrices } from "./built_in_prices.ts";
import { currentPrices, type StoredPrice } from "./own_prices.ts";
import { type Price, unitsPer, WHOLES } from "./price.ts";

/** Price that applies to a unit of a use, and where it comes from. */
export interface AppliedPrice {
  readonly price: Price;
  /** `own`, or name, version and date of the built-in prices. */
  readonly source: string;
}

export type UnitPrices = ReadonlyMap<string, AppliedPrice>;

/**
 * Finds the price of each unit of a use: an own one, else a built-in one. The own price of a whole, such as `input`, takes
 * precedence over a built-in price of its part in another currency, and over a built-in `cacheRead` price that is higher.
 */
export class PriceBook {
  readonly #own: readonly StoredPrice[];
  readonly #builtIn: BuiltInPrices | undefined;
  /** Own prices by provider and model: few of thousands match. */
  readonly #matching = new Map<string, readonly StoredPrice[]>();

  /** Makes a book. */
  constructor(own: readonly StoredPrice[], builtIn?: BuiltInPrices) {
    this.#own = own.toSorted(byPrecedence);
    this.#builtIn = builtIn;
  }

  /** Reads the own prices of a database, and loads the built-in ones where none are given. */
  static async read(documents: DocumentStore, builtIn?: BuiltInPrices): Promise<PriceBook> {
    const own = await currentPrices(documents);
    return new PriceBook(own, builtIn ?? await BuiltInPrices.load());
  }

  /** Returns the price of each unit of a use. */
  of(use: Pick<UsageRecord, "provider" | "model" | "timestamp" | "inputTokens" | "tags">): UnitPrices {
    const own = closestOf(this.#ownOf(use), "own");
    const builtIn = this.#builtIn?.of(use.provider, use.model ?? "", use.timestamp) ?? [];
    const others = closestOf(builtIn.filter((price) => applies(price, use)), BUILT_IN_PRICES);
    const units = new Map(own);
    for (const [unit, applied] of others) {
      if (!own.has(unit) && fits(applied.price, own.get(WHOLES[unit])?.price)) units.set(unit, applied);
    }
    return units;
  }

  #ownOf(use: Parameters<PriceBook["of"]>[0]): StoredPrice[] {
    const { provider = "", model = "" } = use;
    const name = `${provider}\0${model}`;
    let matching = this.#matching.get(name);
    if (!matching) {
      matching = this.#own.filter((price) =>
        matches(price.provider, provider) && matches(price.model, model)
      );
      this.#matching.set(name, matching);
    }
    return matching.filter((price) => applies(price, use));
  }
}

function closestOf(prices: readonly Price[], source: string): Map<string, AppliedPrice> {
  const units = new Map<string, AppliedPrice>();
  for (const price of prices) {
    const found = units.get(price.unit);
    if (!found || isCloser(price, found.price)) units.set(price.unit, { price, source });
  }
  return units;
}

/** True if a built-in price of a part can stand beside the own price of its whole, if there is one. */
function fits(part: Price, whole: Price | undefined): boolean {
  if (whole === undefined) return true;
  const [cost, limit] = [[part, whole], [whole, part]].map(([price, other]) =>
    Decimal.from(price.amount).timesFraction(BigInt(unitsPer(other)), 1n)
  );
  return part.currency === whole.currency && (part.unit !== "cacheRead" || cost.compare(limit) <= 0);
}

/** True if a price is for the time, the region and the size of a use. */
function applies(
  { validFrom = -Infinity, validTo = Infinity, region, aboveInputTokens = -1 }: Price,
  { timestamp, inputTokens = 0, tags }: Pick<UsageRecord, "timestamp" | "inputTokens" | "tags">,
): boolean {
  return timestamp >= validFrom && timestamp < validTo && inputTokens > aboveInputTokens &&
    (region === undefined || region === tags?.region);
}

/** True if a name is what a pattern stands for; case does not count. */
export function matches(pattern: string, name: string): boolean {
  const [first, ...rest] = pattern.toLowerCase().split("*");
  const text = name.toLowerCase();
  if (rest.length === 0) return text === first;
  if (!text.startsWith(first)) return false;
  let at = first.length;
  const last = rest.pop()!;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.length - last.length >= at && text.endsWith(last);
}

/** Own prices from the most specific to the least; of two that are alike the one that was set last comes first. */
function byPrecedence(a: StoredPrice, b: StoredPrice): number {
  return specificity(b.model) - specificity(a.model) || specificity(b.provider) - specificity(a.provider) ||
    Number(b.region !== undefined) - Number(a.region !== undefined) || b.setAt - a.setAt;
}

function specificity(pattern: string): number {
  return pattern.includes("*") ? pattern.length - 1 : Infinity;
}

/** True if a later price of the order of precedence is closer to a use: a higher tier, or valid from a later time. */
function isCloser(price: Price, found: Price): boolean {
  if (price.model !== found.model || price.provider !== found.provider || price.region !== found.region) {
    return false;
  }
  const [tier, foundTier] = [price, found].map(({ aboveInputTokens = -1 }) => aboveInputTokens);
  if (tier !== foundTier) return tier > foundTier;
  return (price.validFrom ?? -Infinity) > (found.validFrom ?? -Infinity);
}
