import { createHmac } from "node:crypto";
import { type DocumentStore, openBackend, ValidationError } from "../mod.ts";
import { MemoryBackend } from "../src/backends/memory.ts";
import { MemoryDocuments } from "../src/backends/memory/documents.ts";
import { evaluateAndNotify } from "../src/cli/notifications.ts";
import { BackendError, ConfigError } from "../src/errors.ts";
import { ALERT, BUDGET, CROSSING, EVALUATION, EXISTENCE } from "../src/monitoring/document_kinds.ts";
import { type Channel, parseChannels } from "../src/monitoring/notifications/channels.ts";
import { deliver, fillOutbox, type Outgoing, readOutbox } from "../src/monitoring/notifications/outbox.ts";
import { type Notification, send, SendError, sign } from "../src/monitoring/notifications/send.ts";
import { DAY_MS, HOUR_MS } from "../src/records/calendar.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "./assert.ts";
import { openfinops } from "./command.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { until } from "./until.ts";
import { HttpReceiver, SmtpReceiver } from "./receivers.ts";
import { startServer } from "./server.ts";

const NOTE: Notification = {
  key: "k".repeat(64),
  type: "alert-fired",
  at: NEW_YEAR,
  severity: "critical",
  message: "GPU overheating: <!channel>/a&b, [x](http://evil.example) 91 °C",
  details: { alertId: "gpu_overheating/prod/gpu-01" },
};

const webhook = (url: string, more: Partial<Channel> = {}): Channel => ({
  name: "ops",
  type: "webhook",
  url,
  ...more,
});

Deno.test("evaluateAndNotify() evaluates once another program frees the lock of the file", async () => {
  const backend = new MemoryBackend({ maxMemoryEntries: 10, onConflict: "ignore" });
  const { documents } = backend;
  let failures = 3;
  const read = documents.read.bind(documents);
  documents.read = (...args) => {
    if (failures-- <= 0) return read(...args);
    throw new BackendError("locked", { code: "LOCKED", operation: "read", kind: "transient" });
  };
  await evaluateAndNotify(backend, []);
  assertEquals((await read(EVALUATION)).length, 1);
});

Deno.test("sign() gives the signature of the Standard Webhooks for their example", () => {
  // From the reference implementations of https://www.standardwebhooks.com.
  const text = 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}';
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  assertEquals(sign(text, secret), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
});

Deno.test("send() posts a webhook as JSON that is signed and has an idempotency key", async () => {
  await using receiver = new HttpReceiver();
  await send(webhook(receiver.url("/hook"), { secret: "s3cret" }), NOTE);
  const [{ path, headers, text }] = receiver.received;
  assertEquals(path, "/hook");
  assertEquals(JSON.parse(text), { ...NOTE, at: "2026-01-01T00:00:00.000Z" });
  assertEquals(headers.get("content-type"), "application/json");
  assertEquals([headers.get("idempotency-key"), headers.get("webhook-id")], [NOTE.key, NOTE.key]);
  const signed = `${NOTE.key}.${headers.get("webhook-timestamp")}.${text}`;
  const expected = createHmac("sha256", "s3cret").update(signed).digest("base64");
  assertEquals(headers.get("webhook-signature"), `v1,${expected}`);
  assert(Math.abs(Number(headers.get("webhook-timestamp")) * 1_000 - Date.now()) < HOUR_MS);
});

Deno.test("send() posts the forms of Slack and Teams, in which names are no commands", async () => {
  await using receiver = new HttpReceiver();
  await send({ name: "s", type: "slack", url: receiver.url() }, NOTE);
  await send({ name: "t", type: "teams", url: receiver.url() }, NOTE);
  const [slack, teams] = receiver.received.map(({ text }) => JSON.parse(text));
  const said = "GPU overheating: &lt;!channel&gt;/a&amp;b, [x](http://evil.example) 91 °C";
  assertEquals(slack, { text: `*critical*: ${said}` });
  const [{ contentType, content }] = teams.attachments;
  assertEquals([teams.type, contentType], ["message", "application/vnd.microsoft.card.adaptive"]);
  assertEquals([content.type, content.version], ["AdaptiveCard", "1.4"]);
  assertEquals(content.body, [{
    type: "RichTextBlock",
    inlines: [{ type: "TextRun", text: `critical: ${NOTE.message}` }],
  }]);
});

