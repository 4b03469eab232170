import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import {
  exportRecords,
  type ImportOptions,
  importRecords,
  type ImportReport,
  openBackend,
  type Reject,
  TransferError,
} from "../mod.ts";
import { costEntries, type CostEntry } from "../src/records/cost_entry.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { PRESETS } from "../src/transfer/presets/presets.ts";
import { previewImport } from "../src/transfer/preview.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";
import { openfinops, type Run } from "./command.ts";

const caseUrl = (name: string) => new URL(`cases/${name}`, import.meta.url);
const BILLS = caseUrl("bills").pathname;

/** Runs a database command as a user would. */
const database = (args: string[], cwd = "."): Promise<Run> => openfinops(["database", ...args], { cwd });

/** What became of an import of text. */
interface Imported {
  report: ImportReport;
  rejects: Reject[];
  notes: string[];
  costs: CostEntry[];
}

/** Imports the text of a file into an empty database. */
async function imported(text: string, options: Partial<ImportOptions> = {}): Promise<Imported> {
  const backend = await openBackend({ connectionString: "sqlite://" });
  const rejects: Reject[] = [];
  const notes: string[] = [];
  try {
    const report = await importRecords(new Blob([text]).stream(), {
      backend,
      dataset: "cost_entries",
      onReject: (reject) => rejects.push(reject),
      onNote: (note) => notes.push(note),
      ...options,
    });
    return { report, rejects, notes, costs: await read(backend, costEntries) };
  } finally {
    await backend.close();
  }
}

const caseText = (name: string) => Deno.readTextFile(caseUrl(`bills/${name}`));

/** A file of CSV from its columns and rows. */
const csv = (columns: string, ...rows: string[]) => `${[columns, ...rows].join("\n")}\n`;

/** Fields of costs, in the order of the amounts. */
const fields = (costs: readonly CostEntry[], ...names: (keyof CostEntry)[]) =>
  costs.map((cost) => names.map((name) => cost[name]));

Deno.test("importRecords() names the columns of a bill that no field takes, and --map keeps one", async () => {
  const rows = csv(
    "line_item_line_item_type,line_item_unblended_cost,line_item_usage_start_date,line_item_currency_code," +
      "line_item_product_code,bill_bill_type,my_own",
    "Usage,1.5,2026-11-01T00:00:00Z,USD,AmazonEC2,Anniversary,blue",
  );
  const plain = await imported(rows);
  assertEquals(plain.notes.slice(1), [
    "no field of cost_entries takes my_own. To keep one, pass --format aws-cur --map tags.NAME=COLUMN",
  ]);
  const kept = await imported(rows, { format: "aws-cur", map: { "tags.color": "my_own" } });
  assertEquals(kept.costs[0].tags, { color: "blue" });
  assertEquals(kept.notes, []);
  const complete = await imported(rows.replaceAll(/,(bill_bill_type,my_own|Anniversary,blue)/g, ""));
  assertEquals(complete.notes.length, 1); // the format that was detected
});

// --- AWS

