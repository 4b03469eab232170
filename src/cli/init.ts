import { type Command, CONNECTION_OPTIONS, databaseName, withBackend } from "./command.ts";
import { print } from "./output.ts";

/** `openfinops database init` */
export const init: Command = {
  name: "database init",
  summary: "make the database and its tables, or bring them up to date",
  options: CONNECTION_OPTIONS,
  examples: ["openfinops database init --connection-string sqlite:///openfinops.db"],
  async run(given) {
    await withBackend(given, "create", async (backend) => {
      const { details } = await backend.probe();
      const version = details.schemaVersion === undefined ? "" : `, schema version ${details.schemaVersion}`;
      print(`Ready: ${databaseName(given)} (${backend.name}${version})`);
    });
  },
};
