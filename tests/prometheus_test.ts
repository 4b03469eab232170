import { parseSamples } from "../src/transfer/prometheus.ts";
import { SampleMapper } from "../src/transfer/samples_to_records.ts";
import { acceptRecord } from "../src/records/validation.ts";
import { DATASETS } from "../src/records/datasets.ts";
import { METRIC_FIELDS } from "../src/transfer/metric_names.ts";
import { assert, assertEquals, assertThrows } from "./assert.ts";
import { NEW_YEAR } from "./fixtures.ts";

const read = (line: string, isOpenMetrics = false) => {
  const { samples: [sample], badLines: [bad] } = parseSamples(line, { isOpenMetrics });
  if (bad) throw new Error(bad.fault);
  return sample;
};

Deno.test("parseSamples() reads every form of a sample", () => {
  const forms: [string, object | undefined][] = [
    ["up 1", { name: "up", labels: {}, value: 1 }],
    ["up{} 1\r", { name: "up", labels: {}, value: 1 }],
    ['a:b{x="1",y="a\\"b\\\\c\\nd",} +1.5e3', {
      name: "a:b",
      labels: { x: "1", y: 'a"b\\c\nd' },
      value: 1500,
    }],
    ['  m { x = "1" , y="2" }  .5 1700000000000', {
      name: "m",
      labels: { x: "1", y: "2" },
      value: 0.5,
      timestamp: 1_700_000_000_000,
    }],
    ['{"http.requests","status.code"="200",job="a}b"} 3', {
      name: "http.requests",
      labels: { "status.code": "200", job: "a}b" },
      value: 3,
    }],
    ['m{__proto__="x"} 1', { name: "m", labels: JSON.parse('{"__proto__":"x"}'), value: 1 }],
    ["m -Inf", { name: "m", labels: {}, value: -Infinity }],
    ["# HELP m text", undefined],
    ["", undefined],
  ];
  for (const [line, expected] of forms) assertEquals(read(line), expected, line);
  assert(Number.isNaN(read("m NaN").value));
  assertEquals(read('m_bucket{le="1"} 4 1700000000.5 # {trace_id="a"} 0.5', true), {
    name: "m_bucket",
    labels: { le: "1" },
    value: 4,
    timestamp: 1_700_000_000_500,
  });
});

Deno.test("parseSamples() refuses what is no sample", () => {
  for (
    const line of [
      "m",
      "m x",
      'm{x="1" 2',
      "m{x=1} 2",
      '{x="1"} 2',
      'm{"a","b"} 1',
      'm{x="1"y="2"} 1',
      "1m 2",
      "m 1 2 3",
    ]
  ) {
    assertThrows(() => read(line), Error, "no sample");
  }
  assertEquals(parseSamples("a 1\nb\nc 2\n# EOF\n"), {
    samples: [{ name: "a", labels: {}, value: 1 }, { name: "c", labels: {}, value: 2 }],
    badLines: [{
      line: 2,
      text: "b",
      fault: 'The line is no sample: expected `name{label="value"} number`.',
    }],
  });
});

const map = (mapper: SampleMapper, text: string, time = NEW_YEAR) => {
  const { records, unmapped } = mapper.map(parseSamples(text).samples, time);
  for (const { dataset, record } of records) {
    acceptRecord(DATASETS[dataset] as never, dataset === "device_metrics" ? record : { ...record });
  }
  return { records: records.map(({ dataset, record }) => ({ dataset, ...record })), unmapped };
};

Deno.test("SampleMapper makes a device record of each GPU and MIG instance of dcgm-exporter", () => {
  const of = (gpu: number, more = "") =>
    `{gpu="${gpu}",UUID="GPU-${gpu}",Hostname="node-1",modelName="NVIDIA L4"${more}}`;
  const { records, unmapped } = map(
    new SampleMapper({ target: "t" }),
    `DCGM_FI_DEV_GPU_UTIL${of(0, ',exported_pod="train-0",exported_namespace="nlp",pod="dcgm"')} 42
DCGM_FI_DEV_POWER_USAGE${of(0)} 16.365000
DCGM_FI_DEV_FB_USED${of(0)} 1024
DCGM_FI_DEV_FB_FREE${of(0)} 512
DCGM_FI_DEV_XID_ERRORS${of(0)} 79
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION${of(0)} 5000
DCGM_FI_DEV_CLOCK_THROTTLE_REASONS${of(0)} 4
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE${of(1, ',GPU_I_ID="3",GPU_I_PROFILE="1g.10gb"')} 0.25
DCGM_FI_DEV_CLOCK_THROTTLE_REASONS${of(1, ',GPU_I_ID="3"')} 1
DCGM_FI_DEV_ENC_UTIL${of(0)} 0
DCGM_FI_DEV_ENC_UTIL${of(1)} NaN`,
  );
  const device = { dataset: "device_metrics", timestamp: NEW_YEAR, nodeId: "node-1", model: "NVIDIA L4" };
  assertEquals(records, [
    {
      ...device,
      deviceId: "GPU-0",
      deviceIndex: 0,
      utilization: 42,
      powerConsumption: 16.365,
      memoryUsed: 1_073_741_824,
      memoryTotal: 1_610_612_736,
      errorCode: 79,
      energyConsumption: 5,
      throttled: true,
      labels: { pod: "train-0", namespace: "nlp" },
    },
    {
      ...device,
      deviceId: "GPU-1",
      deviceIndex: 1,
      partition: "3",
      tensorUtilization: 25,
      throttled: false,
      labels: { migProfile: "1g.10gb" },
    },
  ]);
  assertEquals([...unmapped], [["DCGM_FI_DEV_ENC_UTIL", 2]]);
});

