/** Different names of fields in one body of JSON. OTLP has under 100; a parser takes up to 17 µs for each. */
export const MAX_NAMES = 10_000;
/** JSON of fewer characters may be parsed without a count of its parts. */
export const MAX_UNCOUNTED_LENGTH = 2 ** 16;

const [QUOTE, BACKSLASH, COLON, OPENING_BRACE, OPENING_BRACKET] = [0x22, 0x5c, 0x3a, 0x7b, 0x5b];
/** Odd numbers of this process, so that no client can make names that share a hash. */
const [SEED, FACTOR] = crypto.getRandomValues(new Uint32Array(2)).map((number) => number | 1);

/** Counts parts of JSON before it is parsed. */
export class JsonParts {
  /** Objects and arrays. */
  opened = 0;
  readonly #names = new Set<number>();

  /** True if there are more different names of fields than {@linkcode MAX_NAMES}. */
  get hasManyNames(): boolean {
    return this.#names.size > MAX_NAMES;
  }

  /** Counts the parts of a text. Stops at too many names. */
  count(text: string): void {
    let hash = 0;
    for (let at = 0; at < text.length && !this.hasManyNames; at++) {
      const letter = text.charCodeAt(at);
      if (letter === QUOTE) {
        hash = SEED;
        for (let next; ++at < text.length && (next = text.charCodeAt(at)) !== QUOTE;) {
          if (next === BACKSLASH) at++;
          hash = Math.imul(hash ^ text.charCodeAt(at), FACTOR);
        }
      } else if (letter === COLON) this.#names.add(hash);
      else if (letter === OPENING_BRACE || letter === OPENING_BRACKET) this.opened++;
    }
  }
}
