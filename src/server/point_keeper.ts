import { matches } from "../pricing/price_book.ts";
import type { Sample } from "../transfer/prometheus.ts";
import { shortName } from "../transfer/counter_readings.ts";
import { type MappedRecord, nameOf } from "../transfer/samples_to_records.ts";

/** Series of each tenant that are kept; points of any further ones are counted only. */
const MAX_SERIES = 10_000;

/** Keeps points of chosen metrics that no field takes. */
export class PointKeeper {
  readonly #patterns: readonly string[];
  /** Series by tenant; without one, by the empty text. */
  readonly #series = new Map<string, Set<string>>();

  /**
   * Makes a keeper.
   *
   * @param patterns Names of metrics, in which `*` is any text.
   */
  constructor(patterns: readonly string[]) {
    this.#patterns = patterns;
  }

  /** True if the metric of this name is kept. */
  keeps(name: string): boolean {
    return this.#patterns.some((pattern) => matches(pattern, name));
  }

  /** Makes records of samples. Those of series beyond the limit are counted by name. */
  take(
    samples: readonly Sample[],
    at: number,
    tenant = "",
  ): { records: MappedRecord[]; left: Map<string, number> } {
    const series = this.#series.getOrInsertComputed(tenant, () => new Set());
    const records: MappedRecord[] = [];
    const left = new Map<string, number>();
    for (const [position, sample] of samples.entries()) {
      const { name, labels, value, timestamp = at } = sample;
      if (!hasRoom(series, shortName(nameOf(sample)))) left.set(name, (left.get(name) ?? 0) + 1);
      else if (Number.isFinite(value)) {
        const attributes = Object.keys(labels).length === 0 ? {} : { attributes: { ...labels } };
        records.push({
          dataset: "metric_points",
          record: { timestamp, name, value, ...attributes },
          samples: 1,
          position,
        });
      }
    }
    return { records, left };
  }
}

/** Adds a series; false if there is no room for it. */
function hasRoom(known: Set<string>, series: string): boolean {
  if (known.size < MAX_SERIES) known.add(series);
  return known.has(series);
}
