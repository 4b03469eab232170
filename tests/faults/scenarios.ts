/**
 * Faults, each of which ends in the conservation rule and in an exact comparison of what was acknowledged with what
 * is stored. The tests run them one by one, and `chaos.ts` at random.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import type { PersistenceConfig } from "../../mod.ts";
import { DeadLetters } from "../../src/pipeline/dead_letters.ts";
import type { SystemMetrics } from "../../src/records/system_metrics.ts";
import { assert, assertEquals } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { PostgresServer, runSql, sharedServer, TestDatabase } from "../postgres_server.ts";
import type { Chance } from "./chance.ts";
import { assertStored, conserved, Load, storedNumbers } from "./load.ts";
import { sleep, until } from "../until.ts";
import { Proxy } from "./proxy.ts";
import { runOf } from "../command.ts";

/** Numbers that a life of a process may use. */
const LIFE = 1_000_000;

/** Kills a process that writes, at random moments; the next one goes on with its spool. */
export async function killWriter(
  chance: Chance,
  { connectionString, kills }: { connectionString: string; kills: number },
): Promise<void> {
  using folder = new TemporaryFolder();
  const acknowledged: number[] = [];
  for (let life = 0; life < kills; life++) {
    const process = new Deno.Command(Deno.execPath(), {
      args: [
        ...runOf(new URL("writer.ts", import.meta.url).href),
        connectionString,
        folder.path,
        String(life * LIFE),
      ],
      stdout: "piped",
    }).spawn();
    let seen = "";
    for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
      if (seen === "") setTimeout(() => process.kill("SIGKILL"), chance.between(0, 150));
      seen += text;
    }
    await process.status;
    acknowledged.push(...seen.split("\n").slice(0, -1).map(Number));
  }
  assert(acknowledged.length >= 10 * kills, `only ${acknowledged.length} were acknowledged`);
  // What is left in the spool is written by a process that is not killed.
  const last = await Load.open({ connectionString, spoolDirectory: folder.path });
  await last.hub.flush();
  conserved(last.hub);
  await last.hub.close();
  await assertStored(connectionString, acknowledged, { also: (number) => number < kills * LIFE });
}

/** Stops the server at once in the middle of writing, and starts it again, so many times. */
export async function crashServer(chance: Chance, { crashes, spool }: { crashes: number; spool: boolean }) {
  using folder = new TemporaryFolder();
  await using server = await PostgresServer.start({ settings: ["fsync = on"] });
  const load = await Load.open({
    connectionString: server.url(),
    ...(spool ? { spoolDirectory: folder.path } : {}),
  });
  await load.addUntil((async () => {
    for (let i = 0; i < crashes; i++) {
      await sleep(chance.between(20, 200));
      await server.stop("immediate");
      await sleep(chance.between(0, 100));
      await server.resume();
    }
  })());
  assert(conserved(load.hub).retries > 0, "no write met a crash");
  await load.endsExactly(server.url());
}

/** A network that cuts connections, falls silent, and cuts them just before the reply to COMMIT. */
export async function breakNetwork(chance: Chance, { faults }: { faults: number }): Promise<void> {
  await using database = await TestDatabase.create();
  await using proxy = await Proxy.start(Number(new URL(database.url).port));
  const load = await Load.open({ connectionString: proxy.url(database.url) });
  await load.addUntil((async () => {
    for (let i = 0; i < faults; i++) {
      await sleep(chance.between(5, 60));
      const fault = i % 3;
      if (fault === 0) proxy.cut();
      else if (fault === 1) {
        proxy.cutCommits(1);
        await until(() => proxy.hasCutCommits, "a commit is cut");
      } else {
        proxy.stall();
        await sleep(chance.between(20, 100));
        proxy.resume();
      }
    }
  })());
  assert(proxy.cuts > 0 && conserved(load.hub).retries > 0, "no write met a fault");
  await load.endsExactly(database.url);
}

