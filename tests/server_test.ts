import { Buffer } from "node:buffer";
import { deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { openBackend } from "../src/open_backend.ts";
import { RateLimiter } from "../src/server/limits.ts";
import { PROBE_ROUTES } from "../src/server/probe_routes.ts";
import type { RequestError } from "../src/server/problems.ts";
import type { Route } from "../src/server/route.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { RUN } from "./command.ts";
import { Proxy } from "./faults/proxy.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { type Answer, openServer, PLACES, type ServerProcess, startServer } from "./server.ts";
import { until } from "./until.ts";

Deno.test("serve answers /healthz in this process", async () => {
  await using server = await openServer();
  const { status, json, headers } = await server.send("/healthz");
  assertEquals([status, json()], [200, { status: "ok" }]);
  assertEquals(headers.get("cache-control"), "no-store");
});

for (const [name, open] of Object.entries(PLACES)) {
  Deno.test(`openfinops serve starts on ${name} and ends with 0 on SIGTERM`, async () => {
    await using place = await open();
    const database = place.url === undefined ? ["--backend", "memory"] : ["--connection-string", place.url];
    await using server = await startServer(database, { cwd: place.folder.path });
    assertEquals((await server.send("/healthz")).status, 200);
    assertEquals(await server.stop(), 0);
    assertMatch(server.lines.at(-1)!, /^Stopped\. Stored 0 records\.$/);
  });
}

Deno.test("serve answers unknown paths and methods with JSON errors", async () => {
  await using server = await openServer();
  const missing = await server.send("/nope");
  assertEquals([missing.status, missing.json().error.code], [404, "NOT_FOUND"]);
  const wrong = await server.send("/healthz", { method: "DELETE" });
  assertEquals([wrong.status, wrong.json().error.code, wrong.headers.get("allow")], [
    405,
    "METHOD_NOT_ALLOWED",
    "GET",
  ]);
});

/** Routes that give back what they read, or wait for a signal of the test. */
function testRoutes(gate: Promise<unknown> = Promise.resolve(), onWait: () => unknown = () => {}): Route[] {
  const common = { scope: "ingest", summary: "A route of the tests" } as const;
  return [
    {
      ...common,
      method: "POST",
      path: "/echo",
      encodings: ["snappy"],
      handle: async ({ body }) => new Response(await body()),
    },
    {
      ...common,
      method: "GET",
      path: "/wait",
      handle: async () => {
        onWait();
        await gate;
        return new Response("waited");
      },
    },
    {
      ...common,
      method: "GET",
      path: "/fail",
      handle: () => {
        throw new Error("secret of the host db.internal");
      },
    },
  ];
}

Deno.test("serve reads gzip, deflate, zstd and plain bodies within the limit before and after", async () => {
  const maxBodyBytes = 100_000;
  await using server = await openServer({}, { routes: testRoutes(), limits: { maxBodyBytes } });
  const post = (body: Uint8Array, encoding?: string) =>
    server.send("/echo", {
      method: "POST",
      body: body as Uint8Array<ArrayBuffer>,
      headers: encoding === undefined ? {} : { "content-encoding": encoding },
    });
  const text = (length: number) => Buffer.alloc(length, "telemetry ");
  const packers = { gzip: gzipSync, "x-gzip": gzipSync, deflate: deflateSync, zstd: zstdCompressSync };
  for (const [encoding, pack] of Object.entries(packers)) {
    const { status, text: echoed } = await post(pack(text(maxBodyBytes)), encoding);
    assertEquals([status, echoed.length], [200, maxBodyBytes], encoding);
    const bomb = await post(pack(text(maxBodyBytes + 1)), encoding);
    assertEquals([bomb.status, bomb.json().error.code], [413, "BODY_TOO_LARGE"], encoding);
    for (const broken of [pack(text(5_000)).subarray(0, -7), text(100)]) {
      const { status, json } = await post(broken, encoding);
      assertEquals([status, json().error.code], [400, "INVALID_BODY"], encoding);
    }
  }
  assertEquals((await post(text(maxBodyBytes))).status, 200);
  assertEquals((await post(text(maxBodyBytes + 1))).status, 413);
  assertEquals((await post(text(10), "snappy")).text.length, 10); // the route decodes it
  const { status, json, headers } = await post(text(10), "br");
  assertEquals([status, json().error.code], [415, "UNSUPPORTED_ENCODING"]);
  assertEquals(headers.get("accept-encoding"), "gzip, deflate, zstd, snappy");
});

Deno.test("serve holds no more of a decompression bomb than the limit", async () => {
  await using server = await openServer({}, { routes: testRoutes(), limits: { maxBodyBytes: 2 ** 20 } });
  const bomb = new Uint8Array(gzipSync(Buffer.alloc(512 * 2 ** 20))); // half a megabyte
  assert(bomb.length < 2 ** 20);
  const before = Deno.memoryUsage().rss;
  for (let i = 0; i < 3; i++) {
    const init = { method: "POST", body: bomb, headers: { "content-encoding": "gzip" } };
    assertEquals((await server.send("/echo", init)).status, 413);
  }
  assert(Deno.memoryUsage().rss - before < 200 * 2 ** 20);
});

Deno.test("serve answers a client that sends more than the limit before it has sent all", async () => {
  await using server = await openServer({}, { routes: testRoutes(), limits: { maxBodyBytes: 50_000 } });
  const chunk = `${(65_536).toString(16)}\r\n${"x".repeat(65_536)}\r\n`;
  const head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  const answer = await talk(server.url, [head, ...Array(200).fill(chunk), "0\r\n\r\n"]);
  assertMatch(answer, /^HTTP\/1\.1 413 [^]*BODY_TOO_LARGE/);
  assertEquals((await server.send("/wait")).status, 200);
});

Deno.test("serve refuses a request that names two hosts", async () => {
  await using server = await openServer({}, { routes: testRoutes() });
  const head = "GET /wait HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  assertMatch(await talk(server.url, [head]), /^HTTP\/1\.1 400 /);
});

Deno.test("serve tells nothing of an unexpected error, and reports it to its log", async () => {
  const failures: unknown[] = [];
  await using server = await openServer({}, {
    routes: testRoutes(),
    onAnswer: ({ error }) => error === undefined || failures.push(error),
  });
  const { status, text } = await server.send("/fail");
  assertEquals(status, 500);
  assert(!/secret|internal|at /.test(text), text);
  assertMatch(String(failures), /secret of the host/);
});

Deno.test("serve answers 503 with Retry-After beyond maxRequests, and probes still", async () => {
  const gate = Promise.withResolvers<void>();
  const full = Promise.withResolvers<void>();
  let entered = 0;
  const onWait = () => ++entered === 2 && full.resolve();
  const routes = [...testRoutes(gate.promise, onWait), ...PROBE_ROUTES];
  await using server = await openServer({}, { routes, limits: { maxRequests: 2 } });
  const waiting = [server.send("/wait"), server.send("/wait")];
  await full.promise;
  const timer = setTimeout(gate.resolve, 10_000); // so that a server without the bound fails the test and does not hang it
  const busy = await server.send("/wait");
  assertEquals([busy.status, busy.json().error.code], [503, "SERVER_BUSY"]);
  assertEquals(busy.headers.get("retry-after"), "1");
  assertEquals((await server.send("/healthz")).status, 200);
  gate.resolve();
  clearTimeout(timer);
  for (const { status } of await Promise.all(waiting)) assertEquals(status, 200);
  assertEquals((await server.send("/wait")).status, 200);
});

Deno.test("serve answers 503 while it holds maxHeldBytes of bodies, and takes them again afterwards", async () => {
  const gate = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const routes: Route[] = ["/hold", "/take"].map((path) => ({
    method: "POST",
    path,
    scope: "ingest",
    summary: "Reads its body",
    async handle(request) {
      const { length } = await request.body();
      if (path === "/hold") {
        held.resolve();
        await gate.promise;
      }
      return new Response(String(length));
    },
  }));
  await using server = await openServer({}, { routes, limits: { maxHeldBytes: 1_000 } });
  const post = (path: string, bytes: number) =>
    server.send(path, { method: "POST", body: "x".repeat(bytes) });
  const first = post("/hold", 600);
  await held.promise;
  const refused = await post("/take", 500);
  gate.resolve();
  assertEquals([refused.status, refused.json().error.code], [503, "SERVER_BUSY"]);
  assertEquals(refused.headers.get("retry-after"), "1");
  assertEquals((await first).text, "600");
  assertEquals((await post("/take", 1_000)).text, "1000");
});

Deno.test("serve answers 429 with Retry-After beyond the rate of a token, each token by itself", async () => {
  const access = {
    authorize: ({ headers }: Request) => Promise.resolve({ id: headers.get("authorization")! }),
  };
  await using server = await openServer({}, {
    access,
    routes: testRoutes(),
    limits: { maxRatePerToken: 0.001 },
  });
  const send = (authorization: string) => server.send("/wait", { headers: { authorization } });
  assertEquals((await send("a")).status, 200);
  const { status, json, headers } = await send("a");
  assertEquals([status, json().error.code], [429, "RATE_LIMITED"]);
  assert(Number(headers.get("retry-after")) > 900, headers.get("retry-after")!);
  assertEquals((await send("b")).status, 200);
});

Deno.test("RateLimiter fills the bucket of a token again over time, up to a second's worth", () => {
  const limiter = new RateLimiter(2);
  const take = (now: number) => {
    try {
      limiter.take("a", now);
      return true;
    } catch (error) {
      return (error as RequestError).headers["retry-after"];
    }
  };
  assertEquals([take(0), take(0), take(0), take(499), take(500), take(501)], [
    true,
    true,
    "1",
    "1",
    true,
    "1",
  ]);
  assertEquals([take(90_000), take(90_000), take(90_000)], [true, true, "1"]);
});

/** Sends bytes over a raw connection, and reads until it is closed. */
async function talk(url: string, parts: readonly (string | Promise<unknown>)[]): Promise<string> {
  const { hostname, port } = new URL(url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  const reading = (async () => {
    let text = "";
    const bytes = new Uint8Array(65_536);
    const decoder = new TextDecoder();
    try {
      for (let n; (n = await connection.read(bytes)) !== null;) text += decoder.decode(bytes.subarray(0, n));
    } catch {
      // reset by the server
    }
    return text;
  })();
  try {
    for (const part of parts) {
      if (typeof part === "string") await connection.write(new TextEncoder().encode(part));
      else await part;
    }
  } catch {
    // closed by the server
  }
  return await reading;
}

Deno.test("serve ends connections that send their headers or their body too slowly", async () => {
  const connections = {
    headersTimeout: 2_000,
    keepAliveTimeout: 300,
    connectionsCheckingInterval: 50,
  };
  const limits = { bodyTimeoutMs: 2_000 };
  await using server = await openServer({}, { routes: testRoutes(), limits }, { connections });
  const answers = await Promise.all([
    talk(server.url, []),
    talk(server.url, ["GET /wa"]),
    talk(server.url, ["GET /wait HTTP/1.1\r\nHost: x\r\nX-A: "]),
    talk(server.url, ["POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"]),
    talk(server.url, ["POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"]),
    talk(server.url, ["GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"]), // idle after its answer
    talk(server.url, ["PUT /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"]), // not read
  ]);
  const statuses = answers.map((text) => /^HTTP\/1\.1 (\d+)/.exec(text)?.[1]);
  assertEquals(statuses.slice(3), ["408", "408", "200", "405"]);
  for (const status of statuses.slice(0, 3)) assert(["400", "408", undefined].includes(status), status);
  assertEquals((await server.send("/wait")).status, 200);
});

/** A route whose answer goes on for good, or is one large part; and what became of its answers. */
function endlessRoute(part = new Uint8Array(100_000), parts = Infinity) {
  const state = { started: 0, ended: 0 };
  const route: Route = {
    method: "GET",
    path: "/endless",
    scope: "read",
    summary: "Sends for good",
    handle: () => {
      state.started++;
      let left = parts;
      const end = () => void state.ended++;
      return new Response(
        new ReadableStream({
          pull(controller) {
            if (left-- > 0) return controller.enqueue(part);
            end();
            controller.close();
          },
          cancel: end,
        }),
      );
    },
  };
  return { route, state };
}

/** Sends requests for a path over a raw connection, at once, and reads nothing. */
async function ask(url: string, path: string, times = 1): Promise<Deno.TcpConn> {
  const { hostname, port } = new URL(url);
  const connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(times)));
  return connection;
}

