/** Pipelines with a spool, and a sink that they write into. */
import { Pipeline } from "../src/pipeline/pipeline.ts";
import type { EventListener } from "../src/pipeline/events.ts";
import type { Batch, Sink, WriteResult } from "../src/pipeline/sink.ts";
import { type FsyncPolicy, Spool } from "../src/spool/spool.ts";
import { type SystemMetrics, systemMetrics } from "../src/records/system_metrics.ts";
import { NEW_YEAR, type TemporaryFolder } from "./fixtures.ts";

/** A sink that remembers what it has written, by id as a ledger does, and refuses what it is told to. */
export class LedgerSink implements Sink {
  readonly ledger: Map<string, readonly SystemMetrics[]>;
  readonly attempts: string[] = [];
  refuse: (batch: Batch) => Promise<unknown> | undefined = () => undefined;

  /** Makes it empty, or with what another one has written. */
  constructor(earlier?: LedgerSink) {
    this.ledger = new Map(earlier?.ledger);
  }

  async write(batch: Batch): Promise<WriteResult> {
    this.attempts.push(batch.id);
    const refusal = await this.refuse(batch);
    if (refusal) throw refusal;
    if (!this.ledger.has(batch.id)) this.ledger.set(batch.id, batch.records as SystemMetrics[]);
    return { committed: batch.records.length, duplicates: 0, restated: 0 };
  }

  get numbers(): number[] {
    return [...this.ledger.values()].flat().map(({ activeConnections }) => activeConnections!).sort((a, b) =>
      a - b
    );
  }
}

export const never = new Promise<never>(() => {});
export const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
export const metrics = (number: number): SystemMetrics => ({
  timestamp: NEW_YEAR,
  clusterId: "c",
  nodeId: "n",
  activeConnections: number,
});

/** Options of {@linkcode open}. */
export interface Given {
  maxBytes?: number;
  overflow?: "block" | "drop-oldest";
  fsync?: FsyncPolicy;
  onEvent?: EventListener;
}

/** A pipeline with a spool, into a sink. */
export async function open(
  directory: string,
  sink: Sink,
  { maxBytes = 2 ** 20, overflow = "block", fsync = "batch", onEvent = () => {} }: Given = {},
): Promise<Pipeline<SystemMetrics>> {
  const spool = await Spool.open<SystemMetrics>(systemMetrics, { directory, maxBytes, fsync, onEvent });
  return new Pipeline<SystemMetrics>({
    dataset: systemMetrics,
    sink,
    batchSize: 4,
    batchIntervalMs: 10,
    overflow,
    queue: (hooks) => spool.attach(hooks),
  });
}

/** Puts a file in the place of the folder of a spool, so that it cannot be written. */
export function obstruct(folder: TemporaryFolder, name: string): void {
  Deno.removeSync(folder.file(name), { recursive: true });
  Deno.writeTextFileSync(folder.file(name), "");
}

/** Copy of the folder as a process would leave it that is killed now. */
export function crash(folder: TemporaryFolder, spool: string = folder.file("spool")): string {
  const copy = folder.file(crypto.randomUUID());
  new Deno.Command("cp", { args: ["-r", spool, copy] }).outputSync();
  return copy;
}
