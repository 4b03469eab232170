import { METRICS_REQUEST, TRACES_REQUEST } from "../src/server/otlp/messages.ts";
import { toSamples } from "../src/server/otlp/metrics.ts";
import { usageOfSpans } from "../src/server/otlp/spans.ts";
import { CounterReadings, shortName } from "../src/transfer/counter_readings.ts";
import { SampleMapper } from "../src/transfer/samples_to_records.ts";
import { assert, assertEquals, assertThrows } from "./assert.ts";
import { writeOtlp } from "./otlp_writer.ts";

const example = (name: string) =>
  JSON.parse(Deno.readTextFileSync(new URL(`cases/otlp/${name}.json`, import.meta.url)));
const toBytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const all = () => true;

/** 1 January 2026, in milliseconds and nanoseconds. */
const START = Date.UTC(2026, 0, 1);
const nanos = (seconds: number) => `${START + seconds * 1_000}000000`;

/** Attributes of OTLP from plain values. */
function attributes(values: Record<string, string | number | boolean>) {
  return Object.entries(values).map(([key, value]) => ({
    key,
    value: typeof value === "string"
      ? { stringValue: value }
      : typeof value === "boolean"
      ? { boolValue: value }
      : Number.isInteger(value)
      ? { intValue: String(value) }
      : { doubleValue: value },
  }));
}

interface PointInput {
  [field: string]: unknown;
  at?: number;
  from?: number;
  labels?: Record<string, string>;
}

function metric(name: string, kind: string, points: readonly PointInput[], more: object = {}) {
  const dataPoints = points.map(({ at = 10, from, labels = {}, ...rest }) => ({
    ...rest,
    timeUnixNano: nanos(at),
    ...(from === undefined ? {} : { startTimeUnixNano: nanos(from) }),
    attributes: attributes(labels),
  }));
  return { name, [kind]: { dataPoints, ...more } };
}

const cumulative = { aggregationTemporality: 2, isMonotonic: true };
const delta = { aggregationTemporality: 1, isMonotonic: true };

function request(resource: Record<string, string>, ...metrics: object[]) {
  return {
    resourceMetrics: [{ resource: { attributes: attributes(resource) }, scopeMetrics: [{ metrics }] }],
  };
}

/** Maps requests one after the other, by a mapper that has been there for a minute. */
function mapAll(...requests: object[]) {
  const counters = new CounterReadings({ since: START - 60_000 });
  const mapper = new SampleMapper({ target: "test", counters });
  return requests.map((request) => {
    const decoded = METRICS_REQUEST.decode(writeOtlp("metrics", request), false);
    assertEquals(METRICS_REQUEST.decode(toBytes(request), true), decoded);
    const { samples } = toSamples(decoded, (name) => mapper.knows(name));
    return mapper.map(samples, START).records.map(({ dataset, record }): Record<string, unknown> => ({
      dataset,
      ...record,
    }));
  });
}

Deno.test("The protocol's own examples decode equal from JSON and protobuf", () => {
  const metrics = example("metrics");
  const decoded = METRICS_REQUEST.decode(writeOtlp("metrics", metrics), false);
  assertEquals(METRICS_REQUEST.decode(toBytes(metrics), true), decoded);
  const { samples, unmapped, invalid } = toSamples(decoded, all);
  const labels = (kind: string) => ({ "service.name": "my.service", [`my.${kind}.attr`]: "some value" });
  const timestamp = 1544712660300;
  const deltas = { timestamp, start: timestamp, isDelta: true };
  assertEquals(samples, [
    { name: "my.counter", value: 5, labels: labels("counter"), ...deltas },
    { name: "my.gauge", value: 10, labels: labels("gauge"), timestamp },
    { name: "my.histogram_count", value: 2, labels: labels("histogram"), ...deltas },
    { name: "my.histogram_sum", value: 2, labels: labels("histogram"), ...deltas },
    { name: "my.histogram_bucket", value: 1, labels: { ...labels("histogram"), le: "1" }, ...deltas },
    { name: "my.histogram_bucket", value: 2, labels: { ...labels("histogram"), le: "+Inf" }, ...deltas },
    { name: "my.exponential.histogram_count", value: 3, labels: labels("exponential.histogram"), ...deltas },
    { name: "my.exponential.histogram_sum", value: 10, labels: labels("exponential.histogram"), ...deltas },
  ]);
  assertEquals([unmapped.size, invalid], [0, 0]);

  const traces = example("trace");
  const spans = TRACES_REQUEST.decode(writeOtlp("traces", traces), false);
  assertEquals(TRACES_REQUEST.decode(toBytes(traces), true), spans);
  const [span] = spans.resourceSpans![0].scopeSpans![0].spans!;
  assertEquals(span, {
    traceId: "5b8efff798038103d269b633813fc60c",
    spanId: "eee19b7ec3c1b174",
    parentSpanId: "eee19b7ec3c1b173",
    name: "I'm a server span",
    startTimeUnixNano: "1544712660000000000",
    endTimeUnixNano: "1544712661000000000",
    attributes: { "my.span.attr": "some value" },
  });
  assertEquals(usageOfSpans(spans), { records: [], invalid: [] });
});

