import { DatabaseSync } from "node:sqlite";
import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { progressText } from "../src/cli/progress.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { openfinops, RUN } from "./command.ts";
import { until } from "./until.ts";

const AT = ["--connection-string", "sqlite:///a.db"];

interface Run {
  code: number;
  out: string;
  err: string;
}

/** Runs a database command as a user would, with a file on stdin. */
async function database(args: string[], { cwd, input = "" }: { cwd: string; input?: string }): Promise<Run> {
  const process = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "database", ...args],
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input)).catch(() => {});
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await process.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

const test = (title: string, run: (folder: TemporaryFolder) => Promise<void>) =>
  Deno.test(`openfinops database ${title}`, async () => {
    using folder = new TemporaryFolder();
    await run(folder);
  });

const FOCUS = "BilledCost,BillingCurrency,ChargePeriodStart,ResourceId,ServiceCategory\n" +
  '0.00000080000,USD,2024-09-18 22:00:00,"arn:1",Compute\n' +
  '20.5,USD,2024-09-18 22:00:00,"arn:1",Compute\n';

const TOLD = "f.csv: FOCUS 1.0 (detected from the columns; --focus-version overrides)\n";

/** Outcome of an import of costs. */
function delivered(
  counts: Partial<Record<"stored" | "replaced" | "known" | "different" | "bad", number>>,
  totals: readonly string[],
): string {
  const { stored = 0, replaced = 0, known = 0, different = 0, bad = 0 } = counts;
  return [stored, replaced, known, different, 0, bad, ...totals].join(" ");
}

/** The cells of the tables that an import of costs prints. */
function cellsOf(out: string): string {
  const [, counts, , , ...totals] = out.trimEnd().split("\n");
  return [counts, ...totals].map((line) => line.trim().split(/\s+/).join(" ")).join(" ");
}

/** The counts in the table at the end of an import: stored, replaced, known, different, skipped, bad. */
function counts(out: string): number[] {
  const [header, row] = out.split("\n");
  assertEquals(header.split(/ +/), ["stored", "replaced", "known", "different", "skipped", "bad"]);
  return row.trim().split(/ +/).map((text) => Number(text.replaceAll(",", "")));
}

test("import stores files and says when nothing is new", async (folder) => {
  Deno.writeTextFileSync(folder.file("f.csv"), FOCUS);
  const args = ["import", "costs", "f.csv", "--format", "focus", ...AT];
  const first = await database(args, { cwd: folder.path });
  assertEquals([first.code, first.err], [0, TOLD]);
  assertEquals(cellsOf(first.out), delivered({ stored: 2 }, ["focus 2024-09 USD 0 20.5000008"]));
  const second = await database(args, { cwd: folder.path });
  assertEquals([second.code, second.err], [0, TOLD]);
  assertEquals(cellsOf(second.out), delivered({ known: 2 }, ["focus 2024-09 USD 20.5000008 20.5000008"]));
  const { out } = await database(["stats", "--exact", ...AT], { cwd: folder.path });
  assert(out.includes("20.5000008"), out);
  const { err } = await database([...args, "--focus-version", "1.2"], { cwd: folder.path });
  assertEquals(err, "f.csv: FOCUS 1.2\n");
});

test("import keeps equal rows of several files apart unless they have ids", async (folder) => {
  const header = "timestamp,resourceId,category,amount,currency";
  const line = "2026-01-01,r,c,1,USD";
  Deno.writeTextFileSync(folder.file("1.csv"), `${header}\n${line}\n${line}\n`);
  Deno.writeTextFileSync(folder.file("2.csv"), `${header}\n${line}\n`);
  Deno.writeTextFileSync(folder.file("3.csv"), `Id,${header}\na,${line}\nb,${line}\n`);
  Deno.writeTextFileSync(folder.file("4.csv"), `Id,${header}\nb,${line}\nc,${line}\n`);
  const { out } = await database(["import", "costs", "1.csv", "2.csv", ...AT], { cwd: folder.path });
  assertEquals(cellsOf(out), delivered({ stored: 3 }, ["csv 2026-01 USD 0 3"]));
  const byId = await database(
    ["import", "costs", "3.csv", "4.csv", "--id-column", "Id", "--source", "ids", ...AT],
    { cwd: folder.path },
  );
  assertEquals(cellsOf(byId.out), delivered({ stored: 3, known: 1 }, ["ids 2026-01 USD 0 3"]));
});

