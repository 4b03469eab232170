import { openBackend } from "../src/open_backend.ts";
import { BackendError } from "../src/errors.ts";
import { DATASETS } from "../src/records/datasets.ts";
import type { Access } from "../src/server/access.ts";
import { API_DATASETS } from "../src/server/datasets.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { conserved } from "./faults/load.ts";
import { until } from "./until.ts";
import {
  costEntry,
  FULL_COST_ENTRY,
  FULL_DEVICE_METRICS,
  FULL_METRIC_POINT,
  FULL_SERVICE_METRICS,
  FULL_SYSTEM_METRICS,
  FULL_USAGE_RECORD,
  NEW_YEAR,
  TemporaryFolder,
} from "./fixtures.ts";
import { openServer, PLACES, type TestServer } from "./server.ts";
import { range } from "./spooled.ts";

const { deliveryId: _delivered, ...undelivered } = FULL_COST_ENTRY;
const FULL: Readonly<Record<string, object>> = {
  "system-metrics": FULL_SYSTEM_METRICS,
  "service-metrics": FULL_SERVICE_METRICS,
  devices: FULL_DEVICE_METRICS,
  usage: FULL_USAGE_RECORD,
  costs: { ...undelivered, source: "api" },
  points: FULL_METRIC_POINT,
};

function post(server: TestServer, path: string, body: BodyInit, headers: HeadersInit = {}) {
  return server.send(`/api/v1/${path}`, { method: "POST", body, headers });
}

async function stored(server: TestServer, path: string): Promise<Record<string, unknown>[]> {
  const { hub, costs } = server.resources;
  await Promise.all([hub.flush(), costs.flush()]);
  return (await server.send(`/api/v1/${path}?limit=10000`)).json().records;
}

const metrics = (number: number) => ({ timestamp: NEW_YEAR, nodeId: "n", activeConnections: number });
const lines = (records: readonly unknown[]) => records.map((record) => JSON.stringify(record)).join("\n");
const numbersOf = (records: readonly Record<string, unknown>[]) =>
  records.map(({ activeConnections }) => activeConnections as number).sort((a, b) => a - b);

for (const [name, open] of Object.entries(PLACES)) {
  for (const hasSpool of name === "memory" ? [false] : [true, false]) {
    Deno.test(`POST stores every dataset in every form, once, in ${name}${hasSpool ? " by a spool" : ""}`, async () => {
      await using place = await open();
      const spoolDirectory = hasSpool ? place.folder.file("spool") : undefined;
      await using server = await openServer({ connectionString: place.url, spoolDirectory });
      for (const path of Object.keys(API_DATASETS)) {
        const record = { ...FULL[path] } as Record<string, unknown>;
        const at = (day: number) => ({
          ...record,
          timestamp: new Date(NEW_YEAR + day * 86_400_000).toISOString(),
        });
        const bodies = [
          JSON.stringify(record),
          JSON.stringify([at(1), at(2)]),
          JSON.stringify([at(3), at(4)], null, 2),
          `${lines([at(5), at(6)])}\r\n\r\n`,
          `\uFEFF${lines([at(7)])}`,
        ];
        for (let attempt = 0; attempt < 2; attempt++) {
          for (const [i, body] of bodies.entries()) {
            const { status, json, headers } = await post(server, path, body);
            assertEquals([status, json()], [hasSpool ? 202 : 200, {
              accepted: [1, 2, 2, 2, 1][i],
              refused: 0,
            }]);
            assertEquals(headers.get("idempotency-replayed"), attempt === 0 ? null : "true");
          }
        }
        const found = await stored(server, path);
        assertEquals(found.length, 8);
        const iso = (value: unknown) => typeof value === "number" ? new Date(value).toISOString() : value;
        const times = DATASETS[API_DATASETS[path].name].columns.filter(({ type }) => type === "timestamp");
        for (const { field } of times) if (record[field] !== undefined) record[field] = iso(record[field]);
        assertEquals(found.at(-1), record);
      }
      conserved(server.resources.hub);
    });
  }
}

