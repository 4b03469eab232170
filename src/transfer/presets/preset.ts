import type { DatasetName } from "../../records/dataset.ts";
import type { Rule } from "../sources.ts";

/** A format of bills, devices or usage as data: where each field of a record comes from. */
export interface Preset {
  /** Name of the format. */
  readonly name: string;
  /** Title, for people. */
  readonly title: string;
  /**
   * Dataset of its records.
   *
   * @default {"cost_entries"}
   */
  readonly dataset?: DatasetName;
  /** Addresses at which its vendor describes the columns. */
  readonly documentation: readonly string[];
  /** Columns that a file of this format has, and no other of its dataset: all of one of the groups. Without one, it is not detected. */
  readonly signs: readonly (readonly string[])[];
  /** Patterns of columns that its vendor documents, as in `bill_*|product`: imports do not name those that no field takes. */
  readonly vendorColumns?: string;
  /** Lists that hold the rows, from the outside in, where a row of the file is a page or a group of them. */
  readonly lists?: readonly string[];
  /** Objects, or lists of keys and values, whose entries are columns of the row, too. */
  readonly spread?: readonly string[];
  /** Source of each field; of the entry of a map by `focus.KEY`. */
  readonly fields: Readonly<Record<string, Rule>>;
  /** Columns that hold tags: maps, lists of key and value, or `prefix*` of columns of one tag each. */
  readonly tags?: readonly string[];
  /** Formats of times beside ISO 8601. */
  readonly dateFormats?: readonly string[];
  /** Factors of fields. */
  readonly scale?: Readonly<Record<string, string>>;
  /** Fields of which a row has at least one; any other row is skipped, such as a charge without an amount. */
  readonly skipsWithout?: readonly string[];
  /** A list in a row whose entries are costs of their own, and the fields that differ from those of the row. */
  readonly parts?: { readonly list: string; readonly fields: Readonly<Record<string, Rule>> };
}

/**
 * The cases of a rule from a table of values, each with the texts that stand for it.
 *
 * @param table The texts of each value, separated by `|`.
 * @param otherwise The source for all other texts.
 */
export function table(by: string, table: Readonly<Record<string, string>>, otherwise?: Rule): Rule {
  const cases: [string, Rule][] = Object.entries(table).map(([value, texts]) => [texts, `=${value}`]);
  if (otherwise !== undefined) cases.push(["*", otherwise]);
  return { by, cases: Object.fromEntries(cases) };
}
