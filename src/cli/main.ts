import project from "../../deno.json" with { type: "json" };
import { hidePassword } from "../backends/connection_string.ts";
import {
  BackendError,
  ConfigError,
  describe,
  type ErrorCode,
  messageOf,
  NOT_GRANTED,
  ValidationError,
} from "../errors.ts";
import { TransferError } from "../transfer/transfer_error.ts";
import type { Command } from "./command.ts";
import { type CommandEntry, COMMANDS } from "./commands.ts";
import { bold, isLogging, note, print } from "./output.ts";
import { asCalled } from "./program_name.ts";
import { missing, UsageError } from "../query/usage_error.ts";

const HELP = { name: "help", summary: "print this help" };
const VERSION = { name: "version", summary: "print the version" };

/** Codes of checks that fail. */
const CHECKS: readonly string[] = [
  "MIGRATION_DIFFERS",
  "INVOICE_DIFFERS",
  "DATABASE_DIFFERS",
  "BUDGET_EXCEEDED",
  "UNHEALTHY",
];

const EXAMPLES = [
  "openfinops collect --duration 10s --cost-per-hour 2.50",
  "openfinops database query metrics --limit 5",
  "openfinops database import costs focus.csv --format focus",
  "openfinops costs summary --during last-month",
];

const ENVIRONMENT: readonly (readonly [string, string])[] = [
  ["OPENFINOPS_CONNECTION_STRING", "default of --connection-string (also OPENFINOPS_DB_URL)"],
  ["OPENFINOPS_CONNECTION_STRING_FILE", "file with it, as secrets of containers are"],
  ["OPENFINOPS_TOKEN", "token of the server of --send"],
  ["OPENFINOPS_TOKEN_FILE", "file with it"],
  ["OPENFINOPS_BACKEND", "default of --backend, unless --connection-string is given"],
  ["OPENFINOPS_TIME_ZONE", "default of --time-zone"],
  ["OPENFINOPS_RETENTION_DAYS", "default of cleanup --retention-days"],
  ["OPENFINOPS_CHANNELS", "channels of notifications: a JSON file, or the JSON"],
];

/**
 * Runs the command line.
 *
 * @param args The arguments, without the program.
 * @returns The exit code: 0 done, 1 failed, 2 wrong usage, 3 a check failed.
 */
export async function main(args: readonly string[]): Promise<number> {
  let command: Command | undefined;
  try {
    const words = args.findIndex((arg) => arg.startsWith("-"));
    const leading = words < 0 ? args : args.slice(0, words);
    if (args.length === 1 && ["--help", "help"].includes(longForm(args[0]))) {
      print(programHelp());
      return 0;
    }
    const { readArguments } = await import("./arguments.ts");
    if (leading.length === 0) {
      const { has } = await readArguments(args.map(longForm), [HELP, VERSION]);
      if (!has("help") && !has("version")) return reportMissing("a command", programHelp(String));
      print(has("help") ? programHelp() : `openfinops ${project.version}`);
      return 0;
    }
    const entry = COMMANDS.find(({ name }) => `${leading.join(" ")} `.startsWith(`${name} `));
    if (!entry) return await unknownCommand(leading, args);
    command = await entry.load();
    const rest = args.slice(command.name.split(" ").length).map(longForm);
    const given = await readArguments(rest, [...command.options, HELP]);
    if (given.has("help")) {
      print(commandHelp(command, entry.summary));
      return 0;
    }
    const extra = given.positionals[maxPositionalsOf(command)];
    if (extra !== undefined) {
      throw new UsageError(`Unexpected argument ${describe(extra)}. Remove it.`, "UNEXPECTED_ARGUMENT");
    }
    if (command.missing !== undefined && !given.positionals[0]?.trim()) {
      throw missing(command.missing);
    }
    await command.run(given);
    return 0;
  } catch (error) {
    return report(error, command);
  }
}

/** Returns how many positional arguments a command takes at most. */
export function maxPositionalsOf(
  { positionals, maxPositionals = positionals === undefined ? 0 : 1 }: Command,
): number {
  return maxPositionals;
}

