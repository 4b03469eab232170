import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { CostObservatory } from "../mod.ts";
import { formatTable } from "../src/cli/table.ts";
import { roundMoney } from "../src/records/currency.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { costEntry, TemporaryFolder } from "./fixtures.ts";
import { RUN } from "./command.ts";

Deno.test("roundMoney() rounds to the minor unit, and tiny amounts to two significant digits", () => {
  const cases: [amount: string, currency: string, expected: string][] = [
    ["10363.5061938117", "USD", "10363.51"],
    ["12.5", "EUR", "12.50"],
    ["0", "USD", "0.00"],
    ["-0.1", "USD", "-0.10"],
    ["0.005", "USD", "0.01"], // half up: never 0.00
    ["0.00499", "USD", "0.0050"],
    ["0.0000008", "EUR", "0.00000080"],
    ["-0.000000000000000001", "EUR", "-0.0000000000000000010"],
    ["1234567890123456789.995", "USD", "1234567890123456790.00"],
    ["1049.5", "JPY", "1050"],
    ["0.5", "JPY", "1"],
    ["0.4", "JPY", "0.40"],
    ["1.2345", "KWD", "1.235"],
    ["0.0004", "KWD", "0.00040"],
    ["7.777", "credits", "7.78"],
  ];
  for (const [amount, currency, expected] of cases) {
    assertEquals(roundMoney(amount, currency), expected, `${amount} ${currency}`);
  }
});

Deno.test("formatTable() cuts long texts to fit the terminal, by columns and not characters", () => {
  const rows = [["ノードノードノードノード", "a short text", "123456.78"], ["x", "y", "1.00"]];
  const lines = formatTable(["node", "text", "cost"], rows, { columns: 36 }).split("\n");
  assertEquals(lines, [
    "node         text               cost",
    "ノード…ード  a short text  123456.78",
    "x            y                  1.00",
  ]);
});

Deno.test("formatTable() prints a list for each row when columns cannot fit", () => {
  const found = formatTable(["entryId", "amount"], [["abcdefghijkl", "1.00"], ["b", ""]], { columns: 9 });
  assertEquals(found, "entryId  abcdefghijkl\namount   1.00\n\nentryId  b");
});

Deno.test("formatTable() draws bars over the width that is left", () => {
  const bars = (columns: number) => {
    const rows = [["a", { bar: 100 }], ["b", { bar: 50 }], ["c", { bar: 0.01 }], ["d", { bar: -3 }]];
    return formatTable(["x", ""], rows, { columns }).split("\n").slice(1).map((line) => line.slice(3));
  };
  assertEquals(bars(23), ["█".repeat(20), "█".repeat(10), "▏", ""]);
  assertEquals(bars(10), ["█".repeat(7), "███▌", "▏", ""]);
  assertEquals(bars(500)[0].length, 60);
});

/** Runs a command on a database with costs in two groups, one of them called (other), and one without a tag. */
async function run(...args: string[]): Promise<string> {
  using folder = new TemporaryFolder();
  {
    await using costs = await CostObservatory.open({ connectionString: folder.sqlite("a.db") });
    const teams = [["nlp", "10.005"], ["(other)", "5"], ["other", "4"], [undefined, "3"], ["a|b", "0.0004"]];
    for (const [i, [team, amount]] of teams.entries()) {
      await costs.addCostEntry(costEntry({ entryId: `e${i}`, amount, tags: team ? { team } : undefined }));
    }
  }
  const cli = [...RUN];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...cli, "database", "query", "costs", ...args, "--connection-string", "sqlite:///a.db"],
    cwd: folder.path,
  }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

Deno.test("openfinops database query tells groups by name from none and all others", async () => {
  const table = await run("--group-by", "tags.team", "--top", "4");
  assertEquals(table.split("\n").map((line) => line.split(/\s{2,}/).slice(0, 4).join(" | ")), [
    "tags.team | currency | total | share",
    "nlp | USD | 10.01 | 45.5 %",
    '"(other)" | USD | 5.00 | 22.7 %',
    "other | USD | 4.00 | 18.2 %",
    "(none) | USD | 3.00 | 13.6 %",
    "(other) | USD | 0.00040 | 0.0 %",
    "",
  ]);
  assertMatch(await run("--where", "tags.team=(none)", "--bucket", "1y"), /2026 +USD +3\.00 +1\n/);
  assertMatch(await run("--where", 'tags.team="(other)"', "--bucket", "1y"), /2026 +USD +5\.00 +1\n/);
  assertMatch(await run("--where", "tags.team!=(none)", "--bucket", "1y"), /2026 +USD +19\.01 +4\n/);
  assertMatch(await run("--where", "tags.team in nlp,(none)"), /"\(none\)" in a list.*INVALID_OPTION/s);
  const exact = await run("--group-by", "tags.team", "--exact", "--order", "asc", "--limit", "1");
  assertMatch(exact, /a\|b +USD +0\.0004 +0\.0 % +1\n$/);
});

Deno.test("openfinops fits tables and bars to the terminal", async () => {
  if (Deno.build.os !== "linux" || !await Deno.stat("/usr/bin/script").then(() => true, () => false)) return;
  using folder = new TemporaryFolder();
  {
    await using costs = await CostObservatory.open({ connectionString: folder.sqlite("a.db") });
    for (const [i, amount] of ["10", "5"].entries()) {
      await costs.addCostEntry(
        costEntry({ entryId: `e${i}`, amount, resourceId: `arn:${"ß".repeat(60)}-${i}` }),
      );
    }
  }
  const cli = [
    Deno.execPath(),
    ...RUN,
  ];
  const query = [...cli, "database", "query", "costs", "--group-by", "resourceId"].map((arg) => `'${arg}'`)
    .join(" ");
  const lines = async (columns: number) => {
    const { stdout } = await new Deno.Command("script", {
      args: ["-qec", `stty cols ${columns}; ${query} --connection-string sqlite:///a.db`, "/dev/null"],
      cwd: folder.path,
      env: { NO_COLOR: "1" },
    }).output();
    return new TextDecoder().decode(stdout).trimEnd().split(/\r?\n/);
  };
  const narrow = await lines(70);
  assertEquals(
    narrow.slice(1).map((line) => line.slice(0, 28)).map((name) => [name.slice(0, 5), name.includes("…")]),
    [
      ["arn:ß", true],
      ["arn:ß", true],
    ],
  );
  assert(narrow.every((line) => line.length <= 70), narrow.join("\n"));
  assert(narrow[1].includes("-0 ") && narrow[2].includes("-1 "), narrow.join("\n")); // both ends
  const [, first, second] = await lines(150);
  assertEquals([first.length, second.length], [150, 150 - (150 - first.indexOf("█")) / 2]);
});

Deno.test("openfinops database query prints Markdown", async () => {
  const markdown = await run("--group-by", "tags.team", "--format", "markdown");
  assertEquals(markdown.split("\n").slice(0, 3), [
    "| tags.team | currency | total | share | count |",
    "| --- | --- | ---: | ---: | ---: |",
    "| nlp | USD | 10.01 | 45.5 % | 1 |",
  ]);
  assert(markdown.includes("| a\\|b | USD | 0.00040 |"), markdown);
});
