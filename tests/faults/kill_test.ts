/** A process that is killed again and again while it writes by way of a spool. */
import "../../cli.ts"; // brings all that the processes need into the cache
import { TestDatabase } from "../postgres_server.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { Chance } from "./chance.ts";
import { killWriter } from "./scenarios.ts";

Deno.test("a process that is killed 50 times with a spool loses and doubles nothing in SQLite", async () => {
  using folder = new TemporaryFolder();
  await killWriter(new Chance(50), { connectionString: folder.sqlite(), kills: 50 });
});

Deno.test("a process that is killed 10 times with a spool loses and doubles nothing in PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  await killWriter(new Chance(10), { connectionString: database.url, kills: 10 });
});
