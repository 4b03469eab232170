import "../cli.ts"; // brings all it needs into the cache, so that its runs below need no network
import { dirname } from "node:path";
import { assertEquals } from "./assert.ts";
import { TemporaryFolder } from "./fixtures.ts";

const ROOT = new URL("..", import.meta.url);
const { name, version, exports } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));

/** As much of JSR as it takes to publish one package and to import it: what `deno publish` sends is what is served. */
class Registry implements AsyncDisposable {
  readonly #files = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request) => this.#answer(request),
  );

  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}/`;
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/api/")) {
      const isVersion = pathname.endsWith(`/versions/${version}`);
      if (request.method === "GET") return isVersion ? missing() : Response.json({});
      const tar = request.body!.pipeThrough(new DecompressionStream("gzip"));
      for (const [path, bytes] of untar(new Uint8Array(await new Response(tar).arrayBuffer()))) {
        this.#files.set(path, bytes);
      }
      return Response.json({ id: "1", status: "success", error: null });
    }
    if (pathname === `/${name}/meta.json`) return Response.json({ versions: { [version]: {} } });
    if (pathname === `/${name}/${version}_meta.json`) {
      return Response.json({ exports, manifest: await this.#manifest() });
    }
    const bytes = this.#files.get(pathname.slice(`/${name}/${version}`.length));
    return bytes && pathname.startsWith(`/${name}/`) ? new Response(bytes) : missing();
  }

  async #manifest(): Promise<Record<string, { size: number; checksum: string }>> {
    const entries = [...this.#files].map(async ([path, bytes]) => {
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      return [path, { size: bytes.length, checksum: `sha256-${hash.toHex()}` }] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function missing(): Response {
  return new Response(null, { status: 404 });
}

/** The files of a tar archive, with their paths from the root. */
function* untar(tar: Uint8Array<ArrayBuffer>): Generator<[string, Uint8Array<ArrayBuffer>]> {
  const text = (start: number, length: number) =>
    new TextDecoder().decode(tar.subarray(start, start + length)).replace(/\0.*$/s, "");
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0;) {
    const size = parseInt(text(at + 124, 12), 8);
    const path = [text(at + 345, 155), text(at, 100)].filter(Boolean).join("/").replace(/^\.?\/?/, "/");
    yield [path, tar.slice(at + 512, at + 512 + size)];
    at += 512 + Math.ceil(size / 512) * 512;
  }
}

Deno.test("deno publish sends a package that can be imported and run", async () => {
  if (Deno.build.os === "windows") return; // links take a privilege there
  await using registry = new Registry();
  using folder = new TemporaryFolder();
  const run = async (program: string, args: string[], cwd: string | URL = folder.path) => {
    const env = {
      JSR_URL: registry.url,
      DENO_DIR: folder.file("cache"),
      NO_COLOR: "1",
      PATH: `${dirname(Deno.execPath())}:${Deno.env.get("PATH")}`,
    };
    const { code, stdout, stderr } = await new Deno.Command(program, { args, cwd, env }).output();
    const decoder = new TextDecoder();
    assertEquals(code, 0, decoder.decode(stderr));
    return decoder.decode(stdout);
  };
  const deno = (...args: string[]) => run(Deno.execPath(), args);
  const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { denoDir } = JSON.parse(new TextDecoder().decode(info.stdout));
  Deno.mkdirSync(folder.file("cache"));
  Deno.symlinkSync(`${denoDir}/npm`, folder.file("cache/npm"));

  await run(Deno.execPath(), ["publish", "-q", "--token", "none", "--allow-dirty", "--no-check"], ROOT);
  assertEquals(await deno("run", "-q", "-A", `jsr:${name}/cli`, "--version"), `openfinops ${version}\n`);
  await deno("install", "-q", "-g", "-f", "-A", "-n", "openfinops", "--root", folder.path, `jsr:${name}/cli`);
  const url = folder.sqlite();
  await run(folder.file("bin/openfinops"), ["database", "init", "--connection-string", url]);
  Deno.writeTextFileSync(
    folder.file("program.ts"),
    `import { ObservabilityHub } from "jsr:${name}";
    await using hub = await ObservabilityHub.open({ connectionString: ${JSON.stringify(url)} });
    await hub.collectSystemMetrics({ timestamp: Date.now(), nodeId: "gpu-01" });
    await hub.flush();
    console.log((await hub.queryHistoricalMetrics())[0].nodeId);`,
  );
  assertEquals(await deno("run", "-q", "-A", "program.ts"), "gpu-01\n");
});
