/**
 * Prices of language models from `@pydantic/genai-prices`, whose unit prices are taken into exact decimals.
 *
 * @module
 */
import type { calcPrice, ModelInfo, ModelPrice, Provider } from "@pydantic/genai-prices";
import { acceptPrice, type Price } from "./price.ts";

/** Version and date of the built-in prices. */
export const BUILT_IN_PRICES = "genai-prices 0.1.8 of 2026-09-23";

/** Units by the names of the package, and the number of units that each price is for. */
const UNITS: Readonly<Record<string, { unit: string; per: number }>> = {
  input_mtok: { unit: "input", per: 1_000_000 },
  output_mtok: { unit: "output", per: 1_000_000 },
  cache_read_mtok: { unit: "cacheRead", per: 1_000_000 },
  cache_write_mtok: { unit: "cacheWrite", per: 1_000_000 },
  output_reasoning_mtok: { unit: "reasoning", per: 1_000_000 },
  requests_kcount: { unit: "request", per: 1_000 },
};

/** Finds the built-in prices of a model. */
export class BuiltInPrices {
  readonly #calculate: typeof calcPrice;
  readonly #providers: readonly Provider[];
  /** The prices of each provider and model whose prices do not depend on the time. */
  readonly #known = new Map<string, readonly Price[]>();

  private constructor(calculate: typeof calcPrice, providers: readonly Provider[]) {
    this.#calculate = calculate;
    this.#providers = providers;
  }

  /** Loads the package, which takes some 20 ms. */
  static async load(): Promise<BuiltInPrices> {
    const { calcPrice, waitForUpdate } = await import("@pydantic/genai-prices");
    return new BuiltInPrices(calcPrice, await waitForUpdate() ?? []);
  }

  /** Returns the prices of a model at a time; none where it is not known. */
  of(provider: string | undefined, model: string, timestamp: number): readonly Price[] {
    const name = `${provider}\0${model}`;
    const known = this.#known.get(name);
    if (known) return known;
    const found = this.#find(provider, model, timestamp);
    const prices = found ? pricesOf(found.provider.id, found.model.id, found.model_price) : [];
    if (!Array.isArray(found?.model.prices)) this.#known.set(name, prices);
    return prices;
  }

  /** Returns the provider that a model of this name belongs to, if it is known. */
  providerOf(model: string, timestamp: number): string | undefined {
    return this.#find(undefined, model, timestamp)?.provider.id;
  }

  /** Returns all prices, those of each time for models whose prices have changed. */
  all(): Price[] {
    return this.#providers.flatMap(({ id, models }) =>
      models.flatMap((model) =>
        eachPrice(model).flatMap(([from, price]) => pricesOf(id, model.id, price, from))
      )
    );
  }

  #find(provider: string | undefined, model: string, timestamp: number) {
    const options = { timestamp: new Date(timestamp) };
    // OpenTelemetry has `x_ai` where the package has `x-ai`.
    for (
      const providerId of provider === undefined ? [undefined] : [provider, provider.replaceAll("_", "-")]
    ) {
      const found = this.#calculate({}, model, { ...options, providerId });
      if (found) return found;
    }
  }
}

/** The prices of a model with the date from which each is valid. Prices by the time of day are left out. */
function eachPrice({ prices }: ModelInfo): [from: number | undefined, price: ModelPrice][] {
  if (!Array.isArray(prices)) return [[undefined, prices]];
  return prices.flatMap(({ constraint, prices }): [number | undefined, ModelPrice][] => {
    if (constraint === undefined) return [[undefined, prices]];
    return "start_date" in constraint ? [[Date.parse(constraint.start_date), prices]] : [];
  });
}

/** The unit prices of a model as exact decimals: the shortest form of each number is what its vendor lists. */
function pricesOf(provider: string, model: string, price: ModelPrice, validFrom?: number): Price[] {
  return Object.entries(price).flatMap(([name, value]) => {
    const unit = UNITS[name];
    if (unit === undefined || value === undefined) return [];
    const base = { provider, model, ...unit, ...(validFrom === undefined ? {} : { validFrom }) };
    if (typeof value === "number") return [acceptPrice({ ...base, amount: value })];
    const tiers = value.tiers.map(({ start, price }) =>
      acceptPrice({ ...base, amount: price, aboveInputTokens: start })
    );
    return [acceptPrice({ ...base, amount: value.base }), ...tiers];
  });
}
