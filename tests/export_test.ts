import { parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { type ExportOptions, exportRecords, importRecords, openBackend, TransferError } from "../mod.ts";
import type { Backend } from "../src/backends/backend.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import type { Dataset } from "../src/records/dataset.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { serviceMetrics } from "../src/records/service_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { readCsvLine } from "../src/transfer/csv.ts";
import { writeWholeFile } from "../src/transfer/file_writer.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import {
  costEntry,
  FULL_SERVICE_METRICS,
  FULL_SYSTEM_METRICS,
  NEW_YEAR,
  TemporaryFolder,
  withoutDelivery,
} from "./fixtures.ts";

const AWKWARD = 'a "b", c\r\nd,NULL,\u2028é😀';
const ENTRIES = [
  costEntry({ amount: "-123456789012345678.000000000000000009", timestamp: NEW_YEAR + 1, description: "" }),
  costEntry({ entryId: AWKWARD, amount: "0.000000000000000001", tags: { [AWKWARD]: AWKWARD, "": "" } }),
  costEntry({
    entryId: "e3",
    amount: "2",
    region: "eu",
    tags: {},
    description: AWKWARD,
    billingPeriod: "2025-12",
  }),
];

const test = (title: string, run: (backend: Backend) => Promise<void>) =>
  Deno.test(`exportRecords() ${title}`, async () => {
    const backend = await openBackend({ connectionString: "sqlite://" });
    try {
      await write(backend, systemMetrics, [FULL_SYSTEM_METRICS, { timestamp: NEW_YEAR + 1, labels: {} }]);
      await write(backend, serviceMetrics, [FULL_SERVICE_METRICS, {
        timestamp: NEW_YEAR,
        serviceName: AWKWARD,
      }]);
      await write(backend, costEntries, ENTRIES);
      await run(backend);
    } finally {
      await backend.close();
    }
  });

async function bytesOf(backend: Backend, dataset: Dataset<unknown>, format: ExportOptions["format"]) {
  const bytes = await exportRecords({ backend, dataset: dataset.name, format });
  return await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer();
}

for (const format of ["ndjson", "csv", "parquet"] as const) {
  for (const dataset of Object.values<Dataset<unknown>>(DATASETS)) {
    test(`writes ${dataset.name} as ${format} that imports without a difference`, async (backend) => {
      const bytes = await bytesOf(backend, dataset, format);
      const other = await openBackend({ connectionString: "sqlite://" });
      const report = await importRecords(new Blob([bytes]).stream(), {
        backend: other,
        dataset: dataset.name,
        format: format === "parquet" ? "csv" : format, // it is known by its first bytes
      });
      assertEquals(report.rejected, 0);
      assertEquals(
        withoutDelivery(await read(other, dataset)),
        withoutDelivery(await read(backend, dataset)),
      );
      await other.close();
    });
  }
}

for (const format of ["csv", "focus"] as const) {
  test(`keeps spreadsheets from running cells of ${format} only if asked to`, async (backend) => {
    const resourceId = "=cmd|' /C calc'!A0";
    const fields = { region: "+1+1", description: "\t=1,2", source: "＝1", timestamp: NEW_YEAR + 3 };
    await write(backend, costEntries, [
      costEntry({ ...fields, entryId: "@SUM(1)", resourceId, amount: "-5" }),
    ]);
    const query = { startTime: NEW_YEAR + 3 };
    const lineOf = async (isSpreadsheetSafe?: boolean) => {
      const options = { backend, dataset: "cost_entries", format, query, isSpreadsheetSafe } as const;
      const bytes = await exportRecords(options);
      const text = await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).text();
      return readCsvLine(text.trimEnd().slice(text.indexOf("\n") + 1));
    };
    const cells = ["@SUM(1)", resourceId, fields.region, fields.description, fields.source];
    const [plain, safe] = [await lineOf(), await lineOf(true)];
    for (const cell of cells) {
      assert(plain.includes(cell) && !plain.includes(`'${cell}`), `${cell} in ${plain}`);
      assert(safe.includes(`'${cell}`) && !safe.includes(cell), `${cell} in ${safe}`);
    }
    const others = (line: (string | null)[]) => line.filter((cell) => !/^'?[=+@\t＝]/.test(cell ?? ""));
    assertEquals(others(safe), others(plain));
    assert(safe.some((cell) => cell?.startsWith("-5")), "numbers stay numbers");
  });
}

