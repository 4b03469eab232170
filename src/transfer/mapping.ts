/**
 * Maps columns of a file to fields of a record.
 *
 * @module
 */
import { describe, type ErrorCode, ValidationError } from "../errors.ts";
import { suggest } from "../nearest.ts";
import type { Dataset } from "../records/dataset.ts";
import { type CellOptions, makeReaders, type Readers } from "./cell_readers.ts";
import {
  bindPlans,
  describePlans,
  type FieldMapping,
  type FieldPlan,
  ownPlan,
  planFor,
  presetPlan,
  scaled,
} from "./field_plan.ts";
import { acceptFocusVersion, FocusReader } from "./focus_import.ts";
import type { Preset } from "./presets/preset.ts";
import type { ImportFormat } from "./formats.ts";
import { presetOf } from "./presets/presets.ts";
import { constantSource, firstSource, listIn, type Locate, locator, type Row, rowsIn } from "./sources.ts";
import { TransferError } from "./transfer_error.ts";
import { READERS } from "./values.ts";

/** Mapping options of an import. */
export interface MappingOptions extends CellOptions {
  /**
   * The format of the file. By default a bill is read as the format that its columns identify, unless `map` or
   * `idColumn` says what they are; any other file as CSV or NDJSON.
   */
  format?: ImportFormat;
  /**
   * The column of each field that is not called like the field, or several separated by commas: the first that has a
   * value counts. A path such as `service.description` or `labels[key=team].value` reads nested values; `tags.team` is
   * one entry of a map.
   */
  map?: Readonly<Record<string, string>>;
  /** The value of each field where the file has none. */
  set?: Readonly<Record<string, string>>;
  /** The factor of fields whose unit differs, such as 0.01 of an amount in cents. */
  scale?: Readonly<Record<string, string>>;
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
  /** Called with the fields of a file and their columns. */
  onMapping?: (fields: readonly FieldMapping[]) => void;
}

/** Makes records from the rows of a file. */
export interface RowReader {
  /** Makes the inputs for validation from a row: undefined for each that has no amount and is no charge. */
  read(row: Row): (Record<string, unknown> | undefined)[];
  /** The columns that are null in a row, of files whose columns are kept. */
  absentIn?(row: Row, record: unknown): string[];
  /** Checks that need all rows. */
  end?(): void;
}

/**
 * The reader of the rows of a file.
 *
 * @param columns The columns of all rows, where the file names them once. Those of NDJSON differ from row to row.
 * @throws {TransferError} If a column is missing, or one would be lost unseen.
 */
export function makeReader(
  dataset: Dataset<unknown>,
  options: MappingOptions,
  columns?: readonly string[],
): RowReader {
  const preset = presetOf(options.format);
  assertIsCosts(dataset, options.format);
  const locate = locator(columns, preset !== undefined);
  const { dateFormats = [] } = options;
  const readers = makeReaders({ ...options, dateFormats: [...preset?.dateFormats ?? [], ...dateFormats] });
  const file: File = { dataset, options, columns, locate, readers, preset };
  const focus = options.format === "focus" ? focusReader(file) : undefined;
  const plans = makePlans(file, focus?.plan);
  if (columns) assertColumns(file, plans);
  if (focus) options.onFocusVersion?.(focus.version);
  options.onMapping?.(describePlans(plans, locate));
  const readFields = bindPlans(dataset, plans, { locate, skipsEmpty: preset !== undefined });
  const assertComplete = completenessCheck(file, plans);
  const readOne = (row: Row): Record<string, unknown> | undefined => {
    const record = readFields(row);
    if (preset?.skipsWithoutAmount && record.amount === undefined) return undefined;
    assertComplete(record, row);
    if (dataset.name === "cost_entries") fillIn(record, preset !== undefined || focus !== undefined);
    focus?.complete(record, row);
    return record;
  };
  if (focus) return { read: (row) => [readOne(row)], absentIn: (row, record) => focus.absentIn(row, record) };
  if (!preset) return columns ? { read: (row) => [readOne(row)] } : objectReader(file, readOne);
  const readParts = partReader(file, preset);
  return {
    read: (row) =>
      rowsIn(row, preset.lists).flatMap((inner) => {
        const record = inner && readOne(inner);
        return record ? [record, ...readParts(inner, record)] : [undefined];
      }),
  };
}

/** A file and how it is read. */
interface File {
  readonly dataset: Dataset<unknown>;
  readonly options: MappingOptions;
  readonly columns: readonly string[] | undefined;
  readonly locate: Locate;
  readonly readers: Readers;
  readonly preset: Preset | undefined;
}

function assertIsCosts(dataset: Dataset<unknown>, format: ImportFormat | undefined): void {
  if (dataset.name === "cost_entries" || format === undefined || format === "csv" || format === "ndjson") {
    return;
  }
  throw new TransferError(
    `Cannot import ${dataset.name} from ${
      format === "focus" ? "FOCUS" : format
    }, which is for costs. Use csv or ndjson.`,
    { code: "UNSUPPORTED_FORMAT" },
  );
}

