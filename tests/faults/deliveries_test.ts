/** Imports of costs that are killed. */
import "../../cli.ts"; // brings all that the processes need into the cache
import { TemporaryFolder } from "../fixtures.ts";
import { TestDatabase } from "../postgres_server.ts";
import { Chance } from "./chance.ts";
import { killImport } from "./deliveries.ts";

Deno.test("Delivery leaves the old month or the new one in 6 kills with SQLite", async () => {
  using folder = new TemporaryFolder();
  await killImport(new Chance(6), { connectionString: folder.sqlite(), kills: 6 });
});

Deno.test("Delivery leaves the old month or the new one in 6 kills with PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  await killImport(new Chance(7), { connectionString: database.url, kills: 6 });
});
