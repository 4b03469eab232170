import type { DocumentStore } from "../backends/backend.ts";

/** Kind of the document. There is one, with the names of all servers. */
export const UNMAPPED_POINTS = "unmapped_points";
const ID = "all";
/** Most names that are counted separately; all others are counted together. */
const MAX_NAMES = 1_000;
const MAX_NAME_LENGTH = 200;
const OTHERS = "(others)";

/** Points of a metric that no field takes. */
export interface UnmappedPoints {
  readonly name: string;
  readonly points: number;
}

/** Counts points that no field takes, by the names of their metrics. */
export class UnmappedCounter {
  readonly #counts = new Map<string, number>();
  /** Counts that are not stored yet. */
  #fresh = new Map<string, number>();

  add(name: string, points: number): void {
    addTo(this.#counts, name, points);
    addTo(this.#fresh, name, points);
  }

  /** Counts since the start, the highest first. */
  counts(): UnmappedPoints[] {
    return sorted(this.#counts);
  }

  /** Adds what was counted since the last time to the document of the database. Several servers may do so at once. */
  async save(documents: DocumentStore): Promise<void> {
    if (this.#fresh.size === 0) return;
    const fresh = this.#fresh;
    this.#fresh = new Map();
    try {
      while (!await addToDocument(documents, fresh));
    } catch (error) {
      for (const [name, points] of fresh) addTo(this.#fresh, name, points);
      throw error;
    }
  }
}

/** The document: points by name, and a revision that each write raises. */
interface Body {
  readonly revision: number;
  readonly names: Readonly<Record<string, number>>;
}

async function readBody(documents: DocumentStore): Promise<Body | undefined> {
  const [found] = await documents.read(UNMAPPED_POINTS);
  return found?.body as Body | undefined;
}

/** Adds counts; false if another server has written meanwhile. */
async function addToDocument(documents: DocumentStore, fresh: ReadonlyMap<string, number>): Promise<boolean> {
  const before = await readBody(documents);
  const all = new Map(Object.entries(before?.names ?? {}));
  for (const [name, points] of fresh) addTo(all, name, points);
  const body: Body = { revision: (before?.revision ?? 0) + 1, names: Object.fromEntries(all) };
  const condition = before ? { ifRevision: before.revision } : { ifAbsent: true };
  return await documents.write({ kind: UNMAPPED_POINTS, id: ID, body }, condition);
}

/** Reads the counts of all servers, the highest first. */
export async function readUnmapped(documents: DocumentStore): Promise<UnmappedPoints[]> {
  return sorted(Object.entries((await readBody(documents))?.names ?? {}));
}

function sorted(counts: Iterable<readonly [string, number]>): UnmappedPoints[] {
  return [...counts].map(([name, points]) => ({ name, points }))
    .sort((a, b) => b.points - a.points || (a.name < b.name ? -1 : 1));
}

function addTo(counts: Map<string, number>, name: string, points: number): void {
  const short = name.slice(0, MAX_NAME_LENGTH).toWellFormed().replaceAll("\0", "");
  const key = counts.has(short) || counts.size < MAX_NAMES ? short : OTHERS;
  counts.set(key, (counts.get(key) ?? 0) + points);
}

/** Names the most frequent of some metrics, in a message. */
export function describeUnmapped(unmapped: ReadonlyMap<string, number>): string {
  const shown = sorted(unmapped).slice(0, 5).map(({ name, points }) => `${name.slice(0, 80)} (${points})`);
  const more = unmapped.size > shown.length ? ` and ${unmapped.size - shown.length} more` : "";
  return `No field takes ${shown.join(", ")}${more}`;
}
