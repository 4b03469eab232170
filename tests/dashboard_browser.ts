/**
 * Checks of the dashboard in Chromium, each a line of JSON on stdout. Run by `dashboard_browser_test.ts`.
 *
 * @module
 */
import axe from "axe-core/axe.min.js" with { type: "text" };
import { openBackend } from "../src/open_backend.ts";
import { TokenAccess } from "../src/server/access.ts";
import type { AppOptions } from "../src/server/app.ts";
import { ROUTES } from "../src/server/routes.ts";
import type { Scope } from "../src/server/route.ts";
import { createToken } from "../src/server/tokens.ts";
import { dateTime, money } from "../web/format.js";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { type Browser, evaluate, goTo, openBrowser, type Page, settle } from "./browser.ts";
import { fillDashboard } from "./dashboard_data.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { openServer, type TestServer } from "./server.ts";
import { until } from "./until.ts";

const HOSTILE = "<img src=x onerror=alert(1)>";
const CLI = new URL("../cli.ts", import.meta.url).pathname;
const PAGES = [
  "costs",
  "budgets",
  "clusters?range=1d",
  "clusters?range=1d&node=gpu-02&cluster=prod",
  "models",
  "data",
];

/** What a check may use. */
interface Place {
  readonly browser: Browser;
  readonly folder: TemporaryFolder;
  /** Address with the secret. */
  readonly url: string;
  /** Address without it. */
  readonly base: string;
  /** Opens a page that has the secret. */
  open(options?: object): Promise<Page>;
  /** Runs the command on the same database, and reads its JSON. */
  // deno-lint-ignore no-explicit-any
  command(...args: string[]): Promise<any>;
  /** Problems that a page had: errors, and requests to other hosts. */
  readonly problems: string[];
  /** The dashboard. */
  readonly server: Deno.ChildProcess;
}

const SINCE = new Date(Date.now() - 29 * 86_400_000).toISOString().slice(0, 10);

/** Amounts of a table by the text of the first cell: exact ones, and what is shown. */
async function amounts(page: Page, panel: string): Promise<Map<string, [exact: string, shown: string]>> {
  const rows = await page.locator(`section:has(h2:text-is("${panel}")) tbody tr`).evaluateAll((
    rows: Page[],
  ) =>
    rows.map((row) => {
      const cell = row.querySelector("data");
      return [row.cells[0].textContent, [cell.value, cell.textContent]];
    })
  );
  return new Map(rows);
}

/** Findings of axe-core about the page. */
async function findingsOf(page: Page): Promise<string[]> {
  await evaluate(page, `${axe}; undefined`);
  const { violations } = await evaluate<Page>(page, "axe.run(document, { resultTypes: ['violations'] })");
  return violations.map(({ id, nodes }: Page) => `${id}: ${nodes.map(({ html }: Page) => html).slice(0, 3)}`);
}

/** Access with one token, and its secret. */
function accessWith(scopes: Scope[]): { access: TokenAccess; secret: string } {
  const { token, secret } = createToken({ name: "ada", scopes });
  return { access: new TokenAccess({ isOpen: false, read: () => Promise.resolve([token]) }), secret };
}

/** Opens the page of budgets of a server, and types a token in. */
async function openBudgets(browser: Browser, server: TestServer, secret: string): Promise<Page> {
  const page = await browser.open();
  await page.goto(`${server.url}#/budgets`);
  await page.fill("form.token input", secret);
  await page.click("form.token button");
  return page;
}

/** Starts a server that has an active alert, of a node `n/1`. */
async function openWithAlert(options: Partial<AppOptions>): Promise<TestServer> {
  const server = await openServer({}, options);
  const { hub } = server.resources;
  await hub.setAlertRule({ name: "idle_gpu", field: "gpuUsage", below: 5, severity: "info" });
  await hub.systemMetrics.add({ timestamp: Date.now(), clusterId: "prod", nodeId: "n/1", gpuUsage: 1 });
  await hub.flush();
  await until(async () => (await hub.getAlerts()).length, "the alert to be stored");
  return server;
}

