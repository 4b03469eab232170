import type { Backend } from "../backends/backend.ts";
import { BackendError } from "../errors.ts";
import { nearest, suggest } from "../nearest.ts";
import { BUILT_IN_PRICES, BuiltInPrices } from "../pricing/built_in_prices.ts";
import { currentPrices, deletePrices, setPrices, type StoredPrice } from "../pricing/own_prices.ts";
import {
  acceptPrice,
  type Price,
  priceColumns,
  type PriceInput,
  TOKEN_UNITS,
  unitsPer,
} from "../pricing/price.ts";
import { matches, PriceBook } from "../pricing/price_book.ts";
import { priceUsage } from "../pricing/usage_cost.ts";
import { Sums } from "../records/sums.ts";
import type { UsageRecord } from "../records/usage_record.ts";
import { readPriceFile } from "../transfer/price_file.ts";
import { type Arguments, type Option, optionsOf } from "../query/arguments.ts";
import {
  type Command,
  CONNECTION_OPTIONS,
  FORMAT_OPTIONS,
  readFormat,
  readZone,
  TIME_ZONE_OPTION,
  withBackend,
} from "./command.ts";
import { formatThings, isoTime, note, printFound } from "./output.ts";
import { missing, readCount, readOption, readTime, UsageError } from "../query/option_values.ts";
import { readAt } from "../query/selection.ts";

const PROVIDER_OPTION: Option = { name: "provider", value: "NAME", summary: "provider, such as openai" };
const AT_OPTION: Option = { name: "at", value: "TIME", summary: "time of use (default now)" };
const UNITS: readonly string[] = [...TOKEN_UNITS, "request"];
const COUNTS: readonly [option: string, field: keyof UsageRecord, what: string][] = [
  ["input", "inputTokens", "input tokens, those of the cache included"],
  ["output", "outputTokens", "output tokens, those of reasoning included"],
  ["cache-read", "cacheReadTokens", "input tokens read from the cache"],
  ["cache-write", "cacheWriteTokens", "input tokens written to the cache"],
  ["reasoning", "reasoningTokens", "output tokens of reasoning"],
  ["requests", "requests", "requests"],
];

export const pricesList: Command = {
  name: "prices list",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    PROVIDER_OPTION,
    ...optionsOf({
      "model PATTERN": "only these models; * stands for any text",
      own: "only own prices",
      history: "also earlier versions of own prices",
    }),
  ],
  examples: ["openfinops prices list --model 'gpt-5*'", "openfinops prices list --own --format csv"],
  async run(given) {
    const format = readFormat(given);
    const own =
      await withPrices(given, (backend) => currentPrices(backend.documents, given.has("history"))) ?? [];
    const builtIn = given.has("own") ? [] : (await BuiltInPrices.load()).all();
    const [provider, model] = ["provider", "model"].map((name) => given.text(name) ?? "*");
    const found = [
      ...own.map((price) => ({ ...price, source: `own, set ${isoTime(price.setAt)}` })),
      ...builtIn.map((price) => ({ ...price, source: BUILT_IN_PRICES })),
    ].filter((price) => matches(provider, price.provider) && matches(model, price.model));
    printPrices(format, found);
    if (found.length === 0) note("No prices. `openfinops prices set` sets one.");
  },
};

export const pricesShow: Command = {
  name: "prices show",
  positionals: "<model>",
  missing: "Name a model.",
  options: [...CONNECTION_OPTIONS, ...FORMAT_OPTIONS, PROVIDER_OPTION, AT_OPTION, TIME_ZONE_OPTION],
  examples: ["openfinops prices show gpt-5", "openfinops prices show claude-sonnet-4-5 --at 2026-01-01"],
  async run(given) {
    const format = readFormat(given);
    const prices = await readPrices(given);
    const use = withProvider(readUse(given), prices);
    if (printApplied(format, use, prices) === 0) note(unknownModel(use, prices));
  },
};

export const pricesTest: Command = {
  name: "prices test",
  positionals: "<model>",
  missing: "Name a model.",
  options: [
    ...CONNECTION_OPTIONS,
    ...FORMAT_OPTIONS,
    PROVIDER_OPTION,
    ...COUNTS.map(([name, , summary]) => ({ name, value: "N", summary })),
    AT_OPTION,
    TIME_ZONE_OPTION,
  ],
  examples: ["openfinops prices test gpt-5 --input 12000 --cache-read 10000 --output 800"],
  async run(given) {
    const format = readFormat(given);
    const counted = readCounts(given, readUse(given));
    const prices = await readPrices(given);
    const use = withProvider(counted, prices);
    const { parts, unpriced } = priceUsage(use, prices.book);
    const sums = new Sums();
    for (const { price, cost } of parts) sums.add(price.currency, cost);
    const totals = Object.entries(sums.toRecord()).map(([currency, total]) => ({ currency, total }));
    const header = ["unit", "quantity", "price", "cost", "currency"];
    const rows = [
      ...parts.map(({ unit, quantity, price, cost }) => (
        { unit, quantity, price: describePrice(price), cost, currency: price.currency }
      )),
      ...totals.map(({ currency, total }) => (
        { unit: "total", quantity: "", price: "", cost: total, currency }
      )),
    ];
    printFound(format, { parts, totals, unpriced }, { header, rows });
    for (const { unit, quantity } of unpriced) note(`No price for ${quantity} ${unit} of ${use.model}.`);
    if (prices.book.of(use).size === 0) note(unknownModel(use, prices));
    else if (rows.length + unpriced.length === 0) note("Nothing to pay for these counts.");
  },
};

