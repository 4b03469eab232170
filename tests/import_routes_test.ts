import { importRecords, openBackend } from "../mod.ts";
import type { TelemetryEvent } from "../src/pipeline/events.ts";
import { API_DATASETS } from "../src/server/datasets.ts";
import { IMPORT_ROUTES } from "../src/server/import_routes.ts";
import { receiveFile } from "../src/server/uploads.ts";
import { exportRecords } from "../src/transfer/export.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { openServer, PLACES, type TestServer } from "./server.ts";
import { until } from "./until.ts";

const BILL = `Id,ChargePeriodStart,BilledCost,BillingCurrency,ServiceCategory,ResourceId
1,2026-01-05T00:00:00Z,0.1,USD,Compute,gpu-01
2,2026-01-05T00:00:00Z,0.2,USD,Compute,gpu-02
3,2026-01-06T00:00:00Z,1.123456789012345678,EUR,Storage,disk
`;
const METRICS = `{"timestamp":"2026-01-01T00:00:00Z","nodeId":"a","cpuUsage":41.25}
{"timestamp":"2026-01-01T00:00:00Z","nodeId":"b","cpuUsage":"x"}
{"timestamp":"2026-01-01T00:00:01Z","nodeId":"b","cpuUsage":12}
`;

async function upload(server: TestServer, path: string, body: BodyInit, headers: HeadersInit = {}) {
  const { status, text } = await server.send(`/api/v1/${path}`, { method: "POST", body, headers });
  return { status, body: JSON.parse(text) };
}

/** Report without the id of its delivery. */
function withoutId({ delivery: { id: _, ...delivery }, ...report }: { delivery: { id: string } }): unknown {
  return { ...report, delivery };
}

const gzip = (text: string) => new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`POST of a bill on ${name} is a delivery as that of the command`, async () => {
    await using place = await open();
    const spool = place.url === undefined ? {} : { spoolDirectory: place.folder.file("spool") };
    await using server = await openServer({ connectionString: place.url, ...spool });
    const expected = await openBackend({ connectionString: "sqlite://" });
    const options = { backend: expected, dataset: "cost_entries", source: "acme" } as const;
    const report = await importRecords(new Blob([BILL]).stream(), options);
    const first = await upload(server, "costs/import?source=acme&file=bill.csv", BILL);
    assertEquals([first.status, withoutId(first.body)], [200, withoutId(JSON.parse(JSON.stringify(report)))]);
    const again = await upload(server, "costs/import?source=acme", gzip(BILL)); // a file of gzip
    assertEquals([again.status, again.body.stored, again.body.known], [200, 0, 3]);
    const encoded = await upload(server, "costs/import?source=acme", gzip(BILL), {
      "content-encoding": "gzip",
    });
    assertEquals([encoded.status, encoded.body.known], [200, 3]);

    const fewer = BILL.split("\n").slice(0, 2).join("\n");
    const refused = await upload(server, "costs/import?source=acme", fewer);
    assertEquals([refused.status, refused.body.error.code], [409, "DELIVERY_REFUSED"]);
    const replaced = await upload(server, "costs/import?source=acme&replace", fewer);
    assertEquals([replaced.status, replaced.body.delivery.replaced > 0], [200, true]);
    const found = (await server.send("/api/v1/costs/aggregate?by")).json();
    assertEquals(found.error.code, "UNKNOWN_OPTION");
    const far = fewer.replace("2026-01-05", "9026-01-05");
    const { body: { notes } } = await upload(server, "costs/import?source=far", far);
    assertEquals(notes.filter((note: string) => note.includes("future")).length, 1);
    await upload(server, "costs/import?source=far&replace", far.replace(",0.1,", ",0,"));
    const { rows } = (await server.send("/api/v1/costs/aggregate?where=source=acme")).json();
    assertEquals(rows, [{ currency: "USD", total: "0.1", count: 1 }]);
    const deliveries = (await server.send("/api/v1/deliveries")).json().rows;
    assertEquals(deliveries[0].files, ["bill.csv"]);
    await expected.close();
    if (place.url !== undefined) assertEquals([...Deno.readDirSync(place.folder.file("spool/uploads"))], []);
  });

  Deno.test(`POST of metrics on ${name} stores good lines once, and lists the bad ones with 422`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url });
    for (const [stored, known] of [[2, 0], [0, 2]]) {
      const { status, body: { error } } = await upload(
        server,
        "system-metrics/import?format=ndjson",
        METRICS,
      );
      assertEquals([status, error.code, error.report.stored, error.report.known], [
        422,
        "LINES_REJECTED",
        stored,
        known,
      ]);
      const [{ line, code, reason }, ...more] = error.lines;
      assertEquals([line, code, more.length], [2, "INVALID_FIELD", 0]);
      assertMatch(reason, /cpuUsage/);
    }
    const { records } = (await server.send("/api/v1/system-metrics?order=asc")).json();
    assertEquals(records.map(({ cpuUsage }: { cpuUsage: number }) => cpuUsage), [41.25, 12]);
  });
}

