import { type Backend, StorageBackend } from "./backends/backend.ts";
import { parseConnectionString } from "./backends/connection_string.ts";
import { ConfigError, describe } from "./errors.ts";
import { suggest } from "./nearest.ts";
import type { EventListener } from "./pipeline/events.ts";
import { isTimeZone, TIME_ZONE_SYNTAX } from "./records/calendar.ts";
import type { DatasetName } from "./records/dataset.ts";
import { DATASETS, daysByDataset } from "./records/datasets.ts";
import { type Check, isFlag, isOneOf } from "./records/field_checks.ts";

/** Configuration of storage. All fields are optional. */
export interface PersistenceConfig {
  /**
   * Backend by name, or a shared one from `openBackend()`. `in_memory` is the same as `memory`. Not needed if
   * the connection string names the backend.
   *
   * @default {"memory"}
   */
  backend?: StorageBackend | "in_memory" | Backend;
  /**
   * Database: `sqlite:///relative.db`, `sqlite:////absolute.db`, `sqlite://` in memory, or
   * `postgresql://user:password@host:5432/database?sslmode=verify-full`; for TimescaleDB and Citus the same with
   * `timescaledb://` or `citus://`, or with the backend named. What a `postgresql://` leaves open comes from the `PG*` variables
   * and the password file, as for psql; the host is then localhost.
   *
   * @default {"sqlite:///openfinops.db"}
   */
  connectionString?: string;
  /**
   * Age in days at which cleanup deletes records; `Infinity` for never. One number is for the datasets of the hub or
   * the observatory that is opened; for `openBackend`, of metrics only. An object gives each dataset its own, as in
   * `{ system_metrics: 30, cost_entries: 2555 }`.
   *
   * On TimescaleDB the server then drops older records by itself; it does not know budgets. A dataset without a number
   * keeps the policy that the server has.
   *
   * @default {90} for metrics; costs are never deleted
   */
  retentionDays?: number | Partial<Record<DatasetName, number>>;
  /**
   * Records that trigger a flush. Not a cap: a batch takes all that has arrived.
   *
   * @default {100}
   */
  batchSize?: number;
  /**
   * The longest that an accepted record waits for its batch, in seconds.
   *
   * @default {60}
   */
  batchIntervalSeconds?: number;
  /**
   * True to have TimescaleDB compress chunks older than `compressAfterDays`, to a tenth of the disk or less, and write
   * large batches of metrics compressed. No effect on other backends.
   *
   * @default {false}
   */
  enableCompression?: boolean;
  /**
   * The age at which TimescaleDB compresses a chunk, in days.
   *
   * @default {7}
   */
  compressAfterDays?: number;
  /**
   * The days of records in one chunk of TimescaleDB, by dataset; for the chunks to come. Where it is not given, what
   * the database has, which begins with 1 for system metrics, 7 for service metrics and 30 for costs.
   *
   * @default {{}}
   */
  chunkDays?: Partial<Record<DatasetName, number>>;
  /**
   * The most records of a dataset that stay in the process for live views. They take at most 64 MiB, or 2 KiB a record
   * where that is more. The memory backend has no other records: it evicts the oldest beyond these bounds, and its stats
   * count them as `evicted`.
   *
   * @default {10000}
   */
  maxMemoryEntries?: number;
  /**
   * Policy for full buffers: wait, or drop and count.
   *
   * @default {"block"}
   */
  overflow?: "block" | "drop-oldest" | "drop-newest";
  /**
   * A folder in which accepted records are journaled before they are acknowledged, so that they outlive the process.
   * One process at a time uses it: each needs a folder of its own.
   *
   * @default {none}
   */
  spoolDirectory?: string;
  /**
   * The most bytes that the spool of a dataset takes. When it is full, `overflow` says what to do.
   *
   * @default {1073741824}
   */
  maxSpoolBytes?: number;
  /**
   * Time of the sync that makes the spool survive a crash of the machine: with each `batch` of records, before they are
   * acknowledged; at an `interval` of a second; or `none`, left to the system. A crash of the process alone never loses
   * a record.
   *
   * @default {"batch"}
   */
  fsync?: "batch" | "interval" | "none";
  /**
   * The folder for records that the backend refuses for their data, a file for each dataset. Without one, such a
   * record is only in the event that reports it.
   *
   * @default {`dead-letters` in the spoolDirectory}
   */
  deadLetterDirectory?: string;
  /**
   * True to have an observatory report days on which a group costs far more or far less than on similar days before, as
   * events. It reads the daily costs of five weeks when it starts.
   *
   * @default {false}
   */
  anomalyDetection?: boolean;
  /**
   * Store estimated costs with usage records, by the own and built-in prices; see `costs price` for stored usage.
   *
   * @default {false}
   */
  priceUsage?: boolean;
  /**
   * Called with events: failures, alarms, dead letters and dropped records. What it throws
   * makes no difference.
   */
  onEvent?: EventListener;
  /**
   * Policy for a cost entry whose key exists: count a duplicate, or update it.
   *
   * @default {"ignore"}
   */
  onConflict?: "ignore" | "replace";
  /**
   * The time zone of questions and budgets that name none, as in `Europe/Berlin`: dates are read in it, and days begin in
   * it.
   *
   * @default {"UTC"}
   */
  timeZone?: string;
  /**
   * The driver of SQLite. `auto` takes `@db/sqlite` where it can be had and FFI is allowed, else the built-in
   * `node:sqlite`. Within one process, open a file with one driver only: two copies of SQLite would let go of
   * each other's locks.
   *
   * @default {"auto"}
   */
  sqliteDriver?: "auto" | "@db/sqlite" | "node:sqlite";
  /**
   * The most connections to PostgreSQL. They are opened as they are needed, and closed after a minute without use.
   * Streams that read leave one over for writing.
   *
   * @default {5}
   */
  maxConnections?: number;
  /**
   * The longest that a statement which writes into PostgreSQL may take, in seconds. A batch that takes longer is
   * rolled back and written again.
   *
   * @default {60}
   */
  statementTimeoutSeconds?: number;
}

