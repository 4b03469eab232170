import { CostObservatory } from "../mod.ts";
import { openBackend } from "../src/open_backend.ts";
import type { Backend } from "../src/backends/backend.ts";
import { DeferredBackend } from "../src/backends/deferred_backend.ts";
import { BuiltInPrices } from "../src/pricing/built_in_prices.ts";
import { acceptPrice, type Price, type PriceInput } from "../src/pricing/price.ts";
import type { StoredPrice } from "../src/pricing/own_prices.ts";
import { PriceBook } from "../src/pricing/price_book.ts";
import { costEntriesOf, priceUsage } from "../src/pricing/usage_cost.ts";
import { costEntries, type CostEntry } from "../src/records/cost_entry.ts";
import { Decimal } from "../src/records/decimal.ts";
import { type UsageRecord, usageRecords } from "../src/records/usage_record.ts";
import { priceUsageRecords } from "../src/transfer/price_usage.ts";
import { BackendError, ValidationError } from "../src/errors.ts";
import { assert, assertEquals, assertMatch, assertThrows } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { openfinops } from "./command.ts";
import { Chance } from "./faults/chance.ts";

const stored = (input: PriceInput, setAt = 0): StoredPrice => ({ ...acceptPrice(input), setAt });
const bookOf = (...prices: PriceInput[]) => new PriceBook(prices.map((price, i) => stored(price, i)));

function use(fields: Partial<UsageRecord> = {}): UsageRecord {
  return { usageId: "u", timestamp: NEW_YEAR, provider: "openai", model: "m", ...fields };
}

const GPT: PriceInput[] = [
  { model: "m", unit: "input", amount: "1.25" },
  { model: "m", unit: "output", amount: "10" },
  { model: "m", unit: "cacheRead", amount: "0.125" },
];

const costsOf = (usage: UsageRecord, book: PriceBook) =>
  Object.fromEntries(
    priceUsage(usage, book).parts.map(({ unit, quantity, cost }) => [unit, `${quantity} ${cost}`]),
  );

Deno.test("priceUsage() prices cache and reasoning tokens once, as parts of input and output", () => {
  const usage = use({
    inputTokens: 1_000,
    cacheReadTokens: 600,
    cacheWriteTokens: 100,
    outputTokens: 50,
    reasoningTokens: 20,
  });
  assertEquals(costsOf(usage, bookOf(...GPT)), {
    input: "300 0.000375",
    cacheRead: "600 0.000075",
    cacheWrite: "100 0.000125", // at the price of input, which it is part of
    output: "30 0.0003",
    reasoning: "20 0.0002",
  });
  const all = bookOf(
    ...GPT,
    { model: "m", unit: "cacheWrite", amount: "1.5" },
    { model: "m", unit: "reasoning", amount: "0" },
    { model: "m", unit: "request", amount: "0.01" },
  );
  assertEquals(costsOf(usage, all), {
    input: "300 0.000375",
    cacheRead: "600 0.000075",
    cacheWrite: "100 0.00015",
    output: "30 0.0003",
    reasoning: "20 0",
    request: "1 0.01",
  });
});

Deno.test("priceUsage() names what has no price, and never counts it as 0", () => {
  const { parts, unpriced } = priceUsage(
    use({ inputTokens: 10, outputTokens: 5, quantity: "2.5", unit: "images" }),
    bookOf({ model: "m", unit: "input", amount: "1" }),
  );
  assertEquals(parts.map(({ unit }) => unit), ["input"]);
  assertEquals(unpriced, [{ unit: "output", quantity: "5" }, { unit: "images", quantity: "2.5" }]);
  assertEquals(priceUsage(use({ model: undefined, inputTokens: 1 }), bookOf(...GPT)).parts, []);
});

Deno.test("priceUsage() prices other units by their number, exactly", () => {
  const book = bookOf({ model: "*", provider: "own", unit: "gpu_hours", amount: "2.499999999999999999" });
  const usage = use({ provider: "own", quantity: "0.333333333333333333", unit: "gpu_hours" });
  // Decimal("2.499999999999999999") * Decimal("0.333333333333333333") at 18 digits, half to even
  assertEquals(costsOf(usage, book), { gpu_hours: "0.333333333333333333 0.833333333333333332" });
});

