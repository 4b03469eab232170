import { openBackend } from "../src/open_backend.ts";
import { isLoopbackName, TokenAccess, type TokenAccessOptions } from "../src/server/access.ts";
import { ROUTES } from "../src/server/routes.ts";
import { createToken, readTokens, readTokensFile, type Token, writeToken } from "../src/server/tokens.ts";
import { assert, assertEquals, assertMatch, assertRejects } from "./assert.ts";
import { openfinops } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { openServer, PLACES, startServer } from "./server.ts";
import { until } from "./until.ts";

/** Paths that need no token: they hold the state of the process, or files of the program. */
const PUBLIC = ["/healthz", "/readyz", "/", "/web/:file"];

const bearer = (secret: string) => ({ headers: { authorization: `Bearer ${secret}` } });

/** Access to tokens in memory. */
function accessTo(tokens: Token[], options: Partial<TokenAccessOptions> = {}): TokenAccess {
  return new TokenAccess({ isOpen: false, read: () => Promise.resolve([...tokens]), ...options });
}

Deno.test("serve answers no route without a token, wrong or of another scope, off loopback", async () => {
  const folder = new TemporaryFolder();
  using _ = folder;
  const config = { connectionString: folder.sqlite() };
  const backend = await openBackend(config);
  const scopes = ["ingest", "read", "admin"] as const;
  const secrets = new Map<string, string>();
  for (const scope of scopes) {
    const { token, secret } = createToken({ name: scope, scopes: [scope] });
    secrets.set(scope, secret);
    await writeToken(backend.documents, token);
  }
  await backend.close();
  await using server = await startServer(["--connection-string", config.connectionString, "--no-spool"], {
    cwd: folder.path,
    listen: "0.0.0.0:0",
  });
  const local = server.url.replace("0.0.0.0", "127.0.0.1");
  let tried = 0;
  for (const { method, path, scope } of ROUTES) {
    if (scope === "none") {
      assert(PUBLIC.includes(path), `${path} needs no token`);
      continue;
    }
    const url = new URL(path.replaceAll(/:\w+/g, "x"), local);
    const others = scopes.filter((other) => other !== scope).map((other) => secrets.get(other)!);
    const wrong = [undefined, "", "ofp_", "x".repeat(47), ...secrets.values().map((secret) => `${secret}x`)];
    for (const secret of [...wrong, ...others]) {
      const response = await fetch(url, {
        method,
        ...secret === undefined ? {} : bearer(secret),
        body: method === "GET" ? undefined : "{}",
      });
      const text = await response.text(); // OTLP and remote write have errors of their own form
      const expected = others.includes(secret!)
        ? [403, `The token lacks the scope ${scope}. Use one that has it.`]
        : secret
        ? [401, "The token is unknown, revoked or expired. Use another."]
        : [401, "The request has no token. Send the header Authorization: Bearer TOKEN."];
      const shown = `${method} ${path} with ${secret}: ${text}`;
      assertEquals([response.status, text.includes(String(expected[1]))], [expected[0], true], shown);
      tried++;
    }
  }
  assert(tried > 200, String(tried));
  assertEquals((await server.send("/openapi.json", bearer(secrets.get("read")!))).status, 200);
});

