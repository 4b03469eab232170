import { describe } from "../errors.ts";
import { suggest } from "../nearest.ts";
import type { Arguments, Option } from "../query/arguments.ts";
import { UsageError } from "../query/usage_error.ts";

/**
 * Reads the parameters of a request by the options of its route, and calls `read` with them.
 *
 * @throws {UsageError} If a parameter is unknown or invalid. The message names it as in a request, without dashes.
 */
export function readParameters<T>(
  { searchParams }: URL,
  options: readonly Option[],
  { timeZone = "UTC", read }: { timeZone?: string; read: (given: Arguments) => T },
): T {
  const names = options.map(({ name }) => name);
  try {
    const values = new Map<string, readonly string[]>();
    for (const name of new Set(searchParams.keys())) {
      const option = options.find((option) => option.name === name);
      if (!option) {
        const hint = suggest(name, names) || " GET /openapi.json lists all.";
        throw new UsageError(`Unknown parameter ${describe(name)}.${hint}`, "UNKNOWN_OPTION");
      }
      const given = acceptValues(option, searchParams.getAll(name));
      if (given.length > 0) values.set(name, given);
    }
    return read({
      text: (name) => values.get(name)?.at(-1),
      texts: (name) => values.get(name) ?? [],
      has: (name) => values.has(name),
      positionals: [],
      fallback: (name) => name === "time-zone" ? { text: timeZone, origin: "time-zone" } : undefined,
    });
  } catch (error) {
    throw asParameterError(error, names);
  }
}

/** The values of a parameter; none for a switch that is off. */
function acceptValues({ name, value, isRepeatable }: Option, given: readonly string[]): readonly string[] {
  const refuse = (problem: string): never => {
    throw new UsageError(`--${name} ${problem}`, "INVALID_OPTION");
  };
  if (given.length > 1 && !isRepeatable) refuse("is given more than once. Give it once.");
  if (value !== undefined) return given.includes("") ? refuse(`needs a value: ${name}=${value}.`) : given;
  if (!["", "true", "false"].includes(given[0])) refuse("must be true or false.");
  return given[0] === "false" ? [] : given;
}

function asParameterError(error: unknown, names: readonly string[]): unknown {
  if (!(error instanceof UsageError)) return error;
  const message = error.message.replaceAll(
    /--([a-z][a-z-]*)/g,
    (option, name) => names.includes(name) ? name : option,
  );
  return new UsageError(message, error.code);
}
