import {
  exportRecords,
  type FocusOptions,
  type ImportOptions,
  importRecords,
  migrate,
  openBackend,
} from "../mod.ts";
import type { Backend } from "../src/backends/backend.ts";
import { costEntries, type CostEntry } from "../src/records/cost_entry.ts";
import { acceptQuery } from "../src/records/query.ts";
import { parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { formatCsv } from "../src/transfer/csv.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { costEntry, NEW_YEAR, withoutDelivery } from "./fixtures.ts";
import { caseText, comparableRows, readCsv, violations } from "./focus_rules.ts";
import { citusVersion, databaseFor } from "./citus_cluster.ts";
import { timescaleVersion } from "./postgres_server.ts";

/** The bills of `tests/cases/focus/`, and how they are imported and exported. */
const BILLS = [
  { name: "focus-1.0.csv", version: "1.0", nullText: "NULL" },
  { name: "focus-1.2.csv.gz", version: "1.2" },
  { name: "focus-1.4.csv", version: "1.4" },
  { name: "focus-1.4-split.csv", version: "1.4", idColumn: "InvoiceDetailId" },
] as const;

const hasTimescale = (await timescaleVersion()).version !== undefined;

/** Opens an empty backend of each kind. */
const KINDS: Readonly<Record<string, () => Promise<AsyncDisposable & { backend: Backend }>>> = {
  memory: () => openAt(),
  SQLite: () => openAt("sqlite://"),
  PostgreSQL: () => openOnServer("postgresql:"),
  ...(hasTimescale ? { TimescaleDB: () => openOnServer("timescaledb:") } : {}),
  ...((await citusVersion()).version ? { Citus: () => openOnServer("citus:") } : {}),
};

async function openAt(connectionString?: string) {
  const backend = await openBackend({ connectionString });
  return { backend, [Symbol.asyncDispose]: () => backend.close() };
}

async function openOnServer(protocol: string) {
  const database = await databaseFor(protocol);
  const backend = await openBackend({ connectionString: database.url.replace(/^\w+:/, protocol) });
  return {
    backend,
    async [Symbol.asyncDispose]() {
      await backend.close();
      await database[Symbol.asyncDispose]();
    },
  };
}

function importText(backend: Backend, text: string, options: Partial<ImportOptions> = {}) {
  const input = new Blob([text]).stream();
  return importRecords(input, {
    backend,
    dataset: "cost_entries",
    format: "focus",
    isStrict: true,
    ...options,
  });
}

async function exportText(backend: Backend, focus?: FocusOptions, query?: object): Promise<string> {
  const bytes = await exportRecords({ backend, dataset: "cost_entries", format: "focus", focus, query });
  return await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).text();
}

async function assertSameFile(backend: Backend, { name, version, ...bill }: typeof BILLS[number]) {
  const { columns, rows } = readCsv(await caseText(name), "nullText" in bill ? bill.nullText : undefined);
  const exported = readCsv(await exportText(backend, { version }));
  assertEquals(columns.filter((column) => !exported.columns.includes(column)), [], name);
  const [found, expected] = [exported.rows, rows].map((rows) => comparableRows(columns, rows));
  assertEquals(found.length, expected.length, name);
  const differing = expected.findIndex((row, i) => row !== found[i]); // a difference of all rows is hard to read
  if (differing >= 0) assertEquals(found[differing], expected[differing], name);
}

for (const bill of BILLS) {
  for (const [kind, open] of Object.entries(KINDS)) {
    Deno.test(`FOCUS ${bill.name} comes back equal through ${kind} and migrate`, async () => {
      await using opened = await open();
      const { idColumn } = { idColumn: undefined, ...bill };
      const found: string[] = [];
      await importText(opened.backend, await caseText(bill.name), {
        idColumn,
        onFocusVersion: (version) => found.push(version),
      });
      assertEquals(found, [bill.version]);
      await assertSameFile(opened.backend, bill);
      await using target = await KINDS[kind === "SQLite" ? "PostgreSQL" : "SQLite"]();
      const costs = (await migrate(opened.backend, target.backend, { datasets: ["cost_entries"] }))[0];
      assertEquals(costs.isSame, true);
      await assertSameFile(target.backend, bill);
    });
  }
}

