/**
 * Facts and warnings of `stats` and `test-connection` that all databases share.
 *
 * @module
 */

/** Describes the ledger: its batches, and the time of the oldest in epoch milliseconds. A replay of an older one is stored. */
export function describeLedger(batches: number, oldest: number | null): Record<string, string | number> {
  return {
    ledgerBatches: batches,
    ...(oldest === null ? {} : { ledgerOldest: new Date(oldest).toISOString() }),
  };
}

/** Warns of a schema that a newer release has made. */
export function newerSchema(found: number, known: number): string[] {
  return found <= known ? [] : [
    `the schema has version ${found}, and this release knows version ${known}: it writes what both know; update it`,
  ];
}

/** Warns of triggers that may skip rows. */
export function triggerWarning(table: string): string {
  return `${table} has a trigger before INSERT: records that it skips are refused as dead letters`;
}