test("deliveries lists, undoes and verifies imports of costs", async (folder) => {
  const { path: cwd } = folder;
  const header = "timestamp,resourceId,category,amount,currency\n";
  Deno.writeTextFileSync(folder.file("1.csv"), `${header}2026-01-01,r,c,1,USD\n2026-01-02,r,c,1,USD\n`);
  Deno.writeTextFileSync(folder.file("2.csv"), `${header}2026-01-01,r,c,1,USD\n2026-01-02,r,c,2,USD\n`);
  Deno.writeTextFileSync(folder.file("3.csv"), `${header}2026-01-01,r,c,7,USD\nx,r,c,1,USD\n`);
  for (const file of ["1.csv", "2.csv"]) await database(["import", "costs", file, ...AT], { cwd });
  const refused = await database(["import", "costs", "3.csv", ...AT], { cwd });
  assertEquals([refused.code, refused.out], [1, ""]);
  assertMatch(refused.err, /^3.csv:3: .*\n1 line is bad.\nerror: Cannot import: csv has 2 rows of 2026-01 /);
  assertMatch(refused.err, /\(USD 3\), this import has 1 row \(USD 7\), .* \[DELIVERY_REFUSED\]\n$/);

  const { out } = await database(["deliveries", "--format", "json", ...AT], { cwd });
  const pairs = await database(["import", "costs", "1.csv", "--map", "timestamp=a,amount=b", ...AT], { cwd });
  assertEquals(pairs.code, 2);
  assertMatch(pairs.err, /repeat --map for each field: --map timestamp=a --map amount=b \[/);
  const listed = JSON.parse(out);
  const [{ delivery: first, state, period }, { delivery: second, files }] = listed;
  assertEquals([state, period, files], [`replaced by ${second}`, "2026-01", "2.csv"]);
  const lines = (await database(["deliveries", "--format", "ndjson", ...AT], { cwd })).out.trim().split("\n");
  assertEquals(lines.map((line) => JSON.parse(line)), listed);
  const csv = (await database(["deliveries", "--format", "csv", ...AT], { cwd })).out;
  assertEquals(csv.split("\n")[0], Object.keys(listed[0]).join(","));
  assertEquals((await database(["verify", ...AT], { cwd })).code, 0);
  const none = await database(["deliveries", "undo", first, "--yes", ...AT], { cwd });
  assertEquals([none.code, none.out], [1, ""]);
  assertEquals((await database(["deliveries", "undo", second, ...AT], { cwd })).code, 2);
  const dry = await database(["deliveries", "undo", second, "--dry-run", ...AT], { cwd });
  assertEquals([dry.code, dry.out], [0, `Would be deleted: 2 costs of delivery ${second} (USD 3)\n`]);
  const undone = await database(["deliveries", "undo", second, "--yes", ...AT], { cwd });
  assertEquals([undone.code, undone.out], [0, `Deleted 2 costs of delivery ${second}.\n`]);
  assertEquals(undone.err, "The costs that it replaced are not kept. To restore them, import again: 1.csv\n");
  const again = await database(["import", "costs", "1.csv", ...AT], { cwd });
  assertEquals(cellsOf(again.out), delivered({ stored: 2 }, ["csv 2026-01 USD 0 2"]));

  using file = new DatabaseSync(folder.file("a.db"));
  file.exec("DELETE FROM cost_entries WHERE timestamp = (SELECT min(timestamp) FROM cost_entries)");
  const verified = await database(["verify", "--format", "csv", ...AT], { cwd });
  assertEquals(verified.code, 3);
  assertMatch(verified.out, /\ndelivery,\S+ csv 2026-01,"2 rows, USD 2","1 row, USD 1"\n$/);
});

test("delete shows and deletes what conditions select", async (folder) => {
  const { path: cwd } = folder;
  const input = "timestamp,resourceId,category,amount,billingPeriodStart,currency\n" +
    "2026-01-31,a,c,1,2026-02-01,USD\n2026-02-01,b,c,2,,USD\n2026-03-01,c,c,4,,USD\n2026-02-05,d,c,8,2026-01-01,USD\n";
  await database(["import", "costs", "-", "--source", "s", ...AT], { cwd, input });
  const remove = (...options: string[]) => database(["delete", "costs", ...options, ...AT], { cwd });
  assertEquals((await remove("--yes")).code, 2);
  assertEquals((await remove("--source", "s")).code, 2);
  for (
    const [command, dataset, source, expected] of [
      ["query", "costs", "s", true],
      ["query", "costs", "t", false],
      ["export", "costs", "s", true],
      ["query", "metrics", "s", undefined],
    ] as const
  ) {
    const { out, err } = await database([command, dataset, "--source", source, "--format", "ndjson", ...AT], {
      cwd,
    });
    assertEquals(
      expected === undefined ? err.includes("--source applies to costs only") : out !== "",
      expected ?? true,
    );
  }
  const february = ["--source", "s", "--billing-period", "2026-02"];
  const dry = await remove(...february, "--dry-run");
  assertEquals([dry.code, dry.out], [
    0,
    "Would be deleted: 2 records of cost_entries (billed USD 3)\n",
  ]);
  assertEquals((await remove(...february, "--yes")).out, "Deleted 2 records of cost_entries.\n");
  const left = await database(["query", "costs", "--format", "ndjson", ...AT], { cwd });
  assertEquals(left.out.trimEnd().split("\n").map((line) => JSON.parse(line).resourceId), ["c", "d"]);
  assertEquals((await remove("--where", "amount>4", "--yes")).out, "Deleted 1 record of cost_entries.\n");
});

test("import says that nothing is stored when it is interrupted", async ({ path: cwd }) => {
  if (Deno.build.os === "windows") return; // has no signals to send
  const process = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "database", "import", "costs", "-", ...AT],
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  await writer.write(
    new TextEncoder().encode("timestamp,resourceId,category,amount,currency\nx,r,c,1,USD\n"),
  );
  const reader = process.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let err = (await reader.read()).value ?? ""; // the bad line: the import runs
  process.kill("SIGTERM");
  for (let read = await reader.read(); !read.done; read = await reader.read()) err += read.value;
  assertMatch(
    err,
    /\n1 line is bad.\nerror: Interrupted. No costs were stored. .* \[INTERRUPTED\]\n$/,
  );
  assertEquals((await process.status).code, 1);
  await process.stdout.cancel();
  await writer.close().catch(() => {});
});

