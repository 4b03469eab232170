/**
 * Readers of cells: numbers and times in the forms that the options of an import name.
 *
 * @module
 */
import { ValidationError } from "../errors.ts";
import { isTimeZone } from "../records/calendar.ts";
import type { ColumnType } from "../records/dataset.ts";
import { parseTime } from "../records/time_text.ts";
import { READERS, refuse } from "./values.ts";

/** Forms of numbers, times and missing values in the cells of a file. */
export interface CellOptions {
  /**
   * Character between the cells of a file of CSV.
   *
   * @default {","}
   */
  delimiter?: string;
  /**
   * Decimal sign of numbers that are text. With `,` the number `1.234,50` is 1234.5, with `.` so is `1,234.50`. By
   * default a number has no thousands separators, as `1,234` is not the same everywhere.
   */
  decimal?: "." | ",";
  /** Formats of times beside ISO 8601, such as `DD.MM.YYYY`. A time that two of them read differently is refused. */
  dateFormats?: readonly string[];
  /**
   * Time zone of times without one. A time that occurs twice or never in it, as clocks change, is refused.
   *
   * @default {"UTC"}
   */
  timeZone?: string;
  /** Texts that stand for a missing value in a file of CSV. */
  nullTexts?: readonly string[];
  /**
   * Called with each note on the reading of a file, once.
   *
   * @param file Name of the file, if the note is about one file.
   */
  onNote?: (note: string, file?: string) => void;
}

/** Parsers by type. */
export type Readers = typeof READERS;

/** Names of tokens in a format of times, the digits of each, and the group that it is. */
const TOKENS: Readonly<Record<string, string>> = {
  YYYY: "(?<year>\\d{4})",
  YY: "(?<year>\\d\\d)",
  MMM: "(?<month>[A-Za-z]{3})",
  MM: "(?<month>\\d\\d)",
  M: "(?<month>\\d\\d?)",
  DD: "(?<day>\\d\\d)",
  D: "(?<day>\\d\\d?)",
  HH: "(?<hour>\\d\\d)",
  H: "(?<hour>\\d\\d?)",
  hh: "(?<hour>\\d\\d)",
  h: "(?<hour>\\d\\d?)",
  mm: "(?<minute>\\d\\d)",
  ss: "(?<second>\\d\\d)",
  SSS: "(?<fraction>\\d{1,9})",
  A: "(?<half>[AaPp][Mm])",
};
const TOKEN = /YYYY|YY|MMM|MM?|DD?|HH?|hh?|mm|ss|SSS|A|[\s\S]/g;
const CLOCK = "(?:[T ]+(?<hour>\\d\\d?):(?<minute>\\d\\d)(?::(?<second>\\d\\d)(?:[.,](?<fraction>\\d+))?)?" +
  "(?: ?(?<half>[AaPp][Mm]))?)?";
const ZONE = "\\s*(?<zone>Z|UTC|[+-]\\d\\d(?::?\\d\\d)?)?";
const EXPECTED_TIME = "a time as in 2026-01-31T12:00:00Z, or in epoch milliseconds";
const MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split(" ");
const QUARTER_HOUR_MS = 900_000;
const MAX_REMEMBERED = 10_000;

/** Units of epoch times by their number of digits: from 2001 to 2286. Other numbers of digits are a date, or unclear. */
const EPOCHS = new Map([[10, "seconds"], [13, "milliseconds"], [16, "microseconds"], [19, "nanoseconds"]]);

