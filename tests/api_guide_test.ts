/** Runs the programs of docs/api.md against a server. */
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { costEntry, TemporaryFolder } from "./fixtures.ts";
import { openServer } from "./server.ts";

Deno.test("docs/api.md: curl reads, manages and imports", async () => {
  const guide = Deno.readTextFileSync(new URL("../docs/api.md", import.meta.url));
  const blocks = [...guide.matchAll(/^```bash\n(.*?)^```$/gms)].map(([, text]) => text);
  await using server = await openServer();
  const timestamp = Date.UTC(2026, 10, 2);
  for (const entryId of ["a", "b"]) {
    await server.resources.costs.entries.add(
      costEntry({ entryId, timestamp, amount: "0.1", tags: { team: "nlp" } }),
    );
  }
  await server.resources.hub.systemMetrics.add({ timestamp, cpuUsage: 41.2 });
  using folder = new TemporaryFolder();
  const run = async (text: string) => {
    const { code, stdout, stderr } = await new Deno.Command("bash", {
      args: ["-euo", "pipefail", "-c", text],
      cwd: folder.path,
      env: { OPENFINOPS_URL: server.url.replace(/\/$/, ""), OPENFINOPS_TOKEN: "any", NO_COLOR: "1" },
      stdin: "null",
    }).output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assertEquals(code, 0, `${text}\n${out}${err}`);
    return out;
  };
  try {
    await run("curl --version");
  } catch {
    return console.warn("curl is not installed; the programs of docs/api.md were not run");
  }
  const out = await run(blocks.join("\n"));
  assertMatch(out, /"category":"[a-z]+","tags.team":"nlp"},"currency":"USD","total":"0.2"/);
  assertMatch(out, /count,cpuUsage.avg,cpuUsage.p95\n1,41.2,41.2$/m);
  assertMatch(out, /"entryId":"b".*"entryId":"a"/s);
  assertMatch(out, /"amount":"6000"/);
  assertMatch(out, /"after":"0.25"/);
  assert(!out.includes('"error"'), out);
});
