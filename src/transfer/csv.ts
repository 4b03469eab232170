/**
 * CSV as RFC 4180 has it. Nothing between two commas is an absent value, and `""` is an empty text, so that both come
 * back as they were.
 *
 * @module
 */

/** Form of the cells of a line. */
export interface CsvForm {
  /**
   * Character between the cells.
   *
   * @default {","}
   */
  readonly delimiter?: string;
  /** Text that stands for null where no quotes are around it. */
  readonly nullText?: string;
  /** True to remove spaces around cells without quotes. */
  readonly isTrimmed?: boolean;
}

const SPACE = 32;

/** The cells of a line whose quotes are known to be right; null where there is nothing, or the text for null. */
export function readCsvLine(
  text: string,
  { delimiter = ",", nullText, isTrimmed }: CsvForm = {},
): (string | null)[] {
  const cells: (string | null)[] = [];
  const separator = delimiter.charCodeAt(0);
  for (let at = 0;; at++) {
    if (text.charCodeAt(at) === separator) { // most cells of a bill are empty
      cells.push(null);
      continue;
    }
    let start = at;
    while (text.charCodeAt(start) === SPACE) start++;
    if (text[start] === '"') {
      let end = text.indexOf('"', start + 1);
      let isEscaped = false;
      for (; text[end + 1] === '"'; end = text.indexOf('"', end + 2)) isEscaped = true;
      const cell = text.slice(start + 1, end);
      cells.push(isEscaped ? cell.replaceAll('""', '"') : cell);
      at = end + 1;
      while (text.charCodeAt(at) === SPACE) at++;
    } else {
      const next = text.indexOf(delimiter, at);
      const end = next < 0 ? text.length : next;
      const cell = isTrimmed ? trimmed(text, start, end) : text.slice(at, end);
      cells.push(cell === "" || cell === nullText ? null : cell);
      at = end;
    }
    if (at >= text.length) return cells;
  }
}

/** A part of a text without the spaces at its end. */
function trimmed(text: string, start: number, end: number): string {
  while (end > start && text.charCodeAt(end - 1) === SPACE) end--;
  return text.slice(start, end);
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
/** Cells whose first or last character a reader may remove. */
const MARGIN = /^[ \uFEFF]| $/;
const NUMBER = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?$/i;

/** A line of CSV; `undefined` is written as nothing. */
export function formatCsv(
  cells: readonly (string | undefined)[],
  { nullText, isSpreadsheetSafe }: CsvOptions = {},
): string {
  return cells.map((cell) => {
    if (cell === undefined) return "";
    const text = isSpreadsheetSafe && FORMULA.test(cell) && !NUMBER.test(cell) ? `'${cell}` : cell;
    const isQuoted = text === "" || text === nullText || /[",\r\n]/.test(text) || MARGIN.test(text);
    return isQuoted ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",");
}
