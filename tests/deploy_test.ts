/** Checks what deploy/ ships: what cannot run here is parsed, and compared with what the program has. */
import { parse, parseAllDocuments } from "yaml";
import { readArguments } from "../src/cli/arguments.ts";
import { COMMANDS } from "../src/cli/commands.ts";
import { maxPositionalsOf } from "../src/cli/main.ts";
import { readListen } from "../src/cli/listen.ts";
import { readDurationMs } from "../src/query/option_values.ts";
import { AGENT_PATHS } from "../src/server/agent_status.ts";
import { PIPELINE_METRICS } from "../src/pipeline/pipeline_metrics.ts";
import { prometheusName } from "../src/server/prometheus_text.ts";
import { ROUTES } from "../src/server/routes.ts";
import { COMPILE_OPTIONS } from "../scripts/compile.ts";
import { assert, assertEquals, assertMatch } from "./assert.ts";
import { openfinops } from "./command.ts";
import { TemporaryFolder } from "./fixtures.ts";
import { promtool } from "./promtool.ts";

const ROOT = new URL("../", import.meta.url);
const CONFIG = JSON.parse(Deno.readTextFileSync(new URL("deno.json", ROOT)));
const read = (path: string) => Deno.readTextFileSync(new URL(`deploy/${path}`, ROOT));

/** Time that `collect` takes at most to send what is left, in milliseconds. */
const CLOSE_MS = 10_000;

/** A command line as the real parser of arguments reads it. */
async function parseCommand(args: readonly string[]) {
  const entry = COMMANDS.find(({ name }) => `${args.join(" ")} `.startsWith(`${name} `));
  assert(entry, args.join(" "));
  const command = await entry.load();
  const rest = args.slice(entry.name.split(" ").length);
  const given = await readArguments(rest, command.options);
  assert(given.positionals.length <= maxPositionalsOf(command), args.join(" "));
  const listen = given.text("listen");
  const url = entry.name === "probe" ? new URL(given.positionals[0]) : undefined;
  return {
    name: entry.name,
    given,
    port: url ? Number(url.port) : listen === undefined ? undefined : readListen(listen).port,
    path: url?.pathname,
    closeMs: entry.name === "serve"
      ? readDurationMs("deadline", given.text("deadline") ?? "10s")
      : entry.name === "collect"
      ? CLOSE_MS
      : 0,
  };
}

type Parsed = Awaited<ReturnType<typeof parseCommand>>;

/** Checks that a probe asks a path and a port that the probed command has. */
function assertProbed({ name, port }: Parsed, probe: { port: number | undefined; path: string | undefined }) {
  assertEquals(probe.port, port);
  const paths = name === "serve"
    ? ROUTES.filter(({ scope }) => scope === "none").map(({ path }) => path)
    : [...AGENT_PATHS];
  assert(paths.includes(probe.path!), `${name} does not answer ${probe.path}`);
}

/** Variables that the source reads. */
const VARIABLES: ReadonlySet<string> = new Set(
  [...filesIn(new URL("src/", ROOT))].flatMap((url) =>
    [...Deno.readTextFileSync(url).matchAll(/OPENFINOPS_[A-Z_]+/g)].map(([name]) => name)
  ),
);

function* filesIn(folder: URL): Generator<URL> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    if (isDirectory) yield* filesIn(new URL(`${name}/`, folder));
    else if (name.endsWith(".ts")) yield new URL(name, folder);
  }
}

function assertVariables(names: Iterable<string>): void {
  for (const name of names) {
    if (name.startsWith("OPENFINOPS_")) assert(VARIABLES.has(name), `nothing reads ${name}`);
  }
}

/** Settings of a unit: each key with its values. */
function readUnit(text: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of text.split("\n")) {
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined) found.set(key, [...found.get(key) ?? [], value]);
  }
  return found;
}

const UNITS = ["serve", "collect"] as const;

