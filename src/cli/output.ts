/**
 * Output of commands: results on stdout as table, JSON, NDJSON or CSV, everything else on stderr.
 *
 * @module
 */
import { formatCsv as formatLine } from "../transfer/csv.ts";
import { asFileError } from "../transfer/transfer_error.ts";
import { isoTime } from "../transfer/values.ts";

export { isoTime };
export { toCells, toJsonRecord } from "../transfer/values.ts";

/** The formats of results. */
export const FORMATS = ["table", "json", "ndjson", "csv"] as const;
/** A format of results. */
export type Format = typeof FORMATS[number];

const encoder = new TextEncoder();
/** The current line of the terminal holds progress, which the next message replaces. */
let hasLiveLine = false;

/** True if cells of CSV that a spreadsheet would take for a formula get an apostrophe in front. */
let isSpreadsheetSafe = false;

/** Has CSV be safe to open in a spreadsheet from now on. */
export function useSpreadsheetSafeCsv(): void {
  isSpreadsheetSafe = true;
}

/** A line of CSV; `undefined` is written as nothing. */
export function formatCsv(cells: readonly (string | undefined)[]): string {
  return formatLine(cells, { isSpreadsheetSafe });
}

/** Writes a line of results to stdout. */
export function print(line: string): void {
  write(`${line}\n`);
}

/** Writes results to stdout as they are. */
export function write(text: string): void {
  clearLiveLine();
  try {
    writeAll(Deno.stdout, text);
  } catch (error) {
    throw asFileError("write", "stdout", error);
  }
}

/** Writes a message to stderr, in place of the line of progress. */
export function note(line: string): void {
  clearLiveLine();
  writeAll(Deno.stderr, `${escapeControls(line)}\n`);
}

/** Replaces the line of progress on the terminal of stderr, cut to its width. */
export function redraw(line: string): void {
  hasLiveLine = line !== "";
  writeAll(Deno.stderr, `\r\x1b[K${line.slice(0, Deno.consoleSize().columns - 1)}`);
}

function clearLiveLine(): void {
  if (hasLiveLine) redraw("");
}

function writeAll(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  let bytes = encoder.encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(to.writeSync(bytes));
}

/** Asks a question on stderr. Returns true if the answer on stdin is yes. */
export function ask(question: string): boolean {
  clearLiveLine();
  writeAll(Deno.stderr, `${question} [y/N] `);
  const answer = new Uint8Array(64);
  const length = Deno.stdin.readSync(answer) ?? 0;
  return /^y(es)?\s*$/i.test(new TextDecoder().decode(answer.subarray(0, length)));
}

/** The text in bold, on a terminal that shows color. */
export function bold(text: string): string {
  return Deno.stdout.isTerminal() && !Deno.noColor ? `\x1b[1m${text}\x1b[22m` : text;
}

/** Layout of a result as table, CSV and NDJSON. JSON has all of it. */
interface Forms {
  /** Prints tables for people. */
  table(): void;
  /** The names of the columns of CSV, and of the fields of a line of NDJSON. */
  readonly header: readonly string[];
  /** The rows under them. */
  readonly rows: readonly (readonly (string | number | undefined)[])[];
}

/** Prints a result in a format. */
export function printFound(format: Format, found: unknown, { table, header, rows }: Forms): void {
  if (format === "table") table();
  else if (format === "json") print(JSON.stringify(withIsoTimes(found), null, 2));
  else if (format === "ndjson") {
    for (const row of rows) {
      print(JSON.stringify(Object.fromEntries(header.map((name, i) => [name, row[i]]))));
    }
  } else {
    print(formatCsv(header));
    for (const row of rows) {
      print(formatCsv(row.map((value) => value === undefined ? undefined : String(value))));
    }
  }
}

/** The fields that are times wherever they occur. */
const TIMES = [
  "startTime",
  "endTime",
  "at",
  "since",
  "firedAt",
  "acknowledgedAt",
  "lastSeen",
  "projectedExhaustion",
];

/** The same with all times as ISO 8601, for JSON. */
function withIsoTimes(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withIsoTimes);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).map(([name, field]) => [
    name,
    TIMES.includes(name) && typeof field === "number" ? isoTime(field) : withIsoTimes(field),
  ]);
  return Object.fromEntries(fields);
}

/** A number of things, as in "1 sample" and "1,000 samples". */
export function formatThings(count: number, one: string, many: string): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** A number of bytes as people read it. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

/** A whole number with its thousands apart. */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US");
}

/** A number in a table, also of bytes or in percent. */
const NUMBER = /^(-?[\d,]+(\.\d+)?(e[+-]?\d+)?( ([KMGT]i)?B| %)?|)$/;

/** Characters that take two columns: East Asian wide and full-width ones, and emoji. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]|^\p{Emoji_Presentation}|\ufe0f$/u;
const segmenter = new Intl.Segmenter();

/** Returns the columns that a text takes on a terminal. */
function displayWidth(text: string): number {
  // deno-lint-ignore no-control-regex -- most texts
  if (/^[\x00-\x7f]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of segmenter.segment(text)) {
    width += WIDE.test(segment) ? 2 : /^[\p{M}\p{Cf}]+$/u.test(segment) ? 0 : 1;
  }
  return width;
}

/** A table with aligned columns; numbers stand to the right. */
export function formatTable(header: readonly string[], cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(escapeControls));
  const widths = header.map((name, i) =>
    rows.reduce((width, row) => Math.max(width, displayWidth(row[i])), displayWidth(name))
  );
  const isNumeric = header.map((_, i) => rows.length > 0 && rows.every((row) => NUMBER.test(row[i])));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => {
      const padding = " ".repeat(widths[i] - displayWidth(cell));
      return isNumeric[i] ? padding + cell : cell + padding;
    }).join("  ").trimEnd();
  return [bold(line(header)), ...rows.map(line)].join("\n");
}

/** Control characters as `\xNN`: a stored name, or one in a file, must not move the cursor of the terminal. */
function escapeControls(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

const BARS = "▁▂▃▄▅▆▇█";

/** Percentages as a line of bars. */
export function sparkline(percentages: readonly number[]): string {
  return percentages
    .map((percent) => BARS[Math.min(BARS.length - 1, Math.max(0, Math.floor(percent / 12.5)))])
    .join("");
}
