import { gzipSync } from "node:zlib";
import { PbfReader } from "pbf";
import snappy from "snappyjs";
import { BackendError } from "../mod.ts";
import { METRICS_REQUEST } from "../src/server/otlp/messages.ts";
import { readUnmapped } from "../src/transfer/unmapped_points.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { openfinops } from "./command.ts";
import { NEW_YEAR } from "./fixtures.ts";
import { Chance } from "./faults/chance.ts";
import { fuzzIntake } from "./faults/intake.ts";
import { asBytes, asJson, chat, hostMetrics, post, PROTOBUF, series, written } from "./intake_requests.ts";
import { writeOtlp } from "./otlp_writer.ts";
import { openServer, PLACES, type TestServer } from "./server.ts";

async function stored({ resources: { hub, costs } }: TestServer) {
  await Promise.all([hub.flush(), costs.flush()]);
  const [system, devices, services, usage] = await Promise.all([
    hub.systemMetrics.query(),
    hub.deviceMetrics.query(),
    hub.serviceMetrics.query(),
    costs.usage.query(),
  ]);
  return { system, devices, services, usage };
}

for (const place of ["memory", "SQLite"] as const) {
  Deno.test(`Metrics by OTLP are stored once in ${place}, however often and in whichever form they are sent`, async () => {
    await using where = await PLACES[place]();
    const spoolDirectory = place === "memory" ? undefined : `${where.folder.path}/spool`;
    await using server = await openServer({ connectionString: where.url, spoolDirectory });
    const body = hostMetrics({ "hw.host.power": 350.5, "hw.temperature": 41 });
    const first = await server.send("/v1/metrics", asBytes("metrics", body));
    assertEquals([first.status, first.headers.get("content-type"), first.text], [200, PROTOBUF, ""]);
    const again = await server.send("/v1/metrics", asBytes("metrics", body));
    assertEquals(again.status, 200);
    const packed = gzipSync(writeOtlp("metrics", body));
    const gzip = { "content-type": PROTOBUF, "content-encoding": "gzip" };
    assertEquals((await server.send("/v1/metrics", post(packed, gzip))).status, 200);
    const later = asJson(hostMetrics({ "hw.host.power": 360 }, NEW_YEAR + 1_000));
    const json = await server.send("/v1/metrics", later);
    assertEquals([json.status, json.headers.get("content-type"), json.text], [200, "application/json", "{}"]);
    const identity = { clusterId: "default", nodeId: "n1" };
    assertEquals((await stored(server)).system, [
      { timestamp: NEW_YEAR, ...identity, temperature: 41, powerConsumption: 350.5 },
      { timestamp: NEW_YEAR + 1_000, ...identity, powerConsumption: 360 },
    ]);
  });
}

Deno.test("An empty request of OTLP is a success", async () => {
  await using server = await openServer();
  for (const path of ["/v1/metrics", "/v1/traces"]) {
    const bytes = await server.send(path, post(new Uint8Array(), { "content-type": PROTOBUF }));
    assertEquals([bytes.status, bytes.text], [200, ""]);
    assertEquals((await server.send(path, asJson({}))).text, "{}");
  }
});

Deno.test("Points of a metric whose attributes fit no field are told; those beside one that fits are not", async () => {
  await using server = await openServer();
  const send = async (name: string, attributes: Record<string, string>[]) => {
    const dataPoints = attributes.map((values) => ({
      timeUnixNano: `${NEW_YEAR}000000`,
      asDouble: 0.25,
      attributes: Object.entries(values).map(([key, stringValue]) => ({ key, value: { stringValue } })),
    }));
    const body = { resourceMetrics: [{ scopeMetrics: [{ metrics: [{ name, gauge: { dataPoints } }] }] }] };
    return JSON.parse((await server.send("/v1/metrics", asJson(body))).text);
  };
  // Without a mode it is the utilization itself; by mode, what is idle tells it.
  assertEquals(await send("system.cpu.utilization", [{}]), {});
  assertEquals((await stored(server)).system.map(({ cpuUsage }) => cpuUsage), [25]);
  assertEquals(await send("system.cpu.utilization", [{ "cpu.mode": "user" }, { "cpu.mode": "idle" }]), {});
  const { partialSuccess } = await send("system.cpu.utilization", [{ "cpu.mode": "user" }]);
  assertEquals(partialSuccess.rejectedDataPoints, "1");
  assertMatch(partialSuccess.errorMessage, /system\.cpu\.utilization/);
});

