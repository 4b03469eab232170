/** Files of the dashboard and who may read through it. What it shows is tested in a browser, in `dashboard_browser_test.ts`. */
import { burnDown, burnDownChart } from "../web/budgets.js";
import { lines as drawLines } from "../web/charts.js";
import { money, percent, roundMoney as roundOnPage, short } from "../web/format.js";
import { rangeParams, readState, writeState } from "../web/state.js";
import { h, toHtml } from "../web/tree.js";
import { roundMoney } from "../src/records/currency.ts";
import { WEB_FILES } from "../src/server/web_routes.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { Chance } from "./faults/chance.ts";
import { RUN } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { openServer, send } from "./server.ts";
import { ObservabilityHub } from "../mod.ts";

const WEB = new URL("../web/", import.meta.url);

Deno.test("The dashboard serves each file of web/ and uPlot, with a strict policy", async () => {
  await using server = await openServer();
  const names = [...Deno.readDirSync(WEB)].map(({ name }) => name);
  assertEquals(
    Object.keys(WEB_FILES).toSorted(),
    [...names, "read_only.html", "uplot.css", "uplot.js"].toSorted(),
  );
  let zipped = 0;
  for (const name of Object.keys(WEB_FILES)) {
    const path = name === "index.html" ? "/" : `/web/${name}`;
    const { status, headers, text } = await server.send(path);
    assertEquals([status, text], [200, WEB_FILES[name]], name);
    assertMatch(headers.get("content-security-policy")!, /^default-src 'self';(?!.*unsafe)/);
    const again = await server.send(path, { headers: { "if-none-match": headers.get("etag")! } });
    assertEquals([again.status, again.text], [304, ""], name);
    const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
    zipped += (await new Response(stream).arrayBuffer()).byteLength;
  }
  assert(zipped < 120_000, `${zipped} bytes gzipped`);
  assertEquals((await server.send("/web/nothing.js")).status, 404);
  assertEquals((await server.send("/web/toString")).status, 404);
});

Deno.test("The dashboard names no other host, and no inline script or style", () => {
  for (const [name, text] of Object.entries(WEB_FILES)) {
    if (name.startsWith("uplot")) continue;
    const others = [...text.matchAll(/https?:\/\/([\w.-]+)/g)].map(([, host]) => host);
    assertEquals(others.filter((host) => !["localhost", "www.w3.org"].includes(host)), [], name);
    assert(!/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(/.test(text), name);
  }
  assert(!/<style|style=|<script(?![^>]*src=)|\son\w+=/.test(WEB_FILES["index.html"]));
});

Deno.test("openfinops dashboard only reads, and only with the secret of its address", async () => {
  using folder = new TemporaryFolder();
  await (await ObservabilityHub.open({ connectionString: folder.sqlite() })).close();
  await using server = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "dashboard", "--port", "0", "--connection-string", folder.sqlite()],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let page = "";
  for await (const text of server.stdout.pipeThrough(new TextDecoderStream())) {
    page += text;
    if (page.includes("\n")) break;
  }
  const [, secret] = /#token=(\S+)/.exec(page)!;
  const ask = async (method: string, token?: string) => {
    const headers: HeadersInit = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const { status } = await send(new URL("/api/v1/costs", page.trim()), { method, headers });
    return status;
  };
  assertEquals(await ask("GET", secret), 200);
  assertEquals([await ask("GET"), await ask("GET", secret.slice(1))], [401, 401]);
  assertEquals(await ask("POST", secret), 405);
  const isReadOnly = async (url: string) => /^<html.* data-read-only/m.test((await send(url)).text);
  await using writing = await openServer();
  assertEquals([await isReadOnly(page.split("#")[0]), await isReadOnly(writing.url)], [true, false]);
});

