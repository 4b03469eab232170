/** Imports that are killed while they notify. */
import "../../cli.ts"; // brings all that the processes need into the cache
import { TemporaryFolder } from "../fixtures.ts";
import { Chance } from "./chance.ts";
import { killNotifier } from "./notifications.ts";

Deno.test("Outbox loses no notification in 6 kills, and repeats none under another key", async () => {
  using folder = new TemporaryFolder();
  await killNotifier(new Chance(28), { connectionString: folder.sqlite(), kills: 6 });
});
