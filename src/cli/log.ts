/**
 * Structured logs of long-running commands: one line for each message, with time, level and fields.
 *
 * @module
 */
import { type Option, optionsOf } from "../query/arguments.ts";
import { escapeControls } from "./table.ts";

/** Severity of a message. */
export type LogLevel = "info" | "warn" | "error";
/** Facts of a message. No secret belongs here. */
export type LogFields = Readonly<Record<string, unknown>>;

export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = typeof LOG_FORMATS[number];

/** Options of long-running commands. */
export const LOG_OPTIONS: readonly Option[] = optionsOf({
  "log-format F": "text or json: messages as log lines with time and level (default: plain messages)",
  "heartbeat TIME": "time between log lines with the counters (default 1m)",
  quiet: "print warnings and errors only",
});

/** Writes a message as a line of a log. */
export function formatLog(
  format: LogFormat,
  { at, level, message, fields }: { at: number; level: LogLevel; message: string; fields: LogFields },
): string {
  const time = new Date(at).toISOString();
  if (format === "json") {
    // JSON allows these control characters; a terminal may act on them.
    return JSON.stringify({ time, level, message, ...fields }).replace(
      /[\x7f-\x9f]/g,
      (control) => `\\u00${control.charCodeAt(0).toString(16)}`,
    );
  }
  const pairs = Object.entries(fields).filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}=${formatValue(value)}`);
  return escapeControls(`${time} ${level} ${message}${pairs.join("")}`);
}

function formatValue(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return typeof value === "number" || /^[\w.:/+-]+$/.test(text) ? text : JSON.stringify(text);
}
