import { assert, assertEquals, assertMatch } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { COMPILE_OPTIONS, TARGETS, writeChecksums } from "../scripts/compile.ts";

const ROOT = new URL("..", import.meta.url);
const CONFIG = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));

/** Runs deno in the project. */
async function deno(args: string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** A module as `deno info --json` tells of it. */
interface Module {
  specifier: string;
  kind?: string;
  npmPackage?: string;
  error?: string;
  dependencies?: { code?: { specifier: string }; isDynamic?: boolean }[];
}

/** All that a program may load, also later. */
async function graphOf(entry: string): Promise<Module[]> {
  const { out } = await deno(["info", "-q", "--json", entry]);
  return JSON.parse(out).modules;
}

/** The modules of this project in a graph, as paths. */
function ownModules(graph: readonly Module[]): string[] {
  return graph.map(({ specifier }) => specifier)
    .filter((specifier) => specifier.startsWith("file:"))
    .map((specifier) => specifier.slice(ROOT.href.length));
}

/** Reference to a module outside the graph: `new URL("./module.ts", import.meta.url)`. */
const ON_DEMAND = /new URL\("\.\/(\w+\.ts)", import\.meta\.url\)/g;

/** The modules of this project that are in no graph, as paths. */
function onDemand(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const text = Deno.readTextFileSync(new URL(path, ROOT));
    return [...text.matchAll(ON_DEMAND)].map(([, name]) => path.replace(/[^/]+$/, name));
  });
}

Deno.test("cli.ts loads no Node module before it knows the command", async () => {
  const graph = new Map((await graphOf("cli.ts")).map((module) => [module.specifier, module]));
  const loaded = new Set([new URL("cli.ts", ROOT).href]);
  for (const specifier of loaded) {
    for (const { code, isDynamic } of graph.get(specifier)?.dependencies ?? []) {
      if (code && !isDynamic) loaded.add(code.specifier);
    }
  }
  assert(loaded.size > 5);
  assertEquals([...loaded].filter((specifier) => !specifier.startsWith("file:")), []);
});

