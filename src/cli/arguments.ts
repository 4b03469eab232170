/**
 * Reads the command line. `@std/cli` does it where JSR can be reached, `node:util` otherwise.
 *
 * @module
 */
import { lazyImport } from "../lazy_import.ts";
import { nearest } from "../nearest.ts";
import { isGranted } from "../permissions.ts";
import type { Arguments, Option } from "../query/arguments.ts";
import { missing, UsageError } from "../query/usage_error.ts";

/** Environment variables in place of options that are not given. */
const VARIABLES: Readonly<Record<string, string>> = { "time-zone": "OPENFINOPS_TIME_ZONE" };

/** Result of both parsers: options as written, and positional arguments. */
interface Parsed {
  readonly options: Readonly<Record<string, unknown>>;
  readonly positionals: readonly string[];
}

/**
 * Reads the arguments by the options of a command.
 *
 * @throws {UsageError} If an option is unknown or lacks its value.
 */
export async function readArguments(
  args: readonly string[],
  options: readonly Option[],
): Promise<Arguments> {
  const names = options.map(({ name }) => name);
  for (const { name } of options.filter(({ value }) => value === undefined)) {
    if (args.some((arg) => arg.startsWith(`--${name}=`))) {
      throw new UsageError(`--${name} takes no value.`, "INVALID_OPTION");
    }
  }
  const { options: given, positionals } = await parse(args, options);
  const values = new Map<string, readonly string[] | true>();
  for (const [name, found] of Object.entries(given)) {
    const option = options.find((option) => option.name === name);
    if (!option) {
      const hint = options.find(({ elsewhere }) => elsewhere?.includes(name))?.name ?? nearest(name, names);
      const shown = /^[a-z][a-z-]*$/i.test(name) ? `--${name}` : "(not shown: it may hold a password)";
      throw new UsageError(`Unknown option ${shown}.${hint && ` Did you mean --${hint}?`}`, "UNKNOWN_OPTION");
    }
    const texts = [found].flat().filter((value) => typeof value === "string" && value !== "") as string[];
    if (option.value !== undefined && texts.length < [found].flat().length) {
      throw missing(`--${name} needs a value: --${name} ${option.value}.`);
    }
    values.set(name, option.value === undefined ? true : texts);
  }
  return {
    text(name) {
      const value = values.get(name);
      return value === true ? undefined : value?.at(-1);
    },
    texts(name) {
      const value = values.get(name);
      return value === true ? [] : value ?? [];
    },
    has: (name) => values.has(name),
    positionals,
    fallback(name) {
      const variable = VARIABLES[name];
      if (variable === undefined) return undefined;
      const text = isGranted({ name: "env", variable }) ? Deno.env.get(variable) : undefined;
      return text ? { text, origin: variable } : undefined;
    },
  };
}

async function parse(given: readonly string[], options: readonly Option[]): Promise<Parsed> {
  const texts = options.filter(({ value }) => value !== undefined).map(({ name }) => name);
  const args = joinValues(given, texts);
  const std = await lazyImport<{ default: StdModule }>(new URL("./std_cli.ts", import.meta.url))
    .catch(() => undefined);
  const switches = options.filter(({ value }) => value === undefined).map(({ name }) => name);
  const repeatable = options.filter(({ isRepeatable }) => isRepeatable).map(({ name }) => name);
  return std
    ? parseWithStd(std.default, args, { texts, switches, repeatable })
    : await parseWithNode(args, { texts, repeatable });
}

/** Writes `--name value` as `--name=value`, the form that both parsers read alike, as for `-1`. */
function joinValues(args: readonly string[], texts: readonly string[]): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const hasValue = args[i + 1] !== undefined && !args[i + 1].startsWith("--");
    if (hasValue && texts.some((name) => args[i] === `--${name}`)) joined.push(`${args[i]}=${args[++i]}`);
    else joined.push(args[i]);
  }
  return joined;
}

/** The part of `@std/cli` that is used here. Its own types need JSR. */
interface StdModule {
  parseArgs(
    args: readonly string[],
    options: { string: string[]; boolean: string[]; collect: string[] },
  ): Record<string, unknown> & { _: string[] };
}

function parseWithStd(
  { parseArgs }: StdModule,
  args: readonly string[],
  { texts, switches, repeatable }: { texts: string[]; switches: string[]; repeatable: string[] },
): Parsed {
  const known = { string: ["_", ...texts], boolean: switches, collect: repeatable };
  const { _: positionals, ...options } = parseArgs(args, known);
  // Options that were not given are listed as well.
  for (const name in options) {
    const value = options[name];
    const isGiven = value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);
    if (!isGiven) delete options[name];
  }
  return { options, positionals };
}

async function parseWithNode(
  args: readonly string[],
  { texts, repeatable }: { texts: string[]; repeatable: string[] },
): Promise<Parsed> {
  const { parseArgs } = await import("node:util");
  const { values, positionals } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      texts.map((name) => [name, { type: "string" as const, multiple: repeatable.includes(name) }]),
    ),
    strict: false,
    allowPositionals: true,
  });
  return { options: values, positionals };
}
