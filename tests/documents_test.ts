/**
 * Runs what the documents say: each `sh` and `sql` block, in order, in a copy of the tree and against a server of
 * its own. (`ts` blocks are run by `deno test --doc`.)
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";
import "../cli.ts"; // brings all it needs into the cache, so that the commands below need no network
import { assert, assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { PostgresServer, runSql, timescaleVersion } from "./postgres_server.ts";

const DOCUMENTS = ["README.md", "docs/PERSISTENCE.md", "docs/ARCHITECTURE.md"] as const;

/** The languages that blocks may have, and what becomes of them. */
const LANGUAGES: Readonly<Record<string, string>> = {
  ts: "run by `deno test --doc`",
  sh: "run here",
  sql: "run here, in the database that the section is about",
  // It takes npm, packages, a service manager or the server's own files; or it is what runs these tests.
  console: "shown",
  text: "shown: pictures",
  ini: "shown: settings of other programs",
  json: "shown: settings of the reader's program",
};

const ROOT = fromFileUrl(new URL("..", import.meta.url));
/** What the documents' server is called. */
const HOST = "db.example";
/** Programs that a machine may lack. Where it does, the blocks that use them are not run, and the report says so. */
const OPTIONAL = ["psql", "pg_dump", "pg_restore", "createdb", "sqlite3", "openssl"];

interface Block {
  readonly line: number;
  readonly language: string;
  readonly text: string;
  /** The heading of the second level above it. */
  readonly section: string;
}

function blocksOf(document: string): Block[] {
  const blocks: Block[] = [];
  let section = "";
  let open: { line: number; language: string; text: string } | undefined;
  for (const [i, line] of Deno.readTextFileSync(`${ROOT}/${document}`).split("\n").entries()) {
    const [, language] = /^```(.*)$/.exec(line) ?? [];
    if (!open && line.startsWith("## ")) section = line.slice(3);
    if (language === undefined) {
      if (open) open.text += `${line}\n`;
    } else if (open) {
      blocks.push({ ...open, section });
      open = undefined;
    } else open = { line: i + 1, language, text: "" };
  }
  return blocks;
}

/** What the blocks of a document read that a reader would have: files, and a program of an agent. */
const FILES: Readonly<Record<string, string>> = {
  "focus.csv": "Id,ChargePeriodStart,BilledCost,BillingCurrency,ServiceCategory,ResourceId\n" +
    "1,2026-11-01T00:00:00Z,0.25,USD,Compute,gpu-01\n",
  "cpu.csv": "timestamp,value\n2026-11-01 00:00:00,41.2\n",
  "services.ndjson": '{"timestamp":"2026-11-01T00:00:00Z","serviceName":"inference"}\n',
  "agent.ts":
    'import { ObservabilityHub } from "@openfinops/telemetry";\nawait using hub = new ObservabilityHub();\n',
};

/** What the commands of the documents need of the tree. */
const PROGRAM = ["mod.ts", "cli.ts", "src", "examples", "deno.json", "deno.lock"];

/** A copy of that, as a new user has it, with `deno` and `openfinops` to be called from it. */
async function prepare(folder: TemporaryFolder): Promise<void> {
  await shell(`cp -r ${PROGRAM.map((name) => `'${ROOT}/${name}'`).join(" ")} .`, folder);
  for (const [name, text] of Object.entries(FILES)) Deno.writeTextFileSync(folder.file(name), text);
  await shell("gzip -k focus.csv services.ndjson", folder);
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

/** Whether pg_dump is of the server's release or newer; it refuses others. */
async function dumps(url: string, path: string): Promise<boolean> {
  const [{ version }] = await runSql(
    url,
    "SELECT current_setting('server_version_num')::int / 10000 AS version",
  );
  const { stdout } = await new Deno.Command("pg_dump", { args: ["--version"], env: { PATH: path } }).output();
  return Number(/ (\d+)/.exec(new TextDecoder().decode(stdout))?.[1]) >= Number(version);
}

Deno.test("each block of the documents has a language that says whether it is run", () => {
  for (const document of DOCUMENTS) {
    for (const { line, language } of blocksOf(document)) {
      assert(Object.hasOwn(LANGUAGES, language), `${document}:${line} has "${language}"`);
    }
  }
});

Deno.test("links in the documents lead somewhere", () => {
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

Deno.test("each room imports only those that docs/ARCHITECTURE.md has above it", () => {
  const table = Deno.readTextFileSync(`${ROOT}/docs/ARCHITECTURE.md`).matchAll(/^\| (`src\/.*?) +\|/gm);
  const floors = [...table].map(([, cell]) => [...cell.matchAll(/`src\/(.*?)\/?`/g)].map(([, room]) => room));
  const floorOf = (path: string) => {
    const floor = floors.findIndex((rooms) => rooms.includes(path.split("/")[0]));
    assert(floor >= 0, `docs/ARCHITECTURE.md has no room for ${path}`);
    return floor;
  };
  const src = new URL("../src/", import.meta.url);
  let imports = 0;
  for (const path of filesIn(fromFileUrl(src)).filter((path) => path.endsWith(".ts"))) {
    const url = new URL(path, src);
    for (const [, to] of Deno.readTextFileSync(url).matchAll(/(?:from|import\()\s*"(\.[^"]+\.ts)"/g)) {
      const target = new URL(to, url).href.slice(src.href.length);
      assert(floorOf(target) <= floorOf(path), `${path} imports ${target}`);
      imports++;
    }
  }
  assert(imports > 100, String(imports));
});