Deno.test("FOCUS import keeps the other rows when any cell of one is nonsense", async () => {
  for (const { name, version } of [BILLS[1], BILLS[2]]) {
    const { columns, rows } = readCsv(await caseText(name));
    for (const broken of columns) {
      const { backend } = await openAt();
      const cells = [{ ...rows[0], [broken]: "oops" }, rows[1]].map((row) =>
        formatCsv(columns.map((column) => row[column] ?? undefined))
      );
      const rejected: string[] = [];
      const { stored } = await importText(backend, [columns.join(), ...cells, ""].join("\n"), {
        isStrict: false,
        onReject: ({ reason }) => rejected.push(reason),
      });
      assertEquals(stored + rejected.length, 2, `${name}: ${broken}`);
      assert(stored > 0, `${name}: ${broken}: ${rejected}`);
      if (rejected.length > 0) continue;
      const kept = readCsv(await exportText(backend, { version })).rows.some((row) => row[broken] === "oops");
      assert(kept, `${name}: ${broken} is lost`);
    }
  }
});

Deno.test("FOCUS import keeps four exact totals of each currency", async () => {
  for (const [kind, open] of Object.entries(KINDS)) {
    await using opened = await open();
    await importText(opened.backend, await caseText("focus-1.2.csv.gz"));
    const fields = ["amount", "effectiveCost", "listCost", "contractedCost"];
    const rows = await opened.backend.aggregate(costEntries, acceptQuery(costEntries), {
      groupBy: [{ field: "currency" }],
      measures: fields.map((field) => ({ function: "sum", field })),
    });
    const totals = Object.fromEntries(rows.map(({ group: [currency], values }) => [currency, values]));
    assertEquals(totals, {
      EUR: ["11510.603576", "10359.54323", "13812.724306", "12661.663942"],
      USD: ["5584.405157", "5025.964634", "6701.286189", "6142.845666"],
    }, kind);
  }
});

const NATIVE = [
  costEntry({ entryId: "NULL", resourceId: "NULL", timestamp: NEW_YEAR + 1, description: "" }),
  costEntry({ entryId: "b", amount: "-0.000000000000000001", region: "eu", tags: { team: "nlp" } }),
  costEntry({ entryId: "c", currency: "Credits", amount: "12.5", category: "databricks_sql" }),
  costEntry({ entryId: "d", currency: "DBU", amount: "3", basis: "estimated", source: "api" }),
  costEntry({ entryId: "e", chargePeriodEnd: NEW_YEAR, billingPeriod: "2025-12", category: "Storage" }),
];

for (const version of ["1.0", "1.1", "1.2", "1.3", "1.4"] as const) {
  Deno.test(`FOCUS ${version} export of costs without a bill follows the rules`, async () => {
    await using opened = await openAt("sqlite://");
    // Before 1.2 there are no virtual currencies.
    const costs = NATIVE.filter(({ currency = "USD" }) => version >= "1.2" || currency === "USD");
    await write(opened.backend, costEntries, costs);
    for (const query of [undefined, { currency: "USD" }, { currency: "Credits" }]) {
      for (const options of [{}, { providerName: "Acme", invoiceId: "INV-1", chargePeriodMs: 1 }]) {
        assertEquals(
          violations(await exportText(opened.backend, { version, ...options }, query), version),
          [],
        );
      }
    }
    await using other = await openAt("sqlite://");
    await importText(other.backend, await exportText(opened.backend, { version }));
    const expected = (await read(opened.backend, costEntries)).map(({ description, ...cost }) =>
      description === "" ? cost : { ...cost, ...(description === undefined ? {} : { description }) }
    );
    for (const cost of expected) {
      if (cost.chargePeriodEnd === NEW_YEAR) cost.chargePeriodEnd += 1_000; // FOCUS has no empty period
    }
    assertEquals(
      withoutDelivery(await read(other.backend, costEntries)),
      withoutDelivery(expected as CostEntry[]),
    );
  });
}