for (const name of UNITS) {
  Deno.test(`deploy/systemd/openfinops-${name}.service fits the command and is hardened`, async () => {
    const unit = readUnit(read(`systemd/openfinops-${name}.service`));
    const [program, ...args] = unit.get("ExecStart")![0].split(" ");
    assertEquals(program, "/usr/local/bin/openfinops");
    const command = await parseCommand(args);
    assertEquals(command.name, name);
    assert(Number(unit.get("TimeoutStopSec")![0]) * 1_000 > command.closeMs);
    assertVariables(unit.get("Environment")!.map((text) => text.split("=")[0]));
    const folder = `/var/lib/${unit.get("StateDirectory")![0]}`;
    assert(command.given.text("spool-directory")!.startsWith(`${folder}/`));
    for (
      const [key, value] of [
        ["DynamicUser", "yes"],
        ["NoNewPrivileges", "yes"],
        ["ProtectSystem", "strict"],
        ["ProtectHome", "yes"],
        ["PrivateTmp", "yes"],
        ["CapabilityBoundingSet", ""],
        ["UMask", "0077"],
      ]
    ) assertEquals(unit.get(key), [value], key);
    assert(unit.has("MemoryMax") && unit.has("SystemCallFilter"));
    for (const text of unit.values()) assert(!/password|Bearer/i.test(text.join()), "a secret");
  });
}

Deno.test("deploy/systemd passes systemd-analyze verify", async () => {
  using folder = new TemporaryFolder();
  for (const name of UNITS) {
    // The program need not be installed here.
    const unit = read(`systemd/openfinops-${name}.service`).replaceAll(
      "/usr/local/bin/openfinops",
      "/bin/true",
    );
    const path = folder.file(`openfinops-${name}.service`);
    Deno.writeTextFileSync(path, unit);
    try {
      const { stderr, code } = await new Deno.Command("systemd-analyze", { args: ["verify", path] }).output();
      const about = new TextDecoder().decode(stderr).split("\n").filter((line) =>
        line.includes("openfinops")
      );
      assertEquals([code, about], [0, []]);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      return console.warn("systemd-analyze is not installed; units are not verified by it");
    }
  }
});

Deno.test("the agent's unit checks its options and finds its token by a file", async () => {
  using folder = new TemporaryFolder();
  const [, ...args] = readUnit(read("systemd/openfinops-collect.service")).get("ExecStart")![0].split(" ");
  Deno.writeTextFileSync(folder.file("token"), "hidden-token\n");
  const env = { OPENFINOPS_TOKEN_FILE: folder.file("token") };
  const { code, out, err } = await openfinops([...args, "--dry-run"], { cwd: folder.path, env });
  assertEquals([code, err], [0, ""]);
  assertMatch(
    out,
    /send to https:\/\/finops\.example:8430 with the token of the file in OPENFINOPS_TOKEN_FILE/,
  );
  assert(!out.includes("hidden-token"));
});

Deno.test("deploy/Containerfile runs the server as a user without rights", async () => {
  const lines = read("Containerfile").replaceAll("\\\n", " ").split("\n");
  const of = (instruction: string) =>
    lines.filter((line) => line.startsWith(`${instruction} `)).map((line) =>
      line.slice(instruction.length + 1)
    );
  const serve = await parseCommand(JSON.parse(of("CMD")[0]));
  assertEquals([serve.name, of("EXPOSE")], ["serve", [String(serve.port)]]);
  const [, ...check] = JSON.parse(/CMD (\[.*\])/.exec(of("HEALTHCHECK")[0])![1]);
  assertProbed(serve, await parseCommand(check) as { port: number; path: string });
  assertEquals(of("USER"), ["65532:65532"]);
  assertVariables(of("ENV").map((text) => text.split("=")[0]));
  const compile = of("RUN").join();
  for (const option of COMPILE_OPTIONS) assert(compile.includes(` ${option} `), option);
  const sources = of("COPY").filter((text) => !text.startsWith("--from")).flatMap((text) =>
    text.split(" ").slice(0, -1)
  );
  for (const source of sources) assert(Deno.statSync(new URL(source, ROOT)), source);
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "cli.ts"],
    cwd: ROOT,
    env: { DENO_NO_UPDATE_CHECK: "1" },
  }).output();
  const modules: { specifier: string }[] = JSON.parse(new TextDecoder().decode(stdout)).modules;
  const needed = modules.map(({ specifier }) => specifier).filter((url) => url.startsWith(ROOT.href))
    .map((url) => url.slice(ROOT.href.length).split("/")[0]);
  assertEquals([...new Set(needed)].filter((name) => !sources.includes(name)), []);
  assert(sources.includes("deno.lock"));
  assertMatch(of("FROM")[0], /^docker\.io\/denoland\/deno:debian-2\.9\.\d+ AS build$/);
  assert(serve.given.text("spool-directory")!.startsWith(`${of("VOLUME")[0]}/`));
});

