import type { Backend, OpenMode } from "../backends/backend.ts";
import { hidePassword } from "../backends/connection_string.ts";
import {
  DEFAULT_SQLITE,
  defaultConnectionString,
  openBackend,
  type PersistenceConfig,
  resolveConfig,
} from "../config.ts";
import type { Arguments, Option } from "./arguments.ts";
import { type Format, FORMATS } from "./output.ts";
import { readName } from "./option_values.ts";

/** A command of the program, described as data: its help is derived from it. */
export interface Command {
  /** The words that call it, as in `database init`. */
  readonly name: string;
  /** How its positional arguments are written, as in `[topic]`. */
  readonly positionals?: string;
  /** The most positional arguments it takes. */
  readonly maxPositionals?: number;
  /** Its options. */
  readonly options: readonly Option[];
  /** Calls that work as they stand. */
  readonly examples: readonly string[];
  /** Does it. */
  run(given: Arguments): Promise<void>;
}

/** The options of every command that works on a database. */
export const CONNECTION_OPTIONS: readonly Option[] = [
  { name: "connection-string", value: "URL", summary: `the database (default ${DEFAULT_SQLITE})` },
  {
    name: "backend",
    value: "NAME",
    summary: "memory, sqlite, postgresql or timescaledb; seldom needed, the URL names it",
  },
  {
    name: "sqlite-driver",
    value: "NAME",
    summary: "auto, @db/sqlite or node:sqlite (default auto)",
  },
];

/** The option of every command that prints data. */
export const FORMAT_OPTION: Option = {
  name: "format",
  value: "F",
  summary: `${FORMATS.join(", ")} (default table)`,
};

/** The configuration that options and environment name. */
export function readConfig(given: Arguments): PersistenceConfig {
  const url = given.text("connection-string");
  // Who names the database by an option means that one, whatever the variables say.
  const backend = given.text("backend") ?? (url === undefined ? env("OPENFINOPS_BACKEND") : undefined);
  const connectionString = url ?? env("OPENFINOPS_CONNECTION_STRING");
  return {
    backend: backend as PersistenceConfig["backend"],
    // On the command line nothing is gained by a database that ends with the command.
    connectionString: connectionString ?? defaultConnectionString(backend),
    sqliteDriver: given.text("sqlite-driver") as PersistenceConfig["sqliteDriver"],
  };
}

/** The database as messages call it: without a password, should there be one. */
export function databaseName(given: Arguments): string {
  const { connectionString = "memory" } = readConfig(given);
  return hidePassword(connectionString);
}

/** The file of the database, where it is one. */
export function sqliteFile(given: Arguments): string[] {
  const { backend, location } = resolveConfig(readConfig(given));
  return backend === "sqlite" && location !== "" ? [location] : [];
}

/** Opens the database that is asked for, runs something with it, and closes it. */
export async function withBackend<T>(
  given: Arguments,
  mode: OpenMode,
  run: (backend: Backend) => Promise<T>,
  more: PersistenceConfig = {},
): Promise<T> {
  const backend = await openBackend({ ...readConfig(given), ...more }, { mode });
  try {
    return await run(backend);
  } finally {
    await backend.close();
  }
}

/** The format that is asked for. */
export function readFormat(given: Arguments): Format {
  return readName("format", given.text("format") ?? "table", FORMATS);
}

function env(name: string): string | undefined {
  return Deno.env.get(name) || undefined;
}
