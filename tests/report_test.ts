/** Reports as one file: their numbers are those of the commands, and hostile names stay text. */
import { openBackend } from "../src/open_backend.ts";
import { writeHtml, writeMarkdown } from "../src/report/document.ts";
import { REPORTS } from "../src/report/reports.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { costSummary } from "../src/views/costs.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { openfinops } from "./command.ts";
import { fillDashboard } from "./dashboard_data.ts";
import { costEntry, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

const DAY = 86_400_000;
const HOSTILE = "<img src=x onerror=alert(1)>|`*";
const QUERY = {
  timeZone: "UTC",
  groupBy: ["category", "tags.env"],
  where: [],
  by: "team",
  basis: "estimated",
} as const;

Deno.test("Reports of costs, cluster and models hold the numbers of the views, charts and no scripts", async () => {
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const now = Date.now();
  await fillDashboard(backend, { now, days: 60, tag: HOSTILE });
  const query = { ...QUERY, startTime: now - 10 * DAY, endTime: now };
  const summary = await costSummary(backend, {
    startTime: query.startTime,
    endTime: now,
    groupBy: ["tags.env"],
  });
  for (const [name, report] of Object.entries(REPORTS)) {
    const made = await report(backend, query);
    const [html, markdown] = [writeHtml(made), writeMarkdown(made)];
    assertEquals(/<(script|img|iframe|a|link)\b[^>]*/.exec(html), null, name);
    assertMatch(html, /<svg class="chart"/, name);
    assertMatch(html, /default-src 'none'/, name);
    assertMatch(markdown, /^# .+\n\n.+UTC\.\n\n## /, name);
    assert(!/[^\\]<img/.test(markdown), name);
    assertMatch(markdown, /\n`[▁▂▃▄▅▆▇█ ]{11,60}` (total|CPU) {2}\n/, name);
    if (name !== "costs") continue;
    for (const { total, currency, breakdowns } of summary.currencies) {
      for (const each of [total, ...breakdowns[0].rows.map(({ total }) => total)]) {
        assert(html.includes(`title="${each} ${currency}"`), each);
      }
    }
    assert(markdown.includes("\\<img src=x onerror=alert(1)\\>\\|\\`\\*"), markdown);
  }
  await backend.close();
});

Deno.test("A report of an empty range says so", async () => {
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const query = { ...QUERY, startTime: NEW_YEAR, endTime: NEW_YEAR + DAY };
  for (const [name, report] of Object.entries(REPORTS)) {
    // One sentence says what is missing and one what to run: no bare title, no bare command.
    assertMatch(
      writeMarkdown(await report(backend, query)),
      /^# .+\n\n.+UTC\.\n\n## .+\n\nNo (costs|metrics|usage) in this range\. Run `openfinops (collect|database import) .+`\.\n$/,
      name,
    );
  }
  await backend.close();
});

Deno.test("A report of costs names one baseline in its total and its tables", async () => {
  const backend = await openBackend({ backend: "sqlite", connectionString: "sqlite://" });
  const [october, november, december] = [9, 10, 11].map((month) => Date.UTC(2026, month, 1));
  await write(backend, costEntries, [
    costEntry({ timestamp: october + 29 * DAY, amount: "100", currency: "USD" }),
    costEntry({ timestamp: november + DAY, amount: "10", currency: "USD", entryId: "b" }),
  ]);
  const { now } = Date;
  try {
    Date.now = () => november + 29.5 * DAY;
    const write = async (startTime: number, endTime: number) =>
      writeMarkdown(await REPORTS.costs(backend, { ...QUERY, startTime, endTime }));
    // Costs end on November 2, and October 1 and 2 had none.
    const part = await write(november, december);
    assertMatch(part, /\(– against the same days of the period before\)\n/);
    assertMatch(part, /\| same days before \| change \|.*\n.*\n.*\| 10\.00 \| 100\.0 % \| 0\.00 \| – \|/);
    // A range that is over is compared as a whole.
    const whole = await write(november - DAY, november + 2 * DAY);
    assertMatch(whole, /\(▼ -90\.0 % against the whole period before\)\n/);
    assertMatch(
      whole,
      /\| period before \| change \|.*\n.*\n.*\| 10\.00 \| 100\.0 % \| 100\.00 \| ▼ -90\.0 % \|/,
    );
  } finally {
    Date.now = now;
    await backend.close();
  }
});

Deno.test("Costs that cancel out have a share of 0 in a summary and its report, and no -0.0 %", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite("a.db") });
  await write(backend, costEntries, [
    costEntry({ timestamp: NEW_YEAR, amount: "5", currency: "EUR" }),
    costEntry({ timestamp: NEW_YEAR, amount: "-5", currency: "EUR", entryId: "b", category: "credit" }),
    costEntry({ timestamp: NEW_YEAR, amount: "100", currency: "USD", entryId: "c" }),
    costEntry({ timestamp: NEW_YEAR, amount: "-0.01", currency: "USD", entryId: "d", category: "credit" }),
  ]);
  const query = { ...QUERY, startTime: NEW_YEAR, endTime: NEW_YEAR + DAY };
  const markdown = writeMarkdown(await REPORTS.costs(backend, query));
  await backend.close();
  const during = ["--during", new Date(NEW_YEAR).toISOString().slice(0, 10)];
  const run = (...args: string[]) =>
    openfinops(["costs", "summary", ...during, "--connection-string", folder.sqlite("a.db"), ...args], {
      cwd: folder.path,
    });
  const shares = (await run("--format", "csv")).out.split("\n").map((line) => line.split(","));
  assertEquals(shares.filter(([, , , of]) => of === "all").map((row) => [row[0], row[5], row[6]]), [
    ["EUR", "0", "0"],
    ["USD", "99.99", "100"],
  ]);
  for (const text of [markdown, (await run()).out]) {
    assertMatch(text, /\b0\.0 %/);
    assert(!text.includes("-0.0 %"), text);
  }
});

Deno.test("openfinops report writes the file that it names, and refuses other formats", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite("a.db") });
  await write(backend, costEntries, [
    costEntry({ timestamp: NEW_YEAR, amount: "12.345678", currency: "USD" }),
  ]);
  await backend.close();
  const run = (...args: string[]) =>
    openfinops(["report", ...args, "--connection-string", folder.sqlite("a.db")], { cwd: folder.path });
  const during = ["--during", new Date(NEW_YEAR).toISOString().slice(0, 10)];
  const made = await run("costs", ...during, "--output", "report.html");
  assertEquals([made.code, made.out], [0, ""], made.err);
  assertMatch(made.err, /^Wrote report\.html: Costs, /);
  assertMatch(Deno.readTextFileSync(folder.file("report.html")), /title="12\.345678 USD">12\.35</);
  const wrong = await run("costs", "--output", "report.pdf");
  assertEquals(wrong.code, 2);
  assertMatch(wrong.err, /--output must be a file that ends in \.html or \.md/);
  assertMatch((await run("cost", "--output", "a.md")).err, /costs/);
  assertEquals((await run("costs")).code, 2);
  const nameless = await run("--where", "bogus");
  assertEquals(nameless.code, 2);
  assertMatch(nameless.err, /^error: Name a report: costs, cluster, models\. \[MISSING_ARGUMENT\]\n/);
});
