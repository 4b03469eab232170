import { createHash } from "node:crypto";
import { columnOf, type DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import {
  DESCRIPTIONS,
  IDENTITY,
  LABELS,
  METRIC_FIELDS,
  type MetricField,
  type Term,
} from "./metric_names.ts";
import type { Sample } from "./prometheus.ts";

/** A record as an input of its dataset. */
export interface MappedRecord {
  readonly dataset: DatasetName;
  readonly record: Readonly<Record<string, unknown>>;
}

/** Options of a {@linkcode SampleMapper}. */
export interface SampleMapperOptions {
  /** Origin of the samples; part of the ids of usage. */
  readonly target: string;
  /** Values of identity fields that no label gives, such as `nodeId`. */
  readonly defaults?: Readonly<Record<string, string>>;
  /**
   * Metrics and their fields.
   *
   * @default {METRIC_FIELDS}
   */
  readonly fields?: readonly MetricField[];
}

/** Records of a set of samples, and what became none. */
export interface MappedSamples {
  readonly records: readonly MappedRecord[];
  /** Number of series by name of the metrics that no field takes. */
  readonly unmapped: ReadonlyMap<string, number>;
}

interface Reading {
  readonly value: number;
  readonly time: number;
}

/** A record in the making. */
interface Draft {
  readonly dataset: DatasetName;
  readonly timestamp: number;
  readonly fields: Record<string, unknown>;
  readonly labels: Record<string, string>;
}

/**
 * Turns samples of a target into records. Series that agree in the identity of a dataset and in time make one record,
 * which has the fields that there are metrics for. Counters need two calls: the first only learns where they stand.
 */
export class SampleMapper {
  readonly #target: string;
  readonly #defaults: Readonly<Record<string, string>>;
  readonly #fields: readonly MetricField[];
  readonly #known: ReadonlySet<string>;
  /** The last reading of each series of a counter. */
  #readings = new Map<string, Reading>();

  /** Makes a mapper for one target. */
  constructor({ target, defaults = {}, fields = METRIC_FIELDS }: SampleMapperOptions) {
    this.#target = target;
    this.#defaults = defaults;
    this.#fields = fields;
    this.#known = new Set(fields.flatMap(({ metrics, over }) => [...metrics, ...over?.metrics ?? []]));
  }

  /** Maps the samples of one scrape. */
  map(samples: readonly Sample[], scrapedAt: number): MappedSamples {
    const byName = Map.groupBy(samples, ({ name }) => name);
    const before = this.#readings;
    this.#readings = this.#readCounters(byName, scrapedAt);
    const drafts = new Map<string, Draft>();
    for (const field of this.#fields) this.#addField(field, { byName, before, scrapedAt, drafts });
    const unmapped = new Map<string, number>();
    for (const [name, series] of byName) {
      if (!this.#known.has(name)) unmapped.set(name, series.length);
    }
    return { records: [...drafts.values()].map((draft) => this.#toRecord(draft)), unmapped };
  }

  /** Reads the current value of each counter. Keeps only those of this scrape, so that ended series take no memory. */
  #readCounters(byName: ReadonlyMap<string, readonly Sample[]>, scrapedAt: number): Map<string, Reading> {
    const readings = new Map<string, Reading>();
    const terms = this.#fields.flatMap((field) => field.over ? [field, field.over] : [field]);
    for (const name of new Set(terms.filter(({ counter }) => counter).flatMap(({ metrics }) => metrics))) {
      for (const sample of byName.get(name) ?? []) {
        readings.set(nameOf(sample), { value: sample.value, time: sample.timestamp ?? scrapedAt });
      }
    }
    return readings;
  }

  #addField(field: MetricField, scrape: {
    byName: ReadonlyMap<string, readonly Sample[]>;
    before: ReadonlyMap<string, Reading>;
    scrapedAt: number;
    drafts: Map<string, Draft>;
  }): void {
    const values = this.#gather(field.dataset, field, scrape);
    const over = field.over && this.#gather(field.dataset, field.over, scrape);
    for (const [key, { value, sample, timestamp }] of values) {
      let result = value;
      if (over) {
        const divisor = over.get(key)?.value;
        if (!divisor) continue;
        result /= divisor;
      }
      if (field.isComplement) result = Math.max(0, 1 - result); // times of clocks differ a little
      result *= field.scale ?? 1;
      if (!Number.isFinite(result)) continue;
      let draft = scrape.drafts.get(key);
      if (!draft) {
        scrape.drafts.set(key, draft = { dataset: field.dataset, timestamp, fields: {}, labels: {} });
        Object.assign(draft.fields, this.#identityOf(field.dataset, sample));
      }
      draft.fields[field.field] = toField(field, result);
      describe(draft, sample);
    }
  }

  /** The number of a term for each record, and a series that it comes from. */
  #gather(dataset: DatasetName, term: Term, { byName, before, scrapedAt }: {
    byName: ReadonlyMap<string, readonly Sample[]>;
    before: ReadonlyMap<string, Reading>;
    scrapedAt: number;
  }): Map<string, { value: number; sample: Sample; timestamp: number }> {
    const found = new Map<string, { values: number[]; sample: Sample; timestamp: number }>();
    for (const sample of term.metrics.flatMap((name) => byName.get(name) ?? [])) {
      if (!isOf(term, sample)) continue;
      const value = this.#valueOf(term, sample, before, scrapedAt);
      if (value === undefined || !Number.isFinite(value)) continue;
      const timestamp = sample.timestamp ?? scrapedAt;
      const key = JSON.stringify([dataset, timestamp, this.#identityOf(dataset, sample)]);
      const group = found.get(key);
      if (group) group.values.push(value);
      else found.set(key, { values: [value], sample, timestamp });
    }
    return new Map(
      [...found].map(([key, { values, ...rest }]) => [key, { ...rest, value: combine(term, values) }]),
    );
  }

  #valueOf(
    { counter }: Term,
    sample: Sample,
    before: ReadonlyMap<string, Reading>,
    scrapedAt: number,
  ): number | undefined {
    if (!counter) return sample.value;
    const last = before.get(nameOf(sample));
    const time = sample.timestamp ?? scrapedAt;
    if (!last || time <= last.time) return undefined;
    // A counter that is lower than before was set back to zero in between.
    const increase = sample.value >= last.value ? sample.value - last.value : sample.value;
    return counter === "increase" ? increase : increase / ((time - last.time) / 1_000);
  }

  #identityOf(dataset: DatasetName, { labels }: Sample): Record<string, string> {
    const identity: Record<string, string> = {};
    for (const [field, names] of Object.entries(IDENTITY[dataset] ?? {})) {
      const name = names.find((name) => labels[name] !== undefined && labels[name] !== "");
      const value = name === undefined ? this.#defaults[field] : labels[name];
      if (value !== undefined) identity[field] = value;
    }
    return identity;
  }

  #toRecord({ dataset, timestamp, fields, labels }: Draft): MappedRecord {
    const record: Record<string, unknown> = { timestamp, ...fields };
    const map = DATASETS[dataset].maps[0]?.field;
    if (map !== undefined && Object.keys(labels).length > 0) record[map] = labels;
    if (dataset === "usage_records") {
      const id = JSON.stringify([
        this.#target,
        this.#identityOf(dataset, { labels: {} } as Sample),
        fields.model,
        timestamp,
      ]);
      record.usageId = createHash("sha256").update(id).digest("hex").slice(0, 32);
    }
    return { dataset, record };
  }
}

