import { DatabaseSync } from "node:sqlite";
import {
  type Backend,
  BackendError,
  exportRecords,
  type ImportOptions,
  importRecords,
  openBackend,
  TransferError,
} from "../mod.ts";
import { DELIVERY, NO_PART } from "../src/backends/staging.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import { Decimal } from "../src/records/decimal.ts";
import { acceptQuery } from "../src/records/query.ts";
import { deleteRecords } from "../src/transfer/delete_records.ts";
import { readFocusRows } from "../src/transfer/focus_documents.ts";
import { importCosts } from "../src/transfer/import_costs.ts";
import type { CostFile } from "../src/transfer/import_options.ts";
import type { RecordedDelivery } from "../src/transfer/recorded_delivery.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read, write } from "./backend_contract.ts";
import { useDuckdbLibrary } from "./duckdb_library.ts";
import { costEntry, TemporaryFolder } from "./fixtures.ts";
import { TestDatabase, timescaleVersion } from "./postgres_server.ts";
import { citusVersion } from "./citus_cluster.ts";
import { withTablesOf } from "./server_backends.ts";

type Opened = { backend: Backend } & AsyncDisposable;

await useDuckdbLibrary();
const hasTimescale = (await timescaleVersion()).version !== undefined;
const hasCitus = (await citusVersion()).version !== undefined;

const PLACES: Readonly<Record<string, (onConflict?: "ignore" | "replace") => Promise<Opened>>> = {
  memory: (onConflict) => open({ backend: "memory", onConflict }),
  "SQLite in memory": (onConflict) => open({ connectionString: "sqlite://", onConflict }),
  SQLite: (onConflict) => openFile("node:sqlite", onConflict),
  "DuckDB in memory": (onConflict) => open({ connectionString: "duckdb://", onConflict }),
  PostgreSQL: (onConflict) => openServer("postgresql:", onConflict),
  ...(hasTimescale
    ? { TimescaleDB: (onConflict?: "ignore" | "replace") => openServer("timescaledb:", onConflict) }
    : {}),
  ...(hasCitus ? { Citus: (onConflict?: "ignore" | "replace") => openServer("citus:", onConflict) } : {}),
};

async function open(config: Parameters<typeof openBackend>[0]): Promise<Opened> {
  const backend = await openBackend(config);
  return { backend, [Symbol.asyncDispose]: () => backend.close() };
}

async function openFile(sqliteDriver: "node:sqlite", onConflict?: "ignore" | "replace"): Promise<Opened> {
  const folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite(), sqliteDriver, onConflict });
  return {
    backend,
    async [Symbol.asyncDispose]() {
      await backend.close();
      folder[Symbol.dispose]();
    },
  };
}

const DATABASES = Object.fromEntries(
  ["postgresql:", "timescaledb:", "citus:"].map((protocol) => [protocol, withTablesOf(protocol)]),
);

async function openServer(protocol: string, onConflict?: "ignore" | "replace"): Promise<Opened> {
  const database = await DATABASES[protocol]();
  const connectionString = database.url.replace(/^\w+:/, protocol);
  const backend = await openBackend({ connectionString, onConflict });
  return {
    backend,
    async [Symbol.asyncDispose]() {
      await backend.close();
      await database[Symbol.asyncDispose]();
    },
  };
}

const caseUrl = (name: string) => new URL(`cases/deliveries/${name}`, import.meta.url);

type Options = Partial<ImportOptions>;

/** Imports files of cases/deliveries as one delivery. */
function importCase(backend: Backend, names: string | readonly string[], options: Options = {}) {
  const format = options.format ?? "focus";
  const files = [names].flat().map((name): CostFile => ({
    name,
    format,
    open: async () => (await Deno.open(caseUrl(name))).readable,
  }));
  return importCosts(files, { backend, dataset: "cost_entries", format, isStrict: true, ...options });
}

/** Imports a file of CSV. */
function importText(backend: Backend, text: string, options: Options = {}) {
  return importRecords(new Blob([text]).stream(), {
    backend,
    dataset: "cost_entries",
    format: "csv",
    isStrict: true,
    ...options,
  });
}

/** The exact total of each currency, of any basis. */
async function totals(backend: Backend): Promise<Record<string, string>> {
  const found: Record<string, Decimal> = {};
  for (const { currency, amount } of await read(backend, costEntries)) {
    found[currency] = (found[currency] ?? Decimal.ZERO).plus(Decimal.from(amount));
  }
  return Object.fromEntries(Object.entries(found).sort().map(([name, total]) => [name, total.toString()]));
}

async function byResource(backend: Backend): Promise<[string, string][]> {
  return (await read(backend, costEntries)).map(({ resourceId, amount }): [string, string] => [
    resourceId,
    amount,
  ]).sort();
}

async function deliveries(backend: Backend): Promise<RecordedDelivery[]> {
  return (await backend.documents.read(DELIVERY)).map(({ body }) => body as RecordedDelivery);
}

const CUR: Options = {
  format: "csv",
  map: {
    timestamp: "line_item_usage_start_date",
    amount: "line_item_unblended_cost",
    currency: "line_item_currency_code",
    resourceId: "line_item_product_code",
    category: "line_item_product_code",
    chargeCategory: "line_item_line_item_type",
    billingPeriodStart: "bill_billing_period_start_date",
  },
};
const NOVEMBER = { EUR: "300", USD: "11882.3759464833" };

const HEADER = "timestamp,resourceId,category,amount,currency\n";
const row = (day: number, amount = "1", resource = "r") =>
  `2026-01-${String(day).padStart(2, "0")},${resource},c,${amount},USD\n`;
/** A month of ten days. */
const month = (amount = "1", days = 10) =>
  HEADER + Array.from({ length: days }, (_, i) => row(i + 1, amount)).join("");