/** Expands the two short options. */
function longForm(arg: string): string {
  return ({ "-h": "--help", "-V": "--version" } as Record<string, string>)[arg] ?? arg;
}

/** A group such as `database` prints its commands; anything else is an error. */
async function unknownCommand(leading: readonly string[], args: readonly string[]): Promise<number> {
  const group = COMMANDS.filter(({ name }) => name.startsWith(`${leading[0]} `));
  if (group.length > 0 && leading.length === 1) {
    if (!args.map(longForm).includes("--help")) {
      return reportMissing(`a command after ${describe(leading[0])}`, commandList(group));
    }
    print(commandList(group));
    return 0;
  }
  const { nearest } = await import("../nearest.ts");
  const names = COMMANDS.map(({ name }) => name);
  const hint = names.find((name) => name.endsWith(` ${leading[0]}`)) ?? // its group is left out
    nearest(leading.slice(0, 2).join(" "), names);
  throw new UsageError(
    `Unknown command ${describe(leading.join(" "))}.${hint && ` Did you mean "${hint}"?`}`,
    "UNKNOWN_COMMAND",
  );
}

/** Prints help on stderr if no command is given, and the error last, where a terminal shows it. */
function reportMissing(what: string, help: string): number {
  for (const line of help.split("\n")) note(line);
  note("");
  noteError(`Name ${what}.`, "MISSING_ARGUMENT");
  return 2;
}

function report(error: unknown, command: Command | undefined): number {
  if (error instanceof Deno.errors.BrokenPipe) return 0; // as in `openfinops … | head`
  const isUsage = error instanceof UsageError || error instanceof ConfigError ||
    error instanceof ValidationError;
  if (error instanceof Deno.errors.NotCapable) {
    const cause = withoutPasswords(messageOf(error));
    noteError(`${NOT_GRANTED.problem} (${cause}). ${NOT_GRANTED.remedy}`, "PERMISSION_MISSING");
    return 1;
  }
  if (!isUsage && !(error instanceof BackendError) && !(error instanceof TransferError)) throw error;
  noteError(withoutPasswords(error.message), error.code);
  if (error instanceof UsageError) {
    note(asCalled(`Try: openfinops ${command ? `${command.name} ` : ""}--help`));
  }
  return isUsage ? 2 : CHECKS.includes(error.code) ? 3 : 1;
}

/** Writes why a command failed; the words around it are for people, the code of a log is a field. */
function noteError(message: string, code: ErrorCode): void {
  note(isLogging() ? message : `error: ${message} [${code}]`, "error", { code });
}

/** Hides passwords in connection strings that stand where none belongs, such as in the place of a file. */
function withoutPasswords(message: string): string {
  return message.replaceAll(/[a-z][a-z\d+.-]*:\/\/\S*[^\s"'`.,:;)]/gi, hidePassword);
}

function programHelp(heading: (text: string) => string = bold): string {
  return [
    "Stores and queries telemetry and costs of AI/ML clusters.",
    "",
    heading("Examples:"),
    ...EXAMPLES.map((example) => `  ${asCalled(example)}`),
    "",
    heading("Commands:"),
    commandList(COMMANDS),
    "",
    asCalled('Run "openfinops COMMAND --help" for options and examples. --version prints the version.'),
    "",
    heading("Environment:"),
    columns(ENVIRONMENT),
  ].join("\n");
}

function commandList(commands: readonly CommandEntry[]): string {
  return columns(commands.map(({ name, summary }) => [name, summary]));
}

function commandHelp({ name, positionals = "", options, examples }: Command, summary: string): string {
  const all = [...options, HELP];
  return [
    `${summary[0].toUpperCase()}${summary.slice(1)}.`,
    "",
    bold("Examples:"),
    ...examples.map((example) => `  ${asCalled(example)}`),
    "",
    `${bold("Usage:")} ${asCalled(`openfinops ${name} ${positionals && `${positionals} `}[options]`)}`,
    "",
    bold("Options:"),
    columns(all.map((option) => {
      const value = "value" in option && option.value ? ` ${option.value}` : "";
      return [`--${option.name}${value}`, option.summary];
    })),
  ].join("\n");
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`).join("\n");
}
