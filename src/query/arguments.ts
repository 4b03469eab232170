/**
 * Options as data, and their values from a command line or from the query of a request.
 *
 * @module
 */

/** An option of a command, or a parameter of a request. */
export interface Option {
  /** The name without dashes. */
  readonly name: string;
  /** Placeholder of the value in the help; none for a switch. */
  readonly value?: string;
  /** Short description. */
  readonly summary: string;
  /** Names that other programs have for it: an error suggests this one. */
  readonly elsewhere?: readonly string[];
  /** True if the option may be repeated. */
  readonly isRepeatable?: boolean;
}

/**
 * Returns options from their usage, as `"limit N"`, and their description. Without a placeholder one is a switch; with `...`
 * it may be repeated.
 */
export function optionsOf(described: Readonly<Record<string, string>>): Option[] {
  return Object.entries(described).map(([usage, summary]) => {
    const [name, value, repeated] = usage.split(" ");
    return { name, value, summary, isRepeatable: repeated === "..." };
  });
}

/** Option of commands and routes that write CSV. */
export const SPREADSHEET_OPTION: Option = {
  name: "spreadsheet-safe",
  summary: "CSV: put an apostrophe before what a spreadsheet takes for a formula",
};

/** Values that are given for options. */
export interface Arguments {
  /** The value of an option, or undefined. */
  text(name: string): string | undefined;
  /** Values of a repeatable option. */
  texts(name: string): readonly string[];
  /** Returns true if an option is given. */
  has(name: string): boolean;
  readonly positionals: readonly string[];
  /** Returns the value of an option that is not given, and its origin in messages. */
  fallback?(name: string): { readonly text: string; readonly origin: string } | undefined;
}
