import { ObservabilityHub } from "../mod.ts";
import { assert, assertEquals } from "./assert.ts";
import { runOf } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";

const WRITERS = 4;
const RECORDS = 2_000;

/** A process that writes numbered records in many small batches. */
const program = (mod: string) => `
import { ObservabilityHub } from ${JSON.stringify(mod)};
const [connectionString, nodeId] = Deno.args;
const hub = await ObservabilityHub.open({ connectionString, batchSize: 10 });
for (let i = 0; i < ${RECORDS}; i++) {
  await hub.collectSystemMetrics({ timestamp: Date.now(), nodeId, activeConnections: i });
  if (i % 50 === 0) await hub.flush();
}
const { committed, lost } = await hub.close();
console.log(committed, lost);
`;

Deno.test("SqliteBackend loses and duplicates nothing with several new processes", async () => {
  using folder = new TemporaryFolder();
  const mod = new URL("../mod.ts", import.meta.url).href;
  Deno.writeTextFileSync(folder.file("writer.ts"), program(mod));
  const writers = Array.from({ length: WRITERS }, (_, i) =>
    new Deno.Command(Deno.execPath(), {
      args: [
        ...runOf(folder.file("writer.ts")),
        folder.sqlite(),
        `node-${i}`,
      ],
    }).output());
  for (const { code, stdout, stderr } of await Promise.all(writers)) {
    const decoder = new TextDecoder();
    assertEquals([code, decoder.decode(stdout)], [0, `${RECORDS} 0\n`], decoder.decode(stderr));
  }
  await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  for (let i = 0; i < WRITERS; i++) {
    const found = await hub.queryHistoricalMetrics({ clusterId: "default", nodeId: `node-${i}` });
    const numbers = found.map(({ activeConnections }) => activeConnections!).sort((a, b) => a - b);
    assertEquals(numbers, Array.from({ length: RECORDS }, (_, number) => number));
  }
});

Deno.test("SqliteBackend keeps its file when other processes open and close it", async () => {
  using folder = new TemporaryFolder();
  const mod = new URL("../mod.ts", import.meta.url).href;
  Deno.writeTextFileSync(folder.file("writer.ts"), program(mod));
  const hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  for (let round = 0; round < 2; round++) {
    await hub.collectSystemMetrics({ timestamp: Date.now(), nodeId: "here" });
    await hub.flush();
    assertEquals((await hub.queryHistoricalMetrics({ nodeId: "here" })).length, round + 1);
    // If the query had let go of a lock of this process, the other would remove the log that we write.
    const { code } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...runOf(folder.file("writer.ts")),
        folder.sqlite(),
        "there",
      ],
    }).output();
    assertEquals(code, 0);
  }
  await hub.collectSystemMetrics({ timestamp: Date.now(), nodeId: "here" });
  await hub.close();
  await using reader = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  assertEquals((await reader.queryHistoricalMetrics({ nodeId: "here" })).length, 3);
  assertEquals((await reader.queryHistoricalMetrics({ nodeId: "there" })).length, 2 * RECORDS);
});

Deno.test("SqliteBackend keeps flushed records when its process is killed", async () => {
  if (Deno.build.os === "windows") return; // has no SIGKILL to send
  using folder = new TemporaryFolder();
  const mod = new URL("../mod.ts", import.meta.url).href;
  Deno.writeTextFileSync(
    folder.file("endless.ts"),
    `import { ObservabilityHub } from ${JSON.stringify(mod)};
    const hub = await ObservabilityHub.open({ connectionString: Deno.args[0], batchSize: 10 });
    for (let i = 0;; i++) {
      await hub.collectSystemMetrics({ timestamp: Date.now(), activeConnections: i });
      if (i % 25 !== 24) continue;
      await hub.flush();
      console.log(i + 1);
    }`,
  );
  let flushed = 0;
  for (let kills = 1; kills <= 3; kills++) {
    const process = new Deno.Command(Deno.execPath(), {
      args: [...runOf(folder.file("endless.ts")), folder.sqlite()],
      stdout: "piped",
    }).spawn();
    const reports = process.stdout.pipeThrough(new TextDecoderStream());
    let seen = "";
    for await (const text of reports) {
      seen += text;
      if (seen.split("\n").length > 20 * kills) break;
    }
    process.kill("SIGKILL");
    await process.status;
    flushed += Number(seen.split("\n").at(-2));
    await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
    const found = (await hub.queryHistoricalMetrics()).length;
    assert(found >= flushed, `${flushed} flushed, ${found} found`);
    flushed = found; // what was committed beyond the last report is there as well, and stays
  }
  await using hub = await ObservabilityHub.open({ connectionString: folder.sqlite() });
  const numbers = (await hub.queryHistoricalMetrics()).map(({ activeConnections }) => activeConnections!);
  const times = new Map<number, number>();
  for (const number of numbers) times.set(number, (times.get(number) ?? 0) + 1);
  assert(
    [...times.values()].every((count) => count <= 3),
    "a record is there more often than it was collected",
  );
});