/** The labels of a sample that describe its record. */
function describe(draft: Draft, { labels }: Sample): void {
  const { positions } = DATASETS[draft.dataset];
  for (const [name, value] of Object.entries(labels)) {
    const field = Object.hasOwn(DESCRIPTIONS, name) ? DESCRIPTIONS[name] : undefined;
    if (field !== undefined && positions.has(field)) {
      const { type } = columnOf(DATASETS[draft.dataset], field);
      const number = Number(value);
      if (type === "text") draft.fields[field] = value;
      else if (Number.isSafeInteger(number)) draft.fields[field] = number;
    }
  }
  for (const [name, label] of Object.entries(LABELS)) {
    const value = labels[name];
    if (value !== undefined && value !== "") draft.labels[label] ??= value;
  }
}

function isOf({ where = {}, except }: Term, { labels }: Sample): boolean {
  const has = ([name, value]: [string, string]) => labels[name] === value;
  return Object.entries(where).every(has) && !(except && Object.entries(except).every(has));
}

function combine({ by = "sum" }: Term, values: readonly number[]): number {
  if (by === "max") return Math.max(...values);
  const sum = values.reduce((total, value) => total + value, 0);
  return by === "avg" ? sum / values.length : sum;
}

/** The value as its column takes it. */
function toField({ dataset, field, bits }: MetricField, value: number): unknown {
  const { type } = columnOf(DATASETS[dataset], field);
  if (type === "boolean") return bits === undefined ? value !== 0 : (value & bits) !== 0;
  return type === "integer" ? Math.round(value) : value;
}

/** The name of a series. */
function nameOf({ name, labels }: Sample): string {
  return JSON.stringify([name, ...Object.entries(labels).sort(([a], [b]) => a < b ? -1 : 1).flat()]);
}
