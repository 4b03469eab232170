import { focusDatasetOf } from "./focus_documents.ts";
import { PRESETS } from "./presets/presets.ts";
import { locator, type Row, rowsIn } from "./sources.ts";

/** A format that can be read. */
export type ImportFormat =
  | "focus"
  | "aws-cur"
  | "azure"
  | "gcp"
  | "oci"
  | "openai"
  | "anthropic"
  | "csv"
  | "ndjson";
/** The formats that can be read. */
export const IMPORT_FORMATS = [
  "focus",
  ...PRESETS.map(({ name }) => name),
  "csv",
  "ndjson",
] as readonly ImportFormat[];

/** The format of a file of costs by its columns, or by its first row; undefined where those leave a doubt. */
export function detectFormat(columns: readonly string[] | undefined, row?: Row): ImportFormat | undefined {
  if (columns && isFocus(columns)) return "focus";
  return PRESETS.find(({ signs, lists }) => {
    const locate = locator(columns, true);
    if (columns) return signs.some((names) => names.every((name) => locate(name)));
    const rows = rowsIn(row!, lists).filter((found) => found !== undefined);
    return signs.some((names) => rows.some((row) => names.every((name) => locate(name)!(row) !== undefined)));
  })?.name as ImportFormat | undefined;
}

function isFocus(columns: readonly string[]): boolean {
  const has = (name: string) => columns.includes(name);
  return has("ChargePeriodStart")
    ? has("BilledCost") || has("EffectiveCost")
    : focusDatasetOf(columns) !== undefined;
}