/** Reads until the connection is closed, or as many bytes have arrived; returns their number. */
async function rest(connection: Deno.TcpConn, most: number): Promise<number> {
  using _closed = connection;
  const bytes = new Uint8Array(1_000_000);
  let received = 0;
  try {
    for (let count; received < most && (count = await connection.read(bytes)) !== null;) received += count;
  } catch {
    // reset by the server
  }
  return received;
}

Deno.test("serve ends answers that a client does not read, and holds a place for each until then", async () => {
  const { route, state } = endlessRoute();
  const options = { routes: [route, ...testRoutes()], limits: { maxRequests: 2 } };
  for (const sendTimeout of [600_000, 1_000]) {
    Object.assign(state, { started: 0, ended: 0 });
    await using server = await openServer({}, options, { connections: { sendTimeout } });
    const stalled = [await ask(server.url, "/endless"), await ask(server.url, "/endless")];
    await until(() => state.started >= 2, "2 answers to be started");
    if (sendTimeout > 1_000) { // a short time may be over by now
      assertEquals([(await server.send("/wait")).status, state.ended], [503, 0]);
      stalled.forEach((connection) => connection.close());
      continue;
    }
    await until(() => state.ended >= 2, "2 answers to be ended");
    assertEquals((await server.send("/wait")).status, 200);
    for (const connection of stalled) assert(await rest(connection, 2 ** 30) < 2 ** 30);
  }
});

