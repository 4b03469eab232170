import { createHash } from "node:crypto";
import { DAY_MS } from "../records/calendar.ts";
import { type Column, columnOf, type DatasetName } from "../records/dataset.ts";
import { DATASETS } from "../records/datasets.ts";
import { CounterReadings, type Increase } from "./counter_readings.ts";
import type { LabelFilter, MetricField, Term } from "./metric_mapping.ts";
import { ADDRESSES, DESCRIPTIONS, IDENTITY, LABELS, METRIC_FIELDS } from "./metric_names.ts";
import type { Sample } from "./prometheus.ts";

/** Time by which a reading of a counter may be ahead of this machine's clock, in milliseconds. */
const MAX_AHEAD_MS = DAY_MS;

/** A record as an input of its dataset. */
export interface MappedRecord {
  readonly dataset: DatasetName;
  readonly record: Readonly<Record<string, unknown>>;
  /** Number of samples that it was made of. */
  readonly samples: number;
  /** Position among the records of its dataset. It depends on the samples only: those without a field leave a gap. */
  readonly position: number;
}

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
  /** Readings of counters. Its own where absent. */
  readonly counters?: CounterReadings;
}

/** Records of a set of samples, and what became none. */
export interface MappedSamples {
  readonly records: readonly MappedRecord[];
  /** Number of series by name of the metrics that no field takes. */
  readonly unmapped: ReadonlyMap<string, number>;
}

/** Checks if labels have certain values. */
type Matcher = (labels: Sample["labels"]) => boolean;

/** A term, ready to be looked up by the names of its metrics. */
interface Use {
  readonly dataset: DatasetName;
  readonly term: Term;
  readonly matches: Matcher;
  /** Position in the values of a draft. */
  readonly slot: number;
}

/** A field with the positions of its terms in the values of a draft. */
interface Plan {
  readonly field: MetricField;
  readonly column: Column;
  readonly value: number;
  readonly divisor?: number;
}

/** Values of a term that are put together. */
interface Gathered {
  sum: number;
  count: number;
  max: number;
  /** Counts by upper bound, of a histogram. */
  buckets?: Map<number, number>;
}

/** A record in the making. */
interface Draft {
  readonly timestamp: number;
  readonly fields: Record<string, unknown>;
  readonly labels: Record<string, string>;
  readonly values: Map<number, Gathered>;
  readonly series: string[];
  samples: number;
}

/**
 * Turns samples of a target into records. Series that agree in the identity of a dataset and in time make one record,
 * which has the fields that there are metrics for. Counters need two readings: the first only learns where they stand.
 */
export class SampleMapper {
  readonly #target: string;
  readonly #defaults: Readonly<Record<string, string>>;
  readonly #counters: CounterReadings;
  /** Uses of each metric, by name and dataset. */
  readonly #uses = new Map<string, Map<DatasetName, Use[]>>();
  /** Fields of each dataset, in order of precedence. */
  readonly #plans = new Map<DatasetName, Plan[]>();
  #slots = 0;

  constructor(
    { target, defaults = {}, fields = METRIC_FIELDS, counters = new CounterReadings() }: SampleMapperOptions,
  ) {
    this.#target = target;
    this.#defaults = defaults;
    this.#counters = counters;
    for (const field of fields) {
      const { dataset, over } = field;
      const plans = this.#plans.get(dataset) ?? [];
      this.#plans.set(dataset, plans);
      plans.push({
        field,
        column: columnOf(DATASETS[dataset], field.field),
        value: this.#use(dataset, field),
        divisor: over && this.#use(dataset, over),
      });
    }
  }

  /** True if a field takes the metric of this name. */
  knows(name: string): boolean {
    return this.#uses.has(name);
  }

  /** Maps samples of a tenant, if any; those without a time are of the time `at`. Tenants share no counters and no ids. */
  map(samples: readonly Sample[], at: number, tenant?: string): MappedSamples {
    const drafts = new Map<DatasetName, Map<string, Draft>>();
    const unmapped = new Map<string, number>();
    const taken = new Set<string>();
    for (const sample of inOrder(samples)) {
      const uses = this.#uses.get(sample.name);
      if (
        uses &&
        this.#take(sample, uses, { time: sample.timestamp ?? at, latest: at + MAX_AHEAD_MS, tenant, drafts })
      ) {
        taken.add(sample.name);
      } else unmapped.set(sample.name, (unmapped.get(sample.name) ?? 0) + 1);
    }
    // A metric such as processor time may have one series with the total of all processors.
    for (const name of taken) unmapped.delete(name);
    const records = [...this.#plans.keys()].flatMap((dataset) =>
      [...drafts.get(dataset)?.values() ?? []].flatMap((draft, i) => this.#toRecord(dataset, draft, i) ?? [])
    );
    return { records, unmapped };
  }

  #use(dataset: DatasetName, term: Term): number {
    const slot = this.#slots++;
    const use: Use = { dataset, term, matches: matcherOf(term), slot };
    for (const name of term.metrics) {
      const byDataset = this.#uses.get(name) ?? new Map<DatasetName, Use[]>();
      this.#uses.set(name, byDataset);
      byDataset.set(dataset, [...byDataset.get(dataset) ?? [], use]);
    }
    return slot;
  }

