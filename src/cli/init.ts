import { type PersistenceConfig, resolveConfig } from "../config.ts";
import type { Arguments } from "./arguments.ts";
import { type Command, CONNECTION_OPTIONS, databaseName, readConfig, withBackend } from "./command.ts";
import { print } from "./output.ts";
import { readNumber, UsageError } from "./usage.ts";

/** `openfinops database init` */
export const init: Command = {
  name: "database init",
  summary: "make the database and its tables, or bring them up to date",
  options: [
    ...CONNECTION_OPTIONS,
    {
      name: "retention-days",
      value: "N",
      summary: "TimescaleDB: from now on drop by itself what is older; `never` ends that",
    },
    { name: "enable-compression", summary: "TimescaleDB: from now on compress what is older than a week" },
  ],
  examples: [
    "openfinops database init --connection-string sqlite:///openfinops.db",
    "openfinops database init --connection-string timescaledb://localhost/telemetry --enable-compression",
  ],
  async run(given) {
    await withBackend(given, "create", async (backend) => {
      const { details } = await backend.probe();
      const version = details.schemaVersion === undefined ? "" : `, schema version ${details.schemaVersion}`;
      print(`Ready: ${databaseName(given)} (${backend.name}${version})`);
    }, readPolicies(given));
  },
};

/** What the server is to do by itself. */
function readPolicies(given: Arguments): PersistenceConfig {
  const days = given.text("retention-days");
  const enableCompression = given.has("enable-compression");
  const isAsked = days !== undefined || enableCompression;
  if (isAsked && resolveConfig(readConfig(given)).backend !== "timescaledb") {
    throw new UsageError("--retention-days and --enable-compression of `database init` are for TimescaleDB");
  }
  if (days === undefined) return { enableCompression };
  return {
    enableCompression,
    retentionDays: days === "never" ? Infinity : readNumber("retention-days", days),
  };
}