Deno.test("Values of attributes are equal from JSON and protobuf, to the last digit", () => {
  const value = (value: object) => ({ key: JSON.stringify(value), value });
  const span = {
    startTimeUnixNano: "1780000000123456789",
    attributes: [
      value({ intValue: "9007199254740993" }),
      value({ intValue: "-9223372036854775808" }),
      value({ intValue: 7 }),
      value({ doubleValue: 0.1 }),
      value({ boolValue: true }),
      value({ stringValue: "ü€😀" }),
      value({ arrayValue: { values: [{ stringValue: "a" }, { intValue: "2" }] } }),
      value({ kvlistValue: { values: [{ key: "k", value: { boolValue: false } }] } }),
    ],
  };
  const traces = { resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] };
  const decoded = TRACES_REQUEST.decode(writeOtlp("traces", traces), false);
  assertEquals(TRACES_REQUEST.decode(toBytes(traces), true), decoded);
  const [found] = decoded.resourceSpans![0].scopeSpans![0].spans!;
  assertEquals(found.startTimeUnixNano, "1780000000123456789");
  assertEquals(Object.values(found.attributes!), [
    "9007199254740993",
    "-9223372036854775808",
    "7",
    "0.1",
    "true",
    "ü€😀",
    '["a",2]',
    '{"k":false}',
  ]);
});

Deno.test("Times of points are whole milliseconds, rounded down, in JSON and protobuf", () => {
  for (
    const [ns, ms] of [["1780000000123999999", 1780000000123], ["1780000000124000000", 1780000000124], [
      "5",
      0,
    ]]
  ) {
    const gauge = { dataPoints: [{ timeUnixNano: ns, asDouble: 1 }] };
    const body = { resourceMetrics: [{ scopeMetrics: [{ metrics: [{ name: "m", gauge }] }] }] };
    for (
      const decoded of [
        METRICS_REQUEST.decode(writeOtlp("metrics", body), false),
        METRICS_REQUEST.decode(toBytes(body), true),
      ]
    ) {
      const [point] = decoded.resourceMetrics![0].scopeMetrics![0].metrics![0].gauge!.dataPoints!;
      assertEquals(point.timeUnixNano, ms);
    }
  }
});