for (const [place, openPlace] of Object.entries(PLACES)) {
  const test = (
    title: string,
    run: (backend: Backend) => Promise<void>,
    onConflict?: "ignore" | "replace",
  ) =>
    Deno.test(`a delivery on ${place} ${title}`, async () => {
      await using opened = await openPlace(onConflict);
      await run(opened.backend);
    });

  for (const options of [{}, { replace: true }, { map: { entryId: "ResourceId" } }] as Options[]) {
    test(`counts a charge once when its invoice id comes later, with ${JSON.stringify(options)}`, async (backend) => {
      await importCase(backend, "focus-open.csv");
      await importCase(backend, "focus-closed.csv", options);
      assertEquals(await byResource(backend), [["i-1", "1"]]);
      assertEquals((await read(backend, costEntries))[0].invoiceId, "INV-1");
    });
  }

  test("counts a charge once in any spelling of its file", async (backend) => {
    for (const name of ["spelling-a.csv", "spelling-b.csv", "spelling-c.csv"]) {
      const { known } = await importCase(backend, name);
      assertEquals(known, name === "spelling-a.csv" ? 0 : 1);
    }
    assertEquals(await byResource(backend), [["i-1", "1"]]);
  });

  test("replaces a month that is delivered again with a changed amount", async (backend) => {
    await importCase(backend, "month-to-date-1.csv");
    const { stored, delivery } = await importCase(backend, "month-to-date-2.csv");
    assertEquals([stored, delivery!.replaced], [2, 2]);
    assertEquals(await byResource(backend), [["i-1", "1"], ["i-2", "2.5"]]);
    const totals = { source: "focus", period: "2026-01", currency: "USD", before: "3", after: "3.5" };
    assertEquals(delivery!.totals, [totals]);
  });

  test("changes nothing when only columns that are not mapped differ", async (backend) => {
    const first = await importCase(backend, "cur-2026-11.csv.gz", CUR);
    const { known, delivery } = await importCase(backend, "cur-2026-11-redelivered.csv.gz", CUR);
    assertEquals([first.stored, known, delivery!.replaced], [2_028, 2_028, 0]);
    assertEquals(await totals(backend), NOVEMBER);
  });

  test("replaces a month of which a mapped column was filled in", async (backend) => {
    const options = { ...CUR, map: { ...CUR.map, invoiceId: "bill_invoice_id" } };
    await importCase(backend, "cur-2026-11.csv.gz", options);
    const { delivery } = await importCase(backend, "cur-2026-11-redelivered.csv.gz", options);
    assertEquals(delivery!.replaced, 2_028);
    assertEquals(await totals(backend), NOVEMBER);
  });

  test("keeps files apart that constants tell apart", async (backend) => {
    for (const resourceId of ["node-a", "node-b", "node-a"]) {
      const set = { category: "gpu", currency: "USD", resourceId };
      await importCase(backend, "flat-fee.csv", { format: "csv", set });
    }
    assertEquals(await byResource(backend), [["node-a", "12"], ["node-b", "12"]]);
  });

  test("ignores a constant whose field has a column", async (backend) => {
    for (const [i, set] of [undefined, { currency: "USD" }, { currency: "EUR" }].entries()) {
      assertEquals((await importText(backend, month(), { set })).known, i === 0 ? 0 : 10);
    }
    const map = { currency: "Cur" };
    const text = month().replace("currency", "Cur");
    assertEquals((await importText(backend, text, { map, set: { currency: "EUR" } })).known, 10);
    assertEquals((await deliveries(backend)).map(({ parts }) => parts[0].source), ["csv"]);
    assertEquals(await totals(backend), { USD: "10" });
  });

  test("tells what a file of the same constants replaces, and offers a source", async (backend) => {
    const notes: string[] = [];
    const onNote = (note: string) => notes.push(note);
    const set = { currency: "USD" };
    const text = (amount: string) => month(amount).replaceAll(/,(USD|currency)$/gm, "");
    await importText(backend, text("1"), { set, onNote });
    await importText(backend, text("1"), { set, onNote });
    assertEquals(notes, []);
    await importText(backend, text("2"), { set, onNote });
    assertEquals(notes, [
      "replaced what the source csv:currency=USD had of 2026-01. " +
      "A file of another vendor needs a source of its own (--source NAME)",
    ]);
    const refused = () =>
      importText(backend, HEADER.replace(",currency", "") + "2026-01-03,r,c,1\n", { set });
    await assertRejects(refused, TransferError, "or with --source NAME if");
    await importText(backend, text("3"), { set, onNote, source: "other" });
    await importText(backend, text("4"), { set, onNote, source: "other" });
    assertEquals([notes.length, await totals(backend)], [1, { USD: "60" }]);
  });

  test("does not replace a few charges of another vendor that has the same constants", async (backend) => {
    const text = (host: string, amount: string) =>
      HEADER + row(1, amount, `${host}-1`) + row(2, "2", `${host}-2`);
    await importText(backend, text("a", "1"), {});
    const other = () => importText(backend, text("b", "1"), {});
    await assertRejects(other, TransferError, "most of the charges that are there are not in it");
    assertEquals((await importText(backend, text("a", "5"), {})).delivery?.replaced, 2);
    assertEquals(await totals(backend), { USD: "7" });
  });

  /** Thirty charges of a host on the days of a month, from one on. */
  const charges = (from: number, amount = "1") =>
    HEADER + Array.from({ length: 30 }, (_, i) => row(i + 1, amount, `host-${from + i}`)).join("");

  test("does not replace other charges of the same number and days", async (backend) => {
    await importText(backend, charges(0));
    const other = () => importText(backend, charges(1_000));
    await assertRejects(other, TransferError, "most of the charges that are there are not in it");
    assertEquals(await totals(backend), { USD: "30" });
    const { delivery } = await importText(backend, charges(0, "2"));
    assertEquals(delivery?.replaced, 30);
    await importText(backend, charges(1_000), { append: true });
    const both = charges(0, "3") + charges(1_000, "3").replace(HEADER, "");
    assertEquals((await importText(backend, both)).delivery?.replaced, 60);
    assertEquals(await totals(backend), { USD: "180" });
  });

  test("tells of charges that count twice, and does not offer that", async (backend) => {
    const notes: string[] = [];
    const onNote = (note: string) => notes.push(note);
    const set = { description: "first" };
    await importText(backend, charges(0), { set, onNote });
    const part = charges(0, "2").split("\n").slice(0, 20).join("\n") + "\n";
    const error = await assertRejects(
      () => importText(backend, part, { set }),
      TransferError,
    ) as TransferError;
    assert(!error.message.includes("--append"), error.message);
    const { delivery } = await importText(backend, part, { set, append: true, onNote });
    assertEquals(notes, [
      "csv:description=first had most of these charges of 2026-01 already: they count twice now. To take this " +
      `import back, run "openfinops database deliveries undo ${delivery!.id}"`,
    ]);
    await importText(backend, charges(0), { set: { description: "second" }, onNote });
    assertMatch(
      notes[1],
      /^the source csv:description=first has nearly the same charges of 2026-01 as csv:desc/,
    );
    await importText(backend, charges(1_000), { set: { description: "third" }, onNote });
    assertEquals(notes.length, 2);
  });

  test("names the option that makes one period of a month of another time zone", async (backend) => {
    const notes: string[] = [];
    const options = { timeZone: "Europe/Berlin", onNote: (note: string) => notes.push(note) };
    const month = (name: string) => charges(0).replaceAll("2026-01", name);
    await importText(backend, month("2026-06"), options);
    assertMatch(notes[0], /in more than one month of UTC.* with --set billingPeriodStart=2026-06-01$/);
    const next = () => importText(backend, month("2026-07"), options);
    await assertRejects(
      next,
      TransferError,
      "or with --set billingPeriodStart=2026-07-01 if they are one month",
    );
    await importText(backend, month("2026-07"), { ...options, set: { billingPeriodStart: "2026-07-01" } });
    assertEquals(await totals(backend), { USD: "60" });
    assertEquals(notes.length, 1);
  });

  test("names the day when one time is not covered", async (backend) => {
    await importText(backend, HEADER + row(4));
    await assertRejects(
      () => importText(backend, HEADER + row(5)),
      TransferError,
      "do not cover 2026-01-04. ",
    );
  });

  test("stores nothing of a file that is cut within a row", async (backend) => {
    const cuts: [text: string, options?: Options][] = [
      [HEADER + row(1) + "2026-01-02,r,c"],
      [HEADER + row(1) + '2026-01-02,r,"c'],
      [HEADER + row(1) + '2026-01-02,r,"c\nd'],
      ['{"timestamp":"2026-01-01","resourceId":"r","category":"c","amount":1,"currency":"USD"}\n{"time', {
        format: "ndjson",
      }],
    ];
    for (const [text, options] of cuts) {
      const error = await assertRejects(
        () => importText(backend, text, { isStrict: false, ...options }),
        TransferError,
        "has no line end",
      ) as TransferError;
      assertEquals(error.code, "INVALID_FILE");
      assert(error.message.endsWith("Nothing was stored."));
    }
    assertEquals(await totals(backend), {});
    const { stored, rejected } = await importText(backend, `${cuts[0][0]}\n`, { isStrict: false });
    assertEquals([stored, rejected], [1, 1]);
    assertEquals((await importText(backend, (HEADER + row(1)).trimEnd())).known, 1);
  });

  test("counts an equal row of two parts twice", async (backend) => {
    await importCase(backend, ["part-0.csv", "part-1.csv"]);
    assertEquals(await totals(backend), { USD: "0.02" });
    const { known } = await importCase(backend, ["part-1.csv", "part-0.csv"]);
    assertEquals([known, await totals(backend)], [2, { USD: "0.02" }]);
  });

  for (const onConflict of ["ignore", "replace"] as const) {
    test(`counts each of many equal rows in any order, with ${onConflict}`, async (backend) => {
      const rows = Array.from({ length: 3_000 }, (_, i) => row(1 + i % 28, "0.1", `r${i % 50}`));
      const { stored } = await importText(backend, HEADER + rows.join(""));
      const { known } = await importText(backend, HEADER + rows.toReversed().join(""));
      assertEquals([stored, known, await totals(backend)], [3_000, 3_000, { USD: "300" }]);
      const { delivery } = await importText(backend, HEADER + rows.slice(100).toReversed().join(""));
      assertEquals([delivery!.replaced, await totals(backend)], [3_000, { USD: "290" }]);
    }, onConflict);
  }

  for (const onConflict of ["ignore", "replace"] as const) {
    test(`reports each time an id that stands for several costs, with ${onConflict}`, async (backend) => {
      const rows = [["x", "2"], ["x", "4"], ["x", "2"], ["y", "1"]];
      const text = `id,${HEADER}${rows.map(([id, amount]) => `${id},${row(2, amount)}`).join("")}`;
      for (const [stored, known] of [[2, 1], [0, 3]]) {
        const error = await assertRejects(
          () => importText(backend, text, { idColumn: "id" }),
          TransferError,
          `${stored} records are stored, ${known} are known, 1 with other content are not stored.`,
        ) as TransferError;
        assertEquals([error.code, await totals(backend)], ["KEY_CLASH", { USD: "3" }]);
      }
    }, onConflict);
  }

  test("is refused when it does not cover what is there", async (backend) => {
    await importText(backend, month());
    for (const text of [month("1", 9), HEADER + row(2).repeat(10), HEADER + row(1) + row(10)]) {
      const error = await assertRejects(
        () => importText(backend, text),
        TransferError,
        "csv has 10 rows of 2026-01 already (USD 10)",
      ) as TransferError;
      assertEquals(error.code, "DELIVERY_REFUSED");
    }
    assertEquals([await totals(backend), (await deliveries(backend)).length], [{ USD: "10" }, 1]);
    await importText(backend, month("2", 9), { replace: true });
    assertEquals(await totals(backend), { USD: "18" });
  });

  test("is refused as a whole when one billing period is", async (backend) => {
    await importText(backend, month());
    const text = `${HEADER}2026-02-01,r,c,5,USD\n${row(1)}`;
    await assertRejects(() => importText(backend, text), TransferError, "Nothing was stored");
    assertEquals(await totals(backend), { USD: "10" });
  });

  test("replaces only its source and its billing period", async (backend) => {
    const text = `${month()}2026-02-01,r,c,5,USD\n`;
    await importText(backend, text);
    await importText(backend, text, { source: "other" });
    await importText(backend, month("2"));
    assertEquals(await totals(backend), { USD: "40" }); // 20 + 5, and 15 of the other source
  });

  test("is added with append, and once", async (backend) => {
    await importText(backend, month());
    for (const known of [0, 1]) {
      const report = await importText(backend, HEADER + row(1), { append: true });
      assertEquals(report.known, known);
    }
    assertEquals(await totals(backend), { USD: "11" });
    const { known } = await importText(backend, month() + row(1));
    assertEquals(known, 11);
    const { delivery } = await importText(backend, month("3") + row(1));
    assertEquals([delivery!.replaced, await totals(backend)], [11, { USD: "31" }]);
    const ended = (await deliveries(backend)).map(({ parts }) => parts[0].ended !== undefined);
    assertEquals(ended.sort(), [false, true, true]);
  });

  test("tells of charges that count twice when their quantities were corrected", async (backend) => {
    const notes: string[] = [];
    const onNote = (note: string) => notes.push(note);
    const used = (quantity: number, from = 0, amount = "1.75") =>
      charges(from, amount).trimEnd().split("\n").map((line, i) =>
        `${line},${i === 0 ? "consumedQuantity,consumedUnit" : `${quantity + i},Hrs`}\n`
      ).join("");
    await importText(backend, used(1), { source: "s", onNote });
    await importText(backend, used(1_000, 500), { source: "s", append: true, onNote });
    assertEquals(notes, []);
    const { delivery } = await importText(backend, used(100), { source: "s", append: true, onNote });
    assertEquals(notes.splice(0), [
      "s had most of these charges of 2026-01 already: they count twice now. To take this import back, " +
      `run "openfinops database deliveries undo ${delivery!.id}"`,
    ]);
    await importText(backend, used(200), { onNote });
    assertMatch(notes.splice(0)[0], /^the source s has nearly the same charges of 2026-01 as csv\. /);
    const restated = await importText(backend, used(300), { onNote });
    assertEquals(restated.delivery?.replaced, 30);
    assertEquals(await totals(backend), { USD: "210" });
  });

  test("is all that is left with replace, also when it is one of two that are there", async (backend) => {
    const notes: string[] = [];
    const onNote = (note: string) => notes.push(note);
    const [one, other] = [charges(0, "1.25"), charges(1_000, "7")];
    for (const known of [one, other]) {
      await importText(backend, one, { source: "s", replace: true });
      await importText(backend, other, { source: "s", append: true });
      assertEquals(await totals(backend), { USD: "247.5" });
      assertEquals((await importText(backend, known, { source: "s", append: true, onNote })).known, 30);
      assertEquals(notes, []);
      assertEquals((await importText(backend, known, { source: "s", onNote })).known, 30);
      assertEquals(notes.splice(0), [
        `s has the rows of this import, and 30 rows more of 2026-01 (USD ${
          known === one ? "210" : "37.5"
        }) ` +
        "of other deliveries. If this import is all of them, run it with --replace",
      ]);
      assertEquals(await totals(backend), { USD: "247.5" });
      const { delivery, stored } = await importText(backend, known, { source: "s", replace: true, onNote });
      assertEquals([stored, delivery?.replaced, notes], [30, 60, []]);
      const after = known === one ? "37.5" : "210";
      assertEquals([delivery?.totals[0].before, delivery?.totals[0].after], ["247.5", after]);
      assertEquals(await totals(backend), { USD: after });
      assertEquals((await importText(backend, known, { source: "s", replace: true, onNote })).known, 30);
      assertEquals(notes, []);
    }
    await importText(backend, one, { source: "s", append: true });
    const both = one + other.replace(HEADER, "");
    assertEquals((await importText(backend, both, { source: "s", replace: true })).known, 60);
  });

  test("has the total of the last file in any order of again and replace", async (backend) => {
    const files = [charges(0), charges(0, "2"), charges(1_000, "4")];
    const sums = [30, 60, 120];
    for (const order of [[0, 1, 1], [0, 1, 0], [2, 2, 2], [0, 2, 1], [1, 0, 2]]) {
      await importText(backend, files[order[0]], { replace: true });
      await importText(backend, files[order[1]], { append: true });
      const appended = sums[order[0]] + (order[0] === order[1] ? 0 : sums[order[1]]);
      assertEquals(await totals(backend), { USD: String(appended) }, `append ${order}`);
      await importText(backend, files[order[2]], { replace: true });
      assertEquals(await totals(backend), { USD: String(sums[order[2]]) }, `replace ${order}`);
    }
  });

  test("tells of a month that lost rows or costs by a replacement", async (backend) => {
    const notes: string[] = [];
    const onNote = (note: string) => notes.push(note);
    const lines = charges(0, "2").split("\n");
    const without = (at: number) => lines.toSpliced(at, 1).join("\n");
    await importText(backend, charges(0), { source: "s", onNote });
    await importText(backend, charges(0, "2"), { source: "s", onNote });
    assertEquals(notes, []);
    await importText(backend, without(5), { source: "s", onNote });
    await importText(backend, charges(0, "2"), { source: "s", onNote });
    await importText(backend, charges(0), { source: "s", onNote });
    const advice = "now. If the file lacks charges, import it again when it is complete";
    assertEquals(notes, [
      `s of 2026-01 had 30 rows (USD 60) and has 29 rows (USD 58) ${advice}`,
      `s of 2026-01 had 30 rows (USD 60) and has 30 rows (USD 30) ${advice}`,
    ]);
    await importText(backend, without(5).replaceAll(",2,", ",9,"), { source: "s", onNote });
    assertEquals(notes[2], `s of 2026-01 had 30 rows (USD 30) and has 29 rows (USD 261) ${advice}`);
    await importText(backend, without(5), { source: "s", onNote, replace: true });
    assertEquals(notes.length, 3);
  });

  test("needs to be told to replace a closed period", async (backend) => {
    const header =
      "BilledCost,BillingCurrency,ChargePeriodStart,ServiceCategory,ResourceId,BillingPeriodStatus,BillingAccountId\n";
    const line = (amount: number) => `${amount},USD,2026-01-05T00:00:00Z,Compute,i-1,Closed,1\n`;
    const options = { format: "focus" } as const;
    await importText(backend, header + line(1), options);
    await importText(backend, header + line(1), options);
    await assertRejects(() => importText(backend, header + line(2), options), TransferError, "is closed");
    await importText(backend, header + line(2), { ...options, replace: true });
    assertEquals(await totals(backend), { USD: "2" });
  });

  test("needs to be told to replace a period that its issuer closed", async (backend) => {
    const header =
      "BilledCost,BillingCurrency,ChargePeriodStart,ServiceCategory,ResourceId,InvoiceIssuerName\n";
    const line = (amount: number) => `${amount},USD,2026-01-05T00:00:00Z,Compute,i-1,AWS\n`;
    const options = { format: "focus" } as const;
    const status = (name: string) =>
      "BillingPeriodEnd,BillingPeriodStart,BillingPeriodStatus,InvoiceIssuerName\n" +
      `2026-02-01T00:00:00Z,2026-01-01T00:00:00Z,${name},AWS\n`;
    await importText(backend, status("Open"), options);
    await importText(backend, header + line(1), options);
    await importText(backend, header + line(2), options);
    await importText(backend, status("Closed"), options);
    await importText(backend, header + line(2), options);
    await assertRejects(() => importText(backend, header + line(3), options), TransferError, "is closed");
    await importText(backend, header + line(3), { ...options, replace: true });
    assertEquals(await totals(backend), { USD: "3" });
  });

  test("tells a known id with other content", async (backend) => {
    const header = HEADER.replace("timestamp", "entryId,timestamp");
    await importText(backend, `${header}a,${row(1)}b,${row(2)}`);
    await assertRejects(
      () => importText(backend, `${header}a,${row(1)}b,${row(2, "5")}c,${row(3)}`, { append: true }),
      TransferError,
      '"b" in entryId stands for several costs of 2026-01-02T00:00:00.000Z. Choose an id column that tells them ' +
        "apart. 1 records are stored, 1 are known, 1 with other content are not stored.",
    );
    assertEquals(await totals(backend), { USD: "3" });
  });

  test("tells a known id with other columns of its vendor", async (backend) => {
    const bill = (note: string, id = "a") =>
      "x_Id,x_Note,x_Other,BilledCost,BillingCurrency,ChargePeriodStart,ServiceName\n" +
      `${id},${note},,1,USD,2026-01-01T00:00:00Z,EC2\n`;
    const options: Options = { format: "focus", idColumn: "x_Id", append: true };
    await importText(backend, bill("first"), options);
    await importText(backend, bill("first", "b"), options); // another first row names the columns that are null in it
    const known = await importText(
      backend,
      bill("first") + bill("first", "c").split("\n")[1] + "\n",
      options,
    );
    assertEquals([known.known, known.stored], [1, 1]);
    await assertRejects(
      () => importText(backend, bill("second"), options),
      TransferError,
      "0 records are stored, 0 are known, 1 with other content are not stored.",
    );
  });

  test("publishes other datasets of FOCUS with the costs, or neither", async (backend) => {
    const bill = (days: readonly number[]) =>
      "BilledCost,BillingCurrency,ChargePeriodStart,ServiceName\n" +
      days.map((day) => `1,USD,2026-01-0${day}T00:00:00Z,EC2\n`).join("");
    const period = (status: string) =>
      "BillingPeriodEnd,BillingPeriodStart,BillingPeriodStatus,InvoiceIssuerName\n" +
      `2026-02-01T00:00:00Z,2026-01-01T00:00:00Z,${status},AWS\n`;
    const importFiles = (...texts: string[]) => {
      const files = texts.map((text, i): CostFile => ({
        name: `${i}.csv`,
        format: "focus",
        open: () => Promise.resolve(new Blob([text]).stream()),
      }));
      return importCosts(files, { backend, dataset: "cost_entries", format: "focus" });
    };
    const status = async () =>
      (await readFocusRows(backend.documents, "billing-period")).map(({ BillingPeriodStatus }) =>
        BillingPeriodStatus
      );
    await importFiles(period("Open"), bill([1, 2, 3]));
    assertEquals([await status(), await totals(backend)], [["Open"], { USD: "3" }]);
    await assertRejects(() => importFiles(period("Closed"), bill([1])), TransferError, "Nothing was stored");
    assertEquals([await status(), await totals(backend)], [["Open"], { USD: "3" }]);
    const { stored, restated, known } = await importFiles(bill([3, 2, 1]), period("Closed"));
    assertEquals([stored, restated, known, await status()], [1, 1, 3, ["Closed"]]);
  });

  test("knows costs that were exported from the same database", async (backend) => {
    const costs = [costEntry({ entryId: "a", source: "api" }), costEntry({ entryId: "b" })];
    await write(backend, costEntries, costs);
    await importText(backend, month());
    const file = await new Response(
      await exportRecords({ backend, dataset: "cost_entries", format: "csv" }) as ReadableStream<
        Uint8Array<ArrayBuffer>
      >,
    ).text();
    for (let round = 0; round < 2; round++) {
      await importText(backend, file);
      assertEquals(await totals(backend), { USD: "12" });
    }
  });

  test("updates a known id when asked to", async (backend) => {
    const header = HEADER.replace("timestamp", "entryId,timestamp");
    await importText(backend, `${header}a,${row(1)}b,${row(2)}`);
    const text = `${header}b,${row(2, "5")}c,${row(3, "7")}`;
    const { stored, restated } = await importText(backend, text, { append: true });
    assertEquals([stored, restated], [2, 1]);
    assertEquals(await totals(backend), { USD: "13" });
  }, "replace");

  test("restores a month whose costs were deleted", async (backend) => {
    await importText(backend, month());
    await backend.deleteBefore(costEntries, Date.UTC(2026, 0, 6), { dryRun: false });
    const { delivery } = await importText(backend, month());
    assertEquals([delivery!.replaced, await totals(backend)], [5, { USD: "10" }]);
    await backend.deleteBefore(costEntries, Date.UTC(2027, 0), { dryRun: false });
    await importText(backend, month("1", 3));
    assertEquals(await totals(backend), { USD: "3" });
  });

  test("leaves costs alone that no vendor delivered", async (backend) => {
    const header = HEADER.replace("timestamp", "entryId,source,basis,timestamp");
    const collected = `${header}a,collect,estimated,${row(1)}b,api,,${row(2)}`;
    for (const known of [0, 2]) assertEquals((await importText(backend, collected)).known, known);
    const { delivery } = await importText(backend, month(), { source: "vendor" });
    assertEquals([delivery!.replaced, await totals(backend)], [0, { USD: "12" }]);
  });

  test("stores nothing when it is aborted", async (backend) => {
    await importText(backend, month());
    const stop = new AbortController();
    const input = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(HEADER + row(1).repeat(20_000)));
      },
    });
    const importing = importRecords(input, {
      backend,
      dataset: "cost_entries",
      format: "csv",
      signal: stop.signal,
      onProgress: ({ staged }) => staged >= 10_000 && stop.abort(new Error("enough")),
    });
    await assertRejects(() => importing, Error, "enough");
    assertEquals(await totals(backend), { USD: "10" });
    const { delivery } = await importText(backend, month("2"));
    assertEquals(delivery!.replaced, 10);
  });

  test("records the rows that it stored, where others were known", async (backend) => {
    const header = HEADER.replace("timestamp", "entryId,timestamp");
    const costs = (...ids: string[]) => header + ids.map((id, i) => `${id},${row(i + 1)}`).join("");
    await importText(backend, costs("a", "b"));
    const { stored, known } = await importText(backend, costs("a", "b", "c"), { append: true });
    assertEquals([stored, known], [1, 2]);
    const parts = (await deliveries(backend)).flatMap(({ parts }) => parts);
    const rows = parts.map(({ delivered, rows, totals }) => [delivered, rows, totals]).sort();
    assertEquals(rows, [[2, 2, { USD: "2" }], [3, 1, { USD: "1" }]]);
  });

  test("stores nothing and blocks nothing when publishing fails", async (backend) => {
    const staging = await backend.stage!();
    const staged = { stagedPart: NO_PART, stagedAt: 0, isHashed: false };
    await staging.add([{ ...costEntry({ entryId: "a", amount: "7" }), currency: "USD", ...staged }]);
    const decide = () => {
      throw new Error("no plan");
    };
    await assertRejects(async () => await staging.publish({ related: () => [], decide }), Error, "no plan");
    await importText(backend, month()); // beside it
    await staging.discard();
    await importText(backend, month("1", 10) + row(11));
    assertEquals(await totals(backend), { USD: "11" });
  });

  test("is decided after any other that is published at the same time", async (backend) => {
    const imports = await Promise.allSettled(
      Array.from({ length: 4 }, (_, i) => importText(backend, month(String(i + 1)))),
    );
    assert(imports.every(({ status }) => status === "fulfilled"), JSON.stringify(imports));
    const { USD } = await totals(backend);
    assert(["10", "20", "30", "40"].includes(USD), USD);
  });
}

