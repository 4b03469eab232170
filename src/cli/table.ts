/**
 * Tables for people: on a terminal they fit its width, and as Markdown.
 *
 * @module
 */

/** A share in percent that is drawn as a bar, as long as the width allows. */
export interface Bar {
  readonly bar: number;
}

export type Cell = string | Bar;

export interface TableOptions {
  /**
   * The columns of the terminal.
   *
   * @default {those of stdout; no limit where it is none}
   */
  readonly columns?: number;
}

const GAP = 2;
/** Texts are not cut shorter than this. */
const MIN_TEXT = 8;
/** Lengths of bars: the least, without a terminal, and the most. */
const [MIN_BAR, PLAIN_BAR, MAX_BAR] = [4, 20, 60];

let isMarkdown = false;

/** Has tables be Markdown from now on. */
export function useMarkdown(): void {
  isMarkdown = true;
}

/** Returns the columns of the terminal of stdout; no limit where it is a file or a pipe. */
export function terminalColumns(): number {
  if (!Deno.stdout.isTerminal()) return Infinity;
  try {
    return Deno.consoleSize().columns || 80;
  } catch {
    return 80;
  }
}

/** The text in bold, on a terminal that shows color and in Markdown. */
export function bold(text: string): string {
  if (isMarkdown) return `**${text}**`;
  return Deno.stdout.isTerminal() && !Deno.noColor ? `\x1b[1m${text}\x1b[22m` : text;
}

/** A number in a table, also of bytes or in percent. */
const NUMBER = /^([+-]?[\d,]+(\.\d+)?(e[+-]?\d+)?( ([KMGT]i)?B| %)?|)$/;

/**
 * A table with aligned columns; numbers stand to the right. Where it is too wide for the terminal, long texts are cut,
 * and where that is not enough, each row is a list.
 */
export function formatTable(
  header: readonly string[],
  cells: readonly (readonly Cell[])[],
  { columns = terminalColumns() }: TableOptions = {},
): string {
  const rows = cells.map((row) => row.map((cell) => typeof cell === "string" ? escapeControls(cell) : cell));
  const isBar = header.map((_, i) => rows.some((row) => typeof row[i] !== "string"));
  const isNumeric = header.map((_, i) => rows.length > 0 && rows.every((row) => isNumber(row[i])));
  if (isMarkdown) return formatMarkdown(header, rows, { isBar, isNumeric });
  const natural = header.map((name, i) =>
    rows.reduce((width, row) => Math.max(width, displayWidth(textOf(row[i]))), displayWidth(name))
  );
  const widths = fitColumns(natural, { isBar, isNumeric, columns });
  if (widths === undefined) return formatLists(header, rows);
  const line = (cells: readonly Cell[]) =>
    cells.map((cell, i) => {
      const text = typeof cell === "string" ? cutMiddle(cell, widths[i]) : drawBar(cell.bar, widths[i]);
      const padding = " ".repeat(Math.max(0, widths[i] - displayWidth(text)));
      return isNumeric[i] ? padding + text : text + padding;
    }).join(" ".repeat(GAP)).trimEnd();
  return [bold(line(header)), ...rows.map(line)].join("\n");
}

/** Returns the widths of columns that fit the terminal; undefined where none do. */
function fitColumns(
  natural: readonly number[],
  { isBar, isNumeric, columns }: {
    isBar: readonly boolean[];
    isNumeric: readonly boolean[];
    columns: number;
  },
): number[] | undefined {
  const widths = natural.map((width, i) => isBar[i] ? MIN_BAR : width);
  const room = () => columns - widths.reduce((sum, width) => sum + width + GAP, -GAP);
  while (room() < 0) {
    const texts = widths.map((width, i) => isBar[i] || isNumeric[i] ? 0 : width);
    const widest = Math.max(...texts);
    if (widest <= MIN_TEXT) return undefined;
    widths[texts.indexOf(widest)]--;
  }
  const bars = isBar.filter(Boolean).length;
  const length = columns === Infinity ? PLAIN_BAR : Math.min(MAX_BAR, MIN_BAR + Math.floor(room() / bars));
  return widths.map((width, i) => isBar[i] ? length : width);
}

