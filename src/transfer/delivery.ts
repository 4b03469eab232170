/**
 * One delivery of costs: identity of its rows, and what it does to earlier deliveries of the same source and billing period.
 *
 * @module
 */
import type { StoredDocument } from "../backends/backend.ts";
import {
  type DeliveredPart,
  DELIVERY,
  monthAfter,
  NO_PART,
  type PartState,
  type Publication,
  type PublicationPlan,
  type StagedCost,
} from "../backends/staging.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import { Sums } from "../records/sums.ts";
import { addHash, ContentHash, type Hash, hashOf, hexOf } from "./content_hash.ts";
import { periodOf } from "./focus_documents.ts";
import {
  asDelivered,
  money,
  nameOf,
  periodName,
  type RecordedDelivery,
  type RecordedPart,
  sumOf,
  things,
} from "./recorded_delivery.ts";
import { TransferError } from "./transfer_error.ts";
import { isoTime } from "./values.ts";

/** Share of the rows that a delivery must have to replace an earlier one by itself. */
const ENOUGH_ROWS = 0.9;
/** Most pairs of source and billing period in one delivery: each takes memory. */
const MAX_PARTS = 10_000;
/** Sources whose costs no vendor delivers. */
export const NEVER_DELIVERED: ReadonlySet<string> = new Set(["collect", "prices", "api"]);

/** Total of a currency in a billing period of a source, before and after an import. */
export interface DeliveryTotal {
  /** Source of the costs. */
  source: string;
  /** Billing period: `2026-11`, or a day on which it begins. */
  period: string;
  /** Currency. */
  currency: string;
  /** Exact total of the deliveries that were there. */
  before: string;
  /** Exact total now. */
  after: string;
}

/** Options of a delivery. */
export interface DeliveryOptions {
  /**
   * Source of the costs. By default format and billing account of a vendor's format, else the constants of `set`.
   */
  source?: string;
  /**
   * Replace what is there of the same source and billing period in any case.
   *
   * @default {false}
   */
  replace?: boolean;
  /**
   * Add to what is there of the same source and billing period.
   *
   * @default {false}
   */
  append?: boolean;
  /** Name of the user, to be listed with the delivery. */
  user?: string;
}

/** Options of a {@linkcode Delivery} beside those of the caller. */
interface Given extends DeliveryOptions {
  readonly files: readonly string[];
  /** Billing periods that their issuers closed, as `periodOf()` names them. */
  readonly closed: ReadonlySet<string>;
}

/** File that a row is from. */
export interface Origin {
  /** True if the file has no id for the row. */
  readonly isHashed: boolean;
  readonly format: string;
  /** Source of plain CSV and JSON, which {@linkcode constantsName} makes. */
  readonly constants: string;
}

/** A part while its rows are staged. */
interface StagedPart {
  readonly number: number;
  readonly source: string;
  readonly period: number;
  rows: number;
  readonly digest: Hash;
  first: number;
  last: number;
  readonly totals: Sums;
  isClosed: boolean;
  /** True if the issuer had closed the period before this import. */
  wasClosed: boolean;
}

/** A part of an earlier delivery whose rows are there. */
interface LivePart {
  readonly id: string;
  readonly index: number;
  readonly part: RecordedPart;
  state: PartState;
}

type Fate = "new" | "known" | "replace" | "append" | "refused";

/** Takes in the rows of one delivery, and decides about it. */
export class Delivery implements Publication {
  readonly id: string = newDeliveryId();
  /** Further documents of the files, which are published with the costs. */
  readonly documents: StoredDocument[] = [];
  readonly #given: Given;
  readonly #hash = new ContentHash();
  readonly #parts = new Map<string, StagedPart>();
  readonly #fates = new Map<StagedPart, Fate>();
  #deliveries = new Map<string, RecordedDelivery>();
  #live: LivePart[] = [];
  #part: StagedPart | undefined;
  #month = 0;
  #monthEnd = 0;
  #rows = 0;
  #hasLooseRows = false;
  #isPublished = false;
  #refusals: string[] = [];
  #totals: DeliveryTotal[] = [];

  constructor(given: Given) {
    this.#given = given;
  }

  /** Number of rows taken in. */
  get rows(): number {
    return this.#rows;
  }