Deno.test("Points that no field takes are told in partial success, and counted by name", async () => {
  await using where = await PLACES.SQLite();
  {
    await using server = await openServer({ connectionString: where.url });
    const body = hostMetrics({ "hw.host.power": 1, "my.metric": 2, "my.other": 3 });
    for (let i = 0; i < 2; i++) { // a repeated request counts once, and gets the same answer
      const { partialSuccess } = (await server.send("/v1/metrics", asJson(body))).json();
      assertEquals(partialSuccess, {
        rejectedDataPoints: "2",
        errorMessage: "No field takes my.metric (1), my.other (1).",
      });
    }
    const bytes = await fetch(`${server.url}v1/metrics`, asBytes("metrics", hostMetrics({ "my.metric": 5 })));
    const answer = new PbfReader(await bytes.bytes()).readFields((number, result: unknown[], reader) => {
      assertEquals(number, 1);
      reader.readMessage((number, into: unknown[], inner) => {
        into[number] = number === 1 ? inner.readVarint() : inner.readString();
      }, result);
    }, []);
    assertEquals(answer.slice(1), [1, "No field takes my.metric (1)."]);
    for (let i = 0; i < 2; i++) await server.send("/api/v1/write", written([series("my_third", 1)]));
    assertEquals(server.resources.intake!.unmapped.counts(), [
      { name: "my.metric", points: 2 },
      { name: "my.other", points: 1 },
      { name: "my_third", points: 1 },
    ]);
    assertEquals((await stored(server)).system.length, 1);
    const { text } = await server.send("/metrics");
    assertMatch(text, /^openfinops_points_unmapped_total\{name="my\.metric"\} 2$/m);
  }
  await using server = await openServer({ connectionString: where.url });
  server.resources.intake!.unmapped.add("my.other", 4);
  await server.resources.intake!.close();
  assertEquals(await readUnmapped(server.resources.backend.documents), [
    { name: "my.other", points: 5 },
    { name: "my.metric", points: 2 },
    { name: "my_third", points: 1 },
  ]);
  const args = ["database", "stats", "--connection-string", where.url!];
  const { out } = await openfinops(args, { cwd: where.folder.path });
  assertMatch(out, /metric that no field takes +points\nmy\.other +5\nmy\.metric +2\nmy_third +1\n/);
});

Deno.test("Metrics that no field takes are kept where their names are asked for, up to 10,000 series", async () => {
  await using server = await openServer({ maxMemoryEntries: 20_000 }, {}, {
    intake: { keep: ["my.*", "queue_*"] },
  });
  const { partialSuccess } = (await server.send(
    "/v1/metrics",
    asJson(hostMetrics({ "my.metric": 1.5, "your.metric": 2, "hw.host.power": 3 })),
  )).json();
  assertEquals(partialSuccess, { rejectedDataPoints: "1", errorMessage: "No field takes your.metric (1)." });
  const many = Array.from(
    { length: 10_001 },
    (_, i) => series("queue_length", i, NEW_YEAR, { queue: `q${i}` }),
  );
  for (let i = 0; i < 2; i++) assertEquals((await server.send("/api/v1/write", written(many))).status, 204);
  const { hub } = server.resources;
  await hub.flush();
  const [first, ...others] = await hub.metricPoints.query({ name: "my.metric" });
  assertEquals(first, {
    timestamp: NEW_YEAR,
    name: "my.metric",
    value: 1.5,
    attributes: { "host.name": "n1" },
  });
  assertEquals(others, []);
  const [all] = await hub.metricPoints.aggregate({ name: "queue_length", fields: { value: ["max"] } });
  assertEquals([all.count, all.fields.value], [9_999, { max: 9_998 }]);
  assertEquals(server.resources.intake!.unmapped.counts()[0].name, "queue_length");
  assertEquals((await hub.systemMetrics.query()).map(({ powerConsumption }) => powerConsumption), [3]);
});