const CHECKS: Readonly<Record<string, (place: Place) => Promise<void>>> = {
  async "shows the numbers of costs summary, exact on hover"({ open, base, command }) {
    const page = await open();
    for (const [by, panel] of [["category", "By category"], ["tags.team", "By tags.team"]]) {
      await goTo(page, `${base}#/costs?by=${by}`);
      const found = await command("costs", "summary", "--since", SINCE, "--group-by", by, "--top", "8");
      const usd = found.currencies.find((each: Page) => each.currency === "USD" && each.basis === undefined);
      const rows = usd.breakdowns[0].rows;
      const shown = await amounts(page, panel);
      assertEquals(shown.size, rows.length);
      for (const { group, total } of rows) {
        const name = Object.values(group)[0] ?? "(none)";
        assertEquals(shown.get(String(name)), [total, money(total, "USD")]);
      }
      assertEquals(await page.locator(".card data").first().getAttribute("value"), usd.total);
      assertEquals(await page.locator(".card data").first().getAttribute("title"), `${usd.total} USD`);
    }
  },

  async "filters by a condition, drills down to entries, and keeps both in the address"(
    { open, base, command },
  ) {
    const page = await open();
    await goTo(page, `${base}#/costs`);
    await page.fill("#where", "tags.team=nlp");
    await page.press("#where", "Enter");
    await settle(page);
    assertMatch(page.url(), /where=tags\.team%3Dnlp/);
    const summary = await command("costs", "summary", "--since", SINCE, "--where", "tags.team=nlp");
    const usd = summary.currencies.find((each: Page) => each.currency === "USD" && each.basis === undefined);
    assertEquals(await page.locator(".card data").first().getAttribute("value"), usd.total);
    await page.click('section:has(h2:text-is("By category")) a:text-is("Networking")');
    await settle(page);
    await page.click("#entries");
    await settle(page);
    const where = [
      "--where",
      "tags.team=nlp",
      "--where",
      "category=Networking",
      "--where",
      "basis!=estimated",
    ];
    const entries = await command("database", "query", "costs", "--since", SINCE, ...where, "--limit", "50");
    const shown = await page.locator('section:has(h2:text-is("Entries")) tbody data').evaluateAll((
      cells: Page[],
    ) => cells.map(({ value }) => value));
    assertEquals(shown, entries.map(({ amount }: { amount: string }) => amount));
    const all = () =>
      page.locator("section:not(.plain) data").evaluateAll((cells: Page[]) =>
        cells.map(({ value }) => value)
      );
    const before = await all();
    await page.reload();
    await settle(page);
    assertEquals(await all(), before);
    await page.goBack();
    await settle(page);
    assertEquals(await page.locator("#entries").count(), 1);
    await page.click('.chips button[aria-label*="Networking"]');
    await settle(page);
    assertEquals(await page.locator(".chips li").count(), 1);
  },

  async "keeps a hostile tag as text"({ open, base }) {
    const page = await open();
    await goTo(page, `${base}#/costs?by=tags.env&entries=1`);
    assertEquals(await page.locator(`a:text-is("${HOSTILE}")`).count(), 1);
    assertEquals(await page.locator("main img").count(), 0);
    await page.click(`a:text-is("${HOSTILE}")`);
    await settle(page);
    assert((await page.locator(".chips li").first().innerText()).includes(HOSTILE));
    assertEquals(await page.locator("img").count(), 0);
  },

  async "tells about a bar under the arrow keys, and opens it"({ open, base }) {
    const page = await open();
    await goTo(page, `${base}#/costs`);
    await page.focus(".chart-box");
    for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowRight");
    const day = new Date(Date.parse(SINCE) + 2 * 86_400_000).toISOString().slice(0, 10);
    assertMatch(await page.locator("#tip").innerText(), new RegExp(`^${day} · [\\d.]+ USD`));
    await page.keyboard.press("Enter");
    await settle(page);
    assertMatch(page.url(), new RegExp(`range=${day}\\.\\.`));
  },

  async "saves the groups as CSV"({ open, base }) {
    const page = await open();
    await goTo(page, `${base}#/costs?by=tags.env`);
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.click('button:text-is("Save CSV")'),
    ]);
    const [header, ...lines] = Deno.readTextFileSync(await download.path()).trim().split("\r\n");
    assertEquals(header, "tags.env,currency,basis,total,share,previousTotal,change,count");
    const shown = await amounts(page, "By tags.env");
    assertEquals(
      lines.map((line) => [line.split(",")[0], line.split(",")[3]]),
      [...shown].map(([name, [exact]]) => [name, exact]),
    );
  },

  async "is dark where the system or the address says so"({ open, base }) {
    const background = (page: Page) => evaluate(page, "getComputedStyle(document.body).backgroundColor");
    const dark = await open({ colorScheme: "dark" });
    await goTo(dark, `${base}#/costs`);
    assertEquals(await background(dark), "rgb(18, 22, 29)");
    const light = await open({ colorScheme: "light" });
    await goTo(light, `${base}#/costs`);
    assertEquals(await background(light), "rgb(246, 247, 249)");
    await light.selectOption("#theme", "dark");
    await settle(light);
    assertEquals([await background(light), /theme=dark/.test(light.url())], ["rgb(18, 22, 29)", true]);
  },

  async "fits a window of 360 px"({ open, base }) {
    const page = await open({ viewport: { width: 360, height: 740 } });
    for (const name of PAGES) {
      await goTo(page, `${base}#/${name}`);
      assertEquals(await evaluate(page, "document.documentElement.scrollWidth"), 360, name);
    }
  },

  async "has no finding of axe-core, light and dark"({ open, base }) {
    for (const theme of ["light", "dark"]) {
      const page = await open();
      for (const name of [...PAGES, "costs?by=tags.env&entries=1&where=amount%3E1"]) {
        await goTo(page, `${base}#/${name}${name.includes("?") ? "&" : "?"}theme=${theme}`);
        assertEquals(await findingsOf(page), [], `${theme} ${name}`);
      }
    }
  },

  async "runs no code from markup: the policy holds"({ browser, url }) {
    const page = await browser.open(); // what the policy blocks is on its console
    await goTo(page, url);
    const blocked = await page.evaluate(() => {
      // deno-lint-ignore no-explicit-any
      const { document } = globalThis as any;
      const found: string[] = [];
      const all = new Promise((resolve) =>
        document.addEventListener("securitypolicyviolation", ({ effectiveDirective }: Page) => {
          if (found.push(effectiveDirective) === 2) resolve([...found, document.title]);
        })
      );
      const script = document.createElement("script");
      script.textContent = "document.title = 'run'";
      document.body.append(script);
      const style = document.createElement("style");
      style.textContent = "body { color: red }";
      document.body.append(style);
      // Both take effect at once where they are allowed. Else there is an event for each.
      const isRed = getComputedStyle(document.body).color === "rgb(255, 0, 0)";
      return document.title === "run" || isRed ? "not blocked" : all;
    });
    assertEquals(blocked, ["script-src-elem", "style-src-elem", "Costs · OpenFinOps"]);
  },

  async "asks for a token where it has none"({ browser, base, url }) {
    const page = await browser.open();
    await page.goto(base);
    await page.waitForSelector("form.token");
    assertMatch(await page.locator("form.token").innerText(), /This server asks for a token/);
    await page.fill("form.token input", url.split("token=")[1]);
    await page.click("form.token button");
    await settle(page);
    assertEquals(await page.locator("form.token").count(), 0);
  },

  async "acknowledges an alert with an admin token that is typed in"({ browser }) {
    const { access, secret } = accessWith(["read", "admin"]);
    await using server = await openWithAlert({ access });
    const page = await openBudgets(browser, server, secret);
    await page.click('button:text-is("Acknowledge")');
    await page.waitForSelector('td:text-matches("^by ")');
    const [{ acknowledgedAt }] = await server.resources.hub.getAlerts();
    assert(acknowledgedAt !== undefined);
    await page.close();
  },

  async "acknowledges an anomaly with an admin token, for all who look"({ browser }) {
    const { access, secret } = accessWith(["read", "admin"]);
    await using server = await openServer({}, { access });
    const { costs } = server.resources;
    const today = Math.floor(Date.now() / 86_400_000) * 86_400_000;
    for (let day = -45; day < 0; day++) {
      await costs.addCostEntry({
        entryId: String(day),
        timestamp: today + day * 86_400_000,
        resourceId: "a",
        category: "compute",
        amount: day === -5 ? "500" : "10",
      });
    }
    const panel = 'section:has(h2:text-is("Anomalies"))';
    for (const isFirst of [true, false]) {
      const page = await openBudgets(browser, server, secret);
      if (isFirst) await page.click(`${panel} tr:has-text("high") button:text-is("Acknowledge")`);
      await page.waitForSelector(`${panel} tr:has-text("high") td:text-matches("^by ")`);
      await page.close();
    }
  },

  async "says as of when the figures are, which answers that were kept do not change"({ browser }) {
    await using server = await openServer({}, {});
    const page = await browser.open();
    const asOf = () => page.locator("#as-of").innerText();
    for (const [age, zone] of [[0, "UTC"], [7_200, "Asia/Tokyo"]] as const) {
      await page.route("**/api/v1/views/budgets*", async (route: Page) => {
        const response = await route.fetch();
        await route.fulfill({ response, headers: { ...response.headers(), age: String(age) } });
      });
      const before = Date.now();
      await goTo(page, `${server.url}#/budgets?zone=${zone}`);
      const [first, last] = [before, Date.now()].map((time) =>
        `As of ${dateTime(time - age * 1_000, zone)} (${zone})`
      );
      const shown = await asOf();
      assert(shown >= first && shown <= last, `${shown} is not from ${first} to ${last}`);
      await page.unroute("**/api/v1/views/budgets*");
    }
    await page.close();
  },

  async "shows the most used of many budgets, with any name, in a narrow window and by the keyboard"(
    { browser },
  ) {
    await using server = await openServer({}, {});
    const { costs } = server.resources;
    const names = [HOSTILE, "very-long-name-".repeat(17), "ميزانية البحث", "abc\u202Egnirts", "🚀🔥", "東京"];
    const currencies = ["USD", "EUR", "JPY", "KWD", "GBP", "CHF"];
    for (let i = 0; i < 40; i++) {
      await costs.createBudget({
        budgetId: `b${i}`,
        name: names[i] ?? `team ${i}`,
        amount: i === 0 ? "0.000001" : i === 39 ? "123456789012345678" : String(1_000 + i),
        currency: currencies[i % 6],
        period: i === 1 ? "1d" : "1mo",
      });
    }
    for (const [i, currency] of currencies.entries()) {
      await costs.addCostEntry({
        entryId: currency,
        timestamp: Date.now(),
        resourceId: names[i],
        category: names[i],
        amount: i === 4 ? "-12.5" : "500",
        currency,
      });
    }
    await costs.flush();
    const page = await browser.open({ viewport: { width: 360, height: 740 } });
    for (const name of ["budgets", "costs?entries=1", "costs?by=resourceId&money=KWD"]) {
      await goTo(page, `${server.url}#/${name}`);
      assertEquals(await evaluate(page, "document.documentElement.scrollWidth"), 360, name);
      assertEquals(await findingsOf(page), [], name);
    }
    await goTo(page, `${server.url}#/budgets`);
    const charts = page.locator(".budget h3");
    assertEquals([await charts.count(), await page.locator("main img").count()], [12, 0]);
    assert((await charts.first().innerText()).startsWith(HOSTILE)); // it is used the most
    const link = page.locator('a:text-is("team 38")');
    await link.focus();
    await page.keyboard.press("Enter");
    await settle(page);
    assert((await charts.first().innerText()).startsWith("team 38"));
    assertEquals(await evaluate(page, "[scrollY, document.activeElement.id].join()"), "0,main");
    await page.close();
  },

  async "shows the commands that acknowledge, and no button, where it only reads"({ browser, url }) {
    await using server = await openWithAlert({ routes: ROUTES.filter(({ method }) => method === "GET") });
    const page = await browser.open(); // of two hosts
    await page.goto(url);
    await settle(page);
    for (
      const [base, title, command] of [
        [new URL("/", url).href, "Anomalies", "costs ack ID"],
        [server.url, "Active alerts", "alerts ack ID"],
      ]
    ) {
      await goTo(page, `${base}#/budgets`);
      assertEquals(await page.locator('button:text-is("Acknowledge")').count(), 0);
      const panel = page.locator(`section:has(h2:text-is("${title}"))`);
      assert(await panel.locator("tbody tr").count() > 0, title);
      assertMatch(await panel.innerText(), new RegExp(`only reads.*openfinops ${command} acknowledges`));
    }
    await page.close();
  },

  async "says what the server answers where the token may not acknowledge"({ browser }) {
    const { access, secret } = accessWith(["read"]);
    await using server = await openWithAlert({ access });
    const page = await openBudgets(browser, server, secret);
    await page.click('button:text-is("Acknowledge")');
    await page.waitForSelector("#notice:not([hidden])");
    const shown = await page.locator("#notice").innerText();
    const [{ alertId }] = await server.resources.hub.getAlerts();
    const command = `On the command line: openfinops alerts ack ${alertId}`;
    assertEquals(shown, `The token lacks the scope admin. Use one that has it. ${command}`);
    await page.close();
  },

  async "ends the requests of a page that is left"({ open, base }) {
    const page = await open();
    await goTo(page, `${base}#/data`);
    const ended: string[] = [];
    page.on("requestfailed", (request: Page) => ended.push(new URL(request.url()).pathname));
    await page.route("**/api/v1/views/costs*", () => {}); // never answered
    const asked = page.waitForRequest(/views\/costs/);
    await evaluate(page, "location.hash = '#/costs'");
    await asked;
    await goTo(page, `${base}#/models`);
    assert(ended.includes("/api/v1/views/costs"), ended.join());
  },

  async "waits where the server is busy, and then shows the answer"({ open, base, problems }) {
    const page = await open();
    await goTo(page, `${base}#/data`);
    let asked = 0;
    await page.route("**/api/v1/views/models*", (route: Page) => {
      if (++asked > 1) return route.continue();
      const body = JSON.stringify({
        error: { code: "SERVER_BUSY", message: "The server is busy. Try again." },
      });
      return route.fulfill({ status: 503, headers: { "retry-after": "1" }, body });
    });
    await goTo(page, `${base}#/models`);
    assertEquals([asked, await page.locator(".failure").count()], [2, 0]);
    problems.splice(0, problems.length, ...problems.filter((problem) => !/status of 503/.test(problem)));
  },

  async "says the next command where there is nothing, and where the server is gone"(
    { open, base, server, problems },
  ) {
    const page = await open();
    await goTo(page, `${base}#/costs?range=2020-01`);
    assertMatch(
      await page.locator("main").innerText(),
      /No costs in this range\. Run openfinops database import costs FILE\./,
    );
    server.kill("SIGTERM");
    await server.status;
    await evaluate(page, "location.hash = '#/models'");
    await settle(page);
    assertMatch(await page.locator("main").innerText(), /The server does not answer.*openfinops dashboard/s);
    const refused = /ERR_CONNECTION_REFUSED/;
    problems.splice(0, problems.length, ...problems.filter((problem) => !refused.test(problem)));
  },

  // deno-lint-ignore require-await
  async "had no error on the console, and no request to another host"({ problems }) {
    assertEquals(problems, []);
  },
};

