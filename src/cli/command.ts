import { userInfo } from "node:os";
import type { Backend, OpenMode } from "../backends/backend.ts";
import { hidePassword } from "../backends/connection_string.ts";
import { DEFAULT_SQLITE, defaultConnectionString, type PersistenceConfig, resolveConfig } from "../config.ts";
import { openBackend } from "../open_backend.ts";
import { isGranted } from "../permissions.ts";
import { type Arguments, type Option, optionsOf, SPREADSHEET_OPTION } from "../query/arguments.ts";
import { CA_OPTION, env, readNamedFile } from "./environment.ts";
import { ask, type Format, FORMATS, note, print, printing } from "./output.ts";
import { useMarkdown } from "./table.ts";
import { conflict, readName, UsageError } from "../query/option_values.ts";

export { env, readNamedFile };
export { readZone, TIME_ZONE_OPTION } from "../query/time_zone.ts";

/** A command, described as data from which its help is derived. */
export interface Command {
  /** Words that call it, such as `database init`. */
  readonly name: string;
  /** Positional arguments in the help, such as `[topic]`. */
  readonly positionals?: string;
  /** Maximum number of positional arguments: 1 where the help names some, else 0. */
  readonly maxPositionals?: number;
  /** Error where the first positional argument is missing; absent where it may be. */
  readonly missing?: string;
  readonly options: readonly Option[];
  readonly examples: readonly string[];
  run(given: Arguments): Promise<void>;
}

/** Options of every command that uses a database. */
export const CONNECTION_OPTIONS: readonly Option[] = [
  {
    name: "connection-string",
    value: "URL",
    summary: `database (default ${DEFAULT_SQLITE})`,
    elsewhere: ["url", "db", "database"],
  },
  ...optionsOf({
    "backend NAME": "memory, sqlite, duckdb, postgresql, timescaledb or citus (default: from the URL)",
    "sqlite-driver NAME": "auto, @db/sqlite or node:sqlite (default auto)",
  }),
];

/** Options of every command that only reads: from a database, or through a server. */
export const SOURCE_OPTIONS: readonly Option[] = [
  ...CONNECTION_OPTIONS,
  ...optionsOf({
    "server URL": "read through this server in place of a database; its token is in OPENFINOPS_TOKEN",
  }),
  CA_OPTION,
];

/** Options of every command that prints data. */
export const FORMAT_OPTIONS: readonly Option[] = [
  ...optionsOf({
    "format F": `${FORMATS.join(", ")} (default table)`,
    exact: "tables: all digits of amounts",
  }),
  SPREADSHEET_OPTION,
];

/** Reads the configuration from options and environment variables. */
export function readConfig(given: Arguments): PersistenceConfig {
  const url = given.text("connection-string");
  // A database given by an option takes precedence over both variables.
  const backend = given.text("backend") ?? (url === undefined ? env("OPENFINOPS_BACKEND") : undefined);
  const connectionString = url ?? env("OPENFINOPS_CONNECTION_STRING") ?? env("OPENFINOPS_DB_URL") ??
    readConnectionFile();
  return {
    backend: backend as PersistenceConfig["backend"],
    // Without any of them the command uses a file: the memory backend would end with the command.
    connectionString: connectionString ?? defaultConnectionString(backend),
    sqliteDriver: given.text("sqlite-driver") as PersistenceConfig["sqliteDriver"],
  };
}

/** Reads the connection string from a file, as secrets of containers are. */
function readConnectionFile(): string | undefined {
  const path = env("OPENFINOPS_CONNECTION_STRING_FILE");
  return path === undefined ? undefined : readNamedFile(path, "the connection string").trim();
}

/** Returns the connection string without a password, for messages. */
export function databaseName(given: Arguments): string {
  const server = given.text("server");
  if (server !== undefined) return hidePassword(server);
  const { connectionString } = readConfig(given);
  return connectionString === undefined ? "memory" : hidePassword(connectionString);
}

/** Returns the path of a SQLite database, if it is a file. */
export function sqliteFile(given: Arguments): string[] {
  const { backend, location } = resolveConfig(readConfig(given));
  return backend === "sqlite" && location !== "" ? [location] : [];
}

/** Opens the database, or the server to read through, calls `run` with it, and closes it. */
export async function withBackend<T>(
  given: Arguments,
  mode: OpenMode,
  run: (backend: Backend) => Promise<T>,
  more: PersistenceConfig = {},
): Promise<T> {
  const backend = await openGiven(given, mode, more);
  try {
    return await run(backend);
  } finally {
    await backend.close();
  }
}

async function openGiven(given: Arguments, mode: OpenMode, more: PersistenceConfig): Promise<Backend> {
  if (!given.has("server") && !given.has(CA_OPTION.name)) {
    return await openBackend({ ...readConfig(given), ...more }, { mode });
  }
  const { openServer } = await import("./remote_server.ts");
  return openServer(given);
}

/** Option of the commands that acknowledge. */
export const BY_OPTION: Option = {
  name: "by",
  value: "NAME",
  summary: "name of the person (default: the user)",
};

/** Reads the name of the person who acknowledges. */
export function readBy(given: Arguments): { by: string } {
  return { by: given.text(BY_OPTION.name) ?? userName() };
}

export function readFormat(given: Arguments): Format {
  const format = readName("format", given.text("format") ?? "table", FORMATS);
  if (readSpreadsheetSafe(given, format)) printing.isSpreadsheetSafe = true;
  if (given.has("exact")) printing.isExact = true;
  if (format !== "markdown") return format;
  useMarkdown();
  return "table";
}

/** Returns true if CSV has to be safe to open in a spreadsheet. */
export function readSpreadsheetSafe(given: Arguments, format: string): boolean {
  if (!given.has(SPREADSHEET_OPTION.name)) return false;
  if (format === "csv" || format === "focus") return true;
  throw conflict(`--${SPREADSHEET_OPTION.name} is for CSV. Pass --format csv.`);
}

/** Variables that name the user, in this order. */
const USER_VARIABLES = ["USER", "LOGNAME", "USERNAME"];

/** Name of the user, from the environment or the operating system, as far as Deno grants to read them. */
export function userName(): string {
  for (const variable of USER_VARIABLES) {
    const name = isGranted({ name: "env", variable }) && env(variable);
    if (name) return name;
  }
  try {
    if (isGranted({ name: "sys" })) return userInfo().username;
  } catch { /* a container whose user has no name */ }
  return "unknown user";
}

/**
 * Reads `--dry-run` of a command that deletes.
 *
 * @param given The arguments.
 * @param effect A sentence that says the records are gone for good.
 * @throws {UsageError} If records would be deleted without `--yes`, and there is no terminal to ask on.
 */
export function readDryRun(given: Arguments, effect: string): boolean {
  const isDryRun = given.has("dry-run");
  if (isDryRun || given.has("yes") || Deno.stdin.isTerminal()) return isDryRun;
  throw new UsageError(`${effect} Pass --yes to confirm, or --dry-run to count.`, "CONFIRMATION_REQUIRED");
}

/** Prints what a dry run would delete, or asks. Returns true if it may be deleted. */
export function confirmDeletion(given: Arguments, what: string, isDryRun: boolean): boolean {
  if (isDryRun) print(`Would be deleted: ${what}`);
  else if (given.has("yes") || ask(`Delete ${what} from ${databaseName(given)} for good?`)) return true;
  else note("Nothing was deleted.");
  return false;
}
