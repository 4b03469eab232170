import { type PersistenceConfig, resolveConfig } from "../config.ts";
import { BackendError, type ErrorCode } from "../errors.ts";
import { deleteOld, retentionCutoff } from "../monitoring/retention.ts";
import { type Arguments, optionsOf } from "../query/arguments.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, readConfig, withBackend } from "./command.ts";
import { ask, formatThings, isoTime, note, print } from "./output.ts";
import { conflict, readNumber, UsageError } from "../query/option_values.ts";
import { DATASET_OPTION, readDatasets } from "../query/selection.ts";

export const init: Command = {
  name: "database init",
  options: [
    ...CONNECTION_OPTIONS,
    ...optionsOf({
      "retention-days N": "TimescaleDB: the server drops older records from now on; `never` turns that off",
    }),
    DATASET_OPTION,
    ...optionsOf({
      "enable-compression": "TimescaleDB: the server compresses records older than a week",
      yes: "do not ask for confirmation if a retention drops records",
    }),
  ],
  examples: [
    "openfinops database init --connection-string sqlite:///openfinops.db",
    "openfinops database init --connection-string timescaledb://localhost/telemetry --enable-compression",
    "openfinops database init --connection-string citus://coordinator.example/telemetry",
  ],
  async run(given) {
    const policies = readPolicies(given);
    if (!await mayDrop(given, policies)) return note("Nothing was changed.");
    await withBackend(given, "create", async (backend) => {
      const { details } = await backend.probe();
      const version = details.schemaVersion === undefined ? "" : `, schema version ${details.schemaVersion}`;
      print(`Ready: ${databaseName(given)} (${backend.name}${version})`);
    }, policies);
  },
};

function readPolicies(given: Arguments): PersistenceConfig {
  const days = given.text("retention-days");
  const enableCompression = given.has("enable-compression");
  const isAsked = days !== undefined || enableCompression;
  if (isAsked && resolveConfig(readConfig(given)).backend !== "timescaledb") {
    throw conflict("--retention-days and --enable-compression apply to TimescaleDB only. Remove them.");
  }
  if (days === undefined) return { enableCompression };
  const number = days === "never" ? Infinity : readNumber("retention-days", days);
  return {
    enableCompression,
    retentionDays: Object.fromEntries(readDatasets(given).map(({ name }) => [name, number])),
  };
}

/** Returns true if a retention may be set: it drops older records at once. */
async function mayDrop(given: Arguments, { retentionDays = {} }: PersistenceConfig): Promise<boolean> {
  const [days = Infinity] = Object.values(retentionDays);
  if (days === Infinity || given.has("yes")) return true;
  const before = retentionCutoff(days);
  const rows = await countBefore(given, before);
  if (rows === 0) return true;
  const what = `${formatThings(rows, "record", "records")} before ${isoTime(before)}`;
  if (!Deno.stdin.isTerminal()) {
    throw new UsageError(`That drops ${what} for good. Pass --yes to confirm.`, "CONFIRMATION_REQUIRED");
  }
  return ask(`Have the server drop ${what} from ${databaseName(given)} for good?`);
}

/** Codes of a database that is not one of TimescaleDB yet; opened with "create" it would become one. */
const NOT_YET: readonly ErrorCode[] = ["TABLES_MISSING", "TABLES_FOREIGN", "EXTENSION_MISSING"];

/** Counts the records before a time and changes nothing, also where tables are not hypertables yet. */
async function countBefore(given: Arguments, before: number): Promise<number> {
  const deletions = readDatasets(given).map((dataset) => ({ dataset, before }));
  const connectionString = readConfig(given).connectionString?.replace(/^[^:]*/, "postgresql");
  for (const backend of ["timescaledb", "postgresql"] as const) {
    try {
      const found = await withBackend(
        given,
        "read",
        (opened) => deleteOld(opened, deletions, { dryRun: true }),
        { connectionString, backend },
      );
      return Object.values(found).reduce((sum, rows) => sum + rows);
    } catch (error) {
      if (!(error instanceof BackendError) || !NOT_YET.includes(error.code)) throw error;
    }
  }
  return 0; // it has no tables
}