for (const place of ["SQLite", "PostgreSQL"]) {
  Deno.test(`database import reads three months of AWS bills without options into ${place}`, async () => {
    using folder = new TemporaryFolder();
    await using server = place === "PostgreSQL" ? await TestDatabase.create() : undefined;
    const at = ["--connection-string", server?.url ?? folder.sqlite("bills.db")];
    const november = caseUrl("deliveries/cur-2026-11.csv.gz").pathname;
    const months = [`${BILLS}/cur-2026-09.csv.gz`, `${BILLS}/cur-2026-10.csv.gz`, november];
    const rows = [];
    for (const file of months) {
      const { code, out, err } = await database(["import", "costs", file, ...at]);
      assertEquals(code, 0, err);
      assertMatch(err, /: AWS Cost and Usage Report .*\(detected from the columns; --format overrides\)\n/);
      rows.push(out.trim().split(/\s+/)[6]);
    }
    assertEquals(rows, ["2,172", "2,244", "2,028"]);
    const redelivered = november.replace("11.csv", "11-redelivered.csv");
    assertMatch(
      (await database(["import", "costs", redelivered, ...at])).out,
      /aws-cur:999999999999 +2026-11 +USD +11882.3759464833 +11882.3759464833\n?$/,
    );

    const totals = async (key: string, ...args: string[]) => {
      const asked = ["query", "costs", "--format", "json", ...args, ...at];
      const { code, out, err } = await database(asked);
      assertEquals(code, 0, err);
      const found = JSON.parse(out) as {
        startTime?: string;
        group?: Record<string, string>;
        total: string;
      }[];
      return found.map(({ startTime, group, total }) => [group?.[key] ?? startTime?.slice(0, 10), total]);
    };
    const usd = ["--currency", "USD"];
    const berlin = ["--bucket", "1mo", "--time-zone", "Europe/Berlin"];
    assertEquals(await totals("", ...usd, "--bucket", "1mo"), [
      ["2026-09-01", "10684.7792522649"],
      ["2026-10-01", "10363.5061938117"],
      ["2026-11-01", "11882.3759464833"],
    ]);
    assertEquals(await totals("", "--currency", "EUR", "--bucket", "1mo"), [
      ["2026-09-01", "300"],
      ["2026-10-01", "300"],
      ["2026-11-01", "300"],
    ]);
    assertEquals((await totals("", ...usd, ...berlin)).map(([, total]) => total), [
      "10682.320879853",
      "10362.7781237208",
      "11885.5623889861",
    ]);
    const teams = await totals("tags.user_team", ...usd, ...berlin, "--group-by", "tags.user_team");
    const of = (name: string) => teams.filter(([team]) => team === name).map(([, total]) => total);
    assertEquals(of("nlp"), ["2222.6038316053", "2079.314748752", "2936.9835609423"]);
    assertEquals(of("platform"), ["2574.5580656446", "1782.4677752142", "2435.8010655854"]);
    assertEquals(of("search"), ["1663.7338243198", "2547.1116120515", "2130.7210250736"]);
    assertEquals(of("vision"), ["2575.4350069199", "2430.5188689934", "2223.4552628652"]);
    const missing = teams.filter(([team]) => /^2026/.test(team!)).map(([, total]) => total);
    assertEquals(missing, ["1645.9901513634", "1523.3651187097", "2158.6014745196"]);
    assertEquals(Object.fromEntries(await totals("serviceName", ...usd, "--group-by", "serviceName")), {
      AmazonEC2: "29066.2238428249",
      AmazonSageMaker: "1484.7274959755",
      AmazonBedrock: "1085.5815059688",
      AmazonRDS: "725.6125469399",
      AmazonS3: "507.3380959302",
      AWSDataTransfer: "61.1779049206",
    });
  });
}

/** A legacy report of each type of line, with net costs. */
const LEGACY = csv(
  "identity/LineItemId,bill/PayerAccountId,bill/BillingPeriodStartDate,lineItem/UsageStartDate,lineItem/LineItemType," +
    "lineItem/ProductCode,lineItem/CurrencyCode,lineItem/UnblendedCost,lineItem/NetUnblendedCost," +
    "savingsPlan/SavingsPlanEffectiveCost,savingsPlan/TotalCommitmentToDate,savingsPlan/UsedCommitment," +
    "reservation/EffectiveCost,reservation/UnusedAmortizedUpfrontFeeForBillingPeriod,reservation/UnusedRecurringFee," +
    "resourceTags/user:Team,resourceTags/aws:createdBy",
  ...[
    "Usage,AmazonEC2,USD,10,9,,,,,,,nlp,",
    "DiscountedUsage,AmazonEC2,USD,0,0,,,,4.25,,,nlp,root",
    "SavingsPlanCoveredUsage,AmazonEC2,USD,8,8,6.5,,,,,,,",
    "SavingsPlanNegation,ComputeSavingsPlans,USD,-8,-8,,,,,,,,",
    "SavingsPlanRecurringFee,ComputeSavingsPlans,USD,7,7,,7,6.5,,,,,",
    "SavingsPlanUpfrontFee,ComputeSavingsPlans,USD,100,100,,,,,,,,",
    "RIFee,AmazonEC2,USD,5,5,,,,,0.25,0.5,,",
    "Fee,AmazonRoute53,USD,12,12,,,,,,,,",
    "Tax,AmazonEC2,USD,1.9,1.9,,,,,,,,",
    "Credit,AmazonEC2,USD,-3,-3,,,,,,,,",
    "EdpDiscount,AmazonEC2,USD,-1,,,,,,,,,",
    "Refund,AmazonEC2,USD,-2,-2,,,,,,,,",
  ].map((line, i) => `l${i},9,2026-01-01T00:00:00Z,2026-01-0${i % 9 + 1}T0${i % 10}:00:00Z,${line}`),
);

