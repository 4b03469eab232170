/** `collect --send` and `openfinops serve`, both as real processes. */
import { DatabaseSync } from "node:sqlite";
import { generate } from "selfsigned";
import { assert, assertEquals } from "./assert.ts";
import { type Agent, startAgent } from "./agent.ts";
import { openfinops } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { freePort } from "./postgres_server.ts";
import { HttpReceiver } from "./receivers.ts";
import { type ServerProcess, startServer } from "./server.ts";

const LOG = ["--log-format", "json", "--heartbeat", "100ms"];

/** Counters in the last line of an agent's log that has them. */
interface Counters {
  accepted: number;
  committed: number;
  spooled: number;
  deadLettered: number;
}

/** Counters of a line of a log, if it has some. */
function countersIn(line: string): Counters | undefined {
  const found = JSON.parse(line);
  return "accepted" in found ? found : undefined;
}

/** Stops an agent, and returns its last counters. */
async function finish(agent: Agent): Promise<Counters> {
  const { code } = await agent.stop();
  assertEquals(code, 0, agent.lines.join("\n"));
  return countersIn(agent.lines.findLast((line) => countersIn(line))!)!;
}

/** A server on SQLite that can be started again on the same port. */
class Restartable implements AsyncDisposable {
  readonly folder = new TemporaryFolder();
  #server: ServerProcess | undefined;
  readonly #host: string;
  #listen: string | undefined;

  constructor(host = "127.0.0.1") {
    this.#host = host;
  }

  /** URL of the server. */
  get url(): string {
    return `http://${this.#listen}`;
  }

  async start(...args: string[]): Promise<void> {
    const database = ["--connection-string", this.folder.sqlite("server.db")];
    this.#listen ??= `${this.#host}:${await freePort()}`;
    this.#server = await startServer([...database, ...args], { cwd: this.folder.path, listen: this.#listen });
  }

  async stop(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    await this.#server?.stop(signal);
  }

  /** Rows of a table, once the server has stopped. */
  rows(table: string): Record<string, unknown>[] {
    using database = new DatabaseSync(this.folder.file("server.db"), { readOnly: true });
    const statement = database.prepare(`SELECT * FROM ${table}`);
    statement.setReadBigInts(true); // amounts
    return statement.all() as Record<string, unknown>[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    this.folder[Symbol.dispose]();
  }
}

const SKIPPED = Deno.build.os === "windows"; // has no signals to send

Deno.test({
  name: "collect --send stores each sample once when the server is killed again and again",
  ignore: SKIPPED,
  async fn() {
    await using server = new Restartable();
    await server.start();
    const options = ["--send", server.url, "--spool-directory", "spool", "--cost-per-hour", "3600", ...LOG];
    await using agent = startAgent(options, { cwd: server.folder.path });
    for (let kill = 0; kill < 3; kill++) {
      let before: number | undefined;
      await agent.line((line) => {
        const { committed = 0 } = countersIn(line) ?? {};
        before ??= committed;
        return committed > before;
      }, { isNew: true });
      const outage = agent.line((line) => line.includes('"event":"retry"'), { isNew: true });
      await server.stop("SIGKILL");
      await outage;
      await server.start();
    }
    const { accepted, committed, spooled, deadLettered } = await finish(agent);
    await server.stop();
    assertEquals([committed, spooled, deadLettered], [accepted, 0, 0]);
    const samples = server.rows("system_metrics");
    const costs = server.rows("cost_entries");
    assertEquals(samples.length + costs.length, accepted);
    assertEquals(new Set(samples.map(({ timestamp }) => timestamp)).size, samples.length);
    assert(costs.length > 0);
  },
});

Deno.test({
  name: "collect --send keeps samples in its spool when it is killed, and the next one sends them",
  ignore: SKIPPED,
  async fn() {
    await using server = new Restartable();
    await server.start();
    await server.stop(); // its port is known, and free
    const options = ["--send", server.url, "--spool-directory", "spool", ...LOG];
    const { path: cwd } = server.folder;
    await using first = startAgent(options, { cwd });
    const line = await first.line((line) => (countersIn(line)?.accepted ?? 0) >= 5);
    await first.stop("SIGKILL");
    await server.start();
    await using second = startAgent(options, { cwd });
    await second.line((line) => (countersIn(line)?.committed ?? 0) >= 5);
    const { accepted, committed } = await finish(second);
    await server.stop();
    const samples = server.rows("system_metrics");
    assertEquals([committed, samples.length], [accepted, accepted]); // nothing was stored by the first
    assert(accepted > countersIn(line)!.accepted);
    assertEquals(new Set(samples.map(({ timestamp }) => timestamp)).size, samples.length);
  },
});

/** Passes requests on to a server, and loses its answers. */
function loseAnswers(url: string): { url: string; passed: Promise<number>; close(): Promise<void> } {
  const passed = Promise.withResolvers<number>();
  const never = Promise.withResolvers<Response>();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    const body = await request.arrayBuffer();
    const response = await fetch(new URL(pathname + search, url), {
      method: "POST",
      headers: request.headers,
      body,
    });
    passed.resolve((await response.json()).accepted);
    return await never.promise;
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    passed: passed.promise,
    async close() {
      never.resolve(new Response());
      await server.shutdown();
    },
  };
}

