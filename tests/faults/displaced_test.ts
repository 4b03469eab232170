/** Files of a spool that are removed, moved, replaced or cut while it is in use. */
import type { TelemetryEvent } from "../../mod.ts";
import type { FsyncPolicy } from "../../src/spool/spool.ts";
import type { SpoolFolder } from "../../src/spool/spool_folder.ts";
import type { SpoolGuard } from "../../src/spool/spool_guard.ts";
import { SpoolWorker } from "../../src/spool/spool_worker.ts";
import { assert, assertEquals } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { crash, LedgerSink, metrics, never, open, range } from "../spooled.ts";
import { TestDatabase } from "../postgres_server.ts";
import { Chance } from "./chance.ts";
import { inTime, until } from "../until.ts";
import { displaceSpool } from "./scenarios.ts";

const SPOOL = "spool/system_metrics";
const isJournal = (name: string) => name.endsWith(".journal");

/** The journal's files, oldest first. */
function journals(folder: TemporaryFolder): string[] {
  const names = [...Deno.readDirSync(folder.file(SPOOL))].map(({ name }) => name).filter(isJournal).sort();
  return names.map((name) => folder.file(`${SPOOL}/${name}`));
}

/** Puts the folder of another spool, with records of its own, in the place of this one. */
async function replaceFolder(folder: TemporaryFolder): Promise<void> {
  const sink = new LedgerSink();
  sink.refuse = () => never;
  const other = await open(folder.file("other"), sink);
  await other.accept(metrics(-1));
  await other.close({ deadlineMs: 0 });
  Deno.renameSync(folder.file(SPOOL), folder.file("moved"));
  Deno.renameSync(folder.file("other/system_metrics"), folder.file(SPOOL));
}

type Harm = (folder: TemporaryFolder) => void | Promise<void>;

const HARMS: Readonly<Record<string, Harm>> = {
  "its folder is removed": (folder) => Deno.removeSync(folder.file(SPOOL), { recursive: true }),
  "the folder above is removed": (folder) => Deno.removeSync(folder.file("spool"), { recursive: true }),
  "its folder is moved": (folder) => Deno.renameSync(folder.file(SPOOL), folder.file("moved")),
  "its folder is emptied": (folder) => {
    for (const { name } of Deno.readDirSync(folder.file(SPOOL))) {
      Deno.removeSync(folder.file(`${SPOOL}/${name}`));
    }
  },
  "its folder is replaced by a copy": (folder) => {
    const copy = crash(folder);
    Deno.removeSync(folder.file("spool"), { recursive: true });
    Deno.renameSync(copy, folder.file("spool"));
  },
  "its folder is replaced by that of another spool": replaceFolder,
  "the oldest segment is removed": (folder) => Deno.removeSync(journals(folder)[0]),
  "the newest segment is removed": (folder) => Deno.removeSync(journals(folder).at(-1)!),
  "the newest segment is replaced by a file": (folder) => {
    const path = journals(folder).at(-1)!;
    Deno.removeSync(path);
    Deno.writeTextFileSync(path, "x".repeat(100_000));
  },
  "all segments are emptied": (folder) => journals(folder).forEach((path) => Deno.truncateSync(path, 0)),
  "the lock is removed": (folder) => Deno.removeSync(folder.file(`${SPOOL}/lock`)),
};

/** Fills a spool whose backend is down with records in several segments, and has it record what it is told. */
async function fill(folder: TemporaryFolder, fsync: FsyncPolicy) {
  const sink = new LedgerSink();
  const release = Promise.withResolvers<undefined>();
  sink.refuse = () => release.promise;
  const events: TelemetryEvent[] = [];
  const onEvent = (event: TelemetryEvent) => void events.push(event);
  const pipeline = await open(folder.file("spool"), sink, { fsync, onEvent, maxBytes: 2 ** 18 });
  const add = (from: number, to: number) =>
    Promise.all(range(from, to).map((number) => pipeline.accept(metrics(number))));
  for (let from = 0; from < 900; from += 100) await add(from, from + 100);
  await until(() => sink.attempts.length > 0, "a batch is on its way");
  assert(journals(folder).length > 1, "there is one segment only");
  const told = () => events.map(({ type }) => type);
  return { pipeline, sink, add, told, release: () => release.resolve(undefined) };
}

