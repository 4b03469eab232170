import { exportRecords, importRecords, openBackend, type Reject } from "../mod.ts";
import { reconcileInvoice } from "../src/monitoring/reconciliation.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { assertEquals, assertRejects } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { comparableRows, readCsv } from "./focus_rules.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { openfinops } from "./command.ts";

const FILES = {
  "invoice-detail": "BilledCost,BillingAccountId,BillingCurrency,ChargeCategory,InvoiceDetailDescription," +
    "InvoiceDetailGrain,InvoiceDetailId,InvoiceId,InvoiceIssuerName,x_Note\n" +
    '10.50,1,USD,Usage,NULL,"{""SubAccountId"": ""2""}",d1,INV-1,AWS,\n' +
    "-0.000000000000000001,1,USD,Credit,refund,,d2,INV-1,AWS,\n" +
    "-0.000000000000000001,1,USD,Credit,refund,,d2,INV-1,AWS,\n" +
    "7,1,EUR,Usage,,,d3,INV-2,AWS,\n",
  "contract-commitment":
    "BillingCurrency,ContractCommitmentCategory,ContractCommitmentCost,ContractCommitmentId," +
    "ContractCommitmentPeriodStart,ContractId\nUSD,Spend,1000.00,cc-1,2026-01-01T00:00:00Z,c-1\n",
  "billing-period": "BillingPeriodEnd,BillingPeriodStart,BillingPeriodStatus,InvoiceIssuerName\n" +
    "2026-02-01T00:00:00Z,2026-01-01T00:00:00Z,Open,AWS\n",
} as const;

const COSTS =
  "BilledCost,BillingCurrency,ChargePeriodStart,ServiceName,ResourceId,InvoiceId,InvoiceDetailId\n" +
  "10,USD,2026-01-01T00:00:00Z,EC2,i-1,INV-1,d1\n" +
  "0.5,USD,2026-01-01T00:00:00Z,EC2,i-2,INV-1,d1\n" +
  "-0.000000000000000002,USD,2026-01-01T00:00:00Z,EC2,,INV-1,d2\n" +
  "6.999999999999999999,EUR,2026-01-01T00:00:00Z,EC2,,INV-2,\n";

function importText(backend: Awaited<ReturnType<typeof openBackend>>, text: string, rejects: Reject[] = []) {
  return importRecords(new Blob([text]).stream(), {
    backend,
    dataset: "cost_entries",
    format: "focus",
    onReject: (reject) => rejects.push(reject),
  });
}

Deno.test("FOCUS import keeps rows of other datasets and exports them again", async () => {
  for (const connectionString of [undefined, "sqlite://"]) {
    const backend = await openBackend({ connectionString });
    for (const [dataset, text] of Object.entries(FILES)) {
      const rows = text.split("\n").length - 2;
      assertEquals(await importText(backend, text), { stored: rows, known: 0, restated: 0, rejected: 0 });
      assertEquals(await importText(backend, text), { stored: 0, known: rows, restated: 0, rejected: 0 });
      const focus = { dataset: dataset as keyof typeof FILES };
      const bytes = await exportRecords({ backend, dataset: "cost_entries", format: "focus", focus });
      const exported = readCsv(await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).text());
      const { columns, rows: expected } = readCsv(text, "NULL");
      assertEquals(exported.columns.toSorted(), columns.toSorted());
      assertEquals(comparableRows(columns, exported.rows), comparableRows(columns, expected));
    }
    assertEquals(await read(backend, costEntries), []);
    const rejects: Reject[] = [];
    const changed = FILES["billing-period"].replace("Open,AWS", "Closed,AWS") + "one cell\n";
    assertEquals(await importText(backend, changed, rejects), {
      stored: 1,
      known: 0,
      restated: 1,
      rejected: 1,
    });
    assertEquals(rejects.map(({ line }) => line), [3]);
    await backend.close();
  }
});

Deno.test("FOCUS export refuses a dataset without rows, and one that does not exist", async () => {
  const backend = await openBackend({});
  const exported = async (dataset: string) => {
    const focus = { dataset: dataset as "billing-period" };
    const bytes = await exportRecords({ backend, dataset: "cost_entries", format: "focus", focus });
    return await new Response(bytes as ReadableStream<Uint8Array<ArrayBuffer>>).text();
  };
  await assertRejects(() => exported("billing-period"), Error, "the database has no such rows");
  await assertRejects(() => exported("invoices"), Error, "one of billing-period");
  await backend.close();
});

Deno.test("reconcileInvoice() compares an invoice with its costs to the digit", async () => {
  for (const connectionString of [undefined, "sqlite://"]) {
    const backend = await openBackend({ connectionString });
    await importText(backend, FILES["invoice-detail"]);
    await importText(backend, COSTS);
    const same = { difference: "0", currency: "USD" };
    assertEquals(await reconcileInvoice(backend, "INV-1"), [
      { invoiceDetailId: "d1", ...same, invoiced: "10.5", costs: "10.5", entries: 2 },
      {
        invoiceDetailId: "d2",
        ...same,
        invoiced: "-0.000000000000000002",
        costs: "-0.000000000000000002",
        entries: 1,
      },
    ]);
    assertEquals(await reconcileInvoice(backend, "INV-2"), [{
      invoiceDetailId: null,
      currency: "EUR",
      invoiced: "7",
      costs: "6.999999999999999999",
      difference: "-0.000000000000000001",
      entries: 1,
    }]);
    assertEquals(await reconcileInvoice(backend, "INV-3"), []);
    await backend.close();
  }
});

Deno.test("openfinops costs reconcile exits with 0, 3 for a difference, 1 without invoice", async () => {
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("invoice.csv"), FILES["invoice-detail"]);
  Deno.writeTextFileSync(folder.file("costs.csv"), COSTS);
  const run = (...args: string[]) =>
    openfinops([...args, "--connection-string", folder.sqlite()], { cwd: folder.path });
  for (const file of ["invoice.csv", "costs.csv"]) {
    assertEquals((await run("database", "import", "costs", file, "--format", "focus")).code, 0);
  }
  const reconcile = (invoice: string) => run("costs", "reconcile", "--invoice", invoice, "--format", "csv");
  assertEquals(await reconcile("INV-1"), {
    code: 0,
    out: "invoiceDetailId,currency,invoiced,costs,difference,entries\nd1,USD,10.5,10.5,0,2\n" +
      "d2,USD,-0.000000000000000002,-0.000000000000000002,0,1\n",
    err: "",
  });
  const differing = await reconcile("INV-2");
  assertEquals([differing.code, differing.err.includes("[INVOICE_DIFFERS]")], [3, true]);
  assertEquals((await reconcile("INV-3")).code, 1);
});