Deno.test("importRecords() reads each type of line of a legacy AWS report", async () => {
  const { costs, report, rejects } = await imported(LEGACY);
  assertEquals([report.stored, rejects], [12, []]);
  const found = fields(costs, "serviceName", "amount", "chargeCategory", "effectiveCost", "chargeFrequency");
  assertEquals(found.map((values) => values.join(" ")).sort(), [
    "AmazonEC2 -2 Adjustment -2 One-Time",
    "AmazonEC2 -3 Credit -3 One-Time",
    "AmazonEC2 0 Credit 0 One-Time", // the discount, which net costs have in them
    "AmazonEC2 0 Usage 4.25 Usage-Based",
    "AmazonEC2 1.9 Tax 1.9 One-Time",
    "AmazonEC2 5 Purchase 0.75 Recurring",
    "AmazonEC2 8 Usage 6.5 Usage-Based",
    "AmazonEC2 9 Usage 9 Usage-Based",
    "AmazonRoute53 12 Purchase 12 One-Time",
    "ComputeSavingsPlans -8 Usage 0 Usage-Based",
    "ComputeSavingsPlans 100 Purchase 0 One-Time",
    "ComputeSavingsPlans 7 Purchase 0.5 Recurring",
  ]);
  const discounted = costs.find(({ effectiveCost }) => effectiveCost === "4.25")!;
  assertEquals(discounted.tags, { "user:Team": "nlp", "aws:createdBy": "root" });
  assertEquals([discounted.source, discounted.category], ["aws-cur:9", "Compute"]);
});

Deno.test("importRecords() reads AWS costs before discounts where no column is net", async () => {
  const columns = LEGACY.split("\n").map((line) => line.split(",").toSpliced(8, 1).join(","));
  const { costs } = await imported(columns.join("\n"));
  const discount = costs.filter(({ amount }) => amount === "-1");
  assertEquals(fields(discount, "chargeCategory", "effectiveCost"), [["Credit", "-1"]]);
  assert(costs.some(({ amount }) => amount === "10"));
});

Deno.test("importRecords() takes models that Bedrock sells on AWS Marketplace for AI", async () => {
  const header =
    "line_item_usage_start_date,line_item_line_item_type,line_item_product_code,line_item_currency_code," +
    "line_item_unblended_cost,product";
  const product = (name: string) => `"{""product_name"": ""${name}""}"`;
  const { costs } = await imported(csv(
    header,
    `2026-01-01,Usage,8zjjhuq,USD,1,${product("Claude (Amazon Bedrock Edition)")}`,
    `2026-01-02,Usage,9abc,USD,2,${product("A firewall")}`,
  ));
  assertEquals(fields(costs, "category", "serviceName"), [
    ["AI and Machine Learning", "8zjjhuq"],
    ["9abc", "9abc"],
  ]);
});

// --- Azure

Deno.test("importRecords() reads an Azure bill with its preset, or mapped", async () => {
  const text = await caseText("azure.csv");
  const map = {
    timestamp: "Date",
    amount: "Cost",
    resourceId: "ResourceId",
    category: "MeterCategory",
    tags: "Tags",
  };
  const set = { currency: "USD" };
  for (const options of [{ format: "azure", set }, { map, set, dateFormats: ["MM/DD/YYYY"] }] as const) {
    const { costs } = await imported(text, options);
    const day = Date.UTC(2023, 8, 21);
    assertEquals(fields(costs, "timestamp", "amount", "category"), [[day, "3.25", "Compute"]]);
    assertEquals(costs[0].tags, { team: "nlp" });
  }
});