Deno.test("send() sends mail by SMTP with a message id that stays the same", async () => {
  await using receiver = await SmtpReceiver.start("pa ss");
  const channel = {
    name: "mail",
    type: "email",
    from: "ops@x.example",
    to: ["a@x.example", "b@x.example"],
  } as const;
  const note = { ...NOTE, message: "line 1\r\nBcc: evil@x.example" };
  await send({ ...channel, url: receiver.url("kim@"), password: "pa ss" }, note);
  await send({ ...channel, url: receiver.url("kim:pa%20ss@") }, note);
  const [first, second] = receiver.received;
  assertEquals([first.from, first.to], ["ops@x.example", ["a@x.example", "b@x.example"]]);
  assertMatch(first.text, /^Subject: \[OpenFinOps\] critical: line 1 +Bcc: evil@x\.example\r$/m);
  assertMatch(first.text, new RegExp(`^Idempotency-Key:\\s+${NOTE.key}\r$`, "m"));
  const ids = [first, second].map(({ text }) =>
    /^Message-ID:\s+(<[0-9a-f]{64}@openfinops>)\r$/m.exec(text)?.[1]
  );
  assert(ids[0] !== undefined && ids[0] === ids[1], first.text);
});

Deno.test("send() says why it failed without the URL or a secret", async () => {
  await using receiver = new HttpReceiver();
  await using smtp = await SmtpReceiver.start("right");
  const mail = { name: "mail", type: "email", from: "a@x.example", to: ["b@x.example"] } as const;
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const closed = `//127.0.0.1:${listener.addr.port}/T0KEN`;
  listener.close();
  const cases: [Channel, number, RegExp][] = [
    [webhook(receiver.url("/T0KEN")), 500, /^the server answered 500$/],
    [webhook(receiver.url("/T0KEN")), 302, /^the server answered 302$/],
    [webhook(receiver.url(), { secret: "whsec_T0KEN!" }), 200, /^its secret is not Base64 after whsec_$/],
    [webhook(`http:${closed}`), 0, /^connection refused$/],
    [webhook("http://no-such-host.invalid/T0KEN"), 0, /^host not found$/],
    [{ ...mail, url: `smtp:${closed}` }, 0, /^connection refused$/],
    [{ ...mail, url: smtp.url("kim:T0KEN@") }, 0, /^user name or password refused$/],
  ];
  for (const [channel, status, reason] of cases) {
    const headers = { location: receiver.url("/T0KEN") };
    receiver.answer = () => new Response(null, { status: status || 204, headers });
    const error = await assertRejects(() => send(channel, NOTE), SendError) as Error;
    assertMatch(error.message, reason);
    assert(!Deno.inspect(error).includes("T0KEN"));
  }
});

Deno.test("send() gives up when a server does not answer in time", async () => {
  await using receiver = new HttpReceiver();
  const held = Promise.withResolvers<Response>();
  receiver.answer = () => held.promise;
  await assertRejects(() => send(webhook(receiver.url()), NOTE, 300), SendError, "no answer in time");
  held.resolve(new Response());
  const silent = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const accepting = silent.accept();
  const url = `smtp://127.0.0.1:${silent.addr.port}`;
  const channel = { name: "m", type: "email", url, from: "a@x.example", to: ["b@x.example"] } as const;
  await assertRejects(() => send(channel, NOTE, 300), SendError, "no answer in time");
  (await accepting).close();
  silent.close();
});

