/** Full disks. */
import "../../cli.ts"; // brings all that the processes need into the cache
import { assertEquals } from "../assert.ts";
import { fillDisk } from "./scenarios.ts";

Deno.test("a full disk under the spool makes callers wait, raises an alarm and drains by itself", async () => {
  assertEquals(await fillDisk("spool"), "done");
});

Deno.test("a disk that others have filled under the spool drains by itself, and takes what waits", async () => {
  assertEquals(await fillDisk("shared"), "done");
});

Deno.test("a full disk under SQLite raises an alarm and loses nothing", async () => {
  assertEquals(await fillDisk("sqlite"), "done");
});