Deno.test("a delivery refuses files that have most of their rows in common", async () => {
  /** Charges of hosts with numbers, in a month. */
  const hosts = (from: number, to: number, amount = "1") =>
    HEADER +
    Array.from({ length: to - from }, (_, i) => row(1 + (from + i) % 28, amount, `host-${from + i}`)).join(
      "",
    );
  const reversed = (text: string) => HEADER + text.split("\n").slice(1, -1).reverse().join("\n") + "\n";
  const files = (...texts: string[]) =>
    texts.map((text, i): CostFile => ({ name: `${i}.csv`, open: () => Promise.resolve(new Blob([text])) }));
  const run = async (texts: readonly string[], options: Options = {}) => {
    await using place = await PLACES.memory();
    const { backend } = place;
    const found = { notes: [] as string[], error: "", total: "0" };
    const onNote = (note: string) => found.notes.push(note);
    try {
      await importCosts(files(...texts), {
        backend,
        dataset: "cost_entries",
        format: "csv",
        onNote,
        ...options,
      });
    } catch (error) {
      assert(error instanceof TransferError && error.code === "DELIVERY_REFUSED", String(error));
      found.error = error.message;
    }
    found.total = (await totals(backend)).USD ?? "0";
    return found;
  };
  const refused: string[][] = [
    [hosts(0, 1_000), reversed(hosts(0, 1_000))], // a copy
    [hosts(0, 8), hosts(0, 8)],
    [hosts(0, 500), hosts(0, 900)], // the month up to a day, and up to a later one
    [hosts(0, 900), hosts(0, 500)],
    [hosts(0, 900), hosts(300, 1_200)],
    [hosts(4_000, 4_060), hosts(0, 8_000)], // a day, and the month
    [hosts(0, 8_000), hosts(4_000, 4_060)],
    [...Array.from({ length: 40 }, (_, i) => hosts(100 * i, 100 * i + 100)), hosts(700, 800)],
  ];
  for (const texts of refused) {
    const { error, total, notes } = await run(texts);
    assertMatch(
      error,
      /^Cannot import: \d+\.csv and the files before it have most rows of csv of 2026-01 in common/,
    );
    assertEquals([total, notes], ["0", []]);
  }
  const last = `${refused.at(-1)!.length - 1}.csv`;
  assertMatch((await run(refused.at(-1)!)).error, new RegExp(`: ${last} and`));
  assertEquals((await run([hosts(0, 8), hosts(0, 8)], { append: true })).total, "16");
  const taken: [string[], string][] = [
    [[hosts(0, 500), hosts(500, 1_000), hosts(1_000, 1_100)], "1100"],
    [[hosts(0, 500), hosts(400, 900)], "1000"], // some rows are equal
    [[hosts(0, 7), hosts(0, 7)], "14"], // too few to tell
    [[hosts(0, 100), hosts(0, 100).replaceAll("2026-01", "2026-02")], "200"],
  ];
  for (const [texts, total] of taken) assertEquals(await run(texts), { notes: [], error: "", total });
  const corrected = await run([hosts(0, 100), hosts(0, 100, "2")]);
  assertEquals([corrected.total, corrected.notes.length], ["300", 1]);
  assertMatch(
    corrected.notes[0],
    /^1\.csv has nearly the same charges of csv of 2026-01 as the files before it\. /,
  );
});

