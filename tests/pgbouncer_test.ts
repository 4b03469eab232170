import { type Backend, CostObservatory, ObservabilityHub, openBackend } from "../mod.ts";
import { assertEquals } from "./assert.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { sharedServer, TestDatabase } from "./postgres_server.ts";
import { until } from "./until.ts";

const RECORDS = 1_000;
const PROGRAM = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].find((path) => {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
});
/** It refuses to run as root, and so as whom it runs has to reach its folder. */
const USER = Deno.build.os !== "windows" && Deno.uid() === 0 ? "nobody" : undefined;

/** PgBouncer in transaction mode, in front of the shared server, with fewer connections than a backend has. */
class Bouncer implements AsyncDisposable {
  readonly #folder = new TemporaryFolder();
  readonly #process: Deno.ChildProcess;

  constructor() {
    const { hostname, port, username, password } = new URL(sharedServer());
    const login = `user=${username}${password && ` password='${decodeURIComponent(password)}'`}`;
    const settings = [
      "[databases]",
      `* = host=${hostname} port=${port || 5432} ${login}`,
      "[pgbouncer]",
      "listen_addr =",
      "listen_port = 6432", // the name of the socket
      `unix_socket_dir = ${this.#folder.path}`,
      "auth_type = any",
      "pool_mode = transaction",
      "default_pool_size = 3",
    ];
    Deno.chmodSync(this.#folder.path, 0o777);
    Deno.writeTextFileSync(this.#folder.file("pgbouncer.ini"), `${settings.join("\n")}\n`);
    const user = USER ? ["-u", USER] : [];
    this.#process = new Deno.Command(PROGRAM!, {
      args: ["-q", ...user, this.#folder.file("pgbouncer.ini")],
      stderr: "null",
    }).spawn();
  }

  /** The connection string of a database behind it. */
  url(database: string): string {
    return `postgresql://somebody@/${database}?host=${this.#folder.path}&port=6432`;
  }

  /** Waits until it listens. */
  async ready(): Promise<void> {
    const socket = ".s.PGSQL.6432";
    const hasSocket = () => [...Deno.readDirSync(this.#folder.path)].some(({ name }) => name === socket);
    await until(hasSocket, "PgBouncer to listen");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
    this.#folder[Symbol.dispose]();
  }
}

const name =
  "PgBouncer may stand in between, in transaction mode, with fewer connections than there are users";
Deno.test({
  name: PROGRAM ? name : `${name} (not run: this machine has none)`,
  ignore: PROGRAM === undefined,
  async fn() {
    await using database = await TestDatabase.create();
    await using bouncer = new Bouncer();
    await bouncer.ready();
    const connectionString = bouncer.url(database.name);
    const backends = await Promise.all([0, 1, 2].map(() => openBackend({ connectionString })));
    const run = async (backend: Backend, process: number) => {
      const hub = await ObservabilityHub.open({ backend });
      const costs = await CostObservatory.open({ backend });
      const write = async () => {
        for (let i = 0; i < RECORDS; i++) {
          const timestamp = NEW_YEAR + i * 60_000;
          await hub.collectSystemMetrics({ timestamp, nodeId: `n${process}`, activeConnections: i });
          await costs.addCostEntry(costEntry({ entryId: `${process}-${i}`, timestamp, amount: "0.1" }));
          if (i % 100 === 99) await costs.flush();
        }
      };
      const read = async () => {
        for (let i = 0; i < 10; i++) {
          await Array.fromAsync(hub.streamHistoricalMetrics());
          await costs.aggregateCosts({ bucket: "1d" });
        }
      };
      await Promise.all([write(), read()]);
      assertEquals((await hub.close()).committed, RECORDS);
      assertEquals((await costs.close()).committed, RECORDS);
    };
    await Promise.all(backends.map(run));
    const { datasets, totals } = await backends[0].stats();
    assertEquals(datasets.system_metrics.rows, 3 * RECORDS);
    assertEquals(totals, [{ currency: "USD", total: String(3 * RECORDS / 10), count: 3 * RECORDS }]);
    await Promise.all(backends.map((backend) => backend.close()));
  },
});