Deno.test("Metrics of a host become one record of the time, with the fields that there are", () => {
  const host = { "host.name": "gpu-01", "k8s.cluster.name": "prod" };
  const [[record], [later]] = mapAll(
    request(
      host,
      metric("system.cpu.utilization", "gauge", [
        { asDouble: 0.5, labels: { "cpu.mode": "idle", "cpu.logical_number": "0" } },
        { asDouble: 0.9, labels: { "cpu.mode": "idle", "cpu.logical_number": "1" } },
        { asDouble: 0.1, labels: { "cpu.mode": "user", "cpu.logical_number": "1" } },
      ]),
      metric("system.memory.usage", "sum", [
        { asInt: "6", labels: { state: "used" } },
        { asInt: "2", labels: { state: "free" } },
        { asInt: "2", labels: { state: "slab_reclaimable" } },
      ], { aggregationTemporality: 2 }),
      metric("system.filesystem.usage", "sum", [
        { asInt: "3", labels: { mountpoint: "/", state: "used" } },
        { asInt: "9", labels: { mountpoint: "/", state: "free" } },
        { asInt: "9", labels: { mountpoint: "/data", state: "used" } },
      ], { aggregationTemporality: 2 }),
      metric("system.network.io", "sum", [
        { asInt: "1000000", labels: { device: "eth0", direction: "receive" } },
        { asInt: "5000000", labels: { device: "lo", direction: "receive" } },
      ], cumulative),
      metric("hw.temperature", "gauge", [{ asDouble: 41.5 }]),
    ),
    request(
      host,
      metric("system.network.io", "sum", [
        { at: 20, asInt: "21000000", labels: { device: "eth0", direction: "receive" } },
        { at: 20, asInt: "95000000", labels: { device: "lo", direction: "receive" } },
      ], cumulative),
    ),
  );
  const identity = { dataset: "system_metrics", clusterId: "prod", nodeId: "gpu-01" };
  const { cpuUsage, ...others } = record;
  assert(Math.abs(cpuUsage as number - 30) < 1e-9);
  assertEquals(others, {
    ...identity,
    timestamp: START + 10_000,
    memoryUsage: 75,
    diskUsage: 25,
    temperature: 41.5,
  });
  assertEquals(later, { ...identity, timestamp: START + 20_000, networkIo: 2 });
});

Deno.test("Names of OpenTelemetry are also known as Prometheus has them", () => {
  const mapper = new SampleMapper({ target: "test" });
  for (
    const name of [
      "system_cpu_utilization_ratio",
      "system_network_io_bytes_total",
      "hw_gpu_memory_usage_bytes",
      "http_server_request_duration_seconds_bucket",
      "gen_ai_client_operation_duration_seconds_count",
      "gen_ai_client_token_usage_sum",
    ]
  ) assert(mapper.knows(name), name);
  const labels = { hw_id: "GPU-1", k8s_node_name: "n1", hw_model: "H100", hw_type: "gpu" };
  const [{ record }] =
    mapper.map([{ name: "hw_power_watts", labels, value: 300, timestamp: START }], 0).records;
  assertEquals(record, {
    timestamp: START,
    nodeId: "n1",
    deviceId: "GPU-1",
    model: "H100",
    powerConsumption: 300,
  });
});

Deno.test("hw.gpu metrics become records of devices", () => {
  const labels = { "hw.id": "GPU-8a", "hw.name": "gpu0", "hw.model": "H100", "hw.vendor": "NVIDIA" };
  const [[record]] = mapAll(
    request(
      { "host.name": "gpu-01" },
      metric("hw.gpu.utilization", "gauge", [
        { asDouble: 0.75, labels: { ...labels, "hw.gpu.task": "general" } },
        { asDouble: 0.99, labels: { ...labels, "hw.gpu.task": "encoder" } },
      ]),
      metric("hw.gpu.memory.usage", "sum", [{ asInt: "40", labels }], { aggregationTemporality: 2 }),
      metric("hw.gpu.memory.limit", "sum", [{ asInt: "80", labels }], { aggregationTemporality: 2 }),
      metric("hw.power", "gauge", [
        { asDouble: 350.5, labels: { ...labels, "hw.type": "gpu" } },
        { asDouble: 90, labels: { ...labels, "hw.id": "psu", "hw.type": "power_supply" } },
      ]),
      metric("hw.energy", "sum", [{ asDouble: 1e6, labels: { ...labels, "hw.type": "gpu" } }], cumulative),
    ),
  );
  assertEquals(record, {
    dataset: "device_metrics",
    timestamp: START + 10_000,
    nodeId: "gpu-01",
    deviceId: "GPU-8a",
    model: "H100",
    vendor: "NVIDIA",
    utilization: 75,
    memoryUsed: 40,
    memoryTotal: 80,
    powerConsumption: 350.5,
    energyConsumption: 1e6,
  });
});

