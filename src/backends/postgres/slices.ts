import type { Dataset, DatasetName } from "../../records/dataset.ts";
import type { RecordQuery } from "../../records/query.ts";
import type { ReadOptions } from "../backend.ts";
import { isOutOfMemory } from "./errors.ts";
import type { Partition, PartitionManager } from "./partitions.ts";
import type { PostgresPool } from "./pool.ts";

/** Partitions that any server lets one statement read. */
const FEW_PARTITIONS = 100;
/**
 * A query for the partitions that one statement may read. It locks each of them and each of their indexes, some five in
 * all, until it ends, and may take half of the locks that all sessions share: by default 640 partitions.
 */
const MOST_PARTITIONS = "SELECT (current_setting('max_locks_per_transaction')::int * " +
  "(current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int) / 10)::text";
/** Lifetime of a list of partitions: an older one still yields slices that cover all times. */
const CACHE_MS = 60_000;

/** A part of a query: the records of some adjacent partitions. */
export interface Slice {
  readonly query: RecordQuery;
  readonly partitions: readonly Partition[];
}

/** Cuts queries over many partitions into slices of time. */
export class Slices {
  readonly #pool: PostgresPool;
  readonly #parts: PartitionManager;
  #most: number | undefined;
  readonly #cache = new Map<DatasetName, { partitions: readonly Partition[]; until: number }>();

  constructor(pool: PostgresPool, parts: PartitionManager) {
    this.#pool = pool;
    this.#parts = parts;
  }

  /** The slices of a query in the order in which it reads; one where it reads few partitions. */
  async of(dataset: Dataset<unknown>, query: RecordQuery, options?: ReadOptions): Promise<Slice[]> {
    const { startTime = -Infinity, endTime = Infinity } = query;
    const partitions = (await this.#list(dataset, options))
      .filter(({ start, end }) => start < endTime && end > startTime);
    if (partitions.length <= FEW_PARTITIONS) return [{ query, partitions }];
    this.#most ??= await this.#pool.use("read", async (session) => {
      const [[most]] = await session.query(MOST_PARTITIONS);
      return Math.max(FEW_PARTITIONS, Number(most));
    }, options);
    return splitSlice({ query, partitions }, this.#most);
  }

  async #list(dataset: Dataset<unknown>, options?: ReadOptions): Promise<readonly Partition[]> {
    let cached = this.#cache.get(dataset.name);
    if (!cached || performance.now() >= cached.until) {
      const partitions = await this.#parts.list(dataset, options);
      cached = { partitions, until: performance.now() + CACHE_MS };
      this.#cache.set(dataset.name, cached);
    }
    return cached.partitions;
  }
}

/**
 * Runs something for one slice after the other. A slice for which the server is out of memory is halved, as long as
 * nothing of it was given.
 */
export async function* eachSlice<T>(
  slices: readonly Slice[],
  run: (query: RecordQuery) => AsyncIterable<T>,
): AsyncGenerator<T> {
  const rest = slices.toReversed();
  for (let slice = rest.pop(); slice; slice = rest.pop()) {
    let isGiven = false;
    try {
      for await (const part of run(slice.query)) {
        isGiven = true;
        yield part;
      }
    } catch (error) {
      if (isGiven || !isOutOfMemory(error) || slice.partitions.length < 2) throw error;
      rest.push(...splitSlice(slice, Math.ceil(slice.partitions.length / 2)).reverse());
    }
  }
}

/** A slice as slices of at most so many partitions, in the order in which its query reads. */
function splitSlice({ query, partitions }: Slice, most: number): Slice[] {
  const slices: Slice[] = [];
  for (let i = 0; i < partitions.length || i === 0; i += most) {
    const isLast = i + most >= partitions.length;
    slices.push({
      query: {
        ...query,
        startTime: i === 0 ? query.startTime : partitions[i].start,
        endTime: isLast ? query.endTime : partitions[i + most].start,
      },
      partitions: partitions.slice(i, i + most),
    });
  }
  return query.order === "asc" ? slices : slices.reverse();
}