Deno.test("serve shows a token of a tenant nothing of another tenant by any route", async () => {
  const { token, secret } = createToken({ name: "a", scopes: ["ingest", "read"], tenant: "mine" });
  await using server = await openServer({}, { access: accessTo([token]) });
  const { hub, costs } = server.resources;
  const at = { timestamp: Date.now() - 60_000 };
  for (const tenant of ["mine", "theirs"]) {
    const node = { ...at, clusterId: `of-${tenant}`, nodeId: `of-${tenant}`, labels: { tenant } };
    await hub.systemMetrics.add(node);
    await hub.deviceMetrics.add({ ...node, deviceId: `of-${tenant}` });
    const tags = { tenant };
    const cost = { entryId: tenant, resourceId: `of-${tenant}`, category: `of-${tenant}`, amount: "1", tags };
    await costs.addCostEntry({ ...at, ...cost });
    await costs.usage.add({ ...at, usageId: tenant, model: `of-${tenant}`, tags });
  }
  await hub.serviceMetrics.add({ ...at, serviceName: "of-theirs" });
  await costs.createBudget({ budgetId: "of-theirs", amount: "1", currency: "USD", period: "1mo" });
  const shown: string[] = [];
  for (const { method, path, scope } of ROUTES) {
    if (scope !== "read") continue;
    const names = path.includes(":dataset") ? ["system_metrics", "cost_entries"] : ["costs", "clusters", "x"];
    for (const name of names) {
      const body = method === "GET" ? undefined : "{}";
      const to = path.replaceAll(/:\w+/g, name);
      const { text } = await server.send(to, { ...bearer(secret), method, body });
      assert(!text.includes("of-theirs"), `${method} ${to}: ${text}`);
      if (text.includes("of-mine")) shown.push(to);
    }
  }
  assert(shown.length >= 4, shown.join()); // the answers are not empty
});

Deno.test("serve refuses other addresses than loopback unless there is a token or --insecure", async () => {
  using folder = new TemporaryFolder();
  const at = ["--connection-string", folder.sqlite()];
  const refused = await openfinops(["serve", "--listen", "0.0.0.0:0", ...at], { cwd: folder.path });
  assertEquals(refused.code, 2);
  assertMatch(refused.err, /token create.*--insecure\. \[TOKEN_MISSING\]/);
  const { out } = await openfinops(["token", "create", "a", "--scope", "read", ...at], { cwd: folder.path });
  assertMatch(out, /^ofp_[\w-]{43}\n$/);
  for (const [args, expected] of [[[], 401], [["--insecure"], 401]] as const) {
    await using server = await startServer([...at, ...args], { cwd: folder.path, listen: "0.0.0.0:0" });
    assertEquals((await server.send("/openapi.json")).status, expected, args.join());
  }
  {
    await using server = await startServer(at, { cwd: folder.path, listen: "0.0.0.0:0" });
    const backend = await openBackend({ connectionString: folder.sqlite() });
    const [{ id }] = await readTokens(backend.documents);
    assertEquals((await server.send("/openapi.json", bearer(out.trim()))).status, 200);
    await backend.documents.delete("token", id);
    await backend.close();
    const status = async () => (await server.send("/openapi.json", bearer(out.trim()))).status;
    await until(async () => await status() !== 200, "the token to be refused", 100);
    assertEquals((await server.send("/openapi.json")).status, 401); // without any token, it stays closed
  }
  const open = ["--connection-string", folder.sqlite("open.db"), "--insecure"];
  await using server = await startServer(open, { cwd: folder.path, listen: "0.0.0.0:0" });
  assertEquals((await server.send("/openapi.json")).status, 200);
});

