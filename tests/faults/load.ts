/** Numbered records, and what has to be true of them in the end. */
import { ObservabilityHub, openBackend, type PersistenceConfig, type PipelineStats } from "../../mod.ts";
import type { SystemMetrics } from "../../src/records/system_metrics.ts";
import { systemMetrics } from "../../src/records/system_metrics.ts";
import { assert, assertEquals } from "../assert.ts";
import { read } from "../backend_contract.ts";
import { NEW_YEAR } from "../fixtures.ts";
import { inTime, sleep } from "../until.ts";

/** The counters of a hub's system metrics, of which the conservation rule must be true. */
export function conserved(hub: ObservabilityHub): PipelineStats {
  const stats = hub.stats().datasets.system_metrics!;
  const { accepted, committed, duplicates, deadLettered, dropped, spooled, buffered, inFlight } = stats;
  const sum = committed + duplicates + deadLettered + dropped + spooled + buffered + inFlight;
  assert(sum === accepted && Math.min(spooled, buffered, inFlight) >= 0, JSON.stringify(stats));
  return stats;
}

/** The record with a number. */
export function numbered(number: number, nodeId = "good"): SystemMetrics {
  return { timestamp: NEW_YEAR + number, clusterId: "faults", nodeId, activeConnections: number };
}

/** A hub under load: which numbers it has acknowledged, and whether the conservation rule held all the time. */
export class Load {
  readonly acknowledged = new Set<number>();
  readonly hub: ObservabilityHub;
  #next: number;

  static async open(config: PersistenceConfig, first = 0): Promise<Load> {
    return new Load(
      await ObservabilityHub.open({ batchSize: 20, batchIntervalSeconds: 1, ...config }),
      first,
    );
  }

  constructor(hub: ObservabilityHub, first = 0) {
    this.hub = hub;
    this.#next = first;
  }

  /** Collects so many records without waiting for one before the next; resolves when all are acknowledged. */
  async add(count: number, nodeId?: (number: number) => string): Promise<void> {
    await Promise.all(Array.from({ length: count }, async () => {
      const number = this.#next++;
      await this.hub.collectSystemMetrics(numbered(number, nodeId?.(number)));
      this.acknowledged.add(number);
      if (number % 16 === 0) conserved(this.hub);
    }));
    conserved(this.hub);
  }

  /** Collects small groups until a promise is settled. */
  async addUntil(
    over: Promise<unknown>,
    { pauseMs = 1, nodeId }: { pauseMs?: number; nodeId?: (number: number) => string } = {},
  ): Promise<void> {
    let isOver = false;
    const end = () => isOver = true;
    over.then(end, end);
    while (!isOver) {
      await this.add(10, nodeId);
      await sleep(pauseMs);
    }
    await over;
  }

  /** Flushes, closes, and compares what is stored with what was acknowledged: exactly that, each once. */
  async endsExactly(connectionString: string): Promise<void> {
    await inTime(this.hub.flush(), "all is written");
    const { lost } = await this.hub.close();
    conserved(this.hub);
    assertEquals(lost, 0);
    await assertStored(connectionString, this.acknowledged);
  }
}

/** The numbers that are stored, in their order, as often as they are. */
export async function storedNumbers(connectionString: string): Promise<number[]> {
  const backend = await openBackend({ connectionString, sqliteDriver: "node:sqlite" }, { mode: "existing" });
  try {
    return (await read(backend, systemMetrics)).map(({ activeConnections }) => activeConnections!)
      .sort((a, b) => a - b);
  } finally {
    await backend.close();
  }
}

/** Exactly these numbers are stored, each once; where `also` says so, others may be as well, likewise once. */
export async function assertStored(
  connectionString: string,
  expected: Iterable<number>,
  { also = () => false }: { also?: (number: number) => boolean } = {},
): Promise<void> {
  const found = await storedNumbers(connectionString);
  const numbers = new Set(found);
  const expectedNumbers = new Set(expected);
  const lost = [...expectedNumbers].filter((number) => !numbers.has(number));
  const strange = [...numbers].filter((number) => !expectedNumbers.has(number) && !also(number));
  const doubled = found.length - numbers.size;
  assert(
    lost.length === 0 && doubled === 0 && strange.length === 0,
    `${lost.length} lost (${lost.slice(0, 5)}), ${doubled} doubled, ${strange.length} not acknowledged ` +
      `(${strange.slice(0, 5)}) of ${expectedNumbers.size}`,
  );
}
