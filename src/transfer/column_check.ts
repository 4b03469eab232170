import { describe, type ErrorCode } from "../errors.ts";
import { suggest } from "../nearest.ts";
import type { Dataset } from "../records/dataset.ts";
import type { Readers } from "./cell_readers.ts";
import type { FieldPlan } from "./field_plan.ts";
import { columnsOf, isMapped, type MappingOptions } from "./mapping_options.ts";
import { detectFormat } from "./detect_format.ts";
import type { Preset } from "./presets/preset.ts";
import { presetOf } from "./presets/presets.ts";
import type { Locate } from "./locate.ts";
import { firstSource } from "./sources.ts";
import { TransferError } from "./transfer_error.ts";

/** A file and how it is read. */
export interface MappedFile {
  readonly dataset: Dataset<unknown>;
  readonly options: MappingOptions;
  readonly columns: readonly string[] | undefined;
  readonly locate: Locate;
  readonly readers: Readers;
  readonly preset: Preset | undefined;
}

/** Says what to do about a missing column: a name that the user wrote may be misspelled, any other can be mapped. */
function columnRemedy(missing: readonly string[], { dataset, options, columns = [] }: MappedFile): string {
  const { format, idColumn, costColumn, map = {} } = options;
  const isFocus = columns.includes("ChargePeriodStart");
  const found = detectFormat(dataset.name, columns);
  if (format !== undefined && found !== undefined && found !== format) {
    const name = found === "focus" ? "FOCUS" : found;
    return `The file looks like ${name}. Use --format ${found}.`;
  }
  const list = `The columns are ${columns.slice(0, 50).join(", ")}.`;
  const written = missing.find((name) =>
    [idColumn, costColumn].includes(name) ||
    Object.values(map).some((names) => firstSource(names).names.includes(name))
  );
  if (written !== undefined) return suggest(written, columns).trim() || list;
  if (format !== "focus") return `${list} Map one to the field (--map), or set the field (--set).`;
  return isFocus ? `${list} Set the field (--set).` : `${list} Is this file FOCUS?`;
}

/** True for the currency of a cost, which is never assumed. */
export function isCurrency(dataset: Dataset<unknown>, field: string): boolean {
  return dataset.name === "cost_entries" && field === "currency";
}

/** Headers that seem to name a field of a cost. */
const FIELD_HEADERS: Readonly<Record<string, RegExp>> = {
  timestamp: /date|time|^day$|datum|fecha/i,
  amount: /cost|amount|charge|price|^total$|betrag|importe/i,
  resourceId: /resource|instance|node|^id$/i,
  category: /category|service|product|^type$/i,
};

/** Suggests columns for those that are missing, as far as their names tell. */
function guesses(
  missing: readonly { readonly field: string }[],
  { dataset, options, columns = [] }: MappedFile,
): string {
  if (dataset.name !== "cost_entries" || presetOf(options.format) || detectFormat(dataset.name, columns)) {
    return "";
  }
  const mapped = columnsOf(options);
  const found = missing.flatMap(({ field }) => {
    const headers = field === "currency" ? CURRENCY_HEADER : FIELD_HEADERS[field];
    const column = mapped[field] === undefined && columns.find((name) => headers?.test(name));
    return column ? [`--map ${describe(`${field}=${column}`)}`] : [];
  });
  return found.length === 0 ? "" : ` Perhaps ${found.join(" ")}?`;
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

/**
 * Checks the columns of a file against the plans of its fields.
 *
 * @throws {TransferError} If a column is missing, or one would be lost unseen.
 */
export function assertColumns(file: MappedFile, plans: readonly FieldPlan[]): void {
  const { dataset, options, columns = [], locate, preset } = file;
  const isBill = preset !== undefined || options.format === "focus";
  const refuse = (problem: string, remedy: string, code: ErrorCode = "INVALID_HEADER"): never => {
    throw new TransferError(`Cannot import ${dataset.name}: ${problem}. ${remedy}`, { code, line: 1 });
  };
  const twice = columns.find((column, i) => columns.indexOf(column) < i);
  if (twice !== undefined) refuse(`two columns are called ${describe(twice)}`, "Rename one.");
  const missing: { field: string; names: string[] }[] = [];
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
    missing.push({ field, names });
  }
  if (missing.length > 0) {
    const described = missing.map(({ field, names }) =>
      names.includes(field) ? field : `${names.join(" or ")} for ${field}`
    );
    const [{ field }, ...others] = missing;
    const isLacking = others.length === 0 && isCurrency(dataset, field) && !columnsOf(options).currency;
    const remedy = isLacking
      ? currencyRemedy(columns)
      : columnRemedy(missing.flatMap(({ names }) => names), file) + guesses(missing, file);
    refuse(
      `there ${others.length > 0 ? "are no columns" : "is no column"} ${described.join(", ")}`,
      remedy,
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
    `Rename the columns, or map those to import, as in --map FIELD=${describe(unknown[0])}.`,
  );
}
