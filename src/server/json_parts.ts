/** Maximum number of distinct field names in one text of JSON. OTLP has under 100. V8 takes up to 17 µs for each. */
export const MAX_NAMES = 10_000;
/** JSON up to this length may be parsed without counting its parts. */
export const MAX_UNCOUNTED_LENGTH = 2 ** 16;

const [QUOTE, BACKSLASH, COLON, OPENING_BRACE, OPENING_BRACKET] = [0x22, 0x5c, 0x3a, 0x7b, 0x5b];
/** Random odd numbers, so that no client can choose names that share a hash. */
const [SEED, FACTOR] = crypto.getRandomValues(new Uint32Array(2)).map((number) => number | 1);

/** Counts parts of JSON before it is parsed. */
export class JsonParts {
  /** Objects and arrays. */
  opened = 0;
  readonly #maxNames: number;
  readonly #names = new Set<number>();

  /** Counts distinct field names up to a maximum. */
  constructor(maxNames: number = MAX_NAMES) {
    this.#maxNames = maxNames;
  }

  /** True if there are more distinct field names than the maximum. */
  get hasManyNames(): boolean {
    return this.#names.size > this.#maxNames;
  }

  /** Counts the parts of a text. Stops at too many names. */
  count(text: string): void {
    let hash = 0;
    for (let at = 0; at < text.length && !this.hasManyNames; at++) {
      const letter = text.charCodeAt(at);
      if (letter === QUOTE) {
        hash = SEED;
        while (++at < text.length && text.charCodeAt(at) !== QUOTE) {
          if (text.charCodeAt(at) === BACKSLASH) at++;
          hash = Math.imul(hash ^ text.charCodeAt(at), FACTOR);
        }
      } else if (letter === COLON) this.#names.add(hash);
      else if (letter === OPENING_BRACE || letter === OPENING_BRACKET) this.opened++;
    }
  }
}
