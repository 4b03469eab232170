/** Runs the programs of docs/send.md against a server. */
import { assert, assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { openServer, type TestServer } from "./server.ts";

const GUIDE = Deno.readTextFileSync(new URL("../docs/send.md", import.meta.url));

/** Programs of the guide by the language of their block. */
function programIn(language: string): string {
  const [, text] = new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "ms").exec(GUIDE) ?? [];
  assert(text !== undefined, language);
  return text;
}

/** Runs a program of the guide twice, as a client that lost an answer does; undefined where there is none. */
async function runTwice(
  server: TestServer,
  { program, args }: { program: string; args: readonly string[] },
): Promise<string | undefined> {
  using folder = new TemporaryFolder();
  const env = { OPENFINOPS_URL: server.url.replace(/\/$/, ""), OPENFINOPS_TOKEN: "any", NO_COLOR: "1" };
  let out = "";
  for (let run = 0; run < 2; run++) {
    try {
      const result = await new Deno.Command(program, {
        args: [...args],
        cwd: folder.path,
        env,
        stdin: "null",
      }).output();
      const [stdout, stderr] = [result.stdout, result.stderr].map((bytes) => new TextDecoder().decode(bytes));
      assertEquals(result.code, 0, stdout + stderr);
      out = stdout;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      console.warn(`${program} is not installed; its program in docs/send.md was not run`);
      return undefined;
    }
  }
  return out;
}

Deno.test("docs/send.md: curl stores a cost once", async () => {
  await using server = await openServer();
  const { costs } = server.resources;
  const text = programIn("bash");
  if (await runTwice(server, { program: "bash", args: ["-euo", "pipefail", "-c", text] }) === undefined) {
    return;
  }
  await costs.flush();
  const found = await costs.entries.query();
  assertEquals(found.map(({ entryId, amount, currency }) => [entryId, amount, currency]), [
    ["backup-2026-11-30", "12.5", "USD"],
  ]);
});

Deno.test("docs/send.md: Python stores usage once, and prints what was refused", async () => {
  await using server = await openServer();
  const { costs } = server.resources;
  const out = await runTwice(server, { program: "python3", args: ["-c", programIn("python")] });
  if (out === undefined) return;
  assertEquals(out, "2 inputTokens INVALID_FIELD\n");
  await costs.flush();
  const [{ usageId, inputTokens, outputTokens }, ...more] = await costs.usage.query();
  assertEquals([usageId, inputTokens, outputTokens, more.length], ["call-1", 1_200, 350, 0]);
});

Deno.test("docs/send.md: JavaScript stores system metrics", async () => {
  await using server = await openServer();
  const { hub } = server.resources;
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("send.js"), programIn("js ignore"));
  await runTwice(server, { program: Deno.execPath(), args: ["run", "-A", "-q", folder.file("send.js")] });
  await hub.flush();
  const found = await hub.systemMetrics.query();
  assertEquals(found.map(({ nodeId, cpuUsage }) => [nodeId, cpuUsage]), Array(2).fill(["gpu-01", 41.2]));
});