  /** Adds a sample to the drafts of all fields that take it. Returns true if there is one. */
  #take(
    sample: Sample,
    uses: ReadonlyMap<DatasetName, readonly Use[]>,
    { time, latest, tenant, drafts }: {
      time: number;
      latest: number;
      tenant?: string;
      drafts: Map<DatasetName, Map<string, Draft>>;
    },
  ): boolean {
    let isMatched = false;
    let series: string | undefined;
    let increase: Increase | undefined;
    for (const [dataset, terms] of uses) {
      let draft: Draft | undefined;
      let isUsed = false;
      for (const { term, matches, slot } of terms) {
        if (!matches(sample.labels)) continue;
        isMatched = true;
        draft ??= this.#draftOf(dataset, sample.labels, time, drafts);
        if (term.counter && series === undefined) {
          series = nameOf(sample);
          // A reading in the far future would make all later ones late.
          increase = time <= latest ? this.#counters.take(series, sample, time, tenant) : undefined;
        }
        const value = valueOf(term, sample, increase);
        if (value === undefined || !Number.isFinite(value)) continue;
        isUsed = true;
        gather(draft, slot, value, term, sample.labels.le);
      }
      if (draft && isUsed) {
        draft.samples++;
        if (series !== undefined) draft.series.push(series);
      }
    }
    return isMatched;
  }

  #draftOf(
    dataset: DatasetName,
    labels: Sample["labels"],
    timestamp: number,
    drafts: Map<DatasetName, Map<string, Draft>>,
  ): Draft {
    const ofDataset = drafts.get(dataset) ?? new Map<string, Draft>();
    drafts.set(dataset, ofDataset);
    const fields = this.#identityOf(dataset, labels);
    let key = String(timestamp);
    for (const name in fields) key += `\0${name}\0${fields[name]}`;
    let draft = ofDataset.get(key);
    if (!draft) {
      draft = { timestamp, fields, labels: {}, values: new Map(), series: [], samples: 0 };
      ofDataset.set(key, draft);
    }
    describe(dataset, draft, labels);
    return draft;
  }

  #identityOf(dataset: DatasetName, labels: Sample["labels"]): Record<string, string> {
    const identity: Record<string, string> = {};
    const names = IDENTITY[dataset] ?? {};
    for (const field in names) {
      const name = names[field].find((name) => labels[name] !== undefined && labels[name] !== "");
      const value = name === undefined ? this.#defaults[field] : labels[name];
      if (value === undefined) continue;
      identity[field] = name !== undefined && ADDRESSES.has(name) ? value.replace(/:\d+$/, "") : value;
    }
    return identity;
  }

  #toRecord(dataset: DatasetName, draft: Draft, position: number): MappedRecord | undefined {
    const { timestamp, fields, labels, values, series, samples } = draft;
    const record: Record<string, unknown> = { timestamp, ...fields };
    let hasField = false;
    for (const { field, column, value, divisor } of this.#plans.get(dataset)!) {
      const gathered = values.get(value);
      if (!gathered) continue;
      const result = resultOf(field, gathered, divisor === undefined ? undefined : values.get(divisor));
      if (result === undefined) continue;
      record[field.field] = toField(field, column, result);
      hasField = true;
    }
    if (!hasField) return undefined;
    const map = ["labels", "tags"].find((name) => DATASETS[dataset].positions.has(name));
    if (map !== undefined && Object.keys(labels).length > 0) record[map] = labels;
    if (dataset === "usage_records") {
      // The series are part of it: those of one model and time may arrive in several requests.
      const id = JSON.stringify([this.#target, fields, timestamp, series.sort()]);
      record.usageId = createHash("sha256").update(id).digest("hex").slice(0, 32);
    }
    return { dataset, record, samples, position };
  }
}

