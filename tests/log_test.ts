import { formatLog } from "../src/cli/log.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { type LogLine, startAgent } from "./agent.ts";
import { openfinops, withoutSlowMeasures } from "./command.ts";
import { NEW_YEAR, TemporaryFolder } from "./fixtures.ts";
import { promtool } from "./promtool.ts";
import { acceptRecords, HttpReceiver } from "./receivers.ts";
import { startServer } from "./server.ts";

const AT = ["--connection-string", "sqlite:///a.db"];
const SECRET = "hidden-token-1";

const parse = (lines: readonly string[]) => lines.map((line): LogLine => JSON.parse(line));

Deno.test("formatLog() writes a line that parsers and terminals can take", () => {
  const entry = {
    at: NEW_YEAR,
    level: "warn",
    message: 'a\nb\u009b "c"',
    fields: { n: 1, s: "x y", u: undefined },
  };
  const json = formatLog("json", entry as never);
  assert(!/\p{Cc}/u.test(json), json);
  assertEquals(JSON.parse(json), {
    time: "2026-01-01T00:00:00.000Z",
    level: "warn",
    message: entry.message,
    n: 1,
    s: "x y",
  });
  assertEquals(
    formatLog("text", entry as never),
    '2026-01-01T00:00:00.000Z warn a\\x0ab\\x9b "c" n=1 s="x y"',
  );
});

Deno.test("collect --log-format json logs start, heartbeat, stop, and nothing that is not JSON", async () => {
  using folder = new TemporaryFolder();
  await using agent = startAgent([...AT, "--log-format", "json", "--heartbeat", "100ms"], {
    cwd: folder.path,
  });
  await agent.line((line) => line.includes("Running.") && JSON.parse(line).accepted > 0);
  const { code, out } = await agent.stop();
  assertEquals(code, 0);
  assertMatch(out, /^Stored \d+ samples? in sqlite:\/\/\/a\.db\.\n/);
  const lines = parse(agent.lines);
  for (const { time, level } of lines) {
    assertEquals(new Date(time).toISOString(), time);
    assert(["info", "warn"].includes(level), level);
  }
  assertMatch(
    lines[0].message,
    /^Started to sample node \S+ of cluster default every 0\.1 s and store in sqlite:\/\/\/a\.db\.$/,
  );
  const { message, accepted, committed, alarms } = lines.at(-1)!;
  assertEquals([message, accepted, alarms], ["Stopped.", committed, undefined]);
});

Deno.test("collect logs an alarm and its end once each, serves its state, and never shows the token", async () => {
  using folder = new TemporaryFolder();
  await using server = new HttpReceiver();
  server.answer = () => Response.json({ error: { code: "TOKEN_REFUSED", message: "no" } }, { status: 401 });
  const options = ["--send", server.url(), "--listen", "0", "--log-format", "json", "--heartbeat", "100ms"];
  await using agent = startAgent(options, { cwd: folder.path, env: { OPENFINOPS_TOKEN: SECRET } });
  const serving = JSON.parse(await agent.line((line) => line.includes("Serving /metrics on ")));
  const url = /http:\S+/.exec(serving.message)![0];
  const ask = async (path: string, init?: RequestInit) => {
    const response = await fetch(new URL(path, url), init);
    return { status: response.status, text: await response.text() };
  };
  await agent.line((line) => JSON.parse(line).event === "paused");
  await agent.line((line) => JSON.parse(line).alarms?.length > 0); // a heartbeat
  assertEquals((await ask("/healthz")).status, 200);
  const { status, text } = await ask("/readyz");
  assertEquals([status, JSON.parse(text).error.reasons], [503, ["system_metrics: paused"]]);
  const metrics = (await ask("/metrics")).text;
  assertMatch(metrics, /^openfinops_ready 0$/m);
  assertMatch(metrics, /^openfinops_alarm\{backend="server",dataset="system_metrics"\} 1$/m);
  await promtool(["check", "metrics"], { stdin: metrics });
  const unknown = await ask("/x");
  const error = { code: "NOT_FOUND", message: "Unknown path. Use /healthz, /readyz, /metrics." };
  assertEquals([unknown.status, JSON.parse(unknown.text)], [404, { error }]);
  assertEquals((await ask("/metrics", { method: "POST" })).status, 405);
  const probe = ["probe", new URL("/readyz", url).href];
  assertEquals((await openfinops(probe, { cwd: folder.path })).code, 3);
  server.answer = acceptRecords;
  await agent.line((line) => JSON.parse(line).event === "resumed");
  assertEquals((await ask("/readyz")).status, 200);
  assertEquals((await openfinops(probe, { cwd: folder.path })).code, 0);
  const { code, out } = await agent.stop();
  assertEquals(code, 0);
  assertMatch(out, /^Sent \d+ samples? to http:\/\/127\.0\.0\.1:\d+\.\n$/);
  const events = parse(agent.lines).filter(({ event }) => event !== undefined);
  assertEquals(events.map(({ event, level, dataset }) => [event, level, dataset]), [
    ["paused", "error", "system_metrics"],
    ["resumed", "info", "system_metrics"],
  ]);
  assertEquals(events[0].code, "TOKEN_REFUSED");
  assert(server.received.every(({ headers }) => headers.get("authorization") === `Bearer ${SECRET}`));
  for (const shown of [out, ...agent.lines, metrics, text]) assert(!shown.includes(SECRET), shown);
});