test("import reads stdin, maps columns and updates costs", async ({ path: cwd }) => {
  const args = [
    "import",
    "costs",
    "-",
    "--map",
    "amount=Cost",
    "--map",
    "tags.team=Team",
    "--set",
    "category=gpu",
  ];
  const more = ["--id-column", "Id", "--on-conflict", "replace", ...AT];
  const header = "Id,timestamp,resourceId,Cost,Team,currency\n";
  const first = await database([...args, ...more], { cwd, input: `${header}1,2026-01-01,r,1,nlp,USD\n` });
  assertEquals([first.code, cellsOf(first.out)], [
    0,
    delivered({ stored: 1 }, ["csv:category=gpu 2026-01 USD 0 1"]),
  ]);
  const second = await database([...args, ...more], { cwd, input: `${header}1,2026-01-01,r,2.50,nlp,USD\n` });
  assertEquals([second.code, cellsOf(second.out)], [
    0,
    delivered({ stored: 1, replaced: 1 }, ["csv:category=gpu 2026-01 USD 1 2.5"]),
  ]);
  const { out } = await database(["query", "costs", "--format", "ndjson", ...AT], { cwd });
  const { deliveryId: _, ...cost } = JSON.parse(out);
  assertEquals(cost, {
    entryId: "1",
    timestamp: "2026-01-01T00:00:00.000Z",
    resourceId: "r",
    category: "gpu",
    amount: "2.5",
    currency: "USD",
    tags: { team: "nlp" },
    source: "csv:category=gpu",
  });
});

test("import names and keeps bad lines, stores the others and exits with 1", async (folder) => {
  const lines = Array.from({ length: 15 }, (_, i) => `2026-01-01T00:00Z,x${i}\n`).join("");
  Deno.writeTextFileSync(folder.file("m.csv"), `timestamp,cpuUsage\n2026-01-01T00:00Z,1\n${lines}`);
  const args = ["import", "metrics", "m.csv", "--rejects", "bad.ndjson", ...AT];
  const { code, out, err } = await database(args, { cwd: folder.path });
  assertEquals([code, counts(out)], [1, [1, 0, 0, 0, 0, 15]]);
  const told = err.trimEnd().split("\n");
  assertEquals(told.length, 11);
  assertEquals(
    told[0],
    "m.csv:3: Cannot accept system metrics: cpuUsage must be a number as in 41.2, " +
      'not "x0".',
  );
  assertMatch(
    told[10],
    /15 lines are bad \(the first 10 are named above\); bad.ndjson has them. \[LINES_REJECTED\]$/,
  );
  const { mode } = Deno.statSync(folder.file("bad.ndjson"));
  if (Deno.build.os !== "windows") assertEquals(mode! & 0o777, 0o600); // they hold what a bill says
  const kept = Deno.readTextFileSync(folder.file("bad.ndjson")).trimEnd().split("\n").map((line) =>
    JSON.parse(line)
  );
  assertEquals([kept.length, kept[14].line, kept[14].text, kept[14].code], [
    15,
    17,
    "2026-01-01T00:00Z,x14",
    "INVALID_FIELD",
  ]);

  const strict = await database([
    "import",
    "metrics",
    "m.csv",
    "--strict",
    "--connection-string",
    "sqlite:///b.db",
  ], {
    cwd: folder.path,
  });
  assertEquals([strict.code, strict.out], [1, ""]);
  assertMatch(
    strict.err,
    /^error: m.csv: Cannot import all: line 3: .* 0 records before it are stored. \[INVALID_FIELD\]\n$/,
  );
});

