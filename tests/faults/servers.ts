/** Servers that are killed again and again while clients send them records and send again what was not answered. */
import { existsSync } from "node:fs";
import { openBackend } from "../../mod.ts";
import { systemMetrics } from "../../src/records/system_metrics.ts";
import { decodeFrame, FrameKind } from "../../src/spool/frame.ts";
import { startAgent } from "../agent.ts";
import { assert, assertEquals } from "../assert.ts";
import { read } from "../backend_contract.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { freePort } from "../postgres_server.ts";
import { type ServerProcess, startServer } from "../server.ts";
import type { Chance } from "./chance.ts";
import { assertStored, numbered } from "./load.ts";
import { sleep, until } from "../until.ts";

const CLIENTS = 4;
/** Numbers of a client. */
const NUMBERS = 10_000_000;
/** Records of a request. Large ones span frames of the spool, parts of a body and batches. */
const SIZES = [1, 1, 1, 1, 2, 2, 3, 7, 20, 100, 500, 6_000];

/** The addresses of the servers; undefined while one is down. */
type Addresses = (string | undefined)[];

/** Sends requests until told to stop, each until it is answered; remembers what was acknowledged. */
class Client {
  readonly acknowledged: number[] = [];
  requests = 0;
  repetitions = 0;
  readonly #chance: Chance;
  readonly #addresses: Addresses;
  readonly #name: string;
  #next: number;

  constructor(index: number, { chance, addresses }: { chance: Chance; addresses: Addresses }) {
    this.#name = `client-${index}`;
    this.#next = index * NUMBERS;
    this.#chance = chance;
    this.#addresses = addresses;
  }

  async sendUntil(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const size = this.#chance.of(SIZES);
      const numbers = Array.from({ length: size }, () => this.#next++);
      const lines = numbers.map((number) => JSON.stringify(numbered(number)));
      const hasBad = this.#chance.next() < 0.2;
      if (hasBad) lines.splice(this.#chance.between(0, lines.length), 0, '{"timestamp":"never"}');
      const body = this.#chance.next() < 0.5 ? lines.join("\n") : `[${lines.join(",")}]`;
      const key: Record<string, string> = this.#chance.next() < 0.5
        ? { "idempotency-key": `${this.#name}/${numbers[0]}` }
        : {};
      await this.#send(body, key, { expected: hasBad ? 422 : 202 });
      this.acknowledged.push(...numbers);
      this.requests++;
    }
  }

  /** Sends a request to one server after the other until one answers it. */
  async #send(
    body: string,
    headers: Record<string, string>,
    { expected }: { expected: number },
  ): Promise<void> {
    for (let attempt = this.#chance.between(0, this.#addresses.length);; attempt++) {
      const address = this.#addresses[attempt % this.#addresses.length];
      const status = address === undefined
        ? 0
        : await post(`${address}api/v1/system-metrics`, { headers, body });
      if (status === expected) return;
      assert([0, 429, 503].includes(status), `status ${status}`);
      if (status === 0 && address !== undefined) this.repetitions++;
      await sleep(5);
    }
  }
}

/** Sends a request; returns the status, or 0 if there was no answer. */
async function post(url: string, init: RequestInit): Promise<number> {
  try {
    const response = await fetch(url, { method: "POST", ...init });
    await response.text();
    return response.status;
  } catch {
    return 0;
  }
}

/**
 * Kills servers before one database at random moments, so many times in all. Each acknowledged record is stored once in the
 * end, and none twice.
 */