Deno.test("importRecords() reads actual and amortized exports of Azure agreements", async () => {
  const ea = csv(
    "InvoiceSectionName,SubscriptionId,Date,MeterCategory,ConsumedService,CostInBillingCurrency,Tags,ChargeType,Frequency," +
      "PricingModel,BillingAccountId,BillingCurrencyCode,BillingPeriodStartDate,ResourceId",
    'A,s,9/2/2023,Virtual Machines,c,1.5,"""team"": ""nlp"",""n"": 1",Usage,UsageBased,OnDemand,8,CAD,09/01/2023,vm',
    "A,s,09/03/2023,Virtual Machines,c,2.5,,Usage,UsageBased,Reservation,8,CAD,09/01/2023,vm",
    "A,s,09/04/2023,Virtual Machines,c,0.5,,UnusedReservation,UsageBased,Reservation,8,CAD,09/01/2023,",
    "A,s,09/05/2023,Virtual Machines,c,30,,Purchase,Recurring,Reservation,8,CAD,09/01/2023,",
    "A,s,09/06/2023,,c,-1,,Refund,OneTime,,8,CAD,09/01/2023,",
  );
  const { costs, notes } = await imported(ea);
  assertMatch(notes[0], /^Azure cost details/);
  assertEquals(
    fields(costs, "amount", "effectiveCost", "chargeCategory", "chargeFrequency", "resourceId", "category"),
    [
      ["1.5", "1.5", "Usage", "Usage-Based", "vm", "Compute"],
      ["0", "2.5", "Usage", "Usage-Based", "vm", "Compute"],
      ["0", "0.5", "Usage", "Usage-Based", "Virtual Machines", "Compute"],
      ["30", "0", "Purchase", "Recurring", "Virtual Machines", "Compute"],
      ["-1", "-1", "Adjustment", "One-Time", "c", "c"],
    ],
  );
  assertEquals([costs[0].tags, costs[0].source, costs[0].currency], [
    { team: "nlp", n: "1" },
    "azure:8",
    "CAD",
  ]);
  assertEquals(costs[0].billingPeriodStart, Date.UTC(2023, 8, 1));
  // The names of a Microsoft Customer Agreement differ in case.
  const mca = csv(
    "invoiceId,billingAccountId,SubscriptionId,date,meterCategory,chargeType,pricingModel,costInBillingCurrency," +
      "billingCurrency,paygCostInBillingCurrency,tags",
    "I1,b,s,01/31/2026,Storage,Usage,OnDemand,2,EUR,3,",
  );
  const { costs: [cost] } = await imported(mca);
  assertEquals([cost.amount, cost.listCost, cost.currency, cost.invoiceId], ["2", "3", "EUR", "I1"]);
});

// --- Google Cloud, Oracle

Deno.test("importRecords() reads a Google Cloud bill, and its credits as costs of their own", async () => {
  for (const format of ["gcp", undefined] as const) {
    const { costs } = await imported(await caseText("gcp.ndjson"), { format });
    assertEquals(fields(costs, "amount", "chargeCategory", "serviceName", "currency").sort(), [
      ["-0.5", "Credit", "Compute Engine", "USD"],
      ["1.5", "Usage", "Compute Engine", "USD"],
    ]);
    for (const { tags, source, category, resourceId } of costs) {
      assertEquals([tags, source, category, resourceId], [{ team: "nlp" }, "gcp:01", "Compute", "vm1"]);
    }
  }
});

Deno.test("importRecords() merges labels of Google Cloud and rejects a line with a bad credit whole", async () => {
  const line = (credit: unknown) =>
    `${
      JSON.stringify({
        billing_account_id: "01",
        service: { description: "Vertex AI" },
        usage_start_time: "2026-01-31 23:00:00 UTC",
        project: { id: "p", labels: [{ key: "env", value: "prod" }, { key: "team", value: "x" }] },
        labels: [{ key: "team", value: "nlp" }],
        cost: 2,
        currency: "EUR",
        cost_type: "tax",
        invoice: { month: "202602" },
        credits: [{ name: "c", amount: credit }],
      })
    }\n`;
  const { costs, rejects } = await imported(line(-1) + line("x"), { idColumn: undefined });
  assertEquals(rejects.map(({ line }) => line), [2]);
  assertEquals(fields(costs, "amount", "chargeCategory", "resourceId").sort(), [
    ["-1", "Credit", "Vertex AI"],
    ["2", "Tax", "Vertex AI"],
  ]);
  assertEquals(costs[0].tags, { env: "prod", team: "nlp" });
  assertEquals(costs[0].billingPeriodStart, Date.UTC(2026, 1));
  const withIds = await imported(line(-1), { format: "gcp", idColumn: "project.id" });
  assertEquals(withIds.costs.map(({ entryId }) => entryId).sort(), ["p", "p/1"]);
});

Deno.test("importRecords() reads a cost report of Oracle and skips rows without a cost", async () => {
  const text = csv(
    "lineItem/referenceNo,lineItem/tenantId,lineItem/intervalUsageStart,lineItem/intervalUsageEnd,product/service," +
      "product/resourceId,cost/subscriptionId,cost/myCost,cost/currencyCode,lineItem/isCorrection," +
      "tags/Oracle-Tags.CreatedBy",
    "1,t,2023-11-13T10:00Z,2023-11-13T11:00Z,DATABASE,ocid1,s,0.012264277499950943,USD,false,default/me",
    "2,t,2023-11-13T07:00Z,2023-11-13T08:00Z,TELEMETRY,x,s,2.323760000E-9,USD,true,",
    "3,t,2023-11-13T07:00Z,2023-11-13T08:00Z,COMPUTE,x,s,,,false,",
  );
  const { costs, report } = await imported(text);
  assertEquals([report.stored, report.skipped, report.rejected], [2, 1, 0]);
  assertEquals(fields(costs, "amount", "category", "chargeClass", "source"), [
    ["0.00000000232376", "Management and Governance", "Correction", "oci:s"],
    ["0.012264277499950943", "Databases", undefined, "oci:s"],
  ]);
  assertEquals(costs[1].tags, { "Oracle-Tags.CreatedBy": "default/me" });
});