Deno.test("PriceBook chooses by model, tier, region and time", () => {
  const book = bookOf(
    { model: "gpt*", unit: "input", amount: "1" },
    { model: "gpt-5*", unit: "input", amount: "2" },
    { model: "gpt-5-mini", unit: "input", amount: "3" },
    { model: "gpt-5-mini", unit: "input", amount: "4", aboveInputTokens: 200_000 },
    { model: "gpt-5-mini", unit: "input", amount: "5", region: "eu" },
    { model: "gpt-5-mini", unit: "input", amount: "6", validFrom: NEW_YEAR + 10, validTo: NEW_YEAR + 20 },
    { model: "gpt-5-pro", unit: "input", amount: "7" },
    { model: "gpt-5-pro", unit: "input", amount: "8" },
    { model: "*-Turbo", unit: "input", amount: "9" },
  );
  const amountFor = (fields: Partial<UsageRecord>) => book.of(use(fields)).get("input")?.price.amount;
  assertEquals(amountFor({ model: "gpt-4" }), "1");
  assertEquals(amountFor({ model: "GPT-5.1" }), "2");
  assertEquals(amountFor({ model: "gpt-5-mini", inputTokens: 200_000 }), "3");
  assertEquals(amountFor({ model: "gpt-5-mini", inputTokens: 200_001 }), "4");
  assertEquals(amountFor({ model: "gpt-5-mini", tags: { region: "eu" } }), "5");
  assertEquals([9, 10, 19, 20].map((ms) => amountFor({ model: "gpt-5-mini", timestamp: NEW_YEAR + ms })), [
    "3",
    "6",
    "6",
    "3",
  ]);
  assertEquals(amountFor({ model: "gpt-5-pro" }), "8"); // the one that was set last
  assertEquals(amountFor({ model: "mixtral-turbo" }), "9");
  assertEquals(amountFor({ model: "turbo-mixtral" }), undefined);
});

Deno.test("PriceBook uses the own price of a unit, else the built-in one", async () => {
  const builtIn = await BuiltInPrices.load();
  const pricesWith = (input: Partial<PriceInput>) => {
    const own = stored({ model: "gpt-5", unit: "input", amount: "1.1", ...input });
    const units = new PriceBook([own], builtIn).of(use({ model: "gpt-5" }));
    return Object.fromEntries([...units].map(([unit, { price, source }]) => [
      unit,
      `${price.amount} ${source.split(" ")[0]}`,
    ]));
  };
  const output = "10 genai-prices"; // as listed by the vendor: 1.25, 10 and 0.125 US dollars for a million tokens
  const cacheRead = "0.125 genai-prices";
  assertEquals(pricesWith({}), { input: "1.1 own", output, cacheRead });
  assertEquals(pricesWith({ unit: "output" }), { output: "1.1 own", input: "1.25 genai-prices", cacheRead });
  // A cheaper input price stands for the cache as well, as does one in another currency.
  assertEquals(pricesWith({ amount: "0.125" }), { input: "0.125 own", output, cacheRead });
  assertEquals(pricesWith({ amount: "0.124" }), { input: "0.124 own", output });
  assertEquals(pricesWith({ amount: "0.000124", per: 1_000 }), { input: "0.000124 own", output });
  assertEquals(pricesWith({ currency: "EUR" }), { input: "1.1 own", output });
  const book = new PriceBook([stored({ model: "gpt-5", unit: "input", amount: "1" })], builtIn);
  const sonnet = book.of(use({ provider: "anthropic", model: "claude-sonnet-4-5-20250929" }));
  // As listed by the vendor in US dollars for a million tokens.
  assertEquals(
    ["input", "output", "cacheRead", "cacheWrite"].map((unit) => sonnet.get(unit)?.price.amount),
    ["3", "15", "0.3", "3.75"],
  );
  for (const provider of ["gcp.vertex_ai", "gcp.gemini"]) {
    assert(book.of(use({ provider, model: "gemini-2.5-pro" })).has("output"), provider);
  }
  assert(book.of(use({ provider: "x_ai", model: "grok-4" })).has("input"));
  assertEquals(book.of(use({ provider: "unheard-of", model: "gpt-5-nano" })).size, 0);
  assert(builtIn.all().length > 1_000);
});