Deno.test("Histograms of requests give rate, mean, success and percentiles, cumulative as delta", () => {
  const resource = { "service.name": "api", "host.name": "n1" };
  // 100 calls in 10 s: 50 within 0.1 s, 40 within 0.2 s, 10 within 1 s; 5 of them failed.
  const bounds = [0.1, 0.2, 1];
  const ok = { count: "95", sum: 9.5, bucketCounts: ["50", "40", "5", "0"], explicitBounds: bounds };
  const bad = { count: "5", sum: 2.5, bucketCounts: ["0", "0", "5", "0"], explicitBounds: bounds };
  const name = "http.server.request.duration";
  const labels = { "error.type": "500" };
  const expected = [
    {
      dataset: "system_metrics",
      timestamp: START + 10_000,
      nodeId: "n1",
      latencyP50: 100, // 50 of 100 calls took up to 0.1 s
      latencyP95: 600, // half of the bucket from 0.2 to 1 s
      latencyP99: 920,
    },
    {
      dataset: "service_metrics",
      timestamp: START + 10_000,
      serviceName: "api",
      requestRate: 10,
      responseTime: 120,
      successRate: 95,
    },
  ];
  const near = (found: readonly object[]) =>
    JSON.parse(
      JSON.stringify(found),
      (_, value) => typeof value === "number" ? Math.round(value * 1e6) / 1e6 : value,
    );
  for (const temporality of [delta, cumulative]) {
    // The cumulative series began where it could be seen, so it counts from its start.
    const [found] = mapAll(
      request(
        resource,
        metric(name, "histogram", [{ from: 0, ...ok }, { from: 0, ...bad, labels }], temporality),
      ),
    );
    assertEquals(near(found), expected);
  }
});

Deno.test("Summaries and exponential histograms give their count and sum", () => {
  const resource = { "service.name": "api" };
  const name = "gen_ai.server.request.duration";
  const point = { from: 0, count: "20", sum: 5 };
  for (
    const [kind, more] of [["exponentialHistogram", delta], ["summary", {}]] as const
  ) {
    const [[record]] = mapAll(request(resource, metric(name, kind, [point], more)));
    assertEquals(record, {
      dataset: "service_metrics",
      timestamp: START + 10_000,
      serviceName: "api",
      requestRate: 2,
      responseTime: 250,
      successRate: 100,
    });
  }
});

Deno.test("Points without a value, a temporality or a field become none, and are counted", () => {
  const body = request(
    { "host.name": "n1" },
    metric("hw.host.power", "gauge", [{ asDouble: 1, flags: 1 }]),
    metric("system.network.io", "sum", [{ asInt: "1" }]),
    metric("my.metric", "gauge", [{ asInt: "1" }, { asInt: "2" }]),
    metric("my.other", "histogram", [{ count: "1" }], delta),
  );
  const mapper = new SampleMapper({ target: "test" });
  const { samples, unmapped, invalid } = toSamples(
    METRICS_REQUEST.decode(toBytes(body), true),
    (name) => mapper.knows(name),
  );
  assertEquals(samples, []);
  assertEquals([...unmapped], [["my.metric", 2], ["my.other", 1]]);
  assertEquals(invalid, 1);
});

