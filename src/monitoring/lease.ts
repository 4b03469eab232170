import type { DocumentStore } from "../backends/backend.ts";
import { LEASE } from "./document_kinds.ts";

/** Time for which a lease lasts unless it is renewed, in milliseconds: after a crash, others wait no longer. */
const LEASE_MS = 30_000;

/** A lease: one of many processes does the work that it names. */
interface Lease {
  /** Raised by each write. The process that raises it holds the lease. */
  readonly revision: number;
  /** End of the lease. */
  readonly until: number;
}

/**
 * Runs work while this process holds a lease, which is renewed until the work has ended.
 *
 * @returns The result of the work; undefined if another process holds the lease.
 * @throws {BackendError} If the lease could not be taken.
 */
export async function withLease<T>(
  documents: DocumentStore,
  id: string,
  work: () => Promise<T>,
): Promise<T | undefined> {
  const [found] = (await documents.read(LEASE)).filter((document) => document.id === id);
  const { revision: free = 0, until = 0 } = (found?.body ?? {}) as Partial<Lease>;
  const leftMs = until - Date.now();
  if (leftMs > 0 && leftMs <= 2 * LEASE_MS) return undefined; // else a clock was far ahead
  let revision = free;
  const write = async (until: number) => {
    const condition = revision === 0 ? { ifAbsent: true } : { ifRevision: revision };
    const isWritten = await documents.write(
      { kind: LEASE, id, body: { revision: revision + 1, until } },
      condition,
    );
    if (isWritten) revision++;
    return isWritten;
  };
  if (!await write(Date.now() + LEASE_MS)) return undefined;
  let renewal: Promise<unknown> = Promise.resolve();
  const timer = setInterval(() => {
    renewal = renewal.then(() => write(Date.now() + LEASE_MS)).catch(() => {}); // it is tried again before it ends
  }, LEASE_MS / 3);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    await renewal;
    await write(0).catch(() => {}); // it ends by itself
  }
}
