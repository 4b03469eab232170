import { aggregateCosts, aggregateFields, type UsageAggregate } from "../aggregation/aggregate.ts";
import type { Backend } from "../backends/backend.ts";
import { PriceBook } from "../pricing/price_book.ts";
import { PRICES_SOURCE, priceUsage } from "../pricing/usage_cost.ts";
import { Decimal } from "../records/decimal.ts";
import { acceptQuery, type UsageRecordsQuery } from "../records/query.ts";
import { usageRecords } from "../records/usage_record.ts";
import type { WhereCondition } from "../records/where.ts";
import type { UnpricedUsage } from "../transfer/price_usage.ts";

/** Question of {@linkcode modelsView}. */
export interface ModelsQuery extends Pick<UsageRecordsQuery, "startTime" | "endTime" | "timeZone"> {
  /** Only this provider. */
  provider?: string;
  /** Only this model. */
  model?: string;
  /**
   * Tag of usage by which the second list is grouped.
   *
   * @default {"team"}
   */
  by?: string;
  /** Only usage with this value of the tag. */
  value?: string;
}

/** Estimated cost of usage in one currency. */
export interface UsageCost {
  currency: string;
  /** Exact cost by the prices: a canonical decimal string. */
  cost: string;
  /** Exact cost of a million tokens, rounded half to even at the 18th digit; absent where no tokens are known. */
  costPerMillionTokens?: string;
}

/** Usage of a group. Measures that no record has are absent. */
export interface UsageOfGroup {
  /** Number of records. */
  count: number;
  /** Number of requests; a record without the number is one. */
  requests: number;
  /** Tokens of input and output, and those of records that only know their total. */
  tokens: number;
  inputTokens?: number;
  outputTokens?: number;
  /** Part of the input that was read from a cache. */
  cacheReadTokens?: number;
  /** Median duration of a record, ms. */
  durationP50?: number;
  /** 95th percentile of the duration, ms. */
  durationP95?: number;
  /** Median time to the first token, ms. */
  firstTokenP50?: number;
  /** Costs by currency: what `costs price` and the pipeline computed. Bills are not part of it. */
  costs: UsageCost[];
}

export interface ModelUsage extends UsageOfGroup {
  /** Provider; null where records name none. */
  provider: string | null;
  /** Model; null where records name none. */
  model: string | null;
}

/** Usage by the value of a tag. */
export interface TagUsage extends UsageOfGroup {
  /** Value of the tag; null for usage without it. */
  value: string | null;
}

/** Usage of language models in a time range. */
export interface ModelsView {
  /** Start of the range, in epoch milliseconds; absent where the question names none. */
  startTime?: number;
  /** End of the range, exclusive, in epoch milliseconds. */
  endTime?: number;
  /** The tag of `tags`. */
  by: string;
  /** Each model, that with the most tokens first. */
  models: ModelUsage[];
  /** Each value of the tag, that with the most tokens first. */
  tags: TagUsage[];
  /** Units of models without a price. They cost something, and no total has it. */
  unpriced: UnpricedUsage[];
}

/** Measures of usage. */
const FIELDS = {
  requests: ["sum", "count"],
  inputTokens: ["sum"],
  outputTokens: ["sum"],
  cacheReadTokens: ["sum"],
  cacheWriteTokens: ["sum"],
  reasoningTokens: ["sum"],
  durationMs: ["p50", "p95"],
  timeToFirstTokenMs: ["p50"],
} as const;
const MODEL = ["provider", "model"];

/**
 * Returns tokens, requests, latency and estimated costs by model and by a tag.
 *
 * @throws {ValidationError} If the query is wrong.
 * @throws {BackendError} If the backend cannot be read.
 */
export async function modelsView(
  backend: Pick<Backend, "aggregate" | "documents">,
  { provider, model, by = "team", value, ...range }: ModelsQuery = {},
): Promise<ModelsView> {
  const { startTime, endTime } = acceptQuery(usageRecords, range);
  const within = {
    ...(startTime === undefined ? {} : { startTime }),
    ...(endTime === undefined ? {} : { endTime }),
  };
  const read = new UsageReader(backend, within, { provider, model, tag: { by, value } });
  const models = await read.by(MODEL, ["serviceProviderName", "resourceId"]);
  const tags = await read.by([`tags.${by}`], [`tags.${by}`]);
  const book = await PriceBook.read(backend.documents);
  const at = Math.min(endTime ?? Infinity, Date.now()) - 1;
  return {
    ...within,
    by,
    models: models.map(({ group: [provider, model], usage }) => ({ provider, model, ...usage })),
    tags: tags.map(({ group: [value], usage }) => ({ value, ...usage })),
    unpriced: unpricedOf(models, book, at),
  };
}

interface GroupUsage {
  readonly group: (string | null)[];
  readonly usage: UsageOfGroup;
  /** Sums that prices are for. */
  readonly sums: Readonly<Record<string, number>>;
  /** Volumes by unit. */
  readonly quantities: ReadonlyMap<string, string>;
}

