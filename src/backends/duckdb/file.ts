import { availableParallelism } from "node:os";
import { BackendError, closedBackend } from "../../errors.ts";
import { linkTarget } from "../../pipeline/durable_file.ts";
import { Mutex } from "../../pipeline/mutex.ts";
import { retry } from "../../pipeline/retry.ts";
import type { OpenMode } from "../backend.ts";
import {
  assertOwnTables,
  createPrivately,
  isToBeCreated,
  noTables,
  readableVersion,
  removeIfEmpty,
} from "../database_file.ts";
import { assertInPlace } from "../sqlite/file_guard.ts";
import { type DuckdbDriver, type Handle, loadDuckdbDriver } from "./driver.ts";
import { asBackendError, FATAL } from "./failures.ts";
import { upgradesFrom } from "../sql/schema.ts";
import { FORM, NOW, SCHEMA_VERSION, TABLES, WRITABLE_FROM } from "./schema.ts";
import { DuckdbSession } from "./session.ts";

/** Threads that answer a query, at most: the program that embeds the database has other work. */
const MAX_THREADS = 4;

/** Retries of opening a file that another process has open: 1.5 s in all. */
const MAX_RETRIES = 5;
/**
 * Settings that no statement can change. Nothing is loaded from the network and no other file is touched. Queries that
 * need more memory spill to the folder `FILE.tmp`. Background threads give freed memory back to the system within
 * seconds: without them, a process keeps what an import of many costs took.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  memory_limit: "1GB",
  allocator_background_threads: "true",
  threads: String(Math.min(MAX_THREADS, availableParallelism())),
  checkpoint_threshold: "64MB",
  enable_external_access: "false",
  autoinstall_known_extensions: "false",
  autoload_known_extensions: "false",
  allow_community_extensions: "false",
  allow_persistent_secrets: "false",
  lock_configuration: "true",
};

/** A process opens a file once: two instances would overwrite each other, as the lock is one of the process. */
let cache: Handle | undefined;
/** Changes of a file run one after the other, whichever backend of this process makes them. */
const changes = new Map<string, Mutex>();

/** An open database. */
export class DuckdbFile {
  readonly path: string;
  readonly driver: DuckdbDriver;
  /** The schema version of the tables. */
  version = SCHEMA_VERSION;
  readonly #mode: OpenMode;
  readonly #inode: number | null;
  readonly #mutex: Mutex;
  readonly #sessions = new Set<DuckdbSession>();
  #database: Promise<Handle> | undefined;
  #writer: DuckdbSession | undefined;
  #isClosed = false;

  /**
   * Opens a file, or a database in memory for an empty path, and creates or upgrades its tables.
   *
   * @throws {BackendError} If it cannot be used. Nothing was changed.
   */
  static async open(path: string, mode: OpenMode): Promise<DuckdbFile> {
    let file: DuckdbFile | undefined;
    try {
      const driver = await loadDuckdbDriver();
      const isNew = path !== "" && checkPath(path, mode);
      const database = await openPatiently(driver, path, mode);
      file = new DuckdbFile(driver, database, { path, mode });
      if (isNew) Deno.chmodSync(path, 0o600); // no record is in it yet
      await file.#prepareTables(mode);
      return file;
    } catch (error) {
      await file?.close().catch(() => {});
      throw asBackendError("open", path, error);
    }
  }