Deno.test("acceptPrice() refuses invalid prices and says what is valid", () => {
  const wrong: [PriceInput, string][] = [
    [{ model: "m", unit: "input", amount: "free" }, "amount"],
    [{ model: "m", unit: "input", amount: "1", per: 0 }, "a whole number from 1"],
    [{ model: "m", unit: "input", amount: "1", currency: "usd" }, "spelled USD"],
    [{ unit: "input", amount: "1" } as PriceInput, "model"],
  ];
  for (const [price, expected] of wrong) assertThrows(() => acceptPrice(price), ValidationError, expected);
});

/** Uses of a few models at random, some at the same time. */
function randomUses(chance: Chance, count: number): UsageRecord[] {
  return Array.from({ length: count }, (_, i) => {
    const inputTokens = chance.between(0, 300_000 + 1);
    const cacheReadTokens = chance.between(0, inputTokens + 1);
    const outputTokens = chance.between(0, 10_000 + 1);
    return use({
      usageId: `u${i}`,
      timestamp: NEW_YEAR + chance.between(0, count / 3),
      model: chance.of(["m", "n", "unknown"]),
      inputTokens,
      cacheReadTokens,
      cacheWriteTokens: chance.between(0, inputTokens - cacheReadTokens + 1),
      outputTokens,
      reasoningTokens: chance.between(0, outputTokens + 1),
    });
  });
}

Deno.test("priceUsage() has parts that add up to the counts and to the cost of the call", () => {
  const chance = new Chance(29);
  for (let round = 0; round < 300; round++) {
    const amount = () => `${chance.between(0, 20 + 1)}.${chance.between(0, 999_999 + 1)}`;
    const units = ["input", "output", "cacheRead", "cacheWrite", "reasoning"];
    const book = bookOf(
      ...units.map((unit) => ({ model: "m", unit, amount: amount(), per: 1 + chance.between(0, 7 + 1) })),
    );
    const [usage] = randomUses(chance, 1);
    const { parts, unpriced } = priceUsage({ ...usage, model: "m" }, book);
    assertEquals(unpriced, []);
    const tokens = parts.reduce((sum, { quantity }) => sum + Number(quantity), 0);
    assertEquals(tokens, usage.inputTokens! + usage.outputTokens!);
    const entries = costEntriesOf(usage, { parts, unpriced });
    const total = entries.reduce((sum, { amount }) => sum.plus(Decimal.from(amount)), Decimal.ZERO);
    const expected = parts.reduce((sum, { cost }) => sum.plus(Decimal.from(cost)), Decimal.ZERO);
    assertEquals(total.toString(), expected.toString());
    assertEquals(new Set(entries.map(({ entryId }) => entryId)).size, parts.length);
  }
});

async function withUsage(
  uses: readonly UsageRecord[],
  run: (backend: Backend) => Promise<void>,
): Promise<void> {
  const backend = await openBackend({ connectionString: "sqlite://", onConflict: "replace" });
  await write(backend, usageRecords, uses);
  await run(backend);
  await backend.close();
}

const OTHER: PriceInput[] = [{ model: "n", unit: "input", amount: "0.1" }, {
  model: "n",
  unit: "output",
  amount: "0.3",
}];

Deno.test("priceUsageRecords() gives the same costs in any order and batches, and changes nothing twice", async () => {
  const uses = randomUses(new Chance(5), 400);
  const book = bookOf(...GPT, ...OTHER);
  let first: CostEntry[] | undefined;
  for (const order of [uses, uses.toReversed(), uses.toSorted((a, b) => a.inputTokens! - b.inputTokens!)]) {
    await withUsage(order.slice(0, 100), async (backend) => {
      await priceUsageRecords(backend, { book });
      await write(backend, usageRecords, order.slice(100));
      const { added, restated } = await priceUsageRecords(backend, { book });
      assert(added > 0 && restated === 0);
      const costs = await read<CostEntry>(backend, costEntries);
      first ??= costs;
      assertEquals(costs, first);
      for (const reprice of [false, true]) {
        const again = await priceUsageRecords(backend, { book, reprice });
        assertEquals([again.added, again.restated, again.deleted, again.unchanged], [0, 0, 0, costs.length]);
        assertEquals(again.before, again.after);
      }
      assertEquals(await read(backend, costEntries), first);
    });
  }
});

