import { asFailedBefore } from "../errors.ts";
import type { Batch, Sink, WriteResult } from "../pipeline/sink.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { UsageRecord } from "../records/usage_record.ts";
import { acceptRecord } from "../records/validation.ts";
import type { PriceBook } from "./price_book.ts";
import { costEntriesOf, priceUsage } from "./usage_cost.ts";

/** Costs of a batch: a use has up to seven, and twice as many in one transaction are no faster. */
const BATCH_RECORDS = 10_000;

/**
 * A sink of usage that writes the costs of each batch before the batch. Both have ids that follow from the batch, so a
 * retry after a crash between the two writes neither twice, and no usage is stored without its costs. Prices are read with
 * the first batch: a program with a spool also starts while its database is down.
 */
export function pricingSink(
  usage: Sink,
  { costs, readPrices }: { costs: Sink; readPrices: () => Promise<PriceBook> },
): Sink {
  let book: PriceBook | undefined;
  const prices = async () => {
    try {
      return book ??= await readPrices();
    } catch (error) {
      throw asFailedBefore(error); // no record is at fault
    }
  };
  return {
    maxRecords: usage.maxRecords?.bind(usage),
    prepare: (batch) => usage.prepare?.(batch),
    async write(batch: Batch, onSent?: () => void): Promise<WriteResult> {
      const known = await prices();
      const records = (batch.records as readonly UsageRecord[])
        .flatMap((use) => costEntriesOf(use, priceUsage(use, known)))
        .map((entry) => acceptRecord(costEntries, entry));
      for (let i = 0; i < records.length; i += BATCH_RECORDS) {
        const id = `${batch.id}:prices:${i}`;
        await costs.write({ id, dataset: costEntries, records: records.slice(i, i + BATCH_RECORDS) });
      }
      return await usage.write(batch, onSent);
    },
  };
}
