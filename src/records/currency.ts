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
