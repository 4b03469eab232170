/**
 * Checks that what a database has agrees with its own records of it.
 *
 * @module
 */
import type { Backend, StorageFault, StoredDocument } from "../backends/backend.ts";
import { type DeliveredPart, DELIVERY, type PartState } from "../backends/staging.ts";
import { costEntries } from "../records/cost_entry.ts";
import { acceptQuery } from "../records/query.ts";
import { livePartsOf, publishOnly } from "./deliveries.ts";
import {
  asDelivered,
  money,
  periodName,
  type RecordedDelivery,
  type RecordedPart,
  sumOf,
  things,
} from "./recorded_delivery.ts";

/** Attempts where imports change deliveries meanwhile. */
const MAX_ATTEMPTS = 3;

/** A part of a delivery that is there, as it was recorded and as it was found. */
interface VerifiedPart {
  readonly id: string;
  readonly part: RecordedPart;
  found: PartState;
}

/**
 * Checks keys, the ledger, deliveries and their totals, in flat memory. Rows that were deleted on purpose differ from their
 * delivery, too.
 *
 * @returns What does not agree.
 * @throws {BackendError} If the backend could not be read.
 */
export async function verifyDatabase(
  backend: Pick<Backend, "aggregate" | "documents" | "stage" | "verify">,
): Promise<StorageFault[]> {
  for (let attempt = 1;; attempt++) {
    const before = JSON.stringify(await backend.documents.read(DELIVERY));
    const faults = [...await verifyDeliveries(backend), ...await backend.verify?.() ?? []];
    if (faults.length === 0 || attempt === MAX_ATTEMPTS) return faults;
    // An import meanwhile may have looked like a fault.
    if (before === JSON.stringify(await backend.documents.read(DELIVERY))) return faults;
  }
}

async function verifyDeliveries(
  backend: Pick<Backend, "aggregate" | "documents" | "stage">,
): Promise<StorageFault[]> {
  const parts: VerifiedPart[] = [];
  const listed = new Set<string>();
  const faults: StorageFault[] = [];
  await publishOnly(backend, {
    related(documents): DeliveredPart[] {
      parts.length = faults.length = 0;
      for (const { id, body } of documents) {
        listed.add(id);
        if (!isDelivery(body)) faults.push(unreadable(id));
        else for (const part of livePartsOf(body)) parts.push({ id, part, found: { rows: 0, totals: {} } });
      }
      return parts.map(({ id, part }) => asDelivered(id, part));
    },
    decide(states): undefined {
      states.forEach((state, i) => parts[i].found = state);
    },
  });
  for (const { id, part, found } of parts) {
    if (isAsRecorded(part, found)) continue;
    const subject = `${id} ${part.source} ${periodName(part.period)}`;
    faults.push({ check: "delivery", subject, expected: describe(part), found: describe(found) });
  }
  const known = (id: string) => parts.filter((part) => part.id === id).map(({ found }) => found);
  return [...faults, ...await findStrayCosts(backend, { listed, known })];
}

/** Costs that name a delivery, and that are in none of its parts: it is not listed, was replaced, or their fields were changed. */
async function findStrayCosts(
  backend: Pick<Backend, "aggregate">,
  { listed, known }: { listed: ReadonlySet<string>; known: (id: string) => PartState[] },
): Promise<StorageFault[]> {
  const rows = await backend.aggregate(costEntries, acceptQuery(costEntries), {
    groupBy: [{ field: "deliveryId" }, { field: "currency" }],
    measures: [{ function: "count" }, { function: "sum", field: "amount" }],
  });
  const found = new Map<string, PartState>();
  for (const { group: [id, currency], values: [count, total] } of rows) {
    if (id === null) continue;
    const { rows, totals } = found.get(id) ?? { rows: 0, totals: {} };
    found.set(id, { rows: rows + Number(count), totals: { ...totals, [currency!]: String(total) } });
  }
  return [...found].flatMap(([id, all]) => {
    const parts = known(id);
    const inParts = {
      rows: parts.reduce((sum, { rows }) => sum + rows, 0),
      totals: sumOf(parts.map(({ totals }) => totals)),
    };
    if (all.rows === inParts.rows) return [];
    const expected = listed.has(id)
      ? `${describe(inParts)} in its billing periods`
      : "no costs: it is not listed";
    return [{ check: "delivery", subject: id, expected, found: describe(all) } as const];
  });
}

function isDelivery(body: unknown): body is RecordedDelivery {
  const { parts, files } = body as Partial<RecordedDelivery> ?? {};
  return Array.isArray(parts) && Array.isArray(files);
}

function unreadable(id: StoredDocument["id"]): StorageFault {
  return {
    check: "delivery",
    subject: id,
    expected: "a record of its files and parts",
    found: "another document",
  };
}

function isAsRecorded({ rows, totals }: RecordedPart, found: PartState): boolean {
  const currencies = new Set([...Object.keys(totals), ...Object.keys(found.totals)]);
  return rows === found.rows && [...currencies].every((name) => totals[name] === found.totals[name]);
}

function describe({ rows, totals }: PartState): string {
  return [things(rows), money(totals)].filter(Boolean).join(", ");
}
