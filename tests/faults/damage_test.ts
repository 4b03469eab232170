/** A spool of which parts were cut off or overwritten. */
import "../../cli.ts"; // brings all that its run below needs into the cache
import { DatabaseSync } from "node:sqlite";
import type { TelemetryEvent } from "../../mod.ts";
import { DAY_MS } from "../../src/records/calendar.ts";
import { decodeFrame, encodeFrame, FrameKind, HEADER_BYTES } from "../../src/spool/frame.ts";
import { assert, assertEquals, assertMatch } from "../assert.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { assertStored, conserved, Load } from "./load.ts";

const GROUPS = 6;
const GROUP = 10;

/** A frame in a file: what is in it, and where. */
interface Place {
  readonly offset: number;
  readonly length: number;
  readonly kind: number;
  readonly numbers: readonly number[];
}

/** A spool that holds acknowledged records and a frozen batch, because its backend is down. */
async function fillSpool(folder: TemporaryFolder): Promise<{ journal: string; places: Place[] }> {
  const load = await Load.open({
    connectionString: folder.sqlite("down.db"),
    sqliteDriver: "node:sqlite",
    spoolDirectory: folder.file("spool"),
    batchSize: 2 * GROUP,
  });
  const table = new DatabaseSync(folder.file("down.db"));
  table.exec("DROP TABLE system_metrics");
  table.close();
  for (let i = 0; i < GROUPS; i++) await load.add(GROUP);
  assertEquals(await load.hub.close({ deadlineMs: 20 }), {
    committed: 0,
    spooled: GROUPS * GROUP,
    deadLettered: 0,
    lost: 0,
  });
  Deno.removeSync(folder.file("spool/system_metrics/database")); // what is left goes into another one
  const journal = folder.file("spool/system_metrics/000000000001.journal");
  return { journal, places: placesIn(Deno.readFileSync(journal)) };
}

function placesIn(bytes: Uint8Array): Place[] {
  const places: Place[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const found = decodeFrame(bytes, offset);
    if (typeof found !== "object" || !("frame" in found)) throw new Error(`no frame at ${offset}`);
    const { frame: { kind, payload }, length } = found;
    const records = kind === FrameKind.RECORDS ? JSON.parse(payload) : [];
    const numbers = records.map(({ activeConnections }: { activeConnections: number }) => activeConnections);
    places.push({ offset, length, kind, numbers });
    offset += length;
  }
  return places;
}

/** Starts with the spool; gives what was told of it. What is stored in the end must be all but what is missing. */
async function endsWithout(folder: TemporaryFolder, missing: readonly number[]): Promise<TelemetryEvent[]> {
  using fresh = new TemporaryFolder();
  const events: TelemetryEvent[] = [];
  const load = await Load.open({
    connectionString: fresh.sqlite(),
    spoolDirectory: folder.file("spool"),
    onEvent: (event) => events.push(event),
  });
  const all = Array.from({ length: GROUPS * GROUP }, (_, i) => i);
  assertEquals(conserved(load.hub).accepted, all.length - missing.length);
  await load.hub.collectSystemMetrics({ timestamp: Date.now(), activeConnections: 1_000 });
  await load.hub.flush();
  await load.hub.close();
  conserved(load.hub);
  await assertStored(fresh.sqlite(), [...all.filter((number) => !missing.includes(number)), 1_000]);
  return events;
}

/** Does something to a copy of the journal, and starts with that. */
async function damaged(
  folder: TemporaryFolder,
  { journal, harm, missing }: { journal: string; harm: (path: string) => void; missing: readonly number[] },
): Promise<TelemetryEvent[]> {
  const spool = folder.file("spool");
  const kept = folder.file("kept");
  await new Deno.Command("cp", { args: ["-r", spool, kept] }).output();
  try {
    harm(journal);
    return await endsWithout(folder, missing);
  } finally {
    Deno.removeSync(spool, { recursive: true });
    Deno.renameSync(kept, spool);
  }
}

const PARTS = { mark: 1, crc: 5, length: 8, highLength: 11, kind: 12, sequence: 20, count: 28, time: 36 };