export function makeReaders(options: CellOptions = {}): Readers {
  const { decimal, timeZone, dateFormats = [] } = options;
  check("delimiter", options.delimiter, /^[!#-&(-+,/:-@[-^`{-~\t]$/, "a character such as ; or |, or tab");
  check("decimal", decimal, /^[.,]$/, "the sign . or ,");
  if (timeZone !== undefined && !isTimeZone(timeZone)) {
    refuseOption("timeZone", timeZone, "a time zone such as Europe/Berlin");
  }
  const formats = dateFormats.map(compileFormat);
  const toEpoch = timeZone === undefined ? undefined : zoneReader(timeZone);
  const number = (text: string) => toDecimalText(text, decimal);
  const readers: Record<ColumnType, (value: unknown) => unknown> = {
    ...READERS,
    timestamp: timeReader({ formats, toEpoch, onNote: options.onNote }),
    real: (value) => READERS.real(typeof value === "string" ? number(value) : value),
    integer: (value) => READERS.integer(typeof value === "string" ? number(value) : value),
    decimal: (value) => typeof value === "string" ? number(value) : value,
  };
  for (const type of Object.keys(readers) as ColumnType[]) {
    const read = readers[type];
    // Programs that quote all cells also quote those that are empty.
    if (type !== "text") readers[type] = (value) => value === "" ? undefined : read(value);
  }
  return readers;
}

function check(field: string, value: string | undefined, pattern: RegExp, expected: string): void {
  if (value !== undefined && !pattern.test(value)) refuseOption(field, value, expected);
}

function refuseOption(field: string, value: string, expected: string): never {
  throw new ValidationError({ subject: "an import", field, value, expected, code: "INVALID_OPTION" });
}

/** A number as JSON has it. */
function toDecimalText(text: string, decimal: CellOptions["decimal"]): string {
  if (/[($€£¥]/.test(text) && /\d/.test(text)) {
    refuse(
      text.includes("(") ? "a number as in -5.00, not in parentheses" : "a number without currency sign",
    );
  }
  if (decimal === undefined) {
    if (/\d,\d/.test(text)) refuse("a number as in 41.2; --decimal says which sign its decimals follow");
    return text;
  }
  const match = NUMBERS[decimal].exec(text);
  if (!match) {
    return refuse(`a number as in ${decimal === "," ? "1.234,5" : "1,234.5"} (--decimal ${decimal})`);
  }
  const { whole, fraction = "", sign = "", exponent = "" } = match.groups!;
  return `${sign === "-" ? sign : ""}${whole.replace(/\D/g, "") || "0"}${
    fraction && `.${fraction}`
  }${exponent}`;
}

const numberPattern = (decimal: string, group: string) =>
  new RegExp(
    `^(?=.*\\d)(?<sign>[+-]?)(?<whole>\\d{1,3}(?:(?<group>[${group}'’ \u00a0\u202f])\\d{3}(?:\\k<group>\\d{3})*)|\\d*)` +
      `(?:[${decimal}](?<fraction>\\d*))?(?<exponent>e[+-]?\\d+)?$`,
    "i",
  );
const NUMBERS = { ",": numberPattern(",", "."), ".": numberPattern(".", ",") };

/** Reads a time by a format: as ISO 8601, or not at all. */
type Format = (text: string) => string | undefined;

function compileFormat(format: string): Format {
  const parts: readonly string[] = format.match(TOKEN) ?? [];
  const has = (...tokens: string[]) => tokens.some((token) => parts.includes(token));
  if (!has("YYYY", "YY") || !has("M", "MM", "MMM") || !has("D", "DD")) {
    refuseOption("dateFormats", format, "with year, month and day, such as DD.MM.YYYY or MM/DD/YYYY");
  }
  const pattern = parts.map((part, i) => {
    // With a separator on both sides, a day or month of one digit is clear.
    const isApart = ![parts[i - 1], parts[i + 1]].some((other) => other !== undefined && TOKENS[other]);
    const found = TOKENS[isApart && /^(MM|DD|HH|hh)$/.test(part) ? part[0] : part];
    return found ?? RegExp.escape(part);
  }).join("");
  const clock = has("H", "HH", "h", "hh") ? "" : CLOCK;
  const matcher = new RegExp(`^${pattern}${clock}${ZONE}$`);
  return (text) => {
    const found = matcher.exec(text)?.groups;
    return found && toIso(found);
  };
}

function toIso(found: Record<string, string | undefined>): string | undefined {
  const { year = "", month = "", day = "", hour = "0", minute = "00", second = "00", fraction = "0" } = found;
  const monthNumber = /\d/.test(month) ? month : String(MONTHS.indexOf(month.toLowerCase()) + 1);
  let hours = Number(hour);
  if (found.half !== undefined) {
    if (hours < 1 || hours > 12) return undefined;
    hours = hours % 12 + (/^p/i.test(found.half) ? 12 : 0);
  }
  const [mm, dd, hh] = [monthNumber, day, String(hours)].map((digits) => digits.padStart(2, "0"));
  return `${year.padStart(4, "20")}-${mm}-${dd}T${hh}:${minute}:${second}.${fraction}${found.zone ?? ""}`;
}

function timeReader({ formats, toEpoch, onNote }: {
  formats: readonly Format[];
  toEpoch?: (localMs: number) => number;
  onNote?: (note: string) => void;
}): (value: unknown) => unknown {
  const toldOf = new Set<string>();
  const readIso = (text: string): number | undefined => {
    const time = parseTime(text);
    // Behind the ten characters of the date, a sign begins an offset.
    const isZoned = !toEpoch || /Z$|UTC$|^.{10}.*[+-]/.test(text);
    return time === undefined || isZoned ? time : toEpoch(time);
  };
  return (value) => {
    if (typeof value !== "string" && typeof value !== "number") return value;
    const text = String(value);
    if (formats.length === 0) {
      const time = readIso(text);
      if (time !== undefined) return time;
    }
    const texts = [text, ...formats.map((read) => read(text))].filter((iso) => iso !== undefined);
    const times = new Set(texts.map(readIso).filter((time) => time !== undefined));
    if (times.size > 1) refuse("a time that one format fits (--date-format)");
    if (times.size === 1) return times.values().next().value;
    const epoch = readEpoch(text);
    if (epoch === undefined) {
      return typeof value === "number" ? value : refuse(`${EXPECTED_TIME}${dateFormatHint(text)}`);
    }
    if (epoch.unit !== "milliseconds" && !toldOf.has(epoch.unit)) {
      toldOf.add(epoch.unit);
      onNote?.(`times such as ${text} are read as epoch ${epoch.unit}`);
    }
    return epoch.ms;
  };
}

/** Names the formats that a date which is not ISO 8601 may have. */
function dateFormatHint(text: string): string {
  const [, first, sign, second, year = ""] = /^(\d{1,4})([./-])(\d\d?)(?:\2(\d+))?/.exec(text) ?? [];
  if (first === undefined) return "";
  const name = "Y".repeat(year.length === 2 ? 2 : 4);
  const dayFirst = ["DD", "MM", name].join(sign);
  const monthFirst = ["MM", "DD", name].join(sign);
  const formats = first.length === 4
    ? [["YYYY", "MM", "DD"].join(sign)]
    : Number(first) > 12
    ? [dayFirst]
    : Number(second) > 12
    ? [monthFirst]
    : [dayFirst, monthFirst];
  const fitting = formats.filter((format) => parseTime(compileFormat(format)(text) ?? "") !== undefined);
  return fitting.length === 0 ? "" : `; use --date-format ${fitting.join(" or ")}`;
}

/** Reads an epoch time by its size. Digits beyond milliseconds are cut. */
function readEpoch(text: string): { ms: number; unit: string } | undefined {
  const [, digits, fraction = ""] = /^(\d{10,19})(?:\.(\d*))?$/.exec(text) ?? [];
  const unit = EPOCHS.get(digits?.length);
  if (unit === undefined) return undefined;
  return { ms: Number((digits + (unit === "seconds" ? fraction.padEnd(3, "0") : "")).slice(0, 13)), unit };
}

/** Makes the function that turns local milliseconds into epoch milliseconds. */
function zoneReader(timeZone: string): (localMs: number) => number {
  const offsets = new Map<number, number | undefined>();
  return (localMs) => {
    const quarter = Math.floor(localMs / QUARTER_HOUR_MS);
    if (!offsets.has(quarter)) {
      if (offsets.size >= MAX_REMEMBERED) offsets.clear();
      offsets.set(quarter, offsetAt(quarter * QUARTER_HOUR_MS, timeZone));
    }
    const offset = offsets.get(quarter);
    return offset === undefined
      ? refuse(`a time that occurs once in ${timeZone}: here the clocks change. Give it with its offset`)
      : localMs + offset;
  };
}

/** Milliseconds from local time to UTC; undefined where the local time occurs twice or never. */
function offsetAt(localMs: number, timeZone: string): number | undefined {
  const local = Temporal.Instant.fromEpochMilliseconds(localMs).toZonedDateTimeISO("UTC").toPlainDateTime();
  try {
    return local.toZonedDateTime(timeZone, { disambiguation: "reject" }).epochMilliseconds - localMs;
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
