import type { Backend } from "./backends/backend.ts";
import { DeferredBackend } from "./backends/deferred_backend.ts";
import { type PersistenceConfig, resolveConfig } from "./config.ts";
import { failureOf, kindOf, NOT_GRANTED } from "./errors.ts";
import type { DatasetName } from "./records/dataset.ts";

/** Options of {@linkcode openBackend}. */
export interface OpenOptions {
  /**
   * Create and upgrade, open only an existing database, or read only.
   *
   * @default {"create"}
   */
  mode?: "create" | "existing" | "read";
  /** Datasets that `retentionDays` is for, on TimescaleDB. Without it, one number is for metrics only. */
  retentionOf?: readonly DatasetName[];
}

/**
 * Opens the backend that a configuration names, so that a hub and an observatory can share it.
 * The program that opens it closes it, after its users.
 *
 * With a `spoolDirectory`, a program also starts while its database is down: what
 * is opened then opens it with the first call that succeeds.
 *
 * @param config The configuration.
 * @param options How to open it.
 * @returns The opened backend.
 * @throws {ConfigError} If the configuration cannot be used.
 * @throws {BackendError} If the backend cannot be opened.
 *
 * @example Share one file between a hub and an observatory
 * ```ts
 * import { CostObservatory, ObservabilityHub, openBackend } from "@openfinops/telemetry";
 *
 * const backend = await openBackend({ connectionString: "sqlite://" });
 * const hub = await ObservabilityHub.open({ backend });
 * const costs = await CostObservatory.open({ backend });
 * await hub.close();
 * await costs.close();
 * await backend.close();
 * ```
 */
export async function openBackend(
  config: PersistenceConfig,
  options: OpenOptions = {},
): Promise<Backend> {
  try {
    return await openNow(config, options);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      const failure = { operation: "open", name: "the database", otherwise: "operator" } as const;
      throw failureOf(NOT_GRANTED, { ...failure, reason: error.message, cause: error });
    }
    const { backend, spoolDirectory } = resolveConfig(config);
    const { mode = "create" } = options;
    const canWait = spoolDirectory !== undefined && mode === "create" && kindOf(error) === "transient";
    if (!canWait || typeof backend === "object") throw error;
    const location = await locationOf(config);
    return new DeferredBackend(backend, { location, openNow: (signal) => openNow(config, options, signal) });
  }
}

/** Returns the location of a database that could not be opened. */
async function locationOf(config: PersistenceConfig): Promise<string | undefined> {
  const { backend, location } = resolveConfig(config);
  if (backend === "sqlite") return (await import("./backends/sqlite/file.ts")).locationOfFile(location);
  if (backend === "duckdb") return (await import("./backends/duckdb/file.ts")).locationOfFile(location);
  const { locationOfTarget, resolvePostgresTarget } = await import("./backends/postgres/target.ts");
  return locationOfTarget(resolvePostgresTarget(location));
}

async function openNow(
  config: PersistenceConfig,
  options: OpenOptions,
  signal?: AbortSignal,
): Promise<Backend> {
  const { backend, location, maxMemoryEntries, onConflict, sqliteDriver, ...resolved } = resolveConfig(
    config,
  );
  if (typeof backend === "object") return backend;
  const { mode = "create", retentionOf } = options;
  if (backend === "memory") {
    const { MemoryBackend } = await import("./backends/memory.ts");
    return new MemoryBackend({ maxMemoryEntries, onConflict });
  }
  const { maxConnections, statementTimeoutSeconds, enableCompression } = resolved;
  const server = {
    connectionString: location,
    mode,
    onConflict,
    maxConnections,
    statementTimeoutSeconds,
    signal,
  };
  if (backend === "postgresql") {
    const { PostgresBackend } = await import("./backends/postgres.ts");
    return await PostgresBackend.open(server);
  }
  if (backend === "citus") {
    const { CitusBackend } = await import("./backends/citus.ts");
    return await CitusBackend.open(server);
  }
  if (backend === "timescaledb") {
    const { TimescaleBackend } = await import("./backends/timescale.ts");
    // Only what is given: a default must not change settings of the server.
    const { retentionDays, compressAfterDays, chunkDays } = config;
    return await TimescaleBackend.open({
      ...server,
      retentionDays,
      retentionOf,
      enableCompression,
      compressAfterDays,
      chunkDays,
    });
  }
  if (backend === "duckdb") {
    const { DuckdbBackend } = await import("./backends/duckdb.ts");
    return await DuckdbBackend.open({ path: location, mode, onConflict });
  }
  const { SqliteBackend } = await import("./backends/sqlite.ts");
  return await SqliteBackend.open({ path: location, mode, driver: sqliteDriver, onConflict });
}