const rethrow = (error: unknown) => {
  throw error;
};
const SOURCES = {
  env: (name: string) =>
    ({ URL: "https://hooks.example/T0KEN", KEY: "T0KEN", BAD: "hooks.example/T0KEN" })[name],
  file: () => " T0KEN\n",
};

Deno.test("parseChannels() takes secrets from the environment and from files", () => {
  const json = `[
    { "name": "a", "type": "webhook", "url": { "env": "URL" }, "secret": { "file": "key" }, "topics": ["alert"] },
    { "name": "b", "type": "email", "url": "smtps://kim@mail.example", "password": { "env": "KEY" },
      "from": "a@x.example", "to": ["b@x.example"] }
  ]`;
  const [a, b] = parseChannels(json, SOURCES, rethrow);
  assertEquals(a, webhook("https://hooks.example/T0KEN", { name: "a", secret: "T0KEN", topics: ["alert"] }));
  assertEquals([b.type, b.password, b.to], ["email", "T0KEN", ["b@x.example"]]);
});

Deno.test("parseChannels() names what is wrong and shows no secret", () => {
  const with_ = (more: Record<string, unknown>) =>
    JSON.stringify([{ name: "a", type: "slack", url: "https://hooks.example/T0KEN", ...more }]);
  const cases: [string, RegExp][] = [
    ["[T0KEN", /JSON array/],
    [`{"url": "T0KEN"}`, /JSON array/],
    [with_({ type: "slak" }), /type must be one of webhook, slack, teams, email/],
    [with_({ type: undefined }), /type must be given/],
    [with_({ type: "webhook" }), /Cannot accept channel a: secret must be given/],
    [with_({ type: "email" }), /from must be given/],
    [with_({ secrets: "T0KEN" }), /unknown field "secrets"\. Did you mean "secret"/],
    [with_({ secret: 7070707 }), /the secret of a must be a text/],
    [with_({ topics: ["budgets"] }), /topics must be an array of budget, anomaly, alert/],
    [with_({ name: "a b" }), /name must be/],
    [with_({ url: { env: "NONE" } }), /the variable NONE is not set, which is the url of a\. Set it/],
    [with_({ url: { env: "BAD" } }), /the url of a must begin with https:\/\/ or http:\/\//],
    [with_({ url: { text: "T0KEN" } }), /the url of a must begin/],
    [with_({}).replace("[", "[{},"), /name must be given|type must be given/],
    [with_({}).replace(/^\[(.*)\]$/, "[$1,$1]"), /two of them are named a/],
  ];
  for (const [json, expected] of cases) {
    const error = assertThrows(() => parseChannels(json, SOURCES, rethrow)) as Error;
    assert(error instanceof ConfigError || error instanceof ValidationError, Deno.inspect(error));
    assertMatch(error.message, expected);
    assert(!/T0KEN|7070707/.test(error.message), error.message);
  }
});

Deno.test("parseChannels() returns the channels beside wrong ones, and names those", () => {
  const good = { name: "good", type: "slack", url: "https://hooks.example/T0KEN" };
  const wrong: [string | undefined, string][] = [];
  const json = JSON.stringify([{ ...good, name: "bad", type: "webhook" }, 7, {}, good, { ...good }]);
  const found = parseChannels(json, SOURCES, (error, name) => wrong.push([name, (error as Error).message]));
  assertEquals(found.map(({ name }) => name), ["good"]);
  assertEquals(wrong.map(([name]) => name), ["bad", undefined, undefined, "good"]);
  assertMatch(wrong.map(([, message]) => message).join("\n"), /channel bad: .*\n.*channel 2.*\n.*channel 3/);
});

Deno.test("openfinops imports, flushes and tests other channels beside a wrong one", async () => {
  using folder = new TemporaryFolder();
  await using receiver = new HttpReceiver();
  const channels = [{ name: "bad", type: "webhook", url: receiver.url() }, {
    ...webhook(receiver.url()),
    secret: "s",
  }];
  Deno.writeTextFileSync(folder.file("channels.json"), JSON.stringify(channels));
  const cost = { resourceId: "r", category: "c", amount: "1", currency: "USD" };
  const costs = [0, 70 * DAY_MS].map((age) => ({ ...cost, entryId: `${age}`, timestamp: Date.now() - age }));
  Deno.writeTextFileSync(folder.file("costs.ndjson"), costs.map((cost) => JSON.stringify(cost)).join("\n"));
  const budget = ["costs", "set-budget", "b", "--amount", "1"];
  assertEquals((await openfinops(budget, { cwd: folder.path })).code, 0);
  const run = async (command: string, file = "channels.json") => {
    const env = { OPENFINOPS_CHANNELS: file };
    const { code, err } = await openfinops(command.split(" "), { cwd: folder.path, env });
    return { code, err };
  };
  const noted = /channels\.json: Cannot accept channel bad: secret must be given/;
  for (const command of ["database import costs costs.ndjson", "notify test ops", "notify flush"]) {
    const { code, err } = await run(command);
    assertMatch(err, noted);
    assertEquals(code, 0, err);
  }
  // Of the thresholds of the present period the highest; none of the period before the budget.
  const messages = receiver.received.map(({ text }) => JSON.parse(text).message);
  assertMatch(messages.join("\n"), /^Budget b has reached 100 %: .*\nTest of OpenFinOps: .*$/);
  const test = await run("notify test bad");
  assertEquals(test.code === 0, false);
  assertMatch(test.err, noted);
  const missing = await run("database import costs costs.ndjson", "none.json");
  assertEquals(missing.code, 0, missing.err);
  assertMatch(missing.err, /none\.json is not a readable file/);
  assertEquals((await run("notify flush", "none.json")).code === 0, false);
});

Deno.test("openfinops serve notifies of what an import by the API crosses", async () => {
  using folder = new TemporaryFolder();
  await using receiver = new HttpReceiver();
  const database = ["--connection-string", folder.sqlite()];
  const budget = ["costs", "set-budget", "b", "--amount", "1", ...database];
  assertEquals((await openfinops(budget, { cwd: folder.path })).code, 0);
  const env = { OPENFINOPS_CHANNELS: JSON.stringify([webhook(receiver.url(), { secret: "s" })]) };
  const server = await startServer(database, { cwd: folder.path, env });
  const body = `timestamp,amount,currency,category,resourceId,entryId\n${
    new Date().toISOString()
  },1,USD,Compute,r,e\n`;
  const url = new URL("api/v1/costs/import?source=acme", server.url);
  const response = await fetch(url, { method: "POST", body });
  assertEquals(response.status, 200, await response.text());
  await until(() => receiver.received.length > 0, "the channel is told");
  assertEquals(await server.stop(), 0);
  assertMatch(JSON.parse(receiver.received[0].text).message, /^Budget b has reached 100 %/);
});

/** A budget, and a threshold that was crossed. */
async function cross(
  documents: DocumentStore,
  threshold: number,
  at: number,
  budgetId = "nlp",
): Promise<void> {
  const budget = { budgetId, name: budgetId, amount: "100", currency: "USD", period: "1mo", timeZone: "UTC" };
  await documents.write({ kind: BUDGET, id: budgetId, body: { ...budget, thresholds: [50, 80, 100] } });
  const startTime = Date.UTC(new Date(at).getUTCFullYear(), new Date(at).getUTCMonth());
  const crossing = { budgetId, startTime, threshold, at, spent: String(threshold) };
  await documents.write({ kind: CROSSING, id: `${budgetId}/${startTime}/${threshold}`, body: crossing });
}

const bodies = (outbox: readonly Outgoing[]) => outbox.map(({ body }) => body);
const NOW = Date.UTC(2026, 10, 20);
const BRIEF = { timeBudgetMs: 5_000, now: () => NOW };

Deno.test("fillOutbox() enqueues each threshold once for each channel that is told of budgets", async () => {
  const documents = new MemoryDocuments();
  await cross(documents, 80, NOW - HOUR_MS);
  const channels = [webhook("http://x/"), webhook("http://y/", { name: "b", topics: ["alert"] })];
  await Promise.all([1, 2, 3].map(() => fillOutbox(documents, channels, NOW)));
  await fillOutbox(documents, channels, NOW);
  const [{ id, body }, ...more] = await readOutbox(documents);
  assertEquals([id, more.length], [`budget/nlp/${Date.UTC(2026, 10)}/80/ops`, 0]);
  const { type, severity, message } = body.notification;
  assertEquals([type, severity], ["budget-threshold", "warning"]);
  assertEquals(message, "Budget nlp has reached 80 %: 80 of 100 USD are spent");
});

Deno.test("fillOutbox() leaves alone what another process has enqueued and sent meanwhile", async () => {
  await using receiver = new HttpReceiver();
  const documents = new MemoryDocuments();
  await cross(documents, 80, NOW);
  const channels = [webhook(receiver.url())];
  await fillOutbox(documents, channels, NOW);
  await deliver(documents, channels, BRIEF);
  const stale: DocumentStore = { // which has read the outbox before
    read: (kind) => kind === "notification" ? Promise.resolve([]) : documents.read(kind),
    write: (document, condition) => documents.write(document, condition),
    delete: (kind, id) => documents.delete(kind, id),
  };
  await fillOutbox(stale, channels, NOW);
  assertEquals(bodies(await readOutbox(documents)).map(({ state }) => state), ["sent"]);
});

Deno.test("fillOutbox() tells a new channel what still holds or is new, and forgets what is over", async () => {
  const documents = new MemoryDocuments();
  await cross(documents, 50, Date.UTC(2026, 10, 2)); // of the present period
  await cross(documents, 80, Date.UTC(2026, 9, 30)); // long ago, of a period that is over
  await cross(documents, 100, NOW - DAY_MS, "late");
  const channels = [webhook("http://x/")];
  await fillOutbox(documents, channels, NOW);
  const ids = async () =>
    (await readOutbox(documents)).map(({ body }) =>
      body.source.split("/").filter((_, i) => i !== 2).join("/")
    ).sort();
  assertEquals(await ids(), ["budget/late/100", "budget/nlp/50"]);
  for (const { id, body } of await readOutbox(documents)) {
    if (body.source.includes("late")) continue; // it is pending: nothing removes it
    await documents.write({ kind: "notification", id, body: { ...body, state: "sent" } });
  }
  await fillOutbox(documents, channels, Date.UTC(2026, 11, 1));
  assertEquals(await ids(), ["budget/late/100"]);
});

Deno.test("fillOutbox() sends the highest of the thresholds that are new, and covers the lower ones", async () => {
  const documents = new MemoryDocuments();
  const channels = [webhook("http://x/")];
  const states = async () =>
    Object.fromEntries(
      bodies(await readOutbox(documents)).map(({ source, state }) => [source.replace(/\/\d{13}/, ""), state]),
    );
  for (const budgetId of ["nlp", "other"]) {
    for (const threshold of [50, 100, 80]) await cross(documents, threshold, NOW, budgetId);
  }
  await cross(documents, 120, NOW, "third");
  await fillOutbox(documents, channels, NOW);
  const expected: Record<string, string> = { "budget/third/120": "pending" };
  for (const budgetId of ["nlp", "other"]) {
    Object.assign(expected, {
      [`budget/${budgetId}/50`]: "covered",
      [`budget/${budgetId}/80`]: "covered",
      [`budget/${budgetId}/100`]: "pending",
    });
  }
  assertEquals(await states(), expected);
  await cross(documents, 120, NOW);
  await fillOutbox(documents, channels, NOW);
  assertEquals(await states(), { ...expected, "budget/nlp/120": "pending" });
});

Deno.test("fillOutbox() tells of no period that ended before the budget or the channel existed", async () => {
  const documents = new MemoryDocuments();
  /** A threshold of a past month that costs which came late have crossed now. */
  const crossLate = async (month: number, budgetId: string) => {
    await cross(documents, 80, Date.UTC(2026, month), budgetId);
    const id = `${budgetId}/${Date.UTC(2026, month)}/80`;
    const [{ body }] = (await documents.read(CROSSING)).filter((crossing) => crossing.id === id);
    await documents.write({ kind: CROSSING, id, body: { ...body as object, at: NOW } });
  };
  const created = (budgetId: string, since: number) =>
    documents.write({ kind: EXISTENCE, id: `budget/${budgetId}`, body: { since } });
  await fillOutbox(documents, [webhook("http://x/")], Date.UTC(2026, 8, 1));
  await created("old", Date.UTC(2026, 7));
  await created("new", NOW - 1);
  for (const budgetId of ["old", "new"]) {
    for (const month of [8, 9, 10]) await crossLate(month, budgetId);
  }
  await fillOutbox(documents, [webhook("http://x/"), webhook("http://y/", { name: "late" })], NOW);
  const told = bodies(await readOutbox(documents)).map(({ channel, notification: { details } }) => {
    const { budgetId, startTime } = details as { budgetId: string; startTime: number };
    return `${channel} ${budgetId} ${new Date(startTime).getUTCMonth()}`;
  });
  assertEquals(told.sort(), [
    "late new 10",
    "late old 10",
    "ops new 10",
    "ops old 10",
    "ops old 8",
    "ops old 9",
  ]);
});

Deno.test("fillOutbox() tells when an alert fires, fires again and is resolved", async () => {
  const documents = new MemoryDocuments();
  const alert = {
    alertId: "gpu_overheating/prod/gpu-01",
    rule: "gpu_overheating",
    severity: "critical",
    clusterId: "prod",
    nodeId: "gpu-01",
    description: "GPU overheating",
    field: "temperature",
    value: 91,
    since: NOW,
  };
  const put = async (times: { firedAt: number; resolvedAt?: number }) => {
    await documents.write({ kind: ALERT, id: alert.alertId, body: { ...alert, ...times } });
    await fillOutbox(documents, [webhook("http://x/")], NOW);
  };
  await put({ firedAt: NOW - 3 });
  await put({ firedAt: NOW - 3, resolvedAt: NOW - 2 });
  await put({ firedAt: NOW - 1 });
  const notes = bodies(await readOutbox(documents)).map(({ notification }) => notification)
    .toSorted((a, b) => a.at - b.at);
  assertEquals(notes.map(({ type }) => type), ["alert-fired", "alert-resolved", "alert-fired"]);
  assertEquals(new Set(notes.map(({ key }) => key)).size, 3);
  assertEquals(notes[0].message, "critical: GPU overheating: prod/gpu-01, temperature 91");
  assertEquals(notes[1].message, "resolved: GPU overheating: prod/gpu-01, temperature 91");
});

Deno.test("deliver() sends each notification once when many processes deliver at once", async () => {
  using folder = new TemporaryFolder();
  await using receiver = new HttpReceiver();
  const config = { connectionString: folder.sqlite() };
  const backends = await Promise.all([1, 2, 3, 4].map(() => openBackend(config)));
  for (const budgetId of ["a", "b", "c"]) await cross(backends[0].documents, 80, NOW, budgetId);
  const channels = [webhook(receiver.url()), webhook(receiver.url(), { name: "other" })];
  await Promise.all(backends.map(({ documents }) => fillOutbox(documents, channels, NOW)));
  const reports = await Promise.all(backends.map(({ documents }) => deliver(documents, channels, BRIEF)));
  assertEquals(reports.reduce((sum, { sent }) => sum + sent, 0), 6);
  assertEquals([receiver.keys.length, new Set(receiver.keys).size], [6, 6]);
  const sent = bodies(await readOutbox(backends[0].documents));
  assertEquals(
    sent.map(({ state, attempts, sentAt }) => `${state} ${attempts} ${sentAt}`),
    Array(6).fill(`sent 1 ${NOW}`),
  );
  for (const backend of backends) await backend.close();
});

Deno.test("deliver() waits longer after each failure, and gives up after a day", async () => {
  await using receiver = new HttpReceiver();
  receiver.answer = () => new Response(null, { status: 503 });
  const documents = new MemoryDocuments();
  await cross(documents, 80, NOW);
  const channels = [webhook(receiver.url())];
  await fillOutbox(documents, channels, NOW);
  const waits: number[] = [];
  let now = NOW;
  let last = { isDead: false };
  while (!last.isDead) {
    const early = await deliver(documents, channels, { timeBudgetMs: 5_000, now: () => now - 1 });
    assertEquals(waits.length === 0 || early.failures.length === 0, true);
    if (waits.length === 0) assertEquals(early.failures, []);
    const { failures } = await deliver(documents, channels, { timeBudgetMs: 5_000, now: () => now });
    assertEquals(failures.map(({ channel, reason }) => [channel, reason]), [[
      "ops",
      "the server answered 503",
    ]]);
    [last] = failures;
    const [{ nextAt }] = bodies(await readOutbox(documents));
    waits.push(nextAt - now);
    now = nextAt;
  }
  assertEquals(
    waits.slice(0, 8).every((wait, i) =>
      wait >= 15_000 * 2 ** i && wait <= 30_000 * 2 ** i || wait >= HOUR_MS / 2 && wait <= HOUR_MS
    ),
    true,
    String(waits),
  );
  const [dead] = bodies(await readOutbox(documents));
  assertEquals([dead.state, dead.lastError], ["dead", "the server answered 503"]);
  assert(now - NOW >= DAY_MS && waits.length > 24 && waits.length < 70, `${waits.length}`);
  receiver.answer = () => new Response();
  assertEquals((await deliver(documents, channels, { timeBudgetMs: 5_000, isForced: true })).sent, 0);
  assertEquals((await deliver(documents, channels, { timeBudgetMs: 5_000, withDead: true })).sent, 1);
  assertEquals(new Set(receiver.keys).size, 1);
});

Deno.test("deliver() takes over from a process that was killed in an attempt, with the same key", async () => {
  await using receiver = new HttpReceiver();
  const documents = new MemoryDocuments();
  await cross(documents, 80, NOW);
  const channels = [webhook(receiver.url())];
  await fillOutbox(documents, channels, NOW);
  // A process that takes the entry and is gone before it records the outcome.
  const frozen: DocumentStore = {
    read: (kind) => documents.read(kind),
    delete: (kind, id) => documents.delete(kind, id),
    write: async (document, condition) => {
      if ((document.body as { state: string }).state === "sent") throw new Error("killed");
      return await documents.write(document, condition);
    },
  };
  await assertRejects(() => deliver(frozen, channels, BRIEF), Error, "killed");
  assertEquals(receiver.keys.length, 1);
  assertEquals((await deliver(documents, channels, BRIEF)).sent, 0); // it may still be at it
  const later = { ...BRIEF, now: () => NOW + 20_000 };
  assertEquals((await deliver(documents, channels, later)).sent, 1);
  assertEquals([receiver.keys.length, new Set(receiver.keys).size], [2, 1]);
});

Deno.test("deliver() leaves a channel of another process alone for a day", async () => {
  const documents = new MemoryDocuments();
  await cross(documents, 80, NOW);
  await fillOutbox(documents, [webhook("http://x/")], NOW);
  const other = [webhook("http://y/", { name: "other" })];
  assertEquals(await deliver(documents, other, BRIEF), { sent: 0, failures: [] });
  const { failures } = await deliver(documents, other, { ...BRIEF, now: () => NOW + DAY_MS });
  const reason = "no channel of this name is configured";
  assertEquals(failures, [{ channel: "ops", reason, isDead: true }]);
});
