/** `collect --send` and `openfinops serve`, both as real processes. */
import { DatabaseSync } from "node:sqlite";
import { assert, assertEquals } from "./assert.ts";
import { type Agent, startAgent } from "./agent.ts";
import { TemporaryFolder } from "./fixtures.ts";
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
  #listen = "127.0.0.1:0";

  /** URL of the server. */
  get url(): string {
    return `http://${this.#listen}`;
  }

  async start(): Promise<void> {
    const database = ["--connection-string", this.folder.sqlite("server.db")];
    this.#server = await startServer(database, { cwd: this.folder.path, listen: this.#listen });
    this.#listen = new URL(this.#server.url).host;
  }

  async stop(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    await this.#server?.stop(signal);
  }

  /** Rows of a table, once the server has stopped. */
  rows(table: string): Record<string, unknown>[] {
    using database = new DatabaseSync(this.folder.file("server.db"), { readOnly: true });
    return database.prepare(`SELECT * FROM ${table}`).all() as Record<string, unknown>[];
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
    const { pathname } = new URL(request.url);
    const body = await request.arrayBuffer();
    const response = await fetch(new URL(pathname, url), { method: "POST", headers: request.headers, body });
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