/** Each row as a list of names and values. */
function formatLists(header: readonly string[], rows: readonly (readonly Cell[])[]): string {
  const width = Math.max(...header.map(displayWidth));
  return rows.map((row) =>
    header.map((name, i) => [name, textOf(row[i])]).filter(([, text]) => text !== "")
      .map(([name, text]) => `${bold(name + " ".repeat(width - displayWidth(name)))}  ${text}`).join("\n")
  ).join("\n\n");
}

function formatMarkdown(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  { isBar, isNumeric }: { isBar: readonly boolean[]; isNumeric: readonly boolean[] },
): string {
  const line = (cells: readonly string[]) => `| ${cells.filter((_, i) => !isBar[i]).join(" | ")} |`;
  const escape = (cell: Cell) => textOf(cell).replace(/[\\|*_`<[\]]/g, "\\$&");
  return [
    line(header.map(escape)),
    line(header.map((_, i) => isNumeric[i] ? "---:" : "---")),
    ...rows.map((row) => line(row.map(escape))),
  ].join("\n");
}

function textOf(cell: Cell): string {
  return typeof cell === "string" ? cell : "";
}

function isNumber(cell: Cell): boolean {
  return typeof cell === "string" && NUMBER.test(cell);
}

const EIGHTHS = " ▏▎▍▌▋▊▉█";

/** A share in percent as a bar, in eighths of a column. A share above 0 is seen. */
function drawBar(percent: number, width: number): string {
  const share = Math.min(1, Math.max(0, percent / 100));
  const eighths = share > 0 ? Math.max(1, Math.round(share * width * 8)) : 0;
  return "█".repeat(Math.floor(eighths / 8)) + (eighths % 8 > 0 ? EIGHTHS[eighths % 8] : "");
}

const BARS = "▁▂▃▄▅▆▇█";

/** Percentages as a line of bars. */
export function sparkline(percentages: readonly number[]): string {
  return percentages
    .map((percent) => BARS[Math.min(BARS.length - 1, Math.max(0, Math.floor(percent / 12.5)))])
    .join("");
}

/** Characters that take two columns: East Asian wide and full-width ones, and emoji. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|^\p{Emoji_Presentation}|\ufe0f$/u;
const segmenter = new Intl.Segmenter();

/** Returns the columns that a text takes on a terminal. */
function displayWidth(text: string): number {
  // deno-lint-ignore no-control-regex -- most texts
  if (/^[\x00-\x7f]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of segmenter.segment(text)) width += segmentWidth(segment);
  return width;
}

function segmentWidth(segment: string): number {
  return WIDE.test(segment) ? 2 : /^[\p{M}\p{Cf}]+$/u.test(segment) ? 0 : 1;
}

/** Cuts a text to a width, and marks the cut. */
export function cut(text: string, width: number): string {
  return displayWidth(text) <= width ? text : `${take(segmentsOf(text), width - 1).join("")}…`;
}

/** The same in the middle: names that begin alike differ at the end. */
function cutMiddle(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  const segments = segmentsOf(text);
  const end = take(segments.toReversed(), (width - 1) >> 1).reverse();
  return `${take(segments, width - 1 - displayWidth(end.join(""))).join("")}…${end.join("")}`;
}

function segmentsOf(text: string): string[] {
  return [...segmenter.segment(text)].map(({ segment }) => segment);
}

/** Returns the first segments that fit a width. */
function take(segments: readonly string[], width: number): string[] {
  let used = 0;
  const end = segments.findIndex((segment) => (used += segmentWidth(segment)) > width);
  return segments.slice(0, end < 0 ? undefined : end);
}

/** Control characters as `\xNN`: a stored name, or one in a file, must not move the cursor of the terminal. */
export function escapeControls(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