/** A file of FOCUS as rows by column. */
async function focusRows(backend: Backend): Promise<Record<string, string | null>[]> {
  const focus = { version: "1.2" } as const;
  const bytes = await exportRecords({ backend, dataset: "cost_entries", format: "focus", focus });
  const text = await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).text();
  const lines = text.replaceAll('""', "\0").match(/(?:"[^"]*"|[^"\n])+\n/g)!
    .map((line) => readCsvLine(line.slice(0, -1).replaceAll("\0", '""')));
  return lines.slice(1).map((cells) => Object.fromEntries(cells.map((cell, i) => [lines[0][i]!, cell])));
}

test("writes the mandatory columns of FOCUS 1.2, and its formats", async (backend) => {
  const rows = await focusRows(backend);
  const columns = Object.keys(rows[0]);
  // specification/columns of v1.2, those whose feature level is Mandatory
  const mandatory =
    ("BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart " +
      "ChargeCategory ChargeClass ChargeDescription ChargePeriodEnd ChargePeriodStart ContractedCost EffectiveCost " +
      "InvoiceIssuerName ListCost PricingQuantity PricingUnit ProviderName PublisherName ServiceCategory ServiceName")
      .split(" ");
  assertEquals(mandatory.length, 21);
  for (const name of [...mandatory, "ChargeFrequency", "ServiceSubcategory"]) {
    assert(columns.includes(name), name);
  }
  const nullable = [
    ..."BillingAccountName ChargeClass ChargeDescription RegionId RegionName ResourceName Tags".split(" "),
    "x_BillingPeriod",
  ];
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      assert(value === null ? nullable.includes(name) : value !== "", name);
      if (/Cost$/.test(name)) assert(/^-?\d+\.\d+$/.test(value!), value!);
      if (/^(Billing|Charge)Period(Start|End)$/.test(name)) {
        assert(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value!), value!);
      }
    }
  }
  const {
    BilledCost,
    BillingPeriodStart,
    BillingPeriodEnd,
    ServiceCategory,
    ServiceSubcategory,
    ProviderName,
  } = rows.find(({ x_EntryId }) => x_EntryId === "e3")!;
  assertEquals(
    [BilledCost, BillingPeriodStart, BillingPeriodEnd, ServiceCategory, ServiceSubcategory, ProviderName],
    ["2.0", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z", "Compute", "Other (Compute)", "unknown"],
  );
});

test("writes the billing period, also one that starts within a month", async () => {
  const backend = await openBackend({ connectionString: "sqlite://" });
  const timestamp = Date.UTC(2024, 9, 3);
  const periods = ["2024-09-15", "2024-09", "2024-01-31", "2023-12-15", "2024-02-30", "autumn", undefined];
  await write(
    backend,
    costEntries,
    periods.map((billingPeriod, i) => costEntry({ entryId: `e${i}`, timestamp, billingPeriod })),
  );
  const rows = await focusRows(backend);
  await backend.close();
  const october = ["2024-10-01", "2024-11-01"];
  assertEquals(
    rows.map((row) => [row.BillingPeriodStart!, row.BillingPeriodEnd!].map((time) => time.slice(0, 10))),
    [
      ["2024-09-15", "2024-10-15"],
      ["2024-09-01", "2024-10-01"],
      ["2024-01-31", "2024-02-29"],
      ["2023-12-15", "2024-01-15"],
      october,
      october,
      october,
    ],
  );
});

test("writes FOCUS that imports equally except for empty texts", async (backend) => {
  const bytes = await bytesOf(backend, costEntries, "focus");
  const other = await openBackend({ connectionString: "sqlite://" });
  await importRecords(new Blob([bytes]).stream(), {
    backend: other,
    dataset: "cost_entries",
    format: "focus",
  });
  const expected = (await read(backend, costEntries)).map(({ description, ...entry }) => ({
    ...entry,
    ...(description ? { description } : {}),
  }));
  assertEquals(withoutDelivery(await read(other, costEntries)), withoutDelivery(expected));
  await other.close();
});

