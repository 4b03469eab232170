/**
 * Contract of every backend. The test of a backend calls this, and adds what only that
 * backend can do.
 *
 * @module
 */
import { openBackend } from "../src/open_backend.ts";
import { exportRecords } from "../src/transfer/export.ts";
import type { Backend, ConflictPolicy } from "../src/backends/backend.ts";
import { currencyTotals } from "../src/backends/currency_totals.ts";
import type { WriteResult } from "../src/pipeline/sink.ts";
import { costEntries, type CostEntry } from "../src/records/cost_entry.ts";
import type { Dataset, DatasetName } from "../src/records/dataset.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { acceptQuery } from "../src/records/query.ts";
import { type SystemMetrics, systemMetrics } from "../src/records/system_metrics.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import type { WhereCondition } from "../src/records/where.ts";
import { readPage, type RecordPage } from "../src/query/record_page.ts";
import { type Tally, tally } from "../src/transfer/comparison.ts";
import { importRecords } from "../src/transfer/import.ts";
import { TransferError } from "../src/transfer/transfer_error.ts";
import { answersContract } from "./aggregation_contract.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { membersContract } from "./members_contract.ts";
import { liveContract } from "./monitoring_contract.ts";
import {
  costEntry,
  FULL_COST_ENTRY,
  FULL_DEVICE_METRICS,
  FULL_METRIC_POINT,
  FULL_SERVICE_METRICS,
  FULL_SYSTEM_METRICS,
  FULL_USAGE_RECORD,
  NEW_YEAR,
  REQUIRED_FIELDS,
} from "./fixtures.ts";

/** Imports uses that have every field, with these input tokens; gives the numbers of the report. */
async function importUses(
  backend: Backend,
  tokens: readonly number[],
  onConflict: ConflictPolicy = "ignore",
): Promise<string> {
  const lines = tokens.map((inputTokens, i) =>
    `${JSON.stringify({ ...FULL_USAGE_RECORD, usageId: `u${i}`, inputTokens })}\n`
  );
  const options = { backend, dataset: "usage_records", format: "ndjson", onConflict } as const;
  const { stored, known, different = 0 } = await importRecords(new Blob(lines).stream(), options);
  return `stored ${stored}, known ${known}, different ${different}`;
}

async function tokensOf(backend: Backend): Promise<(number | undefined)[]> {
  const uses = await read(backend, usageRecords);
  return uses.sort((a, b) => a.usageId < b.usageId ? -1 : 1).map(({ inputTokens }) => inputTokens);
}

/** Opens an empty backend; disposing of it closes it and removes what it left. */
export type OpenEmpty = (
  options: { onConflict: ConflictPolicy },
) => Promise<AsyncDisposable & { backend: Backend }>;

const HOUR = 3_600_000;