Deno.test("Token metrics become usage: deltas, and what cumulative counters grow by", () => {
  const resource = { "service.name": "chat" };
  const labels = {
    "gen_ai.request.model": "gpt-5",
    "gen_ai.provider.name": "openai",
    "gen_ai.operation.name": "chat",
  };
  const tokens = (at: number, from: number, input: number, output: number, temporality: object) =>
    request(
      resource,
      metric("gen_ai.client.token.usage", "histogram", [
        { at, from, count: "1", sum: input, labels: { ...labels, "gen_ai.token.type": "input" } },
        { at, from, count: "1", sum: output, labels: { ...labels, "gen_ai.token.type": "output" } },
      ], temporality),
    );
  const counts = (records: readonly Record<string, unknown>[]) =>
    records.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens]);
  assertEquals(mapAll(tokens(10, 0, 100, 10, delta), tokens(20, 10, 50, 5, delta)).map(counts), [
    [[100, 10]],
    [[50, 5]],
  ]);
  const found = mapAll(
    tokens(10, 0, 100, 10, cumulative), // began where it could be seen: counted from zero
    tokens(20, 0, 150, 15, cumulative),
    tokens(20, 0, 150, 15, cumulative), // the same again
    tokens(15, 0, 120, 12, cumulative), // late
    tokens(40, 30, 7, 1, cumulative), // the process was restarted
  );
  assertEquals(found.map(counts), [[[100, 10]], [[50, 5]], [], [], [[7, 1]]]);
  const { usageId, ...usage } = found[0][0];
  assertEquals(usage, {
    dataset: "usage_records",
    timestamp: START + 10_000,
    model: "gpt-5",
    provider: "openai",
    operation: "chat",
    serviceName: "chat",
    inputTokens: 100,
    outputTokens: 10,
  });
  assertEquals(String(usageId).length, 32);
  // A series that began before it could be seen only tells where it stands.
  assertEquals(
    mapAll(tokens(10, -3_600, 100, 10, cumulative), tokens(20, -3_600, 130, 13, cumulative)).map(counts),
    [
      [],
      [[30, 3]],
    ],
  );
});

Deno.test("Usage of one model and time has several ids when it arrives in several requests", () => {
  const labels = { "gen_ai.request.model": "gpt-5" };
  const part = (type: string) =>
    request(
      {},
      metric("gen_ai.client.token.usage", "histogram", [
        { from: 0, count: "1", sum: 9, labels: { ...labels, "gen_ai.token.type": type } },
      ], delta),
    );
  const [[input], [output]] = mapAll(part("input"), part("output"));
  assert(input.usageId !== output.usageId);
  assertEquals(mapAll(part("input"))[0], [input]);
});

Deno.test("CounterReadings forgets the oldest series, and does not count them from zero again", () => {
  const readings = new CounterReadings({ maxSeries: 2, since: START });
  const take = (series: string, value: number, seconds: number) =>
    readings.take(series, { value, start: START + 1 }, START + seconds * 1_000)?.value;
  assertEquals([take("a", 5, 10), take("b", 5, 11), take("c", 5, 12)], [5, 5, 5]);
  assertEquals(readings.size, 2);
  assertEquals(take("a", 9, 20), undefined); // 5 of them have been counted
  assertEquals(take("a", 12, 30), 3);
});

Deno.test("CounterReadings forgets series of the owner with the most, and none of another", () => {
  const readings = new CounterReadings({ maxSeries: 4, since: START });
  const take = (owner: string, series: string, value: number, seconds: number) =>
    readings.take(series, { value, start: START + 1 }, START + seconds * 1_000, owner)?.value;
  assertEquals([take("small", "a", 5, 1), take("small", "b", 5, 1)], [5, 5]);
  for (let i = 0; i < 10; i++) take("large", `s${i}`, 1, 10 + i);
  assertEquals(readings.size, 4);
  assertEquals([take("small", "a", 7, 30), take("small", "b", 9, 30)], [2, 4]);
  assertEquals(take("small", "c", 3, 31), 3); // counted from its start: nothing of this owner was forgotten
  assertEquals([take("large", "s0", 4, 40), take("large", "s9", 4, 40)], [undefined, 3]);
  assertEquals(readings.size, 4);
});

Deno.test("A start at the time of a reading is no restart: the values decide", () => {
  const readings = new CounterReadings({ since: START });
  const take = (value: number, start: number, at: number) =>
    readings.take("s", { value, start: START + start }, START + at)?.value;
  assertEquals([take(100, 10, 10), take(130, 20, 20), take(150, 20, 30), take(4, 40, 40)], [
    undefined,
    30,
    20,
    4,
  ]);
});

