import { fileURLToPath as fromFileUrl } from "node:url";
import snappy from "snappyjs";
import { writeOtlp } from "../../tests/otlp_writer.ts";
import { writeRemote } from "../../tests/remote_writer.ts";
import type { Places } from "../fixtures.ts";
import { program } from "../peers.ts";
import type { Family, Row } from "../row.ts";

/** Fields of `system_metrics` that are numbers. */
const FIELDS =
  ("cpu_usage memory_usage disk_usage gpu_usage network_io active_connections error_count warning_count " +
    "throughput latency_p50 latency_p95 latency_p99 error_rate training_active model_loading data_loading " +
    "gradient_sync checkpoint_saving temperature power_consumption fan_speed cost_per_hour estimated_daily_cost")
    .split(" ");
/** Requests under way at once, as Prometheus has shards. */
const SENDERS = 4;
const START = Date.UTC(2026, 0, 1);
/** Requests of all runs: no two have the same points. */
let sent = 0;

/** Points of one time: each node has a value of each field. */
interface Points {
  readonly at: number;
  readonly nodes: readonly (readonly (readonly [field: string, value: number])[])[];
}

/** A form in which a server takes points. */
interface Protocol {
  /** Shape of a request. */
  readonly nodes: number;
  readonly fields: readonly string[];
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Status of an answer to a request that was taken. */
  readonly status: number;
  encode(points: Points): Uint8Array<ArrayBuffer>;
}

const REMOTE_WRITE: Protocol = {
  nodes: 64,
  fields: FIELDS,
  path: "api/v1/write",
  headers: {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
  },
  status: 204,
  encode({ at, nodes }) {
    const series = nodes.flatMap((fields, node) =>
      fields.map(([field, value]) => ({
        labels: {
          __name__: `openfinops_system_metrics_${field}`,
          cluster: "prod",
          instance: `gpu-${node}.prod.example:9100`,
          job: "node",
        },
        samples: [[value, at] as const],
      }))
    );
    return snappy.compress(writeRemote(1, series)) as Uint8Array<ArrayBuffer>;
  },
};

/** Requests of 1,000 points, each node a resource. */
const OTLP: Protocol = {
  nodes: 50,
  fields: FIELDS.slice(0, 20),
  path: "v1/metrics",
  headers: { "content-type": "application/x-protobuf" },
  status: 200,
  encode({ at, nodes }) {
    const attribute = (key: string, stringValue: string) => ({ key, value: { stringValue } });
    return writeOtlp("metrics", {
      resourceMetrics: nodes.map((fields, node) => ({
        resource: {
          attributes: [
            attribute("k8s.cluster.name", "prod"),
            attribute("host.name", `gpu-${node}.prod.example`),
            attribute("service.name", "node"),
          ],
        },
        scopeMetrics: [{
          scope: { name: "bench" },
          metrics: fields.map(([field, asDouble]) => ({
            name: `openfinops.system_metrics.${field}`,
            gauge: { dataPoints: [{ timeUnixNano: `${at}000000`, asDouble }] },
          })),
        }],
      })),
    });
  },
};

/** A request of all fields of all nodes at one time. */
function request({ nodes, fields, encode }: Protocol): Uint8Array<ArrayBuffer> {
  const at = START + 15_000 * sent++;
  return encode({
    at,
    nodes: Array.from(
      { length: nodes },
      (_, node) =>
        fields.map((field, i) =>
          [field, Math.round(1_000 * Math.abs(Math.sin(sent + node * 31 + i))) / 10] as const
        ),
    ),
  });
}

/** Sends requests, some at once, until all are answered; gives the seconds. */
async function sendAll(
  origin: string,
  { path, headers, status }: Protocol,
  requests: readonly Uint8Array<ArrayBuffer>[],
): Promise<number> {
  const url = new URL(path, origin);
  let next = 0;
  const start = performance.now();
  await Promise.all(Array.from({ length: SENDERS }, async () => {
    while (next < requests.length) {
      const response = await fetch(url, { method: "POST", body: requests[next++], headers });
      await response.body?.cancel();
      if (response.status !== status) throw new Error(`${url} answered ${response.status}`);
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
        if (host) resolve(`http://${host}`);
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

/** Starts VictoriaMetrics with a folder that is not there yet. */
export function victoriaMetrics(folder: string, command: string): Listener {
  // It does not tell the port that it was given: one that is free a moment before.
  const probe = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const host = `127.0.0.1:${probe.addr.port}`;
  probe.close();
  const args = [`-storageDataPath=${folder}`, `-httpListenAddr=${host}`, "-retentionPeriod=100y"];
  return new Listener(command, args, new RegExp(`starting http server at http://(${host})`));
}

/** Measures with a server that is started for it, and warm. */
async function measure(listener: Listener, protocol: Protocol, points: number): Promise<number> {
  await using server = listener;
  const url = await server.url;
  const size = protocol.nodes * protocol.fields.length;
  const requests = (count: number) => Array.from({ length: count }, () => request(protocol));
  await sendAll(url, protocol, requests(20));
  const count = Math.ceil(points / size);
  return await sendAll(url, protocol, requests(count)) * points / (count * size);
}

function row(name: string, work: string, protocol: Protocol): Row {
  const { nodes, fields } = protocol;
  return {
    name,
    work: `${work} (${fields.length} fields of ${nodes} nodes a request), synced to the spool`,
    against: "VictoriaMetrics by remote write, which answers when it has them in memory",
    quantity: "rate",
    records: 300_000,
    reach: { perSecond: 100_000 },
    async open(places) {
      const { path } = await program("victoria-metrics");
      const peer = { ...REMOTE_WRITE, nodes, fields };
      return {
        ours: (points) => measure(openFinOps(places), protocol, points),
        theirs: (points) => measure(victoriaMetrics(places.path(), path), peer, points),
      };
    },
  };
}

/** Rates of points that a server takes from Prometheus and from OpenTelemetry. */
export const receiveRows: Family = {
  name: "receive",
  rows: [
    row("remote-write", "take points by remote write", REMOTE_WRITE),
    row("otlp", "take points by OTLP as protobuf", OTLP),
  ],
};
