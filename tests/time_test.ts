import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { CostObservatory, ValidationError } from "../mod.ts";
import { readSpan } from "../src/query/option_values.ts";
import { parseSpan } from "../src/records/time_text.ts";
import { acceptBudget } from "../src/monitoring/budgets/budget.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { costEntry, TemporaryFolder } from "./fixtures.ts";
import { RUN } from "./command.ts";

const at = Date.parse;
/** A Monday; in Berlin it is one hour later. */
const now = at("2026-11-30T23:30:00Z");

Deno.test("parseSpan() reads dates, periods, words and durations in a time zone", () => {
  const cases: [text: string, timeZone: string, start: string, end?: string][] = [
    ["2026-10-05", "UTC", "2026-10-05T00:00Z", "2026-10-06T00:00Z"],
    ["2026-10-05", "Europe/Berlin", "2026-10-04T22:00Z", "2026-10-05T22:00Z"],
    ["2026-10-25", "Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z"], // 25 hours
    ["2026-10-05 08:30", "Europe/Berlin", "2026-10-05T06:30Z"],
    ["2026-10-05T08:30:15.5", "America/New_York", "2026-10-05T12:30:15.500Z"],
    ["2026-10-05T08:30Z", "Europe/Berlin", "2026-10-05T08:30Z"],
    ["2026-10-05T08:30+09", "Europe/Berlin", "2026-10-04T23:30Z"],
    ["2026-03-29T02:30", "Europe/Berlin", "2026-03-29T01:30Z"], // does not exist: clocks show 03:30
    ["2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30Z"], // twice: the first
    ["2026-10", "Europe/Berlin", "2026-09-30T22:00Z", "2026-10-31T23:00Z"],
    ["2026-Q3", "UTC", "2026-07-01T00:00Z", "2026-10-01T00:00Z"],
    ["2026-q4", "Europe/Berlin", "2026-09-30T22:00Z", "2026-12-31T23:00Z"],
    ["2026", "America/New_York", "2026-01-01T05:00Z", "2027-01-01T05:00Z"],
    ["now", "UTC", "2026-11-30T23:30Z"],
    ["today", "UTC", "2026-11-30T00:00Z", "2026-12-01T00:00Z"],
    ["today", "Europe/Berlin", "2026-11-30T23:00Z", "2026-12-01T23:00Z"],
    ["yesterday", "Europe/Berlin", "2026-11-29T23:00Z", "2026-11-30T23:00Z"],
    ["this-month", "UTC", "2026-11-01T00:00Z", "2026-12-01T00:00Z"],
    ["this-month", "Europe/Berlin", "2026-11-30T23:00Z", "2026-12-31T23:00Z"],
    ["last-month", "Europe/Berlin", "2026-10-31T23:00Z", "2026-11-30T23:00Z"],
    ["last-month", "UTC", "2026-10-01T00:00Z", "2026-11-01T00:00Z"],
    ["this-week", "UTC", "2026-11-30T00:00Z", "2026-12-07T00:00Z"],
    ["last-week", "UTC", "2026-11-23T00:00Z", "2026-11-30T00:00Z"],
    ["this-quarter", "UTC", "2026-10-01T00:00Z", "2027-01-01T00:00Z"],
    ["next-year", "UTC", "2027-01-01T00:00Z", "2028-01-01T00:00Z"],
    ["1mo", "UTC", "2026-10-30T23:30Z"],
    ["1mo", "Europe/Berlin", "2026-10-31T23:30Z"],
    ["3mo", "UTC", "2026-08-30T23:30Z"],
    ["9mo", "UTC", "2026-02-28T23:30Z"],
    ["1y", "UTC", "2025-11-30T23:30Z"],
    ["2w", "UTC", "2026-11-16T23:30Z"],
    ["7d", "Europe/Berlin", "2026-11-23T23:30Z"],
    ["1.5h", "UTC", "2026-11-30T22:00Z"],
  ];
  for (const [text, timeZone, start, end = start] of cases) {
    assertEquals(
      parseSpan(text, { timeZone, now }),
      { start: at(start), end: at(end) },
      `${text} ${timeZone}`,
    );
  }
  for (const text of ["", "soon", "2026-13", "2026-02-30", "2026-Q5", "1.5mo", "0999", "lastmonth", "-1d"]) {
    assertEquals(parseSpan(text, { timeZone: "UTC", now }), undefined, text);
  }
});

Deno.test("CostObservatory reads dates in the time zone of the query, else of the configuration", async () => {
  await using costs = await CostObservatory.open({ timeZone: "Europe/Berlin" });
  const times = ["2026-09-30T21:59:59Z", "2026-09-30T22:00Z", "2026-10-31T22:59:59Z", "2026-10-31T23:00Z"];
  for (const [i, time] of times.entries()) {
    await costs.addCostEntry(costEntry({ entryId: `e${i}`, timestamp: at(time), amount: String(10 ** i) }));
  }
  const october = { startTime: "2026-10", endTime: "2026-11" };
  const total = async (query: object) => (await costs.aggregateCosts(query)).map(({ total }) => total);
  assertEquals(await total(october), ["110"]);
  assertEquals(await total({ ...october, timeZone: undefined }), ["110"]);
  assertEquals(await total({ ...october, timeZone: "UTC" }), ["1100"]);
  assertEquals((await costs.entries.query(october)).length, 2);
  const from = (gte: string, timeZone?: string) => total({ where: [{ field: "timestamp", gte }], timeZone });
  assertEquals([await from("2026-10"), await from("2026-10", "UTC")], [["1110"], ["1100"]]);
  const [day] = await costs.aggregateCosts({ bucket: "1mo" });
  assertEquals([day.startTime, day.total], [at("2026-08-31T22:00Z"), "1"]);
  assertEquals((await costs.getCostSummary(october)).currencies.map(({ total }) => total), ["110"]);
  const wrong = { startTime: "octobre" };
  await assertRejects(
    () => costs.entries.query(wrong),
    ValidationError,
    'or a duration ago such as 7d, not "octobre"',
  );
  await assertRejects(() => costs.entries.query({ timeZone: "Berlin" }), ValidationError, "timeZone");
});

