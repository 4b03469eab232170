/**
 * Full disks, in a process of its own that may mount one: `full_disk.ts spool|shared|sqlite|duckdb|cleanup`. It ends with "done".
 *
 * @module
 */
import { openBackend, type TelemetryEvent } from "../../mod.ts";
import { systemMetrics } from "../../src/records/system_metrics.ts";
import { assert, assertEquals } from "../assert.ts";
import { NEW_YEAR, TemporaryFolder } from "../fixtures.ts";
import { DatabaseSync } from "node:sqlite";
import { conserved, Load } from "./load.ts";
import { inTime, sleep, until } from "../until.ts";

/** A disk of so many KiB, where there is the right to mount one. */
async function mount(path: string, kibibytes: number): Promise<void> {
  const { success, stderr } = await new Deno.Command("mount", {
    args: ["-t", "tmpfs", "-o", `size=${kibibytes}k`, "openfinops", path],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

/** A load with its spool on a disk, and a backend that is down until it is told to come back. */
async function startInOutage(folder: TemporaryFolder, disk: string) {
  const events: TelemetryEvent[] = [];
  const load = await Load.open({
    connectionString: folder.sqlite(),
    sqliteDriver: "node:sqlite",
    spoolDirectory: disk,
    onEvent: (event) => events.push(event),
  });
  const table = new DatabaseSync(folder.file("test.db"));
  table.exec("ALTER TABLE system_metrics RENAME TO hidden");
  const comeBack = () => {
    table.exec("ALTER TABLE hidden RENAME TO system_metrics");
    table.close();
  };
  return { load, events, comeBack };
}

/** The spool fills its disk while the backend is down. When that is back, the spool drains by itself. */
async function fullSpool(folder: TemporaryFolder, disk: string): Promise<void> {
  const { load, events, comeBack } = await startInOutage(folder, disk);
  let added = 0;
  const adding = (async () => {
    for (; added < 60; added++) await load.add(200);
  })();
  await until(() => events.some((event) => isDiskFull(event)), "the disk is full");
  await sleep(50);
  const before = added;
  assert(before < 60, "all was accepted on a full disk");
  assert(conserved(load.hub).alarm !== undefined, "no alarm");
  comeBack();
  await inTime(load.hub.flush().catch(() => {}), "all is written");
  await inTime(adding, "there is room for all");
  await until(() => conserved(load.hub).alarm === undefined, "the alarm is over");
  assert(events.some(({ type }) => type === "resumed"), "no resumed event");
  await load.endsExactly(folder.sqlite());
}

/** Others fill the disk of the spool, and it stays full: what is spooled makes room for what waits. */
async function sharedSpool(folder: TemporaryFolder, disk: string): Promise<void> {
  const { load, events, comeBack } = await startInOutage(folder, disk);
  for (let i = 0; i < 30; i++) await load.add(1_000);
  await fill(disk);
  const adding = load.add(2_000);
  await until(() => events.some((event) => isDiskFull(event)), "the disk is full");
  comeBack();
  await inTime(load.hub.flush().catch(() => {}), "all is written");
  await inTime(adding, "there is room for all");
  await until(() => conserved(load.hub).alarm === undefined, "the alarm is over");
  await load.endsExactly(folder.sqlite());
}

/** Takes all space that is left, but for some KiB. */
async function fill(disk: string, kibibytes = 0): Promise<void> {
  const reserve = `${disk}/reserve`;
  Deno.writeFileSync(reserve, new Uint8Array(1_024 * kibibytes));
  await fillUp(disk);
  Deno.removeSync(reserve);
}

async function fillUp(disk: string): Promise<void> {
  using ballast = await Deno.open(`${disk}/ballast`, { write: true, create: true });
  try {
    for (;;) await ballast.write(new Uint8Array(4_096));
  } catch {
    // it is full
  }
}

/** The disk of a database file is full. When there is room again, all is written. */
async function fullDatabase(_folder: TemporaryFolder, disk: string, scheme: string): Promise<void> {
  const events: TelemetryEvent[] = [];
  const connectionString = `${scheme}:///${disk}/test.db`;
  const load = await Load.open({ connectionString, onEvent: (event) => events.push(event) });
  await load.add(50);
  await load.hub.flush();
  await fill(disk);
  await load.add(5_000);
  void load.hub.flush();
  await until(() => events.some((event) => isDiskFull(event)), "the disk is full");
  await load.add(50);
  assert(conserved(load.hub).alarm !== undefined, "no alarm");
  Deno.removeSync(`${disk}/ballast`);
  await load.endsExactly(connectionString);
  assertEquals(events.filter(({ type }) => type === "paused" || type === "resumed").map(({ type }) => type), [
    "paused",
    "resumed",
  ]);
}

/** SQLite's disk is nearly full. A cleanup makes room. */
async function cleanup(_folder: TemporaryFolder, disk: string): Promise<void> {
  const path = `${disk}/test.db`;
  const backend = await openBackend({ connectionString: `sqlite:///${path}`, sqliteDriver: "node:sqlite" });
  const records = Array.from({ length: 12_000 }, (_, i) => ({
    timestamp: NEW_YEAR + i,
    clusterId: "prod",
    nodeId: `gpu-${i % 100}`,
    labels: { text: "x".repeat(100) },
  }));
  await backend.write({ id: "all", dataset: systemMetrics, records });
  await backend.close();
  const { size } = Deno.statSync(path);
  for (const kibibytes of [128, 96]) { // SQLite's -shm takes 32 of them, and some pages are changed at least
    await fill(disk, kibibytes);
    const again = await openBackend({ connectionString: `sqlite:///${path}`, sqliteDriver: "node:sqlite" });
    const before = NEW_YEAR + (kibibytes === 128 ? 6_000 : 11_990);
    const deleted = await again.deleteBefore(systemMetrics, before, { dryRun: false });
    assertEquals(deleted, kibibytes === 128 ? 6_000 : 5_990);
    await again.close();
    assertEquals([...Deno.readDirSync(disk)].map(({ name }) => name).sort(), ["ballast", "test.db"]);
  }
  assert(Deno.statSync(path).size < size / 10, `${size} bytes before, ${Deno.statSync(path).size} after`);
}

function isDiskFull(event: TelemetryEvent): boolean {
  const { kind } = (event.type === "paused" ? event.error : {}) as { kind?: string };
  return kind === "disk-full";
}

const SCENARIOS: Record<string, [kibibytes: number, run: typeof fullDatabase]> = {
  spool: [512, fullSpool],
  shared: [16_384, sharedSpool],
  sqlite: [3_072, fullDatabase],
  duckdb: [4_096, fullDatabase],
  cleanup: [16_384, cleanup],
};

const [kibibytes, run] = SCENARIOS[Deno.args[0]];
using folder = new TemporaryFolder();
const disk = folder.file("disk");
Deno.mkdirSync(disk);
await mount(disk, kibibytes);
try {
  await run(folder, disk, Deno.args[0]);
  console.log("done");
} finally {
  await new Deno.Command("umount", { args: ["-l", disk] }).output();
}
