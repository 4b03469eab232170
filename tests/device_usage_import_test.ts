import { CostObservatory, importRecords, ObservabilityHub, openBackend } from "../mod.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import type { Dataset, DatasetName } from "../src/records/dataset.ts";
import { DATASETS } from "../src/records/datasets.ts";
import type { ImportOptions } from "../src/transfer/import_options.ts";
import { PRESETS } from "../src/transfer/presets/presets.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { read } from "./backend_contract.ts";
import { openfinops } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";

const CASES = new URL("cases/gpu/", import.meta.url).pathname;

/** Imports the three files of the cases, each twice, and compares with what they hold. */
Deno.test("database import detects the formats of usage by their columns", async () => {
  const bucket = (result: object) => ({
    object: "page",
    data: [{ start_time: 1_767_225_600, results: [result] }],
  });
  const span = { traceId: "t", spanId: "s", startTimeUnixNano: "1767225600000000000", attributes: [] };
  const files: [DatasetName, BlobPart, string | undefined][] = [
    ["usage_records", Deno.readFileSync(`${CASES}/litellm-spend.csv`), "LiteLLM"],
    [
      "usage_records",
      JSON.stringify(bucket({ num_model_requests: 1, input_tokens: 5 })),
      "OpenAI organization usage",
    ],
    [
      "usage_records",
      JSON.stringify({ data: [{ starting_at: "2026-01-01", results: [{ uncached_input_tokens: 5 }] }] }),
      "Anthropic messages usage",
    ],
    [
      "usage_records",
      JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [span] }] }] }),
      "OpenTelemetry GenAI",
    ],
    ["usage_records", '{"usageId":"u","timestamp":"2026-01-01","inputTokens":5}', undefined],
    ["device_metrics", Deno.readFileSync(`${CASES}/nvidia-smi.csv`), "nvidia-smi"],
    [
      "device_metrics",
      "timestamp, pci.bus_id, memory.used [MiB]\n2026/01/15 10:30:00.123, 00000000:01:00.0, 5\n",
      "nvidia-smi",
    ],
    [
      "device_metrics",
      "timestamp,clusterId,nodeId,deviceId,utilization,temperature\n2026-01-01,c,n,g,9,64\n",
      undefined,
    ],
    ["device_metrics", "timestamp,deviceId,power,memory\n2026-01-01,g,9,64\n", undefined],
  ];
  for (const [dataset, file, title] of files) {
    const backend = new MemoryBackend({ maxMemoryEntries: 100, onConflict: "ignore" });
    const notes: string[] = [];
    const set = dataset === "device_metrics" ? { clusterId: "c", nodeId: "n", deviceId: "g" } : undefined;
    const { rejected } = await importRecords(new Blob([file]).stream(), {
      backend,
      dataset,
      set,
      onNote: (note) => notes.push(note),
      onReject: ({ reason }) => notes.push(reason),
    });
    assertEquals(rejected, 0, notes.join());
    const detected = notes.filter((note) => note.includes("detected from the columns"));
    assertEquals(detected.length, title === undefined ? 0 : 1);
    if (title !== undefined) assertMatch(detected[0], new RegExp(title));
  }
});