Deno.test("A tenant that keeps as many series as it may takes no room from another", async () => {
  let tenant: string | undefined;
  const access = { authorize: () => Promise.resolve({ tenant }) };
  await using server = await openServer({ maxMemoryEntries: 20_000 }, { access }, {
    intake: { keep: ["queue_*"] },
  });
  const counts = [["a", 10_000], ["b", 3], [undefined, 2]] as const;
  for (const [name, length] of counts) {
    const points = Array.from(
      { length },
      (_, i) => series("queue_length", i, NEW_YEAR, { queue: `${name}${i}` }),
    );
    tenant = name;
    assertEquals((await server.send("/api/v1/write", written(points))).status, 204);
  }
  const { hub, intake } = server.resources;
  await hub.flush();
  const rows = await hub.metricPoints.aggregate({
    groupBy: ["attributes.tenant"],
    fields: { value: ["max"] },
  });
  assertEquals(rows.map(({ count }) => count).sort((x, y) => x - y), [2, 3, 10_000]);
  assertEquals(intake!.unmapped.counts(), []);
});

Deno.test("The counts of unmapped points are bounded", async () => {
  await using server = await openServer();
  const { unmapped } = server.resources.intake!;
  for (let i = 0; i < 5_000; i++) unmapped.add(`name${i}\0\ud800${"x".repeat(1_000)}`, 1);
  const counts = unmapped.counts();
  assertEquals(counts.length, 1_001);
  assertEquals(counts[0], { name: "(others)", points: 4_000 });
  assert(counts.every(({ name }) => name.length <= 200));
});

Deno.test("Bodies and types that cannot be read are answered in the form of the request", async () => {
  await using server = await openServer({}, { limits: { maxBodyBytes: 1_000 } });
  const garbage = crypto.getRandomValues(new Uint8Array(100)).fill(0xff, 0, 20);
  const message = async (response: Promise<Response>) => {
    const found = await response;
    const [, text] = new PbfReader(await found.bytes()).readFields(
      (number, result: string[], reader) => void (result[number - 1] = reader.readString()),
      ["", ""],
    );
    return [found.status, found.headers.get("content-type"), text];
  };
  const send = (init: RequestInit) => fetch(`${server.url}v1/metrics`, init);
  const [status, type, text] = await message(send(post(garbage, { "content-type": PROTOBUF })));
  assertEquals([status, type], [400, PROTOBUF]);
  assertMatch(String(text), /no valid protobuf/);
  const large = await message(send(post(new Uint8Array(1_001), { "content-type": PROTOBUF })));
  assertEquals([large[0], large[1]], [413, PROTOBUF]);
  const zipped = await message(
    send(post(gzipSync(new Uint8Array(5_000)), { "content-type": PROTOBUF, "content-encoding": "gzip" })),
  );
  assertEquals(zipped[0], 413);
  const encoded = await message(send(post("x", { "content-type": PROTOBUF, "content-encoding": "br" })));
  assertEquals(encoded[0], 415);
  const json = await server.send(
    "/v1/metrics",
    post("{", { "content-type": "application/json; charset=utf-8" }),
  );
  assertEquals([json.status, json.headers.get("content-type")], [400, "application/json"]);
  assertMatch(json.json().message, /not JSON/);
  const other = await server.send("/v1/traces", post("x", { "content-type": "text/plain" }));
  assertEquals([other.status, other.headers.get("content-type")], [415, "application/json"]);
});

Deno.test("A client of OTLP is told to try again when the database fails, in any way that may pass", async () => {
  await using server = await openServer();
  const { hub } = server.resources;
  const append = hub.systemMetrics.append.bind(hub.systemMetrics);
  for (const code of ["DISK_FULL", "CONNECTION_LOST", "BACKEND_FAILED"] as const) {
    hub.systemMetrics.append = () =>
      Promise.reject(new BackendError("It failed.", { code, operation: "write", kind: "transient" }));
    for (const init of [asBytes("metrics", hostMetrics({ "hw.host.power": 1 }))]) {
      const response = await fetch(`${server.url}v1/metrics`, init);
      await response.body?.cancel();
      assertEquals([response.status, response.headers.get("retry-after")], [503, "1"], code);
    }
  }
  hub.systemMetrics.append = append;
});