/** Records that the next process stores if this one is killed now. */
async function storedAfterCrash(folder: TemporaryFolder, sink: LedgerSink): Promise<number[]> {
  const next = new LedgerSink(sink);
  const pipeline = await open(crash(folder), next);
  await inTime(pipeline.flush(), "all is stored");
  await pipeline.close({ deadlineMs: 30_000 });
  return next.numbers;
}

for (const fsync of ["batch", "interval", "none"] as const satisfies FsyncPolicy[]) {
  for (const [what, harm] of Object.entries(HARMS)) {
    Deno.test(`Spool with fsync ${fsync} raises an alarm and loses nothing when ${what}`, async () => {
      using folder = new TemporaryFolder();
      const { pipeline, sink, add, told, release } = await fill(folder, fsync);
      await harm(folder);
      await inTime(add(900, 1_000), "records are acknowledged again");
      await until(() => told().includes("resumed"), "the alarm is over");
      assertEquals(told().filter((type) => type !== "spool-damaged").slice(0, 2), ["paused", "resumed"]);
      assertEquals(await storedAfterCrash(folder, sink), range(0, 1_000));
      release();
      await inTime(pipeline.flush(), "all is stored");
      assertEquals(sink.numbers, range(0, 1_000));
      const { lost } = await pipeline.close({ deadlineMs: 30_000 });
      assertEquals([lost, pipeline.stats().dropped], [0, 0]);
      assertEquals(journals(folder), []);
    });
  }
}

for (const what of ["its folder is moved", "the oldest segment is removed"]) {
  Deno.test(`Spool without new records raises an alarm when ${what}`, async () => {
    using folder = new TemporaryFolder();
    const { pipeline, sink, told } = await fill(folder, "batch");
    await HARMS[what](folder);
    await until(() => told().includes("resumed"), "the alarm is over");
    assertEquals(await storedAfterCrash(folder, sink), range(0, 900));
    await pipeline.close({ deadlineMs: 0 });
  });

  Deno.test(`Spool in close() keeps its records for the next process when ${what}`, async () => {
    using folder = new TemporaryFolder();
    const { pipeline, sink } = await fill(folder, "batch");
    await HARMS[what](folder);
    assertEquals(await pipeline.close({ deadlineMs: 0 }), {
      committed: 0,
      spooled: 900,
      deadLettered: 0,
      lost: 0,
    });
    assertEquals(await storedAfterCrash(folder, sink), range(0, 900));
  });
}

Deno.test("Spool stores each record once when its folder is moved and moved back", async () => {
  using folder = new TemporaryFolder();
  const { pipeline, sink, add, told, release } = await fill(folder, "batch");
  Deno.renameSync(folder.file(SPOOL), folder.file("moved"));
  await inTime(add(900, 950), "records are acknowledged again");
  Deno.removeSync(folder.file(SPOOL), { recursive: true });
  Deno.renameSync(folder.file("moved"), folder.file(SPOOL));
  await inTime(add(950, 1_000), "records are acknowledged again");
  await until(() => told().filter((type) => type === "resumed").length === 2, "the alarm is over");
  assertEquals(await storedAfterCrash(folder, sink), range(0, 1_000));
  release();
  await inTime(pipeline.flush(), "all is stored");
  assertEquals((await pipeline.close({ deadlineMs: 30_000 })).lost, 0);
  assertEquals(await storedAfterCrash(folder, sink), range(0, 1_000));
});

