import { PostgresBackend, type PostgresBackendOptions } from "../src/backends/postgres.ts";
import { backendContract } from "./backend_contract.ts";
import { TestDatabase } from "./postgres_server.ts";

const OPTIONS = {
  mode: "create",
  onConflict: "ignore",
  maxConnections: 5,
  statementTimeoutSeconds: 60,
} as const;

const open = (url: string, options: Partial<PostgresBackendOptions> = {}) =>
  PostgresBackend.open({ ...OPTIONS, connectionString: url, ...options });

backendContract("PostgresBackend", async ({ onConflict }) => {
  const database = await TestDatabase.create();
  const backend = await open(database.url, { onConflict });
  return {
    backend,
    async [Symbol.asyncDispose]() {
      await backend.close();
      await database[Symbol.asyncDispose]();
    },
  };
});