Deno.test("a delivery tells that a bill of the same account came in another format", async () => {
  await using opened = await open({ connectionString: "sqlite://" });
  const { backend } = opened;
  const notes: string[] = [];
  const onNote = (note: string) => notes.push(note);
  const bill = JSON.stringify({
    billing_account_id: "01",
    service: { description: "Compute Engine" },
    sku: { id: "x", description: "N1" },
    usage_start_time: "2026-01-05 00:00:00 UTC",
    cost: 1.5,
    currency: "USD",
    resource: { name: "vm1" },
  });
  await importText(backend, bill, { format: "gcp" });
  const focus = (account: string) =>
    "BilledCost,BillingCurrency,ChargePeriodStart,ServiceCategory,ResourceId,BillingAccountId\n" +
    `1.5,USD,2026-01-05T00:00:00Z,Compute,//compute/vm1,${account}\n`;
  await importText(backend, focus("02"), { format: "focus", onNote });
  assertEquals(notes.splice(0), []);
  await importText(backend, focus("01"), { format: "focus", onNote });
  assertMatch(
    notes.splice(0).join(),
    /^the source gcp:01 has costs of the same account of 2026-01 as focus:01\. .* they count twice: run /,
  );
  await importText(backend, focus("01"), { format: "focus", onNote }); // known
  assertEquals(notes, []);
});