Deno.test("collect --quiet prints nothing unless something is wrong", async () => {
  using folder = new TemporaryFolder();
  const { path: cwd } = folder;
  const run = ["collect", "--quiet", "--duration", "200ms", "--interval", "100ms"];
  const quiet = await openfinops([...run, ...AT, "--log-format", "text"], { cwd });
  assertEquals([quiet.code, quiet.out, withoutSlowMeasures(quiet.err)], [0, "", ""]);
  const { code, err } = await openfinops([...run, "--backend", "memory", "--send", "http://127.0.0.1:1"], {
    cwd,
  });
  assertEquals(code, 2);
  assertMatch(err, /--send and --backend name two places/);
});

Deno.test("collect logs an error as a line of its log, with its code", async () => {
  using folder = new TemporaryFolder();
  const none = ["--connection-string", "sqlite:///none/a.db"];
  const { code, err } = await openfinops(["collect", "--log-format", "json", ...none], { cwd: folder.path });
  assertEquals(code, 1);
  const last = parse(err.trim().split("\n")).at(-1)!;
  assertEquals([last.level, last.code], ["error", "FILE_NOT_FOUND"]);
  assert(!last.message.includes("["), last.message);
});

Deno.test("collect --listen stores nothing when another program has its port", async () => {
  using folder = new TemporaryFolder();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const run = await openfinops(["collect", "--listen", String(listener.addr.port), ...AT], {
    cwd: folder.path,
  });
  listener.close();
  assertEquals([run.code, run.out, [...Deno.readDirSync(folder.path)].length], [2, "", 0]);
  assertMatch(run.err, /another program listens there.* \[LISTEN_FAILED\]/);
});

Deno.test("collect refuses options of logs and servers that do not fit", async () => {
  using folder = new TemporaryFolder();
  const cases: [args: string[], env: Record<string, string>, message: RegExp][] = [
    [["--heartbeat", "1s"], {}, /--heartbeat is for logs/],
    [["--log-format", "xml"], {}, /Unknown log format "xml"/],
    [["--log-format", "text", "--heartbeat", "1ms"], {}, /at least 100ms/],
    [["--listen", "here"], {}, /--listen must be HOST:PORT/],
    [["--ca-file", "ca.pem"], {}, /Pass --send URL/],
    [["--ca-file", "none.pem", "--send", "https://a.example"], {}, /Cannot read the certificates: none\.pem/],
    [["--send", "ftp://a.example"], {}, /--send must be a URL/],
    [["--send", `http://user:${SECRET}@a.example`], {}, /without a user/],
    [["--send", "http://a.example", ...AT], {}, /name two places/],
    [["--send", "http://a.example"], { OPENFINOPS_TOKEN: `${SECRET} 2` }, /one line of visible characters/],
    [["--send", "http://a.example"], { OPENFINOPS_TOKEN_FILE: "none" }, /Cannot read the token: none/],
  ];
  for (const [args, env, message] of cases) {
    const { code, out, err } = await openfinops(["collect", ...args], { cwd: folder.path, env });
    assertEquals([code, out], [2, ""], err);
    assertMatch(err, message);
    assert(!err.includes(SECRET), err);
  }
});

Deno.test("collect --dry-run says what would be sampled and sends nothing", async () => {
  using folder = new TemporaryFolder();
  await using server = new HttpReceiver();
  const { path: cwd } = folder;
  const options = [
    "--node-id",
    "n1",
    "--interval",
    "15s",
    "--scrape",
    "localhost:9400",
    "--send",
    server.url(),
  ];
  const env = { OPENFINOPS_TOKEN: SECRET };
  const { code, out, err } = await openfinops(["collect", "--dry-run", ...options], { cwd, env });
  assertEquals([code, err, server.received.length], [0, "", 0]);
  const place = server.url().replace(/\/$/, "");
  assertEquals(
    out,
    `Would sample node n1 of cluster default and localhost:9400 every 15 s and send to ${place} with the token of OPENFINOPS_TOKEN.\n`,
  );
  assertEquals((await openfinops(["collect", "--dry-run", ...AT], { cwd })).code, 0);
  assertEquals([...Deno.readDirSync(cwd)], []);
});

Deno.test("serve --log-format json logs start, counters and stop, and no token", async () => {
  using folder = new TemporaryFolder();
  const { path: cwd } = folder;
  const { out: token } = await openfinops(["token", "create", "all", "--scope", "admin", ...AT], { cwd });
  const options = [...AT, "--log-format", "json", "--heartbeat", "100ms"];
  await using server = await startServer(options, { cwd, listen: "0.0.0.0:0" });
  const url = server.url.replace("0.0.0.0", "127.0.0.1");
  const headers = { authorization: `Bearer ${token.trim()}` };
  for (
    const path of ["api/v1/system-metrics", "api/v1/none", `api/v1/system-metrics?token=${token.trim()}`]
  ) {
    const body = JSON.stringify([{ timestamp: NEW_YEAR }, {
      timestamp: NEW_YEAR,
      nodeId: path.slice(0, 20),
    }]);
    await (await fetch(url + path, { method: "POST", headers, body })).body?.cancel();
  }
  assertEquals(await server.stop(), 0);
  const lines = parse(server.lines.filter((line) => line !== ""));
  assertMatch(lines[0].message, /^Listening on /);
  assertMatch(lines.at(-1)!.message, /^Stopped\. Stored \d+ records\.$/);
  assertEquals(lines.at(-1)!.accepted, lines.at(-1)!.committed);
  for (const line of server.lines) assert(!line.includes(token.trim()), line);
});