/** The reader of a file of FOCUS. */
function focusReader({ options, columns = [], locate }: File): FocusReader {
  const focusVersion = acceptFocusVersion("an import", options.focusVersion);
  const idColumn = columnsOf(options).entryId;
  return new FocusReader(columns, { ...options, focusVersion, idColumn, locate });
}

/** The column of each field, or entry of a map field, for which the options name one. */
function columnsOf({ map, idColumn }: MappingOptions): Record<string, string> {
  return { ...map, ...(idColumn === undefined ? {} : { entryId: idColumn }) };
}

function isMapped({ map, set, idColumn }: MappingOptions): boolean {
  return map !== undefined || set !== undefined || idColumn !== undefined;
}

/** The plan that the options make, field by field. */
function makePlans(file: File, focus: readonly FieldPlan[] | undefined): FieldPlan[] {
  const { dataset, options, readers, preset, columns } = file;
  const plans = new Map<string, FieldPlan>();
  const keep = (target: string, plan: FieldPlan) => plans.set(target, plan);
  const base = focus ??
    (preset ? presetPlan(dataset, preset, { readers, columns }) : ownPlan(dataset, readers));
  for (const plan of base) keep(plan.key === undefined ? plan.field : `${plan.field}.${plan.key}`, plan);
  const map = columnsOf(options);
  for (const [target, names] of Object.entries(map)) {
    const plan = planFor(dataset, target, { readers, source: firstSource(names) });
    keep(target, { ...plan, isRequested: true });
  }
  const scale = { ...preset?.scale, ...options.scale };
  for (const [target, factor] of Object.entries(scale)) {
    const plan = plans.get(target) ??
      planFor(dataset, target, { readers, source: constantSource(undefined) });
    keep(target, scaled(dataset, plan, factor));
  }
  for (const [target, value] of Object.entries(options.set ?? {})) {
    const plan = planFor(dataset, target, { readers: READERS, source: constantSource(value) });
    keep(target, {
      ...plan,
      ...plans.get(target),
      sources: [...plans.get(target)?.sources ?? [], ...plan.sources],
    });
  }
  // Records of this program, as NDJSON has them without a mapping, have the default of their dataset.
  const isForeign = columns !== undefined || isMapped(options) || preset !== undefined;
  return [...plans.values()].map((plan) => {
    const { field } = plan;
    // A hash in place of an id, or dollars in place of another currency, would be wrong without a sign of it.
    const isMandatory = field === "entryId"
      ? map.entryId !== undefined
      : isCurrency(dataset, field) && isForeign;
    const isNeeded = isMandatory ||
      dataset.required.some((column) =>
        column.field === field && column.default === undefined && field !== "entryId"
      );
    return { ...plan, isRequested: plan.isRequested || isNeeded, isMandatory };
  });
}

function isCurrency(dataset: Dataset<unknown>, field: string): boolean {
  return dataset.name === "cost_entries" && field === "currency";
}

/** Makes the check that a record has what each row must have a value for. */
function completenessCheck(
  { dataset, locate }: File,
  plans: readonly FieldPlan[],
): (record: Record<string, unknown>, row: Row) => void {
  const mandatory = plans.filter(({ isMandatory }) => isMandatory);
  return (record, row) => {
    for (const { field, sources } of mandatory) {
      if (record[field] !== undefined) continue;
      const names = sources.flatMap(([source]) => source.names);
      const expected = `given in the column ${names.join(" or ")}`;
      throw new ValidationError({
        subject: dataset.noun,
        field,
        value: locate(names.at(-1)!)?.(row),
        expected,
      });
    }
  };
}

/** Fills in the category and the resource of a cost: a tax or a support plan is no resource, its service stands in. */
function fillIn(record: Record<string, unknown>, isBill: boolean): void {
  record.category ??= record.serviceName;
  if (record.resourceId !== undefined) return;
  const resourceId = record.serviceName ?? (isBill ? record.category : undefined);
  if (resourceId === undefined) return; // validation refuses it
  record.resourceId = resourceId;
  record.focus = { ...record.focus as object, ResourceId: "" };
}

/** Makes the reader of costs that a row has beside its own, such as credits. */
function partReader(
  { dataset, locate, readers }: File,
  { parts, scale = {} }: Preset,
): (row: Row, record: Record<string, unknown>) => Record<string, unknown>[] {
  const cell = parts && locate(parts.list);
  if (!cell) return () => [];
  const targets = Object.keys(parts.fields);
  const plans = presetPlan(dataset, { fields: parts.fields }, { readers })
    .map((plan) => scale[plan.field] ? scaled(dataset, plan, scale[plan.field]) : plan);
  const readFields = bindPlans(dataset, plans, { locate: locator(undefined), skipsEmpty: true });
  return (row, record) =>
    listIn(cell, row).map((entry, i) => {
      const part = { ...record };
      for (const field of targets) delete part[field];
      readFields(entry, part);
      if (part.entryId !== undefined) part.entryId = `${part.entryId}/${i + 1}`;
      return part;
    });
}

