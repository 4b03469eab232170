/**
 * Parts of a delivery while its rows are staged: the rows of one source and billing period, counted and added up.
 *
 * @module
 */
import { monthAfter, type PartState } from "../backends/staging.ts";
import type { CostEntry } from "../records/cost_entry.ts";
import { Sums } from "../records/sums.ts";
import { Charges } from "./charge_sample.ts";
import { addHash, type ChargeHashes, type Hash, hexOf } from "./content_hash.ts";
import { FileOverlap, type Overlap } from "./file_overlap.ts";
import { periodOf } from "./focus_documents.ts";
import { nameOf, type RecordedPart } from "./recorded_delivery.ts";
import { TransferError } from "./transfer_error.ts";

/** Most pairs of source and billing period in one delivery: each takes memory. */
const MAX_PARTS = 10_000;

/** A part while its rows are staged. */
export interface StagedPart {
  readonly number: number;
  readonly source: string;
  readonly period: number;
  rows: number;
  readonly digest: Hash;
  readonly charges: Charges;
  readonly overlap: FileOverlap;
  first: number;
  last: number;
  readonly totals: Sums;
  isClosed: boolean;
  /** True if the issuer had closed the period before this import. */
  wasClosed: boolean;
}

/** The parts of a delivery, by the name of their source and period. */
export class StagedParts {
  readonly #closed: ReadonlySet<string>;
  readonly #parts = new Map<string, StagedPart>();
  #part: StagedPart | undefined;
  #month = 0;
  #monthEnd = 0;

  /** @param closed Billing periods that their issuers closed, as `periodOf()` names them. */
  constructor(closed: ReadonlySet<string>) {
    this.#closed = closed;
  }

  /** The part of a source and billing period. */
  get(key: { readonly source: string; readonly period: number }): StagedPart | undefined {
    return this.#parts.get(nameOf(key));
  }

  [Symbol.iterator](): Iterator<StagedPart> {
    return this.#parts.values();
  }

  /** Counts a row in its part; returns the number of the part. */
  count(cost: CostEntry, hash: Hash, charge: ChargeHashes): number {
    const { timestamp, currency, amount, billingPeriodStart, invoiceIssuerName, focus } = cost;
    const part = this.#partOf(cost.source!, billingPeriodStart ?? this.#monthOf(timestamp));
    part.rows++;
    addHash(part.digest, hash);
    part.charges.add(charge);
    part.overlap.add(hash, charge);
    part.first = Math.min(part.first, timestamp);
    part.last = Math.max(part.last, timestamp);
    part.totals.add(currency, amount);
    if (/^closed$/i.test(focus?.BillingPeriodStatus ?? "")) part.isClosed = true;
    if (this.#closed.size > 0) {
      part.wasClosed ||= this.#closed.has(periodOf(invoiceIssuerName, part.period));
    }
    return part.number;
  }

  /** Ends a file. Returns a part in which it overlaps the files before it, first one with equal rows. */
  endFile(): { readonly part: StagedPart; readonly overlap: Overlap } | undefined {
    const found = [...this.#parts.values()].map((part) => ({ part, overlap: part.overlap.endFile() }));
    return found.find(({ overlap }) => overlap === "rows") ?? found.find(({ overlap }) => overlap);
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
        `The files have more than ${MAX_PARTS} sources and billing periods. Import them in parts.`,
        { code: "INVALID_FILE" },
      );
    }
    this.#part = {
      ...key,
      number: this.#parts.size,
      rows: 0,
      digest: new Uint32Array(4),
      charges: new Charges(),
      overlap: new FileOverlap(),
      first: Infinity,
      last: -Infinity,
      totals: new Sums(),
      isClosed: false,
      wasClosed: false,
    };
    this.#parts.set(nameOf(key), this.#part);
    return this.#part;
  }
}

/** The part as the document of its delivery records it. */
export function recordOf(part: StagedPart, after: PartState | undefined): RecordedPart {
  const { source, period, rows, digest, charges, first, last, isClosed } = part;
  return {
    source,
    period,
    delivered: rows,
    rows: after?.rows ?? rows,
    digest: hexOf(digest),
    ...charges.toRecord(),
    first,
    last,
    totals: after?.totals ?? part.totals.toRecord(),
    ...(isClosed ? { isClosed } : {}),
  };
}