// --- OpenAI, Anthropic

Deno.test("database import reads OpenAI costs and counts the row without an amount as skipped", async () => {
  using folder = new TemporaryFolder();
  const at = ["--connection-string", folder.sqlite("a.db")];
  const { code, out } = await database([
    "import",
    "costs",
    `${BILLS}/openai-costs.csv`,
    "--format",
    "openai",
    ...at,
  ]);
  assertEquals(code, 0);
  assertEquals(out.split("\n")[1].trim().split(/\s+/), ["1", "0", "0", "0", "1", "0"]);
  const [cost] = JSON.parse((await database(["query", "costs", "--format", "json", ...at])).out);
  assertEquals(
    [cost.timestamp, cost.amount, cost.currency, cost.resourceId],
    ["2025-10-05T00:00:00.000Z", "0.895874", "USD", cost.serviceName],
  );
});

Deno.test("importRecords() reads pages of the cost APIs of OpenAI and Anthropic", async () => {
  const result = (value: unknown, project: string | null) => ({
    amount: { value, currency: "usd" },
    line_item: "gpt-4o, input",
    project_id: project,
  });
  const openai = {
    object: "page",
    data: [
      { start_time: 1759622400, end_time: 1759708800, results: [result(0.06, "proj"), result(0.1, null)] },
      { start_time: 1759708800, end_time: 1759795200, results: [] },
    ],
    has_more: false,
  };
  const { costs, report } = await imported(`${JSON.stringify(openai)}\n`);
  assertEquals([report.stored, report.skipped], [2, 1]);
  assertEquals(fields(costs, "amount", "resourceId", "currency", "timestamp").sort(), [
    ["0.06", "proj", "USD", 1_759_622_400_000],
    ["0.1", "OpenAI API", "USD", 1_759_622_400_000],
  ]);
  const anthropic = {
    data: [{
      starting_at: "2026-01-01T00:00:00Z",
      ending_at: "2026-01-02T00:00:00Z",
      results: [{
        currency: "USD",
        amount: "123.78912",
        workspace_id: "wrkspc_1",
        description: "Claude Usage - Input Tokens",
        cost_type: "tokens",
        model: "claude",
      }],
    }],
  };
  const { costs: [cost], notes } = await imported(JSON.stringify(anthropic));
  assertMatch(notes[0], /^Anthropic/);
  assertEquals([cost.amount, cost.resourceId, cost.source], ["1.2378912", "wrkspc_1", "anthropic:Anthropic"]);
  assertEquals(cost.chargePeriodEnd, Date.UTC(2026, 0, 2));
});

// --- Mapping

Deno.test("--set fills in what the mapped column has no value for", async () => {
  const tax = await imported(await caseText("bill-with-tax.csv"), {
    map: { timestamp: "t", amount: "c", resourceId: "rid", category: "pc" },
    set: { resourceId: "none", currency: "USD" },
  });
  assertEquals(fields(tax.costs, "resourceId", "amount").sort(), [["i-1", "1"], ["none", "0.5"]]);
  const map = { timestamp: "Day", amount: "Cost", resourceId: "Res", currency: "Cur" };
  const set = { resourceId: "unknown", category: "x" };
  const { costs } = await imported(await caseText("set-over-map.csv"), { map, set });
  assertEquals(fields(costs, "resourceId", "amount", "currency").sort(), [
    ["gpu-01", "1", "EUR"],
    ["unknown", "2", "USD"],
  ]);
});

Deno.test("database import refuses costs without a currency and names the column that looks like one", async () => {
  using folder = new TemporaryFolder();
  const at = ["--connection-string", folder.sqlite("a.db")];
  const map = ["timestamp=Day", "amount=Cost", "resourceId=Res"].flatMap((pair) => ["--map", pair]);
  const file = `${BILLS}/set-over-map.csv`;
  const refused = await database(["import", "costs", file, ...map, "--set", "category=x", ...at]);
  assertEquals([refused.code, refused.out], [2, ""]);
  assertMatch(
    refused.err,
    /no column currency\. Is it "Cur"\? Use --map "currency=Cur", or .* \[MISSING_CURRENCY\]/,
  );
  assertEquals(JSON.parse((await database(["query", "costs", "--format", "json", ...at])).out), []);
  const twice = await database(["import", "costs", file, ...map, "--map", "amount=Res", ...at]);
  assertEquals(twice.code, 2);
  assertMatch(twice.err, /--map names "amount" twice\. .* \[CONFLICTING_OPTIONS\]/);
});

