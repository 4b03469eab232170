/**
 * What a delivery does to stored costs of the same source and billing period.
 *
 * @module
 */
import type { PartState } from "../backends/staging.ts";
import { addHash, hashOf, hexOf } from "./content_hash.ts";
import { isUnnamed } from "./cost_sources.ts";
import { money, periodName, type RecordedPart, sumOf, things } from "./recorded_delivery.ts";
import type { StagedPart } from "./staged_parts.ts";
import { TransferError } from "./transfer_error.ts";
import { isoTime } from "./values.ts";

/** Share of the rows that a delivery must have to replace an earlier one by itself. */
const ENOUGH_ROWS = 0.9;

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

/** A part of an earlier delivery. */
export interface LivePart {
  readonly id: string;
  /** Its place in the document of the delivery. */
  readonly index: number;
  readonly part: RecordedPart;
  /** Its rows that are there. */
  readonly state: PartState;
}

/** What becomes of a part of a delivery. */
export interface Verdict {
  readonly part: StagedPart;
  /** Parts of earlier deliveries with rows of its source and period. */
  readonly live: readonly LivePart[];
  readonly fate: "new" | "known" | "replace" | "append" | "refused";
  /** Reason of a refusal. */
  readonly reason?: string;
}

/** Decides about a part. */
export function judge(
  part: StagedPart,
  live: readonly LivePart[],
  { append = false, replace = false }: { readonly append?: boolean; readonly replace?: boolean },
): Verdict {
  const is = (fate: Verdict["fate"]): Verdict => ({ part, live, fate });
  if (live.length === 0) return is("new");
  const isWhole = live.every(({ part, state }) => part.rows === state.rows);
  if (isWhole && isSameContent(part, live.map(({ part }) => part))) return is("known");
  if (append) return is("append");
  const reason = replace ? undefined : whyNotReplaced(part, live);
  return reason === undefined ? is("replace") : { ...is("refused"), reason };
}

/** True if the rows are those of one earlier delivery, or those of all together. */
function isSameContent(part: StagedPart, live: readonly RecordedPart[]): boolean {
  return [...live.map((one) => [one]), live].some((group) => {
    const digest = new Uint32Array(4);
    for (const each of group) addHash(digest, hashOf(each.digest));
    const delivered = group.reduce((sum, each) => sum + each.delivered, 0);
    if (delivered !== part.rows || hexOf(digest) !== hexOf(part.digest)) return false;
    // Where rows were known, the totals that were stored are not those of the file.
    return group.some((each) => each.delivered !== each.rows) ||
      money(part.totals.toRecord()) === money(sumOf(group.map(({ totals }) => totals)));
  });
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
  return part.rows < ENOUGH_ROWS * rowsOf(live) ? "it has less than 90 % of the rows" : undefined;
}

/**
 * Totals before and after, by currency.
 *
 * @param after The state of the part after the publish; undefined if it is as it was staged.
 */
export function totalsOf({ part, live, fate }: Verdict, after?: PartState): DeliveryTotal[] {
  const before = sumOf(live.map(({ state }) => state.totals));
  const brought = after?.totals ?? part.totals.toRecord();
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
}

/** Error of a delivery of which a part is refused; undefined if none is. */
export function refusalOf(verdicts: readonly Verdict[]): TransferError | undefined {
  const [first, ...others] = verdicts.filter(({ fate }) => fate === "refused");
  if (first === undefined) return undefined;
  const { part, live, reason } = first;
  const there = money(sumOf(live.map(({ state }) => state.totals)));
  return new TransferError(
    `Cannot import: ${part.source} has ${things(rowsOf(live))} of ${
      periodName(part.period)
    } already (${there}), ` +
      `this import has ${things(part.rows)} (${money(part.totals.toRecord())}), and ${reason}${
        more(others)
      }. ` +
      "Nothing was stored. Import all files of the period in one command, or pass --replace to delete what is " +
      "there, or --append to add to it, or --source NAME if the files are those of another vendor.",
    { code: "DELIVERY_REFUSED" },
  );
}

/** Warning about costs of another vendor that were imported with the same constants; undefined if there are none. */
export function replacementNote(verdicts: readonly Verdict[]): string | undefined {
  const [first, ...others] = verdicts.filter(({ part, fate }) =>
    fate === "replace" && isUnnamed(part.source)
  );
  if (first === undefined) return undefined;
  const { source, period } = first.part;
  return `replaced what the source ${source} had of ${periodName(period)}${more(others)}. ` +
    "A file of another vendor needs a source of its own (--source NAME)";
}

function rowsOf(live: readonly LivePart[]): number {
  return live.reduce((sum, { state }) => sum + state.rows, 0);
}

function more({ length }: readonly unknown[]): string {
  return length > 0 ? ` (and ${length} more billing periods)` : "";
}