for (const [name, open] of Object.entries(PLACES).filter(([name]) => name !== "memory")) {
  Deno.test(`tokens are created, used, listed and revoked while a server runs on ${name}`, async () => {
    await using place = await open();
    const at = ["--connection-string", place.url!];
    const token = (...args: string[]) => openfinops(["token", ...args, ...at], { cwd: place.folder.path });
    await using server = await startServer([...at, "--no-spool"], { cwd: place.folder.path });
    const status = async (secret?: string) =>
      (await server.send("/openapi.json", secret === undefined ? {} : bearer(secret))).status;
    assertEquals(await status(), 200); // loopback, and there has never been a token
    const first = (await token("create", "grafana", "--scope", "read")).out.trim();
    const second = (await token("create", "grafana", "--scope", "read", "--expires", "1d")).out.trim();
    assertEquals([await status(first), await status(second)], [200, 200]);
    assertEquals((await token("revoke", "grafana")).code, 2); // two have this name
    const list = async () => JSON.parse((await token("list", "--format", "json")).out);
    // A cached read of no tokens counts for a moment: then a request is answered without a use of its token.
    const tokens = await until(async () => {
      assertEquals([await status(first), await status(second)], [200, 200]);
      const tokens = await list();
      return tokens.every(({ lastUsed }: { lastUsed?: string }) => lastUsed) ? tokens : undefined;
    }, "the use of both tokens to be noted");
    assertEquals(tokens.map(({ name, state }: Record<string, string>) => [name, state]), [
      ["grafana", "active"],
      ["grafana", "active"],
    ]);
    assertMatch(tokens[0].lastUsed, /^\d{4}-\d\d-\d\d$/);
    const text = JSON.stringify(tokens);
    assert(![first, second].some((secret) => text.includes(secret.slice(4))), text);
    for (const { id } of tokens) assertEquals((await token("revoke", id)).code, 0);
    const refused = async (secret?: string) => {
      await until(async () => await status(secret) === 401, "the token to be refused", 100);
    };
    await refused(first);
    await refused(second);
    assertEquals(await status(), 401); // the last token is revoked, and nothing opens
    assertEquals((await list()).map(({ state }: Record<string, string>) => state), ["revoked", "revoked"]);
  });
}

Deno.test("TokenAccess refuses a token from the moment it expires", async () => {
  const { token, secret } = createToken({ name: "a", scopes: ["read"], expiresAt: Date.now() + 60_000 });
  const tokens = [token];
  const request = new Request("http://localhost/", bearer(secret));
  assertEquals((await accessTo(tokens).authorize(request, "read")).id, token.id);
  const expired = accessTo([{ ...token, expiresAt: Date.now() }]);
  await assertRejects(() => expired.authorize(request, "read"), Error, "expired");
});

Deno.test("TokenAccess reads tokens again after 5 s, at once for an unknown one, and at most 4 times a second", async () => {
  const [old, added] = ["old", "added"].map((name) => createToken({ name, scopes: ["read"] }));
  const tokens = [old.token];
  let now = 1_000;
  let reads = 0;
  using _clock = fakeClock(() => now);
  const access = accessTo(tokens, {
    read() {
      reads++;
      return Promise.resolve([...tokens]);
    },
  });
  const authorize = ({ secret }: { secret: string }) =>
    access.authorize(new Request("http://localhost/", bearer(secret)), "read").then(
      ({ id }) => id,
      () => "no",
    );
  assertEquals([await authorize(old), reads], [old.token.id, 1]);
  for (let i = 0; i < 50; i++) assertEquals(await authorize(added), "no");
  assertEquals(reads, 1); // guesses read nothing within 250 ms
  tokens.push(added.token);
  now += 250;
  assertEquals([await authorize(added), reads], [added.token.id, 2]);
  tokens[0] = { ...old.token, revokedAt: 1 };
  now += 4_999;
  assertEquals(await authorize(old), old.token.id);
  now += 1;
  assertEquals([await authorize(old), reads], ["no", 3]);
});

Deno.test("TokenAccess keeps the tokens it knows while the database is away, and none before", async () => {
  const { token, secret } = createToken({ name: "a", scopes: ["ingest"], tenant: "nlp" });
  let isAway = true;
  let now = 1_000;
  using _clock = fakeClock(() => now);
  const access = accessTo([], {
    isOpen: true,
    read: () => isAway ? Promise.reject(new Error("away")) : Promise.resolve([token]),
  });
  const request = new Request("http://localhost/", bearer(secret));
  await assertRejects(() => access.authorize(request, "ingest"), Error, "cannot be read now");
  await assertRejects(() => access.authorize(new Request("http://localhost/"), "ingest"), Error);
  isAway = false;
  now += 5_000;
  assertEquals(await access.authorize(request, "ingest"), { id: token.id, tenant: "nlp" });
  isAway = true;
  now += 60_000;
  assertEquals(await access.authorize(request, "ingest"), { id: token.id, tenant: "nlp" });
});

