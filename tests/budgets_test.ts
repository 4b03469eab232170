import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { CostObservatory, importRecords, ObservabilityHub, openBackend } from "../mod.ts";
import type { Backend } from "../src/backends/backend.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { ValidationError } from "../src/errors.ts";
import { acceptBudget, type BudgetInput } from "../src/monitoring/budgets/budget.ts";
import { budgetStatuses } from "../src/monitoring/budgets/budgets.ts";
import { unmatchedFilters } from "../src/monitoring/budgets/filters.ts";
import { evaluateCosts } from "../src/monitoring/cost_evaluation.ts";
import { costEntries, type CostEntryInput } from "../src/records/cost_entry.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { readDeliveries, undoDelivery } from "../src/transfer/deliveries.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { costEntry, TemporaryFolder } from "./fixtures.ts";
import { RUN } from "./command.ts";

const DAY = 86_400_000;
const NOVEMBER = Date.UTC(2026, 10, 15, 12);

/** Runs a test with a clock that it sets. */
async function withClock(run: (set: (now: number) => void) => Promise<void>): Promise<void> {
  const { now } = Date;
  let time = NOVEMBER;
  Date.now = () => time;
  try {
    await run((now) => time = now);
  } finally {
    Date.now = now;
  }
}

/** A backend with a budget of 100 USD a month. */
async function withBudget(budget: Partial<BudgetInput> = {}): Promise<Backend> {
  const backend = new MemoryBackend({ maxMemoryEntries: 10_000, onConflict: "ignore" });
  const costs = await CostObservatory.open({ backend });
  await costs.createBudget({ budgetId: "b", amount: 100, ...budget });
  await costs.close();
  return backend;
}

/** Imports costs, each as the day and the amount, as one delivery. */
async function deliver(backend: Backend, costs: readonly [day: string, amount: number][], replace = false) {
  const file = `t,c,r\n${costs.map(([day, amount], i) => `${day},${amount},r${i}\n`).join("")}`;
  await importRecords(new Blob([file]).stream(), {
    backend,
    dataset: "cost_entries",
    format: "csv",
    map: { timestamp: "t", amount: "c", resourceId: "r" },
    set: { category: "gpu", currency: "USD" },
    replace,
  });
}

/** The thresholds that an evaluation finds, as `start of the period: percent`. */
async function evaluate(backend: Backend): Promise<string[]> {
  const found = await evaluateCosts(backend);
  return found.map(({ event }) => {
    if (event.type !== "budget-threshold") return event.type;
    const { startTime, threshold } = event.crossing;
    return `${new Date(startTime).toISOString().slice(0, 7)}: ${threshold}`;
  }).sort();
}

async function crossedIn(backend: Backend, month: string): Promise<number[]> {
  const [status] = await budgetStatuses(backend, { at: Date.parse(`${month}-10`) });
  return status.crossed.map(({ threshold }) => threshold);
}

Deno.test("evaluateCosts() reports late costs once, for the period that they belong to", () =>
  withClock(async () => {
    const backend = await withBudget();
    await deliver(backend, [["2026-08-03", 85], ["2026-10-31", 60], ["2026-11-02", 20]]);
    const messages: string[] = [];
    const found = await evaluateCosts(backend, { emit: ({ message }) => messages.push(message) });
    assertEquals(found.length, 3);
    assertEquals(messages.sort(), [
      "Budget b has reached 50 %: 60 of 100 USD are spent in the period from 2026-10-01",
      "Budget b has reached 50 %: 85 of 100 USD are spent in the period from 2026-08-01",
      "Budget b has reached 80 %: 85 of 100 USD are spent in the period from 2026-08-01",
    ]);
    assertEquals(await evaluate(backend), []);
    // A bill of October that was corrected.
    await deliver(backend, [["2026-10-31", 120]], true);
    assertEquals(await evaluate(backend), ["2026-10: 100", "2026-10: 80"]);
    assertEquals(await crossedIn(backend, "2026-10"), [50, 80, 100]);
  }));