Deno.test("An array within an array of records is refused in its place, and shifts no other", async () => {
  await using server = await openServer();
  const record = { timestamp: Date.now(), nodeId: "a" };
  const answer = await server.send("/api/v1/system-metrics", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify([record, [{ x: 1 }, record], { ...record, nodeId: "b", bogus: 1 }]),
  });
  const { accepted, errors } = answer.json();
  assertEquals([answer.status, accepted], [422, 1]);
  assertEquals(errors.map(({ index }: { index: number }) => index), [1, 2]);
});

Deno.test("POST tells each refused record by line, field and code, and stores the others", async () => {
  await using server = await openServer();
  const body = [
    JSON.stringify(metrics(1)),
    JSON.stringify({ ...metrics(2), timestamp: "yesterday" }),
    "",
    '{"timestamp": 1',
    JSON.stringify({ ...metrics(3), cpuUsag: 1 }),
    "[1]",
    '{"nodeId": "x"}',
    `{"nodeId": "${"x".repeat(2 ** 20)}"}`,
    JSON.stringify({ ...metrics(4), nodeId: 7 }),
    JSON.stringify(metrics(5)),
  ].join("\n");
  const { status, json } = await post(server, "system-metrics", body);
  const { accepted, refused, errors, error } = json();
  assertEquals([status, accepted, refused, error.code], [422, 2, 7, "LINES_REJECTED"]);
  const told = errors.map((e: Record<string, unknown>) => [e.line, e.index, e.field, e.code]);
  assertEquals(told, [
    [2, 1, "timestamp", "INVALID_FIELD"],
    [4, 2, undefined, "INVALID_LINE"],
    [5, 3, "cpuUsag", "UNKNOWN_FIELD"],
    [6, 4, "record", "INVALID_RECORD"],
    [7, 5, "timestamp", "MISSING_FIELD"],
    [8, 6, undefined, "INVALID_LINE"],
    [9, 7, "nodeId", "INVALID_FIELD"],
  ]);
  assertMatch(errors[2].message, /Did you mean "cpuUsage"\?/);
  assertEquals(numbersOf(await stored(server, "system-metrics")), [1, 5]);
  assertEquals(server.resources.hub.stats().datasets.system_metrics!.refused, 7);
});

Deno.test("POST lists a hundred refusals of many, and stores what comes before a cut array", async () => {
  await using server = await openServer();
  const many = await post(server, "system-metrics", lines([metrics(1), ...range(0, 500).map(() => ({}))]));
  assertEquals([many.json().refused, many.json().errors.length], [500, 100]);
  const cut = await post(server, "system-metrics", JSON.stringify([metrics(2), metrics(3)]).slice(0, -4));
  assertEquals([cut.status, cut.json().accepted, cut.json().errors[0].code], [422, 1, "INVALID_LINE"]);
  assertEquals(numbersOf(await stored(server, "system-metrics")), [1, 2]);
});

Deno.test("POST refuses records with too many field names without parsing them", async () => {
  await using server = await openServer();
  const labels = (from: number, count: number) =>
    Object.fromEntries(range(from, from + count).map((name) => [`label${name}`, "v"]));
  const large = lines([metrics(1), { ...metrics(2), labels: labels(0, 10_001) }, metrics(3)]);
  const { status, json } = await post(server, "system-metrics", large);
  assertEquals([status, json().accepted, json().refused], [422, 2, 1]);
  assertMatch(json().errors[0].message, /more than 10000 distinct field names/);
  const small = lines(range(0, 110).map((i) => labels(i * 1_000, 1_000)));
  const { errors } = (await post(server, "system-metrics?errors=200", small)).json();
  const parsed = errors.filter(({ code }: { code: string }) => code !== "INVALID_LINE").length;
  assertEquals([errors.length, parsed], [110, 100]);
});

Deno.test("POST lists as many refusals as the parameter errors says", async () => {
  await using server = await openServer();
  const body = lines(range(0, 300).map((i) => ({ timestamp: i })));
  for (const [asked, listed] of [["?errors=250", 250], ["?errors=0", 0], ["?errors=99999", 300]] as const) {
    const { json } = await post(server, `system-metrics${asked}`, body, { "idempotency-key": asked });
    assertEquals([json().refused, json().errors.length], [300, listed]);
  }
  const { status, json } = await post(server, "system-metrics?errors=x", body);
  assertEquals([status, json().error.code], [400, "INVALID_OPTION"]);
});

