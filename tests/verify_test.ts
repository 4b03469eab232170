import { DatabaseSync } from "node:sqlite";
import { type Backend, importRecords, openBackend } from "../mod.ts";
import type { StorageFault } from "../src/backends/backend.ts";
import { LEDGER_DAYS } from "../src/pipeline/sink.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { verifyDatabase } from "../src/transfer/verify.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { write } from "./backend_contract.ts";
import { NEW_YEAR, REQUIRED_FIELDS, TemporaryFolder } from "./fixtures.ts";
import { citusVersion } from "./citus_cluster.ts";
import { withTablesOf } from "./server_backends.ts";
import { timescaleVersion } from "./postgres_server.ts";

/** A database whose tables can be damaged. */
interface Place extends AsyncDisposable {
  readonly backend: Backend;
  sql(text: string): Promise<unknown>;
}

async function openFile(): Promise<Place> {
  const folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  return {
    backend,
    sql(text) {
      const database = new DatabaseSync(folder.file("test.db"));
      database.exec(text);
      database.close();
      return Promise.resolve();
    },
    async [Symbol.asyncDispose]() {
      await backend.close();
      folder[Symbol.dispose]();
    },
  };
}

const DATABASES = Object.fromEntries(
  ["postgresql:", "timescaledb:", "citus:"].map((protocol) => [protocol, withTablesOf(protocol)]),
);

async function openServer(protocol: string): Promise<Place> {
  const database = await DATABASES[protocol]();
  const backend = await openBackend({ connectionString: database.url.replace(/^\w+:/, protocol) });
  return {
    backend,
    sql: (text) => database.sql(text),
    async [Symbol.asyncDispose]() {
      await backend.close();
      await database[Symbol.asyncDispose]();
    },
  };
}

const PLACES: Readonly<Record<string, () => Promise<Place>>> = {
  SQLite: openFile,
  PostgreSQL: () => openServer("postgresql:"),
  ...((await timescaleVersion()).version === undefined
    ? {}
    : { TimescaleDB: () => openServer("timescaledb:") }),
  ...((await citusVersion()).version === undefined ? {} : { Citus: () => openServer("citus:") }),
};

/** Ten costs of a delivery, three metrics and two usage records. */
async function fill(backend: Backend): Promise<void> {
  const rows = Array.from({ length: 10 }, (_, i) => `2026-01-0${i % 5 + 1},r${i},c,USD,1\n`);
  for (const amount of ["2", "1"]) { // the second delivery replaces the first
    await importRecords(
      new Blob([
        `timestamp,resourceId,category,currency,amount\n${rows.join("").replaceAll(",1\n", `,${amount}\n`)}`,
      ])
        .stream(),
      { backend, dataset: "cost_entries", format: "csv" },
    );
  }
  const metrics = [1, 2, 3].map((cpuUsage) => ({
    ...REQUIRED_FIELDS.system_metrics,
    timestamp: NEW_YEAR,
    cpuUsage,
  }));
  await write(backend, systemMetrics, metrics);
  const usage = ["a", "b"].map((usageId) => ({
    ...REQUIRED_FIELDS.usage_records,
    usageId,
    timestamp: NEW_YEAR,
  }));
  await write(backend, usageRecords, usage);
}

const COST = "resource_id = 'r5'";
const ID = "\\d{8}T\\d{6}-[0-9a-f]{8}";

/** SQL that damages a database, and the faults that it causes: check, subject, expected, found. */
const DAMAGES: Readonly<
  Record<string, { sql: string; faults: readonly string[]; places?: readonly string[] }>
