/**
 * CSV as RFC 4180 has it. Nothing between two commas is an absent value, and `""` is an empty text, so that both come
 * back as they were.
 *
 * @module
 */

/** The cells of a line whose quotes are known to be right; null where there is nothing, or the text for null without quotes. */
export function readCsvLine(text: string, nullText?: string): (string | null)[] {
  const cells: (string | null)[] = [];
  for (let at = 0;; at++) {
    if (text[at] === '"') {
      let end = text.indexOf('"', at + 1);
      let isEscaped = false;
      for (; text[end + 1] === '"'; end = text.indexOf('"', end + 2)) isEscaped = true;
      const cell = text.slice(at + 1, end);
      cells.push(isEscaped ? cell.replaceAll('""', '"') : cell);
      at = end + 1;
    } else {
      const comma = text.indexOf(",", at);
      const end = comma < 0 ? text.length : comma;
      const cell = text.slice(at, end);
      cells.push(end === at || cell === nullText ? null : cell);
      at = end;
    }
    if (at >= text.length) return cells;
  }
}

/** Options of {@linkcode formatCsv}. */
export interface CsvOptions {
  /** Text for null in the file. A cell that is this text gets quotes. */
  readonly nullText?: string;
  /** True if cells that a spreadsheet would take for a formula get an apostrophe in front. */
  readonly isSpreadsheetSafe?: boolean;
}

/** First characters of formulas and commands, also in full width, and those after which a program may look for them. */
const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;
const NUMBER = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i;

/** A line of CSV; `undefined` is written as nothing. */
export function formatCsv(
  cells: readonly (string | undefined)[],
  { nullText, isSpreadsheetSafe }: CsvOptions = {},
): string {
  return cells.map((cell) => {
    if (cell === undefined) return "";
    const text = isSpreadsheetSafe && FORMULA.test(cell) && !NUMBER.test(cell) ? `'${cell}` : cell;
    const isQuoted = text === "" || text === nullText || /[",\r\n]/.test(text);
    return isQuoted ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",");
}
