/**
 * Maps columns of a file to fields of a record.
 *
 * @module
 */
import { describe, ValidationError } from "../errors.ts";
import { suggest } from "../nearest.ts";
import type { Dataset } from "../records/dataset.ts";
import { TransferError } from "./transfer_error.ts";
import { acceptFocusVersion, FocusReader } from "./focus_import.ts";
import { type CellOptions, makeReaders, type Readers } from "./cell_readers.ts";
import { type FieldPlan, READERS, type Row, Unreadable } from "./values.ts";

/** A format that can be read. */
export type ImportFormat = MappingOptions["format"];
/** The formats that can be read. */
export const IMPORT_FORMATS: readonly ImportFormat[] = ["focus", "csv", "ndjson"];

/** Mapping options of an import. */
export interface MappingOptions extends CellOptions {
  /** The format of the file. */
  format: "focus" | "csv" | "ndjson";
  /** The column of each field that is not called like the field; `tags.team` is one entry of a map. */
  map?: Readonly<Record<string, string>>;
  /** The value of each field that the file has no column for. */
  set?: Readonly<Record<string, string>>;
  /**
   * The column that identifies a cost entry, the same each time. Without one a hash of its row does, so that equal rows
   * of several files are one.
   */
  idColumn?: string;
  /** The column of the amount in a file of FOCUS. */
  costColumn?: string;
  /** FOCUS version, if the columns of the file do not identify it. */
  focusVersion?: "1.0" | "1.1" | "1.2" | "1.3" | "1.4";
  /** Called with the version of a FOCUS file. */
  onFocusVersion?: (version: string) => void;
}

/** The plan that the options make for a dataset, field by field. */
function makePlan(
  dataset: Dataset<unknown>,
  options: MappingOptions,
  focus: FocusReader | undefined,
): FieldPlan[] {
  const plans = new Map<string, FieldPlan>();
  const readers = makeReaders(options);
  const ownPlan = dataset.columns.map(({ field, name, type }) => ({
    field,
    sources: [[field, readers[type]], [name, readers[type]]] as const,
  }));
  for (const plan of focus?.plan ?? ownPlan) plans.set(plan.field, plan);
  const map = columnsOf(options);
  for (const [target, column] of Object.entries(map)) {
    plans.set(target, {
      ...planFor(dataset, target, { readers, sources: (read) => [[column, read]] }),
      isRequested: true,
    });
  }
  for (const [target, value] of Object.entries(options.set ?? {})) {
    const sources: SourcesOf = (read) => [["", () => read(value)]];
    plans.set(target, planFor(dataset, target, { readers: READERS, sources }));
  }
  // A record without these would be refused, and so would all the others.
  const needed = dataset.required.filter((column) =>
    column.default === undefined && column.field !== "entryId"
  );
  return [...plans.values()].map((plan) => {
    const { field } = plan;
    // A hash in place of an id, or dollars in place of another currency, would be wrong without a sign of it.
    const isMandatory = field === "entryId"
      ? map.entryId !== undefined
      : field === "currency" && focus !== undefined;
    const isRequested = plan.isRequested || isMandatory || needed.some((column) => column.field === field);
    return { ...plan, isRequested, isMandatory };
  });
}

/** The column of each field, or entry of a map field, for which the options name one. */
function columnsOf({ map, idColumn }: MappingOptions): Record<string, string> {
  return { ...map, ...(idColumn === undefined ? {} : { entryId: idColumn }) };
}

/** The columns that the options name, but for fields that they set. */
export function namedColumns(options: MappingOptions): string[] {
  const { set = {} } = options;
  return Object.entries(columnsOf(options)).filter(([target]) => !Object.hasOwn(set, target))
    .map(([, column]) => column);
}

/** Makes the sources of a field from its parser. */
type SourcesOf = (read: (value: unknown) => unknown) => FieldPlan["sources"];

/** The plan for a field, or for an entry of a map field. */
function planFor(
  dataset: Dataset<unknown>,
  target: string,
  { readers, sources }: { readers: Readers; sources: SourcesOf },
): FieldPlan {
  const [, start, key] = /^([^.]*)(?:\.(.+))?$/s.exec(target) ?? [];
  const column = dataset.columns.find(({ field }) => field === start);
  if (!column || (key !== undefined && column.type !== "map")) {
    const fields = dataset.columns.flatMap(({ field, type }) =>
      type === "map" ? [field, `${field}.KEY`] : field
    );
    throw new TransferError(
      `Cannot import ${dataset.name}: unknown field ${describe(target)}.${suggest(target, fields)}`,
      { code: "UNKNOWN_FIELD" },
    );
  }
  return {
    field: column.field,
    key,
    sources: sources(key === undefined ? readers[column.type] : readers.text),
  };
}

/** Makes records from the rows of a file. */
export interface RowReader {
  /** Makes the input for validation from a row. */
  read(row: Row): Record<string, unknown>;
  /** The columns that are null in a row, of files whose columns are kept. */
  absentIn?(row: Row, record: unknown): string[];
}

/**
 * The reader of rows whose columns are known, if they are: those of NDJSON differ from line to line.
 *
 * @throws {TransferError} If a column is missing, or one would be lost unseen.
 */