test("import refuses a rejects file that is in use", async (folder) => {
  const { path: cwd } = folder;
  const csv = "timestamp,cpuUsage\n2026-01-01T00:00Z,x\n";
  Deno.writeTextFileSync(folder.file("m.csv"), csv);
  const rejectsTo = (path: string, at = AT) =>
    database(["import", "metrics", "m.csv", "--rejects", path, ...at], { cwd });
  assertEquals((await rejectsTo("a.db")).code, 1);
  assertEquals([...Deno.readDirSync(cwd)].map(({ name }) => name), ["m.csv"]);
  await database(["init", ...AT], { cwd });
  const size = Deno.statSync(folder.file("a.db")).size;
  Deno.linkSync(folder.file("m.csv"), folder.file("same.csv"));
  Deno.linkSync(folder.file("a.db"), folder.file("same.db"));
  for (const path of ["m.csv", "./m.csv", "same.csv", "a.db", "same.db"]) {
    const { code, err } = await rejectsTo(path);
    assertEquals([code, err], [
      1,
      `error: Cannot write ${path}: it is an input or the database. ` +
      "Name another file for rejected lines. [FILE_IN_USE]\n",
    ]);
  }
  assertEquals(Deno.readTextFileSync(folder.file("m.csv")), csv);
  assertEquals(Deno.statSync(folder.file("a.db")).size, size);

  const old = "old\n".repeat(1_000); // longer than what takes its place
  Deno.writeTextFileSync(folder.file("old.ndjson"), old);
  assertEquals((await rejectsTo("old.ndjson", ["--connection-string", "sqlite:///none/a.db"])).code, 1);
  assertEquals(Deno.readTextFileSync(folder.file("old.ndjson")), old);
  await rejectsTo("old.ndjson");
  assertMatch(Deno.readTextFileSync(folder.file("old.ndjson")), /^\{"file":"m.csv",.*\}\n$/);
});

test("import escapes control characters in columns and bad lines", async (folder) => {
  const { path: cwd } = folder;
  Deno.writeTextFileSync(folder.file("a.csv"), "timestamp,\x1b[2Jevil\n2026-01-01T00:00Z,1\n");
  Deno.writeTextFileSync(folder.file("b.csv"), "timestamp,cpuUsage\n2026-01-01T00:00Z,\x9b2J\n");
  for (const [file, escaped] of [["a.csv", "\\x1b[2Jevil"], ["b.csv", "\\x9b2J"]]) {
    const { code, err } = await database(["import", "metrics", file, ...AT], { cwd });
    assertEquals(code, 1);
    assert(err.includes(escaped) && !/[^\n\P{Cc}]/u.test(err), err);
  }
});

test("import creates no database when the file is missing", async ({ path: cwd }) => {
  const { code, err } = await database(["import", "costs", "none.csv", ...AT], { cwd });
  assertEquals(code, 1);
  assertMatch(
    err,
    /^error: Cannot read none.csv: no such file or directory. Check the path. \[FILE_NOT_FOUND\]\n$/,
  );
  assertEquals([...Deno.readDirSync(cwd)], []);
});

test("import reads a named pipe once", async (folder) => {
  if (Deno.build.os === "windows") return; // has none
  const { path: cwd } = folder;
  const pipe = folder.file("m.csv");
  await new Deno.Command("mkfifo", { args: [pipe] }).output();
  const args = ["-c", `printf 'timestamp,cpuUsage\\n2026-01-01T00:00Z,1\\n' > ${pipe}`];
  const writer = new Deno.Command("sh", { args }).spawn();
  const { code, out } = await database(["import", "metrics", "m.csv", ...AT], { cwd });
  await writer.status;
  assertEquals([code, counts(out)], [0, [1, 0, 0, 0, 0, 0]]);
});