Deno.test("evaluateCosts() makes up for a process that ended after its commit", () =>
  withClock(async (set) => {
    const backend = await withBudget();
    assertEquals(await evaluate(backend), []);
    await deliver(backend, [["2026-03-03", 55]]); // and the process was killed
    set(NOVEMBER + 20 * DAY);
    assertEquals(await evaluate(backend), ["2026-03: 50"]);
    await write(backend, costEntries, [
      costEntry({
        entryId: "late",
        timestamp: NOVEMBER,
        amount: "50",
        source: "collect",
        basis: "estimated",
      }),
    ]);
    assertEquals(await evaluate(backend), []); // neither in a delivery nor of the last days
    const spans = [{ start: NOVEMBER, end: NOVEMBER + 1 }];
    assertEquals((await evaluateCosts(backend, { spans })).length, 1);
  }));

Deno.test("evaluateCosts() hands each finding to one of many processes", () =>
  withClock(async () => {
    const backend = await withBudget();
    await deliver(backend, [["2026-10-03", 90]]);
    const found = await Promise.all([1, 2, 3, 4].map(() => evaluate(backend)));
    assertEquals(found.flat().sort(), ["2026-10: 50", "2026-10: 80"]);
  }));

Deno.test("budgetStatuses() tells what is reached from what was reported when spending falls", () =>
  withClock(async () => {
    const backend = await withBudget();
    await deliver(backend, [["2026-11-03", 95.1]]);
    await deliver(backend, [["2026-11-03", 100.7]], true);
    await evaluate(backend);
    await deliver(backend, [["2026-11-03", 95.1]], true);
    await evaluate(backend);
    const [{ spent, reached, reported, crossed }] = await budgetStatuses(backend, { budgetId: "b" });
    assertEquals([spent, reached, reported], ["95.1", [50, 80], [50, 80, 100]]);
    assertEquals(crossed.map(({ threshold, spent }) => `${threshold} ${spent}`), [
      "50 100.7",
      "80 100.7",
      "100 100.7",
    ]);
  }));

Deno.test("evaluateCosts() arms a threshold again when spending of a running period falls", () =>
  withClock(async () => {
    const backend = await withBudget();
    await deliver(backend, [["2026-11-03", 55], ["2026-10-03", 55]]);
    assertEquals(await evaluate(backend), ["2026-10: 50", "2026-11: 50"]);
    const [{ id }] = await readDeliveries(backend);
    await undoDelivery(backend, id, {});
    assertEquals(await evaluate(backend), []);
    assertEquals(await crossedIn(backend, "2026-11"), []);
    assertEquals(await crossedIn(backend, "2026-10"), [50]); // it is over, and was reported
    await deliver(backend, [["2026-11-03", 60], ["2026-10-03", 60]]);
    assertEquals(await evaluate(backend), ["2026-11: 50"]);
    // Less than a tenth below: as with a credit that comes and goes.
    await deliver(backend, [["2026-11-03", 46]], true);
    assertEquals(await evaluate(backend), []);
    await deliver(backend, [["2026-11-03", 60]], true);
    assertEquals(await evaluate(backend), []);
  }));

Deno.test("Reported thresholds survive a cleanup of metrics and of costs", () =>
  withClock(async () => {
    const backend = await withBudget();
    await deliver(backend, [["2026-05-03", 90]]);
    assertEquals(await evaluate(backend), ["2026-05: 50", "2026-05: 80"]);
    const hub = await ObservabilityHub.open({ backend });
    await hub.cleanupOldData({ retentionDays: 1 });
    await hub.close();
    await deliver(backend, [["2026-05-03", 95]], true);
    assertEquals(await evaluate(backend), []);
    const costs = await CostObservatory.open({ backend });
    assertEquals(await costs.cleanupOldData({ retentionDays: 30 }), { cost_entries: 1, usage_records: 0 });
    await costs.close();
    assertEquals(await crossedIn(backend, "2026-05"), [50, 80]);
    await deliver(backend, [["2026-05-04", 30]]);
    assertEquals(await evaluate(backend), []);
    assertEquals(await crossedIn(backend, "2026-05"), [50, 80]);
  }));

Deno.test("CostObservatory reports late costs of its own, from the first batch on", () =>
  withClock(async () => {
    const backend = await withBudget();
    const told: string[] = [];
    const open = () =>
      CostObservatory.open({
        backend,
        onEvent: (event) => void (event.type === "budget-threshold" && told.push(event.message)),
      });
    const add = (costs: CostObservatory, entryId: string, time: string, amount: string) =>
      costs.addCostEntry(costEntry({ entryId, timestamp: Date.parse(time), amount }));
    const first = await open();
    await add(first, "a", "2026-09-30T23:59:59Z", "50");
    await first.flush();
    assertEquals(told, ["Budget b has reached 50 %: 50 of 100 USD are spent in the period from 2026-09-01"]);
    await first.close();
    const second = await open();
    await add(second, "b", "2026-11-01", "10");
    await second.flush();
    await add(second, "c", "2026-09-01", "30"); // its period is not watched any more
    await second.close();
    assertEquals(told.slice(1), [
      "Budget b has reached 80 %: 80 of 100 USD are spent in the period from 2026-09-01",
    ]);
  }));