Deno.test("Spool acknowledges nothing while a file replaces its folder", async () => {
  using folder = new TemporaryFolder();
  const { pipeline, sink, add, told } = await fill(folder, "none");
  Deno.removeSync(folder.file(SPOOL), { recursive: true });
  Deno.writeTextFileSync(folder.file(SPOOL), "");
  let isAcknowledged = false;
  const adding = add(900, 1_000).then(() => isAcknowledged = true);
  await until(() => told().includes("paused"), "the alarm is raised");
  assertEquals(isAcknowledged, false);
  assert(pipeline.stats().alarm?.includes(SPOOL), pipeline.stats().alarm);
  Deno.removeSync(folder.file(SPOOL));
  await inTime(adding, "records are acknowledged again");
  assertEquals(told(), ["paused", "resumed"]);
  assertEquals(await storedAfterCrash(folder, sink), range(0, 1_000));
  await pipeline.close({ deadlineMs: 0 });
});

Deno.test("Spool counts its records as lost when it cannot be rewritten", async () => {
  using folder = new TemporaryFolder();
  const { pipeline } = await fill(folder, "batch");
  Deno.removeSync(folder.file(SPOOL), { recursive: true });
  Deno.writeTextFileSync(folder.file(SPOOL), "");
  assertEquals(await pipeline.close({ deadlineMs: 0 }), {
    committed: 0,
    spooled: 0,
    deadLettered: 0,
    lost: 900,
  });
});

Deno.test("Spool keeps records on disk when its folder is removed", async () => {
  using folder = new TemporaryFolder();
  const sink = new LedgerSink();
  const release = Promise.withResolvers<undefined>();
  sink.refuse = () => release.promise;
  const pipeline = await open(folder.file("spool"), sink, { maxBytes: 2 ** 25 });
  for (let from = 0; from < 40_000; from += 1_000) {
    await Promise.all(range(from, from + 1_000).map((number) => pipeline.accept(metrics(number))));
  }
  assert(pipeline.stats().spooled > 10_000, JSON.stringify(pipeline.stats()));
  Deno.removeSync(folder.file(SPOOL), { recursive: true });
  release.resolve(undefined);
  await inTime(pipeline.flush(), "all is stored");
  assertEquals(sink.numbers, range(0, 40_000));
  const { lost } = await pipeline.close({ deadlineMs: 30_000 });
  assertEquals([lost, pipeline.stats().dropped], [0, 0]);
});

Deno.test("SpoolWorker reports lost files that a second attempt finds after another write succeeded", async () => {
  const told: string[] = [];
  let isGone = false;
  const check = () => isGone ? Promise.reject(new Error("moved")) : Promise.resolve();
  const guard = { check, restore: () => Promise.resolve() } as unknown as SpoolGuard;
  const folder = { path: "spool", keepReserve: () => Promise.resolve() } as unknown as SpoolFolder;
  const write = (run: () => Promise<void>) => work.persist(run, { isIntake: true });
  const onEvent = ({ type }: { type: string }) => {
    told.push(type);
    if (told.length === 1) void write(() => Promise.resolve()).then(() => isGone = true); // before the second attempt
  };
  const work = new SpoolWorker({ folder, guard, dataset: "system_metrics", onEvent });
  let attempts = 0;
  await write(() => ++attempts === 1 ? Promise.reject(new Error("EIO")) : Promise.resolve());
  assertEquals(told, ["paused", "resumed", "paused", "resumed"]);
});

Deno.test("Spool loses and duplicates nothing when its files keep vanishing, with SQLite", async () => {
  using folder = new TemporaryFolder();
  await displaceSpool(new Chance(1), { connectionString: folder.sqlite(), harms: 8 });
});

Deno.test("Spool loses and duplicates nothing when files keep vanishing, with PostgreSQL", async () => {
  await using database = await TestDatabase.create();
  await displaceSpool(new Chance(2), { connectionString: database.url, harms: 4 });
});
