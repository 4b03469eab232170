import type { Family } from "./row.ts";
import { answerRows } from "./rows/answers.ts";
import { citusRows } from "./rows/citus.ts";
import { collectRows } from "./rows/collect.ts";
import { commandRows } from "./rows/commands.ts";
import { dashboardRows } from "./rows/dashboard.ts";
import { importRows } from "./rows/import.ts";
import { duckdbRows } from "./rows/duckdb.ts";
import { ingestRows } from "./rows/ingest.ts";
import { memoryRows } from "./rows/memory.ts";
import { optionRows } from "./rows/options.ts";
import { serverRows } from "./rows/server.ts";
import { receiveRows } from "./rows/receive.ts";
import { streamRows } from "./rows/stream.ts";
import { timescaleRows } from "./rows/timescaledb.ts";

/** All that is measured on two sides, in the order of the table. */
export const FAMILIES: readonly Family[] = [
  ingestRows,
  duckdbRows,
  importRows,
  collectRows,
  receiveRows,
  streamRows,
  commandRows,
  memoryRows,
  answerRows,
  dashboardRows,
  optionRows,
  serverRows,
  timescaleRows,
  citusRows,
];