  private constructor(
    driver: DuckdbDriver,
    database: Handle,
    { path, mode }: { path: string; mode: OpenMode },
  ) {
    this.driver = driver;
    this.path = path;
    this.#database = Promise.resolve(database);
    this.#mode = mode;
    this.#inode = path === "" ? null : Deno.statSync(path).ino;
    const name = path === "" ? crypto.randomUUID() : Deno.realPathSync(path);
    this.#mutex = changes.get(name) ?? new Mutex();
    if (path !== "") changes.set(name, this.#mutex);
  }

  /** Opens a connection, whose statement ends when the signal aborts. Closing the file closes it. */
  async connect(signal?: AbortSignal): Promise<DuckdbSession> {
    this.#database ??= openInstance(this.driver, this.path, this.#mode);
    const connection = await this.driver.connect(await this.#database);
    const session = new DuckdbSession(this.driver, connection, this.path, () => {
      signal?.removeEventListener("abort", interrupt);
      this.#sessions.delete(session);
    });
    const interrupt = () => session.interrupt();
    signal?.addEventListener("abort", interrupt);
    this.#sessions.add(session);
    return session;
  }

  /** Runs a function on a connection of its own, which ends when the signal aborts. */
  use<T>(operation: string, run: (session: DuckdbSession) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.guard(operation, async () => {
      await using session = await this.connect(signal);
      signal?.throwIfAborted(); // meanwhile
      return await run(session);
    }, signal);
  }

  /** Runs something and turns what it throws into a {@linkcode BackendError}, or into the reason of the signal. */
  async guard<T>(operation: string, run: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    if (this.#isClosed) throw closed(operation, this.path);
    try {
      return await run();
    } catch (error) {
      signal?.throwIfAborted();
      throw asBackendError(operation, this.path, error);
    }
  }

  /**
   * Runs a change while no other change runs, between two checks that the file is still there: DuckDB goes on writing into
   * a file that was deleted.
   */
  change<T>(operation: string, run: (session: DuckdbSession) => Promise<T>): Promise<T> {
    return this.#mutex.run(async () => {
      if (this.#isClosed) throw closed(operation, this.path);
      try {
        this.#assertInPlace();
        // Made here, as DuckDB would let all users read it.
        if (this.path !== "" && this.#mode !== "read") createPrivately(logOf(this.path));
        const result = await run(this.#writer ??= await this.connect());
        this.#assertInPlace();
        return result;
      } catch (error) {
        if (FATAL.test(String(error))) await this.#release().catch(() => {});
        throw asBackendError(operation, this.path, error);
      }
    });
  }

  /** Closes all connections, and writes the write-ahead log into the file. */
  close(): Promise<void> {
    if (this.#isClosed) return Promise.resolve();
    this.#isClosed = true;
    return this.#mutex.run(async () => {
      // Closing does the same, but nothing else in this thread runs meanwhile.
      if (this.#mode !== "read") await this.#writer?.execute("CHECKPOINT").catch(() => {});
      await this.#release();
      if (this.path !== "" && this.#mode !== "read") removeIfEmpty(logOf(this.path));
    });
  }

  /** Closes all connections and the instance; it is opened again by the next connection. */
  async #release(): Promise<void> {
    this.#writer = undefined;
    for (const session of [...this.#sessions]) await session.close();
    const database = await this.#database;
    this.#database = undefined;
    if (database) this.driver.close_sync(database);
  }

  #assertInPlace(): void {
    if (this.path !== "") assertInPlace({ path: this.path, inode: this.#inode });
  }

  async #prepareTables(mode: OpenMode): Promise<void> {
    const prepare = async (session: DuckdbSession) => {
      const version = await this.#readVersion(session);
      if (version === undefined && mode !== "create") throw noTables(this.path, "duckdb");
      this.version = version ?? SCHEMA_VERSION;
      if (mode === "read" || this.version > SCHEMA_VERSION || version === SCHEMA_VERSION) return;
      await session.transaction(async () => {
        for (const statement of upgradesFrom(version ?? 0, FORM)) await session.execute(statement);
        await session.execute(
          `INSERT INTO schema_version VALUES (${SCHEMA_VERSION}, ${NOW}, ${WRITABLE_FROM})`,
        );
      });
      this.version = SCHEMA_VERSION;
    };
    await (mode === "read" ? this.use("open", prepare) : this.change("open", prepare));
  }

  /** The version of the schema, or undefined where the database is empty. */
  async #readVersion(session: DuckdbSession): Promise<number | undefined> {
    const names = (await session.query("SELECT table_name FROM duckdb_tables() WHERE NOT temporary")).flat();
    if (names.length === 0) return undefined;
    assertOwnTables(this.path, names, TABLES);
    const [row] = await session.query(
      "SELECT version::BIGINT, writable_from::BIGINT FROM schema_version ORDER BY version DESC LIMIT 1",
    ) as number[][];
    return readableVersion(this.path, row && { version: row[0], writableFrom: row[1] }, SCHEMA_VERSION);
  }
}

/** Checks that Deno lets this program use the file, as DuckDB does not ask. Returns true if it is to be created. */
function checkPath(path: string, mode: OpenMode): boolean {
  const names: Deno.PermissionDescriptor["name"][] = mode === "read" ? ["read"] : ["read", "write"];
  for (const name of names as ("read" | "write")[]) {
    if (Deno.permissions.querySync({ name, path }).state === "granted") continue;
    throw new Deno.errors.NotCapable(
      `Requires ${name} access to "${path}", run again with the --allow-${name} flag`,
    );
  }
  return isToBeCreated(path, mode);
}

async function openInstance(driver: DuckdbDriver, path: string, mode: OpenMode): Promise<Handle> {
  const config = (access: string) => {
    const config = driver.create_config();
    for (const [name, value] of Object.entries({ ...SETTINGS, access_mode: access })) {
      driver.set_config(config, name, value);
    }
    return config;
  };
  cache ??= driver.create_instance_cache();
  const open = (access: string) =>
    driver.get_or_create_from_cache(cache!, path || ":memory:", config(access));
  try {
    // A database in memory is new, so that it cannot be opened to read only.
    return await open(mode === "read" && path !== "" ? "read_only" : "read_write");
  } catch (error) {
    // This process has it open to write: that serves readers as well.
    if (mode === "read" && /different configuration/.test(String(error))) return await open("read_write");
    throw asBackendError("open", path, error);
  }
}

/** Retries opening while another process, such as a short command, has the file open. */
function openPatiently(driver: DuckdbDriver, path: string, mode: OpenMode): Promise<Handle> {
  let failures = 0;
  return retry(() => openInstance(driver, path, mode), {
    signal: new AbortController().signal,
    onFailure(error) {
      if (++failures > MAX_RETRIES || !(error instanceof BackendError && error.retryable)) throw error;
    },
  });
}

/** The write-ahead log of a file. */
export function logOf(path: string): string {
  return `${linkTarget(path)}.wal`;
}

function closed(operation: string, path: string): BackendError {
  return closedBackend(operation, path || "duckdb://");
}