Deno.test("TokenAccess stays closed when all tokens are gone", async () => {
  const { token, secret } = createToken({ name: "a", scopes: ["read"] });
  const tokens = [token];
  let now = 1_000;
  using _clock = fakeClock(() => now);
  const access = accessTo(tokens, { isOpen: true, read: () => Promise.resolve([...tokens]) });
  const request = new Request("http://localhost/");
  await assertRejects(() => access.authorize(request, "read"), Error, "no token");
  tokens.pop();
  now += 5_000;
  await assertRejects(() => access.authorize(request, "read"), Error, "no token");
  await assertRejects(
    () => access.authorize(new Request("http://localhost/", bearer(secret)), "read"),
    Error,
    "unknown",
  );
});

Deno.test("serve on loopback with a tokens file without tokens stays closed", async () => {
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("tokens.json"), "[]");
  const at = ["--connection-string", folder.sqlite(), "--tokens-file", folder.file("tokens.json")];
  await using server = await startServer(at, { cwd: folder.path });
  assertEquals((await server.send("/openapi.json")).status, 401);
});

/** Has `performance.now()` give another time. */
function fakeClock(now: () => number): Disposable {
  const real = performance.now;
  performance.now = now;
  return { [Symbol.dispose]: () => void (performance.now = real) };
}

Deno.test("TokenAccess compares the whole hash with every token", async () => {
  const tokens = Array.from({ length: 20 }, (_, i) => createToken({ name: String(i), scopes: ["read"] }));
  const access = accessTo(tokens.map(({ token }) => token));
  for (const { token, secret } of tokens) {
    assertEquals(
      (await access.authorize(new Request("http://localhost/", bearer(secret)), "read")).id,
      token.id,
    );
  }
  const source = Deno.readTextFileSync(new URL("../src/server/access.ts", import.meta.url));
  assertMatch(
    source,
    /for \(const token of tokens\) if \(timingSafeEqual\(token\.bytes, hash\)\) found = token;/,
  );
});

Deno.test("serve on loopback without tokens refuses pages of other sites and foreign hosts", async () => {
  const access = new TokenAccess({ isOpen: true, isLoopback: true, read: () => Promise.resolve([]) });
  await using server = await openServer({}, { access });
  const status = async (headers: Record<string, string>) => {
    const answer = await access.authorize(new Request(`${server.url}x`, { headers }), "admin").then(
      () => "allowed",
      ({ code }) => code,
    );
    return answer;
  };
  const { host } = new URL(server.url);
  assertEquals(await status({}), "allowed");
  assertEquals(await status({ origin: `http://${host}`, "sec-fetch-site": "same-origin" }), "allowed");
  const crossing: Record<string, string>[] = [
    { origin: "http://evil.example" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
  ];
  for (const headers of crossing) {
    assertEquals(await status(headers), "ORIGIN_REFUSED", JSON.stringify(headers));
  }
  const foreign = access.authorize(new Request("http://evil.example:8430/"), "read");
  assertEquals(await foreign.catch(({ code }) => code), "HOST_REFUSED");
  const response = await server.send("/healthz", { headers: { origin: "http://evil.example" } });
  assertEquals(response.headers.get("access-control-allow-origin"), null);
});

Deno.test("isLoopbackName knows the names of this machine", () => {
  for (const name of ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "::1", "a.localhost"]) {
    assert(isLoopbackName(name), name);
  }
  for (const name of ["0.0.0.0", "::", "127.evil.example", "localhost.evil.example", "10.0.0.1", ""]) {
    assert(!isLoopbackName(name), name);
  }
});