Deno.test("serve ends an answer of one part that a client does not read, and sends it to a slow one", async () => {
  const part = new Uint8Array(30_000_000);
  const { route, state } = endlessRoute(part, 1);
  const options = { routes: [route, ...testRoutes()], limits: { maxRequests: 2 } };
  await using server = await openServer({}, options, { connections: { sendTimeout: 2_000 } });
  const stalled = await ask(server.url, "/endless");
  using slow = await ask(server.url, "/endless");
  await until(() => state.started >= 2, "2 answers to be started");
  const bytes = new Uint8Array(150_000);
  for (let received = 0; received < part.length;) { // takes at least 3 s
    const count = await slow.read(bytes);
    assert(count !== null, `closed after ${received} bytes`);
    received += count;
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
  assert(await rest(stalled, part.length) < part.length);
  assertEquals((await server.send("/wait")).status, 200);
});

Deno.test("serve frees the place of an answer that is read, canceled, has failed, or has no body", async () => {
  const { route, state } = endlessRoute();
  const failing: Route = {
    ...route,
    path: "/failing",
    handle: () => new Response(new ReadableStream({ pull: () => Promise.reject(new Error("lost")) })),
  };
  const empty: Route = { ...route, path: "/empty", handle: () => new Response(null, { status: 204 }) };
  const options = { routes: [route, failing, empty, ...testRoutes()], limits: { maxRequests: 1 } };
  await using server = await openServer({}, options);
  const isFree = async () => {
    await until(async () => (await server.send("/wait")).status !== 503, "a free place");
  };
  const response = await fetch(`${server.url}endless`);
  await response.body!.cancel();
  await isFree();
  assertEquals(state.ended, 1);
  await assertRejects(() => server.send("/failing"));
  await isFree();
  assertEquals((await server.send("/empty")).status, 204);
  await isFree();
  assertEquals((await server.send("/endless", { method: "HEAD" })).status, 200);
  await isFree();
  assertEquals(state.ended, 2);
});

Deno.test("serve answers requests of a connection one by one, and frees all of one that is closed", async () => {
  const { route, state } = endlessRoute();
  const options = { routes: [route, ...testRoutes()], limits: { maxRequests: 2 } };
  await using server = await openServer({}, options, { connections: { sendTimeout: 60_000 } });
  const stalled = await ask(server.url, "/endless", 60);
  await until(() => state.started >= 1, "an answer to be started");
  assertEquals([(await server.send("/wait")).status, state.started], [200, 1]);
  stalled.close();
  await until(() => state.ended >= 1, "an answer to be ended");
  assertEquals([(await server.send("/wait")).status, state.started], [200, 1]);
});

Deno.test("serve answers 64 requests that a connection sends at once, and closes it beyond", async () => {
  await using server = await openServer({}, { routes: testRoutes() });
  const request = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";
  const last = request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
  const answered = async (sent: string) => (await talk(server.url, [sent])).split(" 200 ").length - 1;
  assertEquals(await answered(request.repeat(63) + last), 64);
  assert(await answered(request.repeat(10_000) + last) < 10_000); // some may be answered before the rest arrives
  assertEquals((await server.send("/wait")).status, 200);
});

Deno.test("serve closes connections beyond maxConnections", async () => {
  await using server = await openServer({}, { routes: testRoutes() }, { connections: { maxConnections: 3 } });
  const { hostname, port } = new URL(server.url);
  const held = await Promise.all(
    Array.from({ length: 3 }, () => Deno.connect({ hostname, port: Number(port) })),
  );
  assertEquals(await talk(server.url, ["GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"]), "");
  for (const connection of held) connection.close();
  const request = "GET /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  await until(async () => / 200 /.test(await talk(server.url, [request])), "a free connection");
});

Deno.test("serve answers more clients than maxConnections, though each keeps its connection", async () => {
  await using server = await openServer({}, { routes: testRoutes() }, {
    connections: { maxConnections: 16 },
  });
  const { hostname, port } = new URL(server.url);
  const held: Deno.Conn[] = [];
  /** Asks once. Returns true if an answer came; the connection stays open unless the server closes it. */
  const answered = async () => {
    const connection = await Deno.connect({ hostname, port: Number(port) });
    held.push(connection);
    let text = "";
    try {
      await connection.write(new TextEncoder().encode("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"));
      const part = new Uint8Array(1_000);
      do {
        const length = await connection.read(part);
        if (length === null) break;
        text += new TextDecoder().decode(part.subarray(0, length));
      } while (!text.includes("waited") || /connection: close/i.test(text));
    } catch {
      // closed
    }
    return text.includes("waited");
  };
  for (let client = 1; client <= 40; client++) {
    let attempts = 100;
    while (attempts > 0 && !await answered()) attempts--;
    assert(attempts > 0, `client ${client} is never answered`);
  }
  for (const connection of held) connection.close();
});

Deno.test("serve finishes requests while it closes, and takes no new ones", async () => {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  await using server = await openServer({}, { routes: testRoutes(gate.promise, entered.resolve) });
  const waiting = server.send("/wait");
  await entered.promise;
  const closed = server.listening.close({ deadlineMs: 30_000 });
  await assertRejects(() => fetch(`${server.url}wait`));
  gate.resolve();
  assertEquals((await waiting).text, "waited");
  await closed;
});

Deno.test("serve does not wait for connections that sent nothing while it closes", async () => {
  await using server = await openServer();
  const { hostname, port } = new URL(server.url);
  using silent = await Deno.connect({ hostname, port: Number(port) });
  assertEquals((await server.send("/healthz")).status, 200); // the connection before that is accepted
  await server.listening.close({ deadlineMs: 600_000 });
  assertEquals(await silent.read(new Uint8Array(1)).catch(() => null), null);
});

Deno.test("serve aborts requests at the deadline of closing", async () => {
  const signals: AbortSignal[] = [];
  const never: Route = {
    method: "GET",
    path: "/never",
    scope: "read",
    summary: "Never answers",
    handle: ({ signal }) => {
      signals.push(signal);
      return new Promise((resolve) => signal.addEventListener("abort", () => resolve(new Response())));
    },
  };
  await using server = await openServer({}, { routes: [never] });
  const refused = assertRejects(() => server.send("/never"));
  await until(() => signals.length, "the request");
  await server.listening.close({ deadlineMs: 50 });
  await refused;
  assert(signals[0].aborted);
});

Deno.test("openfinops serve ends at once on a second signal", async () => {
  using folder = new TemporaryFolder();
  const at = ["--connection-string", folder.sqlite(), "--deadline", "10m"];
  await using server = await startServer(at, { cwd: folder.path });
  const { hostname, port } = new URL(server.url);
  using _held = await Deno.connect({ hostname, port: Number(port) });
  using slow = await Deno.connect({ hostname, port: Number(port) });
  await slow.write(
    new TextEncoder().encode(
      "POST /api/v1/budgets HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n{",
    ),
  );
  await slow.read(new Uint8Array(100)); // the answer 100: the request has arrived
  server.process.kill("SIGTERM");
  await server.line((line) => line.startsWith("Stopping"));
  assertEquals(await server.stop("SIGTERM"), 143);
});

Deno.test("openfinops serve is ready only while the database answers", async () => {
  await using place = await PLACES.PostgreSQL();
  const database = new URL(place.url!);
  await using proxy = await Proxy.start(Number(database.port));
  const at = ["--connection-string", proxy.url(place.url!)];
  await using server = await startServer(at, { cwd: place.folder.path });
  const ready = async () => {
    const { status, text, json } = await server.send("/readyz");
    assert(!text.includes(database.hostname), text);
    return [status, json().error?.reasons];
  };
  assertEquals(await ready(), [200, undefined]);
  proxy.stall();
  const found = await until(
    async () => {
      const found = await ready();
      return found[0] === 200 ? undefined : found;
    },
    "the server to be not ready",
    200,
  );
  assertMatch(String(found[1]), /^database: CONNECTION_\w+/);
  assertEquals((await server.send("/healthz")).status, 200);
  proxy.resume();
  await until(async () => (await ready())[0] === 200, "the server to be ready", 200);
  assertEquals(await server.stop(), 0);
});

/** Posts records under ids of their own. */
function post(server: ServerProcess, ids: readonly string[]): Promise<Answer> {
  const timestamp = "2026-01-01T00:00:00Z";
  const entries = ids.map((entryId) => ({
    entryId,
    timestamp,
    resourceId: "n",
    category: "gpu",
    amount: "1",
  }));
  return server.send("/api/v1/costs", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(entries),
  });
}

