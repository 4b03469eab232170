/**
 * Options of an import as data, and functions that read them for a command or a request.
 *
 * @module
 */
import type { ConflictPolicy } from "../backends/backend.ts";
import { describe } from "../errors.ts";
import type { Dataset } from "../records/dataset.ts";
import type { CellOptions } from "../transfer/cell_readers.ts";
import { IMPORT_FORMATS } from "../transfer/formats.ts";
import type { ImportOptions } from "../transfer/import_options.ts";
import type { MappingOptions } from "../transfer/mapping_options.ts";
import { type Arguments, type Option, optionsOf } from "./arguments.ts";
import { conflict, invalidValue, readName, UsageError } from "./option_values.ts";
import { readAt } from "./selection.ts";

export const IMPORT_OPTIONS: readonly Option[] = optionsOf({
  "format F": `${IMPORT_FORMATS.join(", ")} (default: detected)`,
  "map FIELD=COLUMN,… ...":
    "read a field, or one tag (tags.team=…), from the first column or path with a value; repeatable",
  "set FIELD=VALUE ...": "set a field where the file has no value; repeatable",
  "scale FIELD=FACTOR ...": "multiply a field, such as amount=0.01 for cents; repeatable",
  "id-column COLUMN": "column with the unique id of a cost (default: a hash of the row)",
  "cost-column COLUMN": "FOCUS column of the amount, such as EffectiveCost (default BilledCost)",
  "delimiter C": "character between the cells of CSV, or tab (default ,)",
  "decimal ,|.": "decimal sign of numbers, which may then have thousands separators",
  "date-format F": "formats of times beside ISO 8601, separated by commas, such as DD.MM.YYYY,MM/DD/YYYY",
  "at TIME": "time of Prometheus samples without one (default now)",
  "time-zone ZONE": "time zone of times without one (default UTC)",
  "null TEXT ...": "text that stands for a missing value in CSV; repeatable",
  "focus-version V": "FOCUS version (default: detected from the columns)",
  "source NAME": "source of the costs (default: format and billing account, or the constants of --set)",
  replace: "replace costs of the same source and billing period, even if the files have fewer",
  append: "add to costs of the same source and billing period",
  "on-conflict ignore|replace": "what to do with a cost or use that exists (default ignore)",
  strict: "stop at the first bad line",
});

/** Options of deliveries, which costs alone have. */
const OF_COSTS = ["source", "replace", "append", "id-column", "cost-column", "focus-version"];

/** Options of an import into a dataset, by a server whose configuration says what to do with a cost or use that exists. */
export function importOptions(dataset: Dataset<unknown>): Option[] {
  const isOther = dataset.name !== "cost_entries";
  return IMPORT_OPTIONS.filter(({ name }) => name !== "on-conflict" && !(isOther && OF_COSTS.includes(name)));
}

/** Reads what to do with a cost or use that exists. */
export function readConflictPolicy(given: Arguments): ConflictPolicy {
  return readName("policy", given.text("on-conflict") ?? "ignore", ["ignore", "replace"]);
}

/**
 * Reads the options of a delivery, which costs alone have.
 *
 * @throws {UsageError} If another dataset is imported, or two options contradict each other.
 */
export function readDelivery(
  given: Arguments,
  dataset: string,
): Pick<ImportOptions, "source" | "replace" | "append"> {
  const options = ["source", "replace", "append"].filter((name) => given.has(name));
  if (dataset !== "cost_entries" && options.length > 0) {
    throw conflict(`--${options[0]} applies to costs only.`);
  }
  if (given.has("replace") && given.has("append")) {
    throw conflict("--replace and --append contradict each other. Remove one.");
  }
  const replace = given.has("replace");
  return { source: given.text("source"), replace, append: given.has("append") };
}

/**
 * Reads the options that map lines to records. Fields are checked with the mapping.
 *
 * @throws {UsageError} If an option has a wrong form.
 */
export function readMapping(
  given: Arguments,
  { columns }: Dataset<unknown>,
): Omit<MappingOptions, "format"> & Pick<ImportOptions, "at" | "isStrict"> {
  assertOneFieldEach(given, columns.map(({ field }) => field));
  return {
    ...readAt(given),
    isStrict: given.has("strict"),
    ...readCells(given),
    map: readPairs(given, "map"),
    set: readPairs(given, "set"),
    scale: readPairs(given, "scale"),
    idColumn: given.text("id-column"),
    costColumn: given.text("cost-column"),
    focusVersion: given.text("focus-version") as ImportOptions["focusVersion"], // checked with the header
  };
}

function readCells(given: Arguments): CellOptions {
  const delimiter = given.text("delimiter");
  return {
    delimiter: delimiter === "tab" || delimiter === "\\t" ? "\t" : delimiter,
    decimal: given.text("decimal") as CellOptions["decimal"], // checked with the mapping
    dateFormats: given.text("date-format")?.split(","),
    timeZone: given.text("time-zone"),
    nullTexts: given.has("null") ? given.texts("null") : undefined,
  };
}

/** Refuses `--map a=A,b=B`: commas separate the columns of one field. */
function assertOneFieldEach(given: Arguments, fields: readonly string[]): void {
  for (const text of given.texts("map")) {
    const others = text.split(",").slice(1).filter((part) => fields.includes(part.trim().split(/[.=]/)[0]));
    if (others.length === 0 || !others.every((part) => part.includes("="))) continue;
    throw new UsageError(
      `--map ${text} names several fields. Commas separate the columns of one field; repeat --map for each field: ` +
        text.split(",").map((part) => `--map ${part.trim()}`).join(" "),
      "INVALID_OPTION",
    );
  }
}

function readPairs(given: Arguments, option: string): Record<string, string> | undefined {
  const pairs = given.texts(option).map((text) => {
    const [, field, value] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
    if (field === undefined) {
      throw invalidValue(option, "FIELD=…", text);
    }
    return [field, value];
  });
  const twice = pairs.find(([field], i) => pairs.findIndex(([other]) => other === field) < i);
  if (twice) {
    const remedy = option === "map"
      ? ` Write --map ${twice[0]}=A,B for the first that has a value.`
      : " Remove one.";
    throw conflict(`--${option} names ${describe(twice[0])} twice.${remedy}`);
  }
  return pairs.length === 0 ? undefined : Object.fromEntries(pairs);
}
