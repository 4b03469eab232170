/**
 * Runs the documents: each `sh` and `sql` block, in order, in a copy of the tree and against its own server.
 * (`ts` blocks are run by `deno test --doc`.)
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";
import "../cli.ts"; // caches all modules, so that the commands below need no network
import { COMMANDS } from "../src/cli/commands.ts";
import { CostObservatory } from "../src/observatory.ts";
import { ObservabilityHub } from "../src/hub.ts";
import { billFormatsDocument } from "../scripts/bill_formats.ts";
import { fieldsDocument } from "../scripts/fields.ts";
import { troubleshootingDocument } from "../scripts/troubleshooting.ts";
import { DATASET_NAMES } from "../src/query/selection.ts";
import { assert, assertEquals } from "./assert.ts";
import { useDuckdbLibrary } from "./duckdb_library.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { CitusDatabase, citusVersion } from "./citus_cluster.ts";
import { PostgresServer, runSql, timescaleVersion } from "./postgres_server.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
/** The README and the guides: their blocks run. */
const GUIDES = ["README.md", ...documentsIn("docs")];
/** All documents: their links lead somewhere. */
const DOCUMENTS = [
  ...GUIDES,
  ...documentsIn("."),
  ...documentsIn("bench"),
  ".github/pull_request_template.md",
];

function documentsIn(folder: string): string[] {
  const names = [...Deno.readDirSync(`${ROOT}/${folder}`)].map(({ name }) => name);
  return names.filter((name) => name.endsWith(".md") && `${folder}/${name}` !== "./README.md").sort()
    .map((name) => folder === "." ? name : `${folder}/${name}`);
}

/** The languages of blocks. */
const LANGUAGES: Readonly<Record<string, string>> = {
  ts: "run by `deno test --doc`",
  sh: "run here",
  sql: "run here, in the database of the guide",
  // Needs npm, packages, a service manager or the server's own files; or runs these tests.
  console: "shown",
  text: "shown: output and pictures",
  ini: "shown: settings of other programs",
  yaml: "parsed by the tests of their programs: settings",
  json: "shown: settings of the reader's program",
  // Need a server.
  bash: "run by api_guide_test.ts or send_guide_test.ts",
  python: "run by send_guide_test.ts",
  "js ignore": "run by send_guide_test.ts; `deno test --doc` would run it without a server",
};

/** The host of the server in documents. */
const HOST = "db.example";
/** Programs that a machine may lack. Blocks that use a missing one are reported as not run. */
await useDuckdbLibrary();
const OPTIONAL = ["psql", "pg_dump", "pg_restore", "createdb", "sqlite3", "openssl"];

interface Block {
  readonly line: number;
  readonly language: string;
  readonly text: string;
}