export async function killServers(
  chance: Chance,
  { connectionString, servers = 1, kills }: { connectionString: string; servers?: number; kills: number },
): Promise<{ requests: number; repetitions: number; records: number }> {
  using folder = new TemporaryFolder();
  const addresses: Addresses = Array.from({ length: servers }, () => undefined);
  const running: ServerProcess[] = [];
  const start = async (index: number) => {
    const spool = folder.file(`spool-${index}`);
    const args = ["--connection-string", connectionString, "--spool-directory", spool];
    running[index] = await startServer(args, { cwd: folder.path });
    addresses[index] = running[index].url;
  };
  for (let index = 0; index < servers; index++) await start(index);
  let isOver = false;
  const clients = Array.from({ length: CLIENTS }, (_, index) => new Client(index, { chance, addresses }));
  const sending = Promise.all(clients.map((client) => client.sendUntil(() => isOver)));
  sending.catch(() => isOver = true);
  for (let kill = 0; kill < kills && !isOver; kill++) {
    const index = kill % servers;
    await sleep(chance.between(0, 1_000));
    addresses[index] = undefined;
    await running[index].stop("SIGKILL");
    await start(index);
  }
  isOver = true;
  await sending;
  for (const server of running) {
    const code = await server.stop();
    assert(code === 0, `exit ${code}: ${server.lines.join("\n")}`);
  }
  const acknowledged = clients.flatMap((client) => client.acknowledged);
  await assertStored(connectionString, acknowledged);
  const sum = (count: (client: Client) => number) =>
    clients.reduce((total, client) => total + count(client), 0);
  return {
    requests: sum(({ requests }) => requests),
    repetitions: sum(({ repetitions }) => repetitions),
    records: acknowledged.length,
  };
}

/** Samples in the journal of an agent that was killed, by node and time; none where it had not come that far. */
function* journaledIn(journal: string): Generator<string> {
  if (!existsSync(journal)) return;
  for (const { name } of Deno.readDirSync(journal)) {
    if (!name.endsWith(".journal")) continue;
    const bytes = Deno.readFileSync(`${journal}/${name}`);
    for (let at = 0; at < bytes.length;) {
      const found = decodeFrame(bytes, at);
      if (found === "bad" || "needed" in found) break; // it was being written
      const { kind, payload } = found.frame;
      if (kind === FrameKind.RECORDS) {
        for (const { nodeId, timestamp } of JSON.parse(payload)) yield `${nodeId} ${timestamp}`;
      }
      at += found.length;
    }
  }
}

/** Stored samples, by node and time. */
async function sampledIn(connectionString: string): Promise<string[]> {
  const backend = await openBackend({ connectionString }, { mode: "read" });
  const samples = await read(backend, systemMetrics);
  await backend.close();
  return samples.map(({ nodeId, timestamp }) => `${nodeId} ${timestamp}`);
}

/**
 * Kills a server, and agents that send to it, at random moments, so many times in all. Each sample that was in the journal
 * of an agent is stored once in the end, and none twice.
 */
export async function killAgents(
  chance: Chance,
  { connectionString, agents = 2, kills }: { connectionString: string; agents?: number; kills: number },
): Promise<{ journaled: number; stored: number }> {
  using folder = new TemporaryFolder();
  const cwd = folder.path;
  const serve = (listen: string) =>
    startServer(["--connection-string", connectionString, "--spool-directory", "server"], { cwd, listen });
  const address = `127.0.0.1:${await freePort()}`;
  let server = await serve(address);
  const { url } = server;
  const start = (index: number) =>
    startAgent(["--send", url, "--spool-directory", `agent-${index}`, "--node-id", `node-${index}`], { cwd });
  const running = Array.from({ length: agents }, (_, index) => start(index));
  const journaled = new Set<string>();
  for (let kill = 0; kill < kills; kill++) {
    await sleep(chance.between(500, 2_500));
    const victim = chance.between(0, agents + 1);
    if (victim === agents) {
      await server.stop("SIGKILL");
      await sleep(chance.between(0, 1_000));
      server = await serve(address);
    } else {
      await running[victim].stop("SIGKILL");
      for (const sample of journaledIn(folder.file(`agent-${victim}/system_metrics`))) journaled.add(sample);
      running[victim] = start(victim);
    }
  }
  // An agent that was started last sends what its predecessor has left as soon as it is up.
  let stored: string[] = [];
  await until(async () => {
    stored = await sampledIn(connectionString);
    const known = new Set(stored);
    return [...journaled].every((sample) => known.has(sample));
  }, "each sample of a journal is stored");
  for (const agent of running) assertEquals((await agent.stop()).code, 0, agent.lines.join("\n"));
  assertEquals(await server.stop(), 0, server.lines.join("\n"));
  stored = await sampledIn(connectionString);
  assertEquals(new Set(stored).size, stored.length, "samples are stored twice");
  return { journaled: journaled.size, stored: stored.length };
}
