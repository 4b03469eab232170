/** Backends that fail, stop, fall silent and come back. */
import { TemporaryFolder } from "../fixtures.ts";
import { TestDatabase } from "../postgres_server.ts";
import { Chance } from "./chance.ts";
import {
  breakNetwork,
  closeInOutage,
  crashServer,
  endSessions,
  failServer,
  lockFile,
  outlastBuffers,
  poison,
} from "./scenarios.ts";

for (const spool of [false, true]) {
  const how = spool ? "with a spool" : "without a spool";

  Deno.test(`Pipeline loses and duplicates nothing when the server restarts, ${how}`, async () => {
    await crashServer(new Chance(1), { crashes: 2, spool });
  });

  for (const overflow of ["block", "drop-oldest", "drop-newest"] as const) {
    Deno.test(`Pipeline follows overflow ${overflow} when an outage fills the buffer, ${how}`, async () => {
      await outlastBuffers(new Chance(2), { overflow, spool });
    });
  }

  Deno.test(`Pipeline.close() accounts for every record during an outage, ${how}`, async () => {
    for (const seed of [3, 4, 5]) await closeInOutage(new Chance(seed), { spool });
  });
}

Deno.test("Pipeline loses and duplicates nothing when the network fails around COMMIT", async () => {
  await breakNetwork(new Chance(6), { faults: 12 });
});

Deno.test("Pipeline loses and duplicates nothing when sessions are terminated", async () => {
  await endSessions(new Chance(7), { forMs: 1_000 });
});

Deno.test("Pipeline loses and duplicates nothing when a server fails for unknown causes", async () => {
  for (const seed of [1, 2, 3]) await failServer(new Chance(seed), { forMs: 2_000 });
});

Deno.test("Pipeline loses and duplicates nothing when the SQLite file is locked", async () => {
  await lockFile(new Chance(8), { locks: 5 });
});

Deno.test("Pipeline isolates 1 % refused records in PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  const { url: connectionString } = database;
  await poison(new Chance(9), { connectionString, records: 2_000, share: 0.01, spool: true });
});

Deno.test("Pipeline isolates 1 % refused records in SQLite", async () => {
  using folder = new TemporaryFolder();
  await poison(new Chance(10), {
    connectionString: folder.sqlite(),
    records: 5_000,
    share: 0.01,
    spool: false,
  });
});

Deno.test("Pipeline isolates each record when all are refused", async () => {
  await using database = await TestDatabase.create();
  using folder = new TemporaryFolder();
  for (const connectionString of [database.url, folder.sqlite()]) {
    await poison(new Chance(11), { connectionString, records: 150, share: 1, spool: true });
  }
});
