/**
 * Peers: programs that may be installed.
 *
 * @module
 */

/** A program that a row needs and that is not installed. */
export class Missing extends Error {
  /** Always `"Missing"`. */
  override readonly name = "Missing";
}

/** A program and its version. */
export interface Program {
  readonly path: string;
  readonly version: string;
}

const found = new Map<string, Promise<Program>>();
const servers: Record<string, string> = {};

/** Notes the version of a server that was started. */
export function noteServer(name: string, version: string): void {
  servers[name] = version;
}

/** The versions of all programs and servers that were asked for and are there. */
export async function versions(): Promise<Record<string, string>> {
  const all = { ...servers };
  for (const [name, program] of found) {
    const there = await program.catch(() => undefined);
    if (there) all[name] = there.version;
  }
  return all;
}

/**
 * Finds a program of this machine.
 *
 * @throws {Missing} If there is none.
 */
export function program(name: "psql" | "sqlite3" | "victoria-metrics"): Promise<Program> {
  return once(name, async () => {
    const text = await output(name, ["--version"]);
    if (text === undefined) throw new Missing(`this machine has no ${name}`);
    const versionIn = (text = "") => /\d[\d.]+\S*?(?=["\s])/.exec(`${text} `)?.[0];
    // Debian builds VictoriaMetrics without a version.
    const version = versionIn(text) ??
      versionIn(await output("dpkg-query", ["--show", "--showformat", "${Version}", name]));
    return { path: name, version: version ?? "of unknown version" };
  });
}

/**
 * Finds a Python with psycopg2: not the first in the PATH on every machine.
 *
 * @throws {Missing} If there is none.
 */
export function findPython(): Promise<Program> {
  return once("psycopg2", async () => {
    const probe =
      "import platform, psycopg2; print(psycopg2.__version__.split()[0], platform.python_version())";
    for (const folder of (Deno.env.get("PATH") ?? "").split(Deno.build.os === "windows" ? ";" : ":")) {
      const path = `${folder}/python3`;
      const text = await output(path, ["-c", probe]);
      if (text === undefined) continue;
      const [version, python] = text.trim().split(" ");
      return { path, version: `${version} (Python ${python})` };
    }
    throw new Missing("this machine has no Python with psycopg2");
  });
}

function once(name: string, find: () => Promise<Program>): Promise<Program> {
  if (!found.has(name)) found.set(name, find());
  return found.get(name)!;
}

async function output(command: string, args: string[]): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(command, { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    return undefined;
  }
}