test("import of several files ends with one table, also when a file fails", async (folder) => {
  const { path: cwd } = folder;
  const header = "timestamp,cpuUsage\n";
  Deno.writeTextFileSync(folder.file("1.csv"), `${header}2026-01-01T00:00Z,1\n2026-01-01T00:01Z,x\n`);
  Deno.writeTextFileSync(folder.file("2.csv"), `${header}2026-01-02T00:00Z,1\n2026-01-02T00:01Z,2\n`);
  Deno.writeTextFileSync(folder.file("3.csv"), "time\n");
  const first = await database(["import", "metrics", "1.csv", "2.csv", "1.csv", ...AT], { cwd });
  assertEquals([first.code, counts(first.out)], [1, [3, 0, 1, 0, 0, 2]]);
  const second = await database(["import", "metrics", "2.csv", "3.csv", ...AT], { cwd });
  assertEquals([second.code, counts(second.out)], [1, [0, 0, 2, 0, 0, 0]]);
  assertMatch(second.err, /3\.csv: Cannot import/);
});

test("import names the rejects file when it cannot be written", async (folder) => {
  if (Deno.build.os !== "linux") return; // has no /dev/full
  Deno.writeTextFileSync(folder.file("m.csv"), "timestamp,cpuUsage\n2026-01-01T00:00Z,x\n");
  const args = ["import", "metrics", "m.csv", "--rejects", "/dev/full", ...AT];
  const { code, err } = await database(args, { cwd: folder.path });
  assertEquals(code, 1);
  assertMatch(
    err,
    /Cannot write \/dev\/full: no space left on device. Free some space. 0 records before it are stored. \[DISK_FULL\]\n$/,
  );
});

test("export writes what import reads: stdout, file, gzip", async (folder) => {
  const { path: cwd } = folder;
  Deno.writeTextFileSync(folder.file("f.csv"), FOCUS);
  await database(["import", "costs", "f.csv", "--format", "focus", ...AT], { cwd });
  const direct = await database(["export", "costs", "--format", "csv", ...AT], { cwd });
  assertEquals([direct.code, direct.err], [0, "2 records exported as csv.\n"]);
  for (const name of ["out.csv", "out.ndjson.gz", "out.focus.csv"]) {
    const format = name.includes("focus") ? ["--format", "focus"] : [];
    assertEquals((await database(["export", "costs", "--output", name, ...format, ...AT], { cwd })).code, 0);
    const other = ["--connection-string", `sqlite:///${name}.db`];
    assertEquals((await database(["import", "costs", name, ...format, ...other], { cwd })).code, 0);
    const { out } = await database(["export", "costs", "--format", "csv", ...other], { cwd });
    // FOCUS has to have a billing period, and each import is a delivery of its own.
    const withoutId = (text: string) => text.replaceAll(/\d{8}T\d{6}-[\da-f]{8}/g, "delivery");
    assertEquals(withoutId(out).replaceAll(",2024-09\n", ",\n"), withoutId(direct.out), name);
  }
  assertEquals(Deno.readTextFileSync(folder.file("out.csv")), direct.out);
  const { mode } = Deno.statSync(folder.file("out.csv"));
  if (Deno.build.os !== "windows") assertEquals(mode! & 0o777, 0o600); // which has no such modes
  assertEquals([...Deno.readDirSync(cwd)].filter(({ name }) => name.endsWith(".part")), []);
});

test("export and query exit with 1 when stdout is full", async (folder) => {
  if (Deno.build.os !== "linux") return; // has no /dev/full
  const { path: cwd } = folder;
  Deno.writeTextFileSync(folder.file("f.csv"), FOCUS);
  await database(["import", "costs", "f.csv", "--format", "focus", ...AT], { cwd });
  for (const command of ["export", "query"]) {
    const args = [
      "-c",
      '"$@" > /dev/full',
      "sh",
      Deno.execPath(),
      ...RUN,
      "database",
      command,
      "costs",
      ...AT,
    ];
    const { code, stderr } = await new Deno.Command("sh", { args, cwd }).output();
    assertEquals([code, new TextDecoder().decode(stderr)], [
      1,
      "error: Cannot write stdout: no space left on device. Free some space. [DISK_FULL]\n",
    ]);
  }
});

