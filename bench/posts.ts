/**
 * Clients of a server, and the disk that it waits for.
 *
 * @module
 */
import { Agent, request } from "node:http";
import { type Measured, recordAt } from "./records.ts";

/** Records to post. */
export interface PostOrder {
  /** The address of the server. */
  readonly url: string;
  readonly dataset: keyof typeof PATHS;
  /** Number of the first record: a request with the same content is not stored again. */
  readonly first: number;
  readonly records: number;
  /** Records of a request. */
  readonly size: number;
  /** Requests that are under way at once. */
  readonly clients: number;
}

/** Paths of the datasets that are posted. */
export const PATHS = { system_metrics: "api/v1/system-metrics", cost_entries: "api/v1/costs" } as const;

/** Posts records as NDJSON, encoded before; gives the seconds of each request, and of all. */
export async function post(order: PostOrder): Promise<{ seconds: number; latencies: number[] }> {
  const url = new URL(PATHS[order.dataset], order.url);
  const bodies = bodiesOf(order);
  const latencies: number[] = [];
  let next = 0;
  const start = performance.now();
  await Promise.all(Array.from({ length: order.clients }, async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    while (next < bodies.length) {
      const body = bodies[next++];
      const sent = performance.now();
      const status = await send(url, body, agent);
      if (status !== 202) throw new Error(`the server answers with ${status}`);
      latencies.push((performance.now() - sent) / 1_000);
    }
    agent.destroy();
  }));
  return { seconds: (performance.now() - start) / 1_000, latencies };
}

function bodiesOf({ dataset, first, records, size }: PostOrder): Uint8Array[] {
  const encoder = new TextEncoder();
  return Array.from({ length: Math.ceil(records / size) }, (_, i) => {
    const from = first + i * size;
    const count = Math.min(size, records - i * size);
    const lines = Array.from({ length: count }, (_, j) => JSON.stringify(recordAt(dataset, from + j)));
    return encoder.encode(`${lines.join("\n")}\n`);
  });
}

function send(url: URL, body: Uint8Array, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/x-ndjson", "content-length": body.length };
    const sending = request(url, { method: "POST", agent, headers }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode!));
    });
    sending.on("error", reject);
    sending.end(body);
  });
}

/** Appends a record to a file and syncs it, again and again; gives the seconds of each time. */
export async function append(
  { path, dataset, records }: { path: string; dataset: Measured; records: number },
): Promise<number[]> {
  using file = await Deno.open(path, { append: true, create: true });
  const latencies: number[] = [];
  for (let i = 0; i < records; i++) {
    const bytes = new TextEncoder().encode(JSON.stringify([recordAt(dataset, i)]));
    const start = performance.now();
    await file.write(bytes);
    await file.syncData();
    latencies.push((performance.now() - start) / 1_000);
  }
  return latencies;
}

/** The time that one of a hundred exceeds. */
export function p99(latencies: readonly number[]): number {
  return latencies.toSorted((a, b) => a - b)[Math.ceil(0.99 * latencies.length) - 1];
}