/** Number of costs in a database. */
async function countCosts(url: string): Promise<number> {
  const backend = await openBackend({ connectionString: url });
  const { datasets } = await backend.stats();
  await backend.close();
  return datasets.cost_entries.rows;
}

Deno.test("openfinops serve ends within its deadline while the database is away, and says what is spooled", async () => {
  await using place = await PLACES.PostgreSQL();
  await using proxy = await Proxy.start(Number(new URL(place.url!).port));
  const at = ["--connection-string", proxy.url(place.url!), "--deadline", "1s"];
  const server = await startServer(at, { cwd: place.folder.path });
  try {
    assertEquals((await post(server, ["a"])).status, 202);
    await until(async () => await countCosts(place.url!) >= 1, "1 stored costs", 200);
    proxy.stall();
    assertEquals((await post(server, ["b", "c"])).status, 202); // journaled
    assertEquals(await server.stop(), 0);
    assertMatch(server.lines.at(-1)!, /kept 2 records in the spool\.$/);
  } finally {
    await server[Symbol.asyncDispose]();
  }
  proxy.resume();
  await using again = await startServer(at, { cwd: place.folder.path });
  await until(async () => await countCosts(place.url!) >= 3, "3 stored costs", 200);
  assertEquals(await again.stop(), 0);
  assertEquals(await countCosts(place.url!), 3);
});