  /** True if an earlier attempt to publish had succeeded. */
  get isPublished(): boolean {
    return this.#isPublished;
  }

  /** Totals by source, period and currency. */
  get totals(): readonly DeliveryTotal[] {
    return this.#totals;
  }

  /** Rows of parts that were there with the same content. */
  get knownRows(): number {
    return [...this.#fates].reduce((sum, [{ rows }, fate]) => fate === "known" ? sum + rows : sum, 0);
  }

  /** Completes a record: id, source, delivery and the fields of staging. */
  take(record: unknown, { isHashed, format, constants }: Origin): void {
    const cost = record as CostEntry & StagedCost;
    const source = this.#given.source ?? cost.source ?? sourceOf(cost, format) ?? constants;
    const isDelivered = cost.basis !== "estimated" && !NEVER_DELIVERED.has(source);
    const hash = this.#hash.update(cost, source);
    if (isDelivered) cost.source = source;
    if (isHashed) cost.entryId = `row-${hexOf(hash)}${this.#given.append ? `@${this.id}` : ""}`;
    if (isDelivered) cost.deliveryId = this.id;
    else this.#hasLooseRows = true;
    cost.stagedPart = isDelivered ? this.#count(cost, hash) : NO_PART;
    cost.stagedAt = this.#rows++;
    cost.isHashed = isHashed;
  }

  /**
   * Throws if the delivery was refused.
   *
   * @throws {TransferError} With the stored costs and the possible options.
   */
  assertAccepted(): void {
    const [first, ...others] = this.#refusals;
    if (first === undefined) return;
    const more = others.length > 0 ? ` (and ${others.length} more billing periods)` : "";
    throw new TransferError(
      `Cannot import: ${first}${more}. Nothing was stored. Import all files of the period in one command, ` +
        "or pass --replace to delete what is there, or --append to add to it, or --source NAME if the files are " +
        "those of another vendor.",
      { code: "DELIVERY_REFUSED" },
    );
  }

  /** Warning about costs of another vendor that were imported with the same constants; undefined if there are none. */
  get replacementNote(): string | undefined {
    if (this.#given.source !== undefined) return undefined;
    const replaced = [...this.#fates].filter(([{ source }, fate]) => fate === "replace" && isUnnamed(source));
    if (replaced.length === 0) return undefined;
    const [[{ source, period }], ...others] = replaced;
    const more = others.length > 0 ? ` (and ${others.length} more billing periods)` : "";
    return `replaced what the source ${source} had of ${periodName(period)}${more}. ` +
      "A file of another vendor needs a source of its own (--source NAME)";
  }

  related(documents: readonly StoredDocument[]): DeliveredPart[] {
    this.#deliveries = new Map(documents.map(({ id, body }) => [id, body as RecordedDelivery]));
    this.#isPublished = this.#deliveries.has(this.id);
    this.#live = [...this.#deliveries].flatMap(([id, { parts }]) =>
      parts.flatMap((part, index) =>
        part.ended || !this.#parts.has(nameOf(part))
          ? []
          : [{ id, index, part, state: { rows: 0, totals: {} } }]
      )
    );
    return this.#live.map(({ id, part }) => asDelivered(id, part));
  }

  decide(states: readonly PartState[]): PublicationPlan | undefined {
    if (this.#isPublished) return undefined;
    this.#live.forEach((live, i) => live.state = states[i]);
    this.#refusals = [];
    for (const part of this.#parts.values()) this.#fates.set(part, this.#fateOf(part));
    this.#totals = this.#compareTotals(new Map());
    if (this.#refusals.length > 0) return undefined;
    const inserted = [...this.#parts.values()].filter((part) => this.#fates.get(part) !== "known");
    const insert = new Map(inserted.map((part) => [part.number, asDelivered(this.id, part)]));
    if (this.#hasLooseRows) {
      insert.set(NO_PART, { deliveryId: "", source: "", period: 0, first: 0, last: 0 });
    }
    if (insert.size === 0) {
      return { remove: [], insert, documents: () => this.documents };
    }
    const ended = this.#live.filter(({ part, state }) =>
      state.rows === 0 || this.#fates.get(this.#parts.get(nameOf(part))!) === "replace"
    );
    return {
      remove: ended.map(({ id, part }) => asDelivered(id, part)),
      insert,
      documents: (after) => this.#documents({ inserted, ended, after }),
    };
  }

  /** Counts a row in its part; returns the number of the part. */
  #count(cost: CostEntry, hash: Hash): number {
    const { timestamp, currency, amount, billingPeriodStart, invoiceIssuerName, focus } = cost;
    const part = this.#partOf(cost.source!, billingPeriodStart ?? this.#monthOf(timestamp));
    part.rows++;
    addHash(part.digest, hash);
    part.first = Math.min(part.first, timestamp);
    part.last = Math.max(part.last, timestamp);
    part.totals.add(currency, amount);
    if (/^closed$/i.test(focus?.BillingPeriodStatus ?? "")) part.isClosed = true;
    const { closed } = this.#given;
    if (closed.size > 0) part.wasClosed ||= closed.has(periodOf(invoiceIssuerName, part.period));
    return part.number;
  }

  /** Start of the UTC month of a time: mostly that of the time before. */
  #monthOf(time: number): number {
    if (time < this.#month || time >= this.#monthEnd) {
      const date = new Date(time);
      this.#month = Date.UTC(date.getUTCFullYear(), date.getUTCMonth());
      this.#monthEnd = monthAfter(time);
    }
    return this.#month;
  }

  /** The part of a row: mostly that of the row before. */
  #partOf(source: string, period: number): StagedPart {
    if (this.#part?.source === source && this.#part.period === period) return this.#part;
    const key = { source, period };
    this.#part = this.#parts.get(nameOf(key));
    if (this.#part) return this.#part;
    if (this.#parts.size === MAX_PARTS) {
      throw new TransferError(
        `The files have more than ${MAX_PARTS} sources and billing periods. Import them in parts`,
        { code: "INVALID_FILE" },
      );
    }
    this.#part = {
      ...key,
      number: this.#parts.size,
      rows: 0,
      digest: new Uint32Array(4),
      first: Infinity,
      last: -Infinity,
      totals: new Sums(),
      isClosed: false,
      wasClosed: false,
    };
    this.#parts.set(nameOf(key), this.#part);
    return this.#part;
  }

  #liveOf(part: StagedPart): LivePart[] {
    return this.#live.filter((live) => nameOf(live.part) === nameOf(part) && live.state.rows > 0);
  }

  #fateOf(part: StagedPart): Fate {
    const live = this.#liveOf(part);
    if (live.length === 0) return "new";
    const isWhole = live.every(({ part, state }) => part.rows === state.rows);
    if (isWhole && isSameContent(part, live.map(({ part }) => part))) return "known";
    if (this.#given.append) return "append";
    if (this.#given.replace) return "replace";
    const reason = whyNotReplaced(part, live);
    if (reason === undefined) return "replace";
    const there = live.reduce((sum, { state }) => sum + state.rows, 0);
    this.#refusals.push(
      `${part.source} has ${things(there)} of ${periodName(part.period)} already (${
        money(sumOf(live.map(({ state }) => state.totals)))
      }), this import has ${things(part.rows)} (${money(part.totals.toRecord())}), and ${reason}`,
    );
    return "refused";
  }

  #compareTotals(after: ReadonlyMap<number, PartState>): DeliveryTotal[] {
    return [...this.#parts.values()].flatMap((part) => {
      const fate = this.#fates.get(part)!;
      const before = sumOf(this.#liveOf(part).map(({ state }) => state.totals));
      const brought = after.get(part.number)?.totals ?? part.totals.toRecord();
      const now = fate === "known" || fate === "refused"
        ? before
        : fate === "append"
        ? sumOf([before, brought])
        : brought;
      return [...new Set([...Object.keys(before), ...Object.keys(now)])].sort().map((currency) => ({
        source: part.source,
        period: periodName(part.period),
        currency,
        before: before[currency] ?? "0",
        after: now[currency] ?? "0",
      }));
    });
  }

  #documents({ inserted, ended, after }: {
    inserted: readonly StagedPart[];
    ended: readonly LivePart[];
    after: ReadonlyMap<number, PartState>;
  }): StoredDocument[] {
    this.#totals = this.#compareTotals(after);
    const at = Date.now();
    const { user, files } = this.#given;
    const who = user === undefined ? {} : { user };
    const changed = new Map<string, RecordedDelivery>();
    for (const { id, index, state } of ended) {
      const { parts, ...delivery } = changed.get(id) ?? this.#deliveries.get(id)!;
      const by = state.rows === 0 ? "deleted" : this.id;
      changed.set(id, {
        ...delivery,
        parts: parts.with(index, { ...parts[index], ended: { at, by, ...who } }),
      });
    }
    if (inserted.length > 0) {
      const parts = inserted.map((part) => recordOf(part, after.get(part.number)));
      changed.set(this.id, { at, ...who, files, parts });
    }
    return [...this.documents, ...[...changed].map(([id, body]) => ({ kind: DELIVERY, id, body }))];
  }
}