async function importCases(connectionString: string): Promise<void> {
  const env = { OPENFINOPS_CONNECTION_STRING: connectionString, NO_COLOR: "1" };
  const set = ["clusterId=c", "nodeId=n", "deviceId=gpu-0"].flatMap((pair) => ["--set", pair]);
  for (
    const [args, count, note] of [
      [["devices", "nvidia-smi.csv", "--format", "nvidia-smi", ...set], 2, /^$/],
      [["devices", "dcgm.prom", "--format", "prometheus", "--at", "2026-11-01T00:00:00Z"], 2, /^$/],
      [
        ["usage", "litellm-spend.csv", "--format", "litellm"],
        3,
        /: no field of usage_records takes endTime\. .*\n$/,
      ],
    ] as const
  ) {
    for (const [stored, known] of [[count, 0], [0, count]]) {
      const { code, out, err } = await openfinops(["database", "import", ...args], { cwd: CASES, env });
      assertEquals(code, 0, err);
      assertMatch(err, note);
      assertMatch(out, new RegExp(`\\n +${stored} +0 +${known} +0 +0 +0\\n`));
    }
  }
  const config = { connectionString };
  await using hub = await ObservabilityHub.open(config);
  const smi = await hub.deviceMetrics.query({ deviceId: "gpu-0", order: "asc" });
  const sample = {
    clusterId: "c",
    nodeId: "n",
    deviceId: "gpu-0",
    vendor: "nvidia",
    model: "NVIDIA H100",
    memoryUsed: 71_234 * 1_048_576,
    temperature: 64,
  };
  assertEquals(smi, [
    {
      timestamp: Date.UTC(2026, 0, 15, 10, 30, 0, 123),
      ...sample,
      utilization: 97,
      powerConsumption: 512.33,
    },
    { timestamp: Date.UTC(2026, 0, 15, 10, 30, 1, 123), ...sample },
  ]);
  const dcgm = await hub.deviceMetrics.query({ nodeId: "node-1" });
  assertEquals(
    dcgm.sort((a, b) => a.deviceIndex! - b.deviceIndex!).map((device) => [
      device.timestamp,
      device.clusterId,
      device.deviceId,
      device.model,
      device.utilization,
      device.powerConsumption,
    ]),
    [
      [Date.UTC(2026, 10, 1), "default", "GPU-1", "NVIDIA L4", 42, 16.365],
      [Date.UTC(2026, 10, 1), "default", "GPU-2", "NVIDIA L4", 87, undefined],
    ],
  );
  await using costs = await CostObservatory.open(config);
  const usage = (await costs.usage.query()).sort((a, b) => a.usageId < b.usageId ? -1 : 1);
  const tokens = { operation: "chat", requests: 1, quantity: "20", unit: "tokens", currency: "USD" };
  assertEquals(usage.map(({ timestamp: _, ...rest }) => rest), [
    {
      usageId: "r1",
      model: "gpt-4o-mini",
      ...tokens,
      cost: "0.0000105",
      tags: { alias: "team-a", request_tags: "prod", user: "u1" },
    },
    { usageId: "r2", model: "gpt-4o-mini", ...tokens, cost: "0" },
    { usageId: "r3", ...tokens, cost: "0.002", tags: { user: "u1" } },
  ]);
}

Deno.test("openfinops database import reads devices and usage into SQLite, once", async () => {
  using folder = new TemporaryFolder();
  await importCases(folder.sqlite());
});

Deno.test("openfinops database import reads devices and usage into PostgreSQL, once", async () => {
  await using database = await TestDatabase.create();
  await importCases(database.url);
});

/** Imports a text into memory; returns the records in the order of time, and the notes. */
async function imported(
  text: string,
  options: Pick<ImportOptions, "dataset" | "format" | "at" | "set" | "timeZone">,
): Promise<{ records: Record<string, unknown>[]; notes: string[]; skipped: number; rejects: string[] }> {
  const backend = await openBackend({ connectionString: "sqlite://" });
  const [notes, rejects]: string[][] = [[], []];
  const report = await importRecords(new Blob([text]).stream(), {
    backend,
    ...options,
    onNote: (note) => notes.push(note),
    onReject: ({ line, reason }) => rejects.push(`${line}: ${reason}`),
  });
  const dataset: Dataset<unknown> = DATASETS[options.dataset];
  const found = await read(backend, dataset) as Record<string, unknown>[];
  const records = found.sort((a, b) => Number(a.timestamp) - Number(b.timestamp));
  await backend.close();
  return { records, notes, skipped: report.skipped ?? 0, rejects };
}

const USAGE = "usage_records";
const fieldsOf = (records: readonly Record<string, unknown>[], ...fields: string[]) =>
  records.map((record) => fields.map((field) => record[field]));

