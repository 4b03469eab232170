/**
 * Values of a row: columns by name or position, and paths into nested values.
 *
 * @module
 */

/** A row of a file: its values by position where the columns of the file are known, else by name. */
export type Row = readonly unknown[] | Readonly<Record<string, unknown>>;
/** Reads a value of a row; null, undefined or an empty text where there is none. */
export type Cell = (row: Row) => unknown;
/** Finds a column or a path; nothing where the file cannot have it. */
export type Locate = (name: string) => Cell | undefined;

/** A step of a path: a key, an index, or the entry of a list whose key has a value. */
type Step = { readonly key: string } | { readonly index: number } | {
  readonly match: [key: string, value: string];
};

const STEP = /([^.[\]]+)|\[(\d+)\]|\[([^\]=]+)=([^\]]*)\]/g;

/** The parts of a path such as `labels[key=team].value`; none of the name of a column with a unit, as in `power.draw [W]`. */
function parsePath(path: string): Step[] {
  if (path.includes(" [")) return [];
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
function memberOf(value: unknown, key: string): unknown {
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
 * @param found Gets the columns that were found.
 */
export function locator(
  columns: readonly string[] | undefined,
  isLenient = false,
  found: Set<string> = new Set(),
): Locate {
  if (!columns) return locateMember;
  const exact = new Map(columns.map((name, i) => [name, i]));
  const plain = new Map(isLenient ? columns.map((name, i) => [plainName(name), i] as const).reverse() : []);
  const positionOf = (name: string) => {
    const position = exact.get(name) ?? plain.get(plainName(name));
    if (position !== undefined) found.add(columns[position]);
    return position;
  };
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

export function hasValue(value: unknown): boolean {
  return value !== null && value !== undefined && value !== "";
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

/** A row with the entries of some of its objects beside its own columns, which take precedence. */
export function spreadRow(row: Row, names: readonly string[] = []): Row {
  if (names.length === 0 || Array.isArray(row)) return row;
  const entries = names.flatMap((name) => {
    const found = locateMember(name)(row);
    return Array.isArray(found)
      ? found.map((entry) => [String(memberOf(entry, "key")), plainValue(memberOf(entry, "value"))])
      : Object.entries((typeof found === "object" ? found : undefined) ?? {});
  });
  return { ...Object.fromEntries(entries), ...row };
}

/** A value as OTLP has it, `{"intValue": "12"}`, without its type. */
function plainValue(value: unknown): unknown {
  return typeof value === "object" && value !== null ? Object.values(value)[0] : value;
}
