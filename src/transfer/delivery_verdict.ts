/**
 * Verdicts on a delivery: its effect on stored costs of the same source and billing period.
 *
 * @module
 */
import { monthAfter, type PartState } from "../backends/staging.ts";
import { Decimal } from "../records/decimal.ts";
import { HOUR_MS } from "../records/calendar.ts";
import { Charges } from "./charge_sample.ts";
import { addHash, hashOf, hexOf } from "./content_hash.ts";
import { isUnnamed } from "./cost_sources.ts";
import { MOST, NEARLY_ALL } from "./file_overlap.ts";
import { money, periodName, type RecordedPart, sumOf, things } from "./recorded_delivery.ts";
import type { StagedPart } from "./staged_parts.ts";
import { TransferError } from "./transfer_error.ts";
import { isoTime } from "./values.ts";

/** Share of the rows that a delivery must have to replace an earlier one by itself. */
const ENOUGH_ROWS = 0.9;

/** The largest difference of a time zone to UTC. */
const MOST_OFFSET_MS = 14 * HOUR_MS;

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
export interface RelatedPart {
  readonly id: string;
  /** Its place in the document of the delivery. */
  readonly index: number;
  readonly part: RecordedPart;
}

/** A part of an earlier delivery, of the same source and billing period. */
export interface LivePart extends RelatedPart {
  /** Its rows that are there. */
  readonly state: PartState;
}

/** The verdict on a part of a delivery. */
export interface Verdict {
  readonly part: StagedPart;
  /** Parts of earlier deliveries with rows of its source and period. */
  readonly live: readonly LivePart[];
  readonly fate: "new" | "known" | "replace" | "append" | "refused";
  /** The parts of `live` with the same rows, if the part is known. */
  readonly same?: readonly LivePart[];
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
  const same = isWhole ? sameContent(part, live) : undefined;
  // With replace, the files are all that remains of the month.
  if (same && (!replace || same.length === live.length)) return { ...is("known"), same };
  if (append) return is("append");
  const reason = replace ? undefined : whyNotReplaced(part, live);
  return reason === undefined ? is("replace") : { ...is("refused"), reason };
}