Deno.test("nvidia-smi logs name their devices, and say which are slowed down", async () => {
  const { records } = await imported(
    `timestamp, index, uuid, name, clocks_event_reasons.active, memory.total [MiB], clocks.current.sm [MHz]
2026/01/15 10:30:00.123, 0, GPU-a, NVIDIA H100, 0x0000000000000000, 81559 MiB, 1980 MHz
2026/01/15 10:30:00.124, 1, GPU-b, NVIDIA H100, 0x0000000000000004, 81559, 1200
2026/01/15 10:30:00.125, 2, GPU-c, [N/A], 0x0000000000000001, [Insufficient Permissions], N/A
2026/01/15 10:30:00.126, 3, GPU-d, NVIDIA H100, 0x0000000000000040, [Unknown Error], 0
`,
    { dataset: "device_metrics", format: "nvidia-smi", timeZone: "Europe/Berlin" },
  );
  assertEquals(fieldsOf(records, "deviceIndex", "deviceId", "model", "throttled", "memoryTotal", "clockSm"), [
    [0, "GPU-a", "NVIDIA H100", false, 85_520_809_984, 1_980],
    [1, "GPU-b", "NVIDIA H100", true, 85_520_809_984, 1_200],
    [2, "GPU-c", undefined, false, undefined, undefined],
    [3, "GPU-d", "NVIDIA H100", true, undefined, 0],
  ]);
  assertEquals(records[0].timestamp, Date.UTC(2026, 0, 15, 9, 30, 0, 123));
});

Deno.test("Throttle reasons of nvidia-smi agree with their bits", async () => {
  const reasons = Array.from({ length: 512 }, (_, bits) => bits);
  const lines = reasons.map((bits) =>
    `2026/01/15 10:00:00.${String(bits).padStart(3, "0")}, GPU-a, 0x${bits.toString(16).padStart(16, "0")}`
  );
  const { records } = await imported(
    ["timestamp, uuid, clocks_throttle_reasons.active", ...lines].join("\n"),
    { dataset: "device_metrics", format: "nvidia-smi" },
  );
  assertEquals(records.map(({ throttled }) => throttled), reasons.map((bits) => (bits & 0xec) !== 0));
});

Deno.test("Prometheus files say what becomes no record", async () => {
  const text = `node_cpu_seconds_total{cpu="0",mode="idle"} 100
node_memory_MemAvailable_bytes 25
node_memory_MemTotal_bytes 100
up{job="a"} 1
up{job="b"} 1
no sample at all
`;
  const at = Date.UTC(2026, 10, 1);
  const { records, notes, rejects } = await imported(text, {
    dataset: "system_metrics",
    format: "prometheus",
    at,
    set: { nodeId: "n1" },
  });
  assertEquals(fieldsOf(records, "timestamp", "clusterId", "nodeId", "memoryUsage", "cpuUsage"), [
    [at, "default", "n1", 75, undefined],
  ]);
  assertEquals(notes, [
    "no field of system_metrics takes up (2)",
    "left out are counters, which need two scrapes: node_cpu_seconds_total (1)",
  ]);
  assertEquals(rejects, ['6: The line is no sample: expected `name{label="value"} number`.']);
});

Deno.test("Prometheus files with several scrapes give usage by their counters", async () => {
  const scrape = (time: number, tokens: number) =>
    `vllm:prompt_tokens_total{model_name="llama"} ${tokens} ${time}\n`;
  const text = `${scrape(1_764_547_260, 170)}${scrape(1_764_547_200, 100)}${
    scrape(1_764_547_320, 30)
  }# EOF\n`;
  const { records, notes } = await imported(text, { dataset: USAGE, format: "prometheus" });
  // From 100 to 170, and from a restart to 30.
  assertEquals(fieldsOf(records, "timestamp", "model", "inputTokens"), [
    [1_764_547_260_000, "llama", 70],
    [1_764_547_320_000, "llama", 30],
  ]);
  assertEquals(notes, []);
  const idsOf = async (set?: Record<string, string>) =>
    (await imported(text, { dataset: USAGE, format: "prometheus", set })).records.map(({ usageId }) =>
      usageId
    );
  const [a, b] = [await idsOf({ serviceName: "a" }), await idsOf({ serviceName: "b" })];
  assertEquals(a, await idsOf({ serviceName: "a" }));
  assertEquals(new Set([...a, ...b, ...await idsOf()]).size, 6);
});

Deno.test("Prometheus files over 64 MiB are refused", async () => {
  const line = new TextEncoder().encode(`# ${"x".repeat(2 ** 20)}\n`);
  const bytes = ReadableStream.from((function* () {
    for (let i = 0; i < 65; i++) yield line;
  })());
  const backend = await openBackend({ connectionString: "sqlite://" });
  await assertRejects(
    () => importRecords(bytes, { backend, dataset: "device_metrics", format: "prometheus" }),
    Error,
    "more than 64 MiB of samples",
  );
  await backend.close();
});