Deno.test("CostObservatory reads the dates of a budget in the time zone of the budget", async () => {
  await using costs = await CostObservatory.open({ timeZone: "Europe/Berlin" });
  const year = { amount: 5, startTime: "2026", endTime: "2027" };
  const berlin = await costs.createBudget({ budgetId: "a", ...year });
  assertEquals([berlin.timeZone, berlin.startTime], ["Europe/Berlin", at("2025-12-31T23:00Z")]);
  const tokyo = await costs.createBudget({ budgetId: "b", ...year, timeZone: "Asia/Tokyo" });
  assertEquals(tokyo.endTime, at("2026-12-31T15:00Z"));
  const changed = await costs.updateBudget("b", { startTime: "2026-06-01" });
  assertEquals(changed.startTime, at("2026-05-31T15:00Z"));
  const [status] = await costs.getBudgetStatus({ budgetId: "a", at: "2026-07" });
  assertEquals(status.startTime, at("2025-12-31T23:00Z"));
  const ancient = acceptBudget({ budgetId: "c", amount: 1, startTime: "1960" });
  assertEquals(acceptBudget(ancient).startTime, ancient.startTime);
});

/** Runs a command on a database with a cost at 22:30 UTC of the last of September, October and November. */
async function withCosts(run: (openfinops: (...args: string[]) => Promise<string>) => Promise<void>) {
  using folder = new TemporaryFolder();
  {
    await using costs = await CostObservatory.open({ connectionString: folder.sqlite("a.db") });
    for (const [i, day] of ["09-30", "10-31", "11-30"].entries()) {
      const timestamp = at(`2026-${day}T22:30Z`);
      await costs.addCostEntry(costEntry({ entryId: `e${i}`, timestamp, amount: String(10 ** i) }));
    }
  }
  await run(async (...args) => {
    const env = args[0].startsWith("OPENFINOPS") ? Object.fromEntries([args.shift()!.split("=")]) : {};
    const all = [...RUN, ...args, "--connection-string", "sqlite:///a.db"];
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args: all, cwd: folder.path, env })
      .output();
    return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  });
}

Deno.test("openfinops reads dates in --time-zone, else in OPENFINOPS_TIME_ZONE", async () => {
  await withCosts(async (openfinops) => {
    const query = ["database", "query", "costs", "--format", "csv"];
    const columns = (await openfinops(...query)).split("\n")[0].split(",");
    const idOf = async (...args: string[]) => {
      const zone = args[0].startsWith("OPENFINOPS") ? [args.shift()!] : [];
      const out = await openfinops(...zone, ...query, ...args);
      const ids = out.split("\n").slice(1).map((line) => line.split(",")[columns.indexOf("entryId")]);
      return ids.filter((id) => id?.startsWith("e"));
    };
    const berlin = ["--time-zone", "Europe/Berlin"];
    assertEquals(await idOf("--during", "2026-10"), ["e1"]);
    assertEquals(await idOf("--during", "2026-10", ...berlin), ["e0", "e1"].toReversed());
    assertEquals(await idOf("--since", "2026-10-01", "--until", "2026-10-02", ...berlin), ["e0"]);
    assertEquals(await idOf("OPENFINOPS_TIME_ZONE=Europe/Berlin", "--during", "2026-10-01"), ["e0"]);
    assertEquals(await idOf("--where", "timestamp<2026-10-01"), ["e0"]);
    assertEquals(await idOf("--where", "timestamp<2026-10-01", ...berlin), []);
    assertEquals(await idOf(...berlin, "--limit", "1"), ["e2"]); // records, not a total
  });
});

Deno.test("openfinops says which times it reads when it cannot read one", async () => {
  await withCosts(async (openfinops) => {
    const query = ["database", "query", "costs"];
    const errors: [string[], RegExp][] = [
      [[...query, "--since", "yesterdy"], /--since must be .*, not "yesterdy"\. Did you mean yesterday\?/],
      [[...query, "--during", "7d"], /--during must be a period such as .*, not "7d"\./],
      [[...query, "--during", "2026", "--until", "2026"], /--during and --until both set the end/],
      [[...query, "--during", "2026", "--since", "2026"], /--since and --during both set the start/],
      [[...query, "--time-zone", "Berlin"], /--time-zone must be the name of a time zone.*"Berlin"/],
      [["OPENFINOPS_TIME_ZONE=x", ...query, "--since", "7d"], /OPENFINOPS_TIME_ZONE must be .*"x"/],
      [["database", "delete", "costs", "--time-zone", "UTC", "--yes"], /Give a condition/],
    ];
    for (const [args, expected] of errors) assertMatch(await openfinops(...args), expected);
    const budget = ["costs", "set-budget", "b", "--amount", "5", "--since", "2026-10"];
    assertMatch(await openfinops(...budget, "--time-zone", "Europe/Berlin"), /Created/);
    const status = await openfinops("costs", "budgets", "--format", "json", "--at", "2026-10-20");
    assert(status.includes('"startTime": "2026-09-30T22:00:00.000Z"'), status);
  });
});

Deno.test("readSpan() reads the end of the year 9999 as the last time that a record may have", () => {
  const last = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
  assertEquals(readSpan("during", "9999-12", "UTC"), { start: Date.UTC(9999, 11), end: last });
});
