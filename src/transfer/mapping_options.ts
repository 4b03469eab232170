import type { CellOptions } from "./cell_readers.ts";
import type { FieldMapping } from "./field_plan.ts";
import type { ImportFormat } from "./formats.ts";

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

/** The column of each field, or entry of a map field, for which the options name one. */
export function columnsOf({ map, idColumn }: MappingOptions): Record<string, string> {
  return { ...map, ...(idColumn === undefined ? {} : { entryId: idColumn }) };
}

/** True if the options say what the columns of a file are. */
export function isMapped({ map, set, idColumn }: MappingOptions): boolean {
  return map !== undefined || set !== undefined || idColumn !== undefined;
}
