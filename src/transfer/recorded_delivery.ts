import type { DeliveredPart } from "../backends/staging.ts";
import { Sums } from "../records/sums.ts";
import { isoTime } from "./values.ts";

/** Exact totals by currency. */
export type Totals = Readonly<Record<string, string>>;

/** Rows of one source and billing period, as the document of a delivery records them. */
export interface RecordedPart {
  readonly source: string;
  /** Start of the billing period, epoch ms. */
  readonly period: number;
  /** Rows in the file. */
  readonly delivered: number;
  /** Rows that were stored. */
  readonly rows: number;
  /** Sum of the hashes of the rows: the same for the same rows in any order. */
  readonly digest: string;
  /** A `ChargeSample` of charges with their quantities; none in deliveries of older versions, and of rows that are gone. */
  readonly sample?: string;
  /** A `ChargeSample` of charges with their amounts; none in deliveries of older versions, and of rows that are gone. */
  readonly amounts?: string;
  readonly first: number;
  readonly last: number;
  readonly totals: Totals;
  /** True if the vendor closed the period. */
  readonly isClosed?: true;
  /** Time and reason of the deletion of the rows. */
  readonly ended?: { readonly at: number; readonly by: string; readonly user?: string };
}

export interface RecordedDelivery {
  /** Time of the import, epoch ms. */
  readonly at: number;
  /** Name of the user who imported it, where known. */
  readonly user?: string;
  readonly files: readonly string[];
  readonly parts: readonly RecordedPart[];
}

/** Name of a billing period: its month, or the day on which it begins. */
export function periodName(period: number): string {
  const iso = isoTime(period);
  return iso.endsWith("-01T00:00:00.000Z") ? iso.slice(0, 7) : iso.replace("T00:00:00.000Z", "");
}

/** Reference to the stored rows of a recorded part. */
export function asDelivered(
  deliveryId: string,
  { source, period, first, last }: Omit<DeliveredPart, "deliveryId">,
): DeliveredPart {
  return { deliveryId, source, period, first, last };
}

/** Adds totals up, by currency. */
export function sumOf(totals: readonly Totals[]): Totals {
  const sums = new Sums();
  for (const [currency, total] of totals.flatMap((each) => Object.entries(each))) sums.add(currency, total);
  return sums.toRecord();
}

/** Totals in a message. */
export function money(totals: Totals): string {
  return Object.entries(totals).sort().map(([currency, total]) => `${currency} ${total}`).join(", ");
}

export function nameOf({ source, period }: { readonly source: string; readonly period: number }): string {
  return `${period} ${source}`;
}

/** A number of rows in a message. */
export function things(rows: number): string {
  return `${rows} ${rows === 1 ? "row" : "rows"}`;
}