/** Starts the dashboard, and returns its process and address. */
async function startDashboard(connectionString: string): Promise<{ server: Deno.ChildProcess; url: string }> {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["run", "-q", "-A", CLI, "dashboard", "--port", "0", "--connection-string", connectionString],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  for await (const text of server.stdout.pipeThrough(new TextDecoderStream())) {
    if (text.includes("#token=")) return { server, url: text.trim() };
  }
  throw new Error("The dashboard did not start.");
}

function tell(line: object): void {
  console.log(JSON.stringify(line));
}

async function main(): Promise<void> {
  let browser: Browser;
  try {
    browser = await openBrowser();
  } catch (error) {
    return tell({ absent: String(error).split("\n")[0] });
  }
  await using _browser = browser;
  using folder = new TemporaryFolder();
  const database = folder.sqlite("dashboard.db");
  const backend = await openBackend({ connectionString: database });
  await fillDashboard(backend, { now: Date.now(), days: 90, tag: HOSTILE });
  await backend.close();
  const { server, url } = await startDashboard(database);
  const base = new URL("/", url).href;
  const problems: string[] = [];
  const place: Place = {
    browser,
    folder,
    url,
    base,
    server,
    problems,
    async open(options) {
      const page = await browser.open(options);
      page.on("console", (message: Page) => {
        if (["error", "warning"].includes(message.type())) problems.push(message.text());
      });
      page.on("pageerror", (error: Error) => problems.push(error.message));
      page.on("dialog", (dialog: Page) => problems.push(`dialog ${dialog.message()}`));
      page.on("request", (request: Page) => {
        const to = request.url();
        if (!to.startsWith(base) && !to.startsWith("blob:")) problems.push(`request to ${to}`);
      });
      await page.goto(url);
      await settle(page);
      return page;
    },
    async command(...args) {
      const { stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-q", "-A", CLI, ...args, "--format", "json", "--connection-string", database],
      }).output();
      return JSON.parse(new TextDecoder().decode(stdout));
    },
  };
  for (const [name, check] of Object.entries(CHECKS)) {
    const error = await check(place).then(() => undefined, (error) => String(error?.stack ?? error));
    tell({ name, ...(error === undefined ? {} : { error }) });
  }
}

if (import.meta.main) await main();
