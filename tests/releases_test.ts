/** Two releases of the program on one database: the present one, and a copy with a newer schema. */
import "../mod.ts"; // caches all modules, so that the programs below need no network
import { SCHEMA_VERSION } from "../src/backends/postgres/schema.ts";
import { SCHEMA_VERSION as SQLITE_VERSION } from "../src/backends/sqlite/schema.ts";
import { ObservabilityHub, openBackend } from "../mod.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { TestDatabase } from "./postgres_server.ts";
import { runOf } from "./command.ts";

const ROOT = new URL("..", import.meta.url);

/** A release whose schema has one column more, and may be written from a version on. */
class NextRelease implements Disposable {
  readonly #folder = new TemporaryFolder();

  constructor({ writableFrom }: { writableFrom: number }) {
    const source = this.#folder.file("src");
    copyFolder(new URL("src", ROOT), source);
    for (const name of ["mod.ts", "deno.json", "deno.lock"]) {
      Deno.copyFileSync(new URL(name, ROOT), this.#folder.file(name));
    }
    for (const [backend, type] of [["sqlite", "TEXT"], ["postgres", "text"]]) {
      const path = `${source}/backends/${backend}/schema.ts`;
      const next = SCHEMA_VERSION + 1;
      const text = Deno.readTextFileSync(path)
        .replace(/SCHEMA_VERSION = \d+/, `SCHEMA_VERSION = ${next}`)
        .replace(/WRITABLE_FROM = \d+/, `WRITABLE_FROM = ${writableFrom}`)
        .replace(/(const UPGRADES[^{]*\{)/, `$1 ${next}: ["ALTER TABLE ledger ADD COLUMN note ${type}"],`);
      Deno.writeTextFileSync(path, text);
    }
  }

  /** Has it write some records, as a process of its own. */
  async write(connectionString: string, records: number): Promise<void> {
    const program = this.#folder.file("write.ts");
    Deno.writeTextFileSync(
      program,
      `import { ObservabilityHub } from "./mod.ts";
      await using hub = await ObservabilityHub.open({ connectionString: Deno.args[0], batchSize: 10 });
      for (let i = 0; i < ${records}; i++) {
        await hub.collectSystemMetrics({ timestamp: Date.now(), nodeId: "next" });
      }`,
    );
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...runOf(program), connectionString],
      cwd: this.#folder.path,
    }).output();
    assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

function copyFolder(from: URL, to: string): void {
  Deno.mkdirSync(to);
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    const url = new URL(`${from.href}/${name}`);
    if (isDirectory) copyFolder(url, `${to}/${name}`);
    else Deno.copyFileSync(url, `${to}/${name}`);
  }
}

/** Writes some records with the present release; returns the number of all that are stored. */
async function writeHere(hub: ObservabilityHub, records: number): Promise<number> {
  for (let i = 0; i < records; i++) await hub.collectSystemMetrics({ timestamp: Date.now(), nodeId: "here" });
  await hub.flush();
  return (await hub.queryHistoricalMetrics()).length;
}

async function upgradeBesideRunning(connectionString: string): Promise<void> {
  using additive = new NextRelease({ writableFrom: 1 });
  const config = { connectionString, batchSize: 10 };
  const hub = await ObservabilityHub.open(config);
  assertEquals(await writeHere(hub, 25), 25);
  await additive.write(connectionString, 25); // brings the schema to its version
  assertEquals(await writeHere(hub, 25), 75);
  const backend = await openBackend({ connectionString });
  const { details, warnings } = await backend.probe();
  assertEquals(details.schemaVersion, SCHEMA_VERSION + 1);
  assert(warnings.some((warning) => warning.includes(`has version ${SCHEMA_VERSION + 1}, and this`)));
  await backend.close();
  await hub.close();
  const restarted = await ObservabilityHub.open(config);
  await Promise.all([additive.write(connectionString, 25), writeHere(restarted, 25)]);
  assertEquals(await writeHere(restarted, 0), 125);
  await restarted.close();
}

Deno.test("PostgresBackend is written by two releases when the schema only adds", async () => {
  assertEquals(SCHEMA_VERSION, SQLITE_VERSION);
  await using database = await TestDatabase.create();
  await upgradeBesideRunning(database.url);
  await database.sql(`UPDATE schema_version SET writable_from = version WHERE version > ${SCHEMA_VERSION}`);
  await assertRejects(
    () => ObservabilityHub.open({ connectionString: database.url }),
    Error,
    "Update openfinops",
  );
});

Deno.test("SqliteBackend is written by two releases when the schema only adds", async () => {
  using folder = new TemporaryFolder();
  await upgradeBesideRunning(folder.sqlite());
  using breaking = new NextRelease({ writableFrom: SCHEMA_VERSION + 1 });
  const other = `sqlite:///${folder.file("other.db")}`;
  await (await ObservabilityHub.open({ connectionString: other })).close();
  await breaking.write(other, 1);
  await assertRejects(() => ObservabilityHub.open({ connectionString: other }), Error, "Update openfinops");
});