Deno.test("Growth of counters is stored by the next attempt when the first one fails", async () => {
  await using server = await openServer();
  const { hub } = server.resources;
  const append = hub.systemMetrics.append.bind(hub.systemMetrics);
  const network = (value: number, at: number) =>
    written([series("node_network_receive_bytes_total", value, at)]);
  assertEquals((await server.send("/api/v1/write", network(1e6, NEW_YEAR))).status, 204);
  hub.systemMetrics.append = () =>
    Promise.reject(new BackendError("no", { code: "LOCKED", operation: "write", kind: "transient" }));
  assertEquals((await server.send("/api/v1/write", network(21e6, NEW_YEAR + 10_000))).status, 503);
  hub.systemMetrics.append = append;
  assertEquals((await server.send("/api/v1/write", network(31e6, NEW_YEAR + 20_000))).status, 204);
  assertEquals((await server.send("/api/v1/write", network(21e6, NEW_YEAR + 10_000))).status, 204);
  const { system } = await stored(server);
  assertEquals(system.map(({ timestamp, networkIo }) => [timestamp - NEW_YEAR, networkIo]), [[10_000, 2], [
    20_000,
    1,
  ]]);
});

Deno.test("Each record of a request is stored by its position, those that have no field yet aside", async () => {
  await using where = await PLACES.SQLite();
  await using server = await openServer({ connectionString: where.url });
  // The first reading of a counter makes no record: the second of three nodes has none.
  const at = (node: string, name: string) => series(name, 50, NEW_YEAR, { node });
  const body = written([
    at("a", "node_hwmon_temp_celsius"),
    at("b", "node_network_receive_bytes_total"),
    at("c", "node_hwmon_temp_celsius"),
  ]);
  for (let i = 0; i < 2; i++) assertEquals((await server.send("/api/v1/write", body)).status, 204);
  assertEquals((await stored(server)).system.map(({ nodeId }) => nodeId).toSorted(), ["a", "c"]);
});

Deno.test("Spans become usage with costs, once; token metrics only where they are asked for", async () => {
  await using where = await PLACES.SQLite();
  const config = { connectionString: where.url, priceUsage: true };
  {
    await using server = await openServer(config);
    const span = asBytes("traces", chat(2_000_000));
    for (let i = 0; i < 2; i++) assertEquals((await server.send("/v1/traces", span)).status, 200);
    assertEquals((await server.send("/v1/traces", asJson(chat(2_000_000)))).status, 200); // another request, the same call
    assertEquals(
      (await server.send("/api/v1/write", written([series("vllm:prompt_tokens_total", 1)]))).status,
      204,
    );
    const { usage } = await stored(server);
    assertEquals(usage.map(({ usageId, inputTokens, durationMs }) => [usageId, inputTokens, durationMs]), [
      ["eee19b7ec3c1b174", 2_000_000, 250],
    ]);
    // 2.50 USD for a million input tokens and 10 USD for a million output tokens.
    const totals = await server.resources.costs.entries.aggregate();
    assertEquals(totals.map(({ currency, total }) => [currency, total]), [["USD", "15"]]);
    assertEquals(server.resources.intake!.unmapped.counts(), [{
      name: "vllm:prompt_tokens_total",
      points: 1,
    }]);
  }
});

Deno.test("Remote write 1.0 and 2.0 store records, and tell how many samples were written", async () => {
  for (const version of [1, 2] as const) {
    await using server = await openServer();
    const body = written([
      series("node_memory_MemAvailable_bytes", 1),
      series("node_memory_MemTotal_bytes", 4),
      series("node_hwmon_temp_celsius", 50),
      {
        labels: { __name__: "node_hwmon_temp_celsius", instance: "gone:9100" },
        samples: [["stale", NEW_YEAR]],
      },
      series("node_load1", 0.5),
    ], version);
    for (let i = 0; i < 2; i++) {
      const { status, headers, text } = await server.send("/api/v1/write", body);
      assertEquals([status, text], [204, ""]);
      const counts = ["samples", "histograms", "exemplars"].map((kind) =>
        headers.get(`x-prometheus-remote-write-${kind}-written`)
      );
      assertEquals(counts, ["5", "0", "0"]);
    }
    assertEquals((await stored(server)).system, [{
      timestamp: NEW_YEAR,
      clusterId: "default",
      nodeId: "gpu-01",
      memoryUsage: 75,
      temperature: 50,
      labels: { job: "node" },
    }]);
  }
});

