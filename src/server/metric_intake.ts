import type { Backend } from "../backends/backend.ts";
import { ValidationError } from "../errors.ts";
import type { ObservabilityHub } from "../hub.ts";
import { type CostObservatory, handlesOf } from "../observatory.ts";
import { DATASETS } from "../records/datasets.ts";
import { CounterReadings } from "../transfer/counter_readings.ts";
import type { MetricField } from "../transfer/metric_mapping.ts";
import { METRIC_FIELDS } from "../transfer/metric_names.ts";
import type { Sample } from "../transfer/prometheus.ts";
import { type MappedRecord, SampleMapper } from "../transfer/samples_to_records.ts";
import { UnmappedCounter } from "../transfer/unmapped_points.ts";
import { PointKeeper } from "./point_keeper.ts";
import { cannotStore, RequestError } from "./problems.ts";
import type { MetricFamily } from "./prometheus_text.ts";
import { mapOf, withTenant } from "./tenants.ts";
import { withTimeout } from "../pipeline/time_limit.ts";

/** Sources of usage: the same calls are often in both, so that one counts. */
export type UsageSource = "spans" | "metrics";

export interface MetricIntakeOptions {
  /**
   * Sources of usage records.
   *
   * @default {["spans"]}
   */
  readonly usageFrom?: readonly UsageSource[];
  /**
   * Metrics and their fields.
   *
   * @default {METRIC_FIELDS}
   */
  readonly fields?: readonly MetricField[];
  /**
   * Names of metrics without a field whose points are kept in `metric_points`; `*` is any text.
   *
   * @default {[]}
   */
  readonly keep?: readonly string[];
}

/** Returns the intake of a server. */
export function intakeOf({ intake }: { readonly intake?: MetricIntake }): MetricIntake {
  if (intake) return intake;
  throw new RequestError("This server only reads. Send records to `openfinops serve`.", {
    code: "NOT_FOUND",
  });
}

/** A request that was taken. */
export interface Taken {
  /** Samples of records that validation refused. */
  readonly refused: number;
  /** Reason of the first refusal. */
  readonly error?: ValidationError;
  /** Number of samples without a field, by the names of their metrics. */
  readonly unmapped?: ReadonlyMap<string, number>;
}

/** Identity of a request. Sending the same bytes again changes nothing. */
export interface IntakeRequest {
  readonly id: string;
  readonly signal: AbortSignal;
  /** Tenant of all records, where the token has one. */
  readonly tenant?: string;
}

/** Records of a request until they are stored. */
interface Held {
  readonly records: readonly MappedRecord[];
  readonly tenant?: string;
  /** True while no attempt is in progress. */
  hasFailed: boolean;
}

/** Time that a request may wait for room, in milliseconds: less than clients wait for an answer. */
const MAX_WAIT_MS = 8_000;
/** Time between two writes of the counts of unmapped points, in milliseconds. */
const SAVE_MS = 60_000;
/** Records kept for requests in progress, and for failed requests until they are stored, from which others are refused. */
const MAX_HELD_RECORDS = 50_000;
/** The last requests whose unmapped points are not counted again. */
const MAX_COUNTED = 10_000;

/** Takes metrics and usage of other programs: maps them to records, and appends those. */
export class MetricIntake {
  /** Points that no field takes. */
  readonly unmapped: UnmappedCounter = new UnmappedCounter();
  /** Adds their counts to the database. */
  readonly #timer: ReturnType<typeof setInterval>;
  /** True if spans are usage. */
  readonly takesSpans: boolean;
  readonly #handles: ReturnType<typeof handlesOf>;
  readonly #backend: Backend;
  readonly #mapper: SampleMapper;
  readonly #keeper: PointKeeper;
  /**
   * Records of requests that are not stored yet, by id: counters have moved on, so they could not be made once more when
   * the request is sent again.
   */
  readonly #held = new Map<string, Held>();
  #heldRecords = 0;
  /** Ids of requests whose unmapped points were counted, the oldest first. */
  readonly #counted = new Set<string>();