/** Registers the tests of the contract. */
export function backendContract(name: string, openEmpty: OpenEmpty): void {
  function test(
    title: string,
    run: (backend: Backend) => Promise<void>,
    onConflict: ConflictPolicy = "ignore",
  ): void {
    Deno.test(`${name} ${title}`, async () => {
      await using opened = await openEmpty({ onConflict });
      await run(opened.backend);
    });
  }

  test("reads back every field of every dataset", async (backend) => {
    const full: Record<DatasetName, unknown> = {
      system_metrics: FULL_SYSTEM_METRICS,
      service_metrics: FULL_SERVICE_METRICS,
      device_metrics: FULL_DEVICE_METRICS,
      usage_records: FULL_USAGE_RECORD,
      cost_entries: FULL_COST_ENTRY,
      metric_points: FULL_METRIC_POINT,
    };
    for (const dataset of Object.values<Dataset<unknown>>(DATASETS)) {
      assertEquals(dataset.columns.map(({ field }) => field), Object.keys(full[dataset.name] as object));
      await write(backend, dataset, [full[dataset.name]]);
      assertEquals(await read(backend, dataset), [full[dataset.name]]);
    }
  });

  test("reads the keys of maps in one order", async (backend) => {
    const labels = {
      team: "a",
      z: "1",
      B: "2",
      "": "3",
      "10": "4",
      "9": "5",
      "ü": "6",
      environment: "7",
      __proto: "8",
    };
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR, labels }]);
    const [{ labels: found }] = await read(backend, systemMetrics);
    assertEquals(found, labels);
    // JavaScript puts whole numbers first, in spite of the order in which they were set.
    assertEquals(Object.keys(found!), ["9", "10", "", "B", "__proto", "environment", "team", "z", "ü"]);
  });

  test("exports the same bytes as SQLite does", async (backend) => {
    const sqlite = await openBackend({ connectionString: "sqlite://" });
    const numbers = Array.from({ length: 200 }, (_, i) => i * 7 % 200);
    const metrics = numbers.map((i) => ({
      timestamp: NEW_YEAR + i % 3,
      nodeId: `n${i % 50}`,
      cpuUsage: i / 3,
      labels: { zone: `${i}`, a: "1", [`k${i}`]: "2" },
    }));
    const costs = numbers.map((i) =>
      costEntry({ timestamp: NEW_YEAR + i % 3, entryId: `e${i}`, tags: { zone: `${i}`, a: "1" } })
    );
    await write(sqlite, systemMetrics, metrics);
    await write(sqlite, costEntries, costs);
    // Read from there, as records in memory keep the order of their fields.
    await write(backend, systemMetrics, (await read(sqlite, systemMetrics)).toReversed());
    await write(backend, costEntries, (await read(sqlite, costEntries)).toReversed());
    for (const dataset of ["system_metrics", "cost_entries"] as const) {
      for (const format of ["ndjson", "csv", "focus"] as const) {
        if (format === "focus" && dataset !== "cost_entries") continue;
        const [expected, found] = await Promise.all(
          [sqlite, backend].map(async (backend) =>
            await new Response(await exportRecords({ backend, dataset, format })).text()
          ),
        );
        assertEquals(found.split("\n").slice(0, 3), expected.split("\n").slice(0, 3));
        assertEquals(found === expected, true, `${dataset} ${format}`);
      }
    }
    await sqlite.close();
  });

  test("reads pages that neither lose nor double records of one time", async (backend) => {
    const numbers = Array.from({ length: 60 }, (_, i) => i * 7 % 60);
    const costs = (name: string) =>
      numbers.map((i) => costEntry({ timestamp: NEW_YEAR + i % 2, entryId: `${name}${i}é` }));
    // Of three nodes, and more equal ones of one time than a page holds.
    const metrics = (cpuUsage: number) =>
      numbers.map((i) => ({
        timestamp: NEW_YEAR + i % 2,
        nodeId: `n${i % 3}`,
        cpuUsage: cpuUsage + i % 2 * (i % 7),
      }));
    for (
      const [dataset, early, before, late] of [
        [costEntries, costs("a"), costs("b"), costs("c")],
        [systemMetrics, metrics(10), metrics(20), metrics(30)],
      ] as [Dataset<unknown>, unknown[], unknown[], unknown[]][]
    ) {
      await write(backend, dataset, before);
      const expected = (await read(backend, dataset)).map((record) => JSON.stringify(record)).toSorted();
      for (const [order, meanwhile] of [["asc", early], ["desc", late]] as const) {
        const found: { timestamp: number }[] = [];
        const query = { ...acceptQuery(dataset, { order }), limit: 7 };
        let page: RecordPage | undefined;
        for (; !page || page.next; found.push(...page.records as typeof found)) {
          page = await readPage(backend, dataset, query, { after: page?.next });
          assertEquals(page.records.length === 7 || page.next === undefined, true);
          if (found.length === 7) await write(backend, dataset, meanwhile);
        }
        const times = found.map(({ timestamp }) => timestamp);
        assertEquals(times, order === "asc" ? times.toSorted() : times.toSorted().reverse());
        const texts = found.map((record) => JSON.stringify(record)).toSorted();
        assertEquals(texts.filter((text) => expected.includes(text)), expected, `${dataset.name} ${order}`);
        const all = (await read(backend, dataset)).map((record) => JSON.stringify(record));
        for (const text of texts) assert(all.splice(all.indexOf(text), 1)[0] === text, text);
      }
    }
  });

  test("keeps absent fields absent and empty ones empty", async (backend) => {
    await write(backend, systemMetrics, [{ timestamp: NEW_YEAR, labels: {} }]);
    await write(backend, costEntries, [costEntry({ description: "", tags: {} })]);
    assertEquals(await read(backend, systemMetrics), [
      { timestamp: NEW_YEAR, clusterId: "default", nodeId: "default", labels: {} } as SystemMetrics,
    ]);
    const [{ description, tags, region }] = await read(backend, costEntries);
    assertEquals([description, tags, region], ["", {}, undefined]);
  });

  test("reads back each cost when batches have different columns", async (backend) => {
    const costs = [
      costEntry({ entryId: "a", serviceName: "EC2", focus: { x: "1" } }),
      costEntry({ entryId: "b", effectiveCost: "2.50", basis: "billed" }),
      costEntry({ entryId: "c" }),
      costEntry({ entryId: "d", invoiceId: "INV-1", billingPeriodStart: NEW_YEAR }),
    ];
    await write(backend, costEntries, costs.slice(0, 2));
    for (const cost of costs.slice(2)) await write(backend, costEntries, [cost]);
    const [a, b, c, d] = await read(backend, costEntries);
    assertEquals([a.serviceName, a.focus, a.effectiveCost], ["EC2", { x: "1" }, undefined]);
    assertEquals(b, { ...costEntry({ entryId: "b" }), currency: "USD", effectiveCost: "2.5" } as CostEntry);
    assertEquals(c, { ...costEntry({ entryId: "c" }), currency: "USD" } as CostEntry);
    assertEquals([d.invoiceId, d.billingPeriodStart], ["INV-1", NEW_YEAR]);
  });

  test("removes every field of a cost when it is replaced", async (backend) => {
    await write(backend, costEntries, [FULL_COST_ENTRY]);
    const { entryId, timestamp } = FULL_COST_ENTRY;
    const cost = { ...costEntry({ entryId, timestamp }), currency: "USD" } as CostEntry;
    await write(backend, costEntries, [cost]);
    assertEquals(await read(backend, costEntries), [cost]);
  }, "replace");

  test("finds costs by conditions on any field, on keys of maps, and on what is absent", async (backend) => {
    const costs = [
      costEntry({ entryId: "a", amount: "-1.5", serviceName: "EC2", tags: { "a,b=c": "x", team: "nlp" } }),
      costEntry({
        entryId: "b",
        amount: "-1.2",
        serviceName: "S3",
        tags: { team: "cv", "": "no key" },
        basis: "estimated",
      }),
      costEntry({
        entryId: "c",
        amount: "0.000000000000000001",
        effectiveCost: "12",
        focus: { SkuMeter: "in" },
      }),
      costEntry({ entryId: "d", amount: "123456789012345678.9", chargePeriodEnd: NEW_YEAR + 5 }),
    ];
    await write(backend, costEntries, costs);
    const cases: [WhereCondition[], string][] = [
      [[{ field: "serviceName", eq: "EC2" }], "a"],
      [[{ field: "serviceName", ne: "EC2" }], "bcd"],
      [[{ field: "serviceName", in: ["EC2", "S3"] }], "ab"],
      [[{ field: "serviceName", notIn: ["EC2", "S3"] }], "cd"],
      [[{ field: "serviceName", missing: true }], "cd"],
      [[{ field: "tags.team", in: ["nlp", "cv"] }, { field: "tags.a,b=c", missing: false }], "a"],
      [[{ field: "tags.team", missing: true }], "cd"],
      [[{ field: "tags.team", ne: "nlp" }], "bcd"],
      [[{ field: "tags.", eq: "no key" }], "b"],
      [[{ field: "tags.", missing: true }], "acd"],
      [[{ field: "focus.SkuMeter", eq: "in" }], "c"],
      [[{ field: "amount", gt: 0 }], "cd"],
      [[{ field: "amount", gte: "-1.2", lt: "123456789012345678.9" }], "bc"],
      [[{ field: "amount", in: ["-1.50", 1e-18] }], "ac"],
      [[{ field: "amount", ne: "-1.5" }], "bcd"],
      [[{ field: "effectiveCost", missing: false }], "c"],
      [[{ field: "effectiveCost", lte: 12 }], "c"],
      [[{ field: "effectiveCost", missing: true }], "abd"],
      [[{ field: "basis", eq: "billed" }], "acd"],
      [[{ field: "basis", ne: "billed" }], "b"],
      [[{ field: "chargePeriodEnd", gt: new Date(NEW_YEAR) }], "d"],
      [[{ field: "entryId", notIn: ["a", "b"] }, { field: "serviceName", eq: "it's" }], ""],
    ];
    for (const [where, expected] of cases) {
      const found = await read(backend, costEntries, { where });
      assertEquals(found.map(({ entryId }) => entryId).join(""), expected, JSON.stringify(where));
      const [{ values: [count] }] = await backend.aggregate(
        costEntries,
        acceptQuery(costEntries, { where }),
        {
          groupBy: [],
          measures: [{ function: "count" }],
        },
      );
      assertEquals(count, expected.length, JSON.stringify(where));
    }
    await write(backend, systemMetrics, [
      { timestamp: NEW_YEAR, cpuUsage: -0.5, activeConnections: 3, trainingActive: true },
      { timestamp: NEW_YEAR + 1, cpuUsage: 50 },
    ]);
    for (const where of [{ field: "cpuUsage", lt: 0 }, { field: "trainingActive", eq: true }]) {
      assertEquals((await read(backend, systemMetrics, { where: [where] })).length, 1);
    }
    assertEquals(
      (await read(backend, systemMetrics, { where: [{ field: "activeConnections", ne: 3 }] })).length,
      1,
    );
  });

  test("groups costs by any text field and key, and by their basis", async (backend) => {
    await write(backend, costEntries, [
      costEntry({
        entryId: "a",
        serviceName: "EC2",
        focus: { CommitmentDiscountId: "c1" },
        effectiveCost: "1.25",
      }),
      costEntry({ entryId: "b", basis: "estimated", effectiveCost: "0.000000000000000001" }),
      costEntry({ entryId: "c", serviceName: "EC2", effectiveCost: "999999999999999999" }),
    ]);
    const rows = await backend.aggregate(costEntries, acceptQuery(costEntries), {
      groupBy: [{ field: "basis" }, { field: "serviceName" }, {
        field: "focus",
        key: "CommitmentDiscountId",
      }],
      measures: [{ function: "sum", field: "effectiveCost" }, { function: "sum", field: "listCost" }],
    });
    assertEquals(rows.map(({ group, values }) => [...group, ...values].join()).sort(), [
      "billed,EC2,,999999999999999999,",
      "billed,EC2,c1,1.25,",
      "estimated,,,0.000000000000000001,",
    ]);
  });

  test("keeps extreme numbers exactly", async (backend) => {
    const reals = [0, -0.5, 1e-300, 1.7976931348623157e308, 0.1 + 0.2, 2 ** 53, 5e-324];
    await write(backend, systemMetrics, reals.map((cpuUsage, i) => ({ timestamp: NEW_YEAR + i, cpuUsage })));
    assertEquals((await read(backend, systemMetrics)).map(({ cpuUsage }) => cpuUsage), reals);
  });

  test("stores documents by kind and id and lets one of many writers win", async (backend) => {
    const { documents } = backend;
    const body = { amount: "0.000000000000000001", names: ["ä", "\"'\\"], none: null };
    const firsts = await Promise.all(
      ["a", "b", "c"].map((by) =>
        documents.write({ kind: "budget", id: "x", body: { ...body, by } }, { ifAbsent: true })
      ),
    );
    assertEquals(firsts.filter((isFirst) => isFirst).length, 1);
    assertEquals(await documents.write({ kind: "budget", id: "x", body }), true);
    await documents.write({ kind: "budget", id: "B", body: [] });
    await documents.write({ kind: "alert", id: "x", body: 1 });
    assertEquals(await documents.read("budget"), [
      { kind: "budget", id: "B", body: [] },
      { kind: "budget", id: "x", body },
    ]);
    assertEquals(await documents.delete("budget", "x"), true);
    assertEquals(await documents.delete("budget", "x"), false);
    assertEquals((await documents.read()).map(({ kind, id }) => [kind, id]), [["alert", "x"], [
      "budget",
      "B",
    ]]);
  });

  test("writes a document over the revision it names, for one of many writers", async (backend) => {
    const { documents } = backend;
    const at = (revision: number, by: string) => ({ kind: "lease", id: "x", body: { revision, by } });
    assertEquals(await documents.write(at(1, "a"), { ifRevision: 0 }), false);
    assertEquals(await documents.read("lease"), []);
    await documents.write(at(1, "a"));
    const taken = await Promise.all(
      ["b", "c", "d"].map((by) => documents.write(at(2, by), { ifRevision: 1 })),
    );
    assertEquals(taken.filter((isTaken) => isTaken).length, 1);
    assertEquals(await documents.write(at(3, "e"), { ifRevision: 1 }), false);
    const [{ body }] = await documents.read("lease");
    assertEquals(body, at(2, ["b", "c", "d"][taken.indexOf(true)]).body);
  });

  test("writes a batch once and reports a replay when it comes again", async (backend) => {
    const batch = {
      id: crypto.randomUUID(),
      dataset: systemMetrics,
      records: [FULL_SYSTEM_METRICS, FULL_SYSTEM_METRICS],
    };
    const first = await backend.write(batch);
    assertEquals(first, { committed: 2, duplicates: 0, restated: 0 });
    assertEquals(await backend.write(batch), { ...first, isReplay: true });
    assertEquals((await read(backend, systemMetrics)).length, 2);
  });

  test("returns the first result when a cost batch comes again", async (backend) => {
    const record = acceptRecord(costEntries, costEntry());
    const batch = { id: crypto.randomUUID(), dataset: costEntries, records: [record, record] };
    const first = await backend.write(batch);
    assertEquals(first, { committed: 1, duplicates: 1, restated: 0 });
    assertEquals(await backend.write(batch), { ...first, isReplay: true });
  });

  membersContract(test);

  test("reads half-open time ranges", async (backend) => {
    await writeHours(backend, 5);
    const found = await read(backend, systemMetrics, {
      startTime: NEW_YEAR + HOUR,
      endTime: NEW_YEAR + 3 * HOUR,
    });
    assertEquals(hours(found), [1, 2]);
    assertEquals(await read(backend, systemMetrics, { startTime: NEW_YEAR, endTime: NEW_YEAR }), []);
  });

  test("reads in either time order up to a limit", async (backend) => {
    await write(backend, systemMetrics, [3, 0, 4, 1, 2].map(atHour));
    assertEquals(hours(await read(backend, systemMetrics)), [0, 1, 2, 3, 4]);
    assertEquals(hours(await read(backend, systemMetrics, { order: "desc", limit: 2 })), [4, 3]);
    assertEquals(hours(await read(backend, systemMetrics, { limit: 2 })), [0, 1]);
  });

  for (const dataset of Object.values(DATASETS)) {
    for (const field of dataset.filters) {
      test(`filters ${dataset.name} by ${field}`, async (backend) => {
        const base = REQUIRED_FIELDS[dataset.name];
        const given = (value: string, i: number) => ({ ...base, timestamp: NEW_YEAR + i, [field]: value });
        await write(backend, dataset, ["a", "A", "a'b", "a%", "ä"].map(given));
        for (const value of ["a", "a'b", "a%", "ä", "none"]) {
          const found = await read<unknown>(backend, dataset, { [field]: value }) as Record<
            string,
            unknown
          >[];
          assertEquals(found.map((record) => record[field]), value === "none" ? [] : [value]);
        }
      });
    }
  }

  test("filters costs by several tags of any characters", async (backend) => {
    const tags: (Record<string, string> | undefined)[] = [{ team: "nlp", "a.b": "1" }, { team: "nlp" }, {
      team: "vision",
      "q\"'": "é",
    }, undefined];
    await write(backend, costEntries, tags.map((tags, i) => costEntry({ entryId: `e${i}`, tags })));
    const ids = async (expected: Record<string, string>) =>
      (await read(backend, costEntries, { tags: expected })).map(({ entryId }) => entryId);
    assertEquals(await ids({ team: "nlp" }), ["e0", "e1"]);
    assertEquals(await ids({ team: "nlp", "a.b": "1" }), ["e0"]);
    assertEquals(await ids({ "q\"'": "é" }), ["e2"]);
    assertEquals(await ids({ team: "NLP" }), []);
  });

  test("ignores and counts a cost when its key exists", async (backend) => {
    await write(backend, costEntries, [costEntry()]);
    const result = await write(backend, costEntries, [
      costEntry({ amount: "2" }),
      costEntry({ timestamp: NEW_YEAR + 1 }),
    ]);
    assertEquals(result, { committed: 1, duplicates: 1, restated: 0 });
    assertEquals((await read(backend, costEntries)).map(({ amount }) => amount), ["1", "1"]);
  });

  test("keeps the first of the costs with one key in a batch", async (backend) => {
    for (const round of ["1", "2"]) { // the second time the key exists
      const key = { timestamp: NEW_YEAR + 1 };
      const costs = [
        costEntry({ amount: round }),
        costEntry({ ...key, amount: "5" }),
        costEntry({ ...key, amount: "6" }),
      ];
      const result = await write(backend, costEntries, costs);
      const committed = round === "1" ? 2 : 0;
      assertEquals(result, { committed, duplicates: 3 - committed, restated: 0 });
    }
    assertEquals((await read(backend, costEntries)).map(({ amount }) => amount), ["1", "5"]);
  });

  test("replaces and counts a cost when its key exists", async (backend) => {
    await write(backend, costEntries, [costEntry({ region: "eu" }), costEntry({ entryId: "e2" })]);
    const result = await write(backend, costEntries, [
      costEntry({ amount: "2" }),
      costEntry({ amount: "3" }),
      costEntry({ entryId: "e3" }),
    ]);
    assertEquals(result, { committed: 3, duplicates: 0, restated: 2 });
    const found = await read(backend, costEntries);
    assertEquals(
      found.map(({ entryId, amount, region }) => [entryId, amount, region]).sort(),
      [["e1", "3", undefined], ["e2", "1", undefined], ["e3", "1", undefined]],
    );
  }, "replace");

  test("counts imported usage with a known key and other content as different", async (backend) => {
    assertEquals(await importUses(backend, [9, 7]), "stored 2, known 0, different 0");
    for (const counts of ["1 records are stored, 1 are known", "0 records are stored, 2 are known"]) {
      const message =
        `--on-conflict replace" where the database can be opened. ${counts}, 1 with other content are not stored.`;
      await assertRejects(() => importUses(backend, [9, 8, 0]), TransferError, message);
    }
    assertEquals(await tokensOf(backend), [9, 7, 0]);
  });

  test(
    "restates imported usage each time it is imported and brings back what was deleted",
    async (backend) => {
      for (const [i, tokens] of [[9, 7], [9, 8], [9, 8], [9, 7], [9, 8]].entries()) {
        const stored = [2, 1, 0, 1, 1][i];
        const counts = `stored ${stored}, known ${2 - stored}, different 0`;
        assertEquals(await importUses(backend, tokens, "replace"), counts);
        assertEquals(await tokensOf(backend), tokens);
      }
      await backend.deleteMatching!(
        usageRecords,
        acceptQuery(usageRecords, { where: [{ field: "usageId", eq: "u1" }] }),
      );
      await importUses(backend, [9, 8]);
      assertEquals(await tokensOf(backend), [9, 8]);
    },
    "replace",
  );

  test("sums each currency exactly", async (backend) => {
    const largest = "999999999999999999.999999999999999999";
    const entries = [
      ...Array.from({ length: 20 }, () => ({ amount: largest, currency: "XTS" })),
      { amount: "0.1", currency: "USD" },
      { amount: "0.2", currency: "USD" },
      { amount: "-0.000000000000000001", currency: "USD" },
      { amount: "-1.5", currency: "EUR" },
      { amount: "1.25", currency: "EUR" },
    ];
    await write(backend, costEntries, entries.map((entry, i) => costEntry({ ...entry, entryId: `e${i}` })));
    assertEquals(await currencyTotals(backend), [
      { currency: "EUR", total: "-0.25", count: 2 },
      { currency: "USD", total: "0.299999999999999999", count: 3 },
      { currency: "XTS", total: "19999999999999999999.99999999999999998", count: 20 },
    ]);
  });

  test("sums only costs that match the query", async (backend) => {
    await write(backend, costEntries, [
      costEntry({ tags: { team: "nlp" } }),
      costEntry({ entryId: "e2", category: "storage" }),
      costEntry({ entryId: "e3", timestamp: NEW_YEAR + HOUR, tags: { team: "nlp" } }),
    ]);
    const asked = { endTime: NEW_YEAR + 1, tags: { team: "nlp" }, category: "gpu" };
    assertEquals(await currencyTotals(backend, acceptQuery(costEntries, asked)), [
      { currency: "USD", total: "1", count: 1 },
    ]);
    assertEquals(await currencyTotals(backend, acceptQuery(costEntries, { region: "none" })), []);
    const [{ total }] = await currencyTotals(backend, acceptQuery(costEntries, { limit: 1 }));
    assertEquals(total, "3"); // a limit is for records, a total is of all that match
  });

  test("counts each group by time range from the start of the query", async (backend) => {
    const at = (ms: number, nodeId: string) => ({ timestamp: NEW_YEAR + ms, nodeId, clusterId: "ä'b" });
    await write(backend, systemMetrics, [
      at(0, "a"),
      at(6, "a"),
      at(7, "a"),
      at(8, "b"),
      at(13, "b"),
      at(14, "b"),
    ]);
    const range = { start: NEW_YEAR, end: NEW_YEAR + 14 };
    assertEquals(sorted(await tally(backend, systemMetrics, { ...range, spanMs: 7 })), [
      { start: NEW_YEAR, group: ["ä'b", "a"], rows: 2 },
      { start: NEW_YEAR + 7, group: ["ä'b", "a"], rows: 1 },
      { start: NEW_YEAR + 7, group: ["ä'b", "b"], rows: 2 },
    ]);
    assertEquals(
      sorted(await tally(backend, systemMetrics, { ...range, start: NEW_YEAR + 7, spanMs: 1_000 })),
      [
        { start: NEW_YEAR + 7, group: ["ä'b", "a"], rows: 1 },
        { start: NEW_YEAR + 7, group: ["ä'b", "b"], rows: 2 },
      ],
    );
  });

  test("counts costs with the exact total of each currency", async (backend) => {
    const amounts = ["0.1", "0.2", "-0.000000000000000001", "999999999999999999.999999999999999999"];
    const entries = [...amounts.map((amount) => ({ amount })), {
      currency: "EUR",
      timestamp: NEW_YEAR + HOUR,
    }];
    await write(backend, costEntries, entries.map((entry, i) => costEntry({ ...entry, entryId: `e${i}` })));
    const range = { start: NEW_YEAR, end: NEW_YEAR + 2 * HOUR };
    assertEquals(sorted(await tally(backend, costEntries, { ...range, spanMs: HOUR })), [
      { start: NEW_YEAR, group: ["USD"], rows: 4, total: "1000000000000000000.299999999999999998" },
      { start: NEW_YEAR + HOUR, group: ["EUR"], rows: 1, total: "1" },
    ]);
  });

  answersContract(test);
  liveContract(test);

  test("deletes records before a time and only counts in a dry run", async (backend) => {
    await writeHours(backend, 5);
    const before = NEW_YEAR + 2 * HOUR;
    assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: true }), 2);
    assertEquals((await read(backend, systemMetrics)).length, 5);
    assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: false }), 2);
    assertEquals(hours(await read(backend, systemMetrics)), [2, 3, 4]);
    assertEquals(await backend.deleteBefore(systemMetrics, before, { dryRun: false }), 0);
  });

  test("reports rows, oldest, newest and totals", async (backend) => {
    await writeHours(backend, 3);
    await write(backend, costEntries, [costEntry()]);
    const { datasets, totals, storage } = await backend.stats();
    const { ledgerBatches, ledgerOldest } = storage;
    if (backend.isDurable) {
      assert(ledgerBatches as number > 0 && Date.now() - Date.parse(ledgerOldest as string) < 600_000);
    }
    const found = Object.entries(datasets).map((
      [name, { rows, oldest, newest }],
    ) => [name, rows, oldest, newest]);
    assertEquals(found, [
      ["system_metrics", 3, NEW_YEAR, NEW_YEAR + 2 * HOUR],
      ["service_metrics", 0, undefined, undefined],
      ["device_metrics", 0, undefined, undefined],
      ["usage_records", 0, undefined, undefined],
      ["cost_entries", 1, NEW_YEAR, NEW_YEAR],
      ["metric_points", 0, undefined, undefined],
    ]);
    assertEquals(totals, [{ currency: "USD", total: "1", count: 1 }]);
  });

  test("streams several pages without loss or duplicates", async (backend) => {
    await writeHours(backend, 2_500);
    assertEquals(hours(await read(backend, systemMetrics)), Array.from({ length: 2_500 }, (_, i) => i));
  });

  test("ends a page at its bytes when records are large", async (backend) => {
    if (!backend.isDurable) return; // has them all in memory
    const text = "é".repeat(65_000);
    const texts = { description: text, region: text, tags: { text }, focus: { text } };
    const large = Array.from(
      { length: 100 }, // in four pages
      (_, i) => costEntry({ ...texts, entryId: `e${i}`, timestamp: NEW_YEAR + (i >> 6) }),
    );
    for (let i = 0; i < large.length; i += 50) await write(backend, costEntries, large.slice(i, i + 50));
    for (const query of [{}, { order: "desc" }, { category: "gpu" }]) {
      const pages: number[] = [];
      for await (const page of backend.read(costEntries, acceptQuery(costEntries, query))) {
        pages.push(page.length);
      }
      assertEquals(pages.reduce((sum, length) => sum + length), large.length);
      assert(Math.max(...pages) <= 50, `${pages}`);
    }
  });

  test("streams pages of equal timestamps in either order up to a limit", async (backend) => {
    const times = [NEW_YEAR - HOUR, ...Array.from({ length: 2_300 }, () => NEW_YEAR), NEW_YEAR + HOUR];
    const entries = times.map((timestamp, i) => costEntry({ entryId: `e${1_000 + i}`, timestamp }));
    await write(backend, costEntries, entries);
    await write(backend, systemMetrics, times.map((timestamp, i) => ({ timestamp, cpuUsage: i })));
    for (const order of ["asc", "desc"] as const) {
      for (const limit of [999, 1_000, 1_001, 2_000, 2_302, 5_000]) {
        const expected = (order === "asc" ? times : times.toReversed()).slice(0, limit);
        const costs = await read(backend, costEntries, { order, limit });
        assertEquals(costs.map(({ timestamp }) => timestamp), expected);
        assertEquals(new Set(costs.map(({ entryId }) => entryId)).size, expected.length);
        const metrics = await read(backend, systemMetrics, { order, limit });
        assertEquals(metrics.map(({ timestamp }) => timestamp), expected);
        assertEquals(new Set(metrics.map(({ cpuUsage }) => cpuUsage)).size, expected.length);
      }
    }
  });

  test("reads one snapshot while records are written", async (backend) => {
    await writeHours(backend, 2_500);
    let count = 0;
    for await (const page of backend.read(systemMetrics, acceptQuery(systemMetrics))) {
      count += page.length;
      await write(backend, systemMetrics, [atHour(5_000 + count)]);
    }
    assertEquals(count, 2_500);
    assert((await read(backend, systemMetrics)).length > 2_500);
  });

  test("can write and close after a read is abandoned", async (backend) => {
    await writeHours(backend, 2_500);
    for await (const _page of backend.read(systemMetrics, acceptQuery(systemMetrics))) break;
    await writeHours(backend, 1);
    assertEquals((await read(backend, systemMetrics)).length, 2_501);
  });

  test("returns copies of its records", async (backend) => {
    await write(backend, systemMetrics, [FULL_SYSTEM_METRICS]);
    const [record] = await read(backend, systemMetrics);
    record.cpuUsage = 999;
    record.labels!.team = "other";
    assertEquals(await read(backend, systemMetrics), [FULL_SYSTEM_METRICS]);
  });

  test("reports that it is writable", async (backend) => {
    assertEquals((await backend.probe()).writable, true);
  });

  test("finishes no writes when none are in flight", async (backend) => {
    await write(backend, systemMetrics, [FULL_SYSTEM_METRICS]);
    await Promise.all([1, 2, 3].map(() => backend.finishWrites(systemMetrics)));
    await write(backend, systemMetrics, [FULL_SYSTEM_METRICS]); // it has left no lock
    assertEquals((await read(backend, systemMetrics)).length, 2);
  });

  test("can be closed twice, also at once", async (backend) => {
    await write(backend, systemMetrics, [FULL_SYSTEM_METRICS]);
    const closing = [backend.close(), backend.close()];
    assertEquals((await Promise.allSettled(closing)).map(({ status }) => status), ["fulfilled", "fulfilled"]);
    await backend.close();
  });
}