Deno.test("Remote write refuses samples that cannot be stored with 400, and stores the others", async () => {
  await using server = await openServer();
  const device = (UUID: string) => series("DCGM_FI_DEV_GPU_UTIL", 42, NEW_YEAR, { UUID, Hostname: "n1" });
  const body = written([device("GPU-1"), device(""), { labels: { job: "x" }, samples: [[1, NEW_YEAR]] }], 2);
  const { status, headers, text } = await server.send("/api/v1/write", body);
  assertEquals([status, headers.get("x-prometheus-remote-write-samples-written")], [400, "1"]);
  assertMatch(text, /^2 samples were refused, all others stored\. .*no name/);
  assertEquals((await stored(server)).devices.map(({ deviceId, utilization }) => [deviceId, utilization]), [[
    "GPU-1",
    42,
  ]]);
});

Deno.test("Remote write answers 415 to other messages and encodings, 413 and 400 to bad bodies, as text", async () => {
  await using server = await openServer({}, { limits: { maxBodyBytes: 10_000 } });
  const good = [series("node_hwmon_temp_celsius", 50)];
  const send = (init: RequestInit) => server.send("/api/v1/write", init);
  for (
    const headers of [
      { "content-type": `${PROTOBUF};proto=io.prometheus.write.v3.Request` },
      { "content-type": "application/json" },
      { "content-encoding": "zstd" },
      { "content-encoding": "identity" },
    ] as Record<string, string>[]
  ) {
    const { status, text } = await send(written(good, 1, headers));
    assertEquals(status, 415, JSON.stringify(headers));
    assertMatch(text, /^Cannot read this (body|message)\./);
  }
  const form = { "content-type": PROTOBUF, "content-encoding": "snappy" };
  const large = await send(post(snappy.compress(new Uint8Array(10_001)), form));
  assertEquals([large.status, large.headers.get("content-type")], [413, "text/plain; charset=utf-8"]);
  assertEquals((await send(post("no snappy", form))).status, 400);
  const noProtobuf = snappy.compress(new Uint8Array(50).fill(0xff));
  assertEquals((await send(post(noProtobuf, form))).status, 400);
});

Deno.test("The tenant of a token is in the labels of all records, and part of the identity of a request", async () => {
  let tenant = "a";
  await using server = await openServer({}, { access: { authorize: () => Promise.resolve({ tenant }) } });
  const body = written([series("node_hwmon_temp_celsius", 50, NEW_YEAR, { tenant: "other" })]);
  for (tenant of ["a", "b", "a"]) assertEquals((await server.send("/api/v1/write", body)).status, 204);
  const service = await server.send(
    "/api/v1/write",
    written([series("openfinops_service_metrics_uptime", 1)]),
  );
  assertEquals(service.status, 400);
  assertMatch(service.text, /service metrics: tenant must be absent/);
  const { system, services } = await stored(server);
  assertEquals(services, []);
  assertEquals(system.map(({ labels }) => labels), [{ job: "node", tenant: "a" }, {
    job: "node",
    tenant: "b",
  }]);
});

Deno.test("Tenants share no counters and no ids of usage", async () => {
  let tenant = "a";
  const access = { authorize: () => Promise.resolve({ tenant }) };
  await using server = await openServer({}, { access }, { intake: { usageFrom: ["spans", "metrics"] } });
  const readings = [["a", 1_000, 0], ["b", 50_000, 1], ["a", 1_010, 2], ["b", 50_005, 2]] as const;
  for (const [name, value, seconds] of readings) {
    tenant = name;
    const at = NEW_YEAR + seconds * 1_000;
    const body = written([series("vllm:prompt_tokens_total", value, at, { model_name: "m" })]);
    assertEquals((await server.send("/api/v1/write", body)).status, 204);
  }
  for (tenant of ["a", "b"]) {
    assertEquals((await server.send("/v1/traces", asBytes("traces", chat(7)))).status, 200);
  }
  const { usage } = await stored(server);
  const found = usage.map((
    { usageId, tags, inputTokens },
  ) => [tags?.tenant, usageId.split("/")[0], inputTokens]);
  assertEquals(found.sort(), [["a", "a", 10], ["a", "a", 7], ["b", "b", 5], ["b", "b", 7]]);
});