/** An administrator who ends every session that writes, for a while. */
export async function endSessions(_chance: Chance, { forMs }: { forMs: number }): Promise<void> {
  await using database = await TestDatabase.create();
  const load = await Load.open({ connectionString: database.url });
  await load.addUntil((async () => {
    for (
      const end = performance.now() + forMs;
      performance.now() < end || conserved(load.hub).retries === 0;
    ) {
      await database.sql(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database.name}' ` +
          "AND pid <> pg_backend_pid() AND (query LIKE 'COPY%' OR query LIKE '%ledger%' OR query = 'COMMIT')",
      );
    }
  })());
  await load.endsExactly(database.url);
}

/** A server that answers each write with an SQLSTATE of a class that says nothing of the records, for a while. */
export async function failServer(chance: Chance, { forMs }: { forMs: number }): Promise<void> {
  await using database = await TestDatabase.create();
  const told: string[] = [];
  const load = await Load.open({ connectionString: database.url, onEvent: ({ type }) => told.push(type) });
  const sqlState = chance.of(["XX000", "XX001", "72000", "F0001", "QQ123"]);
  await load.addUntil((async () => {
    await database.sql(`
      CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'a fault of the server' USING ERRCODE = '${sqlState}'; END $$;
      CREATE TRIGGER fail BEFORE INSERT ON system_metrics FOR EACH STATEMENT EXECUTE FUNCTION fail()`);
    await sleep(forMs);
    await until(() => told.includes("paused"), `an alarm for ${sqlState}`);
    await database.sql("DROP TRIGGER fail ON system_metrics");
  })());
  await load.endsExactly(database.url);
  assertEquals(conserved(load.hub).deadLettered, 0);
}

/** Takes the files of a spool away in the middle of writing, so many times. */
export async function displaceSpool(
  chance: Chance,
  { connectionString, harms }: { connectionString: string; harms: number },
): Promise<void> {
  using folder = new TemporaryFolder();
  const spool = folder.file("spool/system_metrics");
  const told: string[] = [];
  const load = await Load.open({
    connectionString,
    spoolDirectory: folder.file("spool"),
    fsync: chance.of(["batch", "interval", "none"]),
    onEvent: ({ type, dataset }) => void (dataset === "system_metrics" && told.push(type)),
  });
  const isThere = () => {
    try {
      return Deno.statSync(`${spool}/lock`).isFile;
    } catch {
      return false;
    }
  };
  const count = (what: string) => told.filter((type) => type === what).length;
  const harm = [
    () => removeTree(folder.file("spool")),
    () => Deno.renameSync(spool, folder.file(crypto.randomUUID())),
    () => [...Deno.readDirSync(spool)].forEach(({ name }) => removeTree(`${spool}/${name}`)),
    () => Deno.removeSync(`${spool}/lock`),
  ];
  await load.addUntil((async () => {
    for (let i = 0; i < harms; i++) {
      await sleep(chance.between(5, 100));
      let alarms = 0;
      // In one step: intake and worker raise an alarm each, and one that is still raised is not reported again.
      await until(() => {
        if (!isThere() || load.hub.stats().datasets.system_metrics!.alarm !== undefined) return false;
        alarms = count("paused");
        chance.of(harm)();
        return true;
      }, "the spool is written again");
      // A check that had failed before repairs the files without another alarm.
      await until(
        () => count("paused") > alarms || isThere(),
        "the alarm is raised, or the spool is repaired",
      );
    }
  })());
  assert(told.includes("paused"), "no alarm was raised");
  await load.endsExactly(connectionString);
}

/** Removes a file or a folder in which the spool may be writing. */
function removeTree(path: string): void {
  for (;;) {
    try {
      return Deno.removeSync(path, { recursive: true });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return; // the spool removed it
      if ((error as { code?: string }).code !== "ENOTEMPTY") throw error; // the spool wrote meanwhile
    }
  }
}