Deno.test("CostObservatory counts late costs of a budget that is over", () =>
  withClock(async () => {
    const [startTime, endTime] = [Date.UTC(2026, 8, 1), Date.UTC(2026, 9, 1)];
    const backend = await withBudget({ startTime, endTime, thresholds: [100] });
    const told: string[] = [];
    const onEvent = (event: { type: string }) => void told.push(event.type);
    const costs = await CostObservatory.open({ backend, onEvent });
    for (const [i, amount] of ["60", "40"].entries()) {
      await costs.addCostEntry(costEntry({ entryId: `e${i}`, timestamp: startTime, amount }));
      await costs.flush();
    }
    assertEquals(told, ["budget-threshold"]);
    await costs.close();
  }));

/** Adds a cost of 60 USD to a budget of 100 in the backend. */
async function add(backend: Backend, overrides: Partial<CostEntryInput>): Promise<string[]> {
  const told: string[] = [];
  const costs = await CostObservatory.open({
    backend,
    onEvent: (event) => void (event.type === "budget-threshold" && told.push(event.crossing.spent)),
  });
  // The second is counted as it is committed, the first is read by a query.
  for (const entryId of ["1", "2"]) {
    await costs.addCostEntry(
      costEntry({
        timestamp: NOVEMBER,
        amount: "30",
        ...overrides,
        entryId: JSON.stringify([entryId, overrides]),
      }),
    );
    await costs.flush();
  }
  await costs.close();
  return told;
}

Deno.test("A budget counts billed costs, and estimated ones while there are no billed ones", () =>
  withClock(async () => {
    const spent = async (backend: Backend) => {
      const [{ basis, spent, otherBasis }] = await budgetStatuses(backend);
      return [basis, spent, otherBasis?.basis, otherBasis?.total];
    };
    const backend = await withBudget();
    assertEquals(await spent(backend), ["billed", "0", undefined, undefined]);
    assertEquals(await add(backend, { basis: "estimated" }), ["60"]);
    assertEquals(await spent(backend), ["estimated", "60", undefined, undefined]);
    assertEquals(await add(backend, { basis: "billed" }), []); // 60 again: that was told
    assertEquals(await spent(backend), ["billed", "60", "estimated", "60"]);
    const estimated = await withBudget({ basis: "estimated" });
    assertEquals(await add(estimated, { basis: "billed" }), []);
    assertEquals(await spent(estimated), ["estimated", "0", undefined, "60"]);
    const billed = await withBudget({ basis: "billed" });
    assertEquals(await add(billed, { basis: "estimated" }), []);
    assertEquals(await spent(billed), ["billed", "0", "estimated", "60"]);
  }));

Deno.test("A budget counts only costs for which its conditions hold", () =>
  withClock(async () => {
    const where = [{ field: "serviceName", in: ["EC2", "EKS"] }, { field: "tags.env", ne: "test" }];
    const backend = await withBudget({ where });
    assertEquals(await add(backend, { serviceName: "S3" }), []);
    assertEquals(await add(backend, { serviceName: "EC2", tags: { env: "test" } }), []);
    assertEquals(await add(backend, { serviceName: "EC2" }), ["60"]);
    assertEquals((await budgetStatuses(backend)).map(({ spent, entries }) => [spent, entries]), [["60", 2]]);
    const costs = await CostObservatory.open({ backend });
    for (const i of [1, 2, 3, 4, 5]) {
      await costs.createBudget({ budgetId: `b${i}`, amount: 100, ...(i === 1 ? {} : { where: [...where] }) });
    }
    const spent = (await costs.getBudgetStatus()).map(({ spent }) => spent);
    assertEquals(spent, ["60", "180", "60", "60", "60", "60"]);
    await costs.close();
  }));

