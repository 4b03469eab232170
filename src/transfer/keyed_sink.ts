import type { Backend, ConflictPolicy } from "../backends/backend.ts";
import { retryBriefly } from "../pipeline/retry.ts";
import type { Sink } from "../pipeline/sink.ts";
import { type Dataset, keyOf } from "../records/dataset.ts";
import { acceptQuery } from "../records/query.ts";
import { aheadSink } from "./batch_sink.ts";
import { contentOf } from "./values.ts";

/** Ids that are looked up at once. */
const CHUNK = 1_000;

type Keyed = Readonly<Record<string, unknown>> & { readonly timestamp: number };

/** Outcome of a batch of records that have a key. */
export interface KeyedResult {
  /** Records that are new in the backend, restated ones included. */
  readonly stored: number;
  /** Stored records that replaced an older record with the same key. */
  readonly restated: number;
  /** Records that are stored with the same content. */
  readonly known: number;
  /** Records whose key is stored with other content. */
  readonly different: readonly Keyed[];
}

/**
 * A `WritableStream` of batches of records that have a key, which makes writes idempotent. The ledger would skip a batch
 * that was written before, although its records may have been restated or deleted since.
 */
export function keyedSink(
  backend: Sink & Partial<Pick<Backend, "read">>,
  dataset: Dataset<unknown>,
  { onConflict, onWritten }: {
    readonly onConflict?: ConflictPolicy;
    readonly onWritten: (result: KeyedResult) => void;
  },
): WritableStream<readonly unknown[]> {
  const canRead = backend.read !== undefined;
  const compare = (records: readonly unknown[]) =>
    compareStored(backend as Pick<Backend, "read">, dataset, records as readonly Keyed[]);
  return aheadSink(async (given, onSent) => {
    const records = onConflict === "replace" && canRead
      ? withoutEqual(dataset, given as readonly Keyed[], (await compare(given)).equal)
      : given;
    const skipped = given.length - records.length;
    if (records.length === 0) return onWritten({ stored: 0, restated: 0, known: skipped, different: [] });
    const batch = { id: crypto.randomUUID(), dataset, records };
    const { committed, duplicates, restated } = await retryBriefly(() =>
      // The next batch is compared with what this one has stored.
      backend.write(batch, onConflict === "replace" ? undefined : onSent)
    );
    const different = duplicates > 0 && canRead ? (await compare(records)).different : [];
    onWritten({ stored: committed, restated, known: skipped + duplicates - different.length, different });
  });
}

/** Leaves out the records of keys whose last record is stored already: the last of a key replaces those before it. */
function withoutEqual(
  dataset: Dataset<unknown>,
  records: readonly Keyed[],
  equal: ReadonlySet<Keyed>,
): readonly Keyed[] {
  if (equal.size === 0) return records;
  const last = new Map(records.map((record) => [keyOf(dataset, record), record]));
  return records.filter((record) => !equal.has(last.get(keyOf(dataset, record))!));
}

/** Finds the records whose key is stored, with the same content or other. */
async function compareStored(
  backend: Pick<Backend, "read">,
  dataset: Dataset<unknown>,
  records: readonly Keyed[],
): Promise<{ readonly equal: ReadonlySet<Keyed>; readonly different: readonly Keyed[] }> {
  const sorted = records.toSorted((a, b) => a.timestamp - b.timestamp);
  const equal = new Set<Keyed>();
  const different: Keyed[] = [];
  for (let at = 0; at < sorted.length; at += CHUNK) {
    const part = sorted.slice(at, at + CHUNK);
    const stored = await retryBriefly(() => readStored(backend, dataset, part));
    for (const record of part) {
      const content = stored.get(keyOf(dataset, record));
      if (content === contentOf(dataset.columns, record)) equal.add(record);
      else if (content !== undefined) different.push(record);
    }
  }
  return { equal, different };
}

/** Contents of the stored records that have a key of these, which are sorted by time. */
async function readStored(
  backend: Pick<Backend, "read">,
  dataset: Dataset<unknown>,
  records: readonly Keyed[],
): Promise<ReadonlyMap<string, string>> {
  const field = dataset.key.find((name) => name !== "timestamp")!;
  const query = acceptQuery(dataset, {
    startTime: records[0].timestamp,
    endTime: records.at(-1)!.timestamp + 1,
    where: [{ field, in: [...new Set(records.map((record) => record[field] as string))] }],
  });
  const stored = new Map<string, string>();
  for await (const page of backend.read(dataset, query)) {
    for (const record of page) {
      stored.set(keyOf(dataset, record), contentOf(dataset.columns, record));
    }
  }
  return stored;
}
