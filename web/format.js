// @ts-check
/** Numbers, money and times for people. */

/** @type {Map<string, number>} */
const minorDigits = new Map();

/** @param {string} currency */
function minorDigitsOf(currency) {
  let digits = minorDigits.get(currency);
  if (digits === undefined) {
    digits = Intl.supportedValuesOf("currency").includes(currency)
      ? new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions()
        .maximumFractionDigits ?? 2
      : 2;
    minorDigits.set(currency, digits);
  }
  return digits;
}

/**
 * Rounds an exact amount as the command does: to the minor unit, half up; below half of it to two significant digits.
 * @param {string} amount A canonical decimal.
 * @param {string} currency
 */
export function roundMoney(amount, currency) {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(amount);
  if (!match) return amount;
  const [, sign, units, fraction = ""] = match;
  const minor = minorDigitsOf(currency);
  const leading = /^0*/.exec(fraction)?.[0].length ?? 0;
  const isTiny = units === "0" && fraction !== "" &&
    (leading > minor || leading === minor && fraction[leading] < "5");
  const digits = isTiny ? leading + 2 : minor;
  const padded = fraction.padEnd(digits + 1, "0");
  const scaled = BigInt(units + padded.slice(0, digits)) + (padded[digits] >= "5" ? 1n : 0n);
  const text = String(scaled).padStart(digits + 1, "0");
  return digits === 0 ? sign + text : `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`;
}

/** Rounded money with its thousands apart. @param {string} amount @param {string} currency */
export function money(amount, currency) {
  const [units, fraction] = roundMoney(amount, currency).split(".");
  const apart = units.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  return fraction === undefined ? apart : `${apart}.${fraction}`;
}

/** A number with a suffix, for axes and cards: 1.2k, 34M. @param {number} value */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e15) return Number(value.toPrecision(3)).toExponential().replace("+", "");
  for (
    const [unit, suffix]
      of /** @type {[number, string][]} */ ([[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
  ) {
    if (size >= unit) return `${trim(value / unit)}${suffix}`;
  }
  return size >= 1 || size === 0 ? trim(value) : String(Number(value.toPrecision(2)));
}

/** @param {number} value */
function trim(value) {
  return String(Number(value.toPrecision(3)));
}

/** @param {number} value */
export function count(value) {
  return value.toLocaleString("en-US");
}

/** @param {number | undefined | null} value */
export function percent(value, digits = 1) {
  if (value === undefined || value === null) return "–";
  return `${Math.abs(value) < 10_000 ? fixed(value, digits) : short(value)} %`;
}

/** A number with so many digits, and no sign where it rounds to zero. @param {number} value @param {number} digits */
export const fixed = (value, digits) => (Number(value.toFixed(digits)) || 0).toFixed(digits);

/** @param {number | undefined} value */
export function change(value, digits = 1) {
  return value === undefined ? "–" : `${value > 0 ? "+" : ""}${fixed(value, digits)} %`;
}

/** @param {number} value */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** @param {number} value Milliseconds. */
export function milliseconds(value) {
  return value >= 10_000
    ? `${(value / 1_000).toFixed(0)} s`
    : value >= 1_000
    ? `${(value / 1_000).toFixed(1)} s`
    : `${Math.round(value)} ms`;
}

/** @param {number} ms */
export function age(ms) {
  const units =
    /** @type {[number, string][]} */ ([[86_400_000, "d"], [3_600_000, "h"], [60_000, "min"], [1_000, "s"]]);
  const [size, unit] = units.find(([size]) => Math.abs(ms) >= size) ?? [1_000, "s"];
  const value = Math.round(Math.abs(ms) / size);
  return ms < 0 ? `in ${value} ${unit}` : `${value} ${unit} ago`;
}

/**
 * The time of a field of an answer: epoch milliseconds, or ISO 8601.
 * @param {number | string | undefined | null} value
 * @returns {number}
 */
export function timeOf(value) {
  return typeof value === "number" ? value : value ? Date.parse(value) : NaN;
}

/** @param {number | string | undefined | null} value @param {string} zone */
export function day(value, zone) {
  const time = timeOf(value);
  return Number.isNaN(time) ? "–" : new Intl.DateTimeFormat("en-CA", { timeZone: zone }).format(time);
}

/** @param {number | string | undefined | null} value @param {string} zone */
export function dateTime(value, zone) {
  const time = timeOf(value);
  if (Number.isNaN(time)) return "–";
  const clock = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" })
    .format(time);
  return `${day(time, zone)} ${clock}`;
}

/**
 * A short label of a bucket for axes.
 * @param {number} time
 * @param {{ bucket: string, zone: string }} options
 */
export function bucketLabel(time, { bucket, zone }) {
  /** @type {Intl.DateTimeFormatOptions} */
  const form = bucket.endsWith("h") || bucket.endsWith("m")
    ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
    : bucket.endsWith("mo")
    ? { month: "short", year: "2-digit" }
    : { day: "numeric", month: "short" };
  return new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...form }).format(time);
}

/** Adds exact amounts. @param {readonly string[]} amounts Canonical decimals. */
export function addAmounts(amounts) {
  const DIGITS = 18;
  const total = amounts.reduce((sum, amount) => {
    const [units, fraction = ""] = amount.replace("-", "").split(".");
    const scaled = BigInt(units + fraction.padEnd(DIGITS, "0"));
    return amount.startsWith("-") ? sum - scaled : sum + scaled;
  }, 0n);
  const text = String(total < 0n ? -total : total).padStart(DIGITS + 1, "0");
  const fraction = text.slice(-DIGITS).replace(/0+$/, "");
  return `${total < 0n ? "-" : ""}${text.slice(0, -DIGITS)}${fraction && "."}${fraction}`;
}

/** A group without a value, as tables and conditions of the command name it. */
export const NONE = "(none)";
/** All groups that are not at the top. */
export const OTHERS = "(other)";

/** @param {{ isOther?: boolean, group?: Record<string, string | null> }} row */
export function groupName({ isOther, group = {} }) {
  if (isOther) return OTHERS;
  return Object.values(group).map((value) => value ?? NONE).join(", ") || "(all)";
}

/** Writes a condition as `--where` reads it. @param {string} field @param {string | null} value */
export function condition(field, value) {
  const name = fieldName(field);
  return value === null ? `${name} missing` : `${name}=${quote(value)}`;
}

/** Writes a field or a key of a map as `--where` and `--group-by` read it. @param {string} field */
export function fieldName(field) {
  const dot = field.indexOf(".");
  const key = dot < 0 ? "" : field.slice(dot + 1);
  return /^[^\s=!<>",\\]*$/.test(key) ? field : `${field.slice(0, dot)}.${quote(key)}`;
}

/** @param {string} text */
function quote(text) {
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/**
 * A line of CSV. Text that a spreadsheet would take for a formula gets an apostrophe.
 * @param {readonly (string | number | null | undefined)[]} cells
 */
export function csvLine(cells) {
  return cells.map((cell) => {
    const text = cell === null || cell === undefined ? "" : String(cell);
    const isFormula = typeof cell === "string" && /^[=+\-@\t\r]/.test(text) && !/^-?\d+(\.\d+)?$/.test(text);
    const safe = isFormula ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }).join(",");
}
