import type { Backend, RawRows, RawTransfer } from "../backends/backend.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import type { WriteResult } from "../pipeline/sink.ts";
import type { Dataset } from "../records/dataset.ts";
import type { RecordQuery } from "../records/query.ts";
import { aheadSink, BATCHES_AT_ONCE } from "./batch_sink.ts";

/** Source and target of rows that are copied without decoding. */
export interface RawPair {
  readonly from: RawTransfer;
  readonly to: RawTransfer;
}

/** Returns the raw transfers of two databases; undefined unless both have one of the same format. */
export function rawPairOf(from: Pick<Backend, "raw">, to: Pick<Backend, "raw">): RawPair | undefined {
  if (from.raw && to.raw && from.raw.format === to.raw.format) return { from: from.raw, to: to.raw };
}

/** Copies the rows of a query in batches. The target stores each batch once. */
export async function copyRaw(
  { from, to }: RawPair,
  { dataset, query, onWritten }: {
    dataset: Dataset<unknown>;
    query: RecordQuery;
    onWritten: (result: WriteResult) => void;
  },
): Promise<void> {
  const sink = aheadSink<RawRows>((rows, onSent) => {
    const batch = { id: crypto.randomUUID(), dataset, rows };
    return retryBriefly(() => to.write(batch, onSent)).then(onWritten);
  }, { atOnce: BATCHES_AT_ONCE });
  await ReadableStream.from(from.read(dataset, query)).pipeTo(sink);
}
