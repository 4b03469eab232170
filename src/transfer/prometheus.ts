/**
 * The text formats of Prometheus (0.0.4, with quoted UTF-8 names of 1.0) and OpenMetrics.
 *
 * Written here because parse-prometheus-text-format drops samples with quoted names without a word.
 *
 * @module
 */
import { TransferError } from "./transfer_error.ts";

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Value; may be NaN or infinite. */
  readonly value: number;
  /** Time in epoch ms, where the text has one. */
  readonly timestamp?: number;
  /** Time from which a counter counts, in epoch ms, where that is known. */
  readonly start?: number;
  /** True for a delta: the value counts since `start`, not since the series began. */
  readonly isDelta?: true;
}

/** A name, bare or in quotes, and what follows it. */
const NAME = /[a-zA-Z_:][\w:.]*/y;
const LABEL_NAME = /\s*(?:([a-zA-Z_][\w.]*)|"((?:[^"\\]|\\.)*)")\s*/y;
const LABEL_VALUE = /\s*"((?:[^"\\]|\\.)*)"\s*/y;
const REST = /^\s*(\S+)(?:\s+(-?[\d.eE+]+))?\s*(?:#.*)?$/;
const NUMBER = /^[+-]?(?:\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?|inf(?:inity)?|nan)$/i;

/**
 * Reads a line; undefined for a comment or an empty line.
 *
 * @throws {TransferError} If it is neither a sample nor a comment.
 */
function readSample(line: string, secondsToMs: number): Sample | undefined {
  const text = line.trim();
  if (text === "" || text.startsWith("#")) return undefined;
  NAME.lastIndex = 0;
  let name = NAME.exec(text)?.[0];
  let at = name?.length ?? 0;
  const labels: Record<string, string> = {};
  while (text[at] === " " || text[at] === "\t") at++;
  if (text[at] === "{") {
    const found = readLabels(text, at + 1, labels);
    at = found.end;
    name ??= found.name;
  }
  const [, value, time] = REST.exec(text.slice(at)) ?? [];
  if (name === undefined || value === undefined || !NUMBER.test(value)) throw badLine();
  const timestamp = time === undefined ? undefined : Math.round(Number(time) * secondsToMs);
  return { name, labels, value: toNumber(value), ...(timestamp === undefined ? {} : { timestamp }) };
}

/** Reads the labels up to the closing brace. A name in quotes without a value is the name of the metric. */
function readLabels(
  text: string,
  start: number,
  labels: Record<string, string>,
): { name?: string; end: number } {
  let name: string | undefined;
  for (let at = start;;) {
    while (" \t,".includes(text[at] ?? "}")) at++;
    if (text[at] === "}") return { name, end: at + 1 };
    LABEL_NAME.lastIndex = at;
    const found = LABEL_NAME.exec(text);
    if (!found) throw badLine();
    at = LABEL_NAME.lastIndex;
    const label = found[1] ?? unescape(found[2]);
    if (text[at] !== "=") {
      if (found[1] !== undefined || name !== undefined) throw badLine();
      name = label;
      continue;
    }
    LABEL_VALUE.lastIndex = at + 1;
    const value = LABEL_VALUE.exec(text);
    if (!value) throw badLine();
    at = LABEL_VALUE.lastIndex;
    Object.defineProperty(labels, label, {
      value: unescape(value[1]),
      enumerable: true,
      configurable: true,
      writable: true,
    });
    if (text[at] !== "," && text[at] !== "}") throw badLine();
  }
}

function unescape(text: string): string {
  return text.includes("\\") ? text.replace(/\\(.)/g, (_, char) => char === "n" ? "\n" : char) : text;
}

function toNumber(text: string): number {
  if (/^[+-]?inf/i.test(text)) return text.startsWith("-") ? -Infinity : Infinity;
  return Number(text);
}

function badLine(): TransferError {
  return new TransferError('The line is no sample: expected `name{label="value"} number`.', {
    code: "INVALID_LINE",
  });
}

export interface BadLine {
  /** Its number, from 1. */
  readonly line: number;
  readonly text: string;
  readonly fault: string;
}

/**
 * Reads the samples of a whole text, as a target serves it. OpenMetrics is known by the end mark that its text must have;
 * its times are in seconds.
 */
export function parseSamples(text: string, { isOpenMetrics = /^# EOF\s*$/m.test(text) } = {}): {
  samples: Sample[];
  badLines: BadLine[];
} {
  const secondsToMs = isOpenMetrics ? 1_000 : 1;
  const samples: Sample[] = [];
  const badLines: BadLine[] = [];
  for (const [i, line] of text.split("\n").entries()) {
    try {
      const sample = readSample(line, secondsToMs);
      if (sample) samples.push(sample);
    } catch (error) {
      if (!(error instanceof TransferError)) throw error;
      badLines.push({ line: i + 1, text: line, fault: error.message });
    }
  }
  return { samples, badLines };
}