interface Service {
  image?: string;
  command?: string[];
  environment?: Record<string, string>;
  secrets?: string[];
  volumes?: string[];
  ports?: string[];
  healthcheck?: { test: string[] };
  depends_on?: Record<string, unknown>;
  read_only?: boolean;
  cap_drop?: string[];
  stop_grace_period?: string;
}

Deno.test("deploy/compose.yaml fits the commands, and refers to what it defines", async () => {
  const { services, volumes, secrets } = parse(read("compose.yaml")) as {
    services: Record<string, Service>;
    volumes: object;
    secrets: object;
  };
  for (const [name, service] of Object.entries(services)) {
    for (const secret of service.secrets ?? []) assert(secret in secrets, secret);
    for (const volume of service.volumes ?? []) assert(volume.split(":")[0] in volumes, volume);
    for (const other of Object.keys(service.depends_on ?? {})) {
      assert(services[other].healthcheck, `${name} waits for ${other}, which has no health check`);
    }
    for (const value of Object.values(service.environment ?? {})) {
      const [, secret] = /^\/run\/secrets\/(.*)$/.exec(value) ?? [];
      assert(secret === undefined || service.secrets!.includes(secret), value);
    }
    if (!service.command) continue;
    const command = await parseCommand(service.command);
    assertVariables(Object.keys(service.environment ?? {}));
    const [, , ...probe] = service.healthcheck!.test;
    assertProbed(command, await parseCommand(probe));
    assert(readDurationMs("grace", service.stop_grace_period!) > command.closeMs, name);
    assertEquals([service.read_only, service.cap_drop], [true, ["ALL"]]);
    const target = command.given.text("send");
    if (target === undefined) continue;
    const { hostname, port } = new URL(target);
    assertEquals(Number(port), (await parseCommand(services[hostname].command!)).port);
  }
});

// deno-lint-ignore no-explicit-any -- manifests are checked, not typed
type Manifest = any;

function manifests(): Manifest[] {
  const { resources } = parse(read("kubernetes/kustomization.yaml"));
  const files = [...Deno.readDirSync(new URL("deploy/kubernetes/", ROOT))].map(({ name }) => name);
  assertEquals([...resources, "kustomization.yaml"].sort(), files.sort());
  return resources.flatMap((file: string) => {
    const documents = parseAllDocuments(read(`kubernetes/${file}`));
    assert(documents.every((document) => "errors" in document && document.errors.length === 0), file);
    return documents.map((document) => (document as { toJS(): unknown }).toJS());
  });
}

Deno.test("deploy/kubernetes fits the commands, and refers to what it defines", async () => {
  const all = manifests();
  const find = (kind: string, name: string) =>
    all.find((found) => found.kind === kind && found.metadata.name === name);
  for (const { kind, metadata: { namespace, name } } of all) {
    if (kind !== "Namespace") assert(find("Namespace", namespace), `${kind} ${name} in ${namespace}`);
  }
  const workloads = all.filter(({ spec }) => spec?.template);
  assertEquals(workloads.map(({ kind }) => kind), ["Deployment", "DaemonSet"]);
  for (const { spec: { selector, template: { metadata, spec: pod } } } of workloads) {
    assertEquals(selector.matchLabels, metadata.labels);
    const [container] = pod.containers;
    const command = await parseCommand(container.args);
    const portOf = (port: string | number) =>
      container.ports.find(({ name }: { name: string }) => name === port)?.containerPort ?? port;
    for (const probe of ["startupProbe", "livenessProbe", "readinessProbe"]) {
      const found = container[probe]?.httpGet;
      if (found) assertProbed(command, { path: found.path, port: portOf(found.port) });
    }
    assert(container.livenessProbe && container.readinessProbe);
    const pauseMs = (container.lifecycle?.preStop.sleep.seconds ?? 0) * 1_000;
    assert(pod.terminationGracePeriodSeconds * 1_000 > command.closeMs + pauseMs);
    const { env = [], envFrom = [], volumeMounts = [], securityContext } = container;
    assertVariables(env.map(({ name }: { name: string }) => name));
    const names = env.map(({ name }: { name: string }) => name);
    for (const [, used] of container.args.join(" ").matchAll(/\$\((\w+)\)/g)) {
      assert(names.includes(used), used);
    }
    for (const { valueFrom } of env) {
      const { secretKeyRef: ref } = valueFrom ?? {};
      if (ref) assert(ref.key in find("Secret", ref.name).stringData, ref.key);
    }
    for (const { configMapRef } of envFrom) {
      assertVariables(Object.keys(find("ConfigMap", configMapRef.name).data));
    }
    const volumes = new Map((pod.volumes ?? []).map((volume: Manifest) => [volume.name, volume]));
    for (const { name } of volumeMounts) assert(volumes.has(name), name);
    assertEquals(volumes.size, volumeMounts.length);
    assertEquals(
      [
        securityContext.allowPrivilegeEscalation,
        securityContext.readOnlyRootFilesystem,
        securityContext.capabilities,
      ],
      [false, true, { drop: ["ALL"] }],
    );
    assertEquals(pod.automountServiceAccountToken, false);
    const spool = command.given.text("spool-directory");
    if (spool === undefined) assert(command.given.has("no-spool")); // what is acknowledged must outlive the pod
    else assert(volumes.get(volumeMounts[0].name) && spool.startsWith(`${volumeMounts[0].mountPath}/`));
  }
});

