/**
 * Sources of the values of a field: columns and paths, sums of them, and rules that choose by the value of another
 * column. They are compiled once for a file.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { Decimal } from "../records/decimal.ts";
import { type Cell, hasValue, type Locate } from "./locate.ts";
import { Unreadable } from "./values.ts";

/** Source of a value. */
export interface Source {
  /** The columns it reads, for messages; none of a constant. */
  readonly names: readonly string[];
  /** The constant that it is, or that it ends with. */
  readonly constant?: unknown;
  /** Finds the columns in a file; nothing where none is there. */
  bind(locate: Locate): Cell | undefined;
}

/**
 * A source as data. A text names columns and paths:
 * - `A,B`: the first that has a value
 * - `A + B - C`: sums and differences, exact
 * - `=text`: a constant
 * - `upper(A)`, `month(A)`, `orZero(A)`: capitals; the first day of a month such as 202601; 0 where A has no value
 * - `known(A)`, `measure(A)`: nothing for `[N/A]` and the like; the same without the unit behind a number
 * - `joined(A)`: the entries of a list, separated by commas
 * - `hash(A|B)`: an id made of the columns that have a value
 *
 * An object chooses one by the value of a column, or of several that are joined by `/`. Its cases are patterns such as
 * `Fee|*Discount`, in capitals or not; the first that matches counts.
 */
export type Rule = string | {
  readonly by: string | readonly string[];
  readonly cases: { readonly [pattern: string]: Rule };
};

const MAX_REMEMBERED = 10_000;

/** The source of one column of this very name. */
export function columnSource(name: string): Source {
  return { names: [name], bind: (locate) => locate(name) };
}

export function constantSource(value: unknown): Source {
  return { names: [], constant: value, bind: () => () => value };
}

/** The source of the first of several columns that has a value, as `--map` names them: separated by commas. */
export function firstSource(text: string): Source {
  const names = splitAlternatives(text);
  // The name of one column may have a comma.
  const all = [...new Set([text, ...names])];
  return { names, bind: (locate) => firstOf(all.map((name) => locate(name))) };
}

/** Splits at commas that are not in brackets. */
export function splitAlternatives(text: string): string[] {
  return text.split(/,(?![^[]*\])/).map((name) => name.trim()).filter((name) => name !== "");
}

function firstOf(found: readonly (Cell | undefined)[]): Cell | undefined {
  const cells = found.filter((cell) => cell !== undefined);
  if (cells.length < 2) return cells[0];
  return (row) => {
    for (const cell of cells) {
      const value = cell(row);
      if (hasValue(value)) return value;
    }
    return undefined;
  };
}

export function ruleSource(rule: Rule): Source {
  if (typeof rule !== "string") return caseSource(rule);
  const terms = splitAlternatives(rule).map(termSource);
  if (terms.length === 1) return terms[0];
  return {
    names: terms.flatMap(({ names }) => names),
    constant: terms.at(-1)?.constant,
    bind: (locate) => firstOf(terms.map((term) => term.bind(locate))),
  };
}

function termSource(term: string): Source {
  if (term.startsWith("=")) return constantSource(term.slice(1));
  const [, operation, argument] = /^([a-zA-Z]+)\((.+)\)$/.exec(term) ?? [];
  if (operation === "hash") return hashSource(argument.split("|"));
  if (operation !== undefined) return changedSource(OPERATIONS[operation], columnSource(argument));
  if (!/^\S+( [+-] \S+)+$/.test(term)) return columnSource(term);
  const [first, ...others] = term.split(/ (?=[+-] )/);
  return others.reduce(
    (sum, part) => sumSource(sum, columnSource(part.slice(2)), part[0]),
    columnSource(first),
  );
}

const OPERATIONS: Readonly<Record<string, (text: string) => string>> = {
  orZero: (text) => text || "0",
  upper: (text) => text.toUpperCase(),
  known: withoutMissing,
  measure: (text) => withoutMissing(text).replace(/ (?:%|MiB|W|MHz|C)$/, ""),
  joined: (text) => text.startsWith("[") ? parseList(text)?.join(",") ?? text : text,
  month: (text) => /^\d{6}$/.test(text) ? `${text.slice(0, 4)}-${text.slice(4)}-01` : text,
};

function parseList(text: string): unknown[] | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // a text that begins with a bracket
  }
}

/** Nothing for the texts that `nvidia-smi` has for a missing value, such as `[Not Supported]`. */
function withoutMissing(text: string): string {
  return /^(?:\[.*\]|N\/A)$/.test(text) ? "" : text;
}