Deno.test("importRecords() never takes a missing currency of a line for dollars", async () => {
  const text = csv(
    "timestamp,resourceId,category,amount,currency",
    "2026-01-01,r,c,1,EUR",
    "2026-01-01,r,c,300,",
  );
  const { costs, rejects } = await imported(text, { format: "csv" });
  assertEquals(fields(costs, "amount", "currency"), [["1", "EUR"]]);
  assertEquals(rejects.map(({ line, reason }) => [line, reason]), [
    [3, "Cannot accept a cost entry: currency must be given in the column currency, not null."],
  ]);
  const json = '{"Day":"2026-01-01","amount":1,"resourceId":"r","category":"c","Cur":"EUR"}\n';
  const ndjson = await imported(json, { map: { timestamp: "Day" } });
  assertEquals([ndjson.report.stored, ndjson.report.rejected], [0, 1]);
});

Deno.test("importRecords() reads the first column with a value, paths and scaled amounts", async () => {
  const map = {
    timestamp: "Day",
    amount: "Net,Gross",
    "tags.team": "labels[key=team].value",
    serviceName: "s.name",
  };
  const options: Partial<ImportOptions> = { map, set: { currency: "USD" }, scale: { amount: "0.01" } };
  const labels = [{ key: "env", value: "x" }, { key: "team", value: "nlp" }];
  const lines = [{ Net: 150, Gross: 1 }, { Net: null, Gross: "33.333333333333333333" }, { Gross: 3 }].map((
    cost,
  ) => JSON.stringify({ Day: "2026-01-01", labels, s: { name: "EC2" }, ...cost }));
  const { costs } = await imported(lines.join("\n"), options);
  assertEquals(fields(costs, "amount", "category", "resourceId").sort(), [
    ["0.03", "EC2", "EC2"],
    ["0.333333333333333333", "EC2", "EC2"],
    ["1.5", "EC2", "EC2"],
  ]);
  assertEquals(costs[0].tags, { team: "nlp" });
  const quoted = JSON.stringify(labels).replaceAll('"', '""');
  const file = csv("Day,Net,Gross,labels,s", `2026-01-01,,7,"${quoted}","{""name"": ""S3""}"`);
  const { costs: [cost] } = await imported(file, options);
  assertEquals([cost.amount, cost.tags, cost.serviceName], ["0.07", { team: "nlp" }, "S3"]);
  const tags = await imported(file, {
    map: { timestamp: "Day", amount: "Gross", tags: "labels", category: "s" },
    set: {
      currency: "USD",
      resourceId: "r",
    },
  });
  assertEquals(tags.costs[0].tags, { env: "x", team: "nlp" });
});

Deno.test("importRecords() detects no format where the columns are mapped, and says so", async () => {
  const map = { timestamp: "lineItem/UsageStartDate", amount: "lineItem/UnblendedCost" };
  const set = { category: "c", resourceId: "r", currency: "USD" };
  const { costs, notes } = await imported(LEGACY, { map, set });
  assertEquals(
    new Set(costs.map(({ source }) => source)),
    new Set(["csv:category=c,currency=USD,resourceId=r"]),
  );
  assertMatch(notes[0], /--format aws-cur/);
  const plain = await imported(LEGACY, { format: "aws-cur", map: { amount: "lineItem/UnblendedCost" } });
  assert(plain.costs.some(({ amount, serviceName }) => amount === "10" && serviceName === "AmazonEC2"));
});

Deno.test("importRecords() names the value of a map or a sum that cannot be read", async () => {
  const header =
    "line_item_usage_start_date,line_item_line_item_type,line_item_product_code,line_item_currency_code," +
    "line_item_unblended_cost,savings_plan_total_commitment_to_date,savings_plan_used_commitment,resource_tags";
  const { rejects } = await imported(csv(
    header,
    "2026-01-01,Usage,AmazonEC2,USD,1,,,{broken",
    "2026-01-01,SavingsPlanRecurringFee,ComputeSavingsPlans,USD,1,x,2,",
  ));
  assertEquals(rejects.map(({ line, reason }) => `${line}: ${reason}`), [
    '2: Cannot accept a cost entry: tags must be a JSON object as in {"team": "nlp"}, not "{broken".',
    '3: Cannot accept a cost entry: effectiveCost must be a number as in 41.2, not "x".',
  ]);
});

