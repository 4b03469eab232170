/**
 * A Citus cluster for the tests: a coordinator and workers, started from the programs of this machine, or named by
 * `TEST_CITUS_URL`.
 *
 * @module
 */
import {
  databaseUrl,
  freezeDatabase,
  PostgresServer,
  runAlone,
  runSql,
  TestDatabase,
} from "./postgres_server.ts";

const SETTINGS = [
  "shared_preload_libraries = 'citus'",
  "citus.node_conninfo = 'sslmode=disable'",
  "shared_buffers = '64MB'",
  "max_worker_processes = 200", // a maintenance daemon for each database
  "max_prepared_transactions = 400",
  "wal_level = logical", // to move shards while they are written
  "citus.enable_statistics_collection = off",
  // Tests recover transactions themselves, so that nothing depends on when the server gets round to it.
  "citus.recover_2pc_interval = -1",
];

/** A database that {@linkcode CitusCluster.addTemplate} makes on each node. */
const TEMPLATE = "joined_nodes";

/** The release of Citus on the cluster that the tests share, or why there is none. */
export async function citusVersion(): Promise<{ version?: string; reason: string }> {
  const url = Deno.env.get("TEST_CITUS_URL");
  if (!url) return { reason: "the PostgreSQL server has no such extension, and TEST_CITUS_URL is not set" };
  const [found] = await runSql(url, "SELECT extversion FROM pg_extension WHERE extname = 'citus'");
  return found
    ? { version: String(found.extversion), reason: "" }
    : { reason: "the database of TEST_CITUS_URL has no such extension" };
}

/** A coordinator and workers that this process started. The database `postgres` is a cluster. */
export class CitusCluster implements AsyncDisposable {
  readonly coordinator: PostgresServer;
  readonly workers: PostgresServer[];

  /** Starts the servers; undefined where the machine's programs lack the extension. */
  static async start(
    { workers = 2, settings = [] }: { workers?: number; settings?: readonly string[] } = {},
  ): Promise<CitusCluster | undefined> {
    const coordinator = await PostgresServer.start({ settings });
    const sql = "SELECT 1 FROM pg_available_extensions WHERE name = 'citus'";
    if ((await runSql(coordinator.url(), sql)).length === 0) {
      await coordinator[Symbol.asyncDispose]();
      return undefined;
    }
    await coordinator.stop();
    coordinator.configure("postgresql.auto.conf", `${[...SETTINGS, ...settings].join("\n")}\n`);
    await coordinator.resume();
    const others = Array.from(
      { length: workers },
      () => PostgresServer.start({ settings: [...SETTINGS, ...settings] }),
    );
    const cluster = new CitusCluster([coordinator, ...await Promise.all(others)]);
    await join(cluster.urls("postgres"));
    return cluster;
  }

  private constructor([coordinator, ...workers]: PostgresServer[]) {
    this.coordinator = coordinator;
    this.workers = workers;
  }

  /** A database on each node, the coordinator first. */
  urls(database: string): string[] {
    return [this.coordinator, ...this.workers].map((server) => server.url(database));
  }

  /** Makes a joined database to copy, which is faster than joining each that a test makes. */
  async addTemplate(): Promise<void> {
    const servers = this.urls("postgres");
    await Promise.all(servers.map((server) => create(server, TEMPLATE)));
    await join(this.urls(TEMPLATE));
    await Promise.all(servers.map((server) => freezeDatabase(server, TEMPLATE)));
  }

  /** Starts another worker, and adds it to a database. */
  async addWorker(database: string): Promise<PostgresServer> {
    const server = await PostgresServer.start({ settings: SETTINGS });
    this.workers.push(server);
    if (database !== "postgres") await create(server.url(), database);
    await join([this.coordinator.url(database), server.url(database)]);
    return server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.coordinator, ...this.workers].map((server) => server[Symbol.asyncDispose]()));
  }
}

function create(server: string, database: string, template = "template0"): Promise<void> {
  // From a database without the extension, which would create it on all nodes.
  return runAlone(databaseUrl(server, "template1"), `CREATE DATABASE ${database} TEMPLATE ${template}`);
}

