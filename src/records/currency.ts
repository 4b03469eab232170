/** The codes of ISO 4217 by what else people write for them, in small letters: the code itself, and its English name. */
let codes: Map<string, string> | undefined;

function codesByName(): Map<string, string> {
  const names = new Intl.DisplayNames("en", { type: "currency" });
  const found = new Map<string, string>();
  for (const code of Intl.supportedValuesOf("currency")) {
    found.set(code.toLowerCase(), code);
    found.set(names.of(code)!.toLowerCase(), code);
  }
  return found;
}

/**
 * Returns what a text must be to be a currency, or nothing if it is one. A currency that has a code of ISO 4217 is
 * spelled so, since `usd` and `USD` would never be added together. What has no such code is a virtual currency, as
 * FOCUS 1.2 allows it (credits, tokens), in the letters its vendor uses.
 */
export function currencyFault(text: string): string | undefined {
  if (/^[A-Z]{3}$/.test(text)) return undefined; // nearly all are; the names take 9 ms to load
  const trimmed = text.trim();
  if (trimmed === "") return "a code such as USD";
  codes ??= codesByName();
  const code = codes.get(trimmed.toLowerCase());
  if (code !== undefined) return `spelled ${code}, the code of ISO 4217`;
  if (trimmed !== text) return "free of white space around it";
}

let national: Set<string> | undefined;

/** True if a currency has a code of ISO 4217. All others are virtual: credits, tokens. */
export function isNationalCurrency(currency: string): boolean {
  national ??= new Set(Intl.supportedValuesOf("currency"));
  return national.has(currency);
}

const minorDigits = new Map<string, number>();

/** Digits after the point of the minor unit: 2 for USD, 0 for JPY. Virtual currencies have 2, as most do. */
function minorDigitsOf(currency: string): number {
  let digits = minorDigits.get(currency);
  if (digits !== undefined) return digits;
  digits = isNationalCurrency(currency)
    ? new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits!
    : 2;
  minorDigits.set(currency, digits);
  return digits;
}

/**
 * Rounds an amount for people: to the minor unit of the currency, half up; one below half of it, to two significant
 * digits, so that no cost reads as nothing.
 *
 * @param amount A canonical decimal.
 */
export function roundMoney(amount: string, currency: string): string {
  const [, sign, units, fraction] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(amount)!;
  const minor = minorDigitsOf(currency);
  const leading = /^0*/.exec(fraction ?? "")![0].length;
  const isTiny = units === "0" && fraction !== undefined &&
    (leading > minor || leading === minor && fraction[leading] < "5");
  const digits = isTiny ? leading + 2 : minor;
  const padded = (fraction ?? "").padEnd(digits + 1, "0");
  const scaled = BigInt(units + padded.slice(0, digits)) + (padded[digits] >= "5" ? 1n : 0n);
  const text = String(scaled).padStart(digits + 1, "0");
  return digits === 0 ? sign + text : `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`;
}