Deno.test("a delivery refuses a zip file that has a file twice, and names it", async () => {
  const text = HEADER + Array.from({ length: 9 }, (_, i) => row(i + 1)).join("");
  const { configure, TextReader, Uint8ArrayWriter, ZipWriter } = await import("@zip.js/zip.js");
  configure({ useWebWorkers: false });
  const writer = new ZipWriter(new Uint8ArrayWriter());
  for (const name of ["a.csv", "b.csv"]) await writer.add(name, new TextReader(text));
  const zipped = await writer.close();
  const file: CostFile = {
    name: "bill.zip",
    open: () => Promise.resolve(new Blob([zipped as Uint8Array<ArrayBuffer>])),
  };
  await using place = await PLACES.memory();
  const { backend } = place;
  await assertRejects(
    () => importCosts([file], { backend, dataset: "cost_entries" }),
    TransferError,
    "Cannot import: bill.zip/b.csv and the files before it",
  );
  assertEquals(await totals(backend), {});
});

Deno.test("a delivery on PostgreSQL drops staging tables that killed imports left behind", async () => {
  await using database = await TestDatabase.create();
  const backend = await openBackend({ connectionString: database.url });
  const [{ now }] = await database.sql("SELECT floor(extract(epoch FROM now()))::int AS now") as [
    { now: number },
  ];
  await database.sql(`CREATE TABLE openfinops_staging_${now - 90_000}_aa (i int)`);
  await database.sql(`CREATE TABLE openfinops_staging_${now}_bb (i int)`);
  await importText(backend, month());
  const found = await database.sql("SELECT relname FROM pg_class WHERE relname LIKE 'openfinops_staging%'");
  assertEquals(found.map(({ relname }) => relname), [`openfinops_staging_${now}_bb`]);
  await backend.close();
});

