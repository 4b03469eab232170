/**
 * Maps columns of a file to fields of a record.
 *
 * @module
 */
import { ValidationError } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import { makeReaders } from "./cell_readers.ts";
import { assertColumns, isCurrency, type MappedFile } from "./column_check.ts";
import {
  bindPlans,
  describePlans,
  type FieldPlan,
  ownPlan,
  planFor,
  presetPlan,
  scaled,
} from "./field_plan.ts";
import { acceptFocusVersion, FocusReader } from "./focus_import.ts";
import type { ImportFormat } from "./formats.ts";
import { columnsOf, isMapped, type MappingOptions } from "./mapping_options.ts";
import type { Preset } from "./presets/preset.ts";
import { presetOf } from "./presets/presets.ts";
import { listIn, locator, type Row, rowsIn, spreadRow } from "./locate.ts";
import { constantSource, firstSource, globPattern } from "./sources.ts";
import { TransferError } from "./transfer_error.ts";
import { READERS } from "./values.ts";

/** Most columns that a note names. */
const SHOWN_COLUMNS = 8;

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
  assertFits(dataset, options.format);
  const found = new Set<string>();
  const locate = locator(columns, preset !== undefined, found);
  const readers = makeReaders({ ...options, dateFormats: options.dateFormats ?? preset?.dateFormats });
  const file: MappedFile = { dataset, options, columns, locate, readers, preset };
  const focus = options.format === "focus" ? focusReader(file) : undefined;
  const plans = makePlans(file, focus?.plan);
  if (columns) assertColumns(file, plans);
  if (focus) options.onFocusVersion?.(focus.version);
  options.onMapping?.(describePlans(plans, locate));
  const readFields = bindPlans(dataset, plans, { locate, skipsEmpty: preset !== undefined });
  const assertComplete = completenessCheck(file, plans);
  const readOne = (row: Row): Record<string, unknown> | undefined => {
    const record = readFields(row);
    if (preset?.skipsWithout?.every((field) => record[field] === undefined)) return undefined;
    assertComplete(record, row);
    if (dataset.name === "cost_entries") fillIn(record, preset !== undefined || focus !== undefined);
    focus?.complete(record, row);
    return record;
  };
  if (focus) return { read: (row) => [readOne(row)], absentIn: (row, record) => focus.absentIn(row, record) };
  if (!preset) return columns ? { read: (row) => [readOne(row)] } : objectReader(file, readOne);
  const readParts = partReader(file, preset);
  noteUnread(file, preset, found);
  return {
    read: (row) =>
      rowsIn(row, preset.lists).flatMap((found) => {
        const inner = found && spreadRow(found, preset.spread);
        const record = inner && readOne(inner);
        return record ? [record, ...readParts(inner, record)] : [undefined];
      }),
  };
}

/** Names the columns that neither a field takes nor the vendor documents: a user may need one. */
function noteUnread(
  { dataset, options, columns = [] }: MappedFile,
  { vendorColumns }: Preset,
  found: ReadonlySet<string>,
): void {
  const documented = vendorColumns === undefined ? undefined : globPattern(vendorColumns);
  const unread = columns.filter((name) => !found.has(name) && !documented?.test(name));
  if (unread.length === 0) return;
  const more = unread.length > SHOWN_COLUMNS ? ` and ${unread.length - SHOWN_COLUMNS} more` : "";
  const map = dataset.columns.find(({ type }) => type === "map")?.field;
  options.onNote?.(
    `no field of ${dataset.name} takes ${unread.slice(0, SHOWN_COLUMNS).join(", ")}${more}. ` +
      `To keep one, pass --format ${options.format} --map ${map}.NAME=COLUMN`,
  );
}

/**
 * Refuses a format that has no records of a dataset.
 *
 * @throws {TransferError} If it has none.
 */
export function assertFits({ name }: Dataset<unknown>, format: ImportFormat | undefined): void {
  const preset = presetOf(format);
  const isOther = preset || format === "focus"
    ? name !== (preset?.dataset ?? "cost_entries")
    : format === "prometheus" && name === "cost_entries";
  if (!isOther) return;
  const purpose = format === "prometheus" ? "metrics, devices and usage" : preset?.dataset ?? "costs";
  throw new TransferError(
    `Cannot import ${name} from ${format === "focus" ? "FOCUS" : format}, which is for ${purpose}. ` +
      "Use csv or ndjson.",
    { code: "UNSUPPORTED_FORMAT" },
  );
}

function focusReader({ options, columns = [], locate }: MappedFile): FocusReader {
  for (const field of ["decimal", "dateFormats", "timeZone"] as const) {
    if (options[field] === undefined) continue;
    const expected = "left out: FOCUS prescribes the forms of numbers and times";
    throw new ValidationError({
      subject: "an import",
      field,
      value: options[field],
      expected,
      code: "CONFLICTING_OPTIONS",
    });
  }
  const focusVersion = acceptFocusVersion("an import", options.focusVersion);
  const idColumn = columnsOf(options).entryId;
  return new FocusReader(columns, { ...options, focusVersion, idColumn, locate });
}

/** The plan that the options make, field by field. */
function makePlans(file: MappedFile, focus: readonly FieldPlan[] | undefined): FieldPlan[] {
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

/** Constants whose field has no column in the file; all of them where its rows name their columns one by one. */
export function constantsOf(
  dataset: Dataset<unknown>,
  options: MappingOptions,
  columns: readonly string[] | undefined,
): [field: string, value: string][] {
  const constants = Object.entries(options.set ?? {});
  if (!columns) return constants;
  const locate = locator(columns, false);
  const map = columnsOf(options);
  return constants.filter(([target]) => {
    if (map[target] !== undefined) return firstSource(map[target]).bind(locate) === undefined;
    const own = dataset.columns.find(({ field }) => field === target);
    return own === undefined || !columns.some((column) => column === own.field || column === own.name);
  });
}

/** Makes the check that a record has what each row must have a value for. */
function completenessCheck(
  { dataset, locate }: MappedFile,
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
  { dataset, locate, readers }: MappedFile,
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
  { dataset, options, locate }: MappedFile,
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