export function makeReader(
  dataset: Dataset<unknown>,
  options: MappingOptions,
  columns?: readonly string[],
): RowReader {
  const focus = focusReader(dataset, options, columns);
  const plans = makePlan(dataset, options, focus);
  if (columns) assertColumns(dataset, { options, plans, columns });
  if (focus) options.onFocusVersion?.(focus.version);
  const present = new Set(columns);
  const used = plans.map((plan) => ({
    ...plan,
    sources: plan.sources.filter(([column]) => !columns || column === "" || present.has(column)),
  }));
  const mandatory = plans.filter(({ isMandatory }) => isMandatory);
  const read = (row: Row) => {
    const values = focus ? focus.valuesOf(row) : row;
    const record = readFields(dataset, used, values);
    for (const { field, sources } of mandatory) {
      if (record[field] !== undefined) continue;
      const column = sources.at(-1)![0];
      const expected = `given in the column ${column}`;
      throw new ValidationError({ subject: dataset.noun, field, value: row(column), expected });
    }
    focus?.complete(record, row);
    return record;
  };
  return focus ? { read, absentIn: (row, record) => focus.absentIn(row, record) } : { read };
}

function readFields(
  dataset: Dataset<unknown>,
  plans: readonly FieldPlan[],
  row: Row,
): Record<string, unknown> {
  const record: Record<string, unknown> = {};
  for (const { field, key, sources } of plans) {
    for (const [column, read] of sources) {
      const value = column === "" ? "" : row(column);
      if (value === null || value === undefined) continue;
      const kept = readValue(dataset, field, { value, read });
      if (kept === undefined) continue;
      if (key === undefined) record[field] = kept;
      else record[field] = { ...record[field] as object, [key]: kept };
      break;
    }
  }
  return record;
}

/** The reader of a file of FOCUS, where it is one. */
function focusReader(
  dataset: Dataset<unknown>,
  options: MappingOptions,
  columns: readonly string[] = [],
): FocusReader | undefined {
  if (options.format !== "focus") return undefined;
  if (dataset.name !== "cost_entries") {
    throw new TransferError(
      `Cannot import ${dataset.name} from FOCUS, which is for costs. Use csv or ndjson.`,
      {
        code: "UNSUPPORTED_FORMAT",
      },
    );
  }
  const focusVersion = acceptFocusVersion("an import", options.focusVersion);
  return new FocusReader(columns, { ...options, focusVersion, idColumn: columnsOf(options).entryId });
}

function readValue(
  dataset: Dataset<unknown>,
  field: string,
  { value, read }: { value: unknown; read: (value: unknown) => unknown },
): unknown {
  try {
    return read(value);
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    throw new ValidationError({ subject: dataset.noun, field, value, expected: error.expected });
  }
}

/** Says what to do about a missing column: a name that the user wrote may be misspelled, any other can be mapped. */
function columnRemedy(
  missing: readonly string[],
  { options, columns }: { options: MappingOptions; columns: readonly string[] },
): string {
  const { format, idColumn, costColumn, map = {} } = options;
  const isFocus = columns.includes("ChargePeriodStart");
  if (format === "csv" && isFocus) return "The file looks like FOCUS. Use --format focus.";
  const list = `The columns are ${columns.slice(0, 50).join(", ")}.`;
  const written = missing.find((name) => [idColumn, costColumn, ...Object.values(map)].includes(name));
  if (written !== undefined) return suggest(written, columns).trim() || list;
  if (format !== "focus") return `${list} Map one to the field (--map), or set the field (--set).`;
  return isFocus ? `${list} Set the field (--set).` : `${list} Is this file FOCUS?`;
}

function assertColumns(
  dataset: Dataset<unknown>,
  { options, plans, columns }: { options: MappingOptions; plans: FieldPlan[]; columns: readonly string[] },
): void {
  const present = new Set(columns);
  const refuse = (problem: string, remedy: string): never => {
    throw new TransferError(`Cannot import ${dataset.name}: ${problem}. ${remedy}`, {
      code: "INVALID_HEADER",
      line: 1,
    });
  };
  const twice = columns.find((column, i) => columns.indexOf(column) < i);
  if (twice !== undefined) refuse(`two columns are called ${describe(twice)}`, "Rename one.");
  for (const { field, sources, isRequested } of plans) {
    const names = sources.map(([column]) => column);
    if (!isRequested || names.some((name) => name === "" || present.has(name))) continue;
    const column = names.includes(field) ? field : `${names.join(" or ")} for ${field}`;
    refuse(`there is no column ${column}`, columnRemedy(names, { options, columns }));
  }
  // A mapping says which columns count; without one, a misspelled column must not get lost.
  if (options.format === "focus" || options.map || options.set || options.idColumn) return;
  const known = new Set(plans.flatMap(({ sources }) => sources.map(([column]) => column)));
  const unknown = columns.filter((column) => !known.has(column));
  if (unknown.length === 0) return;
  refuse(
    `${unknown.slice(0, 50).join(", ")} ${unknown.length === 1 ? "is no field" : "are no fields"}`,
    "Rename the columns, or map those to import.",
  );
}