  /** Makes an intake. Counters that begin from now on are counted from zero. */
  constructor(
    { hub, costs, backend }: { hub: ObservabilityHub; costs: CostObservatory; backend: Backend },
    { usageFrom = ["spans"], fields = METRIC_FIELDS, keep = [] }: MetricIntakeOptions = {},
  ) {
    this.#handles = handlesOf({ hub, costs });
    this.#backend = backend;
    this.#timer = setInterval(() => this.#save(), SAVE_MS);
    Deno.unrefTimer(this.#timer);
    this.#keeper = new PointKeeper(keep);
    this.takesSpans = usageFrom.includes("spans");
    const takesMetrics = usageFrom.includes("metrics");
    this.#mapper = new SampleMapper({
      target: "server",
      fields: fields.filter(({ dataset }) => dataset !== "usage_records" || takesMetrics),
      counters: new CounterReadings({ since: Date.now() }),
    });
  }

  /** True if points of the metric of this name are stored: a field takes them, or they are kept. */
  knows(name: string): boolean {
    return this.#mapper.knows(name) || this.#keeper.keeps(name);
  }

  /** Accepts samples, and counts points that are none by their names. Resolves when the records are durable. */
  async takeSamples(
    samples: readonly Sample[],
    request: IntakeRequest,
    others: ReadonlyMap<string, number>,
  ): Promise<Taken> {
    if (this.#isFull && !this.#held.has(request.id)) await this.#storeFailed(request.signal);
    const held = this.#held.get(request.id);
    if (held) return await this.#takeHeld(held, request);
    if (this.#isFull) throw cannotStore(); // before counters move on
    const at = Date.now();
    const mapped = this.#mapper.map(samples, at, request.tenant);
    const isKept = ({ name }: Sample) => mapped.unmapped.has(name) && this.#keeper.keeps(name);
    const kept = this.#keeper.take(samples.filter(isKept), at, request.tenant);
    const unmapped = new Map([...mapped.unmapped].filter(([name]) => !this.#keeper.keeps(name)));
    for (const [name, points] of kept.left) unmapped.set(name, points);
    this.#count(request, [...others, ...unmapped]);
    const records = [...mapped.records, ...kept.records];
    const made: Held = { records, tenant: request.tenant, hasFailed: false };
    this.#held.set(request.id, made);
    this.#heldRecords += records.length;
    return { ...await this.#takeHeld(made, request), unmapped };
  }

  /** Accepts records. Resolves when all of them are durable. */
  async takeRecords(records: readonly MappedRecord[], request: IntakeRequest): Promise<Taken> {
    const runs = [...Map.groupBy(records, ({ dataset }) => dataset).values()].flatMap(runsOf);
    const taken = await Promise.all(runs.map((run) => this.#append(run, request)));
    return {
      refused: taken.reduce((sum, { refused }) => sum + refused, 0),
      error: taken.find(({ error }) => error)?.error,
    };
  }

  /** Counters for `/metrics`: of each name since the start. */
  families(): MetricFamily[] {
    return [{
      name: "openfinops_points_unmapped_total",
      help: "Points of metrics that no field takes and that are not kept",
      type: "counter",
      samples: this.unmapped.counts().map(({ name, points }) => ({ labels: { name }, value: points })),
    }];
  }

  /** Stores counts that are not stored yet, and ends. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#save();
  }

  /** Counts unmapped points by name, once for each request. */
  #count({ id }: IntakeRequest, unmapped: readonly (readonly [string, number])[]): void {
    if (unmapped.length === 0 || this.#counted.has(id)) return;
    for (const [name, points] of unmapped) this.unmapped.add(name, points);
    this.#counted.add(id);
    if (this.#counted.size > MAX_COUNTED) this.#counted.delete(this.#counted.values().next().value!);
  }

  /** Adds the counts of unmapped points to the database. The next write retries a failed one. */
  async #save(): Promise<void> {
    await this.unmapped.save(this.#backend.documents).catch(() => {});
  }

  /** Appends records at successive positions. */
  async #append(run: readonly MappedRecord[], { id, signal, tenant }: IntakeRequest): Promise<Taken> {
    const [{ dataset, position }] = run;
    if (tenant !== undefined && mapOf(DATASETS[dataset]) === undefined) return refuseAll(run, tenant);
    const records = run.map(({ record }) =>
      tenant === undefined ? record : withTenant(DATASETS[dataset], record, tenant)
    );
    const { refused } = await withTimeout(
      MAX_WAIT_MS,
      (timeout) =>
        this.#handles[dataset].append(records as never[], {
          requestId: id,
          position,
          signal: AbortSignal.any([signal, timeout]),
        }),
      (error) => {
        throw signal.aborted ? error : cannotStore();
      },
    );
    return {
      refused: refused.reduce((sum, { index }) => sum + run[index].samples, 0),
      error: refused[0]?.error,
    };
  }

  /** True if the records of no further request are held. */
  get #isFull(): boolean {
    return this.#heldRecords >= MAX_HELD_RECORDS;
  }

  /** Accepts records that are held, and releases them when they are durable. */
  async #takeHeld(held: Held, request: IntakeRequest): Promise<Taken> {
    held.hasFailed = false;
    try {
      const taken = await this.takeRecords(held.records, request);
      if (this.#held.get(request.id) === held) {
        this.#held.delete(request.id);
        this.#heldRecords -= held.records.length;
      }
      return taken;
    } catch (error) {
      held.hasFailed = true;
      throw error;
    }
  }

  /** Stores requests that failed, the oldest first, until there is room: their clients may never send them again. */
  async #storeFailed(signal: AbortSignal): Promise<void> {
    for (const [id, held] of [...this.#held]) {
      if (!this.#isFull) return;
      if (held.hasFailed) await this.#takeHeld(held, { id, signal, tenant: held.tenant });
    }
  }
}

/** Records of a dataset in runs of successive positions. */
function runsOf(records: readonly MappedRecord[]): MappedRecord[][] {
  const runs: MappedRecord[][] = [];
  for (const record of records) {
    const run = runs.at(-1);
    if (run && run.at(-1)!.position + 1 === record.position) run.push(record);
    else runs.push([record]);
  }
  return runs;
}

/** Refuses records that cannot name their tenant: every tenant would see them. */
function refuseAll(run: readonly MappedRecord[], tenant: string): Taken {
  return {
    refused: run.reduce((sum, { samples }) => sum + samples, 0),
    error: new ValidationError({
      subject: DATASETS[run[0].dataset].noun,
      field: "tenant",
      value: tenant,
      expected: "absent, as they have no labels: send them with a token without a tenant",
    }),
  };
}
