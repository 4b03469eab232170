/**
 * Output of commands: results on stdout as table, JSON, NDJSON or CSV, everything else on stderr.
 *
 * @module
 */
import { formatCsv as formatLine } from "../transfer/csv.ts";
import { asFileError } from "../transfer/transfer_error.ts";
import { isoTime } from "../transfer/values.ts";
import { withIsoTimes } from "../query/iso_times.ts";
import { roundMoney } from "../records/currency.ts";
import { formatLog, type LogFields, type LogFormat, type LogLevel } from "./log.ts";
import { cut, escapeControls, formatTable } from "./table.ts";

export { isoTime };
export { bold, formatTable, sparkline, terminalColumns } from "./table.ts";
export { toCells, toJsonRecord } from "../transfer/values.ts";

export const FORMATS = ["table", "markdown", "json", "ndjson", "csv"] as const;
/** A format of results; Markdown is a table that is written another way. */
export type Format = Exclude<typeof FORMATS[number], "markdown">;

const encoder = new TextEncoder();
/** The current line of the terminal holds progress, which the next message replaces. */
let hasLiveLine = false;

/** How results and messages are written. The options of a command set it. */
export const printing = {
  /** True if cells of CSV that a spreadsheet would take for a formula get an apostrophe in front. */
  isSpreadsheetSafe: false,
  /** True if tables show all digits of amounts. */
  isExact: false,
  /** True to leave out messages of level `info`, and the summary. */
  isQuiet: false,
  /** Form of messages; lines for people where absent. */
  logFormat: undefined as LogFormat | undefined,
};

/** An amount in a table: rounded, unless all digits are asked for. */
export function showMoney(amount: string, currency: string): string {
  return printing.isExact ? amount : roundMoney(amount, currency);
}

/** A line of CSV; `undefined` is written as nothing. */
export function formatCsv(cells: readonly (string | undefined)[]): string {
  return formatLine(cells, printing);
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

/** True if messages are lines of a log. */
export function isLogging(): boolean {
  return printing.logFormat !== undefined;
}

/** True if a line of progress may be shown. */
export function hasLiveTerminal(): boolean {
  return Deno.stderr.isTerminal() && !isLogging() && !printing.isQuiet;
}

/** Writes a message to stderr, in place of the line of progress. */
export function note(line: string, level: LogLevel = "warn", fields: LogFields = {}): void {
  const { isQuiet, logFormat } = printing;
  if (isQuiet && level === "info") return;
  clearLiveLine();
  const text = logFormat === undefined
    ? escapeControls(line)
    : formatLog(logFormat, { at: Date.now(), level, message: line, fields });
  writeAll(Deno.stderr, `${text}\n`);
}

/** Replaces the line of progress on the terminal of stderr, cut to its width. */
export function redraw(line: string): void {
  hasLiveLine = line !== "";
  writeAll(Deno.stderr, `\r\x1b[K${cut(line, (Deno.consoleSize().columns || 80) - 1)}`);
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

/** Layout of a result as table, CSV and NDJSON. JSON has all of it. */
interface Forms {
  /** Names of the columns of CSV, and of the fields of a line of NDJSON. */
  readonly header: readonly string[];
  /** Rows with these fields; the result itself where absent. */
  readonly rows?: readonly object[];
  /** Prints tables for people; one with the columns of CSV where absent. */
  table?(): void;
  /** Note on a result without rows. */
  readonly none?: string;
}

export function printFound(format: Format, found: unknown, { header, rows, table, none }: Forms): void {
  const fields = withIsoTimes(rows ?? found) as Record<string, unknown>[];
  const cells = fields.map((row) => header.map((name) => row[name] ?? undefined));
  if (format === "json") print(JSON.stringify(withIsoTimes(found), null, 2));
  else if (format === "ndjson") {
    for (const row of cells) {
      print(JSON.stringify(Object.fromEntries(header.map((name, i) => [name, row[i]]))));
    }
  } else if (format === "csv") {
    print(formatCsv(header));
    for (const row of cells) {
      print(formatCsv(row.map((cell) => cell === undefined ? undefined : String(cell))));
    }
  } else if (table) table();
  else if (cells.length > 0) {
    print(formatTable(header, cells.map((row) => row.map((cell) => String(cell ?? "")))));
  }
  if (cells.length === 0 && none !== undefined) note(none);
}

/** Prints rows as they are read, in any format but a table. Returns their number. */
export async function printEach<T>(
  format: Exclude<Format, "table">,
  rows: AsyncIterable<T> | Iterable<T>,
  { header, cells, toJson }: {
    header: readonly string[];
    cells: (row: T) => readonly (string | undefined)[];
    toJson: (row: T) => unknown;
  },
): Promise<number> {
  let count = 0;
  if (format === "csv") print(formatCsv(header));
  for await (const row of rows) {
    if (format === "csv") print(formatCsv(cells(row)));
    else if (format === "ndjson") print(JSON.stringify(toJson(row)));
    else {
      write(`${count === 0 ? "[" : ","}\n${JSON.stringify(toJson(row), null, 2).replace(/^/gm, "  ")}`);
    }
    count++;
  }
  if (format === "json") print(count === 0 ? "[]" : "\n]");
  return count;
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