Deno.test("LiteLLM spend logs give the parts of tokens where they have them, none for its own cache", async () => {
  const row = { call_type: "aembedding", startTime: "2026-01-01T10:00:00Z", model: "m", spend: 0 };
  const usage_object = { prompt_tokens_details: { cached_tokens: 8 } };
  const tokens = { prompt_tokens: 15, completion_tokens: 5, total_tokens: 20 };
  const page = {
    data: [
      { ...row, request_id: "a", ...tokens, request_tags: ["x", "y"], metadata: { usage_object } },
      { ...row, request_id: "b", ...tokens, cache_hit: "True", metadata: "{}" },
      { ...row, request_id: "c", total_tokens: 20, request_tags: "[broken", cache_hit: "None" },
    ],
  };
  const { records } = await imported(JSON.stringify(page), { dataset: USAGE, format: "litellm" });
  assertEquals(
    fieldsOf(
      records,
      "usageId",
      "operation",
      "inputTokens",
      "outputTokens",
      "cacheReadTokens",
      "quantity",
      "unit",
    ),
    [
      ["a", "embeddings", 15, 5, 8, undefined, undefined],
      ["b", "embeddings", undefined, undefined, undefined, undefined, undefined],
      ["c", "embeddings", undefined, undefined, undefined, "20", "tokens"],
    ],
  );
  assertEquals(records.map(({ tags }) => tags), [{ request_tags: "x,y" }, { cache_hit: "true" }, {
    request_tags: "[broken",
  }]);
});

Deno.test("OpenAI usage pages give a record for each result, with the same id each time", async () => {
  const result = {
    object: "organization.usage.completions.result",
    input_tokens: 1_000,
    output_tokens: 500,
    input_cached_tokens: 800,
    num_model_requests: 5,
    project_id: "p1",
    user_id: null,
    api_key_id: null,
    model: "gpt-5",
    batch: false,
  };
  const image = {
    object: "organization.usage.images.result",
    images: 3,
    num_model_requests: 2,
    model: "gpt-image-1",
  };
  const bucket = { object: "bucket", start_time: 1_730_419_200, end_time: 1_730_505_600 };
  const page = {
    object: "page",
    data: [{ ...bucket, results: [result, { ...result, project_id: "p2", batch: true }, image] }, {
      ...bucket,
      results: [],
    }],
  };
  const read = () => imported(JSON.stringify(page), { dataset: USAGE, format: "openai-usage" });
  const [{ records, skipped }, again] = [await read(), await read()];
  assertEquals([skipped, records], [1, again.records]);
  assertEquals(new Set(records.map(({ usageId }) => usageId)).size, 3);
  const byProject = new Map(records.map(({ usageId: _, ...record }) => [
    (record.tags as Record<string, string> | undefined)?.project,
    record,
  ]));
  const chat = {
    timestamp: Date.UTC(2024, 10, 1),
    provider: "openai",
    model: "gpt-5",
    operation: "chat",
    requests: 5,
    inputTokens: 1_000,
    outputTokens: 500,
    cacheReadTokens: 800,
  };
  assertEquals(byProject.get("p1"), { ...chat, tags: { project: "p1" } });
  assertEquals(byProject.get("p2"), { ...chat, tags: { batch: "true", project: "p2" } });
  assertEquals(byProject.get(undefined), {
    timestamp: Date.UTC(2024, 10, 1),
    provider: "openai",
    model: "gpt-image-1",
    operation: "images",
    requests: 2,
    quantity: "3",
    unit: "images",
  });
});

Deno.test("Anthropic usage reports count the cache as part of the input", async () => {
  const page = {
    data: [{
      starting_at: "2025-08-01T00:00:00Z",
      ending_at: "2025-08-02T00:00:00Z",
      results: [{
        uncached_input_tokens: 1_500,
        cache_creation: { ephemeral_1h_input_tokens: 1_000, ephemeral_5m_input_tokens: 500 },
        cache_read_input_tokens: 200,
        output_tokens: 500,
        server_tool_use: { web_search_requests: 10 },
        api_key_id: null,
        workspace_id: "w",
        model: "claude-opus-4",
        service_tier: "standard",
        context_window: "0-200k",
      }],
    }],
    has_more: false,
  };
  const { records: [{ usageId: _, ...record }] } = await imported(JSON.stringify(page), {
    dataset: USAGE,
    format: "anthropic-usage",
  });
  assertEquals(record, {
    timestamp: Date.UTC(2025, 7, 1),
    provider: "anthropic",
    model: "claude-opus-4",
    operation: "chat",
    inputTokens: 3_200, // 1,500 + 200 + 1,000 + 500
    outputTokens: 500,
    cacheReadTokens: 200,
    cacheWriteTokens: 1_500,
    quantity: "10",
    unit: "web_searches",
    tags: { context_window: "0-200k", service_tier: "standard", workspace: "w" },
  });
});

