import { fileURLToPath as fromFileUrl } from "node:url";
import { powerOf } from "../bench/growth.ts";
import type { Results } from "../bench/results.ts";
import { PAIRS } from "../bench/row.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { runOf } from "./command.ts";

const MAIN = fromFileUrl(new URL("../bench/main.ts", import.meta.url));

async function bench(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...runOf(MAIN), ...args],
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

Deno.test("bench measures pairs, or names the missing peer", async () => {
  using folder = new TemporaryFolder();
  const file = folder.file("results.json");
  const names = ["ingest-costs-sqlite", "collect-memory", "stream-sqlite"];
  const { code, stdout, stderr } = await bench(...names, "--rows", "2000", "--json", file);
  assertEquals(code, 0, stderr);
  const { rows }: Results = JSON.parse(Deno.readTextFileSync(file));
  assertEquals(rows.map(({ name }) => name), names);
  for (const { name, missing, ours, theirs, ratio, records } of rows) {
    if (missing !== undefined) {
      assertEquals([name.startsWith("ingest"), missing], [true, "this machine has no sqlite3"]);
      assertMatch(stdout, new RegExp(`${name} +not measured: this machine has no sqlite3`));
      continue;
    }
    assertEquals([records, ours!.length, theirs!.length], [2_000, PAIRS, PAIRS]);
    assert([...ours!, ...theirs!].every((seconds) => seconds > 0));
    assert(ratio!.least <= ratio!.median && ratio!.median <= ratio!.most);
    assertMatch(stdout, new RegExp(`${name} .*k/s to .*k/s: [\\d.]+ \\([\\d.]+–[\\d.]+\\)`));
  }
});

Deno.test("bench reports how time grows with the number of records", async () => {
  using folder = new TemporaryFolder();
  const file = folder.file("results.json");
  assertEquals((await bench("growth-memory", "--rows", "10000", "--json", file)).code, 0);
  const { growth: [{ points }] }: Results = JSON.parse(Deno.readTextFileSync(file));
  assertEquals(points!.map(({ records }) => records), [10, 30, 100, 300, 1_000, 3_000, 10_000]);
  assert(points!.every(({ seconds }) => seconds > 0));
});

Deno.test("powerOf() is 1 for linear and 2 for quadratic growth", () => {
  const points = (power: number) =>
    [10, 30, 100, 1_000].map((records) => ({ records, seconds: 0.5 * records ** power }));
  for (const power of [1, 2]) assertEquals(powerOf(points(power)).toFixed(6), power.toFixed(6));
});

Deno.test("bench lists rows by family and suggests the nearest name", async () => {
  const { stdout } = await bench("answers", "--list");
  const families = stdout.trim().split("\n").slice(1).map((line) => line.split(" ")[0]);
  assertEquals(new Set(families), new Set(["answers"]));
  const { code, stderr } = await bench("ingest-metric-sqlite");
  assertEquals(code, 2);
  assertMatch(stderr, /Unknown row "ingest-metric-sqlite"\. Did you mean "ingest-metrics-sqlite"\?/);
  assertEquals((await bench("--rows", "many")).code, 2);
});