Deno.test("FOCUS export of a bill breaks no rule that the bill keeps", async () => {
  for (const { name, version, ...bill } of BILLS) {
    await using opened = await openAt();
    const text = await caseText(name);
    await importText(opened.backend, text);
    const { columns, rows } = readCsv(text, "nullText" in bill ? bill.nullText : undefined);
    const original = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? undefined))]
      .map((cells) => formatCsv(cells)).join("\n");
    const own = violations(original, version);
    const broken = violations(await exportText(opened.backend, { version }), version);
    assertEquals(broken.filter((rule) => !own.includes(rule)), [], name);
  }
});

Deno.test("FOCUS export is honest about what no bill says", async () => {
  await using opened = await openAt();
  await write(opened.backend, costEntries, NATIVE);
  const { columns, rows } = readCsv(await exportText(opened.backend, { providerName: "Acme" }));
  const [b, c] = ["b", "c"].map((id) => rows.find(({ x_EntryId }) => x_EntryId === id)!);
  assertEquals([b.ServiceProviderName, b.InvoiceIssuerName, b.HostProviderName], ["Acme", "Acme", null]);
  assertEquals([b.BillingAccountName, b.RegionName, b.ResourceName, b.ResourceType], [
    null,
    "eu",
    null,
    "gpu",
  ]);
  assertEquals([c.BillingCurrency, c.BilledCost], ["XXX", "0.0"]);
  assertEquals([c.PricingCurrency, c.PricingCurrencyEffectiveCost], ["Credits", "12.5"]);
  assert(!columns.includes("ProviderName") && !columns.includes("SkuId"));
});

Deno.test("FOCUS import reads the provider columns of each version", async () => {
  await using opened = await openAt();
  const base = "ChargePeriodStart,BilledCost,BillingCurrency,ServiceName,ResourceId,";
  const line = "2026-01-01T00:00:00Z,1,USD,EC2,";
  await importText(opened.backend, `${base}ProviderName,PublisherName\n${line}a,AWS,Acme\n`);
  await importText(
    opened.backend,
    `${base}ProviderName,PublisherName,ServiceProviderName,HostProviderName\n${line}b,AWS,AWS,Databricks,AWS\n`,
  );
  const [a, b] = (await read(opened.backend, costEntries)).sort((x, y) =>
    x.resourceId < y.resourceId ? -1 : 1
  );
  assertEquals([a.serviceProviderName, a.hostProviderName], ["AWS", undefined]);
  assertEquals(a.focus, { ProviderName: "AWS", PublisherName: "Acme" });
  assertEquals([b.serviceProviderName, b.hostProviderName], ["Databricks", "AWS"]);
  assertEquals(b.focus, { ProviderName: "AWS", PublisherName: "AWS" });
  const { rows } = readCsv(await exportText(opened.backend, { version: "1.3" }));
  assertEquals(
    rows.map((row) =>
      [row.ResourceId, row.ProviderName, row.PublisherName, row.ServiceProviderName].join(" ")
    ).sort(),
    ["a AWS Acme AWS", "b AWS AWS Databricks"],
  );
});