Deno.test("Spool loses only the damaged records when a bit flips", async () => {
  using folder = new TemporaryFolder();
  const { journal, places } = await fillSpool(folder);
  assertEquals(new Set(places.map(({ kind }) => kind)), new Set([FrameKind.RECORDS, FrameKind.BATCH]));
  const chosen = [places[0], places.find(({ kind }) => kind === FrameKind.BATCH)!, places[3], places.at(-1)!];
  for (const { offset, length, numbers } of chosen) {
    const parts = [...Object.values(PARTS), HEADER_BYTES, length - 1];
    for (const at of parts) {
      const harm = (path: string) => {
        const bytes = Deno.readFileSync(path);
        bytes[offset + at] ^= 1 << (at % 8);
        Deno.writeFileSync(path, bytes);
      };
      const events = await damaged(folder, { journal, harm, missing: numbers });
      const [told] = events.filter(({ type }) => type === "spool-damaged");
      assert(told?.type === "spool-damaged" && told.bytes === length, JSON.stringify(events));
    }
  }
});

Deno.test("Spool loses only the tail when a file is truncated", async () => {
  using folder = new TemporaryFolder();
  const { journal, places } = await fillSpool(folder);
  for (const [index, { offset, length }] of places.entries()) {
    for (const at of [0, 2, PARTS.length, HEADER_BYTES, length - 1]) {
      const missing = places.slice(index).flatMap(({ numbers }) => numbers);
      const harm = (path: string) => Deno.truncateSync(path, offset + at);
      const events = await damaged(folder, { journal, harm, missing });
      assertEquals(events.some(({ type }) => type === "spool-damaged"), at > 0);
    }
  }
});

/** Has the frames of a journal be older. */
function age(path: string, days: number): void {
  const bytes = Deno.readFileSync(path);
  const older = placesIn(bytes).map(({ offset }) => {
    const found = decodeFrame(bytes, offset);
    if (typeof found !== "object" || !("frame" in found)) throw new Error(`no frame at ${offset}`);
    return encodeFrame({ ...found.frame, time: found.frame.time - days * DAY_MS });
  });
  Deno.writeFileSync(path, new Uint8Array(older.flatMap((frame) => [...frame])));
}

Deno.test("Spool reports batches that the ledger may have forgotten", async () => {
  using folder = new TemporaryFolder();
  const { journal, places } = await fillSpool(folder);
  assertEquals(places.filter(({ kind }) => kind === FrameKind.BATCH).length, 1);
  for (const [days, isOutdated] of [[29, false], [31, true]] as const) {
    const events = await damaged(folder, { journal, harm: (path) => age(path, days), missing: [] });
    assertEquals(events.map(({ type }) => type), isOutdated ? ["spool-outdated"] : []);
    if (!isOutdated) continue;
    const [told] = events;
    assert(told.type === "spool-outdated" && told.records === 2 * GROUP, JSON.stringify(told));
    assertEquals(Math.round((Date.now() - told.since) / DAY_MS), days);
  }
});

Deno.test("Spool loses nothing when its small files are missing", async () => {
  using folder = new TemporaryFolder();
  const { journal } = await fillSpool(folder);
  const small = (name: string) => folder.file(`spool/system_metrics/${name}`);
  const harms: (() => void)[] = [
    () => Deno.removeSync(small("cursor")),
    () => Deno.writeTextFileSync(small("cursor"), "garbage"),
    () => Deno.truncateSync(small("cursor"), 17),
    () => Deno.removeSync(small("reserve")),
    () => Deno.removeSync(small("lock")),
    () => Deno.mkdirSync(small("000000000002.journal")),
    () => Deno.writeTextFileSync(small("000000000002.journal"), "garbage"),
    () => Deno.writeTextFileSync(small("000000000002.journal"), ""),
    () => Deno.writeTextFileSync(small("notes.txt"), "hello"),
  ];
  for (const harm of harms) await damaged(folder, { journal, harm, missing: [] });
});

Deno.test("Spool sets a file aside when it cannot be opened", async () => {
  if (Deno.build.os === "windows") return; // chmod has no such meaning there
  using folder = new TemporaryFolder();
  const { journal } = await fillSpool(folder);
  Deno.chmodSync(journal, 0o000);
  // Root may read in spite of the mode, unless it drops that capability.
  const wrap = Deno.uid() === 0
    ? ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    : [];
  const cli = new URL("../../cli.ts", import.meta.url).href;
  const at = ["--connection-string", folder.sqlite(), "--spool-directory", folder.file("spool")];
  const collect = ["collect", "--duration", "100ms", "--interval", "100ms", ...at];
  const [command, ...args] = [...wrap, Deno.execPath(), "run", "-q", "-A", "--cached-only", cli, ...collect];
  const { code, stderr } = await new Deno.Command(command, { args }).output();
  const [, file] = /spool-damaged: .* It was moved to (\S+)\./.exec(new TextDecoder().decode(stderr))!;
  assertEquals(code, 0);
  const byHand = folder.file("by-hand/system_metrics");
  Deno.mkdirSync(byHand, { recursive: true });
  Deno.chmodSync(file, 0o600);
  Deno.renameSync(file, `${byHand}/000000000001.journal`);
  Deno.removeSync(folder.file("spool"), { recursive: true });
  Deno.renameSync(folder.file("by-hand"), folder.file("spool"));
  await endsWithout(folder, []);
});

