/**
 * Generates connection strings with a marked password, and looks for it in all that the library and the command say:
 * errors with their causes and stacks, events, stats, files and output. Run as a process of its own, as it sets
 * variables: `secrets.ts SEED COUNT [PORT]` prints what leaked, and ends with 1 if something did.
 *
 * @module
 */
import { inspect } from "node:util";
import { ObservabilityHub, openBackend, type PersistenceConfig } from "../../mod.ts";
import { main } from "../../src/cli/main.ts";
import { TemporaryFolder } from "../fixtures.ts";
import { Chance } from "./chance.ts";

const MARK = "Tr0ub4dor";
const ODD = [
  "",
  "",
  "?",
  "/",
  "#",
  "@",
  ":",
  "%",
  "&",
  "=",
  "77?",
  "77/",
  "77#",
  "[",
  "]",
  " ",
  "\n",
  "+",
  "\\",
  "'",
  '"',
  "://",
  "é",
];
const SCHEMES = ["postgresql", "postgres", "timescaledb", "postgresql+psycopg2"];
const PARAMETERS = [
  "sslmode=disable",
  "connect_timeout=1",
  "application_name=a",
  "sslmode=on",
  "port=x",
  "foo=1",
  "sslmod=require",
];

/** A case: the string, and variables that go with it. */
interface Case {
  readonly text: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Places in which a password stands, or is put by mistake. */
function place(chance: Chance, port: number): Case {
  const raw = chance.of(ODD) + MARK + chance.of(ODD) + chance.of(ODD);
  const secret = chance.of([raw, raw, encodeURIComponent(raw), encodeURI(raw)]);
  const host = chance.of([`127.0.0.1:${port}`, "127.0.0.1:1", "127.0.0.1", "[::1]:1", "localhost:1", ""]);
  const database = chance.of(["t", "postgres", "none", ""]);
  const url = (rest: string) => `${chance.of(SCHEMES)}://${rest}`;
  const more = Array.from({ length: chance.between(0, 3) }, () => chance.of(PARAMETERS)).join("&");
  const ordinary = `agent:${secret}@${host}/${database}${more && `?${more}`}`;
  const name = chance.of(["password", "password", "sslpassword", "PASSWORD", "pwd", "passwd", "pass%77ord"]);
  const texts = [
    url(ordinary),
    url(ordinary),
    url(`:${secret}@${host}/${database}`),
    url(`agent:${secret}@${host}`),
    // Without an @, what begins like a port or a path is one.
    ...(/^(\d*\/|@)/.test(raw) ? [] : [url(`agent:${secret}`)]),
    url(`${host}/agent:${secret}`),
    url(`agent@${host}/${database}?${name}=${secret}${more && `&${more}`}`),
    url(`agent@${host}/${database}?${more && `${more}&`}${name}=abc&${secret}`),
    url(`${host}/${database}?user=agent&${name}=${secret}`),
    url(`agent%3A${secret}@${host}/${database}`),
    url(`agent:${secret}%40${host}/${database}`),
    url(`agent@${host}/${database}#${secret}`),
    url(`agent%3A${secret}%40${host}/${database}`),
    url(`[agent:${secret}@${host}]/${database}`),
    url(url(ordinary)),
    `sqlite://agent:${secret}@${host}/${database}`,
    `sqlite:///${url(ordinary)}`,
    `sqlite:///a.db?password=${secret}`,
    `mysql://${ordinary}`,
    `POSTGRESQL://${ordinary}`,
    `postgresql:/${ordinary}`,
    `postgresql:${ordinary}`,
    `//${ordinary}`,
    ordinary,
    `host=127.0.0.1 user=agent password=${secret}`,
    ` ${url(ordinary)}\n`,
  ];
  if (chance.next() < 0.8) return { text: chance.of(texts), env: {} };
  const other = chance.of(texts).replaceAll("\0", "");
  const env = chance.of<Record<string, string>>([
    { PGPASSWORD: raw },
    { PGPASSWORD: raw, PGHOST: "127.0.0.1", PGPORT: String(port), PGDATABASE: "none" },
    { PGHOST: other },
    { PGDATABASE: other },
    { PGUSER: `agent:${raw}` },
    { PGPORT: raw },
    { PGSSLMODE: raw },
    { PGPASSFILE: "pgpass" },
    { OPENFINOPS_CONNECTION_STRING: other },
    { OPENFINOPS_BACKEND: other },
  ]);
  return {
    text: chance.of(["postgresql://", `postgresql://agent@127.0.0.1:${port}/none`, "timescaledb://"]),
    env,
  };
}

/** The calls of the command in which a connection string stands where it belongs, or where it does not. */
function commandLine(chance: Chance, text: string): string[] {
  const at = ["--connection-string", text];
  return chance.of([
    ["database", "test-connection", ...at],
    ["database", "stats", ...at],
    ["database", "init", ...at],
    ["database", "init", text],
    ["database", "stats"],
    ["database", "stats", "--backend", text],
    ["database", "stats", `--${text}`],
    ["database", "stats", "--format", text],
    ["database", "query", text],
    ["database", "query", "metrics", "--since", text, ...at],
    ["database", "import", "costs", text, ...at],
    ["database", "export", "costs", "--output", text, ...at],
    ["database", "migrate", "--from", text, "--to", text],
    ["database", "dead-letter", text, ...at],
    ["costs", "set-budget", text, ...at],
    ["costs", "set-budget", "b", "--amount", text, ...at],
    ["collect", "--duration", text, ...at],
    [text],
    ["database", text],
  ]);
}

/** Runs the command in this process, and gives all that it prints. */
async function printed(args: string[]): Promise<string> {
  let text = "";
  const decoder = new TextDecoder();
  const streams = [Deno.stdout, Deno.stderr];
  const originals = streams.map((stream) => stream.writeSync);
  for (const stream of streams) {
    stream.writeSync = (bytes) => {
      text += decoder.decode(bytes);
      return bytes.length;
    };
  }
  try {
    await main(args);
  } catch (error) {
    text += inspect(error, { depth: 10 }); // as Deno prints what is not caught
  } finally {
    streams.forEach((stream, i) => stream.writeSync = originals[i]);
  }
  return text;
}

/** Opens a backend and a hub, and gives all that can be seen of them. */
async function seen(
  { text, folder, spool }: { text: string; folder: TemporaryFolder; spool: boolean },
): Promise<string[]> {
  const said: unknown[] = [];
  const config: PersistenceConfig = {
    connectionString: text,
    maxConnections: 2,
    onEvent: (event) => said.push(event),
    ...(spool ? { spoolDirectory: folder.file("spool") } : {}),
  };
  try {
    const backend = await openBackend(config);
    said.push(backend.name, backend.location);
    await backend.probe().then((report) => said.push(report), (error) => said.push(error));
    await backend.close();
    const hub = await ObservabilityHub.open(config);
    await hub.collectSystemMetrics({ timestamp: Date.now() });
    said.push(hub.stats(), await hub.close({ deadlineMs: 20 }).catch((error) => error));
  } catch (error) {
    said.push(error);
  }
  const shown = said.map((value) => inspect(value, { depth: 10, showHidden: true, getters: true }));
  return [...shown, ...filesIn(folder.path)];
}

/** The names and contents of all files below a folder. */
function filesIn(path: string): string[] {
  return [...Deno.readDirSync(path)].flatMap(({ name, isDirectory, isFile }) => {
    if (isDirectory) return [name, ...filesIn(`${path}/${name}`)];
    return isFile && name !== "pgpass" ? [name, Deno.readTextFileSync(`${path}/${name}`)] : [];
  });
}

/** Gives what leaked of so many cases. */
async function leaks(seed: number, count: number, port: number): Promise<string[]> {
  const chance = new Chance(seed);
  const found: string[] = [];
  Deno.env.set("PGCONNECT_TIMEOUT", "1");
  for (let i = 0; i < count; i++) {
    using folder = new TemporaryFolder();
    Deno.chdir(folder.path);
    Deno.writeTextFileSync("pgpass", `*:*:*:*:${MARK}\n`, { mode: 0o600 });
    const { text, env } = place(chance, port);
    const entries = Object.entries(env).filter(([, value]) => !value.includes("\0"));
    for (const [name, value] of entries) Deno.env.set(name, value);
    const args = commandLine(chance, text);
    const spool = chance.next() < 0.3;
    const said = [
      ...await seen({ text, folder, spool }),
      await printed(args),
    ];
    for (const [name] of entries) Deno.env.delete(name);
    for (const part of said.filter((part) => part.toLowerCase().includes(MARK.toLowerCase()))) {
      found.push(JSON.stringify({ i, text, env, args, said: part }));
    }
    Deno.chdir("/");
  }
  return found;
}

if (import.meta.main) {
  const [seed, count, port = 1] = Deno.args.map(Number);
  const found = await leaks(seed, count, port);
  for (const line of found) console.log(line);
  console.log(`${count} cases of seed ${seed}: ${found.length} leaks`);
  Deno.exit(found.length === 0 ? 0 : 1);
}