/** Source of a row of a vendor's format. */
function sourceOf(
  { billingAccountId, invoiceIssuerName, serviceProviderName }: CostEntry,
  format: string,
): string | undefined {
  if (format === "csv" || format === "ndjson") return undefined;
  // Bills of two vendors must not replace each other where they name no account.
  const account = billingAccountId ?? invoiceIssuerName ?? serviceProviderName;
  return account === undefined ? format : `${format}:${account}`;
}

/** Name of the source that constants make. */
export function constantsName(constants: readonly (readonly [field: string, value: string])[]): string {
  const texts = constants.toSorted()
    .map(([field, value]) => `${field}=${value.replaceAll(/[%,]/g, encodeURIComponent)}`);
  return texts.length === 0 ? "csv" : `csv:${texts.join(",")}`;
}

/** True if the constants of an import, or nothing, made a source. */
function isUnnamed(source: string): boolean {
  return /^csv(:|$)/.test(source);
}

/** True if the rows are those of one earlier delivery, or those of all together. */
function isSameContent(part: StagedPart, live: readonly RecordedPart[]): boolean {
  const { rows } = part;
  const digest = hexOf(part.digest);
  const isOne = live.some((each) =>
    each.delivered === rows && each.digest === digest && hasSameTotals(part, [each])
  );
  if (isOne) return true;
  const sum = new Uint32Array(4);
  for (const { digest } of live) addHash(sum, hashOf(digest));
  const delivered = live.reduce((sum, { delivered }) => sum + delivered, 0);
  return hexOf(sum) === digest && delivered === rows && hasSameTotals(part, live);
}