/** A SQLite file that another process locks for a while. */
export async function lockFile(chance: Chance, { locks }: { locks: number }): Promise<void> {
  using folder = new TemporaryFolder();
  const load = await Load.open({ connectionString: folder.sqlite(), sqliteDriver: "node:sqlite" });
  const other = new DatabaseSync(folder.file("test.db"));
  await load.addUntil((async () => {
    for (let i = 0; i < locks || conserved(load.hub).retries === 0; i++) {
      other.exec("BEGIN IMMEDIATE");
      await sleep(chance.between(1, 50)); // SQLite itself waits in vain meanwhile, without giving way
      other.exec("ROLLBACK");
      await sleep(chance.between(1, 20));
    }
  })());
  other.close();
  await load.endsExactly(folder.sqlite());
}

/** Records that the table refuses, among others or nothing else: they are set aside, and cost no neighbor. */
export async function poison(
  chance: Chance,
  { connectionString, records, share, spool }: {
    connectionString: string;
    records: number;
    share: number;
    spool: boolean;
  },
): Promise<void> {
  using folder = new TemporaryFolder();
  const load = await Load.open({
    connectionString,
    batchSize: records,
    deadLetterDirectory: folder.file("letters"),
    ...(spool ? { spoolDirectory: folder.file("spool") } : {}),
  });
  await refusePoison(connectionString);
  const bad = new Set<number>();
  await load.add(records, (number) => {
    if (chance.next() >= share) return "good";
    bad.add(number);
    return "poison";
  });
  await load.hub.flush();
  assertEquals(conserved(load.hub).deadLettered, bad.size);
  assertEquals((await load.hub.close()).lost, 0);
  await assertStored(connectionString, [...load.acknowledged].filter((number) => !bad.has(number)));
  const letters = await Array.fromAsync(new DeadLetters(folder.file("letters"), "system_metrics").list());
  const numbers = letters.map(({ record }) => (record as SystemMetrics).activeConnections);
  assertEquals(new Set(numbers), bad);
  assertEquals(numbers.length, bad.size);
  // Refused as what they are, so that no record was tried for ten minutes before.
  assertEquals([...new Set(letters.map(({ code }) => code))], ["CONSTRAINT_VIOLATED"]);
}

/** Has the table of system metrics refuse some records. */
async function refusePoison(connectionString: string): Promise<void> {
  if (connectionString.startsWith("postgresql:")) {
    await runSql(connectionString, "ALTER TABLE system_metrics ADD CHECK (node_id <> 'poison')");
    return;
  }
  const database = new DatabaseSync(connectionString.replace("sqlite:///", ""));
  database.exec(
    "CREATE TRIGGER refuse BEFORE INSERT ON system_metrics WHEN new.node_id = 'poison' " +
      "BEGIN SELECT RAISE(ABORT, 'poison: a constraint failed'); END",
  );
  database.close();
}

