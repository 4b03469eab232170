import { type PersistenceConfig, resolveConfig } from "../config.ts";
import { deleteOld, retentionCutoff } from "../store.ts";
import type { Arguments } from "./arguments.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, readConfig, withBackend } from "./command.ts";
import { ask, formatThings, isoTime, note, print } from "./output.ts";
import { readNumber, UsageError } from "./option_values.ts";
import { DATASET_OPTION, readDatasets } from "./selection.ts";

/** `openfinops database init` */
export const init: Command = {
  name: "database init",
  options: [
    ...CONNECTION_OPTIONS,
    {
      name: "retention-days",
      value: "N",
      summary: "TimescaleDB: the server drops older records, now and in future; `never` ends that",
    },
    DATASET_OPTION,
    {
      name: "enable-compression",
      summary: "TimescaleDB: the server compresses records older than a week",
    },
    { name: "yes", summary: "do not ask for confirmation if a retention drops records" },
  ],
  examples: [
    "openfinops database init --connection-string sqlite:///openfinops.db",
    "openfinops database init --connection-string timescaledb://localhost/telemetry --enable-compression",
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

/** Policies for the server. */
function readPolicies(given: Arguments): PersistenceConfig {
  const days = given.text("retention-days");
  const enableCompression = given.has("enable-compression");
  const isAsked = days !== undefined || enableCompression;
  if (isAsked && resolveConfig(readConfig(given)).backend !== "timescaledb") {
    throw new UsageError("--retention-days and --enable-compression of `database init` are for TimescaleDB", {
      code: "CONFLICTING_OPTIONS",
    });
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
  const deletions = readDatasets(given).map((dataset) => ({ dataset, before }));
  const found = await withBackend(
    given,
    "create",
    (backend) => deleteOld(backend, deletions, { dryRun: true }),
  );
  const rows = Object.values(found).reduce((sum, rows) => sum + rows);
  if (rows === 0) return true;
  const what = `${formatThings(rows, "record", "records")} before ${isoTime(before)}`;
  if (!Deno.stdin.isTerminal()) {
    throw new UsageError(`that drops ${what} for good: pass --yes`, { code: "CONFIRMATION_REQUIRED" });
  }
  return ask(`Have the server drop ${what} from ${databaseName(given)} for good?`);
}