test("export writes to a pipe and replaces the target of a link", async (folder) => {
  if (Deno.build.os === "windows") return; // has neither
  const { path: cwd } = folder;
  await database(["init", ...AT], { cwd });
  const output = (path: string) => database(["export", "costs", "--output", path, ...AT], { cwd });
  await new Deno.Command("mkfifo", { args: [folder.file("pipe.csv")] }).output();
  const reader = new Deno.Command("cat", { args: [folder.file("pipe.csv")], stdout: "piped" }).spawn();
  const { code, err } = await output("pipe.csv");
  assertEquals([code, err], [0, "0 records exported as csv.\n"]);
  assertEquals(Deno.lstatSync(folder.file("pipe.csv")).isFifo, true);
  const { stdout } = await reader.output();
  assertMatch(new TextDecoder().decode(stdout), /^entryId,/);

  Deno.mkdirSync(folder.file("out"));
  Deno.writeTextFileSync(folder.file("out/real.csv"), "old");
  Deno.symlinkSync("out/real.csv", folder.file("link.csv"));
  assertEquals((await output("link.csv")).code, 0);
  assertEquals(Deno.lstatSync(folder.file("link.csv")).isSymlink, true);
  assertMatch(Deno.readTextFileSync(folder.file("out/real.csv")), /^entryId,/);
});

test("export names a path it cannot write and leaves nothing there", async (folder) => {
  await database(["init", ...AT], { cwd: folder.path });
  Deno.mkdirSync(folder.file("out"));
  for (const path of ["none/out.csv", "out"]) {
    const { code, err } = await database(["export", "costs", "--output", path, ...AT], { cwd: folder.path });
    assertEquals(code, 1);
    assertMatch(
      err,
      new RegExp(
        `^error: Cannot write ${path}: .+\\. Check that the folder exists and can be written\\. \\[\\w+\\]\n$`,
      ),
    );
  }
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name).sort(), ["a.db", "out"]);
});

test("migrate compares both sides and exits with 3 when they differ", async (folder) => {
  const { path: cwd } = folder;
  Deno.writeTextFileSync(folder.file("f.csv"), FOCUS);
  await database(["import", "costs", "f.csv", "--format", "focus", ...AT], { cwd });
  const args = ["migrate", "--from", "sqlite:///a.db", "--to", "sqlite:///b.db", "--dataset", "costs"];
  const dry = await database([...args, "--dry-run"], { cwd });
  assertEquals(dry.code, 0, dry.err);
  assertMatch(dry.err, /^The target does not exist yet\. It counts as empty\.\n/);
  assertMatch(dry.err, /cost_entries: 2 records would be copied, about \d+ B\n$/);
  assertEquals([...Deno.readDirSync(cwd)].some(({ name }) => name === "b.db"), false);
  assertEquals((await database(args, { cwd })).code, 0);
  const again = await database([...args, "--format", "csv"], { cwd });
  assertEquals(again, {
    code: 0,
    out:
      "dataset,of,source,target,difference\ncost_entries,rows,2,2,0\ncost_entries,USD,20.5000008,20.5000008,0\n",
    err: "",
  });
  const input = "entryId,timestamp,resourceId,category,amount,currency\nx,2024-09-18T22:00Z,r,c,1,USD\n";
  await database(["import", "costs", "-", "--connection-string", "sqlite:///b.db"], { cwd, input });
  const differing = await database(args, { cwd });
  assertEquals(differing.code, 3);
  assertMatch(differing.out, /cost_entries\s+USD\s+20\.5000008\s+21\.5000008\s+1\n/);
  assertMatch(differing.err, /Source and target differ, as listed above/);
});

test("migrate says that the target has records that are not compared", async ({ path: cwd }) => {
  const header = "entryId,timestamp,resourceId,category,amount,currency\n";
  const fill = async (file: string, ...rows: string[]) => {
    const input = `${header}${rows.join("\n")}\n`;
    const to = ["--connection-string", `sqlite:///${file}`];
    assertEquals((await database(["import", "costs", "-", ...to], { cwd, input })).code, 0);
  };
  const noted = async (to: string, ...more: string[]) => {
    const args = ["migrate", "--from", "sqlite:///a.db", "--to", `sqlite:///${to}`, "--format", "csv"];
    const { code, out, err } = await database([...args, ...more], { cwd });
    assertEquals(code, 0, err);
    assertMatch(out, /cost_entries,rows,1,1,0\ncost_entries,USD,2,2,0\n/);
    return err.split("\n").filter((line) => line.includes("target has more"));
  };
  await fill("a.db", "x,2026-01-05T00:00Z,r,c,2,USD");
  const line = "cost_entries: the target has more records, of other times or another currency; not compared";
  for (
    const [to, row] of [
      ["before.db", "y,2026-01-04T23:59:59.999Z,r,c,1,USD"],
      ["after.db", "y,2026-01-05T00:00:00.001Z,r,c,1,USD"],
      ["currency.db", "y,2026-01-05T00:00Z,r,c,1,EUR"],
    ]
  ) {
    await fill(to, row);
    assertEquals(await noted(to), [line], to);
  }
  assertEquals(await noted("new.db"), []);
  assertEquals(await noted("before.db", "--since", "2026-01-05"), []); // others were not asked for
});