test("fills FOCUS columns that an entry does not have", async (backend) => {
  const focus = {
    version: "1.2" as const,
    billingAccountId: "1",
    billingAccountName: "Acme",
    providerName: "AWS",
    publisherName: "AWS Marketplace",
    invoiceIssuerName: "AWS Inc.",
    invoiceId: "INV-1",
    chargePeriodMs: 24 * 3_600_000,
  };
  const text = await new Response(
    await exportRecords({
      backend,
      dataset: "cost_entries",
      format: "focus",
      focus,
      query: { region: "eu" },
    }) as ReadableStream<Uint8Array<ArrayBuffer>>,
  ).text();
  assertEquals(text.split("\n").length > 2, true);
  for (const value of [",1,Acme,", "AWS,AWS Marketplace", ",INV-1,AWS Inc.,", "2026-01-02T00:00:00Z"]) {
    assert(text.includes(value), value);
  }
});

test("writes Parquet with exact money, times and maps", async (backend) => {
  const file = await bytesOf(backend, costEntries, "parquet");
  const metadata = await parquetMetadataAsync(file);
  const amount = metadata.schema.find(({ name }) => name === "amount")!;
  assertEquals([amount.converted_type, amount.precision, amount.scale], ["DECIMAL", 38, 18]);
  delete amount.converted_type; // the reader would make floats of them
  delete amount.logical_type;
  const rows = await parquetReadObjects({ file, metadata, utf8: false });
  const entries = await read(backend, costEntries);
  assertEquals(rows.map(({ amount }) => unscaled(amount)), [
    1n,
    2_000_000_000_000_000_000n,
    -123456789012345678000000000000000009n,
  ]);
  assertEquals(
    rows.map((
      { timestamp, entryId, tags, region },
    ) => [timestamp.getTime(), entryId, tags ?? undefined, region ?? undefined]),
    entries.map(({ timestamp, entryId, tags, region }) => [timestamp, entryId, tags, region]),
  );
});

/** A big-endian number in two's complement. */
function unscaled(bytes: Uint8Array): bigint {
  return BigInt.asIntN(128, bytes.reduce((sum, byte) => sum << 8n | BigInt(byte), 0n));
}

test("ends a row group of Parquet at its bytes when records are large", async (backend) => {
  const text = "x".repeat(65_000);
  await write(
    backend,
    costEntries,
    Array.from(
      { length: 120 },
      (_, i) =>
        costEntry({ entryId: `large${i}`, description: text, region: text, tags: { text }, focus: { text } }),
    ),
  );
  const file = await bytesOf(backend, costEntries, "parquet");
  const { row_groups: groups } = await parquetMetadataAsync(file);
  assert(groups.length > 1, `${groups.length} row group`);
  assertEquals((await parquetReadObjects({ file, columns: ["entryId"] })).length, 120 + ENTRIES.length);
});

test("writes Parquet in row groups, and a file without records", async (backend) => {
  const metrics = Array.from(
    { length: 45_000 },
    (_, i) => ({ timestamp: NEW_YEAR + 2 + i, activeConnections: i }),
  );
  for (let i = 0; i < metrics.length; i += 5_000) {
    await write(backend, systemMetrics, metrics.slice(i, i + 5_000));
  }
  const file = await bytesOf(backend, systemMetrics, "parquet");
  assertEquals((await parquetMetadataAsync(file)).row_groups.map(({ num_rows }) => num_rows), [
    20_000n,
    20_000n,
    5_002n,
  ]);
  const rows = await parquetReadObjects({ file, columns: ["activeConnections"] });
  assertEquals(
    rows.slice(2).map(({ activeConnections }) => Number(activeConnections)),
    metrics.map((_, i) => i),
  );
  await backend.deleteBefore(systemMetrics, NEW_YEAR + 10 ** 9, { dryRun: false });
  assertEquals(await parquetReadObjects({ file: await bytesOf(backend, systemMetrics, "parquet") }), []);
});

test("refuses FOCUS for a dataset without costs", async (backend) => {
  await assertRejects(
    () => bytesOf(backend, systemMetrics, "focus"),
    TransferError,
    "as FOCUS, which is for costs",
  );
});

Deno.test("writeWholeFile() keeps the old file when it fails", async () => {
  using folder = new TemporaryFolder();
  const path = folder.file("out.csv");
  await writeWholeFile(path, ReadableStream.from([new TextEncoder().encode("old")]));
  const broken = ReadableStream.from((function* () {
    yield new Uint8Array(100_000);
    throw new Error("broken");
  })());
  await assertRejects(() => writeWholeFile(path, broken), Error, "broken");
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["out.csv"]);
  assertEquals(Deno.readTextFileSync(path), "old");
});