/** The reader of rows whose columns differ from row to row. */
function objectReader(
  { dataset, options, locate }: File,
  readOne: (row: Row) => Record<string, unknown> | undefined,
): RowReader {
  // Without a mapping, validation refuses columns that are not fields.
  const known = isMapped(options)
    ? undefined
    : new Set(dataset.columns.flatMap(({ field, name }) => [field, name]));
  let unseen = Object.entries(columnsOf(options)).filter(([target]) => options.set?.[target] === undefined)
    .map(([, names]) => ({ names, cell: firstSource(names).bind(locate)! }));
  let hasRows = false;
  return {
    read(row) {
      hasRows = true;
      if (unseen.length > 0) unseen = unseen.filter(({ cell }) => cell(row) === undefined);
      const record = readOne(row);
      if (known) {
        for (const [name, value] of Object.entries(row)) if (!known.has(name)) record![name] = value;
      }
      return [record];
    },
    end() {
      if (!hasRows || unseen.length === 0) return;
      const columns = unseen.map(({ names }) => names).join(", ");
      throw new TransferError(`No line has ${columns}. Correct the map.`, { code: "MISSING_COLUMN" });
    },
  };
}

/** Says what to do about a missing column: a name that the user wrote may be misspelled, any other can be mapped. */
function columnRemedy(missing: readonly string[], { options, columns = [] }: File): string {
  const { format, idColumn, costColumn, map = {} } = options;
  const isFocus = columns.includes("ChargePeriodStart");
  if (format === "csv" && isFocus) return "The file looks like FOCUS. Use --format focus.";
  const list = `The columns are ${columns.slice(0, 50).join(", ")}.`;
  const written = missing.find((name) =>
    [idColumn, costColumn].includes(name) ||
    Object.values(map).some((names) => firstSource(names).names.includes(name))
  );
  if (written !== undefined) return suggest(written, columns).trim() || list;
  if (format !== "focus") return `${list} Map one to the field (--map), or set the field (--set).`;
  return isFocus ? `${list} Set the field (--set).` : `${list} Is this file FOCUS?`;
}

/** Headers that seem to name a currency. */
const CURRENCY_HEADER =
  /(^|[^a-z]|billing|cost|charge)curr?($|[^a-z]|en)|ccy|devise|divisa|moneda|moeda|valuta|währung|waehrung/i;

function currencyRemedy(columns: readonly string[]): string {
  const similar = columns.filter((name) => CURRENCY_HEADER.test(name));
  if (similar.length === 0) {
    return "Map one (--map currency=COLUMN), or set it for all lines (--set currency=USD).";
  }
  return `Is it ${similar.map(describe).join(" or ")}? Use --map ${describe(`currency=${similar[0]}`)}, ` +
    "or set it for all lines (--set currency=USD).";
}

function assertColumns(file: File, plans: readonly FieldPlan[]): void {
  const { dataset, options, columns = [], locate, preset } = file;
  const isBill = preset !== undefined || options.format === "focus";
  const refuse = (problem: string, remedy: string, code: ErrorCode = "INVALID_HEADER"): never => {
    throw new TransferError(`Cannot import ${dataset.name}: ${problem}. ${remedy}`, { code, line: 1 });
  };
  const twice = columns.find((column, i) => columns.indexOf(column) < i);
  if (twice !== undefined) refuse(`two columns are called ${describe(twice)}`, "Rename one.");
  const isBound = ({ sources }: FieldPlan) => sources.some(([source]) => source.bind(locate) !== undefined);
  for (const plan of plans) {
    const { field, isRequested } = plan;
    // The service stands in for a category or a resource that a bill does not name.
    const standIns = columnsOf(options)[field] !== undefined
      ? []
      : field === "category"
      ? ["serviceName"]
      : field === "resourceId"
      ? ["serviceName", ...isBill ? ["category"] : []]
      : [];
    const usable = [plan, ...standIns.flatMap((name) => plans.filter((other) => other.field === name))];
    if (!isRequested || usable.some(isBound)) continue;
    const names = [...new Set(usable.flatMap(({ sources }) => sources.flatMap(([source]) => source.names)))];
    const column = names.includes(field) ? field : `${names.join(" or ")} for ${field}`;
    const isLacking = isCurrency(dataset, field) && columnsOf(options).currency === undefined;
    refuse(
      `there is no column ${column}`,
      isLacking ? currencyRemedy(columns) : columnRemedy(names, file),
      isLacking ? "MISSING_CURRENCY" : undefined,
    );
  }
  // A mapping says which columns count; without one, a misspelled column must not get lost.
  if (isBill || isMapped(options)) return;
  const known = new Set(plans.flatMap(({ sources }) => sources.flatMap(([source]) => source.names)));
  const unknown = columns.filter((column) => !known.has(column));
  if (unknown.length === 0) return;
  refuse(
    `${unknown.slice(0, 50).join(", ")} ${unknown.length === 1 ? "is no field" : "are no fields"}`,
    "Rename the columns, or map those to import.",
  );
}
