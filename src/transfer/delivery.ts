/**
 * One delivery of costs: identity of its rows, and what it does to earlier deliveries of the same source and billing period.
 *
 * @module
 */
import type { StoredDocument } from "../backends/backend.ts";
import {
  type DeliveredPart,
  DELIVERY,
  NO_PART,
  type PartState,
  type Publication,
  type PublicationPlan,
  type StagedCost,
} from "../backends/staging.ts";
import { describePath } from "../errors.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import { ContentHash, hexOf } from "./content_hash.ts";
import { NEVER_DELIVERED, sourceOf } from "./cost_sources.ts";
import {
  type DeliveryTotal,
  judge,
  type LivePart,
  monthNotes,
  overlapError,
  overlapNotes,
  type OverlappingFile,
  refusalOf,
  type RelatedPart,
  remainderNotes,
  repetitionNotes,
  replacementNotes,
  resemblanceNotes,
  shrinkNotes,
  totalsOf,
  type Verdict,
} from "./delivery_verdict.ts";
import { asDelivered, type RecordedDelivery } from "./recorded_delivery.ts";
import { recordOf, type StagedPart, StagedParts } from "./staged_parts.ts";
import { isoTime } from "./values.ts";

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
  /** Zone of times without one. */
  readonly timeZone?: string;
}

/** File that a row is from. */
export interface Origin {
  /** True if the file has no id for the row. */
  readonly isHashed: boolean;
  readonly format: string;
  /** Source of plain CSV and JSON, which `constantsName()` makes. */
  readonly constants: string;
}

/** Takes in the rows of one delivery, and decides about it. */
export class Delivery implements Publication {
  readonly id: string = newDeliveryId();
  /** Further documents of the files, which are published with the costs. */
  readonly documents: StoredDocument[] = [];
  readonly #given: Given;
  readonly #hash = new ContentHash();
  readonly #parts: StagedParts;
  #deliveries = new Map<string, RecordedDelivery>();
  #related: RelatedPart[] = [];
  /** Parts of other sources. */
  #others: RelatedPart[] = [];
  #verdicts: Verdict[] = [];
  #totals: DeliveryTotal[] = [];
  readonly #overlapping: OverlappingFile[] = [];
  #rows = 0;
  #hasLooseRows = false;
  #isPublished = false;

  constructor(given: Given) {
    this.#given = given;
    this.#parts = new StagedParts(given.closed);
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
    return this.#verdicts.reduce((sum, { part, fate }) => fate === "known" ? sum + part.rows : sum, 0);
  }

