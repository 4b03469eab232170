import { priceColumns, type PriceInput } from "../pricing/price.ts";
import { RecordStream } from "./record_stream.ts";
import { readRows } from "./rows.ts";
import { TransferError } from "./transfer_error.ts";

/**
 * Reads prices from a file of NDJSON, or of CSV whose first line names fields of a price.
 *
 * @throws {TransferError} If the file cannot be read, or a line is no price: half of a price list is worse than none.
 */
export async function readPriceFile(path: string): Promise<PriceInput[]> {
  const format = path.endsWith(".csv") ? "csv" : "ndjson";
  const file = await Deno.open(path).catch((error) => {
    throw new TransferError(`Cannot read ${path}: ${error.message}.`, { code: "FILE_NOT_FOUND" });
  });
  const { rows, columns } = await readRows(file.readable, { format });
  const prices: PriceInput[] = [];
  for await (const outcomes of rows.pipeThrough(new RecordStream(priceColumns, { format }, columns))) {
    for (const outcome of outcomes) {
      if ("record" in outcome) prices.push(outcome.record as PriceInput);
      else if ("reason" in outcome) {
        throw new TransferError(`${path}, line ${outcome.line}: ${outcome.reason}`, { code: outcome.code });
      }
    }
  }
  return prices;
}