Deno.test("deploy/kubernetes sends from the agents to the service", async () => {
  const all = manifests();
  const service = all.find(({ kind }) => kind === "Service");
  const [server, agent] = all.filter(({ spec }) => spec?.template);
  const serve = await parseCommand(server.spec.template.spec.containers[0].args);
  const collect = await parseCommand(agent.spec.template.spec.containers[0].args);
  const { hostname, port } = new URL(collect.given.text("send")!);
  assertEquals(hostname, `${service.metadata.name}.${service.metadata.namespace}.svc`);
  assertEquals(service.spec.selector, server.spec.template.metadata.labels);
  assertEquals(service.spec.sessionAffinity, "ClientIP"); // else growth of counters could count twice
  assertEquals([Number(port), serve.port], [service.spec.ports[0].port, serve.port]);
  assertEquals(agent.spec.template.metadata.annotations["prometheus.io/port"], String(collect.port));
  const secret = agent.spec.template.spec.volumes.find((volume: Manifest) => volume.secret).secret;
  assertEquals(secret.defaultMode, 0o400);
  const token = all.find(({ kind, metadata }) => kind === "Secret" && metadata.name === secret.secretName);
  const mount = agent.spec.template.spec.containers[0].volumeMounts[1].mountPath;
  const { value } = agent.spec.template.spec.containers[0].env.find(({ name }: Manifest) =>
    name === "OPENFINOPS_TOKEN_FILE"
  );
  assertEquals(value, `${mount}/${Object.keys(token.stringData)[0]}`);
});

Deno.test("deploy/ names the version of deno.json", () => {
  const { images } = parse(read("kubernetes/kustomization.yaml"));
  assertEquals(images[0].newTag, CONFIG.version);
});

Deno.test("deploy/prometheus alerts on metrics that /metrics has", async () => {
  const text = read("prometheus/openfinops.rules.yml");
  const rules: Manifest[] = parse(text).groups.flatMap(({ rules }: Manifest) => rules);
  const known = new Set([
    ...PIPELINE_METRICS.map(prometheusName),
    "openfinops_ready",
    "openfinops_http_request_duration_seconds_count",
    "openfinops_http_requests_refused_total",
  ]);
  for (const { alert, expr, annotations } of rules) {
    for (const [name] of expr.matchAll(/\bopenfinops_\w+/g)) assert(known.has(name), `${alert}: ${name}`);
    assert(annotations.summary && annotations.description, alert);
  }
  const tested = read("prometheus/openfinops.rules.test.yml");
  for (const { alert } of rules) assert(tested.includes(`"${alert}"`), alert);
  // Every counter of conservation is in the rule.
  const { expr } = rules.find(({ alert }) => alert === "OpenFinOpsConservationViolated");
  for (const state of ["accepted", "committed", "duplicates", "dead_lettered", "dropped"]) {
    assert(expr.includes(`openfinops_records_${state}_total`), state);
  }
  for (const state of ["spooled", "buffered", "in_flight"]) {
    assert(expr.includes(`openfinops_records_${state}`));
  }
  const cwd = new URL("deploy/prometheus", ROOT).pathname;
  await promtool(["check", "rules", "openfinops.rules.yml"], { cwd });
  await promtool(["test", "rules", "openfinops.rules.test.yml"], { cwd });
});