Deno.test("a delivery on PostgreSQL keeps its costs when its clock is behind and another one begins", async () => {
  await using database = await TestDatabase.create();
  const backend = await openBackend({ connectionString: database.url });
  const { now } = Date;
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  Date.now = () => now() - 60 * 86_400_000;
  try {
    const importing = importCosts(
      ["a", "b"].map((name): CostFile => ({
        name,
        async open() {
          if (name === "b") {
            first.resolve(); // file a is staged
            await second.promise;
          }
          return new Blob([name === "a" ? month() : month("2").replaceAll("i-", "j-")]);
        },
      })),
      { backend, dataset: "cost_entries", format: "csv" },
    );
    await Promise.race([first.promise, importing]);
    Date.now = now;
    await importText(backend, month("7"), { source: "other" });
    second.resolve();
    await importing;
  } finally {
    Date.now = now;
  }
  assertEquals(await totals(backend), { USD: "100" });
  await backend.close();
});

Deno.test("a delivery that PostgreSQL cannot stage names the cause", async () => {
  await using database = await TestDatabase.create();
  const backend = await openBackend({ connectionString: database.url });
  await database.sql("ALTER TABLE cost_entries ALTER COLUMN amount TYPE numeric(3, 2)");
  const error = await assertRejects(() => importText(backend, month("12345")), BackendError, "overflow");
  assertEquals((error as BackendError).sqlState, "22003");
  await backend.close();
});

