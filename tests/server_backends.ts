/**
 * Backends on a server, for the tests: how each is opened, on an empty database of its own.
 *
 * @module
 */
import type { Backend } from "../src/backends/backend.ts";
import { CitusBackend } from "../src/backends/citus.ts";
import { PostgresBackend, type PostgresBackendOptions } from "../src/backends/postgres.ts";
import { TimescaleBackend, type TimescaleBackendOptions } from "../src/backends/timescale.ts";
import { openBackend } from "../src/open_backend.ts";
import type { OpenEmpty } from "./backend_contract.ts";
import { type CitusDatabase, databaseFor } from "./citus_cluster.ts";
import type { TestDatabase } from "./postgres_server.ts";

/** Options with which tests open a backend. */
export const OPTIONS = {
  mode: "create",
  onConflict: "ignore",
  maxConnections: 5,
  statementTimeoutSeconds: 60,
} as const;

export const openPostgres = (url: string, options: Partial<PostgresBackendOptions> = {}) =>
  PostgresBackend.open({ ...OPTIONS, connectionString: url, ...options });

export const openTimescale = (url: string, options: Partial<TimescaleBackendOptions> = {}) =>
  TimescaleBackend.open({ ...OPTIONS, connectionString: url, ...options });

export const openCitus = (url: string, options: Partial<PostgresBackendOptions> = {}) =>
  CitusBackend.open({ ...OPTIONS, connectionString: url, ...options });

/** An empty database that can be copied. Disposing drops it. */
interface Empty extends AsyncDisposable {
  readonly url: string;
  freeze(): Promise<void>;
}

/**
 * Makes databases with the tables of a backend. They are copies of one that was opened once, because to open each takes
 * a second. For the top level of a file of tests, after which the original is dropped.
 */
export function withTables<T extends Empty>(
  create: (original?: T) => Promise<T>,
  open: (url: string) => Promise<Backend>,
): () => Promise<T> {
  let original: Promise<T> | undefined;
  const prepare = async () => {
    const database = await create();
    await (await open(database.url)).close();
    await database.freeze();
    return database;
  };
  Deno.test.afterAll(async () => await (await original)?.[Symbol.asyncDispose]());
  return async () => await create(await (original ??= prepare()));
}

/** {@linkcode withTables} for connection strings of a protocol, such as `citus:`. */
export function withTablesOf(protocol: string): () => Promise<TestDatabase | CitusDatabase> {
  return withTables(
    (original?: TestDatabase | CitusDatabase) => databaseFor(protocol, original),
    (url) => openBackend({ connectionString: url.replace(/^\w+:/, protocol) }),
  );
}

/** Opens backends for the contract, each on an empty database. */
export function onEmpty<T extends Empty>(
  create: (original?: T) => Promise<T>,
  open: (url: string, options?: Parameters<OpenEmpty>[0]) => Promise<Backend>,
): OpenEmpty {
  const createWithTables = withTables(create, open);
  return async (options) => {
    const database = await createWithTables();
    const backend = await open(database.url, options);
    return {
      backend,
      async [Symbol.asyncDispose]() {
        await backend.close();
        await database[Symbol.asyncDispose]();
      },
    };
  };
}
