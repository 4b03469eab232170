/**
 * Sources of costs: the vendor or the file that they come from.
 *
 * @module
 */
import type { CostEntry } from "../records/cost_entry.ts";

/** Sources whose costs no vendor delivers. */
export const NEVER_DELIVERED: ReadonlySet<string> = new Set(["collect", "prices", "api"]);

/** Source of a row of a vendor's format. */
export function sourceOf(
  { billingAccountId, invoiceIssuerName, serviceProviderName }: CostEntry,
  format: string,
): string | undefined {
  if (format === "csv" || format === "ndjson") return undefined;
  // Bills of two vendors must not replace each other where they name no account.
  const account = billingAccountId ?? invoiceIssuerName ?? serviceProviderName;
  return account === undefined ? format : `${format}:${account}`;
}

export function constantsName(constants: readonly (readonly [field: string, value: string])[]): string {
  const texts = constants.toSorted()
    .map(([field, value]) => `${field}=${value.replaceAll(/[%,]/g, encodeURIComponent)}`);
  return texts.length === 0 ? "csv" : `csv:${texts.join(",")}`;
}

/** True if the constants of an import, or nothing, made a source. */
export function isUnnamed(source: string): boolean {
  return /^csv(:|$)/.test(source);
}