/** A backend that is away for longer than buffers hold, and then comes back. */
export async function outlastBuffers(
  _chance: Chance,
  { overflow, spool }: { overflow: NonNullable<PersistenceConfig["overflow"]>; spool: boolean },
): Promise<void> {
  using folder = new TemporaryFolder();
  const maxSpoolBytes = 1_000_000; // some 7,000 records
  const load = await Load.open({
    connectionString: folder.sqlite(),
    sqliteDriver: "node:sqlite",
    overflow,
    ...(spool ? { spoolDirectory: folder.file("spool"), maxSpoolBytes } : {}),
  });
  const table = new DatabaseSync(folder.file("test.db"));
  table.exec("ALTER TABLE system_metrics RENAME TO hidden");
  let isWaiting = true;
  const adding = (async () => {
    for (let i = 0; i < 80; i++) await load.add(500);
    isWaiting = false;
  })();
  if (overflow === "block") await sleep(500);
  else await adding;
  assertEquals(isWaiting, overflow === "block");
  const { dropped, spoolBytes } = conserved(load.hub);
  assertEquals(dropped > 0, overflow !== "block");
  assert(spoolBytes < 1.5 * maxSpoolBytes, `${spoolBytes} bytes in the spool`);
  table.exec("ALTER TABLE hidden RENAME TO system_metrics");
  table.close();
  await load.hub.flush().catch(() => {});
  await adding;
  await load.hub.flush();
  assertEquals((await load.hub.close()).lost, 0);
  const stats = conserved(load.hub);
  assertEquals(stats.committed + stats.dropped, 40_000);
  assertEquals((await storedNumbers(folder.sqlite())).length, stats.committed);
  assertEquals(load.acknowledged, new Set(range(0, 40_000)));
  // The ends tell which ones were dropped: the first batch was on its way, the last records came last.
  const kept = {
    "block": load.acknowledged,
    "drop-newest": range(0, 5_000),
    "drop-oldest": range(38_000, 40_000),
  }[overflow];
  await assertStored(folder.sqlite(), kept, { also: (number) => load.acknowledged.has(number) });
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** Closing with a deadline while the backend is away: what is left goes into the spool, or is told as lost. */
export async function closeInOutage(chance: Chance, { spool }: { spool: boolean }): Promise<void> {
  using folder = new TemporaryFolder();
  await using database = await TestDatabase.create();
  await using proxy = await Proxy.start(Number(new URL(database.url).port));
  const config = spool ? { spoolDirectory: folder.path } : {};
  const load = await Load.open({ connectionString: proxy.url(database.url), ...config });
  await load.add(chance.between(10, 200));
  await load.hub.flush();
  if (chance.next() < 0.5) proxy.stall();
  else await proxy[Symbol.asyncDispose]();
  await load.add(chance.between(10, 2_000));
  const report = await load.hub.close({ deadlineMs: 50 });
  conserved(load.hub);
  proxy.resume();
  assertEquals(report.committed + report.spooled + report.lost, load.acknowledged.size);
  if (!spool) {
    assertEquals(report.spooled, 0);
    assert(report.lost > 0);
    // A batch whose commit was under way at the deadline may be stored and yet be told as lost: that is not known.
    const also = (number: number) => load.acknowledged.has(number);
    return await assertStored(database.url, range(0, report.committed), { also });
  }
  assertEquals(report.lost, 0);
  Deno.removeSync(folder.file("system_metrics/database")); // the same database, at another port
  const next = await Load.open({ connectionString: database.url, ...config });
  assertEquals(conserved(next.hub).accepted, report.spooled);
  await next.hub.flush();
  await next.hub.close();
  await assertStored(database.url, load.acknowledged);
}

/** Fills a small disk under the spool or under SQLite, by itself or with other things; gives "done", or what went wrong. */
export async function fillDisk(
  what: "spool" | "shared" | "sqlite" | "duckdb" | "cleanup",
): Promise<string> {
  if (Deno.build.os !== "linux") {
    console.log(`Not run: a full disk under ${what}: only Linux can mount one for a test`);
    return "done";
  }
  const program = new URL("full_disk.ts", import.meta.url).href;
  const deno = [Deno.execPath(), ...runOf(program), what];
  // Who is not root may mount a disk within a user namespace of one's own.
  const [command, ...args] = Deno.uid() === 0 ? deno : ["unshare", "-Urm", ...deno];
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const decoder = new TextDecoder();
  return success ? decoder.decode(stdout).trim() : decoder.decode(stderr);
}

/** Connection strings with a marked password, in odd forms: nothing may show it. */
export async function leakNothing(chance: Chance, { strings }: { strings: number }): Promise<void> {
  const { port } = new URL(sharedServer());
  const program = new URL("secrets.ts", import.meta.url).href;
  const seed = String(chance.between(0, 2 ** 32));
  const args = [...runOf(program), seed, String(strings), port];
  const { code, stdout } = await new Deno.Command(Deno.execPath(), { args }).output();
  assertEquals(code, 0, new TextDecoder().decode(stdout));
}