Deno.test("acceptBudget() checks conditions and keeps their times as numbers", async () => {
  const where = [{ field: "chargePeriodEnd", gte: new Date(NOVEMBER) }];
  assertEquals(acceptBudget({ budgetId: "b", amount: 1, where }).where, [
    { field: "chargePeriodEnd", gte: NOVEMBER },
  ]);
  const backend = await withBudget();
  const costs = await CostObservatory.open({ backend });
  const wrong = { budgetId: "c", amount: 1, where: [{ field: "servicename", eq: "EC2" }] };
  await assertRejects(() => costs.createBudget(wrong), ValidationError, "serviceName");
  const basis = "blled" as "billed";
  await assertRejects(
    () => costs.createBudget({ budgetId: "c", amount: 1, basis }),
    ValidationError,
    "one of billed",
  );
  await costs.close();
});

Deno.test("unmatchedFilters() finds values that no cost has, and the values that costs have", async () => {
  const budget = acceptBudget({
    budgetId: "b",
    amount: 1,
    categories: ["Computee", "Compute"],
    resourceId: "i-9",
    tags: { team: "nlpp" },
    where: [{ field: "serviceName", eq: "EC3" }, { field: "amount", gt: 1 }],
  });
  const backend = await withBudget();
  assertEquals(await unmatchedFilters(backend, budget), []); // before the first import
  const cost = { category: "Compute", serviceName: "EC2", resourceId: "i-1", tags: { team: "nlp" } };
  await write(backend, costEntries, [costEntry(cost)]);
  assertEquals(await unmatchedFilters(backend, budget), [
    { name: "category", value: "Computee", known: ["Compute"] },
    { name: "resourceId", value: "i-9", known: [] },
    { name: "tags.team", value: "nlpp", known: ["nlp"] },
    { name: "serviceName", value: "EC3", known: ["EC2"] },
  ]);
});

Deno.test("The command, its JSON and the library agree on crossed thresholds", async () => {
  using folder = new TemporaryFolder();
  const { run, fill } = commandIn(folder);
  await run("costs", "set-budget", "b", "--amount", "100");
  await fill([["2026-10-03", "117"]]);
  const budgets = ["costs", "budgets", "--at", "2026-10-15"];
  const json = await run(...budgets, "--format", "json");
  const [status] = JSON.parse(json.out);
  const crossed = [50, 80, 100];
  assertEquals([json.code, status.status, thresholdsOf(status)], [3, "over_budget", crossed]);
  assertMatch(json.err, /^error: Budget over the limit: b \(117 of 100 USD\)\. \[BUDGET_EXCEEDED\]\n$/);
  const [line] = (await run(...budgets, "--format", "ndjson")).out.split("\n");
  // `fill` wrote the costs itself: none was reported yet.
  const { crossed: inLine, reached, reported } = JSON.parse(line);
  assertEquals([inLine, reached, reported], ["50 80 100", "50 80 100", ""]);
  const costs = await CostObservatory.open({ connectionString: folder.sqlite("a.db") });
  const [found] = await costs.getBudgetStatus({ at: Date.UTC(2026, 9, 15) });
  assertEquals(thresholdsOf(found), crossed);
  await costs.close();
});

Deno.test("costs budgets exits with 3 as --fail-on says", async () => {
  using folder = new TemporaryFolder();
  const { run, fill } = commandIn(folder);
  for (const amount of ["90", "100", "1000"]) {
    await run("costs", "set-budget", `b${amount}`, "--amount", amount);
  }
  await fill([["2026-10-03", "90"]]);
  const codes = async (...more: string[]) => {
    const all = ["b90", "b100", "b1000"].map((id) =>
      run("costs", "budgets", id, "--at", "2026-10-15", ...more)
    );
    return (await Promise.all(all)).map(({ code }) => code);
  };
  assertEquals(await codes(), [0, 0, 0]); // all of it is spent, not more
  assertEquals(await codes("--fail-on", "warning"), [3, 3, 0]);
  await fill([["2026-10-04", "0.000001"]]);
  assertEquals(await codes("--fail-on", "over"), [3, 0, 0]);
  assertEquals((await run("costs", "budgets", "--fail-on", "never")).code, 2);
});