Deno.test("Growth of counters is stored after a failure that fills the room for held records", async () => {
  await using server = await openServer({ maxMemoryEntries: 100_000 });
  const { hub } = server.resources;
  const append = hub.systemMetrics.append.bind(hub.systemMetrics);
  const network = (node: string, value: number, at: number) =>
    series("node_network_receive_bytes_total", value, at, { node });
  const send = async (body: RequestInit) => (await server.send("/api/v1/write", body)).status;
  assertEquals(await send(written([network("a", 1e6, NEW_YEAR), network("b", 1e6, NEW_YEAR)])), 204);
  const later = NEW_YEAR + 10_000;
  const temperatures = Array.from(
    { length: 50_000 },
    (_, i) => series("node_hwmon_temp_celsius", 50, later, { node: `n${i}` }),
  );
  const large = written([network("a", 21e6, later), ...temperatures]);
  const small = written([network("b", 31e6, later)]);
  const failure = new BackendError("no", { code: "LOCKED", operation: "write", kind: "transient" });
  const [started, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<never>()];
  hub.systemMetrics.append = () => {
    hub.systemMetrics.append = () => Promise.resolve({ accepted: 1, refused: [] });
    started.resolve();
    return gate.promise;
  };
  const first = send(large);
  await started.promise;
  assertEquals(await send(small), 503); // while the records of the large one are written
  hub.systemMetrics.append = () => Promise.reject(failure);
  gate.reject(failure);
  assertEquals(await first, 503);
  for (const body of [small, small, large]) assertEquals(await send(body), 503);
  hub.systemMetrics.append = append;
  // The client of the large request may never send it again: the server stores it when it needs the room.
  assertEquals(await send(small), 204);
  await hub.flush();
  const all = await hub.systemMetrics.query({ startTime: later, limit: 100_000 });
  const grown = all.filter(({ networkIo }) => networkIo !== undefined);
  const found = grown.map(({ nodeId, networkIo }) => [nodeId, networkIo]).sort();
  assertEquals(found, [["a", 2], ["b", 3]]);
  assertEquals(await send(large), 204);
  await hub.flush();
  assertEquals((await hub.systemMetrics.query({ startTime: later, limit: 100_000 })).length, 50_002);
});

Deno.test("Remote write counts what a body decompresses to among the bytes that the server holds", async () => {
  await using server = await openServer({}, { limits: { maxHeldBytes: 1_000_000 } });
  const form = { "content-type": PROTOBUF, "content-encoding": "snappy" };
  const packed = snappy.compress(new Uint8Array(1_500_000));
  assert(packed.length < 500_000);
  const { status, headers } = await server.send("/api/v1/write", post(packed, form));
  assertEquals([status, headers.get("retry-after")], [503, "1"]);
  const small = written([series("node_hwmon_temp_celsius", 50)]);
  for (let i = 0; i < 2; i++) assertEquals((await server.send("/api/v1/write", small)).status, 204);
});

Deno.test("Requests with random faults give 2xx or 4xx, and the server goes on", async () => {
  await fuzzIntake(new Chance(20_261_130), { rounds: 500 });
});

Deno.test("METRICS_REQUEST reads what OTLP has for a number in JSON", () => {
  const body = hostMetrics({ m: 1 });
  const [point] = body.resourceMetrics[0].scopeMetrics[0].metrics[0].gauge.dataPoints as {
    asDouble: unknown;
  }[];
  for (const [given, expected] of [["1.5", 1.5], [2, 2], ["-Infinity", -Infinity], ["NaN", NaN]]) {
    point.asDouble = given;
    const decoded = METRICS_REQUEST.decode(new TextEncoder().encode(JSON.stringify(body)), true);
    assertEquals(
      decoded.resourceMetrics![0].scopeMetrics![0].metrics![0].gauge!.dataPoints![0].asDouble,
      expected,
    );
  }
});