function filesIn(folder: string, prefix = ""): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesIn(`${folder}/${name}`, `${prefix}${name}/`) : [`${prefix}${name}`]
  );
}

Deno.test("troubleshooting knows each failure that the backends and the spool know", () => {
  const text = Deno.readTextFileSync(`${ROOT}/docs/PERSISTENCE.md`);
  const sources = ["backends/postgres/errors.ts"];
  for (const source of sources) {
    const code = Deno.readTextFileSync(`${ROOT}/src/${source}`);
    const advice = [...code.matchAll(/(?:(?:again|mend|data)\("\w+", |advice: )"([^";]+)/g)].map((
      [, words],
    ) => words);
    assert(advice.length > 0, source);
    for (const words of advice) {
      const wanted = words.replace(/,? (is|are) wanted\b.*/, "");
      assert(text.includes(wanted), `troubleshooting lacks "${wanted}" of ${source}`);
    }
  }
});

for (const document of DOCUMENTS) {
  const blocks = blocksOf(document).filter(({ language }) => language === "sh" || language === "sql");
  if (blocks.length === 0) continue;
  Deno.test({
    name: `the commands in ${document} run as they stand there`,
    ignore: Deno.build.os === "windows", // they are for a shell of Unix
    async fn(t) {
      using folder = new TemporaryFolder();
      await prepare(folder);
      await using server = await PostgresServer.start();
      await server.loadTimescale();
      await runSql(server.url(), "CREATE DATABASE telemetry");
      const hasTimescale = (await timescaleVersion(server.url())).version !== undefined;
      const path = `${folder.file(".bin")}:${server.binaries.folder}:${Deno.env.get("PATH")}`;
      const absent = new Set(OPTIONAL.filter((name) => !isOnPath(name, path)));
      if (!absent.has("pg_dump") && !await dumps(server.url(), path)) absent.add("pg_dump");
      const env = {
        PATH: path,
        PGUSER: "postgres",
        PGHOST: "127.0.0.1",
        PGPORT: String(server.port),
        OPENFINOPS_CONNECTION_STRING: "sqlite:///openfinops.db",
      };
      for (const { line, language, text, section } of blocks) {
        const lacking = [...absent].find((name) =>
          language === "sh" && new RegExp(`\\b${name}\\b`).test(text)
        );
        const without = section === "TimescaleDB" && !hasTimescale ? "TimescaleDB" : lacking;
        await t.step({
          name: `line ${line}${
            without === undefined ? "" : `, not run: this machine has no ${without} for it`
          }`,
          ignore: without !== undefined,
          async fn() {
            const here = text.replaceAll(HOST, `127.0.0.1:${server.port}`);
            if (language === "sh") await shell(here, folder, env);
            else await runSql(server.url(section === "TimescaleDB" ? "metrics" : "telemetry"), here);
          },
        });
      }
    },
  });
}