/** The fields that may be left open for good. */
type Optional = "spoolDirectory" | "deadLetterDirectory" | "onEvent";

/** A configuration with nothing left open. */
export interface ResolvedConfig
  extends
    Required<Omit<PersistenceConfig, "backend" | "connectionString" | "retentionDays" | Optional>>,
    Pick<PersistenceConfig, Optional> {
  /** Backend by name, or a shared one. */
  readonly backend: StorageBackend | Backend;
  /** Path of the SQLite file, or connection string of PostgreSQL; empty in memory. */
  readonly location: string;
  /** Age in days at which cleanup deletes records, by dataset. */
  readonly retentionDays: Readonly<Record<DatasetName, number>>;
}

const DEFAULTS = {
  backend: "memory",
  batchSize: 100,
  batchIntervalSeconds: 60,
  enableCompression: false,
  compressAfterDays: 7,
  chunkDays: {},
  maxMemoryEntries: 10_000,
  overflow: "block",
  maxSpoolBytes: 2 ** 30,
  fsync: "batch",
  anomalyDetection: false,
  priceUsage: false,
  onConflict: "ignore",
  timeZone: "UTC",
  sqliteDriver: "auto",
  maxConnections: 5,
  statementTimeoutSeconds: 60,
} as const;

const DEFAULT_RETENTION = Object.fromEntries(
  Object.values(DATASETS).map(({ name, retentionDays }) => [name, retentionDays]),
) as Record<DatasetName, number>;

/** The connection string of a SQLite backend that is given none. */
export const DEFAULT_SQLITE = "sqlite:///openfinops.db";

const DEFAULT_DUCKDB = "duckdb:///openfinops.duckdb";

/** The connection string of a backend that is given none. For PostgreSQL all comes from the environment. */
export function defaultConnectionString(backend: unknown): string | undefined {
  if (backend === "memory" || backend === "in_memory") return undefined;
  if (backend === "timescaledb" || backend === "citus") return `${backend}://`;
  if (backend === "duckdb") return DEFAULT_DUCKDB;
  return backend === "postgresql" ? "postgresql://" : DEFAULT_SQLITE;
}

/** The least that a spool may be bounded to. */
const MIN_SPOOL_BYTES = 65_536;
/** The most days that are any use. */
const MAX_DAYS = 100_000;
/** The longest interval that a timer can wait: 24.8 days. */
const MAX_INTERVAL_SECONDS = 2_147_483;
/** The longest statement timeout: twice of it is waited for. */
const MAX_STATEMENT_SECONDS = 1_000_000;

const BACKENDS: readonly StorageBackend[] = [...new Set(Object.values(StorageBackend))]; // two are aliases

