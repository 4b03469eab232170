import type { DatasetName } from "../records/dataset.ts";
import { focusDatasetOf } from "./focus_documents.ts";
import type { ImportFormat } from "./formats.ts";
import { PRESETS } from "./presets/presets.ts";
import { locator, type Row, rowsIn } from "./locate.ts";

/** The format of a file of a dataset by its columns, or by its first row; undefined where those leave a doubt. */
export function detectFormat(
  wanted: DatasetName,
  columns: readonly string[] | undefined,
  row?: Row,
): ImportFormat | undefined {
  if (wanted === "cost_entries" && columns && isFocus(columns)) return "focus";
  return PRESETS.find(({ dataset = "cost_entries", signs, lists }) => {
    if (dataset !== wanted) return false;
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