Deno.test("priceUsageRecords() restates exactly by newer prices, and says the difference", async () => {
  await withUsage(randomUses(new Chance(6), 300), async (backend) => {
    const before = bookOf(...GPT, ...OTHER);
    const after = bookOf({ model: "m", unit: "input", amount: "0.7" }, {
      model: "m",
      unit: "output",
      amount: "10",
    });
    await priceUsageRecords(backend, { book: before });
    const kept = await priceUsageRecords(backend, { book: after });
    assertEquals([kept.added, kept.restated, kept.deleted], [0, 0, 0]);
    const tried = await priceUsageRecords(backend, { book: after, reprice: true, dryRun: true });
    const done = await priceUsageRecords(backend, { book: after, reprice: true });
    assertEquals(tried, done);
    assert(done.restated > 0 && done.deleted > 0); // nothing of model n has a price now
    assertEquals(new Set(done.unpriced.map(({ model }) => model)), new Set(["n", "unknown"]));
    const costs = await read<CostEntry>(backend, costEntries);
    const total = costs.reduce((sum, { amount }) => sum.plus(Decimal.from(amount)), Decimal.ZERO).toString();
    assertEquals(done.after, { USD: total });
    assert(costs.every(({ basis, source }) => basis === "estimated" && source === "prices"));
    const back = await priceUsageRecords(backend, { book: before, reprice: true });
    assertEquals(back.after, done.before);
  });
});

Deno.test("CostObservatory with priceUsage commits usage after its costs, each once over a spool", async () => {
  using folder = new TemporaryFolder();
  const config = {
    connectionString: folder.sqlite(),
    spoolDirectory: folder.file("spool"),
    priceUsage: true,
    batchSize: 7,
  };
  const uses = randomUses(new Chance(8), 50).map((usage) => ({ ...usage, model: "gpt-5" }));
  let expected = Decimal.ZERO;
  {
    await using costs = await CostObservatory.open(config);
    for (const usage of [...uses, ...uses]) await costs.usage.add(usage);
    await costs.flush();
    assertEquals((await costs.usage.query()).length, uses.length);
    const book = new PriceBook([], await BuiltInPrices.load());
    for (const { cost } of uses.flatMap((usage) => priceUsage(usage, book).parts)) {
      expected = expected.plus(Decimal.from(cost));
    }
    const [{ total, basis }] = await costs.aggregateCosts();
    assertEquals([total, basis], [expected.toString(), "estimated"]);
  }
  const backend = await openBackend(config);
  const report = await priceUsageRecords(backend, {
    book: await PriceBook.read(backend.documents),
    reprice: true,
  });
  assertEquals([report.added, report.restated, report.deleted], [0, 0, 0]);
  await backend.close();
});

Deno.test("CostObservatory with priceUsage opens while its database is away, and prices usage later", async () => {
  using folder = new TemporaryFolder();
  let attempts = 0;
  const backend = new DeferredBackend("sqlite", {
    location: undefined,
    openNow: () => {
      if (++attempts > 2) return openBackend({ connectionString: folder.sqlite() });
      const failure = { code: "STATEMENT_TIMEOUT", operation: "open", kind: "timeout" } as const;
      return Promise.reject(new BackendError("away", failure));
    },
  });
  const costs = await CostObservatory.open({ backend, priceUsage: true, batchSize: 1 });
  await costs.usage.add({
    usageId: "a",
    timestamp: NEW_YEAR,
    provider: "openai",
    model: "gpt-5",
    inputTokens: 1_000_000,
  });
  await costs.flush();
  assertEquals((await costs.entries.query()).map(({ amount }) => amount), ["1.25"]);
  assertEquals(costs.stats().datasets.usage_records!.deadLettered, 0);
  await costs.close();
  await backend.close();
});

