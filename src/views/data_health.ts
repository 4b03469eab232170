import type { Backend, BackendStats, DatasetStats } from "../backends/backend.ts";
import { livePartsOf, readDeliveries } from "../transfer/deliveries.ts";

/** A dataset: how much of it there is, and how old the newest record is. */
export interface DatasetHealth extends DatasetStats {
  /** The table. */
  dataset: string;
  /** Age of the newest record in milliseconds; absent where there is none. Negative for a time that is to come. */
  ageMs?: number;
}

/** A source of delivered costs. */
export interface SourceHealth {
  /** The source. */
  source: string;
  /** Time of its newest delivery, in epoch milliseconds. */
  deliveredAt: number;
  /** Age of that delivery in milliseconds. */
  ageMs: number;
  /** The start of its newest billing period, in epoch milliseconds. */
  newestPeriod: number;
  /** The number of costs of it that are stored. */
  rows: number;
}

/** Content of a database, and its time range. */
export interface DataHealthView extends Omit<BackendStats, "datasets"> {
  /** The time of the view, in epoch milliseconds. */
  at: number;
  /** Each dataset. */
  datasets: DatasetHealth[];
  /** Sources of delivered costs, by name. */
  sources: SourceHealth[];
}

/** Returns what a database holds, and how far it reaches. */
export async function dataHealthView(
  backend: Pick<Backend, "stats" | "documents">,
  at: number = Date.now(),
): Promise<DataHealthView> {
  const stats = await backend.stats();
  const datasets = Object.entries(stats.datasets).map(([dataset, found]) => ({
    dataset,
    ...found,
    ...(found.newest === undefined ? {} : { ageMs: at - found.newest }),
  }));
  const parts = (await readDeliveries(backend)).flatMap((delivery) =>
    livePartsOf(delivery).map((part) => ({ ...part, deliveredAt: delivery.at }))
  );
  const sources = [...Map.groupBy(parts, ({ source }) => source)].map(([source, found]) => {
    const deliveredAt = found.reduce((newest, part) => Math.max(newest, part.deliveredAt), 0);
    return {
      source,
      deliveredAt,
      ageMs: at - deliveredAt,
      newestPeriod: found.reduce((newest, part) => Math.max(newest, part.period), 0),
      rows: found.reduce((sum, { rows }) => sum + rows, 0),
    };
  });
  return { ...stats, at, datasets, sources: sources.toSorted((a, b) => a.source < b.source ? -1 : 1) };
}
