import { EXAMPLES } from "../src/cli/examples.ts";
import { assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";

for (const { topic, code } of EXAMPLES) {
  Deno.test(`database examples ${topic} runs as it is printed`, async () => {
    using folder = new TemporaryFolder();
    // Before it is published, the name of the package means this checkout.
    const mod = new URL("../mod.ts", import.meta.url).href;
    Deno.writeTextFileSync(folder.file("example.ts"), code.replace("jsr:@openfinops/telemetry", mod));
    const { code: exit, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-q", "-A", "--cached-only", "--check", "example.ts"],
      cwd: folder.path,
    }).output();
    assertEquals(exit, 0, new TextDecoder().decode(stderr));
    assertEquals(stdout.length > 0, true);
  });
}