function blocksOf(document: string): Block[] {
  const blocks: Block[] = [];
  let open: { line: number; language: string; text: string } | undefined;
  for (const [i, line] of Deno.readTextFileSync(`${ROOT}/${document}`).split("\n").entries()) {
    const [, language] = /^```(.*)$/.exec(line) ?? [];
    if (language === undefined) {
      if (open) open.text += `${line}\n`;
    } else if (open) {
      blocks.push(open);
      open = undefined;
    } else open = { line: i + 1, language, text: "" };
  }
  return blocks;
}

/** Files that a reader would have. */
const FILES: Readonly<Record<string, string>> = {
  "focus.csv": "Id,ChargePeriodStart,BilledCost,BillingCurrency,ServiceCategory,ResourceId\n" +
    "1,2026-11-01T00:00:00Z,0.25,USD,Compute,gpu-01\n",
  "cur-2026-11.csv":
    "line_item_usage_start_date,line_item_line_item_type,line_item_product_code,line_item_currency_code," +
    "line_item_unblended_cost\n2026-11-01T00:00:00Z,Usage,AmazonEC2,USD,0.25\n",
  "cpu.csv": "timestamp,value\n2026-11-01 00:00:00,41.2\n",
  "services.ndjson": '{"timestamp":"2026-11-01T00:00:00Z","serviceName":"inference"}\n',
  "usage.ndjson":
    '{"usageId":"1","timestamp":"2026-11-01T00:00:00Z","provider":"openai","model":"gpt-5","inputTokens":100}\n',
  "prices.csv": "model,unit,amount\nllama-70b,input,0.2\n",
  "agent.ts":
    'import { ObservabilityHub } from "@openfinops/telemetry";\nawait using hub = new ObservabilityHub();\n',
};

/** Input files that they name, in the folder of the cases. */
const CASES = {
  "gpus.csv": "nvidia-smi.csv",
  "dcgm.prom": "dcgm.prom",
  "spend-logs.csv": "litellm-spend.csv",
};

/** Files and folders of the project that the commands need. */
const PROGRAM = ["mod.ts", "cli.ts", "src", "examples", "deno.json", "deno.lock"];

/** Stores a sample and a cost, so that there is something to query, export and back up. */
async function writeDatabase(path: string): Promise<void> {
  const config = { connectionString: `sqlite:///${path}` };
  await using hub = await ObservabilityHub.open(config);
  await using costs = await CostObservatory.open(config);
  const timestamp = Date.now();
  await hub.collectSystemMetrics({ timestamp, nodeId: "gpu-01", cpuUsage: 41.2 });
  await costs.addCostEntry({ entryId: "1", timestamp, resourceId: "gpu-01", category: "gpu", amount: "0.1" });
}

/** Copies the project as a new user has it, with a database, and `deno` and `openfinops` on the PATH. */
async function prepare(folder: TemporaryFolder): Promise<void> {
  await writeDatabase(folder.file("openfinops.db"));
  await shell(`cp -r ${PROGRAM.map((name) => `'${ROOT}/${name}'`).join(" ")} .`, folder);
  for (const [name, text] of Object.entries(FILES)) Deno.writeTextFileSync(folder.file(name), text);
  for (const [name, file] of Object.entries(CASES)) {
    Deno.copyFileSync(`${ROOT}/tests/cases/gpu/${file}`, folder.file(name));
  }
  await shell("gzip -k focus.csv cur-2026-11.csv services.ndjson", folder);
  Deno.mkdirSync(folder.file(".bin"));
  Deno.symlinkSync(Deno.execPath(), folder.file(".bin/deno"));
  Deno.writeTextFileSync(
    folder.file(".bin/openfinops"),
    `#!/bin/sh\nexec deno run -q -A --cached-only --config '${ROOT}/deno.json' '${ROOT}/cli.ts' "$@"\n`,
    { mode: 0o755 },
  );
}

async function shell(text: string, folder: TemporaryFolder, env: Record<string, string> = {}): Promise<void> {
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-euo", "pipefail", "-c", text],
    cwd: folder.path,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  assertEquals(code, 0, `${text}\n${decoder.decode(stdout)}${decoder.decode(stderr)}`);
}

function isOnPath(program: string, path: string): boolean {
  return path.split(":").some((folder) => {
    try {
      return Deno.statSync(`${folder}/${program}`).isFile;
    } catch {
      return false;
    }
  });
}

/** Returns true if pg_dump has the server's release or a newer one; it refuses others. */
async function dumps(url: string, path: string): Promise<boolean> {
  const [{ version }] = await runSql(
    url,
    "SELECT current_setting('server_version_num')::int / 10000 AS version",
  );
  const { stdout } = await new Deno.Command("pg_dump", { args: ["--version"], env: { PATH: path } }).output();
  return Number(/ (\d+)/.exec(new TextDecoder().decode(stdout))?.[1]) >= Number(version);
}

Deno.test("documents mark each block with a language that says if it runs", () => {
  for (const document of GUIDES) {
    for (const { line, language } of blocksOf(document)) {
      assert(Object.hasOwn(LANGUAGES, language), `${document}:${line} has "${language}"`);
    }
  }
});

Deno.test("documents link to existing files and headings", () => {
  const slug = (title: string) =>
    title.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-");
  for (const document of DOCUMENTS) {
    const text = Deno.readTextFileSync(`${ROOT}/${document}`).replaceAll(/^```[^]*?^```/gm, "");
    for (const [, link] of text.matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
      const [path, anchor] = link.split("#");
      const url = new URL(path || document.split("/").at(-1)!, new URL(`../${document}`, import.meta.url));
      assert(Deno.statSync(url), link);
      if (anchor === undefined) continue;
      const titles = Deno.readTextFileSync(url).matchAll(/^#+ (.*)$/gm);
      assert([...titles].some(([, title]) => slug(title) === anchor), `${document} links to ${link}`);
    }
  }
});

Deno.test("src folders import only folders above them in docs/ARCHITECTURE.md", () => {
  const table = Deno.readTextFileSync(`${ROOT}/docs/ARCHITECTURE.md`).matchAll(/^\| (`src\/.*?) +\|/gm);
  const floors = [...table].map(([, cell]) => [...cell.matchAll(/`src\/(.*?)\/?`/g)].map(([, room]) => room));
  const floorOf = (path: string) => {
    const floor = floors.findIndex((rooms) => rooms.includes(path.split("/")[0]));
    assert(floor >= 0, `docs/ARCHITECTURE.md has no room for ${path}`);
    return floor;
  };
  const src = new URL("../src/", import.meta.url);
  for (const [path, targets] of importsOf(src)) {
    for (const target of targets) assert(floorOf(target) <= floorOf(path), `${path} imports ${target}`);
  }
});

Deno.test("docs/ARCHITECTURE.md says what each package in deno.json is for", () => {
  const text = Deno.readTextFileSync(`${ROOT}/docs/ARCHITECTURE.md`);
  const { imports } = JSON.parse(Deno.readTextFileSync(`${ROOT}/deno.json`));
  assertEquals(Object.keys(imports).filter((name) => !text.includes(`\`${name}\``)), []);
});

Deno.test("no module of src/ imports itself through others, not even a type", () => {
  const imports = importsOf(new URL("../src/", import.meta.url));
  const seen = new Set<string>();
  const visit = (path: string, way: readonly string[]) => {
    assert(!way.includes(path), [...way.slice(way.indexOf(path)), path].join(" imports "));
    if (seen.has(path)) return;
    for (const target of imports.get(path) ?? []) visit(target, [...way, path]);
    seen.add(path);
  };
  for (const path of imports.keys()) visit(path, []);
});

/** The modules of a folder, and those of them that each imports, for types or later ones included. */
function importsOf(folder: URL): Map<string, string[]> {
  const imports = new Map<string, string[]>();
  for (const path of filesIn(fromFileUrl(folder)).filter((path) => path.endsWith(".ts"))) {
    const url = new URL(path, folder);
    const found = Deno.readTextFileSync(url).matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+\.ts)"/g);
    imports.set(path, [...found].map(([, to]) => new URL(to, url).href.slice(folder.href.length)));
  }
  assert(imports.size > 100, String(imports.size));
  return imports;
}

