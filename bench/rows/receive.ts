import { fileURLToPath as fromFileUrl } from "node:url";
import snappy from "snappyjs";
import { writeRemote } from "../../tests/remote_writer.ts";
import type { Places } from "../fixtures.ts";
import { program } from "../peers.ts";
import type { Family } from "../row.ts";

/** Fields of `system_metrics` that are numbers, and nodes: the points of one request. */
const FIELDS =
  ("cpu_usage memory_usage disk_usage gpu_usage network_io active_connections error_count warning_count " +
    "throughput latency_p50 latency_p95 latency_p99 error_rate training_active model_loading data_loading " +
    "gradient_sync checkpoint_saving temperature power_consumption fan_speed cost_per_hour estimated_daily_cost")
    .split(" ");
const NODES = 64;
const POINTS = FIELDS.length * NODES;
/** Requests under way at once, as Prometheus has shards. */
const SENDERS = 4;
const START = Date.UTC(2026, 0, 1);
/** Requests of all runs: no two have the same points. */
let sent = 0;

/** A request of all fields of all nodes at one time, compressed. */
function request(): Uint8Array<ArrayBuffer> {
  const at = START + 15_000 * sent++;
  const series = Array.from({ length: NODES }, (_, node) =>
    FIELDS.map((field, i) => ({
      labels: {
        __name__: `openfinops_system_metrics_${field}`,
        cluster: "prod",
        instance: `gpu-${node}.prod.example:9100`,
        job: "node",
      },
      samples: [[Math.round(1_000 * Math.abs(Math.sin(sent + node * 31 + i))) / 10, at] as const],
    }))).flat();
  return snappy.compress(writeRemote(1, series)) as Uint8Array<ArrayBuffer>;
}

/** Sends requests, some at once, until all are answered; gives the seconds. */
async function sendAll(url: string, requests: readonly Uint8Array<ArrayBuffer>[]): Promise<number> {
  const headers = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
  };
  let next = 0;
  const start = performance.now();
  await Promise.all(Array.from({ length: SENDERS }, async () => {
    while (next < requests.length) {
      const response = await fetch(url, { method: "POST", body: requests[next++], headers });
      await response.body?.cancel();
      if (response.status !== 204) throw new Error(`${url} answered ${response.status}`);
    }
  }));
  return (performance.now() - start) / 1_000;
}

/** A program that listens on loopback, until it is disposed. */
export class Listener implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  readonly url: Promise<string>;

  constructor(command: string, args: string[], address: RegExp) {
    const process = new Deno.Command(command, { args, stdin: "null", stdout: "null", stderr: "piped" })
      .spawn();
    this.#process = process;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.url = promise;
    this.#reading = (async () => {
      let text = "";
      for await (const piece of process.stderr.pipeThrough(new TextDecoderStream())) {
        text = (text + piece).slice(-10_000);
        const [, host] = address.exec(text) ?? [];
        if (host) resolve(`http://${host}/api/v1/write`);
      }
      reject(new Error(`${command} has ended: ${text}`));
    })();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#process.status;
    await this.#reading;
  }
}

function openFinOps(places: Places): Listener {
  const cli = fromFileUrl(new URL("../../cli.ts", import.meta.url));
  const [file, spool] = [places.path(".db"), places.path("-spool")];
  const args = ["serve", "--listen", "127.0.0.1:0", "--connection-string", `sqlite:///${file}`];
  return new Listener(
    Deno.execPath(),
    ["run", "-q", "-A", "--cached-only", cli, ...args, "--spool-directory", spool],
    /http:\/\/(127\.0\.0\.1:\d+)/,
  );
}

/** Starts VictoriaMetrics with an empty folder. */
export function victoriaMetrics(places: Places, command: string): Listener {
  // It does not tell the port that it was given: one that is free a moment before.
  const probe = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const host = `127.0.0.1:${probe.addr.port}`;
  probe.close();
  const args = [`-storageDataPath=${places.path()}`, `-httpListenAddr=${host}`, "-retentionPeriod=100y"];
  return new Listener(command, args, new RegExp(`starting http server at http://(${host})`));
}

/** Measures with a server that is started for it, and warm. */
async function measure(listener: Listener, points: number): Promise<number> {
  await using server = listener;
  const url = await server.url;
  await sendAll(url, Array.from({ length: 20 }, request));
  const requests = Array.from({ length: Math.ceil(points / POINTS) }, request);
  return await sendAll(url, requests) * points / (requests.length * POINTS);
}

/** Rates of points that a server takes from Prometheus. */
export const receiveRows: Family = {
  name: "receive",
  rows: [{
    name: "remote-write",
    work:
      `take points by remote write (${FIELDS.length} fields of ${NODES} nodes a request), synced to the spool`,
    against: "VictoriaMetrics, which answers when it has them in memory",
    quantity: "rate",
    records: 200 * POINTS,
    async open(places) {
      const { path } = await program("victoria-metrics");
      return {
        ours: (points) => measure(openFinOps(places), points),
        theirs: (points) => measure(victoriaMetrics(places, path), points),
      };
    },
  }],
};
