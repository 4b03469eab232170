/**
 * Takes the screenshots of the dashboard in docs/images/, from a database that is the same each time.
 *
 * @module
 */
import { openBackend } from "../src/open_backend.ts";
import { ObservabilityHub } from "../src/hub.ts";
import { CostObservatory } from "../src/observatory.ts";
import { OPEN_ACCESS } from "../src/server/access.ts";
import { createApp } from "../src/server/app.ts";
import { serve } from "../src/server/serve.ts";
import { goTo, openBrowser, settle } from "../tests/browser.ts";
import { fillDashboard } from "../tests/dashboard_data.ts";

/** The time of the pictures: the middle of a month, so that there is a forecast. */
const NOW = Date.parse("2026-11-18T14:30:00Z");
const FOLDER = new URL("../docs/images/", import.meta.url);
/** Largest picture, in bytes: each clone of the repository has all of them. */
const MAX_BYTES = 100_000;

/** Pictures by name: address, and options of the window. */
const PICTURES: Readonly<Record<string, [address: string, options?: object]>> = {
  costs: ["#/costs", { viewport: { width: 1180, height: 900 } }],
  "costs-dark": ["#/costs?by=tags.team&theme=dark", { viewport: { width: 1180, height: 760 } }],
  budgets: ["#/budgets?anomaly=2", { viewport: { width: 1180, height: 880 } }],
  clusters: ["#/clusters?range=1d", { viewport: { width: 1180, height: 900 } }],
  node: ["#/clusters?range=1d&node=gpu-02&cluster=prod", { viewport: { width: 1180, height: 900 } }],
  models: ["#/models", { viewport: { width: 1180, height: 900 } }],
  data: ["#/data", { viewport: { width: 1180, height: 760 } }],
  phone: ["#/costs", { viewport: { width: 360, height: 740 } }],
};

async function main(): Promise<void> {
  const start = performance.now();
  Date.now = () => NOW + Math.round(performance.now() - start);
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  await fillDashboard(backend, { now: NOW, days: 120 });
  const hub = await ObservabilityHub.open({ backend });
  const costs = await CostObservatory.open({ backend });
  const app = createApp({ hub, costs, backend, config: {} }, { access: OPEN_ACCESS });
  const listening = await serve(app, { hostname: "127.0.0.1", port: 0 });
  await using browser = await openBrowser();
  await Deno.mkdir(FOLDER, { recursive: true });
  for (const [name, [address, options]] of Object.entries(PICTURES)) {
    const page = await browser.open({ colorScheme: "light", ...options });
    await page.addInitScript(`Date.now = () => ${NOW};`);
    await goTo(page, listening.url.href);
    await goTo(page, `${listening.url.href}${address}`);
    await settle(page);
    const picture: Uint8Array = await page.screenshot({ animations: "disabled" });
    if (picture.byteLength > MAX_BYTES) {
      throw new Error(`${name} has ${picture.byteLength} bytes. Make it smaller.`);
    }
    await Deno.writeFile(new URL(`dashboard-${name}.png`, FOLDER), picture);
    console.log(`${name}: ${picture.byteLength} bytes`);
  }
  await listening.close({ deadlineMs: 1_000 });
  await hub.close();
  await costs.close();
  await backend.close();
}

if (import.meta.main) await main();