Deno.test("costs check exits with 3 when an amount does not fit", async () => {
  using folder = new TemporaryFolder();
  const { run, fill } = commandIn(folder);
  await run("costs", "set-budget", "b", "--amount", "100");
  await fill([["2026-10-03", "90"]]);
  const check = (amount: string, ...more: string[]) =>
    run("costs", "check", "--budget", "b", "--amount", amount, "--at", "2026-10-15", ...more);
  assertEquals((await check("10")).code, 0);
  const refused = await check("10.000000000000000001", "--format", "json");
  assertEquals([refused.code, JSON.parse(refused.out)], [3, {
    budgetId: "b",
    fits: false,
    currency: "USD",
    amount: "100",
    spent: "90",
    requested: "10.000000000000000001",
    remaining: "-0.000000000000000001",
  }]);
  assertMatch(refused.err, /90 of 100 USD are spent\. \[BUDGET_EXCEEDED\]/);
  assertEquals((await run("costs", "check", "--budget", "b", "--amount", "99", "--at", "2026-09")).code, 0);
  for (const amount of ["-1", "x", ""]) assertEquals((await check(amount)).code, 2);
  assertMatch((await run("costs", "check", "--budget", "c", "--amount", "1")).err, /\[NOT_FOUND\]/);
  assertMatch((await run("costs", "check", "--budget", "b")).err, /--amount .*\[MISSING_ARGUMENT\]/);
});

Deno.test("costs set-budget takes conditions and a basis, and warns of values that no cost has", async () => {
  using folder = new TemporaryFolder();
  const { run, fill } = commandIn(folder);
  await fill([["2026-10-03", "90"]]);
  const { err } = await run(
    ...["costs", "set-budget", "b", "--amount", "9", "--category", "Gpuu"],
    ...["--where", "serviceName=EC2", "--basis", "billed"],
  );
  assertMatch(err, /^Created: b, 9 USD per 1mo, for Gpuu, conditions on serviceName, billed costs only\.\n/);
  assertMatch(err, /No cost has category "Gpuu" yet\. Did you mean "gpu"\?\n/);
  assertMatch(err, /No cost has serviceName "EC2" yet\.\n$/);
  const fine = await run("costs", "set-budget", "c", "--amount", "9", "--category", "gpu");
  assertEquals(fine.err, "Created: c, 9 USD per 1mo, for gpu.\n");
  const { code, err: wrong } = await run("costs", "set-budget", "d", "--amount", "9", "--basis", "guessed");
  assertEquals([code, /one of billed, estimated/.test(wrong)], [2, true]);
});

Deno.test("database import prints the thresholds that late costs cross, once", async () => {
  using folder = new TemporaryFolder();
  const { run } = commandIn(folder);
  await run("costs", "set-budget", "b", "--amount", "100");
  Deno.writeTextFileSync(folder.file("bill.csv"), "timestamp,amount,resourceId\n2026-03-03,60,r\n");
  const bill = ["database", "import", "costs", "bill.csv", "--set", "category=gpu", "--set", "currency=USD"];
  const told = /Budget b has reached 50 %: 60 of 100 USD are spent in the period from 2026-03-01\n/;
  const first = await run(...bill);
  assertEquals([first.code, told.test(first.err)], [0, true]);
  assertEquals((await run(...bill)).err, "");
});

Deno.test("costs anomalies prints days with unusual costs", async () => {
  using folder = new TemporaryFolder();
  const { run, fill } = commandIn(folder);
  const days = Array.from(
    { length: 60 },
    (_, i) => new Date(Date.UTC(2026, 0, 1 + i)).toISOString().slice(0, 10),
  );
  await fill(days.map((day, i) => [day, i === 40 ? "75.5" : "10"]));
  const range = ["costs", "anomalies", "--since", "2026-02-01", "--until", "2026-03-01"];
  const { out } = await run(...range);
  assertMatch(
    out,
    /^day +kind .*\n2026-02-10 +high +high +gpu +USD +75\.50 +10\.00 +\+655 % +no +[0-9a-f]{8}\n$/,
  );
  const [, row] = (await run(...range, "--format", "csv")).out.trim().split(/\r?\n/);
  assertMatch(row, /^2026-02-10,high,high,gpu,USD,75\.5,10,655,1770681600000\/[0-9a-f]{64},,$/);
  const [found] = JSON.parse((await run(...range, "--format", "json", "--group-by", "resourceId")).out);
  assertEquals([found.amount, found.group, found.kind], ["75.5", { resourceId: "gpu-01" }, "high"]);
  assertEquals((await run(...range, "--where", "category=cpu")).err, "No anomalies.\n");
  assertEquals((await run(...range, "--group-by", "tag.team")).code, 2);
});