> = {
  "costs of a delivery that are gone": {
    sql: `DELETE FROM cost_entries WHERE ${COST}`,
    faults: [`delivery: ${ID} csv 2026-01: 10 rows, USD 10: 9 rows, USD 9`],
  },
  "all costs of a delivery that are gone": {
    sql: "DELETE FROM cost_entries",
    faults: [`delivery: ${ID} csv 2026-01: 10 rows, USD 10: 0 rows`],
  },
  "a currency that was changed": {
    sql: `UPDATE cost_entries SET currency = 'EUR' WHERE ${COST}`,
    faults: [`delivery: ${ID} csv 2026-01: 10 rows, USD 10: 10 rows, EUR 1, USD 9`],
  },
  "costs of a delivery that is not listed": {
    sql: `UPDATE cost_entries SET delivery_id = 'lost' WHERE ${COST}`,
    faults: [
      `delivery: ${ID} csv 2026-01: 10 rows, USD 10: 9 rows, USD 9`,
      "delivery: lost: no costs: it is not listed: 1 row, USD 1",
    ],
  },
  "costs outside of their billing period": {
    sql: `UPDATE cost_entries SET source = 'other' WHERE ${COST}`,
    faults: [
      `delivery: ${ID} csv 2026-01: 10 rows, USD 10: 9 rows, USD 9`,
      `delivery: ${ID}: 9 rows, USD 9 in its billing periods: 10 rows, USD 10`,
    ],
  },
  "a delivery whose document is gone": {
    sql: "DELETE FROM live_documents WHERE kind = 'delivery'",
    faults: [`delivery: ${ID}: no costs: it is not listed: 10 rows, USD 10`],
  },
  "a delivery whose document was overwritten": {
    sql: "UPDATE live_documents SET body = '{}' WHERE kind = 'delivery'",
    faults: [
      `delivery: ${ID}: a record of its files and parts: another document`,
      `delivery: ${ID}: a record of its files and parts: another document`,
      `delivery: ${ID}: 0 rows in its billing periods: 10 rows, USD 10`,
    ],
  },
  "keys of several records": {
    sql: "CREATE TABLE copy AS SELECT * FROM usage_records; DROP TABLE usage_records; " +
      "ALTER TABLE copy RENAME TO usage_records; INSERT INTO usage_records SELECT * FROM usage_records WHERE usage_id = 'a'",
    faults: [
      "key: usage_records 2026-01-01T00:00:00.000Z a: 1 record: 2 records",
      "ledger: usage_records: at most 2 records, which batches brought: 3 records",
    ],
  },
  "batches whose numbers cannot be": {
    sql: "UPDATE ledger SET restated = 1 WHERE dataset = 'system_metrics'; " +
      "UPDATE ledger SET restated = 5 WHERE dataset = 'usage_records'",
    faults: [
      "ledger: batch .* of system_metrics: counts of a batch: committed 3, duplicates 0, restated 1",
      "ledger: batch .* of usage_records: counts of a batch: committed 2, duplicates 0, restated 5",
      "ledger: system_metrics: at most 2 records, which batches brought: 3 records",
      "ledger: usage_records: at most -3 records, which batches brought: 2 records",
    ],
  },
  "records that no batch brought": {
    sql: "INSERT INTO system_metrics SELECT * FROM system_metrics",
    faults: ["ledger: system_metrics: at most 3 records, which batches brought: 6 records"],
  },
  "batches that the ledger has lost": {
    sql: "DELETE FROM ledger WHERE dataset = 'system_metrics'",
    faults: ["ledger: system_metrics: at most 0 records, which batches brought: 3 records"],
  },
  "halves of amounts that do not belong together": {
    sql: `UPDATE cost_entries SET amount_units = 2, amount_parts = -1000000000000000000 + 1 WHERE ${COST}`,
    faults: [
      `delivery: ${ID} csv 2026-01: 10 rows, USD 10: 10 rows, USD 10\\.0+1`,
      "file: amount of row \\d+ of cost_entries: units and parts of one amount: 2 and -999999999999999999",
    ],
    places: ["SQLite"],
  },
};

const textOf = ({ check, subject, expected, found }: StorageFault) =>
  `${check}: ${subject}: ${expected}: ${found}`;

for (const [place, open] of Object.entries(PLACES)) {
  Deno.test(`verifyDatabase() on ${place} finds nothing wrong in an undamaged database`, async () => {
    await using opened = await open();
    assertEquals(await verifyDatabase(opened.backend), []);
    await fill(opened.backend);
    assertEquals(await verifyDatabase(opened.backend), []);
  });

  for (const [what, { sql, faults, places }] of Object.entries(DAMAGES)) {
    if (places && !places.includes(place)) continue;
    Deno.test(`verifyDatabase() on ${place} names ${what}`, async () => {
      await using opened = await open();
      await fill(opened.backend);
      await opened.sql(sql);
      const left = (await verifyDatabase(opened.backend)).map(textOf);
      assertEquals(left.length, faults.length, left.join("\n"));
      for (const fault of faults) {
        const at = left.findIndex((text) => new RegExp(`^${fault}$`).test(text));
        assert(at >= 0, `${fault} is not among\n${left.join("\n")}`);
        left.splice(at, 1);
      }
    });
  }

  Deno.test(`verifyDatabase() on ${place} expects no whole ledger in an old database`, async () => {
    await using opened = await open();
    await fill(opened.backend);
    const old = Date.now() - (LEDGER_DAYS + 1) * 86_400_000;
    const time = place === "SQLite" ? old : `to_timestamp(${old / 1_000})`;
    await opened.sql(`UPDATE schema_version SET applied_at = ${time}; DELETE FROM ledger`);
    assertEquals(await verifyDatabase(opened.backend), []);
    if (place === "SQLite") return;
    const { now } = Date; // the clock of the server dates the ledger
    Date.now = () => now() - 60 * 86_400_000;
    try {
      assertEquals(await verifyDatabase(opened.backend), []);
    } finally {
      Date.now = now;
    }
  });
}

Deno.test("verifyDatabase() on SQLite names an index that does not agree with its table", async () => {
  using folder = new TemporaryFolder();
  const open = () => openBackend({ connectionString: folder.sqlite() });
  const filled = await open();
  await fill(filled);
  await filled.close();
  const database = new DatabaseSync(folder.file("test.db"));
  const found = database.prepare(
    "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'cost_entries_resource_id_timestamp'",
  ).get() as { rootpage: number; page_size: number };
  database.close();
  const bytes = Deno.readFileSync(folder.file("test.db"));
  const start = (found.rootpage - 1) * found.page_size;
  const page = bytes.subarray(start, start + found.page_size);
  const at = page.findIndex((byte, i) => byte === 0x72 && page[i + 1] === 0x35); // r5
  page[at + 1] = 0x34;
  Deno.writeFileSync(folder.file("test.db"), bytes);
  const backend = await open();
  const [fault] = await verifyDatabase(backend);
  assertMatch(textOf(fault), /^file: integrity_check: ok: .*cost_entries_resource_id_timestamp/);
  await backend.close();
});

Deno.test("verifyDatabase() finds nothing wrong in memory", async () => {
  const backend = await openBackend({ backend: "memory" });
  await fill(backend);
  assertEquals(await verifyDatabase(backend), []);
  assert(backend.verify === undefined || (await backend.verify()).length === 0);
  await backend.close();
});
