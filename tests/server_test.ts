import { assertEquals, assertMatch } from "./assert.ts";
import { openServer, PLACES, startServer } from "./server.ts";

Deno.test("serve answers /healthz in this process", async () => {
  await using server = await openServer();
  const { status, json, headers } = await server.send("/healthz");
  assertEquals([status, json()], [200, { status: "ok" }]);
  assertEquals(headers.get("cache-control"), "no-store");
});

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`openfinops serve starts on ${name} and ends with 0 on SIGTERM`, async () => {
    await using place = await open();
    const database = place.url === undefined ? ["--backend", "memory"] : ["--connection-string", place.url];
    await using server = await startServer(database, { cwd: place.folder.path });
    assertEquals((await server.send("/healthz")).status, 200);
    assertEquals(await server.stop(), 0);
    assertMatch(server.lines.at(-1)!, /^Stopped\. Stored 0 records\.$/);
  });
}

Deno.test("serve answers unknown paths and methods with JSON errors", async () => {
  await using server = await openServer();
  const missing = await server.send("/nope");
  assertEquals([missing.status, missing.json().error.code], [404, "NOT_FOUND"]);
  const wrong = await server.send("/healthz", { method: "DELETE" });
  assertEquals([wrong.status, wrong.json().error.code, wrong.headers.get("allow")], [
    405,
    "METHOD_NOT_ALLOWED",
    "GET",
  ]);
});