Deno.test("Spool writes the rest once when its cursor is missing", async () => {
  using folder = new TemporaryFolder();
  const config = { connectionString: folder.sqlite(), spoolDirectory: folder.file("spool") };
  const first = await Load.open(config);
  for (let i = 0; i < 5; i++) {
    await first.add(30);
    await first.hub.flush();
  }
  await new Deno.Command("cp", { args: ["-r", folder.file("spool"), folder.file("copy")] }).output();
  await first.hub.close();
  Deno.removeSync(folder.file("copy/system_metrics/cursor"));
  const second = await Load.open({ ...config, spoolDirectory: folder.file("copy") });
  assertEquals(conserved(second.hub).accepted, 150); // counted as accepted and committed once more
  await second.hub.flush();
  assertEquals(conserved(second.hub).committed, 150);
  await second.hub.close();
  await assertStored(folder.sqlite(), first.acknowledged);
});

Deno.test("ObservabilityHub runs without a spool when its folder is unusable", async () => {
  using folder = new TemporaryFolder();
  Deno.writeTextFileSync(folder.file("file"), "");
  const locked = { connectionString: folder.sqlite(), spoolDirectory: folder.file("locked") };
  const first = await Load.open(locked);
  await first.add(5);
  const unusable = [folder.file("file"), folder.file("file/in"), locked.spoolDirectory];
  if (Deno.build.os !== "windows") unusable.push("/proc/no"); // which would make it
  for (const spoolDirectory of unusable) {
    const events: TelemetryEvent[] = [];
    const connectionString = folder.sqlite();
    const load = await Load.open({
      connectionString,
      spoolDirectory,
      onEvent: (event) => {
        events.push(event);
        throw new Error("from the listener");
      },
    }, 100);
    const told = events.filter(({ type }) => type === "spool-unusable").map(({ dataset }) => dataset);
    assertEquals(told, ["system_metrics", "service_metrics", "device_metrics", "metric_points"]);
    assert(conserved(load.hub).alarm?.includes(spoolDirectory), JSON.stringify(conserved(load.hub)));
    const messages = events.flatMap((event) => event.type === "spool-unusable" ? [event.message] : []);
    assertMatch(messages[0], /[^.]\. Records of system_metrics are kept in memory only\.$/);
    await load.add(3);
    await load.hub.flush();
    assertEquals((await load.hub.close()).lost, 0);
  }
  assertEquals((await first.hub.close()).committed, 5);
});

Deno.test("Spool moves a file aside when it is too large for a segment", async () => {
  using folder = new TemporaryFolder();
  await fillSpool(folder);
  const stray = folder.file("spool/system_metrics/000000000002.journal");
  Deno.writeTextFileSync(stray, "");
  Deno.truncateSync(stray, 6 * 2 ** 30); // it takes no space
  const [told] = (await endsWithout(folder, [])).filter(({ type }) => type === "spool-damaged");
  assert(told?.type === "spool-damaged" && told.bytes === 6 * 2 ** 30, JSON.stringify(told));
  assertEquals(Deno.statSync(told.file!).size, 6 * 2 ** 30);
});

Deno.test("Spool gives a file up when all of it claims to be large frames", async () => {
  using folder = new TemporaryFolder();
  const { journal } = await fillSpool(folder);
  const bytes = new Uint8Array(2 ** 24);
  const mark = Deno.readFileSync(journal).subarray(0, 4);
  for (let at = 0; at + HEADER_BYTES < bytes.length; at += 12) {
    bytes.set(mark, at);
    new DataView(bytes.buffer).setUint32(at + 8, bytes.length - at - HEADER_BYTES, true);
  }
  Deno.writeFileSync(folder.file("spool/system_metrics/000000000002.journal"), bytes);
  const [told] = (await endsWithout(folder, [])).filter(({ type }) => type === "spool-damaged");
  assert(told?.type === "spool-damaged" && told.bytes === bytes.length, JSON.stringify(told));
});