export const pricesSet: Command = {
  name: "prices set",
  positionals: "[model]",
  options: [
    ...CONNECTION_OPTIONS,
    PROVIDER_OPTION,
    ...optionsOf({
      "unit NAME": "input, output, cacheRead, cacheWrite, reasoning, request, or a unit",
      "amount N": "amount for a number of units",
      "per N": "that number (default 1000000 for tokens, else 1)",
      "currency C": "currency (default USD)",
      "region NAME": "only for uses with this tag region",
      "above-input-tokens N": "only for calls with more input tokens",
      "valid-from TIME": "only for uses from this time",
      "valid-to TIME": "only for uses before this time",
      "file FILE": "prices of a CSV or NDJSON file, with these fields as columns",
      delete: "delete the own prices of the model",
    }),
    TIME_ZONE_OPTION,
  ],
  examples: [
    "openfinops prices set gpt-5 --provider openai --unit input --amount 1.10",
    "openfinops prices set --file prices.csv",
    "openfinops prices set 'llama-*' --delete",
  ],
  async run(given) {
    const [model] = given.positionals;
    const file = given.text("file");
    if ((model === undefined) === (file === undefined)) {
      throw missing("Name a model, or a file with --file.");
    }
    if (given.has("delete")) {
      const provider = given.text("provider");
      const isGone = (price: Price) =>
        price.model === model && (provider === undefined || price.provider === provider);
      const gone = await withBackend(given, "existing", ({ documents }) => deletePrices(documents, isGone));
      if (gone === 0) {
        throw new UsageError(
          `There is no own price of ${model}. \`openfinops prices list --own\` lists them.`,
          "NOT_FOUND",
        );
      }
      return note(`Deleted ${formatThings(gone, "price", "prices")} of ${model}.`);
    }
    const prices = file === undefined ? [readPrice(given, model)] : await readPriceFile(file);
    const changed = await withBackend(given, "create", ({ documents }) => setPrices(documents, prices));
    const kept = prices.length - changed.length;
    note(`Set ${formatThings(changed.length, "price", "prices")}${kept > 0 ? `; ${kept} as before` : ""}.`);
    const [price] = prices;
    if (file === undefined && !price.model.includes("*")) await printPricesBeside(given, acceptPrice(price));
    if (changed.length > 0) {
      note("Restate the costs of earlier usage with `openfinops costs price --reprice`.");
    }
  },
};

/** Reads a price from options, and checks it before a database is opened. */
function readPrice(given: Arguments, model: string): PriceInput {
  const zone = readZone(given);
  const [validFrom, validTo] = ["valid-from", "valid-to"].map((name) =>
    readOption(given, name, (name, text) => readTime(name, text, zone))
  );
  const price = {
    provider: given.text("provider"),
    model,
    unit: given.text("unit"),
    amount: given.text("amount"),
    per: readOption(given, "per", (name, text) => readCount(name, text, 1)),
    currency: given.text("currency"),
    region: given.text("region"),
    aboveInputTokens: readOption(given, "above-input-tokens", readCount),
    validFrom,
    validTo,
  } as PriceInput;
  acceptPrice(price);
  const { unit } = price;
  const meant = UNITS.includes(unit) ? "" : nearest(unit, UNITS, 3);
  if (!meant) return price;
  throw new UsageError(
    `Unknown unit "${unit}". Did you mean "${meant}"? For a unit of that name, set the price with --file.`,
    "INVALID_OPTION",
  );
}

/** Prints all prices that apply where a price that was set does, so that no one of them comes as a surprise. */
async function printPricesBeside(given: Arguments, price: Price): Promise<void> {
  const prices = await readPrices(given);
  const { provider, model, region, validFrom, aboveInputTokens } = price;
  const use: UsageRecord = {
    usageId: "test",
    timestamp: Math.max(validFrom ?? 0, Math.min(Date.now(), (price.validTo ?? Infinity) - 1)),
    model,
    ...(provider.includes("*") ? {} : { provider }),
    ...(aboveInputTokens === undefined ? {} : { inputTokens: aboveInputTokens + 1 }),
    ...(region === undefined ? {} : { tags: { region } }),
  };
  printApplied("table", withProvider(use, prices), prices);
}