function filesIn(folder: string, prefix = ""): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesIn(`${folder}/${name}`, `${prefix}${name}/`) : [`${prefix}${name}`]
  );
}

Deno.test("docs/troubleshooting.md is current", async () => {
  assertEquals(
    Deno.readTextFileSync(`${ROOT}/docs/troubleshooting.md`),
    await troubleshootingDocument(),
    "run: deno task troubleshooting",
  );
});

Deno.test("docs/fields.md is current", async () => {
  assertEquals(
    Deno.readTextFileSync(`${ROOT}/docs/fields.md`),
    await fieldsDocument(),
    "run: deno task fields",
  );
});

Deno.test("docs/bill-formats.md is current", async () => {
  assertEquals(
    Deno.readTextFileSync(`${ROOT}/docs/bill-formats.md`),
    await billFormatsDocument(),
    "run: deno task bill-formats",
  );
});

Deno.test("docs/command-line.md lists every command", () => {
  const [text] = Deno.readTextFileSync(`${ROOT}/docs/command-line.md`).split("\n## ");
  const listed = [...text.matchAll(/^\|[^|]+\| `([a-z -]+)` +\|$/gm)].map(([, name]) => name);
  assertEquals(listed, COMMANDS.map(({ name }) => name));
});

Deno.test("docs/command-line.md lists every dataset", () => {
  const text = Deno.readTextFileSync(`${ROOT}/docs/command-line.md`);
  const [, listed] = /\n- \*\*Datasets\.\*\* ([^.]*)\./.exec(text)!;
  assertEquals(listed.replaceAll(/[`\s]/g, "").split(","), DATASET_NAMES.split("|"));
});

Deno.test("docs/configuration.md lists every field of the configuration", () => {
  const [, body] = /export interface PersistenceConfig \{\n(.*?)\n\}/s.exec(
    Deno.readTextFileSync(`${ROOT}/src/config.ts`),
  )!;
  const fields = [...body.matchAll(/^ {2}(\w+)\?:/gm)].map(([, name]) => name);
  assert(fields.length >= 20, String(fields));
  const text = Deno.readTextFileSync(`${ROOT}/docs/configuration.md`);
  const listed = [...text.matchAll(/^\| `([a-z]\w+)` +\|/gm)].map(([, name]) => name);
  assertEquals(listed.filter((name) => fields.includes(name)).sort(), fields.sort());
});

Deno.test("README and guides name the server releases that CI runs", () => {
  const workflow = Deno.readTextFileSync(`${ROOT}/.github/workflows/ci.yml`);
  const releases = (image: RegExp) => [...workflow.matchAll(image)].map(([, release]) => release);
  const postgres = releases(/- postgres:(\d+)$/gm);
  const timescale = releases(/- timescale\/timescaledb:(\d+\.\d+)\./gm);
  const read = (path: string) => Deno.readTextFileSync(`${ROOT}/${path}`).replaceAll(/\s+/g, " ");
  const list = (names: string[]) => `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
  assert(
    read("docs/postgresql.md").includes(
      `PostgreSQL ${postgres[0]} or later; the tests run on ${list(postgres)}.`,
    ),
  );
  assert(
    read("docs/timescaledb.md").includes(`${timescale[0]} or later; the tests run on ${list(timescale)}.`),
  );
  assert(read("README.md").includes(`PostgreSQL (${postgres[0]} or later)`));
  assert(read("README.md").includes(`TimescaleDB (${timescale[0]} or later)`));
});

Deno.test("docs/PERSISTENCE.md links to every guide", () => {
  const text = Deno.readTextFileSync(`${ROOT}/docs/PERSISTENCE.md`);
  for (const name of documentsIn("docs").map((path) => path.slice("docs/".length))) {
    const isGuide = name !== "PERSISTENCE.md" && name !== "ARCHITECTURE.md";
    assert(!isGuide || text.includes(`](${name})`), name);
  }
});

Deno.test("README fits on three screens and shows both commands on the first", () => {
  const lines = Deno.readTextFileSync(`${ROOT}/README.md`).trimEnd().split("\n");
  assert(lines.length <= 150, String(lines.length));
  for (const command of ["npx --yes deno@^2.9 task start", "npx --yes deno@^2.9 task test"]) {
    const line = lines.indexOf(command);
    assert(line >= 0 && line < 20, command);
  }
});

/** Starts the server of a guide with the database `telemetry`. */
async function startServer(): Promise<PostgresServer> {
  const server = await PostgresServer.start();
  await server.loadTimescale();
  await runSql(server.url(), "CREATE DATABASE telemetry");
  return server;
}

/** Names what the machine lacks for the blocks of a guide. */
async function findAbsent(server: PostgresServer | undefined, path: string): Promise<Set<string>> {
  const absent = new Set(OPTIONAL.filter((name) => !isOnPath(name, path)));
  if (!server) return absent;
  if (!absent.has("pg_dump") && !await dumps(server.url(), path)) absent.add("pg_dump");
  if ((await timescaleVersion(server.url())).version === undefined) absent.add("timescaledb");
  return absent;
}

/** Runs a block of the guide of Citus on a database of the cluster that the tests share. */
async function runOnCluster(
  { url, name }: CitusDatabase,
  { language, text, run }: { language: string; text: string; run: (text: string) => Promise<void> },
): Promise<void> {
  if (language !== "sh") return void await runSql(url, text);
  const login = url.replace(/^\w+:/, "citus:");
  await run(
    text.replaceAll(`citus://${HOST}/telemetry`, login).replace(/(pg_dump .*) telemetry$/m, `$1 "${url}"`)
      .replaceAll("telemetry.dump", `${name}.dump`),
  );
}

for (const document of GUIDES) {
  const blocks = blocksOf(document).filter(({ language }) => language === "sh" || language === "sql");
  if (blocks.length === 0) continue;
  const needsServer = blocks.some(({ language, text }) => language === "sql" || text.includes(HOST));
  const isOfTimescale = document === "docs/timescaledb.md";
  const isOfCitus = document === "docs/citus.md";
  Deno.test({
    name: `${document} runs as written`,
    ignore: Deno.build.os === "windows", // they are for a shell of Unix
    async fn(t) {
      using folder = new TemporaryFolder();
      await prepare(folder);
      await using server = needsServer && !isOfCitus ? await startServer() : undefined;
      await using cluster = isOfCitus && (await citusVersion()).version
        ? await CitusDatabase.create()
        : undefined;
      const path = [folder.file(".bin"), server?.binaries.folder, Deno.env.get("PATH")].join(":");
      const absent = await findAbsent(server, path);
      const env = {
        PATH: path,
        PGUSER: "postgres",
        PGHOST: "127.0.0.1",
        PGPORT: String(server?.port ?? ""),
        OPENFINOPS_CONNECTION_STRING: "sqlite:///openfinops.db",
      };
      for (const { line, language, text } of blocks) {
        const lacking = isOfTimescale && absent.has("timescaledb")
          ? "timescaledb"
          : isOfCitus && !cluster
          ? "citus"
          : [...absent].find((name) => language === "sh" && new RegExp(`\\b${name}\\b`).test(text));
        await t.step({
          name: `line ${line}${lacking === undefined ? "" : `, not run: this machine lacks ${lacking}`}`,
          ignore: lacking !== undefined,
          async fn() {
            if (cluster) {
              return await runOnCluster(cluster, {
                language,
                text,
                run: (text) => shell(text, folder, env),
              });
            }
            const here = text.replaceAll(HOST, `127.0.0.1:${server?.port}`)
              .replaceAll(/--duration \d+s\b/g, "--duration 200ms"); // a wait shows nothing
            if (language === "sh") await shell(here, folder, env);
            else await runSql(server!.url(isOfTimescale ? "metrics" : "telemetry"), here);
          },
        });
      }
    },
  });
}
