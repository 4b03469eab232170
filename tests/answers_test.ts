/**
 * Answers over three months of an AWS bill, by one short command each. The totals are those of the bill, added up apart.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { CostObservatory, openBackend } from "../mod.ts";
import { budgetsView } from "../src/views/budgets.ts";
import { clustersView } from "../src/views/clusters.ts";
import { costSummary } from "../src/views/costs.ts";
import { dataHealthView } from "../src/views/data_health.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { costEntry, TemporaryFolder } from "./fixtures.ts";
import { RUN } from "./command.ts";

const FILES = ["09", "10", "11"].map((month) =>
  fileURLToPath(new URL(`cases/bills/cur-2026-${month}.csv.gz`, import.meta.url))
);
const BERLIN = ["--time-zone", "Europe/Berlin"];
const TEAMS: Readonly<Record<string, string[]>> = {
  nlp: ["2222.6038316053", "2079.314748752", "2936.9835609423"],
  platform: ["2574.5580656446", "1782.4677752142", "2435.8010655854"],
  search: ["1663.7338243198", "2547.1116120515", "2130.7210250736"],
  vision: ["2575.4350069199", "2430.5188689934", "2223.4552628652"],
  null: ["1645.9901513634", "1523.3651187097", "2158.6014745196"],
};
const MONTHS = ["10682.320879853", "10362.7781237208", "11885.5623889861"];

interface Row {
  currency: string;
  group: Record<string, string | null>;
  isOther?: true;
  startTime: string;
  total: string;
  share: number;
  previousTotal: string;
  change: number;
}

Deno.test("openfinops answers what finance asks of an AWS bill with its totals", async (t) => {
  using folder = new TemporaryFolder();
  const openfinops = async (...args: string[]) => {
    const all = [...RUN, ...args, "--connection-string", "sqlite:///a.db"];
    const { stdout, stderr, code } = await new Deno.Command(Deno.execPath(), { args: all, cwd: folder.path })
      .output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    return new TextDecoder().decode(stdout);
  };
  const usd = async (...args: string[]): Promise<Row[]> =>
    (JSON.parse(await openfinops("database", "query", "costs", ...args, "--format", "json")) as Row[])
      .filter(({ currency }) => currency === "USD");
  await openfinops("database", "import", "costs", ...FILES);

  await t.step("costs of each team by month of Berlin", async () => {
    const rows = await usd("--bucket", "1mo", "--group-by", "tags.user_team", ...BERLIN);
    const found = Map.groupBy(rows, ({ group }) => String(group["tags.user_team"]));
    for (const [team, totals] of Object.entries(TEAMS)) {
      assertEquals(found.get(team)?.map(({ total }) => total), totals, team);
    }
    for (const month of Map.groupBy(rows, ({ startTime }) => startTime).values()) {
      const totals = month.map(({ total }) => Number(total));
      assertEquals(totals, totals.toSorted((a, b) => b - a)); // the costliest team first
    }
  });

  await t.step("the five costliest services", async () => {
    const rows = await usd("--group-by", "serviceName", "--top", "5");
    assertEquals(rows.map(({ total }) => total), [
      "29066.2238428249",
      "1484.7274959755",
      "1085.5815059688",
      "725.6125469399",
      "507.3380959302",
      "61.1779049206",
    ]);
    assertEquals(rows.map(({ isOther = false }) => isOther), [false, false, false, false, false, true]);
  });

  await t.step("the untagged share", async () => {
    const october = ["--during", "2026-10", ...BERLIN];
    const rows = await usd("--group-by", "tags.user_team", ...october);
    const untagged = rows.find(({ group }) => group["tags.user_team"] === null)!;
    assertEquals([untagged.total, untagged.share.toFixed(4)], [
      TEAMS.null[1],
      (1523.3651187097 / 103.627781237208).toFixed(4),
    ]);
    assertEquals(
      (await usd("--where", "tags.user_team=(none)", "--bucket", "1mo", ...october))[0].total,
      TEAMS.null[1],
    );
  });

  await t.step("month over month", async () => {
    const rows = await usd("--bucket", "1mo", "--compare", "previous", ...BERLIN);
    assertEquals(rows.map(({ total }) => total), MONTHS);
    assertEquals(rows.map(({ previousTotal }) => previousTotal), ["0", ...MONTHS.slice(0, 2)]);
    assertEquals(rows.map(({ change }) => change?.toFixed(2)), [undefined, "-2.99", "14.69"]);
  });

  await t.step("the summary of a month, with a forecast", async () => {
    const summary = ["costs", "summary", "--at", "2026-11-21", ...BERLIN];
    const { currencies, ...found } = JSON.parse(await openfinops(...summary, "--format", "json"));
    assertEquals([found.startTime, found.endTime, found.dataEnd], [
      "2026-10-31T23:00:00.000Z",
      "2026-11-30T23:00:00.000Z",
      "2026-11-20T23:00:00.000Z",
    ]);
    const { previousTotal, forecast } = currencies.find(({ currency }: Row) => currency === "USD");
    assertEquals(previousTotal, MONTHS[1]);
    // The bill of November ends with the 28th, two days before the month.
    const expected = Number(MONTHS[2]) / 28 * 30;
    assert(Math.abs(forecast.total / expected - 1) < 0.1, forecast.total);
    assert(Number(forecast.low) < expected && expected < Number(forecast.high), JSON.stringify(forecast));
    const whole = await openfinops("costs", "summary", "--during", "2026-10", ...BERLIN);
    assertMatch(whole, /\ntotal +10362\.78\nwhole period before +10682\.32 +-3\.0 %\n/);
    assert(!whole.includes("orecast"), whole);
  });
});

Deno.test("costSummary() gives no forecast for a run of 20 seconds", async () => {
  await using costs = new CostObservatory();
  const now = Date.UTC(2026, 10, 30, 12);
  for (let i = 0; i < 4; i++) {
    const timestamp = now - 20_000 + 5_000 * i;
    await costs.addCostEntry(costEntry({ entryId: `e${i}`, timestamp, amount: String(2.5 / 3_600 * 5) }));
  }
  const { currencies: [usd] } = await costs.getCostSummary({ at: now });
  assertEquals([usd.forecast, usd.noForecast, usd.trend], [
    undefined,
    "it needs 14 complete days of costs, and there are 0",
    undefined,
  ]);
});

Deno.test("Views answer as JSON, and say how far the data reaches", async () => {
  const backend = await openBackend({ connectionString: "sqlite://" });
  const costs = await CostObservatory.open({ backend });
  const timestamp = Date.UTC(2026, 9, 1);
  await costs.addCostEntry(costEntry({ timestamp, amount: "5" }));
  await costs.createBudget({ budgetId: "b", amount: "10" });
  await costs.flush();
  const at = timestamp + 60_000;
  const views = {
    budgets: await budgetsView(backend, { at }),
    clusters: await clustersView(backend, { at }),
    costs: await costSummary(backend, { at }),
    data: await dataHealthView(backend, at),
  };
  assertEquals(views.budgets.budgets[0].spent, "5");
  assertEquals([views.clusters.clusters, views.clusters.at - views.clusters.since], [[], 300_000]);
  assertEquals(views.costs.currencies[0].total, "5");
  const { datasets, sources } = views.data;
  const { rows, newest, ageMs } = datasets.find(({ dataset }) => dataset === "cost_entries")!;
  assertEquals([rows, newest, ageMs, sources], [1, timestamp, 60_000, []]);
  assertEquals(JSON.parse(JSON.stringify(views)), views);
  await costs.close();
  await backend.close();
});