/** Finds the earlier parts with the same rows: all together, or one of them. */
function sameContent(part: StagedPart, live: readonly LivePart[]): readonly LivePart[] | undefined {
  return [live, ...live.map((one) => [one])].find((parts) => {
    const group = parts.map(({ part }) => part);
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
  if (part.rows < ENOUGH_ROWS * rowsOf(live)) return "it has less than 90 % of the rows";
  const kept = keptShare(part, live);
  return kept !== undefined && kept < MOST ? "most of the charges that are there are not in it" : undefined;
}

/**
 * Share of the stored charges that a part has, by rows; undefined if their samples do not tell. Where constants name the
 * source, a single charge tells: the file may well be that of another vendor.
 */
function keptShare({ source, charges }: StagedPart, live: readonly LivePart[]): number | undefined {
  let rows = 0;
  let kept = 0;
  for (const { part, state } of live) {
    const share = chargesOf(part).shareIn(charges, isUnnamed(source) ? 1 : undefined);
    if (share === undefined) continue;
    rows += state.rows;
    kept += share * state.rows;
  }
  return rows === 0 ? undefined : kept / rows;
}

/** True if most charges of a part are there already. */
function isRepeated({ part, live }: Verdict): boolean {
  const shares = live.map((each) => part.charges.shareIn(chargesOf(each.part)) ?? 0);
  return shares.reduce((sum, share) => sum + share, 0) >= MOST;
}

function chargesOf({ sample, amounts }: RecordedPart): Charges {
  return new Charges(sample, amounts);
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

/**
 * Error of a delivery of which a part is refused; undefined if none is.
 *
 * @param isZoned True if the times are those of a time zone.
 */
export function refusalOf(verdicts: readonly Verdict[], isZoned: boolean): TransferError | undefined {
  const [first, ...others] = verdicts.filter(({ fate }) => fate === "refused");
  if (first === undefined) return undefined;
  const { part, live, reason } = first;
  const there = money(sumOf(live.map(({ state }) => state.totals)));
  const option = isZoned ? monthOption(verdicts) : undefined;
  const ways = [
    "all files of the period in one command",
    "with --replace to delete what is there",
    ...(isRepeated(first) ? [] : ["with --append to add to it"]),
    "with --source NAME if the files are those of another vendor",
    ...(option === undefined ? [] : [`with ${option} if they are one month of their time zone`]),
  ];
  return new TransferError(
    `Cannot import: ${part.source} has ${things(rowsOf(live))} of ${
      periodName(part.period)
    } already (${there}), ` +
      `this import has ${things(part.rows)} (${money(part.totals.toRecord())}), and ${reason}${
        more(others)
      }. Nothing was stored. Import ${ways.join(", or ")}.`,
    { code: "DELIVERY_REFUSED" },
  );
}

/** A file that overlaps the files before it in a part. */
export interface OverlappingFile {
  readonly name: string;
  readonly part: StagedPart;
}

/** Creates the error for a file that repeats rows of others of its delivery. */
export function overlapError({ name, part: { source, period } }: OverlappingFile): TransferError {
  return new TransferError(
    `Cannot import: ${name} and the files before it have most rows of ${source} of ${
      periodName(period)
    } in common, which would count twice. Nothing was stored. Leave out copies and older exports of the same month, ` +
      "or use --append if all of them count.",
    { code: "DELIVERY_REFUSED" },
  );
}

/** Warns of files that correct others of their delivery. */
export function overlapNotes(files: readonly OverlappingFile[], id: string): string[] {
  return noteOf(
    files,
    ({ name, part: { source, period } }) =>
      `${name} has nearly the same charges of ${source} of ${periodName(period)} as the files before it. ` +
      `If it corrects them, they count twice: run "openfinops database deliveries undo ${id}"`,
  );
}

/** Names the option that makes one billing period of a month of another time zone; undefined if there is no such month. */
function monthOption(verdicts: readonly Verdict[]): string | undefined {
  if (!verdicts.some(({ part }) => isEdge(part))) return undefined;
  const [{ part }] = verdicts.toSorted((a, b) => b.part.rows - a.part.rows);
  return `--set billingPeriodStart=${isoTime(part.period).slice(0, 10)}`;
}

/** Warns of a month of another time zone than UTC, which became two billing periods. */
export function monthNotes(verdicts: readonly Verdict[], id: string): string[] {
  const added = verdicts.filter(({ fate }) => fate !== "known");
  const option = added.length > 1 ? monthOption(added) : undefined;
  if (option === undefined) return [];
  return [
    "the charges are in more than one month of UTC. If they are one month of their time zone, run " +
    `"openfinops database deliveries undo ${id}", and import them with ${option}`,
  ];
}

/** True if all rows are in the first or last hours of their month, as those of a neighbor in another time zone. */
function isEdge({ period, first, last }: StagedPart): boolean {
  return last < period + MOST_OFFSET_MS || first >= monthAfter(period) - MOST_OFFSET_MS;
}

/** Warns of rows of other deliveries in a billing period whose rows are known. */
export function remainderNotes(verdicts: readonly Verdict[]): string[] {
  const restOf = ({ live, same = live }: Verdict) => live.filter((one) => !same.includes(one));
  return noteOf(
    verdicts.filter((verdict) => restOf(verdict).length > 0),
    (verdict, others) => {
      const { source, period } = verdict.part;
      const rest = restOf(verdict);
      return `${source} has the rows of this import, and ${things(rowsOf(rest))} more of ${
        periodName(period)
      }${others} (${money(sumOf(rest.map(({ state }) => state.totals)))}) of other deliveries. ` +
        "If this import is all of them, run it with --replace";
    },
  );
}

/** Warns of replaced billing periods that have fewer rows or a lower total than before. */
export function shrinkNotes(verdicts: readonly Verdict[]): string[] {
  const shrunk = verdicts.filter((verdict) =>
    verdict.fate === "replace" && (
      verdict.part.rows < rowsOf(verdict.live) ||
      totalsOf(verdict).some(({ before, after }) => Decimal.from(after).compare(Decimal.from(before)) < 0)
    )
  );
  return noteOf(
    shrunk,
    ({ part, live }, others) =>
      `${part.source} of ${periodName(part.period)}${others} had ${things(rowsOf(live))} (${
        money(sumOf(live.map(({ state }) => state.totals)))
      }) and has ${things(part.rows)} (${money(part.totals.toRecord())}) now. ` +
      "If the file lacks charges, import it again when it is complete",
  );
}

/** Warns of costs of another vendor that were imported with the same constants. */
export function replacementNotes(verdicts: readonly Verdict[]): string[] {
  const replaced = verdicts.filter(({ part, fate }) => fate === "replace" && isUnnamed(part.source));
  return noteOf(
    replaced,
    ({ part: { source, period } }, others) =>
      `replaced what the source ${source} had of ${periodName(period)}${others}. ` +
      "A file of another vendor needs a source of its own (--source NAME)",
  );
}

/** Warns of rows that were added although they are there. */
export function repetitionNotes(verdicts: readonly Verdict[], id: string): string[] {
  const repeated = verdicts.filter((verdict) => verdict.fate === "append" && isRepeated(verdict));
  return noteOf(
    repeated,
    ({ part: { source, period } }, others) =>
      `${source} had most of these charges of ${
        periodName(period)
      }${others} already: they count twice now. ` +
      `To take this import back, run "openfinops database deliveries undo ${id}"`,
  );
}

/**
 * Warns of costs that another source has already, as when a constant was corrected, or when one bill came in the
 * vendor's own format and as FOCUS.
 */
export function resemblanceNotes(verdicts: readonly Verdict[], stored: readonly RelatedPart[]): string[] {
  const twinsBy = (what: string, isTwin: (part: StagedPart, other: RecordedPart) => boolean) => {
    const pairs = verdicts.flatMap(({ part, fate }) => {
      const twin = fate !== "new" ? undefined : stored.find((one) => isTwin(part, one.part));
      return twin ? [{ part, twin }] : [];
    });
    return noteOf(
      pairs,
      ({ part: { source, period }, twin }, others) =>
        `the source ${twin.part.source} has ${what} of ${periodName(period)}${others} as ${source}. ` +
        `If this import corrects them, they count twice: run "openfinops database deliveries undo ${twin.id}"`,
    );
  };
  const alike = twinsBy("nearly the same charges", isAlike);
  return alike.length > 0 ? alike : twinsBy("costs of the same account", isSameAccount);
}

/** True if two formats, such as a vendor's own and FOCUS, name the same billing account for a period. */
function isSameAccount({ source, period }: StagedPart, stored: RecordedPart): boolean {
  if (stored.period !== period || isUnnamed(source)) return false;
  const account = source.indexOf(":");
  return account > 0 && source.slice(account) === stored.source.slice(stored.source.indexOf(":"));
}

function isAlike({ period, charges }: StagedPart, stored: RecordedPart): boolean {
  if (stored.period !== period) return false;
  const other = chargesOf(stored);
  return [charges.shareIn(other), other.shareIn(charges)].every((share = 0) => share >= NEARLY_ALL);
}

/** A note about the first of some parts, with the number of the others. */
function noteOf<T>([first, ...others]: readonly T[], write: (first: T, others: string) => string): string[] {
  return first === undefined ? [] : [write(first, more(others))];
}

function rowsOf(live: readonly LivePart[]): number {
  return live.reduce((sum, { state }) => sum + state.rows, 0);
}

function more({ length }: readonly unknown[]): string {
  return length > 0 ? ` (and ${length} more billing periods)` : "";
}
