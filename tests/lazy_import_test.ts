import { assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";

const MODULE = new URL("../src/lazy_import.ts", import.meta.url);

/** Modules that are available with these permissions: from JSR, from another host, from this checkout. */
async function atHand(permissions: string[]): Promise<boolean[]> {
  using folder = new TemporaryFolder();
  const program = `
    import { isAvailable } from ${JSON.stringify(MODULE.href)};
    const modules = ["https://jsr.io/@openfinops/telemetry/0.1.0/mod.ts", "https://example.com/mod.ts",
      ${JSON.stringify(MODULE.href)}];
    console.log(JSON.stringify(modules.map((module) => isAvailable(new URL(module)))));`;
  Deno.writeTextFileSync(folder.file("program.ts"), program);
  const args = ["run", "-q", "--no-prompt", ...permissions, folder.file("program.ts")];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args }).output();
  return JSON.parse(new TextDecoder().decode(stdout));
}

Deno.test("isAvailable() is true for JSR and for readable or importable modules", async () => {
  assertEquals(await atHand([]), [true, false, false]);
  assertEquals(await atHand(["--allow-read"]), [true, false, true]);
  assertEquals(await atHand(["--allow-import=example.com:443"]), [false, true, false]);
  assertEquals(await atHand(["-A"]), [true, true, true]);
});