// --- Preview

Deno.test("database import --dry-run shows the mapping, sample values and totals, and stores nothing", async () => {
  using folder = new TemporaryFolder();
  const file = caseUrl("deliveries/cur-2026-11.csv.gz").pathname;
  const { code, out } = await database(["import", "costs", file, "--dry-run"], folder.path);
  assertEquals(code, 0);
  assertEquals([...Deno.readDirSync(folder.path)], []);
  assertMatch(out, /\namount +line_item_unblended_cost +0\.0563620198 +0\.6107322718 +1\.0781901777\n/);
  assertMatch(out, /\nserviceProviderName +=AWS +AWS +AWS +AWS\ninvoiceIssuerName +=AWS /);
  assertMatch(out, /\ntags +resource_tags +\{"user_env":"dev","user_team":"search"\} /);
  assertMatch(out, /\nsource +aws-cur:999999999999 /); // of no column
  const totals = [
    "EUR 2026-11 Purchase 3 300",
    "USD 2026-11 Adjustment 3 -9.75",
    "USD 2026-11 Credit 3 -592.9431808583",
    "USD 2026-11 Tax 3 264.3",
    "USD 2026-11 Usage 2,016 12220.7691273416",
  ];
  const lines = out.split("\n").map((line) => line.trim().split(/ +/).join(" "));
  assertEquals(lines.filter((line) => /^(EUR|USD) /.test(line)), totals);
  assertEquals(lines.at(-2), "2,028 0 0");
});