test("migrate --dry-run takes no target that fails for an empty one", async (folder) => {
  const { path: cwd } = folder;
  await database(["init", ...AT], { cwd });
  Deno.writeTextFileSync(folder.file("b.db"), "no database");
  for (
    const [to, code] of [
      ["sqlite:///b.db", "NOT_A_DATABASE"],
      ["postgresql://127.0.0.1:1/d", "CONNECTION_REFUSED"],
      ["sqlite:///none/b.db", "FILE_NOT_FOUND"],
    ]
  ) {
    const dry = await database(["migrate", "--from", "sqlite:///a.db", "--to", to, "--dry-run"], { cwd });
    const isAbsent = code === "FILE_NOT_FOUND";
    assertEquals([dry.code, dry.out !== ""], [isAbsent ? 0 : 1, isAbsent], dry.err);
    assert(isAbsent || dry.err.endsWith(`[${code}]\n`), dry.err);
  }
});

/** Starts a database command, and kills it when it has got somewhere; gives whether it was still running. */
async function kill(
  args: string[],
  { cwd, when, signal = "SIGKILL" }: { cwd: string; when: () => boolean; signal?: Deno.Signal },
): Promise<boolean> {
  const process = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "database", ...args],
    cwd,
    stdout: "null",
    stderr: "null",
  }).spawn();
  let isOver = false;
  const status = process.status.finally(() => isOver = true);
  await until(() => isOver || when(), `a moment to kill \`database ${args.join(" ")}\``);
  try {
    if (!isOver) process.kill(signal);
  } catch {
    // it has just ended
  }
  return (await status).signal === signal;
}

test("import and export leave nothing partial when killed", async (folder) => {
  if (Deno.build.os === "windows") return; // has no SIGKILL to send
  const { path: cwd } = folder;
  const count = 60_000;
  const lines = Array.from({ length: count }, (_, i) => `2026-01-01T00:00Z,${i % 100}\n`).join("");
  Deno.writeTextFileSync(folder.file("m.csv"), `timestamp,activeConnections\n${lines}`);
  const rows = async () => {
    const { code, out } = await database(["stats", "--format", "ndjson", ...AT], { cwd });
    return code === 0 ? JSON.parse(out.split("\n")[0]).rows as number : 0;
  };
  const sizeOfLog = () => {
    try {
      return Deno.statSync(folder.file("a.db-wal")).size;
    } catch {
      return 0;
    }
  };
  const wasKilled = await kill(["import", "metrics", "m.csv", ...AT], {
    cwd,
    when: () => sizeOfLog() > 2_000_000,
  });
  const stored = await rows();
  assert(stored === count || (wasKilled && stored % 5_000 === 0), `${stored} records`); // perhaps after the last
  const { out } = await database(["import", "metrics", "m.csv", ...AT], { cwd });
  assertEquals(counts(out), [count - stored, 0, stored, 0, 0, 0]);
  assertEquals(await rows(), count);

  const files = () => [...Deno.readDirSync(cwd)].map(({ name }) => name);
  const args = ["export", "metrics", "--output", "out.ndjson", ...AT];
  await kill(args, { cwd, when: () => files().some((name) => name.endsWith(".part")) });
  const isThere = files().includes("out.ndjson");
  assert(!isThere || Deno.readTextFileSync(folder.file("out.ndjson")).split("\n").length === count + 1);
  assertEquals((await database(args, { cwd })).code, 0);
  assertEquals(Deno.readTextFileSync(folder.file("out.ndjson")).split("\n").length, count + 1);

  for (const file of files().filter((name) => name.endsWith(".part"))) Deno.removeSync(folder.file(file));
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    const hasPart = () => files().some((name) => name.endsWith(".part"));
    await kill(args, { cwd, signal, when: hasPart });
    assertEquals(files().filter((name) => name.endsWith(".part")), [], signal);
  }
});