const isDays = (value: unknown) => typeof value === "number" && value >= 0 && value <= MAX_DAYS;
const isRetention = (value: unknown) => isDays(value) || value === Infinity;
const isCount = (value: unknown) => Number.isSafeInteger(value) && value as number >= 1;
const isFolder = {
  test: (value: unknown) => typeof value === "string" && value !== "",
  expected: "the path of a folder",
};
const RULES: Record<keyof PersistenceConfig, Check> = {
  backend: {
    test: (value) =>
      BACKENDS.includes(value as StorageBackend) || value === "in_memory" ||
      (typeof value === "object" && value !== null && "write" in value && "read" in value),
    expected: `${BACKENDS.join(", ")} or an opened backend`,
  },
  connectionString: { test: (value) => typeof value === "string", expected: "a string" },
  retentionDays: {
    test: (value) =>
      isRetention(value) ||
      typeof value === "object" && value !== null &&
        Object.entries(value).every(([name, days]) => Object.hasOwn(DATASETS, name) && isRetention(days)),
    expected: `a number of days from 0 to ${MAX_DAYS}, or Infinity, or an object of them by dataset`,
  },
  batchSize: { test: isCount, expected: "a whole number from 1" },
  batchIntervalSeconds: {
    test: (value) => Number.isFinite(value) && value as number > 0 && value as number <= MAX_INTERVAL_SECONDS,
    expected: `a number of seconds above 0 and up to ${MAX_INTERVAL_SECONDS}`,
  },
  enableCompression: isFlag,
  compressAfterDays: {
    test: isDays,
    expected: `a number of days from 0 to ${MAX_DAYS}`,
  },
  chunkDays: {
    test: (value) =>
      typeof value === "object" && value !== null &&
      Object.entries(value).every(([name, days]) => Object.hasOwn(DATASETS, name) && isCount(days)),
    expected: `whole numbers of days from 1 by dataset (${Object.keys(DATASETS).join(", ")})`,
  },
  maxMemoryEntries: { test: isCount, expected: "a whole number from 1" },
  overflow: isOneOf("block", "drop-oldest", "drop-newest"),
  spoolDirectory: isFolder,
  maxSpoolBytes: {
    test: (value) => isCount(value) && value as number >= MIN_SPOOL_BYTES,
    expected: `a whole number of bytes from ${MIN_SPOOL_BYTES}`,
  },
  fsync: isOneOf("batch", "interval", "none"),
  deadLetterDirectory: isFolder,
  anomalyDetection: isFlag,
  priceUsage: isFlag,
  onEvent: { test: (value) => typeof value === "function", expected: "a function" },
  onConflict: isOneOf("ignore", "replace"),
  timeZone: {
    test: (value) => typeof value === "string" && isTimeZone(value),
    expected: TIME_ZONE_SYNTAX,
  },
  sqliteDriver: isOneOf("auto", "@db/sqlite", "node:sqlite"),
  maxConnections: {
    test: (value) => isCount(value) && value as number >= 2,
    expected: "a whole number from 2",
  },
  statementTimeoutSeconds: {
    test: (value) =>
      Number.isFinite(value) && value as number >= 0.001 && value as number <= MAX_STATEMENT_SECONDS,
    expected: `a number of seconds above 0 and up to ${MAX_STATEMENT_SECONDS}`,
  },
};

/**
 * Checks a configuration and fills in what is left open.
 *
 * @throws {ConfigError} If a field is unknown, its value is wrong, or two fields disagree.
 */
export function resolveConfig(config: PersistenceConfig = {}): ResolvedConfig {
  for (const [field, value] of Object.entries(config)) {
    const rule = RULES[field as keyof PersistenceConfig];
    if (!Object.hasOwn(RULES, field)) {
      throw new ConfigError(
        `Cannot use the configuration: unknown option ${describe(field)}.${
          suggest(field, Object.keys(RULES))
        }`,
        { code: "UNKNOWN_OPTION" },
      );
    }
    if (value === undefined || rule.test(value)) continue;
    // An invalid connection string may hold a password, also where the name of a backend belongs.
    const isHidden = typeof value === "string" &&
      (field === "connectionString" || (field === "backend" && /[:=]/.test(value)));
    const shown = isHidden ? "a string that may hold a password" : describe(value);
    throw new ConfigError(
      `Cannot use the configuration: ${field} must be ${rule.expected}, not ${shown}.`,
      { code: "INVALID_OPTION" },
    );
  }
  const { connectionString, ...given } = config;
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const target = describeTarget(given.backend, connectionString);
  if (target.backend === "memory" && given.spoolDirectory !== undefined) {
    throw new ConfigError(
      "Cannot use the configuration: a spool needs a database. Name one by connectionString, or remove spoolDirectory.",
      { code: "CONFLICTING_OPTIONS" },
    );
  }
  const retentionDays = { ...DEFAULT_RETENTION, ...daysByDataset(given.retentionDays ?? {}) };
  return { ...DEFAULTS, ...set, ...target, retentionDays };
}

/** The folder for records that the backend refuses, if there is one. */
export function deadLetterFolder(
  { spoolDirectory, deadLetterDirectory }: Pick<PersistenceConfig, "spoolDirectory" | "deadLetterDirectory">,
): string | undefined {
  return deadLetterDirectory ?? (spoolDirectory && `${spoolDirectory}/dead-letters`);
}

/** The backend and where it is, from the name, the connection string, or both where they agree. */
function describeTarget(
  backend: PersistenceConfig["backend"],
  connectionString: string | undefined,
): Pick<ResolvedConfig, "backend" | "location"> {
  if (backend === "in_memory") return describeTarget("memory", connectionString);
  if (typeof backend === "object") {
    if (connectionString === undefined) return { backend, location: "" };
    throw new ConfigError(
      "Cannot use the configuration: it has both an opened backend and a connection string. Remove one.",
      { code: "CONFLICTING_OPTIONS" },
    );
  }
  const text = connectionString ?? defaultConnectionString(backend ?? "memory");
  if (text === undefined) return { backend: "memory", location: "" };
  const target = parseConnectionString(text);
  // The same servers: a URL of PostgreSQL's names TimescaleDB or Citus only together with the backend.
  if ((backend === "timescaledb" || backend === "citus") && target.backend === "postgresql") {
    return { ...target, backend };
  }
  if (backend !== undefined && backend !== target.backend) {
    throw new ConfigError(
      `Cannot use the configuration: the backend is ${backend}, but the connection string names ` +
        `${target.backend}. Remove backend.`,
      { code: "CONFLICTING_OPTIONS" },
    );
  }
  return target;
}