Deno.test({
  name: "collect --send counts a batch once when it is killed before it gets the answer",
  ignore: SKIPPED,
  async fn() {
    await using server = new Restartable();
    await server.start();
    const { path: cwd } = server.folder;
    const options = [
      "--spool-directory",
      "spool",
      "--label",
      "10=a",
      "--label",
      "9=b",
      "--label",
      "k=ü",
      ...LOG,
    ];
    const proxy = loseAnswers(server.url);
    await using first = startAgent(["--send", proxy.url, ...options], { cwd });
    const stored = await proxy.passed;
    assert(stored > 0);
    await first.stop("SIGKILL");
    await proxy.close();
    // The spool belongs to the server by its address: it has moved.
    for (const { name } of Deno.readDirSync(`${cwd}/spool`)) Deno.removeSync(`${cwd}/spool/${name}/database`);
    await using second = startAgent(["--send", server.url, ...options], { cwd });
    await second.line((line) => (countersIn(line)?.committed ?? 0) > stored);
    const { accepted, committed } = await finish(second);
    await server.stop();
    const samples = server.rows("system_metrics");
    assertEquals([committed, samples.length], [accepted, accepted], second.lines.join("\n"));
    assertEquals(new Set(samples.map(({ timestamp }) => timestamp)).size, samples.length);
  },
});

Deno.test({
  name: "collect --send pauses when its token is revoked, and goes on with a renewed one, by TLS",
  ignore: SKIPPED,
  async fn() {
    await using server = new Restartable("0.0.0.0"); // on loopback no token is needed
    const { folder, folder: { path: cwd } } = server;
    const authority = await generate([{ name: "commonName", value: "CA" }], {
      extensions: [{ name: "basicConstraints", cA: true, critical: true }],
    });
    const pair = await generate([{ name: "commonName", value: "server" }], {
      ca: { key: authority.private, cert: authority.cert },
      extensions: [{ name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] }],
    });
    const files = { "ca.pem": authority.cert, "server.pem": pair.cert, "server.key": pair.private };
    for (const [name, text] of Object.entries(files)) Deno.writeTextFileSync(folder.file(name), text);
    const token = async (...args: string[]) => {
      const database = ["--connection-string", folder.sqlite("server.db")];
      const { code, out, err } = await openfinops(["token", ...args, ...database], { cwd });
      assertEquals(code, 0, err);
      return out;
    };
    const first = await token("create", "first", "--scope", "ingest");
    Deno.writeTextFileSync(folder.file("token"), first);
    await server.start("--tls-cert", "server.pem", "--tls-key", "server.key");
    const url = server.url.replace("http://0.0.0.0", "https://127.0.0.1");
    const options = ["--send", url, "--ca-file", "ca.pem", "--spool-directory", "spool", ...LOG];
    await using agent = startAgent(options, { cwd, env: { OPENFINOPS_TOKEN_FILE: "token" } });
    await agent.line((line) => (countersIn(line)?.committed ?? 0) > 0);
    await token("revoke", "first");
    const paused = JSON.parse(await agent.line((line) => line.includes('"event":"paused"')));
    assertEquals([paused.code, paused.level], ["TOKEN_REFUSED", "error"]);
    const second = await token("create", "second", "--scope", "ingest");
    Deno.writeTextFileSync(folder.file("token"), second);
    await agent.line((line) => line.includes('"event":"resumed"'));
    const { accepted, committed, deadLettered } = await finish(agent);
    await server.stop();
    assertEquals([committed, deadLettered], [accepted, 0]);
    assertEquals(server.rows("system_metrics").length, accepted);
    for (const secret of [first, second]) {
      assert(agent.lines.every((line) => !line.includes(secret.trim())), "a token was logged");
    }
  },
});

