/**
 * Turns stored usage into estimated costs, and restates them by newer prices.
 *
 * @module
 */
import type { Backend } from "../backends/backend.ts";
import { countingChange } from "../backends/change_count.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import { costEntriesOf, PRICES_SOURCE, priceUsage } from "../pricing/usage_cost.ts";
import type { PriceBook } from "../pricing/price_book.ts";
import { costEntries, type CostEntry } from "../records/cost_entry.ts";
import { Decimal } from "../records/decimal.ts";
import { acceptQuery, type UsageRecordsQuery } from "../records/query.ts";
import { type UsageRecord, usageRecords } from "../records/usage_record.ts";
import { Sums } from "../records/sums.ts";
import { acceptRecord } from "../records/validation.ts";
import { deleteRecords } from "./delete_records.ts";
import { contentOf } from "./values.ts";

const BATCH_RECORDS = 5_000;

/** Options of {@linkcode priceUsageRecords}. */
export interface PriceUsageOptions {
  /** Usage to price; all where absent. */
  query?: Pick<UsageRecordsQuery, "startTime" | "endTime">;
  book: PriceBook;
  /**
   * Restate the costs of usage that was priced before. The backend must be open with `onConflict: "replace"`.
   *
   * @default {false}
   */
  reprice?: boolean;
  /**
   * Compute only, and write nothing.
   *
   * @default {false}
   */
  dryRun?: boolean;
}

/** Volume of a model and unit that has no price. */
export interface UnpricedUsage {
  /** Provider, if known. */
  provider?: string;
  /** Model, if known. */
  model?: string;
  unit: string;
  /** Volume: a canonical decimal string. */
  quantity: string;
  records: number;
}

/** Result of {@linkcode priceUsageRecords}. */
export interface PriceUsageReport {
  records: number;
  added: number;
  /** Costs restated with another amount or description. */
  restated: number;
  /** Costs deleted because no price applies to their usage any more. */
  deleted: number;
  /** Costs that stay as they were. */
  unchanged: number;
  /** Exact total of each currency before. */
  before: Record<string, string>;
  /** Exact total of each currency after. */
  after: Record<string, string>;
  /** Usage without a price, by model and unit; the largest number of records first. */
  unpriced: UnpricedUsage[];
}

/**
 * Prices usage. Run again with the same prices, it changes nothing. A run that was stopped is completed by the next.
 *
 * @throws {BackendError} If the backend cannot be read or written.
 */
export async function priceUsageRecords(
  backend: Backend,
  { query = {}, book, reprice = false, dryRun = false }: PriceUsageOptions,
): Promise<PriceUsageReport> {
  const run = new PricingRun(backend, book, { reprice, dryRun });
  const uses = byTime(backend.read(usageRecords, acceptQuery(usageRecords, query)));
  const stored = byTime(backend.read(
    costEntries,
    acceptQuery(costEntries, { ...query, where: [{ field: "source", eq: PRICES_SOURCE }] }),
  ));
  let [use, cost] = [await next(uses), await next(stored)];
  while (use || cost) {
    const time = Math.min(use?.timestamp ?? Infinity, cost?.timestamp ?? Infinity);
    const isUse = use?.timestamp === time;
    const isCost = cost?.timestamp === time;
    await run.price(isUse ? use!.records : [], isCost ? cost!.records : []);
    if (isUse) use = await next(uses);
    if (isCost) cost = await next(stored);
  }
  return await run.finish();
}

/** Compares the costs that usage has with those that it should have, time by time. */
class PricingRun {
  readonly #backend: Backend;
  readonly #book: PriceBook;
  readonly #options: { readonly reprice: boolean; readonly dryRun: boolean };
  readonly #before = new Sums();
  readonly #after = new Sums();
  readonly #unpriced = new Map<string, UnpricedUsage>();
  readonly #counts = { records: 0, added: 0, restated: 0, deleted: 0, unchanged: 0 };
  #batch: CostEntry[] = [];

  constructor(backend: Backend, book: PriceBook, options: { reprice: boolean; dryRun: boolean }) {
    this.#backend = backend;
    this.#book = book;
    this.#options = options;
  }