/** Writes records, given as a caller gives them, as one batch. */
export function write(
  backend: Backend,
  dataset: Dataset<unknown>,
  inputs: readonly unknown[],
): Promise<WriteResult> {
  const records = inputs.map((input) => acceptRecord(dataset, input));
  return backend.write({ id: crypto.randomUUID(), dataset, records });
}

/** All records that a query finds. */
export async function read<T>(backend: Backend, dataset: Dataset<T>, query: object = {}): Promise<T[]> {
  return (await Array.fromAsync(backend.read(dataset, acceptQuery(dataset, query)))).flat();
}

function sorted(tallies: readonly Tally[]): Tally[] {
  return tallies.toSorted((a, b) => a.start - b.start || String(a.group).localeCompare(String(b.group)));
}

function atHour(hour: number) {
  return { timestamp: NEW_YEAR + hour * HOUR, activeConnections: hour };
}

function writeHours(backend: Backend, count: number): Promise<WriteResult> {
  return write(backend, systemMetrics, Array.from({ length: count }, (_, hour) => atHour(hour)));
}

function hours(records: readonly SystemMetrics[]): number[] {
  return records.map(({ activeConnections }) => activeConnections!);
}

/** Records of each dataset as each way of reading gives their number: forwards, backwards, counted, and before a cleanup. */
export async function countsByReading(backend: Backend): Promise<Record<string, number[]>> {
  const counted = { groupBy: [], measures: [{ function: "count" as const }] };
  const counts: Record<string, number[]> = {};
  for (const dataset of Object.values(DATASETS) as Dataset<unknown>[]) {
    counts[dataset.name] = [
      (await read(backend, dataset)).length,
      (await read(backend, dataset, { order: "desc", limit: 5 })).length,
      (await backend.aggregate(dataset, acceptQuery(dataset), counted))[0].values[0] as number,
      await backend.deleteBefore(dataset, NEW_YEAR + 1, { dryRun: true }),
    ];
  }
  return counts;
}