Deno.test("POST refuses bodies that hold no records", async () => {
  await using server = await openServer();
  for (const body of ["", " \n\n"]) {
    const { status, json } = await post(server, "costs", body);
    assertEquals([status, json().error.code], [400, "INVALID_BODY"]);
  }
  for (const type of ["text/csv", "application/xml", "multipart/form-data"]) {
    const { status, json } = await post(server, "costs", "[]", { "content-type": type });
    assertEquals([status, json().error.code], [415, "UNSUPPORTED_FORMAT"]);
  }
  for (const key of ["", "x".repeat(201)]) {
    const { status, json } = await post(server, "costs", "{}", { "idempotency-key": key });
    assertEquals([status, json().error.code], [400, "INVALID_REQUEST"]);
  }
});

Deno.test("POST takes an empty array as a batch without records", async () => {
  await using server = await openServer();
  for (const body of ["[]", " [ \n]\n"]) {
    const { status, json } = await post(server, "costs", body, { "idempotency-key": "empty" + body.length });
    assertEquals([status, json()], [200, { accepted: 0, refused: 0 }]);
  }
  const { status, json } = await post(server, "costs", "[");
  assertEquals([status, json().errors[0].code], [422, "INVALID_LINE"]);
});

Deno.test("POST says that other records are stored only when there are any", async () => {
  await using server = await openServer();
  for (const [bodies, isTold] of [[[{}], false], [[metrics(1), {}], true]] as const) {
    const { status, json } = await post(server, "system-metrics", lines([...bodies]));
    assertEquals([status, json().error.message.includes("the others are stored")], [422, isTold]);
  }
});

Deno.test("POST knows a request by its key, else by tenant, path and decompressed body", async () => {
  await using server = await openServer();
  const body = JSON.stringify([metrics(1)]);
  const key = { "idempotency-key": "a" };
  await post(server, "system-metrics", body);
  const packed = await new Response(new Blob([body]).stream().pipeThrough(new CompressionStream("gzip")))
    .bytes();
  const again = await post(server, "system-metrics", packed, { "content-encoding": "gzip" });
  assertEquals([again.status, again.headers.get("idempotency-replayed")], [200, "true"]);
  await Promise.all([post(server, "system-metrics", body, key), post(server, "system-metrics", body, key)]);
  assertEquals((await stored(server, "system-metrics")).length, 2);
  const other = await post(server, "system-metrics", JSON.stringify([metrics(2)]), key);
  assertEquals([other.status, other.json().error.code], [422, "IDEMPOTENCY_KEY_REUSED"]);
  // A request of which nothing was stored may be corrected under its key.
  const retry = { "idempotency-key": "b" };
  assertEquals((await post(server, "system-metrics", "{}", retry)).status, 422);
  assertEquals((await post(server, "system-metrics", JSON.stringify([metrics(3)]), retry)).status, 200);
  assertEquals(
    (await post(server, "service-metrics", JSON.stringify(FULL_SERVICE_METRICS), key)).status,
    200,
  );
});

Deno.test("POST stores another body under a key of another server", async () => {
  using folder = new TemporaryFolder();
  const config = { connectionString: folder.sqlite() };
  const send = async (timestamp: number) => {
    await using server = await openServer(config);
    const key = { "idempotency-key": "job-1" };
    const { status } = await post(server, "system-metrics", JSON.stringify([metrics(timestamp)]), key);
    return [status, (await stored(server, "system-metrics")).length];
  };
  assertEquals(await send(1), [200, 1]);
  assertEquals(await send(2), [200, 2]);
  assertEquals(await send(2), [200, 2]);
  assertEquals(await send(1), [200, 2]);
});

Deno.test("POST forces the tenant of the token on each record", async () => {
  const access: Access = {
    authorize: (request) =>
      Promise.resolve({ tenant: request.headers.get("authorization")?.replace("Bearer ", "") }),
  };
  await using server = await openServer({}, { access });
  const send = (path: string, tenant: string, record: object) =>
    post(server, path, JSON.stringify(record), { authorization: `Bearer ${tenant}` });
  for (const tenant of ["a", "b"]) {
    await send("system-metrics", tenant, { ...metrics(1), labels: { tenant: "c", team: "t" } });
    await send("costs", tenant, costEntry({ entryId: tenant }));
  }
  const { hub, costs } = server.resources;
  await costs.flush();
  assertEquals((await hub.systemMetrics.query()).map(({ labels }) => labels), [
    { team: "t", tenant: "a" },
    { team: "t", tenant: "b" },
  ]);
  assertEquals((await costs.entries.query()).map(({ tags }) => tags?.tenant).sort(), ["a", "b"]);
  const wrong = await send("system-metrics", "a", { ...metrics(1), labels: "x" });
  assertEquals(wrong.json().errors[0].field, "labels");
  const none = await send("service-metrics", "a", FULL_SERVICE_METRICS);
  assertEquals([none.status, none.json().error.code], [403, "SCOPE_MISSING"]);
});

