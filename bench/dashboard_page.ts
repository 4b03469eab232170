/**
 * Fills a database with 12 months, or measures the first page of the dashboard in Chromium. Run with `--no-lock`, as the
 * browser is in no lock file.
 *
 * @module
 */
import { openBackend } from "../src/open_backend.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { openBrowser, settle } from "../tests/browser.ts";
import { datasetOf, type Measured, recordAt } from "./records.ts";

const YEAR_MS = 365 * 86_400_000;
const BATCH = 10_000;
const CLI = new URL("../cli.ts", import.meta.url).href;

/** Fills a database: of ten records five are metrics of nodes and devices each, one a cost and one a use. */
async function fill(connectionString: string, metrics: number): Promise<void> {
  const counts: Record<Measured, number> = {
    system_metrics: metrics / 2,
    device_metrics: metrics / 2,
    cost_entries: metrics / 5,
    usage_records: metrics / 5,
  };
  const backend = await openBackend({ connectionString });
  const end = Date.now();
  for (const [name, records] of Object.entries(counts) as [Measured, number][]) {
    const dataset = datasetOf(name);
    for (let first = 0; first < records; first += BATCH) {
      const size = Math.min(BATCH, records - first);
      const made = Array.from({ length: size }, (_, i) => {
        const timestamp = Math.floor(end - YEAR_MS * (1 - (first + i + 1) / records));
        return acceptRecord(dataset, { ...recordAt(name, first + i) as object, timestamp });
      });
      await backend.write({ id: `${name}-${first}`, dataset, records: made });
    }
  }
  await backend.close();
}

/** Seconds from opening the address until the whole page is drawn; each time by a new server, whose cache is empty. */
async function measure(connectionString: string): Promise<number> {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", CLI, "dashboard", "--port", "0", "--connection-string", connectionString],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  await using browser = await openBrowser();
  const page = await browser.open();
  try {
    for await (const text of server.stdout.pipeThrough(new TextDecoderStream())) {
      if (!text.includes("#token=")) continue;
      const start = performance.now();
      await page.goto(text.trim());
      await settle(page);
      return (performance.now() - start) / 1_000;
    }
    throw new Error("The dashboard did not start.");
  } finally {
    server.kill("SIGTERM");
    await server.status;
  }
}

if (import.meta.main) {
  const [what, connectionString, metrics] = Deno.args;
  if (what === "fill") await fill(connectionString, Number(metrics));
  else console.log(await measure(connectionString));
}