Deno.test("openfinops serve ends within its deadline while a read waits for a silent database", async () => {
  await using place = await PLACES.PostgreSQL();
  await using proxy = await Proxy.start(Number(new URL(place.url!).port));
  const url = new URL(proxy.url(place.url!));
  url.searchParams.set("sslmode", "disable"); // else the request to cancel waits for an answer
  const at = ["--connection-string", url.href, "--deadline", "1s", "--no-spool"];
  await using server = await startServer(at, { cwd: place.folder.path });
  assertEquals((await server.send("/api/v1/costs")).status, 200);
  proxy.stall();
  const cut = assertRejects(() => server.send("/api/v1/costs/aggregate?bucket=1d")); // not by COPY
  await new Promise((resolve) => setTimeout(resolve, 200)); // the statement is on its way
  assertEquals(await server.stop(), 0);
  await cut;
});

Deno.test("openfinops serve with a spool starts while its database is away", async () => {
  using folder = new TemporaryFolder();
  const url = "postgresql://u@127.0.0.1:1/d?sslmode=disable";
  await using server = await startServer(["--connection-string", url], { cwd: folder.path });
  assertEquals((await server.send("/healthz")).status, 200);
  assertEquals((await server.send("/readyz")).status, 503);
  assertEquals(await server.stop(), 0);
});

