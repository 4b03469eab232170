/** Servers that are killed again and again while clients send them records and send again what was not answered. */
import { assert } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { type ServerProcess, startServer } from "../server.ts";
import type { Chance } from "./chance.ts";
import { assertStored, numbered, sleep } from "./load.ts";

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