Deno.test({
  name: "collect --send sends GPUs, scraped services and costs as well",
  ignore: SKIPPED,
  async fn() {
    await using server = new Restartable();
    await using exporter = new HttpReceiver();
    exporter.answer = () =>
      new Response("vllm:num_requests_running 3\n", { headers: { "content-type": "text/plain" } });
    await server.start();
    const { folder } = server;
    Deno.mkdirSync(folder.file("bin"));
    const lines =
      'while :; do echo "0, GPU-a, T4, 40, 12, 100, 200, 64, 70, [N/A], 1, 1, 0x0, [N/A]"; sleep 0.1; done';
    Deno.writeTextFileSync(folder.file("bin/nvidia-smi"), `#!/bin/sh\n${lines}\n`, { mode: 0o755 });
    const env = { PATH: `${folder.file("bin")}:${Deno.env.get("PATH")}` };
    const options = [
      "--send",
      server.url,
      "--scrape",
      exporter.url("/metrics"),
      "--cost-per-hour",
      "2.50",
      ...LOG,
    ];
    await using agent = startAgent(options, { cwd: folder.path, env });
    await agent.line((line) => (countersIn(line)?.committed ?? 0) >= 10);
    const { accepted, committed } = await finish(agent);
    await server.stop();
    assertEquals(committed, accepted);
    const tables = ["system_metrics", "device_metrics", "service_metrics", "cost_entries"];
    const counts = tables.map((table) => server.rows(table).length);
    assertEquals(counts.reduce((sum, count) => sum + count), accepted);
    assert(counts.every((count) => count > 0), counts.join());
    const [{ source, basis }] = server.rows("cost_entries");
    assertEquals([source, basis], ["collect", "estimated"]);
  },
});

Deno.test({
  name: "dead-letter retry --send sends corrected records to a server, each once",
  ignore: SKIPPED,
  async fn() {
    await using server = new Restartable();
    await server.start();
    const { folder } = server;
    const path = folder.file("letters/cost_entries.ndjson");
    Deno.mkdirSync(folder.file("letters"));
    const cost = (entryId: string, source: string) => ({
      entryId,
      source,
      timestamp: 1e12,
      resourceId: "r",
      category: "c",
      amount: "1",
      currency: "USD",
    });
    const letter = (batchId: string, record: object) =>
      JSON.stringify({
        time: "2026-01-01T00:00:00Z",
        dataset: "cost_entries",
        batchId,
        message: "m",
        record,
      });
    const write = (second: object) =>
      Deno.writeTextFileSync(
        path,
        [letter("b/refused/0", cost("a", "collect")), letter("b/refused/1", second)].join("\n"),
      );
    const retry = async () => {
      const args = [
        "database",
        "dead-letter",
        "retry",
        "--dead-letter-directory",
        "letters",
        "--send",
        server.url,
      ];
      const { code, out } = await openfinops(args, { cwd: folder.path });
      return [code, out];
    };
    const edit = (from: string, to: string) =>
      Deno.writeTextFileSync(path, Deno.readTextFileSync(path).replace(from, to));
    // Only the server knows that no delivery of this source takes single costs.
    write(cost("b", "bill"));
    assertEquals(await retry(), [1, "Stored 1 record, 1 still refused.\n"]);
    edit("bill", "api");
    assertEquals(await retry(), [0, "Stored 1 record, 0 still refused.\n"]);
    write(cost("b", "api")); // the same letters again
    assertEquals(await retry(), [0, "Stored 2 records, 0 still refused.\n"]);
    await server.stop();
    assertEquals(server.rows("cost_entries").length, 2);
  },
});
