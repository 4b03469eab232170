import { generate } from "selfsigned";
import { BackendError, type CloseReport, ObservabilityHub, type TelemetryEvent } from "../mod.ts";
import { RemoteBackend, type RemoteOptions } from "../src/backends/remote.ts";
import { REMOTE_FAILURES } from "../src/backends/remote/failures.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { openServer } from "./server.ts";
import { FULL_SYSTEM_METRICS, NEW_YEAR, TemporaryFolder } from "./fixtures.ts";

/** A request as it arrived. */
interface Request {
  readonly path: string;
  readonly headers: Headers;
  readonly records: { nodeId?: string }[];
}

/** Answers requests as it is told to; `undefined` cuts the connection. */
class ScriptedServer implements AsyncDisposable {
  readonly requests: Request[] = [];
  answer: (request: Request) => Response | undefined = accept;
  readonly #server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
    return this.#take(request);
  });

  /** Backend that sends to it. */
  backend(options: Partial<RemoteOptions> = {}): RemoteBackend {
    return new RemoteBackend({ url: new URL(`http://127.0.0.1:${this.#server.addr.port}/`), ...options });
  }

  async #take(request: globalThis.Request): Promise<Response> {
    const lines = await new Response(request.body?.pipeThrough(new DecompressionStream("gzip"))).text();
    const records = lines.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
    const received = { path: new URL(request.url).pathname, headers: request.headers, records };
    this.requests.push(received);
    return this.answer(received) ?? new Response(new ReadableStream({ start: (body) => body.error() }));
  }

  /** Ids of the nodes in each request. */
  get nodes(): string[] {
    return this.requests.map(({ records }) => records.map(({ nodeId }) => nodeId).join());
  }

  get keys(): (string | null)[] {
    return this.requests.map(({ headers }) => headers.get("idempotency-key"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** Stores all records of a request. */
function accept({ records }: Pick<Request, "records">): Response {
  return Response.json({ accepted: records.length, refused: 0 });
}

/** Error in the form of the server. */
function refusal(status: number, headers: Record<string, string> = {}, details: object = {}): Response {
  return Response.json({ error: { code: "X", message: "in words", ...details } }, { status, headers });
}

/** Refuses records of nodes whose name begins with `bad` as the server does: it stores the others, and names the first. */
function refuseBad({ records }: Request): Response {
  const errors = records.flatMap(({ nodeId }, index) =>
    nodeId!.startsWith("bad")
      ? [{ line: index + 1, index, field: "nodeId", code: "X", message: "no such" }]
      : []
  );
  if (errors.length === 0) return accept({ records });
  const counts = { accepted: records.length - errors.length, refused: errors.length };
  return Response.json({ ...counts, errors: errors.slice(0, MAX_ERRORS), error: { code: "X" } }, {
    status: 422,
  });
}

/** Refused records that an answer names. */
const MAX_ERRORS = 2;

/** Adds a record for each node to a hub over a backend, flushes or closes, and gives what happened. */
async function send(
  backend: RemoteBackend,
  nodes: readonly string[],
  { deadLetterDirectory, deadlineMs, during = (hub) => hub.flush() }: {
    deadLetterDirectory?: string;
    deadlineMs?: number;
    during?: (hub: ObservabilityHub) => Promise<void>;
  } = {},
): Promise<CloseReport & { events: TelemetryEvent[]; isConserved: boolean }> {
  const events: TelemetryEvent[] = [];
  const hub = await ObservabilityHub.open({
    backend,
    batchIntervalSeconds: 60,
    deadLetterDirectory,
    onEvent: (event) => events.push(event),
  });
  for (const nodeId of nodes) await hub.systemMetrics.add({ timestamp: NEW_YEAR, nodeId });
  await during(hub);
  const report = await hub.close({ deadlineMs });
  const stats = hub.stats().datasets.system_metrics!;
  await backend.close();
  const settled = stats.committed + stats.duplicates + stats.deadLettered + stats.dropped;
  return { ...report, events, isConserved: stats.accepted === settled + stats.buffered + stats.inFlight };
}

Deno.test("RemoteBackend posts a batch as gzipped NDJSON under its id with the token", async () => {
  await using server = new ScriptedServer();
  const backend = server.backend({ token: () => "secret" });
  const batch = { id: "b1", dataset: systemMetrics, records: [FULL_SYSTEM_METRICS] };
  backend.prepare(batch as never);
  const result = await backend.write(batch as never);
  assertEquals(result, { committed: 1, duplicates: 0, restated: 0 });
  const [{ path, headers, records }] = server.requests;
  assertEquals(path, "/api/v1/system-metrics");
  assertEquals(records as unknown, [FULL_SYSTEM_METRICS]);
  assertEquals(
    ["idempotency-key", "authorization", "content-encoding", "content-type"].map((name) => headers.get(name)),
    ["b1", "Bearer secret", "gzip", "application/x-ndjson"],
  );
  await backend.close();
  const error = await assertRejects(() => backend.write(batch as never), BackendError) as BackendError;
  assertEquals(error.code, "CLOSED");
});

Deno.test("RemoteBackend sends a batch again under its id when the answer is lost", async () => {
  await using server = new ScriptedServer();
  let count = 0;
  server.answer = (request) => {
    if (++count === 1) return undefined;
    return count === 2 ? refusal(500) : accept(request);
  };
  const { committed, lost, isConserved } = await send(server.backend(), ["a", "b"]);
  assertEquals([committed, lost, isConserved], [2, 0, true]);
  assertEquals(server.nodes, ["a,b", "a,b", "a,b"]);
  assertEquals(new Set(server.keys).size, 1);
});

Deno.test("RemoteBackend waits as long as Retry-After says, for all datasets", async () => {
  await using server = new ScriptedServer();
  const at: number[] = [];
  server.answer = (request) => {
    at.push(performance.now());
    return at.length === 1 ? refusal(429, { "retry-after": "1" }) : accept(request);
  };
  const { committed } = await send(server.backend(), ["a"]);
  assertEquals(committed, 1);
  assert(at[1] - at[0] >= 990, String(at[1] - at[0]));
});

Deno.test("RemoteBackend ends the wait for a server when it is closed", async () => {
  await using server = new ScriptedServer();
  const first = Promise.withResolvers<void>();
  server.answer = () => {
    first.resolve();
    return refusal(503, { "retry-after": "3600" });
  };
  const { lost } = await send(server.backend(), ["a"], {
    deadlineMs: 0,
    during: async (hub) => {
      hub.flush().catch(() => {});
      await first.promise;
    },
  });
  assertEquals(lost, 1); // there is no spool
});

Deno.test("RemoteBackend makes records that the server refuses dead letters, and keeps the others", async () => {
  using folder = new TemporaryFolder();
  await using server = new ScriptedServer();
  server.answer = refuseBad;
  const deadLetterDirectory = folder.file("letters");
  const nodes = ["a", "bad1", "b", "bad2"];
  const { committed, deadLettered, isConserved, events } = await send(server.backend(), nodes, {
    deadLetterDirectory,
  });
  assertEquals([committed, deadLettered, isConserved], [2, 2, true]);
  assertEquals(server.nodes, ["a,bad1,b,bad2"]);
  const letters = Deno.readTextFileSync(`${deadLetterDirectory}/system_metrics.ndjson`).trim().split("\n")
    .map((line) => JSON.parse(line));
  assertEquals(letters.map(({ record }) => record.nodeId), ["bad1", "bad2"]);
  assertEquals(new Set(letters.map(({ batchId }) => batchId)).size, 2);
  assertMatch(letters[0].message, /refused the record: no such/);
  assertEquals(events.map(({ type }) => type), ["dead-lettered", "dead-lettered"]);
});

Deno.test("RemoteBackend splits a batch of which all records are refused until each is named", async () => {
  await using server = new ScriptedServer();
  server.answer = refuseBad;
  const nodes = ["bad1", "bad2", "bad3", "bad4", "bad5"];
  const { committed, lost, isConserved, events } = await send(server.backend(), nodes);
  assertEquals([committed, lost, isConserved], [0, 5, true]); // there is no folder for them
  assertEquals(events.filter(({ type }) => type === "dead-lettered").length, 5);
});

Deno.test("RemoteBackend does not split a batch of which some records were stored", async () => {
  await using server = new ScriptedServer();
  server.answer = refuseBad;
  const { lost, events } = await send(server.backend(), ["a", "bad1", "bad2", "bad3"], {
    deadlineMs: 0,
    during: async (hub) => void await assertRejects(() => hub.flush(), BackendError),
  });
  assertEquals([lost, new Set(server.nodes)], [4, new Set(["a,bad1,bad2,bad3"])]);
  assertEquals(events.map(({ type }) => type), ["paused"]);
});

Deno.test("RemoteBackend keeps records when an answer of 422 does not name the refused", async () => {
  await using server = new ScriptedServer();
  server.answer = (request) => server.requests.length < 3 ? refusal(422) : accept(request);
  const { committed, events } = await send(server.backend(), ["a", "b"], {
    during: async (hub) => void await assertRejects(() => hub.flush(), BackendError),
  });
  assertEquals(committed, 2);
  assertEquals(events.map(({ type }) => type), ["paused", "resumed"]);
});

Deno.test("RemoteBackend keeps records when something else answers 2xx", async () => {
  const html = (status = 200) =>
    new Response("<html>Sign in", { status, headers: { "content-type": "text/html" } });
  const cases: [answer: () => Response, message: RegExp][] = [
    [
      html,
      /not that of an OpenFinOps server \(status 200, text\/html\)\. Check the URL\. A proxy, .*captive/,
    ],
    [() => html(202), /status 202, text\/html/],
    [() => new Response(null, { status: 204 }), /status 204, no content type/],
    [() => Response.json({}), /status 200, application\/json/],
    [() => Response.json([2]), /status 200, application\/json/],
    [() => Response.json({ accepted: "2" }), /not about 2 stored records/],
    [() => Response.json({ accepted: 1 }), /not about 2 stored records/],
    [() => Response.json({ accepted: 2, refused: 1 }), /not about 2 stored records/],
    [
      () =>
        Response.json({ accepted: 2, refused: 1, errors: [{ index: 0, message: "no" }] }, { status: 422 }),
      /does not name the refused/,
    ],
  ];
  for (const [answer, message] of cases) {
    await using server = new ScriptedServer();
    let isAway = true;
    server.answer = (request) => isAway ? answer() : accept(request);
    const { committed, events } = await send(server.backend(), ["a", "b"], {
      async during(hub) {
        const error = await assertRejects(() => hub.flush(), BackendError) as BackendError;
        assertEquals([error.code, error.kind], ["SERVER_UNSUPPORTED", "operator"], error.message);
        assertMatch(error.message, message);
        isAway = false;
        await hub.flush();
      },
    });
    assertEquals([committed, events.map(({ type }) => type)], [2, ["paused", "resumed"]]);
    assertEquals([new Set(server.nodes), new Set(server.keys).size], [new Set(["a,b"]), 1]);
  }
});

Deno.test("RemoteBackend does not split a batch after an answer of something else", async () => {
  await using server = new ScriptedServer();
  const answers = [() => Response.json({}), () => refusal(413), () => refusal(413)];
  server.answer = (request) => answers.shift()?.() ?? accept(request);
  const { committed } = await send(server.backend(), ["a", "b"], {
    during: async (hub) => void await assertRejects(() => hub.flush(), BackendError),
  });
  assertEquals([committed, new Set(server.nodes), new Set(server.keys).size], [2, new Set(["a,b"]), 1]);
});

Deno.test("RemoteBackend is not ready where something else answers", async () => {
  await using server = new ScriptedServer();
  server.answer = () => new Response("<html>", { headers: { "content-type": "text/html" } });
  const backend = server.backend();
  await assertRejects(() => backend.probe(), BackendError, "not that of an OpenFinOps server");
  server.answer = () => Response.json({ status: "ready" });
  assertEquals((await backend.probe()).writable, true);
  await backend.close();
});

Deno.test("RemoteBackend raises an alarm for a refused token, and goes on with a renewed one", async () => {
  await using server = new ScriptedServer();
  server.answer = (request) =>
    request.headers.get("authorization") === "Bearer new" ? accept(request) : refusal(401);
  let token = "old";
  const { committed, events } = await send(server.backend({ token: () => token }), ["a"], {
    during: async (hub) => {
      const error = await assertRejects(() => hub.flush(), BackendError) as BackendError;
      assertEquals([error.code, error.kind], ["TOKEN_REFUSED", "operator"]);
      assert(!error.message.includes("old"), error.message);
      token = "new";
      await hub.flush();
    },
  });
  assertEquals(committed, 1);
  assertEquals(events.map(({ type }) => type), ["paused", "resumed"]);
});

Deno.test("RemoteBackend splits what is too large for the server, and stores each record once", async () => {
  await using server = new ScriptedServer();
  const stored: string[] = [];
  server.answer = ({ records }) => {
    const isTooLarge = records.length > 2 || records.some(({ nodeId }) => nodeId === "huge");
    if (isTooLarge) return refusal(413);
    stored.push(...records.map(({ nodeId }) => nodeId!));
    return accept({ records });
  };
  const nodes = ["a", "b", "c", "huge", "d", "e"];
  const { committed, lost, isConserved } = await send(server.backend(), nodes);
  assertEquals([committed, lost, isConserved], [5, 1, true]);
  assertEquals(stored.sort(), ["a", "b", "c", "d", "e"]);
  assertEquals(new Set(server.keys).size, server.keys.length);
});

Deno.test("RemoteBackend does not split a batch that may be stored already", async () => {
  await using server = new ScriptedServer();
  server.answer = (request) => {
    const { length } = server.requests;
    if (length === 1) return undefined; // stored, for all that is known
    return length < 4 ? refusal(413) : accept(request);
  };
  const { committed } = await send(server.backend(), ["a", "b"], {
    during: async (hub) => void await assertRejects(() => hub.flush(), BackendError),
  });
  assertEquals(committed, 2);
  assertEquals([new Set(server.nodes), new Set(server.keys).size], [new Set(["a,b"]), 1]);
});

Deno.test("RemoteBackend does not follow a redirect with its token", async () => {
  await using other = new ScriptedServer();
  await using server = new ScriptedServer();
  server.answer = () =>
    new Response(null, { status: 307, headers: { location: `${other.backend().location}/` } });
  const backend = server.backend({ token: () => "secret" });
  const batch = { id: "b1", dataset: systemMetrics, records: [{ timestamp: 1 }] };
  const error = await assertRejects(() => backend.write(batch as never), BackendError) as BackendError;
  assertEquals([error.kind, other.requests.length], ["operator", 0]);
  await backend.close();
});

Deno.test("RemoteBackend names each failure of the network", async () => {
  const closed = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = closed.addr;
  closed.close();
  const cases: [url: string, code: string, kind: string][] = [
    [`http://127.0.0.1:${port}`, "CONNECTION_REFUSED", "transient"],
    ["http://none.invalid:8430", "HOST_NOT_FOUND", "transient"],
  ];
  for (const [url, code, kind] of cases) {
    const backend = new RemoteBackend({ url: new URL(url) });
    const batch = { id: "b1", dataset: systemMetrics, records: [{ timestamp: 1 }] };
    const error = await assertRejects(() => backend.write(batch as never), BackendError) as BackendError;
    assertEquals([error.code, error.kind], [code, kind], error.message);
    assertMatch(error.message, new RegExp(`^Cannot write to ${url}: `));
    await backend.close();
  }
});

Deno.test("RemoteBackend has a kind for every status", () => {
  const of = (sign: string) => REMOTE_FAILURES.find(({ match }) => match.test(sign))!.kind;
  for (let status = 300; status < 600; status++) {
    const kind = of(`${status} `);
    if (status === 413) assertEquals(kind, "data");
    else if (status === 507) assertEquals(kind, "disk-full");
    else if (status >= 500 || [408, 429].includes(status)) assertEquals(kind, "transient", String(status));
    else assertEquals(kind, "operator", String(status));
  }
});

Deno.test("RemoteBackend trusts a CA of its own for TLS, and says when a certificate is not trusted", async () => {
  const authority = await generate([{ name: "commonName", value: "CA" }], {
    extensions: [{ name: "basicConstraints", cA: true, critical: true }],
  });
  const pair = await generate([{ name: "commonName", value: "server" }], {
    ca: { key: authority.private, cert: authority.cert },
    extensions: [{ name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] }],
  });
  const keys: (string | null)[] = [];
  const listen = { port: 0, hostname: "127.0.0.1", cert: pair.cert, key: pair.private, onListen: () => {} };
  const server = Deno.serve(listen, async (request) => {
    await request.arrayBuffer();
    keys.push(request.headers.get("idempotency-key"));
    return accept({ records: [{}] });
  });
  const url = new URL(`https://127.0.0.1:${server.addr.port}`);
  const batch = { id: "b1", dataset: systemMetrics, records: [{ timestamp: 1 }] };
  const trusting = new RemoteBackend({ url, caCerts: [authority.cert] });
  assertEquals((await trusting.write(batch as never)).committed, 1);
  await trusting.close();
  const other = new RemoteBackend({ url });
  const error = await assertRejects(() => other.write(batch as never), BackendError) as BackendError;
  assertEquals([error.code, error.kind, keys], ["TLS_FAILED", "operator", ["b1"]], error.message);
  await other.close();
  await server.shutdown();
});

Deno.test("RemoteBackend gets each refused record of a large batch from the server, again as well", async () => {
  await using server = await openServer();
  const { hub } = server.resources;
  const backend = new RemoteBackend({ url: new URL(server.url) });
  const records = Array.from({ length: 500 }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    nodeId: "n",
    ...i % 2 === 0 ? {} : { fieldOfANewerRelease: 1 },
  }));
  for (let attempt = 0; attempt < 2; attempt++) {
    const { committed, refused } = await backend.write(
      { id: "b1", dataset: systemMetrics, records } as never,
    );
    assertEquals([committed, refused!.length], [250, 250]);
    assertEquals(refused!.map(({ index }) => index), Array.from({ length: 250 }, (_, i) => 2 * i + 1));
    assertMatch((refused![0].error as Error).message, /unknown field "fieldOfANewerRelease"/);
  }
  await hub.flush();
  assertEquals((await hub.systemMetrics.query()).length, 250);
  await backend.close();
});
