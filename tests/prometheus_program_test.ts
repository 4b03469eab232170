import { assert, assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { NODE_EXPORTER, PROMETHEUS } from "./node_exporter.ts";
import { freePort } from "./postgres_server.ts";
import { openServer, type TestServer } from "./server.ts";
import { inTime, sleep, until } from "./until.ts";

/** A program of Prometheus that listens on a free port of loopback. */
class Program implements AsyncDisposable {
  #lines = "";
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  readonly address: Promise<string>;

  constructor(path: string, args: string[]) {
    const options = { args, stdin: "null", stdout: "null", stderr: "piped" } as const;
    const process = new Deno.Command(path, options).spawn();
    this.#process = process;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.address = inTime(promise, () => `${path} to listen; it says:\n${this.#lines}`);
    this.#reading = (async () => {
      for await (const text of process.stderr.pipeThrough(new TextDecoderStream())) {
        this.#lines += text;
        const [, found] = /[Ll]istening on.*address=(127\.0\.0\.1:\d+)/.exec(this.#lines) ?? [];
        if (found) resolve(found);
      }
      reject(new Error(`${path} ended: ${this.#lines}`));
    })();
    this.address.catch(() => {});
  }

  get lines(): string {
    return this.#lines;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
    await this.#reading;
  }
}

function startPrometheus(folder: TemporaryFolder, target: string, server: string): Program {
  const file = `${folder.path}/prometheus.yml`;
  Deno.writeTextFileSync(
    file,
    `global:
  scrape_interval: 1s
  external_labels:
    cluster: prod
scrape_configs:
  - job_name: node
    static_configs:
      - targets: ["${target}"]
remote_write:
  - url: ${server}api/v1/write
    queue_config:
      batch_send_deadline: 100ms
      max_backoff: 200ms
`,
  );
  const data = `--storage.tsdb.path=${folder.path}/data`;
  return new Program(PROMETHEUS!, [`--config.file=${file}`, data, "--web.listen-address=127.0.0.1:0"]);
}

async function metricsIn({ resources: { hub } }: TestServer) {
  await hub.flush();
  return await hub.systemMetrics.query();
}

Deno.test({
  name: "Prometheus writes what node_exporter measures, and again what an outage has kept back",
  ignore: PROMETHEUS === undefined || NODE_EXPORTER === undefined, // tests/run.ts says so
  async fn() {
    using folder = new TemporaryFolder();
    const config = { connectionString: folder.sqlite(), spoolDirectory: `${folder.path}/spool` };
    await using exporter = new Program(NODE_EXPORTER!, ["--web.listen-address=127.0.0.1:0"]);
    const target = await exporter.address;
    const port = await freePort(); // for both servers
    let server = await openServer(config, {}, { port });
    try {
      await using prometheus = startPrometheus(folder, target, server.url);
      const [complete] = await until(
        async () => {
          const found = (await metricsIn(server)).filter(({ cpuUsage, networkIo }) =>
            cpuUsage !== undefined && networkIo !== undefined
          );
          return found.length > 0 ? found : undefined;
        },
        () => `complete metrics; Prometheus says:\n${prometheus.lines}`,
        100,
      ) ?? [];
      assertEquals([complete.clusterId, complete.nodeId, complete.labels], ["prod", "127.0.0.1", {
        job: "node",
      }]);
      for (const field of ["cpuUsage", "memoryUsage", "diskUsage"] as const) {
        const value = complete[field]!;
        assert(value >= 0 && value <= 100, `${field}: ${value}`);
      }
      // Without the server, Prometheus keeps its samples and sends them later.
      const newest = Math.max(...(await metricsIn(server)).map(({ timestamp }) => timestamp));
      await server[Symbol.asyncDispose]();
      await sleep(3_000);
      server = await openServer(config, {}, { port });
      const times = await until(
        async () => {
          const found = (await metricsIn(server)).map(({ timestamp }) => timestamp);
          return found.filter((time) => time > newest).length >= 5 ? found : undefined;
        },
        () => `metrics of the outage; Prometheus says:\n${prometheus.lines}`,
        100,
      ) ?? [];
      const gaps = times.toSorted((a, b) => a - b).slice(1).map((time, i) =>
        time - times.toSorted((a, b) => a - b)[i]
      );
      assert(gaps.every((gap) => gap > 0), `a time has two records: ${times}`);
      assert(!/non-recoverable/.test(prometheus.lines), prometheus.lines);
    } finally {
      await server[Symbol.asyncDispose]();
    }
  },
});