Deno.test("a tokens file gives tokens with the database away, and its faults name no token", async () => {
  using folder = new TemporaryFolder();
  const path = folder.file("tokens.json");
  const write = (entries: unknown) => Deno.writeTextFileSync(path, JSON.stringify(entries));
  const secret = "from-a-secret-store-0123456789";
  write([{ name: "k8s", token: secret, scopes: ["read"], expires: "2999-01-01T00:00:00Z" }]);
  const [token] = await readTokensFile(path);
  const access = accessTo([token]);
  assertEquals((await access.authorize(new Request("http://x/", bearer(secret)), "read")).id, token.id);
  const entry = { name: "a", token: secret, scopes: ["read"] };
  for (
    const [entries, message] of [
      [{}, "not a JSON array"],
      [[{ ...entry, token: "short" }], "entry 1: token must be"],
      [[entry, { ...entry, scopes: ["all"] }], "entry 2: scopes must be"],
      [[{ ...entry, scopes: ["admin"], tenant: "x" }], "cannot have the scope admin"],
      [[{ ...entry, expires: "soon" }], "expires must be a time"],
      [[{ ...entry, secret: 1 }], 'unknown field "secret"'],
    ] as const
  ) {
    write(entries);
    const error = await readTokensFile(path).catch((error) => error);
    assert(error.message.includes(message) && !error.message.includes(secret), error.message);
  }
  Deno.writeTextFileSync(path, `[{"token": "${secret}"`);
  const error = await readTokensFile(path).catch((error) => error);
  assert(error.message.includes("not JSON") && !error.message.includes(secret), error.message);
  const missing = await readTokensFile("none.json").catch((error) => error);
  assertEquals(missing.message, "Cannot read the tokens: none.json is not a readable file. Name another.");
});

Deno.test("token create takes several scopes, and refuses a wrong name, scope or time", async () => {
  using folder = new TemporaryFolder();
  const token = (...args: string[]) =>
    openfinops(["token", ...args, "--connection-string", folder.sqlite()], { cwd: folder.path });
  assertEquals((await token("create", "a", "--scope", "ingest,read")).code, 0);
  const created = await token("create", "b", "--scope", "ingest", "--scope", "read");
  assertEquals([created.code, created.err.includes("same name")], [0, false]);
  assertMatch(
    (await token("create", "c", "--scope", "ingest,raed")).err,
    /Unknown scope "raed"\. Did you mean "read"/,
  );
  for (const name of ["", " "]) {
    assertMatch((await token("create", name, "--scope", "read")).err, /Name the token/);
  }
  for (const expires of ["-5d", "soon"]) {
    const { err } = await token("create", "c", "--scope", "read", `--expires=${expires}`);
    assertMatch(err, /--expires must be a time from now such as 90d, or a date/);
  }
  const listed = JSON.parse((await token("list", "--format", "json")).out);
  assertEquals(listed.map(({ scopes }: { scopes: string }) => scopes), ["ingest read", "ingest read"]);
});

Deno.test("token create names the other valid tokens of the name", async () => {
  using folder = new TemporaryFolder();
  const token = (...args: string[]) =>
    openfinops(["token", ...args, "--connection-string", folder.sqlite()], { cwd: folder.path });
  const idOf = ({ err }: { err: string }) => /Created (\S+) /.exec(err)![1];
  const revoked = idOf(await token("create", "ro", "--scope", "read"));
  assertEquals((await token("revoke", revoked)).code, 0);
  const first = await token("create", "ro", "--scope", "read");
  assert(!first.err.includes("same name"), first.err);
  const { err } = await token("create", "ro", "--scope", "read");
  assertMatch(
    err,
    new RegExp(`^${idOf(first)} has the same name and stays valid\\. .* token revoke ${idOf(first)}$`, "m"),
  );
});

Deno.test("a token may not read the tokens of the server", async () => {
  await using server = await openServer();
  const { token } = createToken({ name: "a", scopes: ["read"] });
  await writeToken(server.resources.backend.documents, token);
  assertEquals((await readTokens(server.resources.backend.documents)).length, 1);
  const { status, text } = await server.send("/api/v1/backend/documents?kind=token");
  assert(status === 400 && !text.includes(token.hash), text);
});
