import { gzipSync } from "node:zlib";
import snappy from "snappyjs";
import { OPEN_ACCESS } from "../../src/server/access.ts";
import { createApp } from "../../src/server/app.ts";
import { openResources } from "../../src/server/resources.ts";
import { assert, assertEquals } from "../assert.ts";
import { chat, hostMetrics, PROTOBUF, series } from "../intake_requests.ts";
import { writeOtlp } from "../otlp_writer.ts";
import { writeRemote } from "../remote_writer.ts";
import type { Chance } from "./chance.ts";

/** The most that the heap may grow by: bodies are a thousandth of it. */
const MAX_GROWTH = 200 * 2 ** 20;

const OTLP = { "content-type": PROTOBUF };
const METRICS = writeOtlp("metrics", hostMetrics({ "hw.host.power": 1, "my.metric": 2 }));
const SERIES = [series("node_hwmon_temp_celsius", 50), series("x", 1)];
const WRITE = { "content-encoding": "snappy" };

/** Good requests of each form. */
const FORMS: readonly (readonly [path: string, body: Uint8Array, headers: Record<string, string>])[] = [
  ["/v1/metrics", METRICS, OTLP],
  ["/v1/metrics", gzipSync(METRICS), { ...OTLP, "content-encoding": "gzip" }],
  ["/v1/traces", writeOtlp("traces", chat(5)), OTLP],
  ["/v1/traces", new TextEncoder().encode(JSON.stringify(chat(5))), { "content-type": "application/json" }],
  ["/api/v1/write", snappy.compress(writeRemote(1, SERIES)), { ...OTLP, ...WRITE }],
  ["/api/v1/write", snappy.compress(writeRemote(2, SERIES)), {
    "content-type": `${PROTOBUF};proto=io.prometheus.write.v2.Request`,
    ...WRITE,
  }],
];

/** Sends requests with changed, lost, doubled and cut bytes: each is answered with 2xx or 4xx, in bounded memory. */
export async function fuzzIntake(chance: Chance, { rounds }: { rounds: number }): Promise<void> {
  const resources = await openResources({});
  const app = createApp(resources, { access: OPEN_ACCESS });
  const send = (path: string, body: Uint8Array, headers: Record<string, string>) =>
    app.fetch(new Request(`http://server${path}`, { method: "POST", headers, body: body as BodyInit }));
  const before = Deno.memoryUsage().rss;
  const refused = new Map<string, number>();
  for (let round = 0; round < rounds; round++) {
    const [path, body, headers] = chance.of(FORMS);
    const { status, body: answer } = await send(path, mutated(body, chance), headers);
    await answer?.cancel(); // else it holds one of the places of requests
    const isExpected = [200, 204, 400, 413].includes(status);
    assert(isExpected, `seed ${chance.seed}, round ${round}: ${path} answered ${status}`);
    if (status === 400) refused.set(path, (refused.get(path) ?? 0) + 1);
  }
  assertEquals(refused.size, 3, "each path refuses something");
  for (const form of FORMS) assert((await send(...form)).ok, form[0]);
  const growth = Deno.memoryUsage().rss - before;
  assert(growth < MAX_GROWTH, `memory grew by ${growth} bytes`);
  await resources.close({ deadlineMs: 1_000 });
}

function mutated(body: Uint8Array, chance: Chance): Uint8Array {
  const bytes = [...body];
  for (let i = chance.between(0, 5); i >= 0; i--) {
    const at = chance.between(0, bytes.length);
    const value = chance.of([0, 1, 0x7f, 0x80, 0xff, chance.between(0, 256)]);
    const change = chance.between(0, 10);
    if (change < 6) bytes[at] = value;
    else if (change < 7) bytes.splice(at, 1);
    else if (change < 8) bytes.splice(at, 0, value);
    else if (change < 9) bytes.splice(at, 0, ...bytes.slice(at, at + 20));
    else bytes.length = Math.max(1, at);
  }
  return Uint8Array.from(bytes);
}