/** The source of an id from the names and values of columns. */
function hashSource(names: readonly string[]): Source {
  return {
    names,
    bind(locate) {
      const cells = names.map((name) => [name, locate(name)] as const);
      return (row) => {
        const values = cells.map(([name, cell]) => [name, cell?.(row)]).filter(([, value]) =>
          hasValue(value)
        );
        return createHash("sha256").update(JSON.stringify(values)).digest("hex").slice(0, 32);
      };
    },
  };
}

function changedSource(change: (text: string) => string, source: Source): Source {
  return {
    names: source.names,
    bind(locate) {
      const cell = source.bind(locate);
      return cell && ((row) => change(String(cell(row) ?? "")));
    },
  };
}

function sumSource(left: Source, right: Source, sign: string): Source {
  return {
    names: [...left.names, ...right.names],
    bind(locate) {
      const [a, b] = [left.bind(locate), right.bind(locate)];
      if (!a || !b) return a;
      return (row) => {
        const [first, second] = [a(row), b(row)];
        if (!hasValue(second)) return first;
        const [x, y] = [toDecimal(hasValue(first) ? first : 0), toDecimal(second)];
        return (sign === "+" ? x.plus(y) : x.minus(y)).toString();
      };
    },
  };
}

/** Reads a decimal. */
export function toDecimal(value: unknown): Decimal {
  try {
    return Decimal.from(value as string | number);
  } catch {
    throw new Unreadable("a number as in 41.2", value);
  }
}

function caseSource({ by, cases }: Exclude<Rule, string>): Source {
  const keys = [by].flat().map(ruleSource);
  const choices = Object.entries(cases).map(([pattern, rule]) => ({
    pattern: globPattern(pattern),
    source: ruleSource(rule),
  }));
  const chosen = choices.flatMap(({ source }) => source.names);
  return {
    names: [...new Set(chosen.length > 0 ? chosen : keys.flatMap(({ names }) => names))],
    bind(locate) {
      const cells = keys.map((key) => key.bind(locate));
      const bound = choices.map(({ pattern, source }) => ({ pattern, cell: source.bind(locate) }));
      const choose = (key: string) => bound.find(({ pattern }) => pattern.test(key))?.cell;
      if (cells.every((cell) => cell === undefined)) return choose(cells.map(() => "").join("/"));
      const known = new Map<string, Cell | undefined>();
      return (row) => {
        const key = cells.length === 1
          ? String(cells[0]!(row) ?? "")
          : cells.map((cell) => cell?.(row) ?? "").join("/");
        let cell = known.get(key);
        if (cell === undefined && !known.has(key)) {
          if (known.size >= MAX_REMEMBERED) known.clear();
          known.set(key, cell = choose(key));
        }
        return cell?.(row);
      };
    },
  };
}

/** A pattern as in `Fee|*Discount`: `*` is any text, `?` any character. */
export function globPattern(glob: string): RegExp {
  const pattern = glob.replaceAll(/[.+^${}()[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^(?:${pattern})$`, "is");
}

/** Reads a value; an error names it. */
function readPart(read: (value: unknown) => unknown, value: unknown): unknown {
  try {
    return read(value);
  } catch (error) {
    throw error instanceof Unreadable ? new Unreadable(error.expected, value) : error;
  }
}

/**
 * The source of a map that several columns and paths make together, a later one over an earlier one. `prefix*` stands for
 * each column with that prefix; the rest of its name is the key.
 */
export function mergedSource(
  names: readonly string[],
  { columns, read }: { columns?: readonly string[]; read: (value: unknown) => unknown },
): Source {
  const isWhole = (name: string) => !name.endsWith("*");
  const prefixes = names.filter((name) => !isWhole(name)).map((name) => name.slice(0, -1));
  const single = (columns ?? []).flatMap((name) => {
    const prefix = prefixes.find((prefix) => name.startsWith(prefix) && name.length > prefix.length);
    return prefix === undefined ? [] : [[name.slice(prefix.length), name] as const];
  });
  return {
    names: columns ? [...names.filter(isWhole), ...single.map(([, name]) => name)] : names,
    bind(locate) {
      const maps = names.filter(isWhole).map((name) => locate(name)).filter((cell) => cell !== undefined);
      const cells = single.map(([key, name]) => [key, locate(name)!] as const);
      if (maps.length + cells.length === 0) return undefined;
      return (row) => {
        let merged: Record<string, unknown> | undefined;
        for (const cell of maps) {
          const value = cell(row);
          if (hasValue(value)) merged = { ...merged, ...readPart(read, value) as object };
        }
        for (const [key, cell] of cells) {
          const value = cell(row);
          if (hasValue(value)) (merged ??= {})[key] = String(value);
        }
        return merged && Object.keys(merged).length > 0 ? merged : undefined;
      };
    },
  };
}
