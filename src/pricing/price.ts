import { column, type Dataset, type DatasetName, defineDataset } from "../records/dataset.ts";
import { currencyFault } from "../records/currency.ts";
import { acceptRecord } from "../records/validation.ts";

/** Units of tokens and requests, and the count of a usage record that each prices. */
export const TOKEN_UNITS = ["input", "output", "cacheRead", "cacheWrite", "reasoning"] as const;
/** A part of a call that has a price of its own. */
export type TokenUnit = typeof TOKEN_UNITS[number];
/** Units that are part of another one, whose price stands in where theirs is missing. */
export const WHOLES: Readonly<Record<string, string>> = {
  cacheRead: "input",
  cacheWrite: "input",
  reasoning: "output",
};

/** Price of one unit of use. */
export interface Price {
  /** Provider, such as `openai`; `*` for any. */
  provider: string;
  /** Model, in which `*` stands for any text, as in `gpt-5*`. */
  model: string;
  /** `input`, `output`, `cacheRead`, `cacheWrite`, `reasoning`, `request`, or the unit of a quantity such as `images`. */
  unit: string;
  /** Amount for `per` units: a canonical decimal string. */
  amount: string;
  /** Number of units that the amount is for; 1,000,000 for tokens, 1 for all else where it is absent. */
  per?: number;
  /** Currency of the amount. */
  currency: string;
  /** Region; any where absent. Compared with the tag `region` of a use. */
  region?: string;
  /** Number of input tokens above which this price is for the whole call; any where absent. */
  aboveInputTokens?: number;
  /** Earliest time of use, epoch ms; any where absent. */
  validFrom?: number;
  /** Time before which the use must be, epoch ms; any where absent. */
  validTo?: number;
}

/** Input form of {@linkcode Price}: accepts a `Date`, and numbers for the amount. */
export interface PriceInput
  extends Omit<Price, "provider" | "amount" | "currency" | "validFrom" | "validTo"> {
  /**
   * Provider.
   *
   * @default {"*"}
   */
  provider?: string;
  /** Amount for `per` units. */
  amount: number | string;
  /**
   * Currency of the amount.
   *
   * @default {"USD"}
   */
  currency?: string;
  /** Earliest time of use: epoch milliseconds or a `Date`. */
  validFrom?: number | Date;
  /** Time before which the use must be: epoch milliseconds or a `Date`. */
  validTo?: number | Date;
}

/** The columns of price files. There is no table: prices are documents. */
export const priceColumns: Dataset<Price> = defineDataset({
  name: "prices" as DatasetName,
  noun: "a price",
  columns: [
    column("text", "provider", { default: "*", maxLength: 255, summary: true }),
    column("text", "model", { required: true, maxLength: 255, summary: true }),
    column("text", "unit", { required: true, maxLength: 64, summary: true }),
    column("decimal", "amount", { required: true, summary: true }),
    column("integer", "per", { min: 1, summary: true }),
    column("text", "currency", { default: "USD", maxLength: 64, fault: currencyFault, summary: true }),
    column("text", "region", { maxLength: 64, summary: true }),
    column("integer", "aboveInputTokens", { min: 0, summary: true }),
    column("timestamp", "validFrom", { summary: true }),
    column("timestamp", "validTo", { summary: true }),
  ],
  key: [],
  indexes: [],
  partitionBy: "month",
  retentionDays: Infinity,
  chunkDays: 30,
  sortBy: [],
  rollUpBy: [],
  filters: [],
  groups: [],
});

/**
 * Checks a price.
 *
 * @throws {ValidationError} If a field is missing, unknown or wrong.
 */
export function acceptPrice(input: PriceInput): Price {
  return acceptRecord(priceColumns, input);
}

/** The number of units that the amount of a price is for. */
export function unitsPer({ unit, per }: Pick<Price, "unit" | "per">): number {
  return per ?? (isTokenUnit(unit) ? 1_000_000 : 1);
}

/** True if a unit counts tokens. */
export function isTokenUnit(unit: string): unit is TokenUnit {
  return (TOKEN_UNITS as readonly string[]).includes(unit);
}