/** Samples from the oldest to the newest: counters are read in the order of time. */
function inOrder(samples: readonly Sample[]): readonly Sample[] {
  let last = -Infinity;
  for (const { timestamp = last } of samples) {
    if (timestamp < last) {
      return samples.toSorted((a, b) => (a.timestamp ?? Infinity) - (b.timestamp ?? Infinity));
    }
    last = timestamp;
  }
  return samples;
}

/** The value of a sample, or undefined where it has none yet. */
function valueOf({ counter }: Term, { value, isDelta }: Sample, increase?: Increase): number | undefined {
  if (!counter) return isDelta ? undefined : value;
  if (counter === "increase" || !increase) return increase?.value;
  return increase.seconds > 0 ? increase.value / increase.seconds : undefined;
}

function gather(draft: Draft, slot: number, value: number, { quantile }: Term, bound: string): void {
  let gathered = draft.values.get(slot);
  if (!gathered) draft.values.set(slot, gathered = { sum: 0, count: 0, max: -Infinity });
  gathered.sum += value;
  gathered.count++;
  gathered.max = Math.max(gathered.max, value);
  if (quantile === undefined) return;
  const buckets = gathered.buckets ??= new Map();
  const limit = bound === "+Inf" ? Infinity : Number(bound);
  buckets.set(limit, (buckets.get(limit) ?? 0) + value);
}

/** The value of a field in its unit. */
function resultOf(field: MetricField, gathered: Gathered, divisor?: Gathered): number | undefined {
  let result = field.quantile === undefined
    ? combine(field, gathered)
    : quantileOf(field.quantile, gathered.buckets!);
  if (field.over) {
    const whole = divisor && combine(field.over, divisor);
    if (!whole) return undefined;
    result /= whole;
  }
  if (field.isComplement) result = Math.max(0, 1 - result); // times of clocks differ a little
  result *= field.scale ?? 1;
  return Number.isFinite(result) ? result : undefined;
}

function combine({ by = "sum" }: Term, { sum, count, max }: Gathered): number {
  return by === "max" ? max : by === "avg" ? sum / count : sum;
}

/** A quantile of cumulative counts by upper bound, linear within a bucket. The highest bound stands for all above it. */
function quantileOf(quantile: number, buckets: ReadonlyMap<number, number>): number {
  const sorted = [...buckets].sort(([a], [b]) => a - b);
  const rank = quantile * (sorted.at(-1)?.[1] ?? 0);
  if (!(rank > 0)) return NaN;
  let [below, counted] = [0, 0];
  for (const [bound, count] of sorted) {
    if (count >= rank) {
      return bound === Infinity ? below : below + (bound - below) * (rank - counted) / (count - counted);
    }
    [below, counted] = [bound, count];
  }
  return NaN;
}

/** The labels of a sample that describe its record. */
function describe(dataset: DatasetName, draft: Draft, labels: Sample["labels"]): void {
  const { positions, columns } = DATASETS[dataset];
  for (const name in DESCRIPTIONS) {
    const value = labels[name];
    const position = value === undefined ? undefined : positions.get(DESCRIPTIONS[name]);
    if (position === undefined) continue;
    const { type, field } = columns[position];
    const number = Number(value);
    if (type === "text") draft.fields[field] ??= value;
    else if (Number.isSafeInteger(number)) draft.fields[field] = number;
  }
  for (const name in LABELS) {
    const value = labels[name];
    if (value !== undefined && value !== "") draft.labels[LABELS[name]] ??= value;
  }
}

/** Makes the check of the labels of a term. */
function matcherOf({ where = {}, except }: Term): Matcher {
  const wanted = Object.entries(where).map(filterOf);
  const unwanted = except && Object.entries(except).map(filterOf);
  return (labels) =>
    wanted.every((has) => has(labels)) && !(unwanted && unwanted.every((has) => has(labels)));
}

function filterOf([label, value]: [string, LabelFilter[string]]): Matcher {
  const names = label.split("|");
  const values = value.split("|");
  return (labels) =>
    names.some((name) => labels[name] !== undefined && (value === "*" || values.includes(labels[name])));
}

/** The value as its column takes it. */
function toField({ bits }: MetricField, { type }: Column, value: number): unknown {
  if (type === "boolean") return bits === undefined ? value !== 0 : (value & bits) !== 0;
  return type === "integer" ? Math.round(value) : value;
}

/** The name of a series: of its metric and its labels. */
export function nameOf({ name, labels }: Sample): string {
  const keys = Object.keys(labels).sort();
  let text = name;
  for (const key of keys) text += `\0${key}\0${labels[key]}`;
  return text;
}