for (const onConflict of ["ignore", "replace"] as const) {
  Deno.test(`POST stores costs and usage of equal ids by tenant when onConflict is ${onConflict}`, async () => {
    const tenants = ["a", "b", "a/b", "usage:a", undefined];
    const access: Access = {
      authorize: ({ headers }) => Promise.resolve({ tenant: tenants[Number(headers.get("authorization"))] }),
    };
    await using server = await openServer({ onConflict }, { access });
    const send = async (tenant: number, path: string, record: object) =>
      await post(server, path, JSON.stringify(record), { authorization: String(tenant) });
    for (const [i] of tenants.entries()) {
      assertEquals((await send(i, "costs", costEntry({ entryId: "x", amount: String(i + 1) }))).status, 200);
      assertEquals((await send(i, "usage", { timestamp: NEW_YEAR, usageId: "x", requests: i })).status, 200);
    }
    // Names of tenants cannot imitate a part of an id.
    assertEquals((await send(0, "costs", costEntry({ entryId: "b/x", amount: "9" }))).status, 200);
    for (const path of ["costs", "usage"]) {
      const empty = await send(
        0,
        path,
        path === "costs" ? costEntry({ entryId: "" }) : { ...FULL.usage, usageId: "" },
      );
      assertEquals([empty.status, empty.json().accepted], [422, 0]);
    }
    const { costs } = server.resources;
    await costs.flush();
    const found = (await costs.entries.query()).map(({ entryId, amount }) => `${entryId} ${amount}`);
    assertEquals(found.sort(), ["a%2Fb/x 3", "a/b/x 9", "a/x 1", "b/x 2", "usage%3Aa/x 4", "x 5"]);
    const used = (await costs.usage.query()).map(({ usageId, requests }) => `${usageId} ${requests}`);
    assertEquals(used.sort(), ["a%2Fb/x 2", "a/x 0", "b/x 1", "usage%3Aa/x 3", "x 4"]);
  });
}

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`POST without a key restates usage each time in ${name} when onConflict is replace`, async () => {
    await using place = await open();
    await using server = await openServer({ connectionString: place.url, onConflict: "replace" });
    const { costs } = server.resources;
    const send = async (requests: number, headers: Record<string, string> = {}) => {
      const record = { timestamp: NEW_YEAR, usageId: "x", requests };
      assertEquals((await post(server, "usage", JSON.stringify(record), headers)).status, 200);
      await costs.flush();
      return (await costs.usage.query()).map(({ requests }) => requests);
    };
    for (const requests of [1, 2, 1, 2]) assertEquals(await send(requests), [requests]);
    // A late retry that has a key restates nothing.
    const key = { "idempotency-key": "k" };
    assertEquals([await send(3, key), await send(4), await send(3, key)], [[3], [4], [4]]);
  });
}

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`POST refuses a cost that has the id and time of a row of a bill in ${name}`, async () => {
    for (const onConflict of ["ignore", "replace"] as const) {
      await using place = await open();
      await using server = await openServer({ connectionString: place.url, onConflict });
      const rows = range(0, 450).map((i) =>
        `${new Date(NEW_YEAR + i).toISOString()},${100 + i},USD,Compute,r${i},e${i}`
      );
      const bill = ["timestamp,amount,currency,category,resourceId,entryId", ...rows].join("\n");
      assertEquals((await post(server, "costs/import?source=acme&id-column=entryId", bill)).status, 200);
      const at = (id: string, i: number) => costEntry({ entryId: id, timestamp: NEW_YEAR + i, amount: "7" });
      const body = [
        at("e449", 449),
        at("e1", 2),
        at("new", 3),
        at("e0", 0),
        ...range(0, 300).map((i) => at("o", i)),
      ];
      const { status, json } = await post(server, "costs", JSON.stringify(body));
      const { accepted, errors } = json();
      assertEquals([status, accepted], [422, 302]);
      const told = errors.map(({ index, field, code }: Record<string, unknown>) => [index, field, code]);
      assertEquals(told, [[0, "entryId", "INVALID_FIELD"], [3, "entryId", "INVALID_FIELD"]]);
      const found = await server.resources.costs.entries.query();
      // The sum of 100 to 549, and 302 costs of 7.
      assertEquals(found.reduce((sum, { amount }) => sum + Number(amount), 0), 146_025 + 302 * 7);
    }
  });
}