/** Makes the same database of several servers one cluster; the first is the coordinator. */
async function join([coordinator, ...workers]: readonly string[]): Promise<void> {
  await Promise.all(
    [coordinator, ...workers].map((url) => runSql(url, "CREATE EXTENSION IF NOT EXISTS citus")),
  );
  const place = (url: string) => `'${new URL(url).hostname}', ${new URL(url).port}`;
  await runSql(coordinator, `SELECT citus_set_coordinator_host(${place(coordinator)})`);
  for (const worker of workers) await runSql(coordinator, `SELECT citus_add_node(${place(worker)})`);
}

/** An empty database on all nodes of the cluster that the tests share, or of another. Disposing drops it. */
export class CitusDatabase implements AsyncDisposable {
  readonly name: string;
  /** The database on the coordinator. */
  readonly url: string;
  /** The same on the workers. */
  readonly workers: readonly string[];
  readonly #servers: readonly string[];

  /** Makes the database on the shared cluster, as a copy of another if given a frozen one. */
  static async create(original?: CitusDatabase): Promise<CitusDatabase> {
    const { servers, hasTemplate } = await sharedNodes();
    const database = new CitusDatabase(servers);
    const template = original?.name ?? (hasTemplate ? TEMPLATE : undefined);
    await Promise.all(servers.map((server) => create(server, database.name, template)));
    if (!template) await join([database.url, ...database.workers]);
    return database;
  }

  /** Makes the database on a cluster. */
  static async createOn(cluster: CitusCluster): Promise<CitusDatabase> {
    const database = new CitusDatabase(cluster.urls("postgres"));
    await Promise.all(database.#servers.map((server) => create(server, database.name)));
    await join([database.url, ...database.workers]);
    return database;
  }

  private constructor(servers: readonly string[]) {
    this.name = `test_${crypto.randomUUID().replaceAll("-", "").slice(0, 20)}`;
    this.#servers = servers;
    [this.url, ...this.workers] = servers.map((server) => databaseUrl(server, this.name));
  }

  /** Has all nodes write what they hold in memory. */
  async checkpoint(): Promise<void> {
    await Promise.all([this.url, ...this.workers].map((url) => runSql(url, "CHECKPOINT")));
  }

  /** Runs SQL on the coordinator; gives the rows of the last statement. */
  sql(text: string): Promise<Record<string, unknown>[]> {
    return runSql(this.url, text);
  }

  /** Allows copies of it, and refuses connections. */
  async freeze(): Promise<void> {
    await Promise.all(this.#servers.map((server) => freezeDatabase(server, this.name)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const drop = `DROP DATABASE ${this.name} WITH (FORCE)`;
    const urls = [this.url, ...this.workers];
    await Promise.all(urls.map((url, i) => runAlone(this.#servers[i], drop, () => endPrepared(url))));
  }
}

/** Ends transactions that a statement left in doubt when it was cut off: with one, no database can be dropped. */
async function endPrepared(url: string): Promise<void> {
  const prepared = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()";
  for (const { gid } of await runSql(url, prepared)) await runSql(url, `ROLLBACK PREPARED '${gid}'`);
}

/** An empty database for connection strings of a protocol, such as `citus:`, or a copy of a frozen one. */
export function databaseFor(
  protocol: string,
  original?: TestDatabase | CitusDatabase,
): Promise<TestDatabase | CitusDatabase> {
  return protocol === "citus:"
    ? CitusDatabase.create(original as CitusDatabase | undefined)
    : TestDatabase.create(original as TestDatabase | undefined);
}

/** The servers of the shared cluster, as its coordinator names them, and whether they have a database to copy. */
async function sharedNodes(): Promise<{ servers: string[]; hasTemplate: boolean }> {
  const coordinator = Deno.env.get("TEST_CITUS_URL")!;
  const rows = await runSql(
    coordinator,
    `SELECT nodename, nodeport, EXISTS (SELECT FROM pg_database WHERE datname = '${TEMPLATE}') AS "hasTemplate"
      FROM pg_dist_node WHERE groupid > 0 AND noderole = 'primary' ORDER BY groupid`,
  );
  const workers = rows.map(({ nodename, nodeport }) => {
    const url = new URL(coordinator);
    url.hostname = String(nodename);
    url.port = String(nodeport);
    return url.href;
  });
  return { servers: [coordinator, ...workers], hasTemplate: rows[0]?.hasTemplate === true };
}