Deno.test("database import --dry-run --json prints ten records of each mapping", async () => {
  using folder = new TemporaryFolder();
  const files = [caseUrl("deliveries/cur-2026-11.csv.gz").pathname, `${BILLS}/gcp.ndjson`];
  const { code, out } = await database(["import", "costs", ...files, "--dry-run", "--json"], folder.path);
  const { mappings: [cur, gcp], totals, counts } = JSON.parse(out);
  assertEquals([code, cur.name, cur.records.length, gcp.name, gcp.records.length], [
    0,
    files[0],
    10,
    files[1],
    2,
  ]);
  const { timestamp, amount, deliveryId } = cur.records[0];
  assertEquals([timestamp, amount, deliveryId], ["2026-11-01T00:00:00.000Z", "0.0563620198", undefined]);
  assertEquals(cur.fields.find(({ field }: { field: string }) => field === "invoiceIssuerName").from, "=AWS");
  assertEquals([totals.length, counts], [7, { records: 2_030, skipped: 0, bad: 0 }]);
  const alone = await database(["import", "costs", files[1], "--json"], folder.path);
  assertEquals(alone.code, 2);
  assertMatch(alone.err, /^error: --json applies to --dry-run only\. \[CONFLICTING_OPTIONS\]\n/);
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

Deno.test("previewImport() reports the records that it has read", async () => {
  const seen: number[] = [];
  const text = csv("timestamp,cpuUsage", ...Array<string>(3).fill("2026-01-01,1"));
  const file = { name: "m.csv", open: () => Promise.resolve(new Blob([text])) };
  await previewImport([file, file], {
    dataset: "system_metrics",
    onProgress: ({ staged, stored, known }) => seen.push(staged + stored + known),
  });
  assertEquals(seen, [3, 6]);
});

Deno.test("importRecords() names no column that the vendor of a bill documents", async () => {
  const bills: [format: ImportOptions["format"], header: string][] = [
    [
      "aws-cur",
      "identity/LineItemId,bill/BillType,lineItem/LineItemType,lineItem/UnblendedCost,lineItem/UsageStartDate," +
      "lineItem/CurrencyCode,lineItem/ProductCode,product/vcpu,pricing/term,savingsPlan/OfferingType,splitLineItem/ParentResourceId",
    ],
    [
      "azure",
      "Date,CostInBillingCurrency,BillingCurrency,MeterCategory,ChargeType,SubscriptionId,MeterSubCategory,ResourceGroup," +
      "ServiceInfo1,PayGPrice,costCenter",
    ],
    [
      "oci",
      "lineItem/intervalUsageStart,product/service,cost/myCost,cost/currencyCode,lineItem/referenceNo,cost/overageFlag",
    ],
    [
      "gcp",
      "billing_account_id,service.description,usage_start_time,cost,currency,service.id,export_time,currency_conversion_rate",
    ],
  ];
  for (const [format, header] of bills) {
    for (const own of ["", "my_own", "billing_owner"]) {
      const names = [...header.split(","), ...own ? [own] : []];
      const row = names.map((name) =>
        /date$|start/i.test(name) ? "2026-11-01T00:00:00Z" : /cost|price/i.test(name) ? "1" : "USD"
      );
      const { notes } = await imported(csv(names.join(","), row.join(",")), { format });
      assertEquals(notes.filter((note) => note.startsWith("no field")).map((note) => note.split(".")[0]), [
        ...own ? [`no field of cost_entries takes ${own}`] : [],
      ], format);
    }
  }
});

Deno.test("database import prints a note on many files once, with their number", async () => {
  using folder = new TemporaryFolder();
  const header = "line_item_line_item_type,line_item_unblended_cost,line_item_usage_start_date," +
    "line_item_currency_code,line_item_product_code,my_own";
  const names = [1, 2, 3].map((day) => {
    const name = `cur-${day}.csv`;
    Deno.writeTextFileSync(folder.file(name), csv(header, `Usage,1.5,2026-01-0${day},USD,AmazonEC2,x`));
    return name;
  });
  const { code, err } = await database(["import", "costs", ...names], folder.path);
  assertEquals([code, err.split("\n").slice(1)], [0, [
    "cur-1.csv: no field of cost_entries takes my_own. To keep one, pass --format aws-cur --map tags.NAME=COLUMN",
    "2 more files have notes as above.",
    "",
  ]]);
  const named = await database(["import", "costs", "cur-1.csv", "./cur-1.csv"], folder.path);
  assertEquals(named.code, 2);
  assertMatch(named.err, /^error: \.\/cur-1\.csv is named twice\. Name it once\. \[CONFLICTING_OPTIONS\]\n/);
  // Another note is of its own file.
  Deno.writeTextFileSync(folder.file("empty.csv"), csv("timestamp,cpuUsage"));
  Deno.writeTextFileSync(folder.file("none.csv"), csv("timestamp,cpuUsage"));
  const metrics = await database(["import", "metrics", "empty.csv", "none.csv"], folder.path);
  assertEquals(metrics.err, "empty.csv: the file has no rows\n1 more file has notes as above.\n");
});

Deno.test("database import --dry-run counts bad and skipped lines of each file, and exits with 1", async () => {
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("m.csv"), csv("timestamp,cpuUsage", "2026-01-01,1", "x,2"));
  const { code, out, err } = await database(["import", "metrics", "m.csv", "--dry-run"], folder.path);
  assertEquals([code, out.trimEnd().split("\n").at(-1)!.trim().split(/ +/)], [1, ["1", "0", "1"]]);
  assertMatch(err, /^m\.csv:3: /);
  Deno.writeTextFileSync(
    folder.file("d.csv"),
    csv("BillingPeriodStatus,InvoiceIssuerName,BillingPeriodStart", "Open,AWS,"),
  );
  const files = ["d.csv", `${BILLS}/openai-costs.csv`, `${BILLS}/gcp.ndjson`];
  const found = await database(["import", "costs", ...files, "--dry-run"], folder.path);
  assertEquals([found.code, found.out.trimEnd().split("\n").at(-1)!.trim().split(/ +/)], [0, [
    "4",
    "1",
    "0",
  ]]);
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(), ["d.csv", "m.csv"]);
});

Deno.test("importRecords() reads Parquet by its format, and refuses other files under that name", async () => {
  await using backend = Object.assign(await openBackend({ connectionString: "sqlite://" }), {
    [Symbol.asyncDispose]: () => backend.close(),
  });
  const text = csv("timestamp,resourceId,category,amount,currency", "2026-01-01,r,c,0.1,EUR");
  const dataset = "cost_entries";
  await importRecords(new Blob([text]).stream(), { backend, dataset });
  const costs = async () => (await read(backend, costEntries)).map(({ deliveryId: _, ...cost }) => cost);
  const before = await costs();
  const file = await exportRecords({ backend, dataset, format: "parquet" });
  const again = await importRecords(file, { backend, dataset, format: "parquet" });
  assertEquals([again.rejected, await costs()], [0, before]);
  await assertRejects(() => imported(text, { format: "parquet" }), TransferError, "the file is not Parquet");
});

Deno.test("presets name fields of their dataset and documents of their vendor", () => {
  for (const { name, dataset = "cost_entries", fields, parts, documentation } of PRESETS) {
    const known = new Set(DATASETS[dataset].columns.map(({ field }) => field));
    for (const target of Object.keys({ ...fields, ...parts?.fields })) {
      assert(known.has(target.split(".")[0]), `${name} ${target}`);
    }
    assert(documentation.every((url) => url.startsWith("https://")) && documentation.length > 0, name);
  }
});
