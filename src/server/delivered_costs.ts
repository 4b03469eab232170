import type { Backend } from "../backends/backend.ts";
import { BackendError, ValidationError } from "../errors.ts";
import { costEntries } from "../records/cost_entry.ts";
import type { PostedRecords } from "./posted_records.ts";
import { withTimeout } from "../pipeline/time_limit.ts";

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
 * a bill. Before a spool, checks nothing while the database does not answer, and waits for it once in an outage only.
 *
 * @param limit Ends the lookup where there is no spool.
 * @throws {BackendError} If the database cannot be read, and there is no spool.
 */
export async function refuseDelivered(
  { inputs, faults }: Pick<PostedRecords, "inputs" | "faults">,
  backend: Pick<Backend, "read">,
  limit?: AbortSignal,
): Promise<void> {
  const keys = inputs.flatMap((input, index) => keyOf(input, index) ?? []).sort((a, b) => a.time - b.time);
  if (keys.length === 0) return;
  if (!limit && silent.has(backend)) {
    if (silent.get(backend)) return;
    silent.set(backend, true);
    return void findBriefly(keys, backend).catch(() => {});
  }
  const delivered = await (limit ? findAll(keys, backend, limit) : findBriefly(keys, backend));
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

/** Finds rows of deliveries; none where the database does not answer. Notes if it does. */
async function findBriefly(
  keys: readonly Key[],
  backend: Pick<Backend, "read">,
): Promise<ReadonlySet<string>> {
  try {
    const find = (signal: AbortSignal) => findAll(keys, backend, signal);
    const found = await withTimeout(TIMEOUT_MS, find, () => undefined);
    if (found === undefined) silent.set(backend, false);
    else silent.delete(backend);
    return found ?? new Set();
  } catch (error) {
    silent.set(backend, false);
    if (!(error instanceof BackendError)) throw error;
    return new Set();
  }
}

/** Time and id of stored rows of deliveries. */
async function findAll(
  keys: readonly Key[],
  backend: Pick<Backend, "read">,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (let at = 0; at < keys.length; at += CHUNK) {
    await addDelivered(found, { keys: keys.slice(at, at + CHUNK), backend, signal });
  }
  return found;
}

async function addDelivered(
  found: Set<string>,
  { keys, backend, signal }: {
    keys: readonly Key[];
    backend: Pick<Backend, "read">;
    signal: AbortSignal;
  },
): Promise<void> {
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
}

/** The identity of a record; undefined where validation will refuse it. */
function keyOf(input: unknown, index: number): Key | undefined {
  const { entryId: id, timestamp: time } = Object(input) as Record<string, unknown>;
  if (typeof id !== "string" || !id.isWellFormed() || id.includes("\0")) return undefined;
  if (!Number.isSafeInteger(time) || time as number < 0 || time as number >= MAX_TIME) return undefined;
  return { index, id, time: time as number };
}
