/**
 * Kills of an import between its commit and the delivery of its notifications.
 *
 * @module
 */
import { CostObservatory, openBackend } from "../../mod.ts";
import { readOutbox } from "../../src/monitoring/notifications/outbox.ts";
import { assert, assertEquals } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { HttpReceiver, SmtpReceiver } from "../receivers.ts";
import type { Chance } from "./chance.ts";
import { runOf } from "../command.ts";

const CLI = new URL("../../cli.ts", import.meta.url).href;

/**
 * Kills imports that each cross a threshold of a budget of their own: when a channel is asked, before or after it has
 * answered, or at a random moment. Every channel hears of every threshold, never with two keys for one.
 */
export async function killNotifier(
  chance: Chance,
  { connectionString, kills }: { connectionString: string; kills: number },
): Promise<void> {
  using folder = new TemporaryFolder();
  await using http = new HttpReceiver();
  await using smtp = await SmtpReceiver.start();
  const channels = [
    { name: "web", type: "webhook", url: http.url("/web"), secret: "s" },
    { name: "chat", type: "slack", url: http.url("/chat") },
    { name: "mail", type: "email", url: smtp.url(), from: "a@x.example", to: ["b@x.example"] },
  ];
  const run = (...args: string[]) =>
    new Deno.Command(Deno.execPath(), {
      args: [
        ...runOf(CLI),
        ...args,
        "--connection-string",
        connectionString,
      ],
      env: { OPENFINOPS_CHANNELS: JSON.stringify(channels) },
      stdout: "null",
      stderr: "piped",
    });
  await using costs = await CostObservatory.open({ connectionString });
  const budgets = Array.from({ length: kills }, (_, i) => `budget-${i}`);
  for (const budgetId of budgets) {
    await costs.createBudget({ budgetId, amount: "1", thresholds: [100], resourceId: budgetId });
  }
  await costs.flush();
  let wholeMs = 1_000;
  for (const [i, budgetId] of budgets.entries()) {
    const file = folder.file(`${budgetId}.csv`);
    Deno.writeTextFileSync(
      file,
      `timestamp,resourceId,category,amount,currency\n${Date.now()},${budgetId},c,2,USD\n`,
    );
    const begun = performance.now();
    const process = run("database", "import", "costs", file, "--source", budgetId).spawn();
    const kill = () => {
      try {
        process.kill("SIGKILL");
      } catch {
        // it has just ended by itself
      }
    };
    const how = chance.of(["asked", "answered", "random", "random"]);
    const timer = setTimeout(kill, how === "random" ? chance.between(wholeMs / 2, 1.2 * wholeMs) : 60_000);
    http.answer = async () => {
      if (how === "asked") kill();
      if (how === "answered") setTimeout(kill, chance.between(0, 10));
      return await Promise.resolve(new Response());
    };
    const { code, signal, stderr } = await process.output();
    clearTimeout(timer);
    assert(code === 0 || signal === "SIGKILL", new TextDecoder().decode(stderr));
    if (code === 0 && i === 0) wholeMs = performance.now() - begun;
    const stored = await costs.queryHistoricalCosts({ resourceId: budgetId });
    if (stored.length === 0) { // it was killed before its commit
      http.answer = () => new Response();
      const again = await run("database", "import", "costs", file, "--source", budgetId).output();
      assertEquals(again.code, 0, new TextDecoder().decode(again.stderr));
    }
  }
  http.answer = () => new Response();
  const { code, stderr } = await run("notify", "flush", "--time-budget", "90s").output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  const keysOf = (path: string) =>
    http.received.filter((one) => one.path === path).map((one) => one.headers.get("idempotency-key")!);
  const ofMails = smtp.received.map(({ text }) => /^Idempotency-Key:\s+(\S+)/m.exec(text)![1]);
  const backend = await openBackend({ connectionString });
  const outbox = await readOutbox(backend.documents);
  await backend.close();
  for (
    const [channel, keys] of [["web", keysOf("/web")], ["chat", keysOf("/chat")], ["mail", ofMails]] as const
  ) {
    const entries = outbox.filter(({ body }) =>
      body.channel === channel && body.notification.type === "budget-threshold"
    );
    assertEquals(entries.map(({ body }) => body.state), budgets.map(() => "sent"), channel);
    const expected = entries.map(({ body }) => body.notification.key);
    assertEquals(new Set(expected).size, budgets.length);
    for (const key of expected) assert(keys.includes(key), `${channel} never heard of ${key}`);
    const known = new Set(outbox.map(({ body }) => body.notification.key));
    for (const key of keys) {
      assert(known.has(key), `${channel} heard of ${key}, which the outbox does not know`);
    }
  }
}
