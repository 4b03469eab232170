/**
 * Kills of an import that replaces a month of costs.
 *
 * @module
 */
import { openBackend } from "../../mod.ts";
import { currencyTotals } from "../../src/backends/currency_totals.ts";
import { assert, assertEquals } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import type { Chance } from "./chance.ts";
import { runOf } from "../command.ts";

const CLI = new URL("../../cli.ts", import.meta.url).href;
const ROWS = 8_000;
const HOUR_MS = 3_600_000;

/** Kills an import that replaces a month, at random moments: the old month is there, or the new one. */
export async function killImport(
  chance: Chance,
  { connectionString, kills }: { connectionString: string; kills: number },
): Promise<void> {
  using folder = new TemporaryFolder();
  for (const amount of [1, 2]) Deno.writeTextFileSync(folder.file(`${amount}.csv`), month(amount));
  const start = (amount: number) =>
    new Deno.Command(Deno.execPath(), {
      args: [...runOf(CLI), "database", "import", "costs"]
        .concat(folder.file(`${amount}.csv`), "--connection-string", connectionString),
      stdout: "null",
      stderr: "piped",
    });
  const begun = performance.now();
  assertEquals((await start(1).output()).code, 0);
  const wholeMs = performance.now() - begun;
  let amount = 1;
  for (let kill = 0; kill < kills; kill++) {
    const process = start(3 - amount).spawn();
    const timer = setTimeout(() => {
      try {
        process.kill("SIGKILL");
      } catch {
        // it has just ended by itself
      }
    }, chance.between(0, 1.2 * wholeMs));
    const { code, signal, stderr } = await process.output();
    clearTimeout(timer);
    assert(code === 0 || signal === "SIGKILL", new TextDecoder().decode(stderr));
    const found = await amountOf(connectionString);
    assert(code !== 0 || found === 3 - amount, "an import succeeded and stored nothing");
    amount = found;
  }
  assertEquals((await start(3 - amount).output()).code, 0);
  assertEquals(await amountOf(connectionString), 3 - amount);
}

/** The amount that every cost of the month has; it fails if they differ, or if one is missing or there twice. */
async function amountOf(connectionString: string): Promise<number> {
  const backend = await openBackend({ connectionString });
  try {
    const [{ total, count }, ...others] = await currencyTotals(backend);
    assertEquals([count, others.length], [ROWS, 0]);
    const amount = Number(total) / ROWS;
    assert(amount === 1 || amount === 2, `${total} is neither the old month nor the new one`);
    return amount;
  } finally {
    await backend.close();
  }
}

function month(amount: number): string {
  const start = Date.UTC(2026, 0);
  const rows = Array.from(
    { length: ROWS },
    (_, i) => `${start + (i % 700) * HOUR_MS},r${i % 97},c,${amount},USD\n`,
  );
  return `timestamp,resourceId,category,amount,currency\n${rows.join("")}`;
}