Deno.test("FOCUS import keeps values that a field cannot hold", async () => {
  await using opened = await openAt("sqlite://");
  const columns =
    "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ServiceCategory,Tags," +
    "ResourceId,x_Empty,AvailabilityZone";
  const lines = [
    '1,USD,2026-01-01T00:00:00.1234567Z,2026-01-01T00:00:00.5Z,0.0000000000000000001,compute,"{""n"":1.10,""n"":2}",,,',
    '1e-3,USD,2026-01-01T01:00:00+01:00,2026-01-01T01:00:00Z,-1E-7,Compute,"{ ""a"": ""b c"" }",i,,',
  ];
  await importText(opened.backend, `${columns}\n${lines.join("\n")}\n`);
  const { rows } = readCsv(await exportText(opened.backend));
  const [first, second] = rows.sort((a, b) => a.BilledCost! > b.BilledCost! ? -1 : 1);
  assertEquals([first.ChargePeriodStart, first.ChargePeriodEnd], [
    "2026-01-01T00:00:00.1234567Z",
    "2026-01-01T00:00:00.5Z",
  ]);
  assertEquals([first.EffectiveCost, first.Tags], ["0.0000000000000000001", '{"n":1.10,"n":2}']);
  assertEquals([first.ServiceCategory, first.ResourceId, first.x_Empty, first.AvailabilityZone], [
    "compute",
    null,
    null,
    null,
  ]);
  assertEquals([second.BilledCost, second.EffectiveCost, second.Tags], [
    "0.001",
    "-0.0000001",
    '{"a":"b c"}',
  ]);
  assertEquals(second.ChargePeriodStart, "2026-01-01T00:00:00Z");
  const [cost] = (await read(opened.backend, costEntries)).filter(({ resourceId }) => resourceId === "i");
  assertEquals(cost.focus, undefined);
});

Deno.test("FOCUS import reads NULL as null without quotes or in other than text columns", async () => {
  await using opened = await openAt();
  const header =
    '"BilledCost","BillingCurrency","ChargePeriodStart","ServiceName","ResourceId","RegionId","EffectiveCost"';
  const lines = [
    '1,USD,2026-01-01T00:00:00Z,EC2,"NULL",NULL,NULL',
    '"2","USD","2026-01-01","EC2","NULL","","NULL"',
  ];
  await importText(opened.backend, `${header}\n${lines.join("\n")}\n`);
  const costs = await read(opened.backend, costEntries);
  assertEquals(costs.map((cost) => [cost.resourceId, cost.region, cost.effectiveCost]), [
    ["NULL", undefined, undefined],
    ["NULL", undefined, undefined],
  ]);
});

Deno.test("FOCUS import uses --focus-version and refuses an unknown one", async () => {
  await using opened = await openAt();
  const file =
    "BilledCost,BillingCurrency,ChargePeriodStart,ServiceName,InvoiceId\n1,USD,2026-01-01,EC2,INV-1\n";
  await importText(opened.backend, file, { focusVersion: "1.0" });
  const [{ invoiceId, focus }] = await read(opened.backend, costEntries);
  assertEquals([invoiceId, focus?.InvoiceId], [undefined, "INV-1"]);
  const focusVersion = "2.0" as "1.0";
  await assertRejects(() => importText(opened.backend, file, { focusVersion }), Error, "one of 1.0, 1.1");
  await assertRejects(() => exportText(opened.backend, { version: focusVersion }), Error, "one of 1.0, 1.1");
});

Deno.test("Parquet export with a version of FOCUS has its columns, typed", async () => {
  await using opened = await openAt("sqlite://");
  await importText(opened.backend, await caseText("focus-1.4.csv"));
  const bytes = await exportRecords({
    backend: opened.backend,
    dataset: "cost_entries",
    format: "parquet",
    focus: { version: "1.4" },
  });
  const file = await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer();
  const metadata = await parquetMetadataAsync(file);
  const typeOf = (name: string) => metadata.schema.find((element) => element.name === name)?.converted_type;
  assertEquals(
    ["EffectiveCost", "ChargePeriodEnd", "AllocatedTags", "SkuMeter", "SkuPriceId"].map(typeOf),
    ["DECIMAL", "TIMESTAMP_MILLIS", "JSON", "UTF8", "UTF8"],
  );
  const rows = await parquetReadObjects({ file, metadata });
  assertEquals(
    rows.map(({ EffectiveCost, AllocatedTags }) => [EffectiveCost, AllocatedTags ?? null]).sort(),
    [
      [-1, null],
      [1, { team: "vision" }],
    ],
  );
});
