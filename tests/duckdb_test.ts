import { DuckdbBackend } from "../src/backends/duckdb.ts";
import { backendContract } from "./backend_contract.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { useDuckdbLibrary } from "./duckdb_library.ts";

await useDuckdbLibrary();

backendContract("DuckdbBackend (file)", async ({ onConflict }) => {
  const folder = new TemporaryFolder();
  const backend = await DuckdbBackend.open({ path: folder.file("test.duckdb"), mode: "create", onConflict });
  return {
    backend,
    async [Symbol.asyncDispose]() {
      await backend.close();
      folder[Symbol.dispose]();
    },
  };
});