Deno.test("a delivery on SQLite waits for another program that writes, and says so", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const other = new DatabaseSync(folder.file("test.db"));
  other.exec("BEGIN IMMEDIATE");
  const notes: string[] = [];
  await importText(backend, month(), {
    onNote(text) {
      notes.push(text);
      other.exec("COMMIT");
    },
  });
  assertEquals(notes, ["waiting for another program that writes into the database"]);
  assertEquals(await totals(backend), { USD: "10" });
  other.exec("BEGIN IMMEDIATE");
  const stop = new AbortController();
  const importing = importText(backend, month("2"), {
    signal: stop.signal,
    onNote: () => stop.abort(new Error("enough")),
  });
  await assertRejects(() => importing, Error, "enough");
  other.close();
  assertEquals(await totals(backend), { USD: "10" });
  await backend.close();
});

const SKIP = "Cannot import: a trigger of cost_entries skipped a record.";

Deno.test("a delivery on PostgreSQL is published with a commit that survives a crash", async () => {
  await using database = await TestDatabase.create();
  const backend = await openBackend({ connectionString: database.url });
  await database.sql(
    "CREATE TABLE seen (setting text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS " +
      "$$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$; " +
      "CREATE TRIGGER note BEFORE INSERT ON cost_entries FOR EACH ROW EXECUTE FUNCTION note()",
  );
  await importText(backend, month("1", 1));
  assertEquals(await database.sql("SELECT * FROM seen"), [{ setting: "on" }]);
  await backend.close();
});

