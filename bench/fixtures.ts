import { openBackend, type PersistenceConfig } from "../mod.ts";
import { databaseUrl, PostgresServer, runSql } from "../tests/postgres_server.ts";
import { CitusCluster, CitusDatabase } from "../tests/citus_cluster.ts";
import { Missing, noteServer } from "./peers.ts";
import { Subject } from "./processes.ts";
import { datasetOf, type Form, type Measured, recordADay, writeRecords } from "./records.ts";

/** The servers that databases are made on: with TimescaleDB or without, as it also has a hand in plain tables. */
export type ServerName = "postgresql" | "timescaledb" | "citus";

/** Durable as they are by default, and no checkpoint in the midst of a measure. */
const SETTINGS = ["fsync = on", "max_wal_size = 4GB", "shared_buffers = 1GB", "work_mem = 64MB"];

const VERSIONS = `SELECT current_setting('server_version') AS postgresql,
  (SELECT installed.default_version FROM pg_available_extensions AS installed
   WHERE installed.name = 'timescaledb' AND current_setting('timescaledb.license', true) = 'timescale') AS timescaledb`;

/** An empty database, or one with tables; gone when it is disposed. */
export class Database implements AsyncDisposable {
  readonly url: string;
  readonly #name: string;
  readonly #server: string;

  /** Makes the database. */
  static async create(server: string): Promise<Database> {
    const database = new Database(server, `bench_${crypto.randomUUID().replaceAll("-", "")}`);
    await runSql(server, `CREATE DATABASE ${database.#name} TEMPLATE template0`);
    return database;
  }

  private constructor(server: string, name: string) {
    this.#server = server;
    this.#name = name;
    this.url = databaseUrl(server, name);
  }

  /** Has the server write what it holds in memory. */
  async checkpoint(): Promise<void> {
    await runSql(this.url, "CHECKPOINT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runSql(this.#server, `DROP DATABASE ${this.#name} WITH (FORCE)`);
  }
}

/** The places in which a family of rows is measured: files, servers, databases. Gone when it is disposed. */
export class Places implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #made = new Map<string, Promise<unknown>>();
  readonly #folder = Deno.makeTempDirSync({ prefix: "openfinops-bench-" });
  #files = 0;

  /** Keeps something until these places are gone. */
  use<T extends AsyncDisposable>(thing: T): T {
    return this.#stack.use(thing);
  }

  /** A path at which there is nothing yet. */
  path(suffix = ""): string {
    return `${this.#folder}/${++this.#files}${suffix}`;
  }

  /** A file with so many records; made once. */
  records(name: Measured, records: number, form: Form): Promise<string> {
    return this.#once(`${name} ${records} ${form}`, () => {
      const path = this.path(`.${form}`);
      writeRecords(name, records, { path, form });
      return Promise.resolve(path);
    });
  }

  /**
   * The connection string of a server; started once.
   *
   * @throws {Missing} If this machine has none of that kind.
   */
  server(name: ServerName): Promise<string> {
    return this.#once(name, async () => {
      const server = this.use(await PostgresServer.start({ settings: SETTINGS }));
      if (name === "timescaledb") await server.loadTimescale();
      const [found] = await runSql(server.url(), VERSIONS);
      if (found[name] === null) throw new Missing(`this machine has no ${name}`);
      noteServer(name, String(found[name]).split(" ")[0]);
      return server.url();
    });
  }

  /** A coordinator and two workers; started once. */
  #cluster(): Promise<CitusCluster> {
    return this.#once("cluster", async () => {
      const cluster = await CitusCluster.start({ settings: SETTINGS });
      if (!cluster) throw new Missing("this machine has no citus");
      this.use(cluster);
      const [{ version }] = await runSql(
        cluster.coordinator.url(),
        "SELECT extversion AS version FROM pg_extension WHERE extname = 'citus'",
      );
      noteServer("citus", String(version));
      return cluster;
    });
  }

  /** An empty database on a server. */
  async database(name: ServerName): Promise<Database | CitusDatabase> {
    if (name === "citus") return await CitusDatabase.createOn(await this.#cluster());
    return await Database.create(await this.server(name));
  }

  /** A database with empty tables, and partitions for so many records; nothing is left for the server to write. */
  async tables(name: ServerName, dataset: Measured, records: number): Promise<Database | CitusDatabase> {
    const database = await this.database(name);
    const backend = await openBackend({ backend: name, connectionString: database.url });
    const batch = {
      id: crypto.randomUUID(),
      dataset: datasetOf(dataset),
      records: recordADay(dataset, records),
    };
    await backend.write(batch);
    await backend.close();
    await runSql(database.url, `TRUNCATE ${dataset}`);
    await database.checkpoint();
    return database;
  }

  /** An SQLite or DuckDB file with empty tables. */
  async file(scheme: "sqlite" | "duckdb" = "sqlite"): Promise<string> {
    const path = this.path(".db");
    await (await openBackend({ connectionString: `${scheme}:///${path}` })).close();
    return path;
  }

  /** The connection string of a file or a database with so many records; made once. Compresses TimescaleDB. */
  filled(
    name: "sqlite" | "duckdb" | ServerName,
    counts: Partial<Record<Measured, number>>,
  ): Promise<string> {
    return this.#once(`filled ${name} ${JSON.stringify(counts)}`, async () => {
      const isFile = name === "sqlite" || name === "duckdb";
      const connectionString = isFile
        ? `${name}:///${this.path(".db")}`
        : this.use(await this.database(name)).url;
      for (const [dataset, records] of Object.entries(counts) as [Measured, number][]) {
        const isCompressed = name === "timescaledb";
        await this.ingest(dataset, records, {
          backend: name,
          connectionString,
          ...(isCompressed ? { enableCompression: true } : {}),
        });
        if (!isCompressed) continue;
        await runSql(connectionString, `SELECT compress_chunk(c, true) FROM show_chunks('${dataset}') AS c`);
      }
      if (!isFile) await runSql(connectionString, "VACUUM ANALYZE");
      return connectionString;
    });
  }

  /** Takes records in, by the library; gives what its process says. */
  async ingest(dataset: Measured, records: number, config: PersistenceConfig) {
    await using subject = Subject.deno();
    return await subject.do({ what: "ingest", dataset, records, config });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    Deno.removeSync(this.#folder, { recursive: true });
  }

  #once<T>(key: string, make: () => Promise<T>): Promise<T> {
    if (!this.#made.has(key)) this.#made.set(key, make());
    return this.#made.get(key) as Promise<T>;
  }
}
