import type { Backend, StorageBackend } from "./backends/backend.ts";
import { DeferredBackend } from "./backends/deferred_backend.ts";
import { type PersistenceConfig, resolveConfig } from "./config.ts";
import { failureOf, kindOf, NOT_GRANTED } from "./errors.ts";
import { withinLimit } from "./pipeline/time_limit.ts";
import type { DatasetName } from "./records/dataset.ts";

/** Time after which a program with a spool starts without its database, in milliseconds. */
const OPEN_WAIT_MS = 3_000;

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
 * With a `spoolDirectory`, a program also starts while its database is down, or does not answer within 3 s: what
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
  const { backend, spoolDirectory } = resolveConfig(config);
  const canWait = spoolDirectory !== undefined && (options.mode ?? "create") === "create" &&
    typeof backend !== "object";
  const closing = new AbortController();
  const opening = openNow(config, options, closing.signal);
  const defer = async (opening?: Promise<Backend>) =>
    new DeferredBackend(backend as StorageBackend, {
      location: await locationOf(config),
      openNow: (signal) => openNow(config, options, signal),
      opening,
      closing,
    });
  try {
    if (!canWait) return await opening;
    return await withinLimit(opening, OPEN_WAIT_MS, () => defer(opening));
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      const failure = { operation: "open", name: "the database", otherwise: "operator" } as const;
      throw failureOf(NOT_GRANTED, { ...failure, reason: error.message, cause: error });
    }
    if (!canWait || kindOf(error) !== "transient") throw error;
    return await defer();
  }
}

/** Returns the location of a database that could not be opened. */
async function locationOf(config: PersistenceConfig): Promise<string | undefined> {
  const { backend, location } = resolveConfig(config);
  if (backend === "sqlite" || backend === "duckdb") {
    return (await import("./backends/database_file.ts")).locationOfFile(backend, location);
  }
  const { locationOfTarget, resolvePostgresTarget } = await import("./backends/postgres/target.ts");
  return locationOfTarget(resolvePostgresTarget(location));
}

async function openNow(
  config: PersistenceConfig,
  options: OpenOptions,
  signal?: AbortSignal,
): Promise<Backend> {
  const { backend, location, onConflict, ...resolved } = resolveConfig(config);
  if (typeof backend === "object") return backend;
  const { mode = "create", retentionOf } = options;
  if (backend === "memory") {
    const { MemoryBackend } = await import("./backends/memory.ts");
    return new MemoryBackend({ maxMemoryEntries: resolved.maxMemoryEntries, onConflict });
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
  return await SqliteBackend.open({ path: location, mode, driver: resolved.sqliteDriver, onConflict });
}