Deno.test("POST takes costs into the spool while the database cannot be read", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  await using server = await openServer({ backend, spoolDirectory: folder.file("spool") });
  backend.read = () => {
    throw new BackendError("no", { code: "LOCKED", operation: "read", kind: "transient" });
  };
  assertEquals((await post(server, "costs", JSON.stringify(costEntry({ entryId: "a" })))).status, 202);
});

Deno.test("POST of costs waits once for a database that is silent, and checks again when it answers", async () => {
  using folder = new TemporaryFolder();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  await using server = await openServer({ backend, spoolDirectory: folder.file("spool") });
  const bill = `timestamp,amount,currency,category,resourceId,entryId\n${
    new Date(NEW_YEAR).toISOString()
  },1,USD,Compute,r,billed`;
  assertEquals((await post(server, "costs/import?source=acme&id-column=entryId", bill)).status, 200);
  const read = backend.read.bind(backend);
  let amount = 0; // each request is another
  const postCost = async (entryId: string) => {
    const cost = costEntry({ entryId, timestamp: NEW_YEAR, amount: String(amount++) });
    return (await post(server, "costs", JSON.stringify(cost))).status;
  };
  backend.read = () => {
    throw new BackendError("no", { code: "LOCKED", operation: "read", kind: "transient" });
  };
  assertEquals(await postCost("a"), 202);
  const { promise: answers, resolve: answer } = Promise.withResolvers<void>();
  let lookups = 0;
  backend.read = async function* (...asked) {
    lookups++;
    await answers;
    yield* read(...asked);
  };
  assertEquals([await postCost("b"), await postCost("c"), lookups], [202, 202, 1]);
  answer();
  await until(async () => await postCost("billed") === 422, "posts are checked again");
});

Deno.test("POST answers with the length of the body and not in chunks, also an error", async () => {
  await using server = await openServer();
  for (const body of [JSON.stringify(metrics(1)), "{"]) {
    const { headers, text } = await post(server, "system-metrics", body);
    assertEquals(headers.get("content-length"), String(text.length));
  }
});

Deno.test("POST without a spool takes no costs while the database cannot be read", async () => {
  await using server = await openServer();
  const { backend, costs } = server.resources;
  const { read } = backend;
  const body = JSON.stringify(costEntry({ entryId: "a" }));
  backend.read = () => {
    throw new BackendError("no", { code: "LOCKED", operation: "read", kind: "transient" });
  };
  assertEquals((await post(server, "costs", body)).status, 503);
  backend.read = read;
  assertEquals((await costs.entries.query()).length, 0);
  assertEquals((await post(server, "costs", body)).status, 200);
});

Deno.test("POST keeps every digit of an amount and takes no delivery", async () => {
  await using server = await openServer();
  const cost = JSON.stringify(costEntry({ entryId: "a" })).replace(
    /"amount":"?[\d.]+"?/,
    '"amount":123456789012345678.123456789012345678',
  );
  assertMatch(cost, /678\.123/);
  assertEquals((await post(server, "costs", cost)).status, 200);
  for (const [field, value] of [["source", "aws-cur:1"], ["deliveryId", "d"]] as const) {
    const { json } = await post(server, "costs", JSON.stringify(costEntry({ entryId: "b", [field]: value })));
    assertEquals([json().accepted, json().errors[0].field], [0, field]);
  }
  await post(
    server,
    "costs",
    JSON.stringify(costEntry({ entryId: "c", source: "collect", basis: "estimated" })),
  );
  const found = (await stored(server, "costs")).map((
    { entryId, amount, source },
  ) => [entryId, amount, source]);
  assertEquals(found.find(([id]) => id === "a"), ["a", "123456789012345678.123456789012345678", "api"]);
  assertEquals(found.find(([id]) => id === "c")?.[2], "collect");
  assertEquals(found.length, 2);
});

