import { Decimal } from "./decimal.ts";

/** Exact sums by name, such as totals by currency. */
export class Sums {
  readonly #sums = new Map<string, Decimal>();

  /** Adds an amount to a sum. */
  add(name: string, amount: string): void {
    this.#sums.set(name, (this.#sums.get(name) ?? Decimal.ZERO).plus(Decimal.from(amount)));
  }

  /** Returns the sums in the order of their names. */
  toRecord(): Record<string, string> {
    return Object.fromEntries(
      [...this.#sums].sort(([a], [b]) => a < b ? -1 : 1).map(([name, sum]) => [name, sum.toString()]),
    );
  }
}
