import { describePath } from "../errors.ts";
import { priceColumns, type PriceInput } from "../pricing/price.ts";
import { RecordStream } from "./record_stream.ts";
import { readRows } from "./rows.ts";
import { asFileError, TransferError } from "./transfer_error.ts";

/**
 * Reads prices from a file of NDJSON, or of CSV whose first line names fields of a price.
 *
 * @throws {TransferError} If the file cannot be read, or a line is no price: half of a price list is worse than none.
 */
export async function readPriceFile(path: string): Promise<PriceInput[]> {
  try {
    return await readPrices(path);
  } catch (error) {
    if (!(error instanceof TransferError)) throw asFileError("read", path, error);
    const name = describePath(path);
    throw error.message.startsWith(name) ? error : new TransferError(`${name}: ${error.message}`, error);
  }
}

async function readPrices(path: string): Promise<PriceInput[]> {
  const format = path.endsWith(".csv") ? "csv" : "ndjson";
  const { readable } = await Deno.open(path);
  const { rows, columns } = await readRows(readable, { format });
  const prices: PriceInput[] = [];
  for await (const outcomes of rows.pipeThrough(new RecordStream(priceColumns, { format }, columns))) {
    for (const outcome of outcomes) {
      if ("record" in outcome) prices.push(outcome.record as PriceInput);
      else if ("reason" in outcome) {
        const { line, reason, code } = outcome;
        throw new TransferError(`${describePath(path)}, line ${line}: ${reason}`, { code, line });
      }
    }
  }
  return prices;
}
