/** A process that is killed again and again while it writes by way of a spool. */
import "../../cli.ts"; // brings all that the processes need into the cache
import { TestDatabase } from "../postgres_server.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { Chance } from "./chance.ts";
import { killWriter } from "./scenarios.ts";

Deno.test("Spool loses and duplicates nothing in 50 kills with SQLite", async () => {
  using folder = new TemporaryFolder();
  await killWriter(new Chance(50), { connectionString: folder.sqlite(), kills: 50 });
});

Deno.test("Spool loses and duplicates nothing in 10 kills with PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  await killWriter(new Chance(10), { connectionString: database.url, kills: 10 });
});
