import type { Backend, BackendStats, DatasetStats } from "../backends/backend.ts";
import { deadLetterFolder, type PersistenceConfig } from "../config.ts";
import { DeadLetters } from "../pipeline/dead_letters.ts";
import type { PipelineStats } from "../pipeline/pipeline_stats.ts";
import type { DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { type ListedDelivery, livePartsOf, readDeliveries } from "../transfer/deliveries.ts";
import { readUnmapped, type UnmappedPoints } from "../transfer/unmapped_points.ts";

/** A dataset: how much of it there is, and how old the newest record is. */
export interface DatasetHealth extends DatasetStats {
  /** The table. */
  dataset: string;
  /** Age at which records are deleted, in days; absent where they stay forever. */
  retentionDays?: number;
  /** Age of the newest record in milliseconds; absent where there is none. Negative for a time that is to come. */
  ageMs?: number;
}

/** A source of delivered costs. */
export interface SourceHealth {
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

/** An import of costs. */
export interface DeliveryHealth {
  id: string;
  /** Time of the import, in epoch milliseconds. */
  at: number;
  files: readonly string[];
  /** Sources of its costs. */
  sources: string[];
  /** Number of costs of it that are stored; fewer than delivered where a later import replaced some. */
  rows: number;
  /** Number of costs in the files. */
  delivered: number;
}

/** Records of a dataset that the database refused. */
export interface DeadLetterHealth {
  /** The table. */
  dataset: string;
  /** Number of records in the file; at most {@linkcode MAX_COUNTED}. */
  count: number;
  /** Time of the newest, as ISO 8601. */
  newest: string;
  /** The reason of the newest. */
  message: string;
}

/** Most dead letters that are counted in each file. */
const MAX_COUNTED = 10_000;
/** Most deliveries that the view lists. */
const MAX_DELIVERIES = 20;

/** Counters of a hub or an observatory. */
interface Counters {
  readonly datasets: Partial<Record<DatasetName, PipelineStats>>;
}

/** State that only the answering process has. */
export interface ProcessHealth {
  /** Its configuration. */
  config?: PersistenceConfig;
  /** Counters of its hub and observatory. */
  stats?: readonly Counters[];
}

/** Content of a database, and its time range. */
export interface DataHealthView extends Omit<BackendStats, "datasets"> {
  /** The time of the view, in epoch milliseconds. */
  at: number;
  datasets: DatasetHealth[];
  /** Sources of delivered costs, by name. */
  sources: SourceHealth[];
  /** Points that servers have received and no field takes, by the names of their metrics; absent where there are none. */
  unmapped?: UnmappedPoints[];
  /** The newest imports of costs, the newest first. */
  deliveries: DeliveryHealth[];
  /** Counters of the process that answers, by dataset; absent where it takes in no records. */
  pipelines?: Partial<Record<DatasetName, PipelineStats>>;
  /** Refused records by dataset; absent where no folder keeps them. */
  deadLetters?: DeadLetterHealth[];
}

/**
 * Returns what a database holds, how far it reaches, and how the process that answers takes records in.
 *
 * @throws {BackendError} If the backend or the dead letters cannot be read.
 */
export async function dataHealthView(
  backend: Pick<Backend, "stats" | "documents">,
  at: number = Date.now(),
  { config = {}, stats: counters }: ProcessHealth = {},
): Promise<DataHealthView> {
  const stats = await backend.stats();
  const days = config.retentionDays;
  const datasets = Object.entries(stats.datasets).map(([dataset, found]) => {
    const { retentionDays: usual } = DATASETS[dataset as DatasetName];
    const ofMetrics = usual < Infinity && typeof days === "number" ? days : undefined;
    const kept = (typeof days === "object" ? days[dataset as DatasetName] : ofMetrics) ?? usual;
    return {
      dataset,
      ...found,
      ...(found.newest === undefined ? {} : { ageMs: at - found.newest }),
      ...(kept < Infinity ? { retentionDays: kept } : {}),
    };
  });
  const deliveries = await readDeliveries(backend);
  const folder = deadLetterFolder(config);
  const unmapped = await readUnmapped(backend.documents);
  return {
    ...stats,
    at,
    datasets,
    sources: sourcesOf(deliveries, at),
    ...(unmapped.length === 0 ? {} : { unmapped }),
    deliveries: deliveries.toReversed().slice(0, MAX_DELIVERIES).map(healthOfDelivery),
    ...(counters === undefined
      ? {}
      : { pipelines: Object.assign({}, ...counters.map(({ datasets }) => datasets)) }),
    ...(folder === undefined ? {} : { deadLetters: await readDeadLetters(folder) }),
  };
}

function sourcesOf(deliveries: readonly ListedDelivery[], at: number): SourceHealth[] {
  const parts = deliveries.flatMap((delivery) =>
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
  return sources.toSorted((a, b) => a.source < b.source ? -1 : 1);
}

function healthOfDelivery(delivery: ListedDelivery): DeliveryHealth {
  const { id, at, files, parts } = delivery;
  return {
    id,
    at,
    files,
    sources: [...new Set(parts.map(({ source }) => source))].toSorted(),
    rows: livePartsOf(delivery).reduce((sum, { rows }) => sum + rows, 0),
    delivered: parts.reduce((sum, { delivered }) => sum + delivered, 0),
  };
}

async function readDeadLetters(folder: string): Promise<DeadLetterHealth[]> {
  const found: DeadLetterHealth[] = [];
  for (const dataset of Object.keys(DATASETS) as DatasetName[]) {
    let count = 0;
    let newest: { time: string; message: string } | undefined;
    for await (const letter of new DeadLetters(folder, dataset).list()) {
      newest = letter;
      if (++count >= MAX_COUNTED) break;
    }
    if (newest) found.push({ dataset, count, newest: newest.time, message: newest.message });
  }
  return found;
}
