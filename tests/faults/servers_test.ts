import { assert } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { TestDatabase } from "../postgres_server.ts";
import { Chance } from "./chance.ts";
import { killAgents, killServers } from "./servers.ts";

Deno.test("openfinops serve stores each acknowledged record once in 4 kills with SQLite", async () => {
  using folder = new TemporaryFolder();
  const { records } = await killServers(new Chance(30), { connectionString: folder.sqlite(), kills: 4 });
  assert(records > 0, "no request was answered");
});

Deno.test("two servers store each acknowledged record once in 4 kills with PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  const { records } = await killServers(new Chance(31), {
    connectionString: database.url,
    servers: 2,
    kills: 4,
  });
  assert(records > 0, "no request was answered");
});

Deno.test("collect --send stores each journaled sample once when it and the server are killed", async () => {
  using folder = new TemporaryFolder();
  const { journaled } = await killAgents(new Chance(32), { connectionString: folder.sqlite(), kills: 3 });
  assert(journaled > 0, "no sample was in a journal");
});