Deno.test("The dashboard rounds money as the command does", () => {
  const chance = new Chance(11);
  const currencies = ["USD", "JPY", "KWD", "credits"];
  for (let round = 0; round < 5_000; round++) {
    const [units, digits] = [chance.between(0, 4) * chance.between(0, 10_000), chance.between(0, 19)];
    const fraction = Array.from({ length: digits }, () => chance.between(0, 10) * chance.between(0, 2)).join(
      "",
    )
      .replace(/0+$/, "");
    const amount = `${chance.between(0, 3) === 0 ? "-" : ""}${units}${fraction && `.${fraction}`}`;
    const currency = currencies[chance.between(0, 4)];
    assertEquals(roundOnPage(amount, currency), roundMoney(amount, currency), `${amount} ${currency}`);
  }
  assertEquals(money("-1234567.891", "USD"), "-1,234,567.89");
  assertEquals([short(-1.5e17), short(999e12), percent(1e6), percent(101.25)], [
    "-1.5e17",
    "999T",
    "1M %",
    "101.3 %",
  ]);
});

Deno.test("The dashboard keeps its whole state in the address", () => {
  const state = {
    page: "costs",
    range: "2026-10",
    zone: "Europe/Berlin",
    by: "tags.team",
    where: ['tags.env="a&b=c"', "amount>1"],
    money: "USD estimated",
    theme: "dark",
    live: true,
    more: { entries: "1" },
  };
  assertEquals(readState(writeState(state)), state);
  assertEquals(writeState(readState("")), "#/costs");
  assertEquals(readState("#/costs?zone=nowhere").zone, "UTC");
});

Deno.test("Ranges of the dashboard begin at midnight of the zone", () => {
  const now = Date.parse("2026-11-30T23:30:00Z"); // already December in Berlin
  const of = (range: string, zone = "UTC") => rangeParams({ range, zone }, now);
  assertEquals(of("30d"), { since: "2026-11-01", "time-zone": "UTC" });
  assertEquals(of("7d", "Europe/Berlin"), { since: "2026-11-25", "time-zone": "Europe/Berlin" });
  assertEquals(of("last-month"), { during: "last-month", "time-zone": "UTC" });
  assertEquals(of("2026-10-01..2026-10-05"), {
    since: "2026-10-01",
    until: "2026-10-05",
    "time-zone": "UTC",
  });
});

Deno.test("Trees of the dashboard keep hostile text as text", () => {
  const text = '<img src=x onerror=alert(1)>"&';
  assertEquals(
    toHtml(h("td", { title: text, onclick: () => {}, hidden: false }, text, null, [h("br")])),
    '<td title="&lt;img src=x onerror=alert(1)&gt;&quot;&amp;">&lt;img src=x onerror=alert(1)&gt;&quot;&amp;<br></td>',
  );
});

Deno.test("Charts show a value without neighbors, and no two labels of lines on one another", () => {
  const series = [{ name: "left", color: 0, values: [null, 5, null] }];
  const lines = [50, 40, 0].map((value) => ({ value, label: `at ${value}` }));
  const chart = toHtml(drawLines({ labels: ["a", "b", "c"], title: "t", series, lines }));
  assert(/d="M[\d.]+ [\d.]+m-3 0a3 3/.test(chart), chart);
  assertEquals([...chart.matchAll(/at \d+/g)].map(String), ["at 0", "at 40", "at 50"]);
  const far = toHtml(drawLines({
    labels: ["a"],
    title: "t",
    series: [{ name: "left", color: 0, values: [5_000] }],
    lines,
  }));
  assertEquals([...far.matchAll(/at \d+/g)].map(String), ["at 0"]);
});

Deno.test("A burn-down tells days whose costs may still come from complete ones", () => {
  const DAY = 86_400_000;
  const start = Date.UTC(2026, 10, 1);
  const budget = {
    startTime: start,
    endTime: start + 30 * DAY,
    amount: "300",
    spent: "50",
    dataEnd: start + 5 * DAY,
    days: [0, 1, 2, 3, 4].map((day) => ({ startTime: start + day * DAY, total: 10 })),
    timeZone: "UTC",
  };
  const late = burnDown(budget, start + 8 * DAY + 1);
  assertEquals(late.left.slice(3, 10), [260, 250, null, null, null, null, null]);
  assertEquals(late.late!.slice(3, 10), [null, 250, 250, 250, 250, 250, null]);
  const onTime = burnDown(budget, start + 5 * DAY + 1); // today is not over, so it is not late
  assertEquals([onTime.late, onTime.left.slice(4, 7)], [undefined, [250, 250, null]]);
  assertMatch(toHtml(burnDownChart(budget, { now: start + 8 * DAY })), /late costs to come/);
});
