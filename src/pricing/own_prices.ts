/**
 * Own prices, which are stored beside the records. Each that is set stays as history: a later one takes its place.
 *
 * @module
 */
import type { DocumentStore } from "../backends/backend.ts";
import { acceptPrice, type Price, type PriceInput } from "./price.ts";

/** The kind of documents that are own prices, by id. */
export const PRICE = "price";

/** An own price as it is stored. A later one of the same use replaces it; the earlier one stays as history. */
export interface StoredPrice extends Price {
  /** Time at which it was set, epoch ms. */
  setAt: number;
}

/** Fields that say what a price is for. Two prices that agree in all of them are versions of one. */
const IDENTITY = ["provider", "model", "unit", "region", "aboveInputTokens", "validFrom", "validTo"] as const;

/** Returns the name of what a price is for. */
function nameOf(price: Price): string {
  return IDENTITY.map((field) => price[field] ?? "").join("\0");
}

/**
 * Stores prices as the newest version of each.
 *
 * @returns Those that are new or differ from the version before.
 * @throws {ValidationError} If one is wrong; then none is stored.
 * @throws {BackendError} If the backend could not be written.
 */
export async function setPrices(
  documents: DocumentStore,
  inputs: readonly PriceInput[],
): Promise<StoredPrice[]> {
  const prices = inputs.map(acceptPrice);
  const current = new Map((await currentPrices(documents)).map((price) => [nameOf(price), price]));
  const setAt = Date.now();
  const changed: StoredPrice[] = [];
  for (const price of new Map(prices.map((price) => [nameOf(price), price])).values()) {
    const before = current.get(nameOf(price));
    if (before && isSamePrice(price, before)) continue;
    // Later than the previous version, even if the clock of this machine is behind.
    const body: StoredPrice = { ...price, setAt: Math.max(setAt, (before?.setAt ?? 0) + 1) };
    await documents.write({ kind: PRICE, id: `${body.setAt}-${crypto.randomUUID()}`, body });
    changed.push(body);
  }
  return changed;
}

/** Deletes all versions of the prices that a filter finds. */
export async function deletePrices(
  documents: DocumentStore,
  isGone: (price: Price) => boolean,
): Promise<number> {
  const gone = new Set<string>();
  for (const { id, body } of await documents.read(PRICE)) {
    const price = body as StoredPrice;
    if (!isGone(price)) continue;
    gone.add(nameOf(price));
    await documents.delete(PRICE, id);
  }
  return gone.size;
}

/** Reads the newest version of each own price, or all versions, by model and unit. */
export async function currentPrices(documents: DocumentStore, hasHistory = false): Promise<StoredPrice[]> {
  const all = (await documents.read(PRICE)).map(({ body }) => body as StoredPrice);
  all.sort((a, b) => nameOf(a) < nameOf(b) ? -1 : nameOf(a) > nameOf(b) ? 1 : a.setAt - b.setAt);
  return hasHistory
    ? all
    : all.filter((price, i) => i === all.length - 1 || nameOf(all[i + 1]) !== nameOf(price));
}

function isSamePrice(a: Price, b: Price): boolean {
  return a.amount === b.amount && a.currency === b.currency && a.per === b.per;
}
