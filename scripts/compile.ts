/**
 * Compiles the command into one binary for each target, in `dist/`, and writes their checksums to `dist/SHA256SUMS`.
 * `deno task compile` runs it.
 *
 * ```sh
 * deno task compile                            # for all targets
 * deno task compile x86_64-unknown-linux-gnu   # for one
 * ```
 *
 * @module
 */
import { fileURLToPath as fromFileUrl } from "node:url";

/** The targets that Deno has a base runtime for. */
export const TARGETS: readonly string[] = [
  "x86_64-unknown-linux-gnu",
  "aarch64-unknown-linux-gnu",
  "x86_64-apple-darwin",
  "aarch64-apple-darwin",
  "x86_64-pc-windows-msvc",
];

/**
 * All permissions, because only the user knows which database, files and programs are needed. Of the npm packages only
 * those that the command can load: those of the tests would add 60 MiB.
 */
export const COMPILE_OPTIONS: readonly string[] = ["-A", "--no-check", "--exclude-unused-npm"];

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** Runs deno in the project and returns its output. */
async function deno(args: readonly string[]): Promise<{ success: boolean; out: string; err: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { success, out: decoder.decode(stdout), err: decoder.decode(stderr).trim() };
}

/** Compiles for a target. Returns the error message if that fails. */
async function compile(target: string): Promise<string | undefined> {
  const file = `dist/openfinops-${target}${target.includes("windows") ? ".exe" : ""}`;
  const { success, err } = await deno(
    ["compile", "-q", ...COMPILE_OPTIONS, "--target", target, "--output", file, "cli.ts"],
  );
  if (!success) return err;
  const { size } = Deno.statSync(`${ROOT}/${file}`);
  console.log(`${file}: ${(size / 2 ** 20).toFixed(0)} MiB`);
}

/** Advice for a machine that cannot download the base runtime. */
async function advise(urls: readonly string[]): Promise<string> {
  const { denoDir } = JSON.parse((await deno(["info", "--json"])).out);
  return [
    `Run this again where ${new URL(urls[0]).host} can be reached; or download there`,
    ...urls.map((url) => `  ${url}`),
    `and put what you get, as it is, into this machine's folder`,
    `  ${denoDir}/dl/release/v${Deno.version.deno}`,
  ].join("\n");
}

/**
 * Writes `SHA256SUMS` for the binaries in a folder, in the format that `sha256sum --check` reads.
 *
 * @returns The names of the binaries.
 */
export async function writeChecksums(folder: string): Promise<string[]> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => name.startsWith("openfinops-")).sort();
  let text = "";
  for (const name of names) {
    const hash = await crypto.subtle.digest("SHA-256", Deno.readFileSync(`${folder}/${name}`));
    text += `${new Uint8Array(hash).toHex()}  ${name}\n`;
  }
  Deno.writeTextFileSync(`${folder}/SHA256SUMS`, text);
  return names;
}

/** Compiles for the targets and returns the exit code. */
async function main(targets: readonly string[]): Promise<number> {
  const unknown = targets.find((target) => !TARGETS.includes(target));
  if (unknown !== undefined) {
    console.error(`Unknown target ${unknown}. Use one of ${TARGETS.join(", ")}.`);
    return 2;
  }
  const missing: string[] = [];
  let failed = 0;
  for (const target of targets) {
    const failure = await compile(target);
    if (failure === undefined) continue;
    failed++;
    const [url] = /https:\/\/\S+\/denort-[^\s/)]+\.zip/.exec(failure) ?? [];
    if (url) missing.push(url);
    const reason = url ? `the base runtime of Deno ${Deno.version.deno} could not be downloaded` : failure;
    console.error(`Cannot compile for ${target}: ${reason}`);
  }
  if (failed < targets.length) await writeChecksums(`${ROOT}/dist`);
  if (missing.length > 0) console.error(await advise(missing));
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exitCode = await main(Deno.args.length > 0 ? Deno.args : TARGETS);