Deno.test("POST of Parquet is read from disk", async () => {
  await using server = await openServer();
  const backend = await openBackend({ connectionString: "sqlite://" });
  await importRecords(new Blob([BILL]).stream(), { backend, dataset: "cost_entries", source: "acme" });
  const focus = { version: "1.2" } as const;
  const parquet = await new Response(
    await exportRecords({ backend, dataset: "cost_entries", format: "parquet", focus }),
  ).arrayBuffer();
  await backend.close();
  const { status, body } = await upload(server, "costs/import?source=acme", parquet);
  assertEquals([status, body.stored], [200, 3], JSON.stringify(body));
});

Deno.test("POST of a file refuses wrong words before it reads the body, and broken bodies", async () => {
  await using server = await openServer();
  const cases: [path: string, status: number, code: string][] = [
    ["costs/import?sorce=x", 400, "UNKNOWN_OPTION"],
    ["costs/import?format=pdf", 400, "INVALID_OPTION"],
    ["costs/import?map=amont=Cost", 400, "UNKNOWN_FIELD"],
    ["costs/import?replace&append", 400, "CONFLICTING_OPTIONS"],
    ["costs/import?on-conflict=replace", 400, "UNKNOWN_OPTION"],
    ["devices/import?replace", 400, "UNKNOWN_OPTION"],
  ];
  for (const [path, status, code] of cases) {
    const found = await upload(server, path, BILL);
    assertEquals(
      [found.status, found.body.error.code],
      [status, code],
      `${path} ${JSON.stringify(found.body)}`,
    );
  }
  const broken = await upload(server, "costs/import", "no gzip", { "content-encoding": "gzip" });
  assertEquals([broken.status, broken.body.error.code], [400, "INVALID_BODY"]);
  const nothing = await upload(server, "costs/import", "");
  assert(nothing.status >= 400 && nothing.status < 500, JSON.stringify(nothing));
  assertEquals((await server.send("/api/v1/costs")).json().records, []);
});

Deno.test("POST of a file whose client goes away stores no cost and leaves no file", async () => {
  using folder = new TemporaryFolder();
  const spoolDirectory = folder.file("spool");
  await using server = await openServer({ connectionString: folder.sqlite(), spoolDirectory });
  const controller = new AbortController();
  const started = Promise.withResolvers<void>();
  const body = new ReadableStream({
    start: (stream) => stream.enqueue(new TextEncoder().encode(BILL)),
    pull: () => started.resolve(),
  }, { highWaterMark: 0 });
  const request = fetch(new URL("/api/v1/costs/import", server.url), {
    method: "POST",
    body,
    signal: controller.signal,
  });
  await started.promise;
  const files = () => {
    try {
      return [...Deno.readDirSync(`${spoolDirectory}/uploads`)].length;
    } catch {
      return 0;
    }
  };
  await until(files, "the upload to have a file");
  controller.abort();
  await assertRejects(() => request);
  await until(() => files() === 0, "the file to be removed");
  assertEquals((await server.send("/api/v1/costs")).json().records, []);
});

Deno.test("Files that arrive together share a folder, also after it could not be made", async () => {
  using folder = new TemporaryFolder();
  const spoolDirectory = folder.file("spool");
  const receive = () => receiveFile(new Blob(["x"]).stream(), { spoolDirectory });
  await Deno.writeTextFile(spoolDirectory, "");
  for (const { status } of await Promise.allSettled([receive(), receive()])) assertEquals(status, "rejected");
  await Deno.remove(spoolDirectory);
  const files = await Promise.all([receive(), receive(), receive()]);
  for (const { path } of files) assertEquals(await Deno.readTextFile(path), "x");
  for (const file of files) await file[Symbol.asyncDispose]();
});

Deno.test("POST of an import says that other lines are stored only when there are any", async () => {
  await using server = await openServer();
  const [good, bad] = [METRICS.split("\n")[0], "{}"];
  for (const [lines, others] of [[[bad], ""], [[good, bad], "; the others are stored"]] as const) {
    const { status, body } = await upload(server, "system-metrics/import?format=ndjson", lines.join("\n"));
    const message = `Lines that are bad: 1${others}. Correct them, and send them again.`;
    assertEquals([status, body.error.message], [422, message]);
  }
});

Deno.test("POST of an import evaluates budgets also over old costs that are no delivery", async () => {
  const crossed: string[] = [];
  const onEvent = ({ type, message }: TelemetryEvent) => {
    if (type === "budget-threshold") crossed.push(message);
  };
  await using server = await openServer({ onEvent });
  await server.resources.costs.createBudget({ budgetId: "b", amount: "10", period: "1mo" });
  const cost = { resourceId: "r", category: "c", currency: "USD", source: "collect", basis: "billed" };
  const line = JSON.stringify({ ...cost, entryId: "e", timestamp: NEW_YEAR, amount: "6" });
  const { status, body } = await upload(server, "costs/import?format=ndjson", line);
  assertEquals([status, body.stored, body.delivery.totals], [200, 1, []]);
  assertEquals(crossed.length, 1);
  assertMatch(crossed[0], /Budget b has reached 50 %/);
});

Deno.test("Imports of costs need the scope admin, others ingest", () => {
  assertEquals(IMPORT_ROUTES.length, Object.keys(API_DATASETS).length);
  for (const { path, scope } of IMPORT_ROUTES) {
    assertEquals(scope, path === "/api/v1/costs/import" ? "admin" : "ingest");
  }
});