function readUse(given: Arguments): UsageRecord {
  const [model] = given.positionals;
  const provider = given.text("provider");
  return {
    usageId: "test",
    timestamp: readAt(given).at ?? Date.now(),
    model,
    ...(provider === undefined ? {} : { provider }),
  };
}

/** Adds the counts that are given, of which at least one is needed. */
function readCounts(given: Arguments, use: UsageRecord): UsageRecord {
  const counts: Partial<Record<string, number>> = {};
  for (const [option] of COUNTS) {
    const count = readOption(given, option, readCount);
    if (count !== undefined) counts[option] = count;
  }
  if (Object.keys(counts).length === 0) {
    throw missing("Give the counts of the call, such as --input 12000 --output 800.");
  }
  const { input = 0, output = 0, "cache-read": read = 0, "cache-write": written = 0, reasoning = 0 } = counts;
  const excess = read + written > input
    ? "--cache-read and --cache-write together must be at most --input, which they are part of."
    : reasoning > output
    ? "--reasoning must be at most --output, which it is part of."
    : undefined;
  if (excess) throw new UsageError(excess, "INVALID_OPTION");
  return { ...use, ...Object.fromEntries(COUNTS.map(([option, field]) => [field, counts[option]])) };
}

/** Own and built-in prices, alone and together. */
interface Prices {
  readonly own: readonly StoredPrice[];
  readonly builtIn: BuiltInPrices;
  readonly book: PriceBook;
}

async function readPrices(given: Arguments): Promise<Prices> {
  const own = await withPrices(given, ({ documents }) => currentPrices(documents)) ?? [];
  const builtIn = await BuiltInPrices.load();
  return { own, builtIn, book: new PriceBook(own, builtIn) };
}

/** Adds the provider of the model to a use without one, and says so: that of the built-in prices, else the only own one. */
function withProvider(use: UsageRecord, { own, builtIn }: Prices): UsageRecord {
  const { model = "", timestamp } = use;
  if (use.provider !== undefined) return use;
  const providers = new Set(
    own.filter((price) => matches(price.model, model)).map(({ provider }) => provider),
  );
  const [only] = providers.size === 1 ? providers : [];
  const provider = builtIn.providerOf(model, timestamp) ?? (only?.includes("*") ? undefined : only);
  if (provider === undefined) return use;
  note(`Prices of provider ${provider}. --provider names another.`);
  return { ...use, provider };
}

/** Reads from a database; undefined where the default one is not there, since built-in prices need none. */
async function withPrices<T>(
  given: Arguments,
  run: (backend: Backend) => Promise<T>,
): Promise<T | undefined> {
  try {
    return await withBackend(given, "read", run);
  } catch (error) {
    if (error instanceof BackendError && error.code === "FILE_NOT_FOUND" && !given.has("connection-string")) {
      return;
    }
    throw error;
  }
}

function unknownModel({ provider, model = "" }: UsageRecord, { own, builtIn }: Prices): string {
  const of = provider === undefined ? "" : ` of ${provider}`;
  const known = [...own, ...builtIn.all()].filter((price) =>
    matches(price.provider, provider ?? price.provider)
  );
  const hint = suggest(model, known.map(({ model }) => model).filter((name) => !name.includes("*")));
  return `No price of ${model}${of}.${hint} \`openfinops prices list\` lists known models, \`openfinops prices set\` sets a price.`;
}

function describePrice(price: Price): string {
  return `${price.amount} per ${unitsPer(price)}`;
}

/** Prints the prices of a use; returns their number. */
function printApplied(format: ReturnType<typeof readFormat>, use: UsageRecord, { book }: Prices): number {
  const units = [...book.of(use).values()];
  printPrices(format, units.map(({ price, source }) => ({ ...price, source })));
  return units.length;
}

function printPrices(
  format: ReturnType<typeof readFormat>,
  found: readonly (Price & { source: string })[],
): void {
  const columns = priceColumns.columns.filter(({ field, required }) =>
    required || field === "per" || found.some((price) => price[field as keyof Price] !== undefined)
  );
  const header = [...columns.map(({ field }) => field), "source"];
  const rows = found.map((price) => ({
    ...Object.fromEntries(columns.map(({ field, type }) => {
      const value = field === "per" ? unitsPer(price) : price[field as keyof Price];
      return [field, type === "timestamp" && value !== undefined ? isoTime(value as number) : value];
    })),
    source: price.source,
  }));
  printFound(format, found, { header, rows });
}