Deno.test("Spans of models become usage, with current and earlier names, and the same id each time", () => {
  const span = (values: Record<string, string | number>, more: object = {}) => ({
    traceId: "5B8EFFF798038103D269B633813FC60C",
    spanId: "EEE19B7EC3C1B174",
    name: "chat",
    startTimeUnixNano: nanos(1.5),
    endTimeUnixNano: nanos(4),
    attributes: attributes(values),
    ...more,
  });
  const usageOf = (...spans: object[]) => {
    const body = {
      resourceSpans: [{
        resource: { attributes: attributes({ "service.name": "chat" }) },
        scopeSpans: [{ spans }],
      }],
    };
    const decoded = TRACES_REQUEST.decode(writeOtlp("traces", body), false);
    assertEquals(TRACES_REQUEST.decode(toBytes(body), true), decoded);
    const { records, invalid } = usageOfSpans(decoded);
    assertEquals(invalid, []);
    return records.map(({ record }) => record);
  };
  const current = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.usage.input_tokens": 1_000,
    "gen_ai.usage.output_tokens": 200,
    "gen_ai.usage.cache_read.input_tokens": 300,
    "gen_ai.usage.cache_creation.input_tokens": 40,
  };
  const earlier = {
    "gen_ai.system": "anthropic",
    "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.usage.prompt_tokens": 1_000,
    "gen_ai.usage.completion_tokens": 200,
  };
  const [found, old] = usageOf(span(current), span(earlier, { spanId: "EEE19B7EC3C1B175" }));
  assertEquals(found, {
    usageId: "eee19b7ec3c1b174",
    timestamp: START + 1_500,
    provider: "anthropic",
    model: "claude-sonnet-4-5",
    operation: "chat",
    serviceName: "chat",
    requests: 1,
    inputTokens: 1_000,
    outputTokens: 200,
    cacheReadTokens: 300,
    cacheWriteTokens: 40,
    durationMs: 2_500,
  });
  assertEquals([old.inputTokens, old.outputTokens, old.provider], [1_000, 200, "anthropic"]);
  const agent = { ...current, "gen_ai.operation.name": "invoke_agent" };
  assertEquals(usageOf(span(agent), span({ "http.route": "/" })), []);
  assertEquals(usageOf(span(current)), [found]);
});

Deno.test("A body that is no request of OTLP is refused", () => {
  const bytes = writeOtlp("metrics", example("metrics"));
  for (let end = 1; end < bytes.length; end += 7) {
    const cut = bytes.subarray(0, end);
    try {
      METRICS_REQUEST.decode(cut, false); // some ends are between two messages
    } catch (error) {
      assertEquals((error as { code?: string }).code, "INVALID_BODY", `${end}: ${error}`);
    }
  }
  // A point of one byte, whose value has the eight bytes behind it.
  const value = [0x0a, 1, 0x21, 0, 0, 0, 0, 0, 0, 0, 0];
  const name = [0x0a, 1, 0x6d];
  const metric = [...name, 0x2a, value.length, ...value];
  const scope = [0x12, metric.length, ...metric];
  const long = Uint8Array.of(0x0a, scope.length + 2, 0x12, scope.length, ...scope);
  assertThrows(() => METRICS_REQUEST.decode(long, false), Error, "ends after its message");
  const refused = (body: string) =>
    assertThrows(() => METRICS_REQUEST.decode(new TextEncoder().encode(body), true));
  for (const body of ["", "[]", "{", "null", '{"resourceMetrics":{}}', '{"resourceMetrics":[1]}']) {
    refused(body);
  }
  refused('{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":1}]}]}]}');
});

Deno.test("Deep and wide bodies of OTLP are refused before they take memory", () => {
  let value: object = { stringValue: "x" };
  for (let i = 0; i < 40; i++) value = { arrayValue: { values: [value] } };
  const deep = { resourceMetrics: [{ resource: { attributes: [{ key: "a", value }] } }] };
  const code = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  assertEquals(code(() => METRICS_REQUEST.decode(toBytes(deep), true)), "INVALID_BODY");
  assertEquals(code(() => METRICS_REQUEST.decode(writeOtlp("metrics", deep), false)), "INVALID_BODY");
  const wide = new Uint8Array(4_000_000); // two million empty messages
  for (let i = 0; i < wide.length; i += 2) wide[i] = 0x0a;
  assertEquals(code(() => METRICS_REQUEST.decode(wide, false)), "BODY_TOO_LARGE");
  const json = `{"resourceMetrics":[${"{},".repeat(2_100_000)}{}]}`;
  assertEquals(code(() => METRICS_REQUEST.decode(new TextEncoder().encode(json), true)), "BODY_TOO_LARGE");
});