const attribute = ([key, value]: [string, string | number]) => ({
  key,
  value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value },
});

Deno.test("GenAI spans of OTLP become usage; agents and other spans do not", async () => {
  const span = (spanId: string, attributes: Record<string, string | number>) => ({
    spanId,
    startTimeUnixNano: "1764547200000000000",
    endTimeUnixNano: "1764547201500000000",
    attributes: Object.entries(attributes).map(attribute),
  });
  const tokens = { "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 30 };
  const spans = [
    span("s1", {
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "openai",
      "gen_ai.request.model": "gpt-5",
      "gen_ai.response.model": "gpt-5-2025-08-07",
      "gen_ai.usage.cache_read.input_tokens": 100,
      "gen_ai.usage.cache_creation.input_tokens": 4,
      "gen_ai.usage.reasoning.output_tokens": 12,
      ...tokens,
    }),
    span("s0", { "gen_ai.operation.name": "invoke_agent", ...tokens }),
    span("s2", { "http.request.method": "GET" }),
  ];
  const attributes = [attribute(["service.name", "chatbot"])];
  const text = JSON.stringify({ resourceSpans: [{ resource: { attributes }, scopeSpans: [{ spans }] }] });
  const { records, skipped } = await imported(text, { dataset: USAGE, format: "otel-genai" });
  assertEquals(skipped, 2);
  assertEquals(records, [{
    usageId: "s1",
    timestamp: Date.UTC(2025, 11, 1),
    provider: "openai",
    model: "gpt-5-2025-08-07",
    operation: "chat",
    serviceName: "chatbot",
    requests: 1,
    inputTokens: 120,
    outputTokens: 30,
    cacheReadTokens: 100,
    cacheWriteTokens: 4,
    reasoningTokens: 12,
    durationMs: 1_500,
  }]);
});

Deno.test("GenAI attributes with earlier names, flat or in a span, become usage", async () => {
  const flat = {
    timestamp: "2025-12-01T00:00:05Z",
    "gen_ai.system": "anthropic",
    "gen_ai.request.model": "claude",
    "gen_ai.usage.prompt_tokens": 50,
    "gen_ai.usage.completion_tokens": 7,
    "gen_ai.usage.cache_read_input_tokens": 20,
    "user.id": "u1",
  };
  const span = {
    start_time: "2025-12-01T00:00:06.5Z",
    context: { span_id: "0xabc" },
    attributes: { "gen_ai.system": "openai", "gen_ai.usage.input_tokens": 5 },
  };
  const text = [flat, span].map((row) => `${JSON.stringify(row)}\n`).join("");
  const read = () => imported(text, { dataset: USAGE, format: "otel-genai" });
  const [{ records }, again] = [await read(), await read()];
  assertEquals(records, again.records);
  assertEquals(
    fieldsOf(records, "provider", "model", "inputTokens", "outputTokens", "cacheReadTokens", "tags"),
    [["anthropic", "claude", 50, 7, 20, { user: "u1" }], [
      "openai",
      undefined,
      5,
      undefined,
      undefined,
      undefined,
    ]],
  );
  assertMatch(String(records[0].usageId), /^[0-9a-f]{32}$/);
  assertEquals(records[1].usageId, "0xabc");
});

Deno.test("A format is refused for a dataset that it has no records of", async () => {
  const others: [string, DatasetName][] = [
    ...PRESETS.map(({ name, dataset = "cost_entries" }) =>
      [
        name,
        dataset === "device_metrics" ? USAGE : "device_metrics",
      ] as [string, DatasetName]
    ),
    ["prometheus", "cost_entries"],
  ];
  for (const [format, dataset] of others) {
    const reading = imported("timestamp\n", { dataset, format: format as ImportOptions["format"] });
    await assertRejects(() => reading, Error, `from ${format}, which is for`);
  }
  assert(others.length > 10);
});