for (const command of ["serve", "dashboard", "collect"]) {
  Deno.test(`openfinops ${command} ends on SIGTERM while it opens a database that does not answer`, async () => {
    using folder = new TemporaryFolder();
    using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const url = `postgresql://u@127.0.0.1:${silent.addr.port}/d?sslmode=disable&connect_timeout=600`;
    await using process = new Deno.Command(Deno.execPath(), {
      args: [...RUN, command, "--connection-string", url],
      cwd: folder.path,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    using _held = await silent.accept();
    process.kill("SIGTERM");
    assertEquals((await process.status).code, 0);
  });
}

for (const [name, open] of Object.entries(PLACES).filter(([name]) => name !== "memory")) {
  Deno.test(`several servers store into one database on ${name}, each with a spool of its own`, async () => {
    await using place = await open();
    const at = (spool: string) => ["--connection-string", place.url!, "--spool-directory", spool];
    await using first = await startServer(at("one"), { cwd: place.folder.path });
    await using second = await startServer(at("two"), { cwd: place.folder.path });
    const shared = await startServer(at("two"), { cwd: place.folder.path }).catch(({ message }) => message);
    assertMatch(shared, /ended with 1: [^]*error: .*--spool-directory.*\[(FILE_IN_USE|SPOOL_OWNED)\]/);
    const ids = Array.from({ length: 40 }, (_, i) => String(i));
    const answers = await Promise.all(ids.flatMap((id) => [post(first, [id, `${id}x`]), post(second, [id])]));
    for (const { status } of answers) assertEquals(status, 202);
    for (const server of [first, second]) assertEquals(await server.stop(), 0);
    assertEquals(await countCosts(place.url!), 80); // each once, from whichever request came first
  });
}