test("export writes what a dangling link points to", async (folder) => {
  if (Deno.build.os === "windows") return; // links take a privilege there
  const { path: cwd } = folder;
  await database(["init", ...AT], { cwd });
  Deno.mkdirSync(folder.file("out"));
  Deno.symlinkSync("second.csv", folder.file("first.csv"));
  Deno.symlinkSync("out/real.csv", folder.file("second.csv"));
  const { code, err } = await database(["export", "costs", "--output", "first.csv", ...AT], { cwd });
  assertEquals(code, 0, err);
  assertEquals(Deno.lstatSync(folder.file("first.csv")).isSymlink, true);
  assertEquals(Deno.lstatSync(folder.file("second.csv")).isSymlink, true);
  assertEquals(Deno.lstatSync(folder.file("out/real.csv")).isFile, true);
  assertMatch(Deno.readTextFileSync(folder.file("out/real.csv")), /^entryId,/);
  Deno.symlinkSync("loop.csv", folder.file("loop.csv"));
  const loop = await database(["export", "costs", "--output", "loop.csv", ...AT], { cwd });
  assertEquals(loop.code, 1, loop.err);
});

test("import, export and migrate exit with 2 when used wrongly", async ({ path: cwd }) => {
  const wrong: [string[], string][] = [
    [["import"], "Name a dataset (metrics, services, devices, usage, costs, points) and files."],
    [["import", "costs"], "and files."],
    [["import", "cost", "a.csv"], 'Did you mean "costs"?'],
    [["import", "costs", "a.csv", "--format", "focs"], 'Did you mean "focus"?'],
    [["import", "costs", "a.csv", "--map", "amount"], '--map must be FIELD=…, not "amount".'],
    [["import", "costs", "a.csv", "--on-conflict", "no"], "Use one of ignore, replace."],
    [["import", "costs", "a.csv", "--map"], "--map FIELD=COLUMN"],
    [["export"], "Name a dataset: metrics, services, devices, usage, costs, points."],
    [["export", "costs", "--node-id", "n"], "does not apply to cost_entries"],
    [["export", "costs", "--format", "parqet"], 'Did you mean "parquet"?'],
    [["export", "costs", "--charge-period", "1"], "such as 250ms"],
    [
      ["export", "costs", "--provider", "AWS", "--format", "ndjson"],
      "--provider does not apply to cost_entries",
    ],
    [["export", "costs", "--charge-period", "1h"], "--charge-period applies to FOCUS only"],
    [["export", "metrics", "--source", "s"], "--source applies to costs only"],
    [["export", "costs", "--invoice-id", "1"], "--invoice-id applies to FOCUS only"],
    [["export", "usage", "--publisher", "a", "--provider", "b"], "--publisher applies to FOCUS only"],
    [
      ["export", "costs", "--output", "p.xlsx"],
      "No format has the ending of the name in --output. Pass --format with one of ndjson, csv, ",
    ],
    [["export", "costs", "--output", "p.json.gz"], "No format has the ending of the name"],
    [["export", "costs", "--output", "p.constructor"], "No format has the ending of the name"],
    [["migrate", "--to", "sqlite:///b.db"], "Pass --from with"],
    [["migrate", "--from", "sqlite:///a.db"], "Pass --to with"],
    [["migrate", "--from", "sqlite:///a.db", "--to", "mysql://u:secret@h/d"], 'scheme "mysql"'],
  ];
  const runs = await Promise.all(
    wrong.map(async ([args, expected]) => ({ args, expected, ...await database(args, { cwd }) })),
  );
  for (const { args, expected, code, out, err } of runs) {
    assertEquals([code, out], [2, ""], args.join(" "));
    assert(err.includes(expected) && !err.includes("secret"), `${args.join(" ")}: ${err}`);
  }
  assertEquals([...Deno.readDirSync(cwd)], []);
});

Deno.test("progressText() shows records, rate and time left", () => {
  assertEquals(
    progressText({ records: 50_000, share: 0.25, elapsedMs: 2_000 }),
    "50,000 records, 25,000 a second, 25 %, 6 s left",
  );
  assertEquals(progressText({ records: 10, elapsedMs: 1_000 }), "10 records, 10 a second");
});

Deno.test("Commands name the file that they cannot read, by any option", async () => {
  using folder = new TemporaryFolder();
  await Deno.mkdir(folder.file("folder"));
  await Deno.writeTextFile(folder.file("bad.json"), '{"a":');
  const commands = {
    "prices set --file": ["folder", "bad.json"],
    "serve --metric-map": ["folder", "none"],
  };
  await Promise.all(
    Object.entries(commands).flatMap(([command, files]) =>
      files.map(async (file) => {
        const { code, out, err } = await openfinops([...command.split(" "), file], { cwd: folder.path });
        assertMatch(err, new RegExp(`^error: [^\n]*${file}[^\n]*\\. \\[[A-Z_]+\\]\n(Try: [^\n]*\n)?$`));
        assertEquals([code === 1 || code === 2, out], [true, ""], err);
      })
    ),
  );
});
