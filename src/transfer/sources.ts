/**
 * Sources of the values of a field: columns, paths into nested values, and rules that choose by the value of another
 * column. They are compiled once for a file.
 *
 * @module
 */
import { Decimal } from "../records/decimal.ts";
import { Unreadable } from "./values.ts";

/** A row of a file: its values by position where the columns of the file are known, else by name. */
export type Row = readonly unknown[] | Readonly<Record<string, unknown>>;
/** Reads a value of a row; null, undefined or an empty text where there is none. */
export type Cell = (row: Row) => unknown;
/** Finds a column or a path; nothing where the file cannot have it. */
export type Locate = (name: string) => Cell | undefined;

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
 * - `A + B`, `A - B`: their sum or difference, exact
 * - `=text`: a constant
 * - `upper(A)`, `month(A)`, `orZero(A)`: capitals; the first day of a month such as 202601; 0 where A has no value
 *
 * An object chooses one by the value of a column, or of several that are joined by `/`. Its cases are patterns such as
 * `Fee|*Discount`, in capitals or not; the first that matches counts.
 */
export type Rule = string | {
  readonly by: string | readonly string[];
  readonly cases: Readonly<Record<string, string>>;
};

const MAX_REMEMBERED = 10_000;

/** A step of a path: a key, an index, or the entry of a list whose key has a value. */
type Step = { readonly key: string } | { readonly index: number } | {
  readonly match: [key: string, value: string];
};

const STEP = /([^.[\]]+)|\[(\d+)\]|\[([^\]=]+)=([^\]]*)\]/g;

/** The parts of a path such as `labels[key=team].value`. */
function parsePath(path: string): Step[] {
  return [...path.matchAll(STEP)].map(([, key, index, name, value]) =>
    key !== undefined ? { key } : index !== undefined ? { index: Number(index) } : { match: [name, value] }
  );
}

/** Follows a path into a value. Text may hold JSON. */
function follow(value: unknown, steps: readonly Step[]): unknown {
  let found = value;
  for (const step of steps) {
    if (typeof found === "string") found = parseNested(found);
    if (typeof found !== "object" || found === null) return undefined;
    if ("match" in step) {
      const [key, wanted] = step.match;
      found = Array.isArray(found)
        ? found.find((entry) => String(memberOf(entry, key)) === wanted)
        : undefined;
    } else found = memberOf(found, "key" in step ? step.key : String(step.index));
  }
  return found;
}

/** The member of an object, or nothing. */
export function memberOf(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

function parseNested(text: string): unknown {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A name without what its spelling differs by: case and punctuation. */
function plainName(name: string): string {
  return name.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, "");
}

/**
 * Makes the function that finds columns.
 *
 * @param columns The columns of the file; undefined where each row has its own.
 * @param isLenient True if case and punctuation make no difference: `lineItem/UsageType` is `line_item_usage_type`.
 */
export function locator(columns: readonly string[] | undefined, isLenient = false): Locate {
  if (!columns) return locateMember;
  const exact = new Map(columns.map((name, i) => [name, i]));
  const plain = new Map(isLenient ? columns.map((name, i) => [plainName(name), i] as const).reverse() : []);
  const positionOf = (name: string) => exact.get(name) ?? plain.get(plainName(name));
  return (name) => {
    const position = positionOf(name);
    if (position !== undefined) return (row) => (row as readonly unknown[])[position];
    const [first, ...steps] = parsePath(name);
    const base = first && "key" in first && steps.length > 0 ? positionOf(first.key) : undefined;
    return base === undefined ? undefined : (row) => follow((row as readonly unknown[])[base], steps);
  };
}

/** Finds a member of an object, by its name or by a path. */
function locateMember(name: string): Cell {
  const steps = parsePath(name);
  const flat = name.replaceAll(".", "_");
  if (steps.length < 2) return (row) => memberOf(row, name);
  return (row) => memberOf(row, name) ?? follow(row, steps) ?? memberOf(row, flat);
}

/** True if a cell has a value. */
export function hasValue(value: unknown): boolean {
  return value !== null && value !== undefined && value !== "";
}

/** The source of one column of this very name. */
export function columnSource(name: string): Source {
  return { names: [name], bind: (locate) => locate(name) };
}

/** The source of a constant. */
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

/** The source of a rule. */
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
  if (operation !== undefined) return changedSource(OPERATIONS[operation], columnSource(argument));
  const [, left, sign, right] = /^(\S+) ([+-]) (\S+)$/.exec(term) ?? [];
  return sign === undefined ? columnSource(term) : sumSource(columnSource(left), columnSource(right), sign);
}

const OPERATIONS: Readonly<Record<string, (text: string) => string>> = {
  orZero: (text) => text || "0",
  upper: (text) => text.toUpperCase(),
  month: (text) => /^\d{6}$/.test(text) ? `${text.slice(0, 4)}-${text.slice(4)}-01` : text,
};

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
function globPattern(glob: string): RegExp {
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

/** The entries of a list in a row, which may be text that holds JSON. */
export function listIn(cell: Cell, row: Row): Record<string, unknown>[] {
  const found = cell(row);
  const list = typeof found === "string" ? parseNested(found) : found;
  return Array.isArray(list) ? list.filter((entry) => typeof entry === "object" && entry !== null) : [];
}

/**
 * The rows in a page of rows: lists in lists, each entry with the values around it. A list that is empty gives one
 * undefined, and a row without the lists itself.
 */
export function rowsIn(row: Row, lists: readonly string[] = []): (Row | undefined)[] {
  const [list, ...others] = lists;
  if (list === undefined || Array.isArray(row)) return [row];
  const entries = memberOf(row, list);
  if (!Array.isArray(entries)) return rowsIn(row, others);
  const { [list]: _, ...around } = row as Record<string, unknown>;
  const found = entries.flatMap((entry) => rowsIn({ ...around, ...entry as object }, others));
  return found.length > 0 ? found : [undefined];
}