Deno.test("a delivery on PostgreSQL is refused when the server refuses a row while it is staged", async () => {
  await using database = await TestDatabase.create();
  const backend = await openBackend({ connectionString: database.url });
  const staging = await backend.stage!();
  const rows = ["a", "\0"].map((description, stagedAt) => ({
    ...costEntry({ entryId: `e${stagedAt}`, description }),
    currency: "USD",
    stagedPart: NO_PART,
    stagedAt,
    isHashed: false,
  }));
  await assertRejects(() => staging.add(rows), BackendError); // though the driver reports no failure of COPY
  await staging.discard();
  await backend.close();
});

Deno.test("a delivery on SQLite stores nothing when a trigger skips a row", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  await importText(backend, month());
  const database = new DatabaseSync(folder.file("test.db"));
  database.exec(
    "CREATE TRIGGER skip BEFORE INSERT ON cost_entries WHEN NEW.resource_id = 'odd' BEGIN SELECT RAISE(IGNORE); END",
  );
  database.close();
  await assertRejects(() => importText(backend, month() + row(11, "1", "odd")), BackendError, SKIP);
  assertEquals(await totals(backend), { USD: "10" });
  await backend.close();
});

Deno.test("a delivery on PostgreSQL stores nothing when a trigger skips a row", async () => {
  await using database = await TestDatabase.create();
  const backend = await openBackend({ connectionString: database.url });
  await importText(backend, month());
  await database.sql(
    "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS " +
      "$$ BEGIN IF NEW.resource_id = 'odd' THEN RETURN NULL; END IF; RETURN NEW; END $$",
  );
  await database.sql(
    "CREATE TRIGGER skip BEFORE INSERT ON cost_entries FOR EACH ROW EXECUTE FUNCTION skip()",
  );
  await assertRejects(() => importText(backend, month() + row(11, "1", "odd")), BackendError, SKIP);
  assertEquals(await totals(backend), { USD: "10" });
  await backend.close();
});

for (const [place, openPlace] of Object.entries(PLACES)) {
  Deno.test(`deleteRecords() on ${place} deletes what a query finds, and nothing else`, async () => {
    await using opened = await openPlace();
    const { backend } = opened;
    await importText(backend, `${month()}2026-02-01,other,c,5,USD\n2027-01-01,r,c,7,USD\n`);
    const where = [{ field: "resourceId", eq: "r" }];
    const query = acceptQuery(costEntries, { endTime: Date.UTC(2026, 5), where });
    assertEquals(await deleteRecords(backend, costEntries, query), 10);
    assertEquals(await byResource(backend), [["other", "5"], ["r", "7"]]);
    assertEquals(await deleteRecords(backend, costEntries, acceptQuery(costEntries, { where })), 1);
    assertEquals(await deleteRecords(backend, costEntries, acceptQuery(costEntries)), 1);
    assertEquals(await deleteRecords(backend, costEntries, acceptQuery(costEntries)), 0);
  });
}