Deno.test("src modules load only modules of the graph, or ones with a fallback", async () => {
  const graph = await graphOf("cli.ts");
  for (const { specifier, error } of graph) {
    // What comes from JSR has a built-in behind it; all else has to be there.
    assert(error === undefined || specifier.startsWith("jsr:"), `${specifier}: ${error}`);
  }
  const own = ownModules(graph);
  const loaded = [
    "src/backends/sqlite/db_sqlite.ts",
    "src/backends/sqlite/sqlite_worker.ts",
    "src/cli/std_cli.ts",
  ];
  assertEquals(onDemand(own).sort(), loaded);
  for (const path of own.filter((path) => path !== "src/lazy_import.ts")) {
    const text = Deno.readTextFileSync(new URL(path, ROOT)).replaceAll(ON_DEMAND, "");
    for (const [call] of text.matchAll(/(?<![\w.])import\((?!")[^)]*/g)) {
      assert(call === "", `${path}: ${call}`);
    }
    assert(!/import\.meta\.(url|dirname|filename|resolve)/.test(text), `${path} reads from where it lies`);
  }
});

Deno.test("deno publish includes all loaded modules and little else", async () => {
  const { code, err } = await deno(["publish", "--dry-run", "--allow-dirty", "--no-check"]);
  assertEquals(code, 0, err);
  const published = [...err.matchAll(/^ +(file:\S+) \(/gm)].map(([, url]) => url.slice(ROOT.href.length))
    .sort();
  const shown = ownModules((await Promise.all(Object.values<string>(CONFIG.exports).map(graphOf))).flat());
  const needed = [...shown, ...onDemand(shown)];
  const others = published.filter((path) => !needed.includes(path));
  assertEquals(needed.filter((path) => !published.includes(path)), []);
  assertEquals(others, ["LICENSE", "README.md"]);
  const page = published.filter((path) => /^web\/.*\.(js|css|html)$/.test(path));
  const lines = page.flatMap((path) => Deno.readTextFileSync(new URL(path, ROOT)).trimEnd().split("\n"));
  assert(page.length > 10 && lines.length <= 3_000, `${lines.length} lines in web/`);
});

Deno.test("deno.json pins npm packages exactly", () => {
  for (const [name, specifier] of Object.entries<string>(CONFIG.imports)) {
    if (specifier.startsWith("npm:")) assertMatch(specifier, /@\d+\.\d+\.\d+(-[\w.]+)?$/, name);
  }
  assertMatch(CONFIG.tasks.spelling.command, / npm:cspell@\d+\.\d+\.\d+ /);
  // The lock file as it was before other tests ran, which add to it.
  const lock = Deno.env.get("TEST_LOCK_FILE") ?? new URL("deno.lock", ROOT);
  const { specifiers } = JSON.parse(Deno.readTextFileSync(lock));
  const imports = Object.values<string>(CONFIG.imports);
  const foreign = Object.keys(specifiers).filter((specifier) => !imports.includes(specifier));
  assertEquals(foreign.filter((specifier) => !/^(jsr:|npm:@types\/node@)/.test(specifier)), []);
});

Deno.test("deno doc makes a page for each public name", async () => {
  using folder = new TemporaryFolder();
  const { code, err } = await deno(["doc", "-q", "--html", `--output=${folder.path}`, "mod.ts", "cli.ts"]);
  assertEquals(code, 0, err);
  const names = Object.keys(await import("../mod.ts"));
  assert(names.length > 10);
  const pages = [...Deno.readDirSync(folder.file("~"))].map((page) => page.name);
  for (const name of names) assert(pages.includes(`${name}.html`), name);
});

Deno.test("deno task compile embeds only packages that the command can load", async () => {
  using folder = new TemporaryFolder();
  // Deno itself stands in for the base runtime, which it would download: all is embedded, only it cannot be run.
  const { code, err } = await deno(
    ["compile", ...COMPILE_OPTIONS, "--output", folder.file("openfinops"), "cli.ts"],
    { DENORT_BIN: Deno.execPath() },
  );
  assertEquals(code, 0, err);
  const embedded = [...err.matchAll(/── (@?[a-z][\w./-]*?)(?:\/[\d.]+)?\/\*/g)].map(([, name]) => name);
  const expected = (await graphOf("cli.ts")).filter(({ kind }) => kind === "npm")
    .map(({ npmPackage }) => npmPackage!.replace(/(?<=.)@.*/, ""));
  assert(expected.length >= 4);
  for (const name of expected) assert(embedded.includes(name), `${name}: ${err}`);
  assert(!err.includes("selfsigned"), err);
});

Deno.test("deno task compile says what to do when the runtime cannot be downloaded", async () => {
  if (Deno.build.os === "windows") return; // links take a privilege there
  using folder = new TemporaryFolder();
  const { denoDir } = JSON.parse((await deno(["info", "--json"])).out);
  Deno.symlinkSync(`${denoDir}/npm`, folder.file("npm"));
  const nowhere = "http://127.0.0.1:9"; // a port without a listener
  const env = { DENO_DIR: folder.path, HTTPS_PROXY: nowhere, HTTP_PROXY: nowhere, NO_PROXY: "" };
  const { code, out, err } = await deno(["task", "-q", "compile", TARGETS[0], TARGETS[4]], env);
  assertEquals([code, out], [1, ""]);
  const lines = err.trimEnd().split("\n");
  assertEquals(lines.length, 7, err);
  assertMatch(
    lines[0],
    /^Cannot compile for x86_64-unknown-linux-gnu: the base runtime of Deno .* could not be downloaded/,
  );
  assertMatch(lines[2], /^Run this again where .* can be reached; or download there$/);
  assertMatch(lines[4], /denort-x86_64-pc-windows-msvc\.zip$/);
});

Deno.test("writeChecksums lists each binary with its SHA-256", async () => {
  using folder = new TemporaryFolder();
  for (const name of ["openfinops-b.exe", "openfinops-a", "notes.txt"]) {
    Deno.writeTextFileSync(folder.file(name), "abc");
  }
  const names = ["openfinops-a", "openfinops-b.exe"];
  assertEquals(await writeChecksums(folder.path), names);
  assertEquals(await writeChecksums(folder.path), names); // the list itself is no binary
  const hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-4, of "abc"
  assertEquals(
    Deno.readTextFileSync(folder.file("SHA256SUMS")),
    names.map((name) => `${hash}  ${name}\n`).join(""),
  );
});