  /** Prices the uses of one time, whose stored costs are given. */
  async price(uses: readonly UsageRecord[], stored: readonly CostEntry[]): Promise<void> {
    const left = new Map(stored.map((entry) => [entry.entryId, entry]));
    for (const entry of stored) this.#before.add(entry.currency, entry.amount);
    this.#counts.records += uses.length;
    for (const use of uses) {
      const priced = priceUsage(use, this.#book);
      for (const { unit, quantity } of priced.unpriced) this.#noteUnpriced(use, unit, quantity);
      for (const entry of costEntriesOf(use, priced)) {
        const found = left.get(entry.entryId);
        left.delete(entry.entryId);
        await this.#keep(acceptRecord<CostEntry>(costEntries, entry), found);
      }
    }
    for (const entry of left.values()) await this.#drop(entry);
  }

  /** Writes what is left to write; returns the report. */
  async finish(): Promise<PriceUsageReport> {
    await this.#write();
    const unpriced = [...this.#unpriced.values()].sort((a, b) => b.records - a.records);
    return { ...this.#counts, before: this.#before.toRecord(), after: this.#after.toRecord(), unpriced };
  }

  async #keep(entry: CostEntry, found: CostEntry | undefined): Promise<void> {
    if (found && (!this.#options.reprice || isSame(entry, found))) {
      this.#counts.unchanged++;
      this.#after.add(found.currency, found.amount);
      return;
    }
    this.#counts[found ? "restated" : "added"]++;
    this.#after.add(entry.currency, entry.amount);
    this.#batch.push(entry);
    if (this.#batch.length >= BATCH_RECORDS) await this.#write();
  }

  /** Deletes a cost whose usage has no price any more, or is gone. */
  async #drop(entry: CostEntry): Promise<void> {
    if (!this.#options.reprice) {
      this.#counts.unchanged++;
      this.#after.add(entry.currency, entry.amount);
      return;
    }
    this.#counts.deleted++;
    if (this.#options.dryRun) return;
    const { timestamp, entryId } = entry;
    const query = {
      startTime: timestamp,
      endTime: timestamp + 1,
      where: [{ field: "entryId", eq: entryId }],
    };
    await deleteRecords(this.#backend, costEntries, acceptQuery(costEntries, query));
  }

  async #write(): Promise<void> {
    const records = this.#batch;
    this.#batch = [];
    if (records.length === 0 || this.#options.dryRun) return;
    // A new id for each attempt of a run: prices may be set back, and the ledger would take that for a replay.
    const id = crypto.randomUUID();
    const write = () => this.#backend.write({ id, dataset: costEntries, records });
    await countingChange(this.#backend, retryBriefly(write));
  }

  #noteUnpriced({ provider, model }: UsageRecord, unit: string, quantity: string): void {
    const name = JSON.stringify([provider, model, unit]);
    const found = this.#unpriced.get(name) ??
      { ...(provider && { provider }), ...(model && { model }), unit, quantity: "0", records: 0 };
    found.quantity = Decimal.from(found.quantity).plus(Decimal.from(quantity)).toString();
    found.records++;
    this.#unpriced.set(name, found);
  }
}

/** True if two costs are the same record. */
function isSame(a: CostEntry, b: CostEntry): boolean {
  return contentOf(costEntries.columns, a) === contentOf(costEntries.columns, b);
}

interface SameTime<T> {
  readonly timestamp: number;
  readonly records: T[];
}

/** Gathers the records of each time from pages that are sorted by time. */
async function* byTime<T extends { timestamp: number }>(
  pages: AsyncIterable<readonly T[]>,
): AsyncGenerator<SameTime<T>> {
  let group: SameTime<T> | undefined;
  for await (const page of pages) {
    for (const record of page) {
      if (group?.timestamp === record.timestamp) group.records.push(record);
      else {
        if (group) yield group;
        group = { timestamp: record.timestamp, records: [record] };
      }
    }
  }
  if (group) yield group;
}

async function next<T>(groups: AsyncGenerator<T>): Promise<T | undefined> {
  const { done, value } = await groups.next();
  return done ? undefined : value;
}