Deno.test("SampleMapper computes rates of counters over two scrapes, and across a reset", () => {
  const mapper = new SampleMapper({ target: "t", defaults: { nodeId: "n1" } });
  const text = (idle: readonly number[], bytes: number) =>
    idle.map((seconds, cpu) =>
      `node_cpu_seconds_total{cpu="${cpu}",mode="idle"} ${seconds}
node_cpu_seconds_total{cpu="${cpu}",mode="user"} 1`
    ).join("\n") + `
node_network_receive_bytes_total{device="eth0"} ${bytes}
node_network_transmit_bytes_total{device="eth0"} ${2 * bytes}
node_network_receive_bytes_total{device="lo"} 1e12
node_memory_MemAvailable_bytes 25
node_memory_MemTotal_bytes 100
node_filesystem_avail_bytes{mountpoint="/",device="/dev/vda"} 10
node_filesystem_size_bytes{mountpoint="/",device="/dev/vda"} 40
node_filesystem_size_bytes{mountpoint="/boot"} 1
node_hwmon_temp_celsius{chip="a"} 40
node_hwmon_temp_celsius{chip="b"} 55`;
  const gauges = { dataset: "system_metrics", nodeId: "n1", memoryUsage: 75, diskUsage: 75, temperature: 55 };
  assertEquals(map(mapper, text([100, 200], 1e6)).records, [{ ...gauges, timestamp: NEW_YEAR }]);
  const next = NEW_YEAR + 10_000;
  assertEquals(map(mapper, text([107.5, 207.5], 11e6), next).records, [
    { ...gauges, timestamp: next, cpuUsage: 25, networkIo: 3 },
  ]);
  const later = next + 10_000;
  assertEquals(map(mapper, text([112.5, 212.5], 1e6), later).records, [
    { ...gauges, timestamp: later, cpuUsage: 50, networkIo: 0.3 }, // the bytes since the reset
  ]);
  assertEquals(map(mapper, text([112.5, 212.5], 1e6), later).records[0], { ...gauges, timestamp: later });
});

Deno.test("SampleMapper makes usage and service records of vLLM's counters, with ids of target, series and time", () => {
  const text = (n: number) =>
    `vllm:prompt_tokens_total{model_name="llama",engine="0"} ${1_000 * n}
vllm:prompt_tokens_total{model_name="llama",engine="1"} ${500 * n}
vllm:generation_tokens_total{model_name="llama",engine="0"} ${100 * n}
vllm:prefix_cache_hits_total{model_name="llama",engine="0"} ${10 * n}
vllm:request_success_total{model_name="llama",engine="0",finished_reason="stop"} ${4 * n}
vllm:request_success_total{model_name="llama",engine="0",finished_reason="length"} ${n}
vllm:e2e_request_latency_seconds_sum{model_name="llama",engine="0"} ${2 * n}
vllm:e2e_request_latency_seconds_count{model_name="llama",engine="0"} ${5 * n}`;
  const run = (target: string, time: number) => {
    const mapper = new SampleMapper({ target });
    assertEquals(map(mapper, text(1)).records, []);
    return map(mapper, text(2), time).records as Record<string, unknown>[];
  };
  const time = NEW_YEAR + 10_000;
  const [service, usage] = run("http://a/metrics", time);
  assertEquals(service, {
    dataset: "service_metrics",
    timestamp: time,
    serviceName: "llama",
    requestRate: 0.5,
    responseTime: 400,
  });
  const { usageId, ...counts } = usage;
  assertEquals(counts, {
    dataset: "usage_records",
    timestamp: time,
    model: "llama",
    inputTokens: 1_500,
    outputTokens: 100,
    cacheReadTokens: 10,
    requests: 5,
  });
  assertEquals(run("http://a/metrics", time)[1].usageId, usageId);
  const others = [run("http://b/metrics", time)[1], run("http://a/metrics", time + 1)[1]];
  assertEquals(new Set([usageId, ...others.map(({ usageId }) => usageId)]).size, 3);
});

Deno.test("METRIC_FIELDS name fields that exist", () => {
  for (const { dataset, field } of METRIC_FIELDS) assert(DATASETS[dataset].positions.has(field), field);
});