Deno.test("Small bodies of OTLP that become many labels or buckets are refused", () => {
  const at = "1700000000000000000";
  const code = (metric: object, attributes: object[] = []) => {
    const body = { resourceMetrics: [{ resource: { attributes }, scopeMetrics: [{ metrics: [metric] }] }] };
    const bytes = writeOtlp("metrics", body);
    assert(bytes.length < 33_000_000);
    try {
      return toSamples(METRICS_REQUEST.decode(bytes, false), () => true).samples.length;
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  const attributes = (length: number) =>
    Array.from({ length }, (_, i) => ({ key: `a${i}`, value: { stringValue: "v" } }));
  const gauge = { name: "m", gauge: { dataPoints: Array(501).fill({ timeUnixNano: at, asDouble: 1 }) } };
  assertEquals(code(gauge, attributes(100)), 501);
  assertEquals(code(gauge, attributes(10_000)), "BODY_TOO_LARGE");
  const dataPoints = [{ timeUnixNano: at, bucketCounts: Array(200_001).fill("1") }];
  const histogram = { name: "m", histogram: { aggregationTemporality: 2, dataPoints } };
  assertEquals(code(histogram, attributes(1)), 200_001);
  assertEquals(code(histogram, attributes(30)), "BODY_TOO_LARGE");
  const spans = {
    resource: { attributes: attributes(10_000) },
    scopeSpans: [{ spans: Array(501).fill({}) }],
  };
  const traces = TRACES_REQUEST.decode(writeOtlp("traces", { resourceSpans: [spans] }), false);
  assertThrows(() => usageOfSpans(traces), Error, "more than 5000000 labels");
});

Deno.test("A reading that is no count, or of the far future, changes nothing in those that follow", () => {
  const readings = new CounterReadings({ since: START });
  const take = (value: number, seconds: number) =>
    readings.take("s", { value, start: START + 1 }, START + seconds * 1_000)?.value;
  assertEquals(
    [1_000, NaN, 1_010, Infinity, 1_020, -5, 1_030, -Infinity, 1_040].map((v, i) => take(v, i + 1)),
    [
      1_000,
      undefined,
      10,
      undefined,
      10,
      undefined,
      10,
      undefined,
      10,
    ],
  );
  const labels = { "host.name": "h", "network.interface.name": "eth0" };
  const mapper = new SampleMapper({ target: "t" });
  const map = (value: number, timestamp: number) =>
    mapper.map([{ name: "system.network.io", labels, value, timestamp }], START).records[0]?.record.networkIo;
  map(0, START - 20_000);
  assertEquals(map(1, START + 400 * 86_400_000), undefined);
  assertEquals(map(10_000_000, START - 10_000), 1); // MB/s
});

Deno.test("Names of series are kept in a bounded length", () => {
  const long = "x".repeat(100_000);
  assertEquals(shortName("node_load1\0a\0b"), "node_load1\0a\0b");
  assert(shortName(long).length < 100);
  assert(shortName(long) !== shortName(`${long}y`));
  const readings = new CounterReadings({ since: START });
  const take = (series: string, value: number, seconds: number) =>
    readings.take(series, { value }, START + seconds * 1_000)?.value;
  assertEquals([take(long, 5, 1), take(`${long}y`, 7, 1), take(long, 6, 2)], [undefined, undefined, 1]);
});

Deno.test("JSON with many different names of fields is refused before it is parsed", () => {
  const decode = (names: number, text = "x") => {
    const fields = Array.from({ length: names }, (_, i) => `{"n${i}":{"\\"${text}:":1}}`);
    const json = `{"resourceMetrics":[],"other":[${fields.join(",")}]}`;
    return METRICS_REQUEST.decode(new TextEncoder().encode(json), true);
  };
  assertEquals(decode(9_997), {});
  assertThrows(() => decode(9_998), Error, "more than 10000 distinct field names");
  assertEquals(decode(9_997, '\\"y\\":{'), {});
});
