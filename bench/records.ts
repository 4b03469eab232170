/**
 * The records that are measured with, and the same as files for the peers.
 *
 * @module
 */
import type { CostEntryInput, DeviceMetricsInput, SystemMetricsInput, UsageRecordInput } from "../mod.ts";
import { costEntries } from "../src/records/cost_entry.ts";
import type { Column, Dataset, DatasetName } from "../src/records/dataset.ts";
import { splitAmount } from "../src/records/decimal.ts";
import { deviceMetrics } from "../src/records/device_metrics.ts";
import { systemMetrics } from "../src/records/system_metrics.ts";
import { usageRecords } from "../src/records/usage_record.ts";
import { formatCsv } from "../src/transfer/csv.ts";
import { toCells } from "../src/transfer/values.ts";
import { deviceSamples, NODES, samples, START, STEP_MS, usageSamples } from "./samples.ts";

const DAY_MS = 86_400_000;
/** Costs are this far apart: a million of them are 29 days. */
const COST_STEP_MS = 2_500;
/**
 * Samples are made once and used again at other times, with other noise: making them would be measured as well. Without
 * noise of its own, a record every 256 steps would be the same, which flatters compression.
 */
const POOL = 256 * NODES;
/** Measures that vary by themselves. */
const NOISY = [
  "cpuUsage",
  "memoryUsage",
  "diskUsage",
  "gpuUsage",
  "networkIo",
  "throughput",
  "latencyP50",
  "latencyP95",
  "latencyP99",
  "temperature",
  "powerConsumption",
] as const;

/** Accelerators, eight in each node. */
const DEVICES = 8 * NODES;

const timeOf = (i: number) => START + Math.floor(i / NODES) * STEP_MS;

let pool: SystemMetricsInput[] = [];
let devicePool: DeviceMetricsInput[] = [];
let usagePool: UsageRecordInput[] = [];

/** A sample as it was made, for what is so fast that a copy of it would be measured. */
export function sample(i: number): SystemMetricsInput {
  if (pool.length === 0) pool = [...samples(POOL)];
  return pool[i % POOL];
}

/** Digits of the measures of a record: two decimals, or all that a float has. */
export type Precision = "two-decimals" | "full";

function metricsAt(i: number, precision: Precision = "two-decimals"): SystemMetricsInput {
  const record = { ...sample(i), timestamp: timeOf(i) };
  let state = Math.imul(i + 1, 0x9e3779b1);
  for (const field of NOISY) {
    state = Math.imul(state ^ (state >>> 15), 0x85ebca6b);
    const value = record[field]! + (state >>> 16) / 65_536; // less than the noise of the samples
    record[field] = precision === "full" ? value + (state & 65_535) / 2 ** 40 : Math.round(value * 100) / 100;
  }
  return record;
}

function costAt(i: number): CostEntryInput {
  return {
    entryId: `line-${i}`,
    timestamp: START + i * COST_STEP_MS,
    resourceId: `i-${i % 5_000}`,
    category: ["compute", "gpu", "storage", "network"][i % 4],
    amount: `${i % 40}.${String(i * 7_919 % 1_000_000).padStart(6, "0")}1`,
    currency: "USD",
    region: `eu-west-${i % 3}`,
    tags: { team: `team-${i % 9}`, environment: "production" },
    description: "An hour of an instance on demand",
    billingPeriod: "2026-01",
  };
}

function deviceAt(i: number): DeviceMetricsInput {
  if (devicePool.length === 0) devicePool = [...deviceSamples(POOL)];
  return { ...devicePool[i % POOL], timestamp: START + Math.floor(i / DEVICES) * STEP_MS };
}

function usageAt(i: number): UsageRecordInput {
  if (usagePool.length === 0) usagePool = [...usageSamples(POOL)];
  return { ...usagePool[i % POOL], usageId: `chatcmpl-${i}`, timestamp: START + i * COST_STEP_MS };
}

/** Generated records of each dataset. */
const RECORDS = {
  system_metrics: { dataset: systemMetrics, at: metricsAt },
  cost_entries: { dataset: costEntries, at: costAt },
  device_metrics: { dataset: deviceMetrics, at: deviceAt },
  usage_records: { dataset: usageRecords, at: usageAt },
} as const;

/** The datasets that are measured with. */
export type Measured = keyof typeof RECORDS & DatasetName;

/** The description of a dataset. */
export function datasetOf(name: Measured): Dataset<unknown> {
  return RECORDS[name].dataset;
}

/** The record with a number. */
export function recordAt(name: Measured, i: number): unknown {
  return RECORDS[name].at(i);
}

/** A stream of so many records, made as they are asked for. */
export function source<T>(name: Measured, records: number, precision?: Precision): ReadableStream<T> {
  const at: (i: number, precision?: Precision) => unknown = RECORDS[name].at;
  let i = 0;
  return new ReadableStream({
    pull(controller) {
      for (const end = Math.min(i + 100, records); i < end; i++) controller.enqueue(at(i, precision) as T);
      if (i === records) controller.close();
    },
  });
}

/** A record a day for all the time of so many records: what a database needs to make its partitions. */
export function recordADay(name: Measured, records: number): unknown[] {
  const { at } = RECORDS[name];
  const last = at(records).timestamp as number;
  const days = Math.ceil((last - START) / DAY_MS) + 1;
  return Array.from({ length: days }, (_, day) => ({ ...at(0), timestamp: START + day * DAY_MS }));
}

/** Text of the values of a record in a file. */
export type Form = "csv" | "copy" | "import";

/**
 * Writes so many records into a file: CSV with the columns of SQLite, the text of PostgreSQL's COPY, or CSV with the fields
 * of the dataset, as `database import` reads it.
 */
export function writeRecords(name: Measured, records: number, { path, form }: { path: string; form: Form }) {
  const { dataset, at } = RECORDS[name];
  const line = { csv: csvLine, copy: copyLine, import: importLine }[form];
  const encoder = new TextEncoder();
  using file = Deno.openSync(path, { write: true, create: true, truncate: true });
  for (let i = 0; i < records;) {
    let text = i === 0 && form === "import"
      ? `${formatCsv(dataset.columns.map(({ field }) => field))}\n`
      : "";
    for (const end = Math.min(i + 1_000, records); i < end; i++) {
      text += line(dataset.columns, at(i) as unknown as Record<string, unknown>);
    }
    for (let bytes = encoder.encode(text); bytes.length > 0;) bytes = bytes.subarray(file.writeSync(bytes));
  }
}

/** A line of the CSV with the columns of SQLite. */
export function csvLine(columns: readonly Column[], record: Record<string, unknown>): string {
  const values = columns.flatMap(({ field, type }) => {
    const value = record[field];
    if (value === undefined) return type === "decimal" ? ["", ""] : "";
    if (type === "boolean") return value ? 1 : 0;
    if (type === "map") return `"${JSON.stringify(value).replaceAll('"', '""')}"`;
    return type === "decimal" ? splitAmount(value as string) : value;
  });
  return `${values.join(",")}\n`;
}

function importLine(columns: readonly Column[], record: Record<string, unknown>): string {
  return `${formatCsv(toCells(columns, record))}\n`;
}

/** Nothing in the records needs escaping. */
function copyLine(columns: readonly Column[], record: Record<string, unknown>): string {
  const values = columns.map(({ field, type }) => {
    const value = record[field];
    if (value === undefined) return "\\N";
    if (type === "timestamp") return new Date(value as number).toISOString();
    return type === "map" ? JSON.stringify(value) : value;
  });
  return `${values.join("\t")}\n`;
}
