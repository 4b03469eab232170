/** The number of digits kept after the point. */
const FRACTION_DIGITS = 18;
/** One, in units of 10⁻¹⁸. */
export const ONE: bigint = 10n ** BigInt(FRACTION_DIGITS);
/** Amounts have at most this many digits before the point, so that SQLite can hold them as an integer. */
const INTEGER_DIGITS = 18;
const LIMIT = 10n ** BigInt(INTEGER_DIGITS + FRACTION_DIGITS);

const CANONICAL = /^(?:0|-?(?:0\.\d{0,17}[1-9]|[1-9]\d{0,17}(?:\.\d{0,17}[1-9])?))$/;
const NUMERAL = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/;
/** Longer numerals are refused unread: no money needs them, and parsing them is a way to stall us. */
const MAX_NUMERAL_LENGTH = 256;

/**
 * A decimal number with 18 digits after the point, exact: a BigInt inside, never a float.
 *
 * More digits than 18 are rounded half to even.
 *
 * @example Add up what floats cannot
 * ```ts
 * import { Decimal } from "@openfinops/telemetry";
 * import { strict as assert } from "node:assert";
 *
 * const total = Decimal.from(0.1).plus(Decimal.from("0.2"));
 * assert.equal(total.toString(), "0.3");
 * ```
 */
export class Decimal {
  /** Zero. */
  static readonly ZERO: Decimal = new Decimal(0n);

  /** The value in units of 10⁻¹⁸. */
  readonly scaled: bigint;

  private constructor(scaled: bigint) {
    this.scaled = scaled;
  }

  /**
   * Reads a numeral: plain (`"0.0000008"`) or scientific (`"8e-7"`). A number is taken by its shortest
   * decimal form, so `0.1` is one tenth.
   *
   * @param value The numeral or number.
   * @returns Its decimal value, rounded half to even beyond 18 digits after the point.
   * @throws {RangeError} If the value is not a decimal number.
   */
  static from(value: string | number): Decimal {
    const text = typeof value === "number" ? String(value) : value;
    const match = text.length <= MAX_NUMERAL_LENGTH ? NUMERAL.exec(text) : null;
    if (match === null || (!match[2] && !match[3])) {
      throw new RangeError(`Cannot read a decimal number from ${JSON.stringify(text)}`);
    }
    const [, sign, integer, fraction = "", exponent = "0"] = match;
    const digits = BigInt(integer + fraction);
    const shift = FRACTION_DIGITS - fraction.length + Number(exponent);
    const scaled = shift >= 0 ? digits * 10n ** BigInt(shift) : divideHalfEven(digits, 10n ** BigInt(-shift));
    return new Decimal(sign === "-" ? -scaled : scaled);
  }

  /**
   * Puts a decimal together from whole units and units of 10⁻¹⁸, as SQLite keeps it.
   *
   * @param units The whole units.
   * @param parts The units of 10⁻¹⁸; may be more than one whole unit.
   * @returns The sum of both.
   */
  static fromParts(units: bigint, parts: bigint): Decimal {
    return new Decimal(units * ONE + parts);
  }

  /**
   * Adds.
   *
   * @param other The other decimal.
   * @returns The exact sum.
   */
  plus(other: Decimal): Decimal {
    return new Decimal(this.scaled + other.scaled);
  }

  /**
   * Subtracts.
   *
   * @param other The other decimal.
   * @returns The exact difference.
   */
  minus(other: Decimal): Decimal {
    return new Decimal(this.scaled - other.scaled);
  }

  /**
   * Compares, as for `sort`.
   *
   * @param other The other decimal.
   * @returns Below zero if this one is less, zero if both are equal, above zero if it is greater.
   */
  compare(other: Decimal): number {
    return this.scaled < other.scaled ? -1 : this.scaled > other.scaled ? 1 : 0;
  }

  /**
   * Multiplies by a fraction of whole numbers, as in a price an hour times milliseconds over 3,600,000.
   *
   * @param numerator The whole number to multiply by.
   * @param denominator The whole number to divide by. Must not be zero.
   * @returns The result, rounded half to even at the 18th digit.
   * @throws {RangeError} If the denominator is zero.
   */
  timesFraction(numerator: bigint, denominator: bigint): Decimal {
    return new Decimal(divideHalfEven(this.scaled * numerator, denominator));
  }

  /** True if the value can be stored: fewer than 10¹⁸ whole units. */
  get isStorable(): boolean {
    return this.scaled < LIMIT && this.scaled > -LIMIT;
  }

  /**
   * The canonical form: no exponent, no `+`, no needless zeros, and zero without a sign.
   *
   * @returns The exact value as a decimal string.
   */
  toString(): string {
    const negative = this.scaled < 0n;
    const digits = (negative ? -this.scaled : this.scaled).toString()
      .padStart(FRACTION_DIGITS + 1, "0");
    const integer = digits.slice(0, -FRACTION_DIGITS);
    const fraction = digits.slice(-FRACTION_DIGITS).replace(/0+$/, "");
    return `${negative ? "-" : ""}${integer}${fraction && "."}${fraction}`;
  }

  /**
   * The same as {@linkcode Decimal.toString}, so that JSON keeps every digit.
   *
   * @returns The exact value as a decimal string.
   */
  toJSON(): string {
    return this.toString();
  }
}

/** Returns true if a text is in the form of {@linkcode Decimal.toString} and can be stored as it is. */
export function isCanonicalAmount(text: string): boolean {
  return CANONICAL.test(text);
}

/** A canonical amount as numerals of its whole units and of the rest in units of 10⁻¹⁸, both with its sign. */
export function splitAmount(amount: string): [units: string, parts: string] {
  const point = amount.indexOf(".");
  if (point < 0) return [amount, "0"];
  const sign = amount.startsWith("-") ? "-" : "";
  return [amount.slice(0, point), sign + amount.slice(point + 1).padEnd(FRACTION_DIGITS, "0")];
}

function divideHalfEven(numerator: bigint, denominator: bigint): bigint {
  if (denominator < 0n) return divideHalfEven(-numerator, -denominator);
  const quotient = numerator / denominator;
  const rest = numerator % denominator;
  const twice = 2n * (rest < 0n ? -rest : rest);
  const up = twice > denominator || (twice === denominator && quotient % 2n !== 0n);
  return up ? quotient + (numerator < 0n ? -1n : 1n) : quotient;
}

/** Returns a part of a whole in percent, without the last digits of a float; 0 of nothing. */
export function percentOf(part: number, whole: number): number {
  return whole === 0 ? 0 : Number((part / whole * 100).toPrecision(12));
}