Deno.test("openfinops prices and costs price print what applies, and restate", async () => {
  using folder = new TemporaryFolder();
  const cwd = folder.path;
  const run = (...args: string[]) => openfinops([...args, "--format", "json"], { cwd });
  const test = JSON.parse(
    (await run("prices", "test", "gpt-5", "--input", "1000000", "--cache-read", "400000")).out,
  );
  assertEquals(test.totals, [{ currency: "USD", total: "0.8" }]); // 600,000 at 1.25 and 400,000 at 0.125 a million
  const set = async (...args: string[]) => (await openfinops(["prices", "set", ...args], { cwd })).err;
  assertMatch(await set("m", "--unit", "input", "--amount", "1"), /^Set 1 price\.\n/);
  assertMatch(await set("m", "--unit", "input", "--amount", "1"), /^Set 0 prices; 1 as before\.\n/);
  await set("m", "--unit", "input", "--amount", "2");
  assertEquals(JSON.parse((await run("prices", "list", "--own")).out).length, 1);
  assertEquals(JSON.parse((await run("prices", "list", "--own", "--history")).out).length, 2);
  Deno.writeTextFileSync(folder.file("p.csv"), "model,unit,amount\nx,input,1\ny,input,free\n");
  assertMatch(await set("--file", "p.csv"), /p\.csv, line 3: .*amount/);
  Deno.writeTextFileSync(
    folder.file("u.ndjson"),
    '{"usageId":"a","timestamp":"2026-11-01T00:00:00Z","model":"m","inputTokens":18059974}\n' +
      '{"usageId":"b","timestamp":"2026-11-01T00:00:00Z","model":"other","inputTokens":7}\n',
  );
  await openfinops(["database", "import", "usage", "u.ndjson"], { cwd });
  const report = async (...args: string[]) => JSON.parse((await run("costs", "price", ...args)).out);
  const first = await report();
  assertEquals(first.after, { USD: "36.119948" });
  assertEquals(first.unpriced, [{ model: "other", unit: "input", quantity: "7", records: 1 }]);
  await set("m", "--unit", "input", "--amount", "3");
  assertEquals((await report()).after, { USD: "36.119948" });
  assertEquals((await report("--reprice", "--dry-run")).after, { USD: "54.179922" });
  assertEquals((await report("--reprice")).after, { USD: "54.179922" });
  assertEquals((await report("--reprice")).restated, 0);
});

Deno.test("openfinops prices set, show and test use one provider, and print all prices that apply", async () => {
  using folder = new TemporaryFolder();
  const prices = (...args: string[]) => openfinops(["prices", ...args], { cwd: folder.path });
  const set = await prices("set", "gpt-5", "--provider", "openai", "--unit", "input", "--amount", "1.10");
  for (const row of [/ input +1\.1 .* own/, / output +10 .* genai/, / cacheRead +0\.125 .* genai/]) {
    assertMatch(set.out, row);
  }
  const shown = await prices("show", "gpt-5", "--format", "json");
  assertMatch(shown.err, /Prices of provider openai\./);
  const amounts = (JSON.parse(shown.out) as Price[]).map(({ unit, amount }) => `${unit} ${amount}`);
  assertEquals(amounts.toSorted(), ["cacheRead 0.125", "input 1.1", "output 10"]);
  const test = await prices("test", "gpt-5", "--input", "1000000", "--format", "json");
  assertEquals(JSON.parse(test.out).totals, [{ currency: "USD", total: "1.1" }]);
  await prices("set", "mine", "--provider", "acme", "--unit", "input", "--amount", "2");
  assertMatch((await prices("show", "mine")).out, /acme/);
});

Deno.test("openfinops prices refuses near misses and impossible counts", async () => {
  using folder = new TemporaryFolder();
  const cases: [args: string, code: number, message: RegExp][] = [
    ["set m --unit inptu --amount 1", 2, /Unknown unit "inptu"\. Did you mean "input"\?/],
    ["set m --unit requests --amount 1", 2, /Did you mean "request"\?/],
    ["set m --unit cache_read --amount 1", 2, /Did you mean "cacheRead"\?/],
    ["set m --unit minutes --amount 1", 0, /^Set 1 price\./],
    ["set m --unit images --amount 1", 0, /^Set 1 price\./],
    ["show gpt-4o-min", 0, /No price of gpt-4o-min\. Did you mean "gpt-4o-mini"\?/],
    ["test gpt-4o-min --input 1", 0, /Did you mean "gpt-4o-mini"\?/],
    ["test gpt-5", 2, /Give the counts of the call, such as --input/],
    [
      "test gpt-5 --input 10 --cache-read 11",
      2,
      /--cache-read and --cache-write together must be at most --input/,
    ],
    ["test gpt-5 --input 10 --cache-read 6 --cache-write 5", 2, /must be at most --input/],
    ["test gpt-5 --output 10 --reasoning 11", 2, /--reasoning must be at most --output/],
    ["test gpt-5 --requests 1", 0, /Nothing to pay/],
  ];
  for (const [args, code, message] of cases) {
    const result = await openfinops(["prices", ...args.split(" ")], { cwd: folder.path });
    assertEquals(result.code, code, args);
    assertMatch(result.err, message);
  }
});
