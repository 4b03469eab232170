import type { Backend } from "../backends/backend.ts";
import { BackendError, ValidationError } from "../errors.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { PostedRecords } from "./posted_records.ts";

/** Longest wait for the database, in milliseconds: a spool takes records during its outages. */
const TIMEOUT_MS = 2_000;
/** Ids that are looked up at once. */
const CHUNK = 1_000;
/** The latest time of a `Date`. */
const MAX_TIME = 8.64e15;

/** Identity of a posted cost. */
interface Key {
  readonly index: number;
  readonly id: string;
  readonly time: number;
}

/** Databases whose last lookup had no answer; true while another lookup finds out if they answer again. */
const silent = new WeakMap<Pick<Backend, "read">, boolean>();

/**
 * Refuses costs that have the id and time of a row of a delivery: they would be dropped as duplicates, or replace a row of
 * a bill. Checks nothing while the database does not answer, and waits for it once in an outage only.
 */
export async function refuseDelivered(
  { inputs, faults }: Pick<PostedRecords, "inputs" | "faults">,
  backend: Pick<Backend, "read">,
): Promise<void> {
  const keys = inputs.flatMap((input, index) => keyOf(input, index) ?? []).sort((a, b) => a.time - b.time);
  if (keys.length === 0) return;
  if (silent.has(backend)) {
    if (silent.get(backend)) return;
    silent.set(backend, true);
    return void findAll(keys, backend).catch(() => {});
  }
  const delivered = await findAll(keys, backend);
  for (const { index, id, time } of keys) {
    if (!delivered.has(`${time} ${id}`)) continue;
    const expected = "another id: a row of an imported bill has this id and time";
    faults.set(
      index,
      new ValidationError({ subject: costEntries.noun, field: "entryId", value: id, expected }),
    );
    inputs[index] = undefined;
  }
}

/** Time and id of stored rows of deliveries; of some where the database does not answer. Notes if it does. */
async function findAll(keys: readonly Key[], backend: Pick<Backend, "read">): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), TIMEOUT_MS);
  try {
    for (let at = 0; at < keys.length; at += CHUNK) {
      for (const key of await findDelivered(keys.slice(at, at + CHUNK), backend, timeout.signal)) {
        found.add(key);
      }
    }
    silent.delete(backend);
  } catch (error) {
    silent.set(backend, false);
    if (!timeout.signal.aborted && !(error instanceof BackendError)) throw error;
  } finally {
    clearTimeout(timer);
  }
  return found;
}

/** Time and id of stored rows of deliveries. */
async function findDelivered(
  keys: readonly Key[],
  backend: Pick<Backend, "read">,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  const ids = [...new Set(keys.map(({ id }) => id))];
  const pages = backend.read(costEntries, {
    startTime: keys[0].time,
    endTime: keys.at(-1)!.time + 1,
    equals: {},
    entries: {},
    where: [
      { field: "deliveryId", operator: "present", values: [] },
      { field: "entryId", operator: "in", values: ids },
    ],
    order: "asc",
  }, { signal });
  for await (const page of pages) {
    for (const { timestamp, entryId } of page) found.add(`${timestamp} ${entryId}`);
  }
  return found;
}

/** The identity of a record; undefined where validation will refuse it. */
function keyOf(input: unknown, index: number): Key | undefined {
  const { entryId: id, timestamp: time } = Object(input) as Record<string, unknown>;
  if (typeof id !== "string" || !id.isWellFormed() || id.includes("\0")) return undefined;
  if (!Number.isSafeInteger(time) || time as number < 0 || time as number >= MAX_TIME) return undefined;
  return { index, id, time: time as number };
}
