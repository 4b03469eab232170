import { CitusBackend } from "../src/backends/citus.ts";
import { backendContract } from "./backend_contract.ts";
import { CitusDatabase, citusVersion } from "./citus_cluster.ts";

/** Without Citus these are not run, and `tests/run.ts` says why. */
const isPresent = (await citusVersion()).version !== undefined;

const OPTIONS = {
  mode: "create",
  onConflict: "ignore",
  maxConnections: 5,
  statementTimeoutSeconds: 60,
} as const;

if (isPresent) {
  backendContract("CitusBackend", async ({ onConflict }) => {
    const database = await CitusDatabase.create();
    const backend = await CitusBackend.open({ ...OPTIONS, connectionString: database.url, onConflict });
    return {
      backend,
      async [Symbol.asyncDispose]() {
        await backend.close();
        await database[Symbol.asyncDispose]();
      },
    };
  });
}
