/** The dashboard in a real browser. A machine without one says so in one line. */
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("dashboard_browser.ts", import.meta.url));

Deno.test("The dashboard in Chromium", async (t) => {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    // Without the lock file: what is in it, all who start the program download (80 MB).
    args: ["run", "-q", "-A", "--no-lock", "--no-check", "--unsafe-proto", PROGRAM],
  }).output();
  const lines = new TextDecoder().decode(stdout).split("\n").filter((line) => line.startsWith("{"));
  const found = lines.map((line) => JSON.parse(line) as { name?: string; error?: string; absent?: string });
  if (found.length === 0) throw new Error(new TextDecoder().decode(stderr));
  if (found[0].absent !== undefined) {
    return console.log(`No browser here, nothing checked: ${found[0].absent}`);
  }
  for (const { name = "", error } of found) {
    await t.step(name, () => {
      if (error !== undefined) throw new Error(error);
    });
  }
});
