/** Full disks. */
import "../../cli.ts"; // brings all that the processes need into the cache
import { assertEquals } from "../assert.ts";
import { fillDisk } from "./scenarios.ts";

Deno.test("Spool blocks callers, raises an alarm and drains when its disk is full", async () => {
  assertEquals(await fillDisk("spool"), "done");
});

Deno.test("Spool drains when other files fill its disk", async () => {
  assertEquals(await fillDisk("shared"), "done");
});

Deno.test("SqliteBackend raises an alarm and loses nothing when its disk is full", async () => {
  assertEquals(await fillDisk("sqlite"), "done");
});

Deno.test("SqliteBackend deletes old records and gives space back on a full disk", async () => {
  assertEquals(await fillDisk("cleanup"), "done");
});