/** An SQLite database whose writes wait until they are released. */
async function openHeld(folder: TemporaryFolder) {
  const { promise, resolve: release } = Promise.withResolvers<void>();
  const backend = await openBackend({ connectionString: folder.sqlite() });
  const write = backend.write.bind(backend);
  backend.write = (...given) => promise.then(() => write(...given));
  return { backend, release };
}

Deno.test("POST answers only when committed where there is no spool, many in one commit", async () => {
  using folder = new TemporaryFolder();
  const { backend, release } = await openHeld(folder);
  await using server = await openServer({ backend });
  let answered = 0;
  const answers = range(0, 50).map(async (i) => {
    const { status } = await post(server, "system-metrics", JSON.stringify(metrics(i)));
    answered++;
    return status;
  });
  await until(
    () => server.resources.hub.stats().datasets.system_metrics!.accepted === 50,
    "all are accepted",
  );
  assertEquals(answered, 0);
  release();
  assertEquals(new Set(await Promise.all(answers)), new Set([200]));
  assert(server.resources.hub.stats().datasets.system_metrics!.committed === 50);
});

Deno.test("POST answers a request that is sent again while the client of the first is gone", async () => {
  using folder = new TemporaryFolder();
  const { backend, release } = await openHeld(folder);
  await using server = await openServer({ backend });
  const isAccepted = () => server.resources.hub.stats().datasets.system_metrics!.accepted === 1;
  const body = JSON.stringify(metrics(1));
  const client = new AbortController();
  const first = server.send("/api/v1/system-metrics", { method: "POST", body, signal: client.signal });
  await until(isAccepted, "it is accepted");
  const second = post(server, "system-metrics", body);
  client.abort();
  await first.catch(() => {});
  release();
  const { status, headers } = await second;
  assertEquals([status, headers.get("idempotency-replayed")], [200, "true"]);
  assert(isAccepted());
  assertEquals(numbersOf(await stored(server, "system-metrics")), [1]);
});

Deno.test("POST answers 503 with Retry-After and acknowledges nothing when the spool is full", async () => {
  using folder = new TemporaryFolder();
  const { backend, release } = await openHeld(folder);
  await using server = await openServer({
    backend,
    spoolDirectory: folder.file("spool"),
    maxSpoolBytes: 2 ** 20,
  });
  const labels = { padding: "x".repeat(60_000) };
  const acknowledged: number[] = [];
  let refused: { number: number; retryAfter: string | null } | undefined;
  for (let number = 0; refused === undefined; number++) {
    const { status, headers } = await post(
      server,
      "system-metrics",
      JSON.stringify({ ...metrics(number), labels }),
    );
    if (status === 202) acknowledged.push(number);
    else {
      assertEquals(status, 503);
      refused = { number, retryAfter: headers.get("retry-after") };
    }
  }
  assert(acknowledged.length > 5 && Number(refused.retryAfter) > 0);
  release();
  const record = JSON.stringify({ ...metrics(refused.number), labels });
  await until(() => server.resources.hub.stats().datasets.system_metrics!.buffered === 0, "there is room");
  assertEquals((await post(server, "system-metrics", record)).status, 202); // the same again
  assertEquals(numbersOf(await stored(server, "system-metrics")), [...acknowledged, refused.number]);
});

Deno.test("A cost with a known id is accepted, counted as a duplicate, and changes nothing", async () => {
  await using server = await openServer();
  const send = async (amount: string) => {
    const { source: _, ...cost } = costEntry({ entryId: "b1", amount });
    const { status, json } = await post(server, "costs", JSON.stringify([cost]), {
      "idempotency-key": `of ${amount}`,
    });
    return [status, json()];
  };
  for (const amount of ["3", "5"]) assertEquals(await send(amount), [200, { accepted: 1, refused: 0 }]);
  assertEquals((await stored(server, "costs")).map(({ amount }) => amount), ["3"]);
  const { text } = await server.send("/metrics");
  assertMatch(text, /^openfinops_records_duplicates_total\{.*dataset="cost_entries"\} 1$/m);
});