Deno.test("costs ack acknowledges an anomaly by its short or whole id", async () => {
  using folder = new TemporaryFolder();
  const { run, fill } = commandIn(folder);
  const now = Temporal.Now.zonedDateTimeISO("UTC").toPlainDate();
  const day = (days: number) => now.subtract({ days }).toString();
  await fill(Array.from({ length: 60 }, (_, i) => [day(61 - i), i === 50 || i === 52 ? "75.5" : "10"]));
  const list = async () => JSON.parse((await run("costs", "anomalies", "--format", "json")).out);
  const lines = (await run("costs", "anomalies")).out.trim().split("\n").slice(1);
  const [first, second] = lines.map((line) => line.split(/ +/).at(-1)!);
  assert(first !== second); // two days of one series
  const { err, code } = await run("costs", "ack", first, "--by", "kim");
  assertEquals([code, err], [0, `Acknowledged: gpu: 75.5 USD on ${day(11)}, where about 10 are expected.\n`]);
  const [one, other] = await list();
  assertEquals([one.acknowledgedBy, typeof one.acknowledgedAt, other.acknowledgedAt], [
    "kim",
    "string",
    undefined,
  ]);
  assertMatch((await run("costs", "anomalies")).out, new RegExp(` kim +${first}\n.* no +${second}\n`));
  assertEquals((await run("costs", "ack", other.anomalyId, "--by", "ada")).code, 0);
  assertEquals((await list())[1].acknowledgedBy, "ada");
  const missing = await run("costs", "ack", first, "--group-by", "resourceId");
  assertEquals(missing.code, 2);
  assertMatch(missing.err, /There is no anomaly .* Pass the options .*\[NOT_FOUND\]/);
  assertMatch((await run("costs", "ack")).err, /Name an anomaly by its id/);
});

const thresholdsOf = ({ crossed }: { crossed: { threshold: number }[] }) =>
  crossed.map(({ threshold }) => threshold);

/** Runs the command in a folder with a SQLite database, and adds costs to it without evaluating them. */
function commandIn(folder: TemporaryFolder) {
  const cli = [...RUN];
  const run = async (...args: string[]) => {
    const env = { OPENFINOPS_CONNECTION_STRING: "sqlite:///a.db" };
    const command = new Deno.Command(Deno.execPath(), {
      args: [...cli, ...args],
      cwd: folder.path,
      env,
      stdin: "null",
    });
    const { code, stdout, stderr } = await command.output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, out: text(stdout), err: text(stderr) };
  };
  const fill = async (costs: readonly (readonly [day: string, amount: string])[]) => {
    const backend = await openBackend({ connectionString: folder.sqlite("a.db") });
    const entries = costs.map(([day, amount]) =>
      costEntry({ entryId: day, timestamp: Date.parse(day), amount })
    );
    await write(backend, costEntries, entries);
    await backend.close();
  };
  return { run, fill };
}

Deno.test("database import and costs price evaluate late estimated costs too", async () => {
  using folder = new TemporaryFolder();
  const { run } = commandIn(folder);
  await run("costs", "set-budget", "b", "--amount", "100");
  Deno.writeTextFileSync(folder.file("estimates.csv"), "timestamp,amount,resourceId\n2026-03-03,60,r\n");
  const set = ["category=gpu", "currency=USD", "basis=estimated"].flatMap((pair) => ["--set", pair]);
  const imported = await run("database", "import", "costs", "estimates.csv", ...set);
  const told = (threshold: number, spent: number) =>
    `Budget b has reached ${threshold} %: ${spent} of 100 USD are spent in the period from 2026-03-01\n`;
  assertEquals([imported.code, imported.err], [0, told(50, 60)]);
  const backend = await openBackend({ connectionString: folder.sqlite("a.db") });
  await write(backend, usageRecords, [
    {
      usageId: "u",
      timestamp: Date.UTC(2026, 2, 4),
      provider: "own",
      model: "m",
      requests: 1,
      inputTokens: 1_000_000,
    },
  ]);
  await backend.close();
  await run("prices", "set", "m", "--provider", "own", "--unit", "input", "--amount", "30");
  const priced = await run("costs", "price");
  assertEquals([priced.code, priced.err], [0, told(80, 90)]);
});