  /** Warnings of effects that the user may not have meant. */
  get notes(): string[] {
    const { source, replace, append } = this.#given;
    const isUnnamed = source === undefined;
    return [
      ...(isUnnamed ? replacementNotes(this.#verdicts) : []),
      ...(replace ? [] : shrinkNotes(this.#verdicts)),
      ...(append ? [] : remainderNotes(this.#verdicts)),
      ...overlapNotes(this.#overlapping, this.id),
      ...repetitionNotes(this.#verdicts, this.id),
      ...(this.#isZoned ? monthNotes(this.#verdicts, this.id) : []),
      ...(isUnnamed ? resemblanceNotes(this.#verdicts, this.#others) : []),
    ];
  }

  get #isZoned(): boolean {
    return (this.#given.timeZone ?? "UTC") !== "UTC";
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
    cost.stagedPart = isDelivered ? this.#parts.count(cost, hash, this.#hash.chargeOf(cost)) : NO_PART;
    cost.stagedAt = this.#rows++;
    cost.isHashed = isHashed;
  }

  /**
   * Ends a file, or a member of a zip file.
   *
   * @throws {TransferError} If its rows would count twice, as files of this delivery before it have most of them.
   */
  endFile(file: string, member?: string): void {
    const name = member === undefined ? file : `${file}/${describePath(member)}`;
    const { part, overlap } = this.#parts.endFile() ?? {};
    if (!part || this.#given.append) return;
    if (overlap === "rows") throw overlapError({ name, part });
    this.#overlapping.push({ name, part });
  }

  /**
   * Throws if the delivery was refused.
   *
   * @throws {TransferError} With the stored costs and the possible options.
   */
  assertAccepted(): void {
    const refusal = refusalOf(this.#verdicts, this.#isZoned);
    if (refusal) throw refusal;
  }

  related(documents: readonly StoredDocument[]): DeliveredPart[] {
    this.#deliveries = new Map(documents.map(({ id, body }) => [id, body as RecordedDelivery]));
    this.#isPublished = this.#deliveries.has(this.id);
    const live = [...this.#deliveries].flatMap(([id, { parts }]) =>
      parts.flatMap((part, index) => part.ended ? [] : [{ id, index, part }])
    );
    this.#related = live.filter(({ part }) => this.#parts.get(part));
    this.#others = live.filter(({ part }) => !this.#parts.get(part));
    return this.#related.map(({ id, part }) => asDelivered(id, part));
  }

  decide(states: readonly PartState[]): PublicationPlan | undefined {
    if (this.#isPublished) return undefined;
    const found = this.#related.map((related, i): LivePart => ({ ...related, state: states[i] }));
    const live = Map.groupBy(
      found.filter(({ state }) => state.rows > 0),
      ({ part }) => this.#parts.get(part),
    );
    this.#verdicts = [...this.#parts].map((part) => judge(part, live.get(part) ?? [], this.#given));
    this.#totals = this.#verdicts.flatMap((verdict) => totalsOf(verdict));
    if (this.#verdicts.some(({ fate }) => fate === "refused")) return undefined;
    const inserted = this.#verdicts.filter(({ fate }) => fate !== "known").map(({ part }) => part);
    const known = this.#verdicts.filter(({ fate }) => fate === "known").map(({ part }) => part.number);
    const insert = new Map(inserted.map((part) => [part.number, asDelivered(this.id, part)]));
    if (this.#hasLooseRows) {
      insert.set(NO_PART, { deliveryId: "", source: "", period: 0, first: 0, last: 0 });
    }
    if (insert.size === 0) return { remove: [], known, insert, documents: () => this.documents };
    const replaced = this.#verdicts.filter(({ fate }) => fate === "replace").flatMap(({ live }) => live);
    const ended = [...found.filter(({ state }) => state.rows === 0), ...replaced];
    return {
      remove: ended.map(({ id, part }) => asDelivered(id, part)),
      known,
      insert,
      documents: (after) => this.#documents({ inserted, ended, after }),
    };
  }

  #documents({ inserted, ended, after }: {
    inserted: readonly StagedPart[];
    ended: readonly LivePart[];
    after: ReadonlyMap<number, PartState>;
  }): StoredDocument[] {
    this.#totals = this.#verdicts.flatMap((verdict) => totalsOf(verdict, after.get(verdict.part.number)));
    const at = Date.now();
    const { user, files } = this.#given;
    const who = user === undefined ? {} : { user };
    const changed = new Map<string, RecordedDelivery>();
    for (const { id, index, state } of ended) {
      const { parts, ...delivery } = changed.get(id) ?? this.#deliveries.get(id)!;
      const by = state.rows === 0 ? "deleted" : this.id;
      const { sample: _, amounts: _amounts, ...part } = parts[index];
      changed.set(id, { ...delivery, parts: parts.with(index, { ...part, ended: { at, by, ...who } }) });
    }
    if (inserted.length > 0) {
      const parts = inserted.map((part) => recordOf(part, after.get(part.number)));
      changed.set(this.id, { at, ...who, files, parts });
    }
    return [...this.documents, ...[...changed].map(([id, body]) => ({ kind: DELIVERY, id, body }))];
  }
}

/** An id in the order of time, short enough to type. */
function newDeliveryId(): string {
  const time = isoTime(Date.now()).slice(0, 19).replaceAll(/[-:]/g, "");
  return `${time}-${crypto.randomUUID().slice(0, 8)}`;
}