/** True if the totals are the same, where all rows that were delivered were stored. */
function hasSameTotals(part: StagedPart, live: readonly RecordedPart[]): boolean {
  if (live.some(({ delivered, rows }) => delivered !== rows)) return true;
  return money(part.totals.toRecord()) === money(sumOf(live.map(({ totals }) => totals)));
}

/** Reason why a delivery does not replace stored costs by itself; undefined if it does. */
function whyNotReplaced(part: StagedPart, live: readonly LivePart[]): string | undefined {
  if (part.wasClosed || live.some(({ part }) => part.isClosed)) return "the period is closed";
  const first = Math.min(...live.map(({ part }) => part.first));
  const last = Math.max(...live.map(({ part }) => part.last));
  if (part.first > first || part.last < last) {
    const span = first === last ? isoTime(first).slice(0, 10) : `${isoTime(first)} to ${isoTime(last)}`;
    return `its charges do not cover ${span}`;
  }
  const rows = live.reduce((sum, { state }) => sum + state.rows, 0);
  return part.rows < ENOUGH_ROWS * rows ? "it has less than 90 % of the rows" : undefined;
}

function recordOf(part: StagedPart, after: PartState | undefined): RecordedPart {
  const { source, period, rows, digest, first, last, isClosed } = part;
  return {
    source,
    period,
    delivered: rows,
    rows: after?.rows ?? rows,
    digest: hexOf(digest),
    first,
    last,
    totals: after?.totals ?? part.totals.toRecord(),
    ...(isClosed ? { isClosed } : {}),
  };
}

/** An id in the order of time, short enough to type. */
function newDeliveryId(): string {
  const time = isoTime(Date.now()).slice(0, 19).replaceAll(/[-:]/g, "");
  return `${time}-${crypto.randomUUID().slice(0, 8)}`;
}
