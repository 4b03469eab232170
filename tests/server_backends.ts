/**
 * Backends on a server, for the tests: how each is opened, on an empty database of its own.
 *
 * @module
 */
import type { Backend } from "../src/backends/backend.ts";
import { CitusBackend } from "../src/backends/citus.ts";
import { PostgresBackend, type PostgresBackendOptions } from "../src/backends/postgres.ts";
import { TimescaleBackend, type TimescaleBackendOptions } from "../src/backends/timescale.ts";
import type { OpenEmpty } from "./backend_contract.ts";

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

/** An empty database; gone when it is disposed. */
type Empty = AsyncDisposable & { readonly url: string };

/** Opens backends for the contract, each on an empty database. */
export function onEmpty(
  create: () => Promise<Empty>,
  open: (url: string, options: Parameters<OpenEmpty>[0]) => Promise<Backend>,
): OpenEmpty {
  return async (options) => {
    const database = await create();
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
