import { idsOf, type Range, StoredPositions } from "../../pipeline/members.ts";
import type { Batch } from "../../pipeline/sink.ts";

/** Requests that are remembered, of all datasets. Nothing outlives the process, so only a recent one can come again. */
const MAX_REQUESTS = 10_000;

/** The stored positions of requests. */
export class MemoryRequests {
  readonly #ranges = new Map<string, readonly Range[]>();

  /** Adds the members of a batch; returns the indexes of its records that are stored already. */
  add({ dataset: { name }, members }: Batch): ReadonlySet<number> | undefined {
    if (!members) return undefined;
    const keyOf = (id: string) => `${name}\0${id}`;
    const stored = new StoredPositions(idsOf(members).map((id) => [id, this.#ranges.get(keyOf(id)) ?? []]));
    const known = stored.add(members);
    for (const [id, ranges] of stored.changed) {
      this.#ranges.delete(keyOf(id));
      this.#ranges.set(keyOf(id), ranges);
      if (this.#ranges.size > MAX_REQUESTS) this.#ranges.delete(this.#ranges.keys().next().value!);
    }
    return known;
  }
}