/** Reads usage and its costs in one time range. */
class UsageReader {
  readonly #backend: Pick<Backend, "aggregate">;
  readonly #range: object;
  readonly #usageWhere: WhereCondition[];
  readonly #costWhere: WhereCondition[];

  constructor(
    backend: Pick<Backend, "aggregate">,
    range: object,
    { provider, model, tag: { by, value } }: {
      provider?: string;
      model?: string;
      tag: { by: string; value?: string };
    },
  ) {
    this.#backend = backend;
    this.#range = range;
    const where = (fields: readonly (readonly [string, string | undefined])[]) =>
      fields.filter(([, value]) => value !== undefined).map(([field, eq]) => ({ field, eq: eq! }));
    const tag = [`tags.${by}`, value] as const;
    this.#usageWhere = where([["provider", provider], ["model", model], tag]);
    this.#costWhere = [
      { field: "source", eq: PRICES_SOURCE },
      ...where([["serviceProviderName", provider], ["resourceId", model], tag]),
    ];
  }

  /** Returns the usage of each group, that with the most tokens first. */
  async by(groupBy: readonly string[], costGroups: readonly string[]): Promise<GroupUsage[]> {
    const ask = { ...this.#range, groupBy, where: this.#usageWhere };
    const rows = await aggregateFields(this.#backend, usageRecords, { ...ask, fields: FIELDS });
    const volumes = await aggregateFields(this.#backend, usageRecords, {
      ...ask,
      where: [...this.#usageWhere, { field: "quantity", missing: false }],
      fields: { quantity: ["sum"] },
    });
    const costs = await aggregateCosts(this.#backend, {
      ...this.#range,
      groupBy: costGroups,
      where: this.#costWhere,
    });
    const volumesOf = Map.groupBy(volumes, ({ group }) => nameOf(group!));
    const costsOf = Map.groupBy(costs, ({ group }) => nameOf(group!));
    return rows.map((row): GroupUsage => {
      const name = nameOf(row.group!);
      const quantities = new Map(
        volumesOf.get(name)?.map(({ unit, fields }) => [unit ?? "", String(fields.quantity.sum)]),
      );
      const sums = sumsOf(row);
      const tokens = (sums.inputTokens ?? 0) + (sums.outputTokens ?? 0) +
        Number(quantities.get("tokens") ?? 0);
      const found = (costsOf.get(name) ?? []).map(({ currency, total }): UsageCost => ({
        currency,
        cost: total,
        ...(tokens > 0 ? { costPerMillionTokens: perMillion(total, tokens) } : {}),
      }));
      return {
        group: Object.values(row.group!),
        usage: usageOf(row, { tokens, costs: found }),
        sums,
        quantities,
      };
    }).toSorted((a, b) => b.usage.tokens - a.usage.tokens || b.usage.count - a.usage.count);
  }
}

function nameOf(group: Record<string, string | null>): string {
  return JSON.stringify(Object.values(group));
}

function sumsOf({ fields }: UsageAggregate): Record<string, number> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, { sum }]) => typeof sum === "number")
      .map(([field, { sum }]) => [field, sum as number]),
  );
}

function perMillion(cost: string, tokens: number): string {
  return Decimal.from(cost).timesFraction(1_000_000n, BigInt(Math.round(tokens))).toString();
}

function usageOf(
  { count, fields }: UsageAggregate,
  { tokens, costs }: Pick<UsageOfGroup, "tokens" | "costs">,
): UsageOfGroup {
  const { requests, durationMs, timeToFirstTokenMs, inputTokens, outputTokens, cacheReadTokens } = fields;
  const taken = {
    inputTokens: inputTokens.sum,
    outputTokens: outputTokens.sum,
    cacheReadTokens: cacheReadTokens.sum,
    durationP50: durationMs.p50,
    durationP95: durationMs.p95,
    firstTokenP50: timeToFirstTokenMs.p50,
  };
  const known = Object.entries(taken).filter(([, value]) => typeof value === "number");
  return {
    count,
    requests: Number(requests.sum ?? 0) + count - Number(requests.count),
    tokens,
    ...Object.fromEntries(known),
    costs,
  };
}

/** Units of models that no price is for, by the sums of their usage. */
function unpricedOf(models: readonly GroupUsage[], book: PriceBook, timestamp: number): UnpricedUsage[] {
  return models.flatMap(({ group: [provider, model], usage, sums, quantities }) => {
    const names = { ...(provider === null ? {} : { provider }), ...(model === null ? {} : { model }) };
    const use = { usageId: "", timestamp, ...names };
    const uses = [
      { ...use, ...sums, requests: usage.requests },
      ...[...quantities].map(([unit, quantity]) => ({ ...use, unit, quantity })),
    ];
    return uses.flatMap((use) => priceUsage(use, book).unpriced)
      .map(({ unit, quantity }) => ({ ...names, unit, quantity, records: usage.count }));
  }).toSorted((a, b) => b.records - a.records);
}
